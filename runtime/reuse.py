"""Reuse: a face that barely changed since it was classified keeps that answer."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from feredge.runtime.engines import Engine
from feredge.runtime.faces import Array
from feredge.runtime.tracking import assigned

THUMBNAIL = 16  # px a side: coarse enough for a detector's jitter, fine enough for a mouth


@dataclass(frozen=True)
class Known:
    """A face of the last frame: where it was, and what it looked like when it was classified."""

    box_xyxy: Array
    thumbnail: Array
    probabilities: Array


class ReusingEngine(Engine):
    """An engine that classifies only the faces that changed; its frames must come in order.

    A face is compared with the one in the last frame whose box it overlaps most, in grey at
    16x16 px, by the mean absolute difference on the 0 to 255 scale. It is compared with what that
    one looked like when it was classified, so that a slow change adds up.

    Args:
        engine: classifies; the caller closes it.
        threshold: a face that differs by less keeps its answer.
    """

    def __init__(self, engine: Engine, threshold: float) -> None:
        self.engine, self.spec, self.max_batch = engine, engine.spec, engine.max_batch
        self.threshold = threshold
        self.known: list[Known] = []
        self.asked = self.reused = 0

    def classify(self, frame_bgr: Array, boxes_xyxy: Array) -> Array:
        """Classify the faces of a frame that changed; see `Engine.classify`."""
        thumbnails = [thumbnail(frame_bgr, box) for box in boxes_xyxy]
        kept = self.unchanged(boxes_xyxy, thumbnails)
        new = [row for row in range(len(boxes_xyxy)) if row not in kept]
        fresh = zip(new, self.engine.classify(frame_bgr, boxes_xyxy[new]))
        answers = kept | {row: Known(boxes_xyxy[row], thumbnails[row], probabilities)
                          for row, probabilities in fresh}
        self.known = [answers[row] for row in range(len(boxes_xyxy))]
        self.asked, self.reused = self.asked + len(boxes_xyxy), self.reused + len(kept)
        found = [known.probabilities for known in self.known]
        return np.array(found, np.float32).reshape(-1, len(self.spec.labels))

    def unchanged(self, boxes_xyxy: Array, thumbnails: list[Array]) -> dict[int, Known]:
        """Return what is known of the faces that look as they did, by their row, boxes renewed."""
        before = np.array([known.box_xyxy for known in self.known]).reshape(-1, 4)
        pairs = [(row, self.known[place]) for row, place in assigned(before, boxes_xyxy)]
        return {row: Known(boxes_xyxy[row], known.thumbnail, known.probabilities)
                for row, known in pairs
                if np.abs(thumbnails[row] - known.thumbnail).mean() < self.threshold}

    def _classify(self, frame_bgr: Array, boxes_xyxy: Array) -> Array:
        return self.engine._classify(frame_bgr, boxes_xyxy)

    def _infer(self, crops: Array) -> Array:
        return self.engine._infer(crops)

    def close(self) -> None:
        """Forget the faces; the engine itself stays open."""
        self.known = []


def thumbnail(frame_bgr: Array, box_xyxy: Array) -> Array:
    """Return what of a box is in the frame, grey, `(16, 16)` float32."""
    x0, y0, x1, y1 = np.clip(np.rint(box_xyxy), 0, None).astype(int)
    x0, y0 = min(x0, frame_bgr.shape[1] - 1), min(y0, frame_bgr.shape[0] - 1)
    area = frame_bgr[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    small = cv2.resize(area, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.float32)
