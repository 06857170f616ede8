"""The protocol of every source of frames, and what the kinds share."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from feredge.runtime.closeable import Closeable
from feredge.runtime.command import positive_int, seconds
from feredge.runtime.errors import UsageError
from feredge.runtime.results import Frame

if TYPE_CHECKING:
    from typing_extensions import Self

DEFAULT_FPS = 25.0


@dataclass(frozen=True)
class Health:
    """The state of a live source: connecting, delivering, stalled or ended.

    `error` is the last one and is kept after a reconnect; `silent_s` is the time since the last
    frame, or since the start if there was none.
    """

    source: str
    state: str
    frames: int
    reconnects: int
    error: str | None
    silent_s: float


class Source(Protocol):
    """Where frames come from: pictures, a video, a camera, a stream, or several of these.

    Attributes:
        name: what frames, errors and log lines call it, without passwords. Pictures: the file, or
            the folder that contains all of them.
        fps: nominal frame rate.
        is_live: frames that are not taken in time are dropped.
        is_ordered: frames follow each other in time; False for pictures.
        expected_frames: 0 if unknown.
        problems: one line per input that could not be read completely.
        parts: the single sources; of a single source itself.
        stopped: `stop` was called.
    """

    name: str
    fps: float
    @property
    def problems(self) -> list[str]:
        """One line per input that could not be read completely."""

    @property
    def is_live(self) -> bool:
        """Whether frames that are not taken in time are dropped."""

    @property
    def is_ordered(self) -> bool:
        """Whether frames follow each other in time."""

    @property
    def expected_frames(self) -> int:
        """The number of frames, 0 if unknown."""

    @property
    def parts(self) -> tuple[Source, ...]:
        """The single sources."""

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""

    def batches(self) -> Iterator[list[Frame]]:
        """Yield frames, at most one per part, until the source ends or is stopped.

        Raises:
            SourceError: nothing can be read.
        """

    def health(self) -> list[Health]:
        """Return the state of each live part; any thread may ask."""

    def stop(self) -> None:
        """End after the current batch; a signal handler may call it."""

    def close(self) -> None:
        """Free everything; closing twice is allowed."""


class SingleSource(Closeable):
    """Base of sources that deliver one frame per batch.

    Args:
        name: see `Source`.
        fps: nominal frame rate.
    """

    is_live = False
    is_ordered = True

    def __init__(self, name: str, fps: float = DEFAULT_FPS) -> None:
        self.name, self.fps = name, fps
        self.expected_frames = 0
        self.problems: list[str] = []
        self.stopped = False

    @property
    def parts(self) -> tuple[Self, ...]:
        """The source itself."""
        return (self,)

    def health(self) -> list[Health]:
        """Return nothing: a file has no state that changes."""
        return []

    def stop(self) -> None:
        """End after the current frame."""
        self.stopped = True

    def close(self) -> None:
        """Free nothing: no file stays open."""


@dataclass(frozen=True)
class SourceOptions:
    """How sources are opened.

    Attributes:
        retry_s: how long a lost live source is tried again, 0: not at all. None: for ever, but not
            before its first frame, so that a wrong name is an error immediately.
        max_pixels: larger JPEGs are decoded at a reduced size, other pictures are refused.
        is_paced: recorded sources play at their own pace, not as fast as possible.
        is_loop: recorded sources start again at their end, and play at their own pace.
    """

    retry_s: float | None = None
    max_pixels: int = 200_000_000
    is_paced: bool = False
    is_loop: bool = False

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: a time is negative, or the limit is below one pixel.
        """
        if self.retry_s is not None and not self.retry_s >= 0:
            raise UsageError(f"retry_s is {self.retry_s}, expected 0 or more")
        if self.max_pixels < 1:
            raise UsageError(f"max_pixels is {self.max_pixels}, expected 1 or more")

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Add the command-line arguments of these options."""
        parser.add_argument("--retry", type=seconds, metavar="SECONDS",
                            help="try a lost live source again for this time, 0: not at all "
                            "(default: for ever after its first frame)")
        parser.add_argument("--max-pixels", type=positive_int, metavar="N",
                            default=SourceOptions.max_pixels,
                            help="larger JPEGs are decoded at a reduced size, other pictures are "
                            "refused (default: 200 million)")

        parser.add_argument("--loop", action="store_true",
                            help="start recorded sources again at their end, for ever")

    @staticmethod
    def from_arguments(options: argparse.Namespace) -> SourceOptions:
        """Return the options that were given on the command line."""
        is_paced = getattr(options, "serve", None) is not None
        return SourceOptions(options.retry, options.max_pixels, is_paced, options.loop)


def frames_of(source: Source) -> Iterator[Frame]:
    """Yield the frames of a source one by one.

    Raises:
        SourceError: nothing can be read.
    """
    for batch in source.batches():
        yield from batch


def part_name(source: Source, frame: Frame) -> str:
    """Return the name of the part of a source that a frame comes from.

    Frames of pictures have names of their own; their part is the source itself.
    """
    names = [part.name for part in source.parts]
    return frame.source if frame.source in names else names[0]
