"""The thread that opens and reads a live source, again and again."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import cv2

from feredge.runtime.errors import SourceError
from feredge.runtime.results import Array
from feredge.runtime.sources.capture import OPENING_S, read_frame, read_live_rate

STALL_S = 5.0  # an open source without a frame for this time hangs
FAILED_READS, FAILED_READ_S = 10, 0.02  # a broken frame is one failed read, a lost source many
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 1.0  # a source that returns is noticed within a second
NOT_BGR = ("delivers frames of shape {}, expected (height, width, 3), BGR: let the pipeline end in "
           "videoconvert ! video/x-raw,format=BGR ! appsink")


class FrameSink(Protocol):
    """Takes the frames of a reader, and decides how long it reads."""

    name: str
    fps: float
    arrived: int
    changed: threading.Condition
    open_capture: Callable[[], Any]

    def is_wanted(self, reader: Reader) -> bool:
        """Return whether frames of this reader are taken."""

    def arrive(self, reader: Reader, frame_bgr: Array) -> None:
        """Take a frame, `(h, w, 3)` uint8."""

    def lose(self, reader: Reader, reason: str, error: SourceError | None = None) -> None:
        """Note that no frame comes."""


class Reader(threading.Thread):
    """Opens a live source and reads it, again and again, until it is stopped or replaced.

    After `deadline_s` the current call into OpenCV has lasted too long.

    Args:
        sink: takes the frames.
        capture: an open capture, if there is one.
    """

    def __init__(self, sink: FrameSink, capture: Any = None) -> None:
        super().__init__(name=f"read {sink.name}", daemon=True)
        self.sink, self.capture = sink, capture
        self.deadline_s = time.monotonic() + OPENING_S

    def run(self) -> None:
        """Open and read the source; wait before the next attempt."""
        waits_s = back_off()
        while self.is_wanted():
            if self.deliver():
                waits_s = back_off()
            self.deadline_s = math.inf
            self.wait(next(waits_s))

    def is_wanted(self) -> bool:
        """Return whether the frames of this thread are taken."""
        return self.sink.is_wanted(self)

    def wait(self, seconds: float) -> None:
        """Wait, or until the frames of this thread are no longer taken."""
        with self.sink.changed:
            self.sink.changed.wait_for(lambda: not self.is_wanted(), timeout=seconds)

    def deliver(self) -> bool:
        """Open the source if necessary and read it until it is lost; return if frames arrived."""
        self.deadline_s = time.monotonic() + OPENING_S
        try:
            capture = self.capture if self.capture is not None else self.sink.open_capture()
        except (SourceError, cv2.error) as error:
            known = error if isinstance(error, SourceError) else None
            self.sink.lose(self, "cannot be opened", known)
            return False
        self.capture, self.sink.fps = None, read_live_rate(capture)
        try:
            return self.read(capture)
        finally:
            capture.release()

    def read(self, capture: Any) -> bool:
        """Pass frames to the sink until reads fail; return if there were any."""
        before, failed = self.sink.arrived, 0
        self.deadline_s = time.monotonic() + STALL_S
        while failed < FAILED_READS and self.is_wanted():
            frame_bgr = read_frame(capture)
            if frame_bgr is None:
                failed += 1
                self.wait(FAILED_READ_S)
                continue
            if frame_bgr.shape[2:] != (3,):
                self.sink.lose(self, NOT_BGR.format(frame_bgr.shape))
                return False
            failed = 0
            self.deadline_s = time.monotonic() + STALL_S
            self.sink.arrive(self, frame_bgr)
        arrived = self.sink.arrived
        self.sink.lose(self, f"stopped delivering after {arrived} frames" if arrived
                       else "delivers no frame that can be decoded")
        return arrived > before


def back_off() -> Iterator[float]:
    """Yield the wait before each attempt, seconds: doubled each time, with random jitter."""
    wait_s = FIRST_WAIT_S
    while True:
        yield wait_s * random.uniform(0.5, 1)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
