"""Pipes and standard input: a picture or a video that is read once, without seeking."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import IO

import cv2

from feredge.runtime.errors import SourceError
from feredge.runtime.sources.base import Source, SourceOptions
from feredge.runtime.sources.capture import open_first
from feredge.runtime.sources.decode.header import picture_format
from feredge.runtime.sources.decode.read import HEAD_BYTES, MAX_FILE_BYTES
from feredge.runtime.sources.multi import MultiSource
from feredge.runtime.sources.pictures import PictureContent
from feredge.runtime.sources.video import Video

STDIN = "-"
BLOCK_BYTES = 1 << 16


def open_pipe(path: Path, options: SourceOptions) -> Source:
    """Open a named pipe; blocks until another process writes to it.

    Raises:
        SourceError: it delivers neither a picture nor a video that can be read without seeking.
    """
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    return open_stream(str(path), file, options)


def open_stdin(options: SourceOptions) -> Source:
    """Open standard input.

    Raises:
        SourceError: it is a terminal, or delivers neither a picture nor a video.
    """
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise SourceError("source - is standard input: pipe a picture or a video into it")
    return open_stream("stdin", os.fdopen(os.dup(sys.stdin.fileno()), "rb", 0), options)


def open_stream(name: str, file: IO[bytes], options: SourceOptions) -> Source:
    """Open what a stream of bytes delivers; the file is closed at its end.

    Raises:
        SourceError: it delivers neither a picture nor a video that can be read without seeking.
    """
    head = read_exactly(file, HEAD_BYTES)
    if not head:
        raise SourceError(f"{name} is empty")
    if picture_format(head) is not None:
        content = head + read_exactly(file, MAX_FILE_BYTES)
        file.close()
        return PictureContent(name, content, options.max_pixels)
    capture = open_first(name, lambda: capture_pipe(name, head, file), retry_s=None)
    # A thread reads it: the process that writes may pause, and signals must be handled then.
    return MultiSource([Video(name, capture)])


def read_exactly(file: IO[bytes], size: int) -> bytes:
    """Read `size` bytes, fewer at the end of the stream."""
    blocks, missing = [], size
    while missing and (block := file.read(min(missing, BLOCK_BYTES))):
        blocks.append(block)
        missing -= len(block)
    return b"".join(blocks)


def capture_pipe(name: str, head: bytes, file: IO[bytes]) -> cv2.VideoCapture:
    """Return the open capture of a stream, of which `head` was read already.

    Raises:
        SourceError: it cannot be decoded.
    """
    readable, writable = os.pipe()
    arguments = head, file, writable
    threading.Thread(target=copy_stream, args=arguments, name="pipe", daemon=True).start()
    capture = cv2.VideoCapture(f"pipe:{readable}", cv2.CAP_FFMPEG)
    if not capture.isOpened():
        os.close(readable)
        raise SourceError(f"{name} is neither a picture nor a video that can be read from a pipe: "
                          "save it to a file, or pipe Matroska or an MPEG transport stream")
    return capture


def copy_stream(head: bytes, file: IO[bytes], writable: int) -> None:
    """Copy a stream into a pipe, until it ends or nobody reads."""
    with file, os.fdopen(writable, "wb", 0) as pipe:
        try:
            block = head
            while block:
                pipe.write(block)
                block = file.read(BLOCK_BYTES)
        except OSError:
            return  # the reader ended

