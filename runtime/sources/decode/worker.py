"""A process that decodes pictures: one that kills its decoder costs that picture alone."""

from __future__ import annotations

import atexit
import pickle
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BufferedReader
from typing import IO, cast

import numpy as np

from feredge.runtime.environment import child_environment
from feredge.runtime.errors import FeredgeError, SourceError
from feredge.runtime.results import Array
from feredge.runtime.sources.decode.header import Picture
from feredge.runtime.sources.decode.native import decode

STARTING_S, DECODING_S, PIXELS_PER_S = 60.0, 10.0, 10_000_000
READY = b"\n"
MEMORY_BYTES = 4 << 30  # of address space; about half of it is used
SIZE, SHAPE = struct.Struct("!Q"), struct.Struct("!qq")
COMMAND = "from feredge.runtime.sources.decode.worker import serve; serve()"


class DecoderProcess:
    """Decodes pictures in a process of its own, which is started when needed.

    Any thread may call `decode`; calls wait for each other.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    def decode(self, picture: Picture) -> Array:
        """Decode a picture; see `feredge.runtime.sources.decode.native.decode`.

        Raises:
            SourceError: it cannot be decoded, or it killed the process.
        """
        with self.lock:
            process = self.start_process()
            assert process.stdin is not None and process.stdout is not None
            try:
                with kill_after(process, deadline_s(picture)):
                    send(process.stdin, pickle.dumps(picture))
                    return receive_picture(process.stdout)
            except (OSError, EOFError) as error:
                raise SourceError(f"cannot be decoded: {end_reason(process)}") from error

    def start_process(self) -> subprocess.Popen[bytes]:
        """Return the process; start it if there is none.

        Raises:
            SourceError: it does not start.
        """
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, "-c", COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, env=child_environment(),
            )
            with kill_after(self.process, STARTING_S):
                if self.process.stdout is None or self.process.stdout.read(1) != READY:
                    raise SourceError(f"cannot be decoded: {end_reason(self.process)}")
        return self.process

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


def deadline_s(picture: Picture) -> float:
    """Return how long a picture may take to decode."""
    return DECODING_S + picture.width * picture.height / PIXELS_PER_S


@contextmanager
def kill_after(process: subprocess.Popen[bytes], seconds: float) -> Iterator[None]:
    """Kill a process that takes longer."""
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@cache
def shared_process() -> DecoderProcess:
    """Return the process that all readers of pictures use."""
    process = DecoderProcess()
    atexit.register(process.close)
    return process


def end_reason(process: subprocess.Popen[bytes]) -> str:
    """Return why a decoder's process ended."""
    code = process.wait()
    if code == -signal.SIGKILL:
        return "it takes too long or too much memory"
    if code < 0:
        return f"its decoder ended with {signal.Signals(-code).name}; the picture is damaged"
    return f"its decoder ended with exit code {code}"


def send(pipe: IO[bytes], message: bytes) -> None:
    """Write a message of any size."""
    pipe.write(SIZE.pack(len(message)) + message)
    pipe.flush()


def receive(pipe: IO[bytes], size: int) -> bytes:
    """Read exactly `size` bytes.

    Raises:
        EOFError: the other side ended.
    """
    message = pipe.read(size)
    if len(message) < size:
        raise EOFError
    return message


def receive_picture(pipe: IO[bytes]) -> Array:
    """Read the shape and pixels of a picture, or the error.

    Raises:
        SourceError: it cannot be decoded.
    """
    height, width = SHAPE.unpack(receive(pipe, SHAPE.size))
    if height < 0:
        raise SourceError(receive(pipe, width).decode())
    pixels = np.empty((height, width, 3), np.uint8)
    filled = cast(BufferedReader, pipe).readinto(pixels.data.cast("B"))
    if filled < pixels.nbytes:
        raise EOFError
    return pixels


def serve() -> None:
    """Decode what comes on standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    limit_memory()
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    replies.write(READY)
    replies.flush()
    while size := requests.read(SIZE.size):
        try:
            pixels = decode(pickle.loads(receive(requests, *SIZE.unpack(size))))
            replies.write(SHAPE.pack(*pixels.shape[:2]))
            replies.write(pixels.data)
        except FeredgeError as error:
            message = str(error).encode()
            replies.write(SHAPE.pack(-1, len(message)) + message)
        replies.flush()


def limit_memory() -> None:
    """Limit the address space of this process, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
