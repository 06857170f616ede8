"""Frames of a part of a video, exact by presentation time at constant and variable rates.

OpenCV's seeks are wrong at variable rates, so that videos are read with PyAV.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from feredge.runtime.errors import SourceError, require
from feredge.runtime.results import Array, Frame

SUFFIXES = frozenset((
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts",
    ".ogv", ".ts", ".webm", ".wmv",
))
# A seek lands on a keyframe by decoding time; the frames that follow it may be shown before it, and
# in an open group of pictures they are damaged. So long before the segment, none of them matters.
LEAD_S = 2.0
DEFAULT_FPS = 25.0
MOST_PARTS = 1000  # a container may state any duration


class VideoFile:
    """An open video.

    Args:
        stream: a file that can be read and sought.
        name: what frames and errors call it.

    Raises:
        SourceError: it contains no video that can be decoded.
    """

    def __init__(self, stream: Any, name: str) -> None:
        av = require("av", "batch")
        self.stream, self.name = stream, name
        try:
            self.container = av.open(stream)
            self.video = self.container.streams.video[0]
        except (av.FFmpegError, IndexError, OSError) as error:
            raise SourceError(f"{name} contains no video that can be decoded: {error}") from error
        self.video.thread_type = "NONE"  # the workers share the cores
        self.video.thread_count = 1

    @property
    def duration_s(self) -> float | None:
        """The duration that the container states."""
        if self.video.duration and self.video.time_base:
            return float(self.video.duration * self.video.time_base)
        return self.container.duration / 1e6 if self.container.duration else None

    def parts(self, segment_s: float) -> int:
        """Return the number of segments; 1 where times are unknown or seeks impossible."""
        parts = math.ceil(min((self.duration_s or 0) / segment_s, MOST_PARTS) - 0.5)
        return max(parts, 1)

    def bounds(self, part: int, parts: int) -> tuple[float, float]:
        """Return start and end of one of equally long parts; the outer bounds are infinite."""
        length_s = (self.duration_s or 0) / parts
        start_s = -math.inf if part == 0 else part * length_s
        return start_s, math.inf if part == parts - 1 else (part + 1) * length_s

    def frames(self, start_s: float, end_s: float) -> Iterator[Frame]:
        """Yield the frames with `start_s <= time_s < end_s`, indexed from 0.

        Args:
            start_s: seconds after the first frame; `-inf` is the first frame.
            end_s: `inf` is the last frame.
        """
        index = 0
        for time_s, frame in self.decode_from(start_s):
            if time_s >= end_s:
                return
            if time_s >= start_s:
                yield Frame(index, upright_bgr(frame), self.name, time_s)
                index += 1

    def decode_from(self, start_s: float) -> Iterator[tuple[float, Any]]:
        """Yield times and decoded frames from before a time: further back until one is."""
        lead_s = LEAD_S
        while start_s > lead_s:
            self.seek(start_s - lead_s)
            frames = self.decode()
            first = next(frames, None)
            if first is not None and first[0] < start_s:
                yield first
                yield from frames
                return
            lead_s *= 4
        if start_s > 0:
            self.rewind()
        yield from self.decode()

    def seek(self, time_s: float) -> None:
        """Move to the last keyframe before a time."""
        ticks = int(time_s / self.video.time_base) + (self.video.start_time or 0)
        self.container.seek(max(ticks, 0), stream=self.video)

    def rewind(self) -> None:
        """Open the file again: exact also where a seek to the start is not."""
        self.container.close()
        self.stream.seek(0)
        self.__init__(self.stream, self.name)  # type: ignore[misc]

    def decode(self) -> Iterator[tuple[float, Any]]:
        """Yield times and frames in order of presentation; damaged packets are skipped."""
        av = require("av", "batch")
        step_s = 1 / float(self.video.average_rate or DEFAULT_FPS)
        time_s = -step_s
        packets = self.container.demux(self.video)
        while True:
            try:
                packet = next(packets)
                decoded = packet.decode()
            except StopIteration:
                return
            except av.InvalidDataError:
                continue
            for frame in decoded:
                known = frame.pts is not None and frame.time_base is not None
                time_s = self.time_of(frame) if known else time_s + step_s
                yield time_s, frame

    def time_of(self, frame: Any) -> float:
        """Return the seconds from the start of the stream to a frame."""
        return float((frame.pts - (self.video.start_time or 0)) * frame.time_base)

    def close(self) -> None:
        """Close the file."""
        self.container.close()
        self.stream.close()


@contextmanager
def open_video(stream: Any, name: str) -> Iterator[VideoFile]:
    """Open a video for the length of a block; see `VideoFile`."""
    video = VideoFile(stream, name)
    try:
        yield video
    finally:
        video.close()


def upright_bgr(frame: Any) -> Array:
    """Return a decoded frame as `(h, w, 3)` uint8 BGR, rotated as its metadata state."""
    picture = frame.to_ndarray(format="bgr24", interpolation="BICUBIC")
    quarters = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, quarters)) if quarters else picture
