"""Sources: pictures, folders, videos, streams and cameras, all as an iterator of frames."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from feredge.runtime.environment import configure_ffmpeg
from feredge.runtime.errors import SourceError
from feredge.runtime.results import Frame
from feredge.runtime.sources.live import LiveSource, first_capture, rate_of
from feredge.runtime.sources.pictures import SUFFIXES, find_pictures, read_picture

OPEN_MS = 10_000
GSTREAMER, CSI = "gst:", "csi:"
# What NVIDIA's own examples use: the sensor's frames are scaled and converted by the hardware.
CSI_PIPELINE = (
    "nvarguscamerasrc sensor-id={} ! "
    "video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1 ! "
    "nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
    "appsink drop=1 max-buffers=1"
)


class Pictures:
    """One picture, or all that lie below a folder; broken ones of a folder go to `problems`."""

    is_pictures = True
    live = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_folder = path.is_dir()
        self.files = find_pictures(path) if self.is_folder else [path]
        self.expected = len(self.files)
        self.problems: list[str] = []
        self.stopped = False
        if not self.files:
            raise SourceError(f"{path} holds no pictures ({', '.join(sorted(SUFFIXES))})")

    def frames(self) -> Iterator[Frame]:
        """Yield every picture that can be read.

        Raises:
            SourceError: the one picture is broken, or all of a folder's are.
        """
        for index, file in enumerate(self.files):
            if self.stopped:
                return
            try:
                picture = read_picture(file)
            except SourceError as error:
                self.problems.append(str(error))
                continue
            yield Frame(index, picture, str(file))
        if len(self.problems) == len(self.files):
            raise SourceError(self.problems.pop(0))

    def stop(self) -> None:
        """End after the picture that is being worked on."""
        self.stopped = True

    def close(self) -> None:
        """Nothing is held open."""


class Video:
    """A video file, read frame by frame."""

    is_pictures = False
    live = False

    def __init__(self, name: str, capture: Any) -> None:
        self.name, self.capture = name, capture
        self.fps = rate_of(capture)
        self.expected = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.problems: list[str] = []
        self.stopped = False

    def frames(self) -> Iterator[Frame]:
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
            yield Frame(delivered, frame_bgr, self.name, position_s)
            delivered += 1
        if not delivered and not self.stopped:
            raise SourceError(f"{self.name} delivers no frame that can be decoded")
        # Containers' counts are estimates.
        if not self.stopped and delivered < 0.95 * self.expected - 2:
            self.problems.append(f"{self.name} ended after {delivered} of {self.expected} frames: "
                                 "it is truncated or damaged")

    def stop(self) -> None:
        """End after the frame that is being worked on."""
        self.stopped = True

    def close(self) -> None:
        """Release the file."""
        self.capture.release()


Source = Pictures | Video | LiveSource


def open_camera(number: int, retry_s: float | None = None) -> LiveSource:
    """Open a USB or built-in camera.

    Args:
        number: as OpenCV counts them.
        retry_s: see `LiveSource`.

    Raises:
        SourceError: there is none of that number.
    """
    return open_live(f"camera {number}", partial(camera_capture, number), retry_s)


def open_source(where: str | int, retry_s: float | None = None) -> Source:
    """Open a picture, a folder of pictures, a video file, a URL, `csi:N` or `gst:` and a pipeline.

    Args:
        where: what to open; a number is a camera.
        retry_s: see `LiveSource`; of no effect on files.

    Raises:
        SourceError: it is missing, empty, or neither picture nor video.
    """
    if isinstance(where, int):
        return open_camera(where, retry_s)
    if where.startswith((GSTREAMER, CSI)):
        return open_gstreamer(where, retry_s)
    if "://" in where:
        return open_url(where, retry_s)
    path = Path(where)
    if not path.exists():
        raise SourceError(f"source {where} does not exist")
    if path.is_dir() or path.suffix.lower() in SUFFIXES:
        return Pictures(path)
    return open_video(path)


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


def open_gstreamer(where: str, retry_s: float | None = None) -> LiveSource:
    """Open a CSI camera, or a GStreamer pipeline that ends in an appsink of BGR frames.

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
    name, hint = without_passwords(where), launch_hint(pipeline)
    return open_live(name, partial(gstreamer_capture, name, pipeline, hint), retry_s, hint)


def csi_pipeline(where: str) -> str:
    """Return the GStreamer pipeline of a Jetson's CSI camera: 1280x720, 30 frames a second.

    Raises:
        SourceError: `where` is not `csi:` and a number.
    """
    number = where.removeprefix(CSI)
    if not number.isdecimal():
        raise SourceError(f"{where}: expected csi: and the sensor's number, as in csi:0")
    return CSI_PIPELINE.format(number)


def launch_hint(pipeline: str) -> str:
    """Return how to see why a pipeline does not start, as a shell takes it."""
    words = without_passwords(pipeline).split()
    return f"; try it with: {shlex.join(['gst-launch-1.0', *words])}"


def without_passwords(where: str) -> str:
    """Return a URL or a pipeline for logs and results, where passwords do not belong."""
    where = re.sub("//[^/]*@", "//", where)
    # Of GStreamer's sources: user-pw, proxy-pw, passphrase.
    return re.sub(r"""(-pw|passphrase)(\s*=\s*)("[^"]*"|'[^']*'|\S+)""", r"\1\2***", where)


def open_url(url: str, retry_s: float | None = None) -> Video | LiveSource:
    """Open a stream, or a video file behind a URL.

    Raises:
        SourceError: nothing answers there, or nothing that can be decoded.
    """
    name = without_passwords(url)
    configure_ffmpeg()
    open_capture = partial(url_capture, name, url)
    if retry_s and not url.startswith("http"):  # no file: it may be opened whenever it is there
        return LiveSource(name, open_capture, retry_s)
    capture = first_capture(name, open_capture, retry_s)
    if capture is not None and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
        return Video(name, capture)
    return LiveSource(name, open_capture, retry_s, capture)


def open_live(
    name: str, open_capture: Callable[[], Any], retry_s: float | None, hint: str = ""
) -> LiveSource:
    """Open what is known to be live; see `first_capture`.

    Raises:
        SourceError: it cannot be opened, and `retry_s` does not say to try again.
    """
    return LiveSource(name, open_capture, retry_s, first_capture(name, open_capture, retry_s, hint))


def camera_capture(number: int) -> Any:
    """Return a camera's capture.

    Raises:
        SourceError: there is none of that number.
    """
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise SourceError(f"camera {number} is not there or in use; see which are: "
                          "v4l2-ctl --list-devices")
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def gstreamer_capture(name: str, pipeline: str, hint: str) -> Any:
    """Return a pipeline's capture.

    Raises:
        SourceError: it does not start.
    """
    capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise SourceError(f"{name} does not start{hint}")
    return capture


def url_capture(name: str, url: str) -> Any:
    """Return a URL's capture.

    Raises:
        SourceError: it cannot be opened.
    """
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, OPEN_MS]
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)
    if not capture.isOpened():
        raise SourceError(f"{name} cannot be opened: no answer within {OPEN_MS // 1000} s, "
                          "or no video")
    return capture
