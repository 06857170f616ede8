"""Live sources: a thread reads a camera or stream, and opens it again when it is lost.

OpenCV's calls cannot be interrupted. So whoever wants frames never makes one: it waits for the
thread with a time-out, and one that hangs is left to itself and replaced.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2

from feredge.runtime.errors import SourceError
from feredge.runtime.results import Array, Frame

T = TypeVar("T")

DEFAULT_FPS = 25.0
STALL_S = 5.0  # without a frame from an open source: it hangs
# ... and without an answer. FFmpeg gives up by itself before that, and must: OpenCV before 4.8
# opens one stream at a time, so that a second thread's opening would wait for the one that hangs.
OPENING_S = 15.0
FAILED_READS, FAILED_READ_S = 10, 0.02  # a broken frame is one failed read, a lost source many
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 1.0  # a source that returns is noticed within a second
WATCH_S = 0.1
NOT_BGR = ("delivers frames of shape {}, expected (height, width, 3), BGR: let the pipeline end in "
           "videoconvert ! video/x-raw,format=BGR ! appsink")
# A call that hangs keeps its device or connection. Where this many do, one more would hang, too:
# the next is made when one of them has returned.
MOST_HANGING = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Health:
    """How a live source is: `state` is connecting, delivering, stalled or ended.

    `error` is the last one, also after the source came back; `silent_s` is the time since the last
    frame, or since the start where there was none.
    """

    source: str
    state: str
    frames: int
    reconnects: int
    error: str | None
    silent_s: float


class LiveSource:
    """A stream or camera, of which only the newest frame is kept; it is opened again when lost.

    Frame numbers and times go on over that. Any thread may ask for its `health`.

    Args:
        name: what frames, errors and log lines call it.
        open_capture: returns a new, open `cv2.VideoCapture`, or raises SourceError.
        retry_s: for how long a lost source is tried again, 0 for not at all. None: for ever,
            but not at all before its first frame, so that a wrong name is told at once.
        capture: what `open_capture` returned, if it was called already.
    """

    is_pictures = False
    live = True
    expected = 0

    def __init__(
        self, name: str, open_capture: Callable[[], Any], retry_s: float | None = None,
        capture: Any = None,
    ) -> None:
        self.name, self.open_capture, self.retry_s = name, open_capture, retry_s
        self.fps = rate_of(capture) if capture is not None else DEFAULT_FPS
        self.problems: list[str] = []
        self.newest: Frame | None = None
        self.arrived = self.reconnects = 0
        self.state = "connecting"
        self.error: SourceError | None = None
        self.changed = threading.Condition()  # its lock is re-entrant
        self.stopped = False
        self.started_s = self.arrived_s = time.monotonic()
        self.lost_s: float | None = None
        self.hanging: list[Reader] = []
        self.start_reader(capture)

    def start_reader(self, capture: Any = None) -> None:
        """Start a thread to read; frames of any other are ignored from now on."""
        self.reader = Reader(self, capture)
        self.reader.start()

    def frames(self) -> Iterator[Frame]:
        """Yield the newest frame each time, until `stop`.

        Raises:
            SourceError: the source is lost, and was tried again for `retry_s` seconds.
        """
        while (frame := self.next_frame()) is not None:
            yield frame

    def next_frame(self) -> Frame | None:
        """Wait for a frame; None once stopped.

        Raises:
            SourceError: as `frames`.
        """
        with self.changed:
            while not self.changed.wait_for(self.has_news, timeout=WATCH_S):
                self.look_after_reader()
            if self.newest is None and self.error is not None and not self.stopped:
                self.stop()
                raise self.error
            frame, self.newest = self.newest, None
        return None if self.stopped else frame

    def has_news(self) -> bool:
        """Tell whether there is a frame, or will be none."""
        return self.newest is not None or self.is_over()

    def is_over(self) -> bool:
        """Tell whether the source was stopped, or is lost and was tried again for long enough."""
        if self.stopped or self.lost_s is None:
            return self.stopped
        return time.monotonic() - self.lost_s >= self.patience_s()

    def patience_s(self) -> float:
        """Return for how long a lost source is tried again."""
        if self.retry_s is None:
            return math.inf if self.arrived else 0.0
        return self.retry_s

    def look_after_reader(self) -> None:
        """Replace a thread that hangs; it releases its capture itself, if its call returns."""
        now_s = time.monotonic()
        if now_s < self.reader.hangs_from_s:
            return
        self.lose(self.reader, f"no frame for {now_s - self.arrived_s:.0f} s", state="stalled")
        self.hanging = [reader for reader in self.hanging if reader.is_alive()]
        if len(self.hanging) < MOST_HANGING and not self.is_over():
            self.hanging.append(self.reader)
            self.start_reader()

    def arrive(self, reader: Reader, frame_bgr: Array) -> None:
        """Take a frame from the thread that reads."""
        with self.changed:
            if reader is not self.reader:
                return
            now_s = time.monotonic()
            if self.lost_s is not None:
                self.come_back(now_s - self.arrived_s)
            self.newest = Frame(self.arrived, frame_bgr, self.name, now_s - self.started_s, now_s)
            self.arrived, self.arrived_s, self.state = self.arrived + 1, now_s, "delivering"
            self.changed.notify_all()

    def come_back(self, seconds: float) -> None:
        """Note that a lost source delivers; tell it once."""
        self.lost_s = None
        self.reconnects += self.arrived > 0
        word = "back" if self.arrived else "there"
        logger.info("%s: %s after %.1f s", self.name, word, seconds,
                    extra={"event": word, "source": self.name, "seconds": round(seconds, 3)})

    def lose(
        self, reader: Reader, reason: str, error: SourceError | None = None,
        state: str = "connecting",
    ) -> None:
        """Note that no frame comes; tell it once, not at every attempt."""
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

    def health(self) -> Health:
        """Return how the source is."""
        with self.changed:
            silent_s = time.monotonic() - self.arrived_s
            stalled = self.state == "delivering" and silent_s > STALL_S
            state = "ended" if self.stopped else "stalled" if stalled else self.state
            error = None if self.error is None else str(self.error)
            return Health(self.name, state, self.arrived, self.reconnects, error, silent_s)

    def stop(self) -> None:
        """End after the frame that is being worked on; a signal handler may call it."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()

    def close(self) -> None:
        """Stop and release the capture, unless it hangs in the driver."""
        self.stop()
        self.reader.join(timeout=0.5)


