"""Two writers of a video file: PyAV (extra `video`), and OpenCV without it."""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2

from feredge.runtime.errors import OutputError
from feredge.runtime.results import Array
from feredge.runtime.suffixes import VIDEO_CODECS

DEFAULT_FPS, MOST_FPS = 25.0, 65_535.0  # MPEG-4 counts time in at most 65,535 ticks per second
TICKS = 90_000  # per second, of PyAV's times
QUALITY = {"crf": "20", "preset": "veryfast"}
H264_SUFFIXES = (".mp4", ".mkv")
log = logging.getLogger(__name__)


class VideoWriter(Protocol):
    """Encodes frames of one size into a file."""

    def write(self, frame_bgr: Array, time_s: float) -> None:
        """Encode a frame, `(h, w, 3)` uint8, that is shown from `time_s` on."""

    def close(self) -> None:
        """Complete the file."""

    def count(self) -> int:
        """Return how many frames are in the complete file."""


def open_writer(path: Path, fps: float, size: tuple[int, int], audio: Path | None) -> VideoWriter:
    """Open the best writer that is installed for a container.

    Args:
        path: the file to write; its suffix names the container.
        fps: frames per second; PyAV takes the times of the frames instead.
        size: width and height in px.
        audio: a file whose audio is copied; OpenCV cannot.

    Raises:
        OutputError: there is no encoder for the container or the size.
    """
    if path.suffix.lower() in H264_SUFFIXES:
        try:
            import av  # noqa: F401
        except ImportError:
            log.info("without PyAV a video has no audio and does not play in a browser; install "
                     "it with: pip install 'feredge[video]'")
        else:
            return AvWriter(path, fps, size, audio)
    return OpenCvWriter(path, fps, size)


def native_path(path: Path) -> str:
    """Return an absolute path for native code, which ends the process on bytes that are not UTF-8.

    Raises:
        OutputError: the path has such bytes.
    """
    text = str(path.absolute())
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise OutputError("the name of its folder is not UTF-8: choose another folder") from error
    return text


def usable_fps(fps: float) -> float:
    """Return a frame rate that containers can hold."""
    return min(fps, MOST_FPS) if math.isfinite(fps) and fps > 0 else DEFAULT_FPS


