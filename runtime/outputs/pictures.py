"""Annotated pictures: one file, or a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2

from feredge.runtime.errors import OutputError
from feredge.runtime.files import (
    atomic_write,
    make_folder,
    prepare_folder,
)
from feredge.runtime.outputs.base import escape
from feredge.runtime.results import Array, FrameResult


class PictureFile:
    """One annotated picture."""

    def __init__(self, path: Path) -> None:
        self.path = path
        prepare_folder(path)

    def write_annotated(self, result: FrameResult, annotated_bgr: Array) -> None:
        """Write the picture, `(h, w, 3)` uint8, atomically."""
        write_picture(self.path, annotated_bgr)

    def close(self) -> None:
        """Do nothing: no resource is held."""


def write_picture(path: Path, picture_bgr: Array) -> None:
    """Write a picture atomically, in the format of its suffix.

    Args:
        path: where to write it.
        picture_bgr: `(h, w, 3)` uint8.

    Raises:
        OutputError: the format cannot hold it, or the folder cannot be written.
    """
    write_bytes(path, encode_picture(path, picture_bgr))


def encode_picture(path: Path, picture_bgr: Array) -> bytes:
    """Return an `(h, w, 3)` uint8 picture in the format of a suffix; PGM is gray.

    Raises:
        OutputError: the format cannot hold it.
    """
    suffix = path.suffix.lower()
    if suffix == ".pgm":
        picture_bgr = cv2.cvtColor(picture_bgr, cv2.COLOR_BGR2GRAY)
    try:
        good, encoded = cv2.imencode(suffix, picture_bgr)
    except cv2.error:
        good = False
    if not good:
        height, width = picture_bgr.shape[:2]
        raise OutputError(f"{escape(str(path))} cannot be written: OpenCV has no encoder for a "
                          f"{width}x{height} {suffix} picture")
    return encoded.tobytes()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


class PictureFolder:
    """A folder of annotated pictures with the names and subfolders of the source folder.

    Args:
        folder: where to write.
        source_folder: where the pictures are read.
        report: called with one line per picture that its format cannot hold; the others go on.
    """

    def __init__(
        self, folder: Path, source_folder: Path, report: Callable[[str], None]
    ) -> None:
        self.folder, self.source_folder, self.report = folder, source_folder, report
        make_folder(folder)

    def write_annotated(self, result: FrameResult, annotated_bgr: Array) -> None:
        """Write one picture, `(h, w, 3)` uint8, under the name of its source.

        Raises:
            OutputError: it cannot be written, or would replace its source.
        """
        source = Path(result.frame.source)
        target = self.folder / source.relative_to(self.source_folder)
        make_folder(target.parent)
        if target.exists() and source.exists() and target.samefile(source):
            raise OutputError(f"{escape(str(target))} is the source itself: name another folder")
        try:
            encoded = encode_picture(target, annotated_bgr)
        except OutputError as error:
            self.report(str(error))
            return
        write_bytes(target, encoded)

    def close(self) -> None:
        """Do nothing: no resource is held."""
