"""Sources in the file system: the kind is chosen by what a path is, and by a file's content."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from feredge.runtime.errors import SourceError
from feredge.runtime.placeholder import placeholder_hint
from feredge.runtime.sources.base import Source, SourceOptions
from feredge.runtime.sources.camera import open_device
from feredge.runtime.sources.decode.header import picture_format
from feredge.runtime.sources.pictures import SUFFIXES, Pictures
from feredge.runtime.sources.pipe import open_pipe
from feredge.runtime.sources.video import open_video

HEAD_BYTES = 512
VIDEO4LINUX_MAJOR = 81
MOTION_JPEG = (".mjpg", ".mjpeg")  # pictures, one after the other


def open_path(path: Path, options: SourceOptions) -> Source:
    """Open a picture, a folder of pictures, a video file, a pipe or a camera's device file.

    Raises:
        SourceError: it is missing, empty, or none of these.
    """
    status = path_status(path)
    if stat.S_ISCHR(status.st_mode):
        return open_character_device(path, status, options)
    if is_stream(status):
        return open_pipe(path, options)
    if is_picture(path, status):
        return Pictures([path], options.max_pixels)
    return open_video(path, options.max_pixels)


def path_status(path: Path) -> os.stat_result:
    """Return the status of a path.

    Raises:
        SourceError: it does not exist, or may not be read.
    """
    try:
        return path.stat()
    except FileNotFoundError:
        hint = f"; for a camera pass --camera {path}" if str(path).isdecimal() else ""
        raise SourceError(f"source {path} does not exist{hint}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"source {path} cannot be read: {reason}") from error


def is_picture(path: Path, status: os.stat_result) -> bool:
    """Return whether a path is a folder or a picture: by content, then by suffix.

    Raises:
        SourceError: it is empty, a block device, or a placeholder of a file.
    """
    if stat.S_ISDIR(status.st_mode):
        return True
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{path} is a device, but not a camera")
    if status.st_size == 0:
        raise SourceError(f"{path} is empty")
    head = read_head(path)
    if (hint := placeholder_hint(head)) is not None:
        raise SourceError(f"{path} {hint}")
    if picture_format(head) is not None:
        return path.suffix.lower() not in MOTION_JPEG
    return path.suffix.lower() in SUFFIXES and not is_video_container(head)


def is_picture_path(path: Path) -> bool:
    """Return whether a path is a folder or seems to be a picture.

    Raises:
        SourceError: it does not exist, or may not be read.
    """
    status = path_status(path)
    if stat.S_ISREG(status.st_mode) and path.suffix.lower() in SUFFIXES:
        return True
    return not is_stream(status) and is_picture(path, status)


def is_stream(status: os.stat_result) -> bool:
    """Return whether a path is a pipe, a socket or a character device."""
    return any(check(status.st_mode) for check in (stat.S_ISCHR, stat.S_ISFIFO, stat.S_ISSOCK))


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error


def is_video_container(head: bytes) -> bool:
    """Return whether a file begins as MP4, Matroska, AVI or an MPEG transport stream."""
    return (head[4:8] == b"ftyp" or head.startswith(b"\x1a\x45\xdf\xa3")
            or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
            or (head[:1] == b"\x47" and head[188:189] == b"\x47"))


def open_character_device(path: Path, status: os.stat_result, options: SourceOptions) -> Source:
    """Open a camera by its device file.

    Raises:
        SourceError: the device is no camera.
    """
    if sys.platform == "linux" and os.major(status.st_rdev) != VIDEO4LINUX_MAJOR:
        raise SourceError(f"{path} is a device, but not a camera")
    return open_device(str(path), options.retry_s)