class OpenCvWriter:
    """MPEG-4 or motion JPEG at a constant frame rate, without audio."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        self.path = path
        codec = cv2.VideoWriter.fourcc(*VIDEO_CODECS[path.suffix.lower()])
        self.writer = cv2.VideoWriter(native_path(path), codec, usable_fps(fps), size)
        if not self.writer.isOpened():
            raise OutputError(f"OpenCV has no encoder for a {size[0]}x{size[1]} {path.suffix} "
                              "video here")

    def write(self, frame_bgr: Array, time_s: float) -> None:
        """Encode a frame, `(h, w, 3)` uint8; its time is ignored."""
        self.writer.write(frame_bgr)

    def close(self) -> None:
        """Complete the file; OpenCV reports no error, not even that of a full disk."""
        self.writer.release()

    def count(self) -> int:
        """Return the number of frames that the container states; 0 if it cannot be opened."""
        capture = cv2.VideoCapture(str(self.path.absolute()))
        try:
            count = capture.get(cv2.CAP_PROP_FRAME_COUNT) if capture.isOpened() else 0
            return int(count) if capture.read()[0] else 0
        finally:
            capture.release()


class AvWriter:
    """H.264 in 4:2:0 with the times of the frames and the audio of the source.

    The index of an MP4 is at its start, so that a browser plays the file while it loads.
    """

    def __init__(
        self, path: Path, fps: float, size: tuple[int, int], audio: Path | None
    ) -> None:
        import av

        self.av, self.path, self.last_ticks = av, path, -1
        self.size = max(size[0] // 2 * 2, 2), max(size[1] // 2 * 2, 2)  # 4:2:0 needs even sides
        options = {"movflags": "+faststart"} if path.suffix.lower() == ".mp4" else {}
        try:
            self.container = av.open(native_path(path), "w", options=options)
            self.stream = self.open_stream(fps)
        except (OSError, ValueError) as error:
            raise OutputError(f"PyAV has no encoder for a {size[0]}x{size[1]} {path.suffix} video "
                              f"here: {error}") from error
        self.audio = AudioCopy.open(av, audio, self.container)

    def open_stream(self, fps: float) -> Any:
        """Add the video stream."""
        rate = Fraction(usable_fps(fps)).limit_denominator(1001)
        stream: Any = self.container.add_stream("libx264", rate=rate, options=QUALITY)
        stream.width, stream.height = self.size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, TICKS)
        stream.codec_context.open()
        return stream

    def write(self, frame_bgr: Array, time_s: float) -> None:
        """Encode a frame, `(h, w, 3)` uint8; times that do not grow are moved by a tick.

        Raises:
            OSError: it cannot be written.
        """
        if (frame_bgr.shape[1], frame_bgr.shape[0]) != self.size:
            frame_bgr = cv2.resize(frame_bgr, self.size)
        frame = self.av.VideoFrame.from_ndarray(frame_bgr, format="bgr24")
        self.last_ticks = max(round(time_s * TICKS), self.last_ticks + 1)
        frame.pts, frame.time_base = self.last_ticks, Fraction(1, TICKS)
        self.container.mux(self.stream.encode(frame))
        if self.audio is not None:
            self.audio.copy_until(self.last_ticks / TICKS)

    def close(self) -> None:
        """Complete the file.

        Raises:
            OSError: it cannot be written.
        """
        try:
            self.container.mux(self.stream.encode())
        finally:
            if self.audio is not None:
                self.audio.close()
            self.container.close()

    def count(self) -> int:
        """Return the number of encoded frames in the file; 0 if it cannot be opened."""
        try:
            with self.av.open(str(self.path.absolute())) as container:
                return sum(packet.size > 0 for packet in container.demux(video=0))
        except (OSError, ValueError, IndexError):
            return 0


class AudioCopy:
    """Copies the packets of an audio stream, in step with the video.

    If the timestamps start again, as in files that were joined, the times continue.
    """

    def __init__(self, container: Any, source: Any, stream: Any) -> None:
        self.container, self.source, self.stream = container, source, stream
        self.packets = source.demux(audio=0)
        self.start_s = max(source.start_time or 0, 0) / 1e6
        self.waiting: Any = None
        self.next_dts: int | None = None
        self.offset = 0  # from the source's timestamps to the copy's, in ticks of the stream

    @staticmethod
    def open(av: Any, path: Path | None, container: Any) -> AudioCopy | None:
        """Add the audio of a file to a video; None if there is none that the container holds."""
        if path is None:
            return None
        try:
            source = av.open(native_path(path))
        except (OSError, ValueError, OutputError):
            return None
        if source.streams.audio:
            name = source.streams.audio[0].codec_context.name
            if name in container.supported_codecs:
                stream = container.add_stream_from_template(source.streams.audio[0])
                return AudioCopy(container, source, stream)
            log.warning("the audio of %s is not copied: this container does not hold %s",
                        path, name)
        source.close()
        return None

    def copy_until(self, time_s: float) -> None:
        """Copy the packets up to a time of the video."""
        while True:
            if self.waiting is None:
                self.waiting = self.next_packet()
            if (packet := self.waiting) is None:
                return
            if float(packet.dts * packet.time_base) - self.start_s > time_s:
                return
            self.waiting, packet.stream = None, self.stream
            self.container.mux(packet)

    def next_packet(self) -> Any:
        """Return the next packet, with times that increase; None after the last one."""
        packet = next(self.packets, None)
        if packet is None or packet.dts is None:
            return None
        if self.next_dts is not None and packet.dts + self.offset < self.next_dts:
            self.offset = self.next_dts - packet.dts
        packet.dts += self.offset
        packet.pts = packet.dts if packet.pts is None else packet.pts + self.offset
        self.next_dts = packet.dts + max(packet.duration or 0, 1)
        return packet

    def close(self) -> None:
        """Close the source of the audio."""
        with suppress(OSError):
            self.source.close()
