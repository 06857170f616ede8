"""Reuse of predictions: a face that has barely changed is not classified again.

A face is compared with the face of the previous frame whose box it overlaps most, in gray at
16x16 px, by the mean absolute difference on the 0 to 255 scale. The reference is the thumbnail at
the last classification, so that slow changes accumulate.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from feredge.runtime.results import Array
from feredge.runtime.track.tracker import assign

THUMBNAIL_PX = 16  # coarse enough for the jitter of a detector, fine enough for a mouth


@dataclass(frozen=True)
class ClassifiedFace:
    """A face of the last frame: its box there, and thumbnail and result of its classification.

    `box_xyxy` is `(4,)` in px, `thumbnail` `(16, 16)` float32, `probabilities` `(classes,)`.
    """

    box_xyxy: Array
    thumbnail: Array
    probabilities: Array


class PredictionReuse:
    """The predictions of one source that may be reused; its frames must come in order.

    Every frame takes two calls: `select` returns the faces to classify, `complete` takes their
    probabilities and returns those of all faces.

    Args:
        threshold: a face whose thumbnail differs by less keeps its prediction.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.previous: list[ClassifiedFace] = []
        self.current: list[ClassifiedFace | None] = []
        self.boxes_xyxy = np.zeros((0, 4), np.float32)
        self.thumbnails: list[Array] = []
        self.total = self.reused = 0

    def select(self, frame_bgr: Array, boxes_xyxy: Array) -> Array:
        """Return the rows of the faces that have to be classified, `(m,)` int64.

        Args:
            frame_bgr: `(h, w, 3)` uint8.
            boxes_xyxy: `(n, 4)` float32, pixel edges.
        """
        self.boxes_xyxy = boxes_xyxy
        self.thumbnails = [thumbnail(frame_bgr, box) for box in boxes_xyxy]
        self.current = [None] * len(boxes_xyxy)
        before = np.array([face.box_xyxy for face in self.previous]).reshape(-1, 4)
        for row, place in assign(before, boxes_xyxy):
            face = self.previous[place]
            if np.abs(self.thumbnails[row] - face.thumbnail).mean() < self.threshold:
                self.current[row] = ClassifiedFace(boxes_xyxy[row], face.thumbnail,
                                                   face.probabilities)
        rows = [row for row, face in enumerate(self.current) if face is None]
        self.total, self.reused = (self.total + len(boxes_xyxy),
                                   self.reused + len(boxes_xyxy) - len(rows))
        return np.array(rows, np.int64)

    def complete(self, probabilities: Array) -> Array:
        """Return the probabilities of all faces of the frame, `(n, classes)` float32.

        Args:
            probabilities: `(m, classes)`, of the faces that `select` returned.
        """
        new, classes = iter(probabilities), probabilities.shape[1]
        self.previous = [
            face or ClassifiedFace(self.boxes_xyxy[row], self.thumbnails[row], next(new))
            for row, face in enumerate(self.current)
        ]
        return np.array([face.probabilities for face in self.previous],
                        np.float32).reshape(-1, classes)


def thumbnail(frame_bgr: Array, box_xyxy: Array) -> Array:
    """Return the part of a box that lies in the frame, gray, `(16, 16)` float32."""
    x0, y0, x1, y1 = np.clip(np.rint(box_xyxy), 0, None).astype(int)
    x0, y0 = min(x0, frame_bgr.shape[1] - 1), min(y0, frame_bgr.shape[0] - 1)
    area = frame_bgr[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    small = cv2.resize(area, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.float32)
