"""GStreamer pipelines, and those of a Jetson's cameras and decoder."""

from __future__ import annotations

import re
import shlex
from functools import partial
from typing import Any

import cv2

from feredge.runtime.errors import SourceError
from feredge.runtime.machine import has_gstreamer
from feredge.runtime.sources.live import LiveSource, open_live
from feredge.runtime.sources.names import mask_passwords

GSTREAMER, CSI, JETSON = "gst:", "csi:", "jetson:"
PREFIXES = (GSTREAMER, CSI, JETSON)
# As in NVIDIA's examples: the hardware decodes, scales and converts to BGRx, the CPU drops x. Only
# the newest frame is kept, and none waits for its presentation time.
TO_BGR = ("nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
          "appsink drop=1 max-buffers=1 sync=false")
CSI_PIPELINE = ("nvarguscamerasrc sensor-id={} ! "
                "video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1 ! " + TO_BGR)
RTSP_PIPELINE = ('rtspsrc location="{}" protocols=tcp latency=100 drop-on-latency=true ! '
                 "rtph264depay ! h264parse ! nvv4l2decoder ! " + TO_BGR)
USB_PIPELINE = "v4l2src device={} io-mode=2 ! image/jpeg ! nvv4l2decoder mjpeg=1 ! " + TO_BGR


def open_gstreamer(where: str, retry_s: float | None = None) -> LiveSource:
    """Open a GStreamer pipeline that ends in an appsink of BGR frames, or one of a Jetson's.

    Args:
        where: `csi:N`, `jetson:N`, `jetson:/dev/videoN`, `jetson:rtsp://...`, or `gst:PIPELINE`.
        retry_s: see `SourceOptions`.

    Raises:
        SourceError: this cv2 was built without GStreamer, or the pipeline does not start.
    """
    if not has_gstreamer():
        raise SourceError("this cv2 has no GStreamer (pip's opencv-python never has): on a Jetson "
                          "use JetPack's cv2, in a venv made with --system-site-packages")
    pipeline = pipeline_of(where)
    name, hint = mask_passwords(where), launch_hint(pipeline)
    return open_live(name, partial(capture_pipeline, name, pipeline, hint), retry_s, hint)


def pipeline_of(where: str) -> str:
    """Return the GStreamer pipeline of a source.

    Raises:
        SourceError: it is none of `open_gstreamer`'s.
    """
    prefix, _, what = where.partition(":")
    if f"{prefix}:" == GSTREAMER:
        return what
    if f"{prefix}:" == CSI:
        return csi_pipeline(where, what)
    if what.startswith("rtsp://"):
        return RTSP_PIPELINE.format(what.replace("\\", r"\\").replace('"', r"\""))
    device = f"/dev/video{what}" if what.isdecimal() else what
    if not re.fullmatch(r"/dev/[\w./:-]+", device):
        raise SourceError(f"{mask_passwords(where)}: expected jetson: and a camera's number, its "
                          "device file, or an rtsp:// address")
    return USB_PIPELINE.format(device)


def csi_pipeline(where: str, number: str) -> str:
    """Return the pipeline of a Jetson's CSI camera: 1280x720, 30 frames/s.

    Raises:
        SourceError: it is no sensor's number.
    """
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
