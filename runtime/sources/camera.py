"""USB and built-in cameras, by number or by device file."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import cv2

from feredge.runtime.errors import SourceError
from feredge.runtime.sources.live import LiveSource, open_live

MOST_CAMERAS = 100  # OpenCV takes the hundreds of a number for the choice of its backend
LIST_HINT = "list the cameras with: v4l2-ctl --list-devices"


def open_camera(number: int, retry_s: float | None = None) -> LiveSource:
    """Open a USB or built-in camera.

    Args:
        number: OpenCV's index of the camera, 0 to 99.
        retry_s: see `SourceOptions`.

    Raises:
        SourceError: there is no camera of that number.
    """
    if not 0 <= number < MOST_CAMERAS:
        raise SourceError(f"camera {number}: expected a number from 0 to {MOST_CAMERAS - 1}; "
                          f"{LIST_HINT}")
    name = f"camera {number}"
    return open_live(name, partial(capture_camera, name, number), retry_s)


def open_device(path: str, retry_s: float | None = None) -> LiveSource:
    """Open a camera by its device file, as /dev/video0 or one of /dev/v4l/by-id.

    Args:
        path: the device file; udev's names below /dev/v4l stay the same after a reconnect.
        retry_s: see `SourceOptions`.

    Raises:
        SourceError: it is no camera, or in use.
    """
    return open_live(path, partial(capture_camera, path, path), retry_s)


def capture_camera(name: str, camera: int | str) -> Any:
    """Return a camera's open capture.

    On Linux Video4Linux comes first: OpenCV of JetPack would open a slower GStreamer pipeline.
    Cameras that can send MJPG do so: uncompressed frames exceed what USB 2 carries.

    Raises:
        SourceError: there is no such camera, or it is in use.
    """
    if sys.platform == "linux":
        capture = cv2.VideoCapture(camera, cv2.CAP_V4L2)
        if capture.isOpened():
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    if sys.platform != "linux" or not capture.isOpened():
        capture = cv2.VideoCapture(camera)
    if not capture.isOpened():
        raise SourceError(f"{name} is not there or in use; {LIST_HINT}")
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture
