"""Reuse: a face that barely changed since it was classified keeps that answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from feredge.runtime.engines.base import Engine
from feredge.runtime.results import Array
from feredge.runtime.track.tracker import assigned

THUMBNAIL = 16  # px a side: coarse enough for a detector's jitter, fine enough for a mouth


@dataclass(frozen=True)
class Known:
    """A face of the last frame: where it was, and what it looked like when it was classified."""

    box_xyxy: Array
    thumbnail: Array
    probabilities: Array


class ReusingEngine(Engine):
    """An engine that classifies only the faces that changed; a source's frames come in order.

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
        self.known: dict[str, list[Known]] = {}  # of each source
        self.asked = self.reused = 0

    def classify_frames(
        self, frames_bgr: Sequence[Array], boxes_xyxy: Sequence[Array], sources: Sequence[str]
    ) -> list[Array]:
        """Classify the faces that changed; see `Engine.classify_frames`."""
        thumbnails = [[thumbnail(frame_bgr, box) for box in boxes]
                      for frame_bgr, boxes in zip(frames_bgr, boxes_xyxy)]
        kept = [self.unchanged(self.known.get(source, []), boxes, looks)
                for source, boxes, looks in zip(sources, boxes_xyxy, thumbnails)]
        new = [[row for row in range(len(boxes)) if row not in known]
               for boxes, known in zip(boxes_xyxy, kept)]
        changed = [boxes[rows] for boxes, rows in zip(boxes_xyxy, new)]
        fresh = self.engine.classify_frames(frames_bgr, changed, sources)
        for k, source in enumerate(sources):
            answers = kept[k] | {row: Known(boxes_xyxy[k][row], thumbnails[k][row], probabilities)
                                 for row, probabilities in zip(new[k], fresh[k])}
            self.known[source] = [answers[row] for row in range(len(boxes_xyxy[k]))]
            self.asked, self.reused = self.asked + len(answers), self.reused + len(kept[k])
        return [self.probabilities(source) for source in sources]

    def probabilities(self, source: str) -> Array:
        """Return the answers to a source's last frame, `(n, classes)`."""
        found = [known.probabilities for known in self.known[source]]
        return np.array(found, np.float32).reshape(-1, len(self.spec.labels))

    def unchanged(
        self, faces: list[Known], boxes_xyxy: Array, thumbnails: list[Array]
    ) -> dict[int, Known]:
        """Return what is known of the faces that look as they did, by their row, boxes renewed."""
        before = np.array([known.box_xyxy for known in faces]).reshape(-1, 4)
        pairs = [(row, faces[place]) for row, place in assigned(before, boxes_xyxy)]
        return {row: Known(boxes_xyxy[row], known.thumbnail, known.probabilities)
                for row, known in pairs
                if np.abs(thumbnails[row] - known.thumbnail).mean() < self.threshold}

    def _classify(self, parts: Sequence[tuple[Array, Array]]) -> Array:
        return self.engine._classify(parts)

    def _infer(self, crops: Array) -> Array:
        return self.engine._infer(crops)

    def close(self) -> None:
        """Forget the faces; the engine itself stays open."""
        self.known.clear()


def thumbnail(frame_bgr: Array, box_xyxy: Array) -> Array:
    """Return what of a box is in the frame, grey, `(16, 16)` float32."""
    x0, y0, x1, y1 = np.clip(np.rint(box_xyxy), 0, None).astype(int)
    x0, y0 = min(x0, frame_bgr.shape[1] - 1), min(y0, frame_bgr.shape[0] - 1)
    area = frame_bgr[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    small = cv2.resize(area, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.float32)
