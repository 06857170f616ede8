"""Times of a video's frames: they never fall, whatever timestamps the container has."""

from __future__ import annotations

import math

LEAST_STEP_S = 1e-6


class VideoClock:
    """Turns the timestamps of consecutive frames into times that always increase.

    The first frame is at 0. A frame without a timestamp, or with one that does not increase, takes
    the time before plus one frame. If the timestamps start again, as in files that were joined,
    the times continue.

    Args:
        fps: nominal frame rate.
    """

    def __init__(self, fps: float) -> None:
        self.step_s = 1 / fps
        self.time_s: float | None = None
        self.offset_s = 0.0
        self.highest_s = -math.inf  # timestamp since the last start
        self.fallen_s: float | None = None  # the timestamp before, if it did not increase

    def next(self, timestamp_s: float) -> float:
        """Return the time of the next frame, seconds; NaN is no timestamp."""
        if self.time_s is None:
            self.time_s = 0.0
            if not math.isnan(timestamp_s):
                self.highest_s, self.offset_s = timestamp_s, -timestamp_s
        elif timestamp_s > self.highest_s:
            self.advance(timestamp_s)
        elif self.fallen_s is not None and timestamp_s > self.fallen_s:  # they started again
            self.offset_s = self.time_s - self.fallen_s
            self.advance(timestamp_s)
        else:
            self.time_s += self.step_s
            self.fallen_s = None if math.isnan(timestamp_s) else timestamp_s
        return self.time_s

    def advance(self, timestamp_s: float) -> None:
        """Take a timestamp that increases."""
        assert self.time_s is not None
        self.time_s = max(timestamp_s + self.offset_s, self.time_s + LEAST_STEP_S)
        self.highest_s, self.fallen_s = timestamp_s, None
