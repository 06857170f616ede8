"""A video file, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2

from feredge.runtime.errors import SourceError
from feredge.runtime.results import Frame
from feredge.runtime.sources.base import SingleSource
from feredge.runtime.sources.capture import read_rate
from feredge.runtime.sources.names import native_path


class Video(SingleSource):
    """A video file; every frame is delivered, however slow its reader.

    Args:
        name: what frames, errors and log lines call it.
        capture: an open `cv2.VideoCapture`; released by `close`.
    """

    def __init__(self, name: str, capture: Any) -> None:
        super().__init__(name, read_rate(capture))
        self.capture = capture
        self.expected_frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))

    def batches(self) -> Iterator[list[Frame]]:
        """Yield every frame that can be decoded.

        Raises:
            SourceError: there is none.
        """
        delivered = 0
        while not self.stopped:
            good, frame_bgr = self.capture.read()
            if not good:
                break
            position_s = self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3 if delivered else 0.0
            yield [Frame(delivered, frame_bgr, self.name, position_s)]
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
        # Containers' counts are estimates.
        if delivered < 0.95 * self.expected_frames - 2:
            self.problems.append(f"{self.name} ended after {delivered} of {self.expected_frames} "
                                 "frames: it is truncated or damaged")

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
    with native_path(path) as name:
        capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
        if not capture.isOpened():  # this cv2 may have another backend
            capture = cv2.VideoCapture(name)
    if not capture.isOpened():
        raise SourceError(f"{path} is neither a picture nor a video that OpenCV can read; "
                          "if it should be one, it may be truncated")
    width, height = (int(capture.get(side)) for side in
                     (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > max_pixels:
        capture.release()
        raise SourceError(f"{path} has frames of {width}x{height} pixels, more than the limit of "
                          f"{max_pixels:,} (--max-pixels)")
    return Video(str(path), capture)
