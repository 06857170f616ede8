"""Pictures: one file, or all below a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from feredge.runtime.errors import SourceError
from feredge.runtime.results import Array, Frame
from feredge.runtime.sources.base import SingleSource
from feredge.runtime.suffixes import PICTURES

JPEG, PNG = b"\xff\xd8", b"\x89PNG"
JPEG_SCAN, JPEG_END = 0xDA, 0xD9


class Pictures(SingleSource):
    """One picture, or all below a folder; the broken ones of a folder are added to `problems`.

    Args:
        path: the picture or folder.

    Raises:
        SourceError: the folder contains no pictures.
    """

    is_ordered = False

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.files = find_pictures(path) if path.is_dir() else [path]
        self.expected_frames = len(self.files)
        if not self.files:
            raise SourceError(f"{path} contains no pictures ({', '.join(sorted(PICTURES))})")

    def batches(self) -> Iterator[list[Frame]]:
        """Yield every picture that can be read.

        Raises:
            SourceError: none can be read.
        """
        for index, file in enumerate(self.files):
            if self.stopped:
                return
            try:
                picture = read_picture(file)
            except SourceError as error:
                self.problems.append(str(error))
                continue
            yield [Frame(index, picture, str(file))]
        if len(self.problems) == len(self.files):
            raise SourceError(self.problems.pop(0))


def find_pictures(folder: Path) -> list[Path]:
    """Return the picture files anywhere below a folder, sorted; hidden ones are skipped."""
    return sorted(
        path for path in folder.rglob("*")
        if path.suffix.lower() in PICTURES and path.is_file() and not path.name.startswith(".")
    )


def read_picture(path: Path) -> Array:
    """Read a picture as `(h, w, 3)` uint8 BGR, whatever its depth and channels.

    16 bits are scaled to 8, grey is repeated, alpha is dropped, EXIF's orientation is applied.

    Raises:
        SourceError: it is missing, empty, truncated, or not a picture.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    if not content:
        raise SourceError(f"{path} is empty")
    if is_truncated(content):
        raise SourceError(f"{path} is truncated: copy it again")
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise SourceError(f"{path} cannot be decoded: {error.err}") from error
    if picture is None:
        raise SourceError(f"{path} is not a picture that OpenCV can read")
    return picture


def is_truncated(content: bytes) -> bool:
    """Return whether a JPEG or PNG stops before its end: OpenCV fills the rest with grey."""
    if content.startswith(PNG):
        return b"IEND" not in content
    return content.startswith(JPEG) and not jpeg_ends(content)


def jpeg_ends(content: bytes) -> bool:
    """Follow a JPEG's markers to its end marker; one inside a thumbnail does not count."""
    at = len(JPEG)
    while 0 <= at < len(content) - 1:
        marker = content[at + 1]
        if marker == JPEG_END:
            return True
        if marker == 0 or marker == 0xFF or 0xD0 <= marker <= 0xD7:  # data, fill or restart
            at += 1 if marker == 0xFF else 2
        else:
            at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        at = content.find(b"\xff", at)
    return False
