"""A video file, frame by frame."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2

from feredge.runtime.errors import SourceError
from feredge.runtime.results import Frame
from feredge.runtime.sources.base import DEFAULT_FPS, SingleSource
from feredge.runtime.sources.capture import MOST_FPS, read_live_rate, read_rate
from feredge.runtime.sources.clock import VideoClock
from feredge.runtime.sources.container import is_cut_short
from feredge.runtime.sources.names import native_path

# A container's rate above this is measured.
LIKELY_FPS = 120.0
MEASURED_FRAMES, MOST_FRAMES = 50, 10**9

logger = logging.getLogger(__name__)


class Video(SingleSource):
    """A video; every frame is delivered, however slow its reader.

    Args:
        name: what frames, errors and log lines call it.
        capture: an open `cv2.VideoCapture`; released by `close`.
        path: the file, None for one that is not in the file system.
        fps: nominal frame rate; None: the capture's.
    """

    def __init__(
        self, name: str, capture: Any, path: Path | None = None, fps: float | None = None
    ) -> None:
        super().__init__(name, fps or read_live_rate(capture))
        self.capture, self.path = capture, path
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)  # estimated by most containers
        self.expected_frames = int(count) if 0 < count < MOST_FRAMES else 0

    def batches(self) -> Iterator[list[Frame]]:
        """Yield every frame that can be decoded.

        Raises:
            SourceError: there is none.
        """
        delivered, clock = 0, VideoClock(self.fps)
        while not self.stopped:
            good, frame_bgr = self.capture.read()
            if not good:
                break
            time_s = clock.next(self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)
            yield [Frame(delivered, frame_bgr, self.name, time_s)]
            delivered += 1
        if not self.stopped:
            self.check_end(delivered)

    def check_end(self, delivered: int) -> None:
        """Note a video that ends early.

        Raises:
            SourceError: no frame was delivered.
        """
        if not delivered:
            raise SourceError(f"{self.name} delivers no frame that can be decoded")
        if self.is_incomplete(delivered):
            self.problems.append(f"{self.name} ended after {delivered} of {self.expected_frames} "
                                 "frames: it is truncated or damaged")

    def is_incomplete(self, delivered: int) -> bool:
        """Return whether frames are missing: of a file its size decides, else about the count."""
        if self.path is not None:
            return is_cut_short(self.path)
        return delivered < self.expected_frames / 2 - 2

    def close(self) -> None:
        """Release the file."""
        self.capture.release()


def open_video(path: Path, max_pixels: int) -> Video:
    """Open a video file.

    Args:
        path: a regular file that is not empty.
        max_pixels: the limit for one frame.

    Raises:
        SourceError: it cannot be read, or its frames are too large.
    """
    with native_path(path) as native:
        capture = capture_file(native)
        if not capture.isOpened():
            raise SourceError(f"{path} is neither a picture nor a video that OpenCV can read; "
                              "if it should be one, it may be truncated")
        width, height = (int(capture.get(side)) for side in
                         (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > max_pixels:
            raise SourceError(f"{path} has frames of {width}x{height} pixels, more than the limit "
                              f"of {max_pixels:,} (`max_pixels`)")
        return Video(str(path), capture, path, likely_rate(str(path), native, capture))


def capture_file(native: str) -> Any:
    """Return a file's capture, open if it can be read."""
    capture = cv2.VideoCapture(native, cv2.CAP_FFMPEG)
    return capture if capture.isOpened() else cv2.VideoCapture(native)


def likely_rate(name: str, native: str, capture: Any) -> float:
    """Return the frame rate of a container, or if it is unlikely, that of its first frames."""
    nominal = read_rate(capture)
    if nominal <= LIKELY_FPS:
        return nominal
    fps = min(first_rate(native), MOST_FPS)
    if abs(fps - nominal) > 0.01 * nominal:
        logger.warning("%s: its container says %g frames/s; %g is used", name, nominal, fps)
    return fps


def first_rate(native: str) -> float:
    """Return the frame rate by the median interval of a file's first frames."""
    times_s: list[float] = []
    capture = capture_file(native)
    while len(times_s) < MEASURED_FRAMES and capture.grab():
        times_s.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)
    capture.release()
    steps_s = [after - before for before, after in pairwise(times_s) if after > before]
    return 1 / statistics.median(steps_s) if steps_s else DEFAULT_FPS

