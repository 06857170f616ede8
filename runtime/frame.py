"""What every source yields."""

from __future__ import annotations

import time
from dataclasses import dataclass

from feredge.runtime.faces import Array


@dataclass(frozen=True)
class Frame:
    """One frame: `frame_bgr` `(h, w, 3)` uint8, where it is from, and when.

    `time_s` is the position in a video, seconds since the start of a live source, 0 for a picture.
    `captured_s` is when it arrived, on `time.monotonic`'s clock; None where frames do not age.
    """

    index: int
    frame_bgr: Array
    source: str
    time_s: float = 0.0
    captured_s: float | None = None

    @property
    def age_ms(self) -> float | None:
        """How long ago a live frame arrived."""
        return None if self.captured_s is None else (time.monotonic() - self.captured_s) * 1e3
