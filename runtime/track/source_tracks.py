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
        smooth: steady their answers over time.
        detect_every: search every N-th frame.
        numbers: names persons, over all sources.
    """

    def __init__(
        self, tracks: bool, smooth: bool, detect_every: int, numbers: Iterator[int]
    ) -> None:
        self.tracker = Tracker(numbers) if tracks else None
        self.smoother = Smoother() if smooth else None
        self.searched = cycle([True] + [False] * (detect_every - 1))
        self.frames = self.dropped = 0

    def track(self, answer: FrameResult) -> None:
        """Tell who is who, or carry those of the last search on, and steady their answers."""
        if self.tracker is None:
            return
        time_s = answer.frame.time_s
        with answer.timed("track"):
            if answer.searched:
                answer.faces = self.tracker.update(answer.faces, time_s)
            else:
                shape = answer.frame.frame_bgr.shape
                answer.faces = self.tracker.predict(time_s).within(shape)
            answer.events = self.tracker.events
            if self.smoother is not None:
                answer.faces = self.smoother.update(answer.faces, time_s)

    def hidden_boxes(self, answer: FrameResult) -> list[Array]:
        """Return where faces are to be blurred: also those not shown, or missed just now."""
        boxes = [answer.found.boxes_xyxy]
        if self.tracker is not None:
            boxes.append(self.tracker.predict(answer.frame.time_s, unseen=True).boxes_xyxy)
        return boxes

    def count(self, index: int, live: bool) -> None:
        """Count a frame; a live source's missing numbers are frames that were dropped."""
        self.frames += 1
        if live:
            self.dropped = index + 1 - self.frames
