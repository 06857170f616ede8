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


def open_video(path: Path) -> Video:
    """Open a video file.

    Raises:
        SourceError: it is empty, or cannot be read.
    """
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty")
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise SourceError(f"{path} is neither a picture nor a video that OpenCV can read; "
                          "if it should be one, it may be truncated")
    return Video(str(path), capture)