class Reader(threading.Thread):
    """Opens a live source and reads it, again and again, until it is stopped or replaced.

    `hangs_from_s` is when its present call into OpenCV has lasted too long.
    """

    def __init__(self, live: LiveSource, capture: Any = None) -> None:
        super().__init__(name=f"read {live.name}", daemon=True)
        self.live, self.capture = live, capture
        self.hangs_from_s = time.monotonic() + OPENING_S

    def run(self) -> None:
        """Try, wait a little, and try again; a source that delivered is waited for anew."""
        waits_s = back_off()
        while self.is_wanted():
            if self.deliver():
                waits_s = back_off()
            self.hangs_from_s = math.inf
            self.wait(next(waits_s))

    def is_wanted(self) -> bool:
        """Tell whether somebody takes this thread's frames."""
        return self.live.reader is self and not self.live.is_over()

    def wait(self, seconds: float) -> None:
        """Wait, but not while nobody waits for this thread."""
        with self.live.changed:
            self.live.changed.wait_for(lambda: not self.is_wanted(), timeout=seconds)

    def deliver(self) -> bool:
        """Open the source, unless it is, and read it until it is lost; tell if frames came."""
        self.hangs_from_s = time.monotonic() + OPENING_S
        try:
            capture = self.capture if self.capture is not None else self.live.open_capture()
        except (SourceError, cv2.error) as error:
            known = error if isinstance(error, SourceError) else None
            self.live.lose(self, "cannot be opened", known)
            return False
        self.capture, self.live.fps = None, rate_of(capture)
        try:
            return self.read(capture)
        finally:
            capture.release()

    def read(self, capture: Any) -> bool:
        """Hand frames on until reads fail; tell if there were any."""
        before, failed = self.live.arrived, 0
        self.hangs_from_s = time.monotonic() + STALL_S
        while failed < FAILED_READS and self.is_wanted():
            frame_bgr = read_frame(capture)
            if frame_bgr is None:
                failed += 1
                self.wait(FAILED_READ_S)
                continue
            if frame_bgr.shape[2:] != (3,):
                self.live.lose(self, NOT_BGR.format(frame_bgr.shape))
                return False
            failed = 0
            self.hangs_from_s = time.monotonic() + STALL_S
            self.live.arrive(self, frame_bgr)
        arrived = self.live.arrived
        self.live.lose(self, f"stopped delivering after {arrived} frames" if arrived
                       else "delivers no frame that can be decoded")
        return arrived > before


def rate_of(capture: Any) -> float:
    """Return the frames/s that a capture tells, or what is usual."""
    return float(capture.get(cv2.CAP_PROP_FPS)) or DEFAULT_FPS


def read_frame(capture: Any) -> Array | None:
    """Return a capture's next frame, None where it has none or a broken one."""
    try:
        good, frame_bgr = capture.read()
    except cv2.error:
        return None
    return frame_bgr if good else None


def back_off() -> Iterator[float]:
    """Yield how long to wait before each attempt: longer and longer, never in step with others."""
    wait_s = FIRST_WAIT_S
    while True:
        yield wait_s * random.uniform(0.5, 1)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def first_capture(
    name: str, open_capture: Callable[[], Any], retry_s: float | None, hint: str = ""
) -> Any:
    """Open a source for the first time; None where that fails and is to be tried again.

    A thread does it, so that meanwhile this one sees its signals, and goes on where that one hangs:
    OpenCV 4.6 waits for ever for a pipeline that lacks an element.

    Args:
        name: what an error calls the source.
        open_capture: see `LiveSource`.
        retry_s: see `LiveSource`.
        hint: ends the error of a source that gives no answer.

    Raises:
        SourceError: it fails, and `retry_s` does not say to try again.
    """
    opened = beside(open_capture)
    wait([opened], OPENING_S)
    try:
        if not opened.done():
            raise SourceError(f"{name} does not open within {OPENING_S:.0f} s{hint}")
        return opened.result()
    except SourceError:
        if not retry_s:
            raise
        return None


def beside(call: Callable[[], T]) -> Future[T]:
    """Make a call in a thread that does not hold up the end of the process, should it hang."""
    made: Future[T] = Future()

    def make() -> None:
        try:
            made.set_result(call())
        except BaseException as error:
            made.set_exception(error)

    threading.Thread(target=make, name="open", daemon=True).start()
    return made
