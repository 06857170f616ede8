"""Sources: pictures, folders, videos, streams and cameras, all as an iterator of frames."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from feredge.runtime.errors import SourceError
from feredge.runtime.faces import Array
from feredge.runtime.pictures import SUFFIXES, find_pictures, read_picture

STALL_S = 5.0
OPEN_MS = 10_000
DEFAULT_FPS = 25.0
GSTREAMER = "gst:"


@dataclass(frozen=True)
class Frame:
    """One frame: `frame_bgr` `(h, w, 3)` uint8, where it is from, and when.

    `time_s` is the position in a video, seconds since the start of a live source, 0 for a picture.
    `captured_s` is when it arrived, on `time.monotonic`'s clock; None where frames do not age.
    """

    index: int
    frame_bgr: Array
    source: str
    time_s: float = 0.0
    captured_s: float | None = None

    @property
    def age_ms(self) -> float | None:
        """How long ago a live frame arrived."""
        return None if self.captured_s is None else (time.monotonic() - self.captured_s) * 1e3


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
        self.fps = capture.get(cv2.CAP_PROP_FPS) or DEFAULT_FPS
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


class Live:
    """A stream or camera, read by a thread of its own that keeps only the newest frame."""

    is_pictures = False
    live = True
    expected = 0

    def __init__(self, name: str, capture: Any) -> None:
        self.name, self.capture = name, capture
        self.fps = capture.get(cv2.CAP_PROP_FPS) or DEFAULT_FPS
        self.problems: list[str] = []
        self.newest: Frame | None = None
        self.changed = threading.Condition()
        self.ended = self.stopped = False
        self.thread = threading.Thread(target=self.read, name=f"read {name}", daemon=True)
        self.started_s = time.monotonic()
        self.thread.start()

    def read(self) -> None:
        """Read until the source ends or is stopped."""
        index = 0
        while not self.stopped:
            good, frame_bgr = self.capture.read()
            with self.changed:
                now_s = time.monotonic()
                if good:
                    time_s = now_s - self.started_s
                    self.newest = Frame(index, frame_bgr, self.name, time_s, now_s)
                self.ended = not good
                self.changed.notify_all()
            if not good:
                return
            index += 1

    def frames(self) -> Iterator[Frame]:
        """Yield the newest frame each time, for as long as the source delivers.

        Raises:
            SourceError: it stopped, or never started.
        """
        delivered = 0
        while (frame := self.next_frame()) is not None:
            delivered += 1
            yield frame
        if self.stopped:
            return
        if not delivered:
            raise SourceError(f"{self.name} delivers no frame that can be decoded")
        raise SourceError(f"{self.name} stopped delivering after {delivered} frames")

    def next_frame(self) -> Frame | None:
        """Wait for a frame; None at the end.

        Raises:
            SourceError: none came for `STALL_S` seconds.
        """
        with self.changed:
            if not self.changed.wait_for(self.has_news, timeout=STALL_S):
                raise SourceError(f"{self.name} delivered no frame for {STALL_S:.0f} s")
            frame, self.newest = self.newest, None
        return None if self.stopped else frame

    def has_news(self) -> bool:
        """Tell whether there is a frame, or will be none."""
        return self.newest is not None or self.ended or self.stopped

    def stop(self) -> None:
        """End after the frame that is being worked on; a signal handler may call it."""
        with self.changed:  # the condition's lock is re-entrant
            self.stopped = True
            self.changed.notify_all()

    def close(self) -> None:
        """Stop the thread and release the capture, unless it hangs in the driver."""
        self.stop()
        self.thread.join(timeout=1.0)
        if not self.thread.is_alive():
            self.capture.release()


Source = Pictures | Video | Live


def open_camera(number: int) -> Live:
    """Open a USB or built-in camera.

    Raises:
        SourceError: there is none of that number.
    """
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise SourceError(f"camera {number} is not there or in use; see which are: "
                          "v4l2-ctl --list-devices")
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return Live(f"camera {number}", capture)


def open_source(where: str) -> Source:
    """Open a picture, a folder of pictures, a video file, a URL, or `gst:` and a pipeline.

    Raises:
        SourceError: it is missing, empty, or neither picture nor video.
    """
    if where.startswith(GSTREAMER):
        return open_gstreamer(where)
    if "://" in where:
        return open_url(where)
    path = Path(where)
    if not path.exists():
        raise SourceError(f"source {where} does not exist")
    if path.is_dir() or path.suffix.lower() in SUFFIXES:
        return Pictures(path)
    if path.stat().st_size == 0:
        raise SourceError(f"{where} is empty")
    capture = cv2.VideoCapture(where)
    if not capture.isOpened():
        raise SourceError(f"{where} is neither a picture nor a video that OpenCV can read; "
                          "if it should be one, it may be truncated")
    return Video(where, capture)


def open_gstreamer(where: str) -> Live:
    """Open a GStreamer pipeline that ends in an appsink of BGR frames, as CSI cameras need.

    Raises:
        SourceError: this cv2 was built without GStreamer, or the pipeline does not start.
    """
    build = next(line for line in cv2.getBuildInformation().splitlines() if "GStreamer" in line)
    if "YES" not in build:
        raise SourceError("this cv2 has no GStreamer (pip's opencv-python never has): on a Jetson "
                          "use JetPack's cv2, in a venv made with --system-site-packages")
    capture = cv2.VideoCapture(where.removeprefix(GSTREAMER), cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise SourceError(f"{where} does not start; try it with: gst-launch-1.0")
    return Live(where, capture)


def open_url(url: str) -> Video | Live:
    """Open a stream, or a video file behind a URL.

    Raises:
        SourceError: nothing answers there, or nothing that can be decoded.
    """
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, OPEN_MS]
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)
    if not capture.isOpened():
        raise SourceError(f"{url} cannot be opened: no answer within {OPEN_MS // 1000} s, "
                          "or no video")
    is_file = capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0
    return Video(url, capture) if is_file else Live(url, capture)
