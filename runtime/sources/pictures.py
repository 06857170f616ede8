"""Pictures: files, and all below folders."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from feredge.runtime.errors import SourceError
from feredge.runtime.results import Frame
from feredge.runtime.sources.base import SingleSource
from feredge.runtime.sources.decode.header import picture_format
from feredge.runtime.sources.decode.read import (
    HEAD_BYTES,
    MAX_PIXELS,
    decode_picture,
    read_picture,
)
from feredge.runtime.suffixes import PICTURES

__all__ = [
    "SUFFIXES", "PictureContent", "Pictures", "find_pictures", "iterate_pictures", "read_picture",
]

# Of these, the last ones can be read only.
SUFFIXES = PICTURES | {".avif", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".pbm", ".pnm"}
COUNTED = 10_000  # of a larger folder the number of pictures is unknown at the start

logger = logging.getLogger(__name__)


class Pictures(SingleSource):
    """Pictures; each that cannot be read is added to `problems`.

    Folders are listed while they are read, so that memory does not grow with their size.

    Args:
        paths: files and folders; not empty.
        max_pixels: see `read_picture`.

    Raises:
        SourceError: the folders contain no pictures.
    """

    is_ordered = False

    def __init__(self, paths: Sequence[Path], max_pixels: int = MAX_PIXELS) -> None:
        paths = with_common_root(paths)
        super().__init__(str(paths[0]) if len(paths) == 1 else common_folder(paths))
        self.max_pixels = max_pixels
        files = chain.from_iterable(iterate_pictures(p) if p.is_dir() else (p,) for p in paths)
        first = list(islice(files, COUNTED))
        if not first:
            raise SourceError(f"{self.name} contains no pictures ({', '.join(sorted(SUFFIXES))})")
        self.expected_frames = len(first) if len(first) < COUNTED else 0
        self.files = chain(first, files)

    def batches(self) -> Iterator[list[Frame]]:
        """Yield every picture that can be read.

        Raises:
            SourceError: none can be read.
        """
        delivered = 0
        for index, file in enumerate(self.files):
            if self.stopped:
                return
            try:
                picture = read_picture(file, self.max_pixels)
            except SourceError as error:
                self.problems.append(str(error))
                continue
            yield [Frame(index, picture, str(file))]
            delivered += 1
        if not delivered and self.problems:
            raise SourceError(self.problems.pop(0))


class PictureContent(SingleSource):
    """One picture that was read from a pipe.

    Args:
        name: what frames and errors call it.
        content: the whole file.
        max_pixels: see `read_picture`.
    """

    is_ordered = False

    def __init__(self, name: str, content: bytes, max_pixels: int = MAX_PIXELS) -> None:
        super().__init__(name)
        self.content, self.max_pixels, self.expected_frames = content, max_pixels, 1

    def batches(self) -> Iterator[list[Frame]]:
        """Yield the picture.

        Raises:
            SourceError: it cannot be decoded.
        """
        yield [Frame(0, decode_picture(self.name, self.content, self.max_pixels), self.name)]


def with_common_root(paths: Sequence[Path]) -> Sequence[Path]:
    """Return the paths, absolute if several of them are not all below the current folder."""
    if len(paths) == 1 or all(not path.is_absolute() and ".." not in path.parts for path in paths):
        return paths
    return [Path(os.path.abspath(path)) for path in paths]


def common_folder(paths: Sequence[Path]) -> str:
    """Return the innermost folder that contains all paths."""
    return os.path.commonpath([path if path.is_dir() else path.parent for path in paths]) or "."


def find_pictures(folder: Path) -> list[Path]:
    """Return the picture files anywhere below a folder, sorted; see `iterate_pictures`."""
    return list(iterate_pictures(folder))


def iterate_pictures(folder: Path) -> Iterator[Path]:
    """Yield the picture files anywhere below a folder, sorted.

    Hidden files and folders are skipped, and links to folders are not followed. A file without a
    picture's suffix is one if its content is.
    """
    waiting = [list_folder(folder)]
    while waiting:
        path = next(waiting[-1], None)
        if path is None:
            waiting.pop()
        elif path.is_dir():
            if not path.is_symlink():
                waiting.append(list_folder(path))
        elif path.is_file() and (path.suffix.lower() in SUFFIXES or has_picture_content(path)):
            yield path


def list_folder(folder: Path) -> Iterator[Path]:
    """Yield what a folder contains, sorted, without hidden entries."""
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        logger.warning("folder %s is skipped: %s", folder, error.strerror)
        names = []
    return (folder / name for name in names)


def has_picture_content(path: Path) -> bool:
    """Return whether a file begins as a picture does."""
    try:
        with path.open("rb") as file:
            return picture_format(file.read(HEAD_BYTES)) is not None
    except OSError:
        return False
