"""GStreamer pipelines, and a Jetson's CSI cameras."""

from __future__ import annotations

import shlex
from functools import partial
from typing import Any

import cv2

from feredge.runtime.errors import SourceError
from feredge.runtime.sources.live import LiveSource, open_live
from feredge.runtime.sources.names import mask_passwords

GSTREAMER, CSI = "gst:", "csi:"
# As in NVIDIA's examples: the hardware scales and converts the sensor's frames.
CSI_PIPELINE = (
    "nvarguscamerasrc sensor-id={} ! "
    "video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1 ! "
    "nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
    "appsink drop=1 max-buffers=1"
)


def open_gstreamer(where: str, retry_s: float | None = None) -> LiveSource:
    """Open a CSI camera, or a GStreamer pipeline that ends in an appsink of BGR frames.

    Args:
        where: `csi:N`, or `gst:` and a pipeline.
        retry_s: see `SourceOptions`.

    Raises:
        SourceError: this cv2 was built without GStreamer, or the pipeline does not start.
    """
    build = next(line for line in cv2.getBuildInformation().splitlines() if "GStreamer" in line)
    if "YES" not in build:
        raise SourceError("this cv2 has no GStreamer (pip's opencv-python never has): on a Jetson "
                          "use JetPack's cv2, in a venv made with --system-site-packages")
    pipeline = where.removeprefix(GSTREAMER)
    if where.startswith(CSI):
        pipeline = csi_pipeline(where)
    name, hint = mask_passwords(where), launch_hint(pipeline)
    return open_live(name, partial(capture_pipeline, name, pipeline, hint), retry_s, hint)


def csi_pipeline(where: str) -> str:
    """Return the GStreamer pipeline of a Jetson's CSI camera: 1280x720, 30 frames/s.

    Raises:
        SourceError: `where` is not `csi:` and a number.
    """
    number = where.removeprefix(CSI)
    if not number.isdecimal():
        raise SourceError(f"{where}: expected csi: and the sensor's number, as in csi:0")
    return CSI_PIPELINE.format(number)


def launch_hint(pipeline: str) -> str:
    """Return the shell command that shows why a pipeline does not start."""
    words = mask_passwords(pipeline).split()
    return f"; try it with: {shlex.join(['gst-launch-1.0', *words])}"


def capture_pipeline(name: str, pipeline: str, hint: str) -> Any:
    """Return a pipeline's open capture.

    Raises:
        SourceError: it does not start.
    """
    capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise SourceError(f"{name} does not start{hint}")
    return capture
