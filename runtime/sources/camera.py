"""USB and built-in cameras."""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2

from feredge.runtime.errors import SourceError
from feredge.runtime.sources.live import LiveSource, open_live


def open_camera(number: int, retry_s: float | None = None) -> LiveSource:
    """Open a USB or built-in camera.

    Args:
        number: OpenCV's index of the camera.
        retry_s: see `SourceOptions`.

    Raises:
        SourceError: there is no camera of that number.
    """
    return open_live(f"camera {number}", partial(capture_camera, number), retry_s)


def capture_camera(number: int) -> Any:
    """Return a camera's open capture.

    Raises:
        SourceError: there is no camera of that number, or it is in use.
    """
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise SourceError(f"camera {number} is not there or in use; list the cameras with: "
                          "v4l2-ctl --list-devices")
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture
