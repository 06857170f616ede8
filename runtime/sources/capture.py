"""What all captures of OpenCV share: opening with a time-out, reading, the frame rate."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

import cv2

from feredge.runtime.errors import SourceError
from feredge.runtime.results import Array
from feredge.runtime.sources.base import DEFAULT_FPS

T = TypeVar("T")

# FFmpeg gives up by itself before that, and must: OpenCV before 4.8 opens one stream at a time, so
# that the open call of a second thread would wait for the one that hangs.
OPENING_S = 15.0
MOST_FPS = 1000.0  # no camera has more


def read_rate(capture: Any) -> float:
    """Return the frame rate that a capture reports, or the default."""
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if math.isfinite(fps) and fps > 0 else DEFAULT_FPS


def read_live_rate(capture: Any) -> float:
    """Return the frame rate that a live capture reports; the clock rate of RTP, 90,000, is none."""
    fps = read_rate(capture)
    return fps if fps <= MOST_FPS else DEFAULT_FPS


def read_frame(capture: Any) -> Array | None:
    """Return a capture's next frame, `(h, w, 3)` uint8; None if there is none or it is broken."""
    try:
        good, frame_bgr = capture.read()
    except cv2.error:
        return None
    return frame_bgr if good else None


def open_first(
    name: str, open_capture: Callable[[], Any], retry_s: float | None, hint: str = ""
) -> Any:
    """Open a source for the first time; return None if that fails and is to be tried again.

    The call runs in a thread, so that this one handles signals meanwhile, and continues if the
    call hangs: OpenCV 4.6 waits for ever for a pipeline that lacks an element.

    Args:
        name: what an error calls the source.
        open_capture: returns a new, open `cv2.VideoCapture`, or raises SourceError.
        retry_s: see `SourceOptions`.
        hint: end of the error message of a source that does not answer.

    Raises:
        SourceError: it fails, and `retry_s` allows no further attempt.
    """
    opened = call_in_thread(open_capture)
    wait([opened], OPENING_S)
    try:
        if not opened.done():
            raise SourceError(f"{name} does not open within {OPENING_S:.0f} s{hint}")
        return opened.result()
    except SourceError:
        if not retry_s:
            raise
        return None


def call_in_thread(call: Callable[[], T]) -> Future[T]:
    """Call a function in a daemon thread: if it hangs, the process can still end."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="open", daemon=True).start()
    return future
