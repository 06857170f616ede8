"""Live sources: a thread reads a camera or stream, and opens it again when it is lost.

A call into OpenCV cannot be interrupted. So the consumer of frames never makes one: it waits for
the thread with a time-out, and a thread that hangs is abandoned and replaced.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from feredge.runtime.errors import SourceError
from feredge.runtime.results import Array, Frame
from feredge.runtime.sources.base import DEFAULT_FPS, Health, SingleSource
from feredge.runtime.sources.capture import open_first, read_live_rate
from feredge.runtime.sources.live_reader import STALL_S, Reader

WATCH_S = 0.1
# A call that hangs keeps its device or connection, and a further call would hang, too: after this
# many, the next is made when one of them has returned.
MOST_HANGING = 3

logger = logging.getLogger(__name__)


class LiveSource(SingleSource):
    """A stream or camera; only its newest frame is kept, and it is opened again when lost.

    Frame numbers and times continue after a reconnect. Any thread may ask for its `health`.

    Args:
        name: what frames, errors and log lines call it.
        open_capture: returns a new, open `cv2.VideoCapture`, or raises SourceError.
        retry_s: see `SourceOptions`.
        capture: the result of `open_capture`, if it was called already.
    """

    is_live = True

    def __init__(
        self, name: str, open_capture: Callable[[], Any], retry_s: float | None = None,
        capture: Any = None,
    ) -> None:
        super().__init__(name, DEFAULT_FPS if capture is None else read_live_rate(capture))
        self.open_capture, self.retry_s = open_capture, retry_s
        self.newest: Frame | None = None
        self.arrived = self.reconnects = 0
        self.state = "connecting"
        self.error: SourceError | None = None
        self.changed = threading.Condition()  # its lock is re-entrant
        self.started_s = self.arrived_s = time.monotonic()
        self.lost_s: float | None = None
        self.hanging: list[Reader] = []
        self.start_reader(capture)

    def start_reader(self, capture: Any = None) -> None:
        """Start a thread that reads; frames of earlier threads are ignored from now on."""
        self.reader = Reader(self, capture)
        self.reader.start()

    def batches(self) -> Iterator[list[Frame]]:
        """Yield the newest frame each time, until `stop`.

        Raises:
            SourceError: the source is lost, and could not be opened again for `retry_s` seconds.
        """
        while (frame := self.next_frame()) is not None:
            yield [frame]

    def next_frame(self) -> Frame | None:
        """Wait for a frame; return None after `stop`.

        Raises:
            SourceError: as `batches`.
        """
        with self.changed:
            while not self.changed.wait_for(self.has_news, timeout=WATCH_S):
                self.replace_hanging_reader()
            if self.newest is None and self.error is not None and not self.stopped:
                self.stop()
                raise self.error
            frame, self.newest = self.newest, None
        return None if self.stopped else frame

    def has_news(self) -> bool:
        """Return whether there is a frame, or will never be one."""
        return self.newest is not None or self.is_over()

    def is_over(self) -> bool:
        """Return whether the source was stopped, or is lost and its time for retries is over."""
        if self.stopped or self.lost_s is None:
            return self.stopped
        return time.monotonic() - self.lost_s >= self.patience_s()

    def patience_s(self) -> float:
        """Return for how long a lost source is opened again."""
        if self.retry_s is None:
            return math.inf if self.arrived else 0.0
        return self.retry_s

    def is_wanted(self, reader: Reader) -> bool:
        """Return whether frames of this reader are taken."""
        return self.reader is reader and not self.is_over()

    def replace_hanging_reader(self) -> None:
        """Replace a thread that hangs; it releases its capture itself, if its call returns."""
        now_s = time.monotonic()
        if now_s < self.reader.deadline_s:
            return
        self.lose(self.reader, f"no frame for {now_s - self.arrived_s:.0f} s", state="stalled")
        self.hanging = [reader for reader in self.hanging if reader.is_alive()]
        if len(self.hanging) < MOST_HANGING and not self.is_over():
            self.hanging.append(self.reader)
            self.start_reader()

    def arrive(self, reader: Reader, frame_bgr: Array) -> None:
        """Take a frame, `(h, w, 3)` uint8, from the reading thread."""
        with self.changed:
            if reader is not self.reader:
                return
            now_s = time.monotonic()
            if self.lost_s is not None:
                self.log_return(now_s - self.arrived_s)
            self.newest = Frame(self.arrived, frame_bgr, self.name, now_s - self.started_s, now_s)
            self.arrived, self.arrived_s, self.state = self.arrived + 1, now_s, "delivering"
            self.changed.notify_all()

    def log_return(self, seconds: float) -> None:
        """Note that a lost source delivers again; log it once."""
        self.lost_s = None
        self.reconnects += self.arrived > 0
        word = "back" if self.arrived else "there"
        logger.info("%s: %s after %.1f s", self.name, word, seconds,
                    extra={"event": word, "source": self.name, "seconds": round(seconds, 3)})

    def lose(
        self, reader: Reader, reason: str, error: SourceError | None = None,
        state: str = "connecting",
    ) -> None:
        """Note that no frame comes; log it once, not at every attempt."""
        with self.changed:
            if reader is not self.reader or self.stopped:
                return
            self.error, self.state = error or SourceError(f"{self.name}: {reason}"), state
            if self.lost_s is None:
                self.lost_s = time.monotonic()
                self.changed.notify_all()
                if self.patience_s():
                    logger.warning("%s: %s; trying again", self.name, reason, extra={
                        "event": "lost", "source": self.name, "reason": reason})

    def health(self) -> list[Health]:
        """Return the state of the source."""
        with self.changed:
            silent_s = time.monotonic() - self.arrived_s
            stalled = self.state == "delivering" and silent_s > STALL_S
            state = "ended" if self.stopped else "stalled" if stalled else self.state
            error = None if self.error is None else str(self.error)
            return [Health(self.name, state, self.arrived, self.reconnects, error, silent_s)]

    def stop(self) -> None:
        """End after the current frame; a signal handler may call it."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()

    def close(self) -> None:
        """Stop and release the capture, unless it hangs in the driver."""
        self.stop()
        self.reader.join(timeout=0.5)


def open_live(
    name: str, open_capture: Callable[[], Any], retry_s: float | None, hint: str = ""
) -> LiveSource:
    """Open a live source; see `open_first`.

    Raises:
        SourceError: it cannot be opened, and `retry_s` allows no further attempt.
    """
    return LiveSource(name, open_capture, retry_s, open_first(name, open_capture, retry_s, hint))
