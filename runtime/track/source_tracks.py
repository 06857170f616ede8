"""What is kept of one source from frame to frame: who is there, and whose turn a search is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

from feredge.runtime.results import Array, FrameResult
from feredge.runtime.track.smoothing import Smoother
from feredge.runtime.track.tracker import Tracker


class SourceTracks:
    """One source's persons and counts; its frames come in order.

    Args:
        tracks: number persons.
        smooth: steady their results over time.
        detect_every: search every N-th frame.
        numbers: names persons, over all sources.
    """

    def __init__(
        self, tracks: bool, smooth: bool, detect_every: int, numbers: Iterator[int]
    ) -> None:
        self.tracker = Tracker(numbers) if tracks else None
        self.smoother = Smoother() if smooth else None
        self.is_detected = cycle([True] + [False] * (detect_every - 1))
        self.frames = self.dropped = 0

    def track(self, result: FrameResult) -> None:
        """Tell who is who, or carry those of the last search on, and steady their results."""
        if self.tracker is None:
            return
        time_s = result.frame.time_s
        with result.timed("track"):
            if result.is_detected:
                result.faces = self.tracker.update(result.faces, time_s)
            else:
                shape = result.frame.frame_bgr.shape
                result.faces = self.tracker.predict(time_s).within(shape)
            result.events = self.tracker.events
            if self.smoother is not None:
                result.faces = self.smoother.update(result.faces, time_s)

    def hidden_boxes(self, result: FrameResult) -> list[Array]:
        """Return where faces are to be blurred: also those not shown, or missed just now."""
        boxes = [result.detections.boxes_xyxy]
        if self.tracker is not None:
            boxes.append(self.tracker.predict(result.frame.time_s, unseen=True).boxes_xyxy)
        return boxes

    def count(self, index: int, live: bool) -> None:
        """Count a frame; a live source's missing numbers are frames that were dropped."""
        self.frames += 1
        if live:
            self.dropped = index + 1 - self.frames
