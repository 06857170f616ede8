"""The orientation of a picture: from EXIF or XMP, and how to apply it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Literal

import cv2

from feredge.runtime.errors import SourceError
from feredge.runtime.results import Array
from feredge.runtime.sources.decode.header import read_number

EXIF_PREFIX = b"Exif\0\0"
ORIENTATION_TAG, MOST_TAGS = 0x0112, 1000
SIZES = {1: 1, 3: 2, 4: 4}  # bytes of a value of type BYTE, SHORT and LONG
XMP = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])""")

TRANSFORMS: dict[int, tuple[Callable[..., Array], ...]] = {
    2: (lambda picture: cv2.flip(picture, 1),),
    3: (lambda picture: cv2.rotate(picture, cv2.ROTATE_180),),
    4: (lambda picture: cv2.flip(picture, 0),),
    5: (cv2.transpose,),
    6: (lambda picture: cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE),),
    7: (cv2.transpose, lambda picture: cv2.rotate(picture, cv2.ROTATE_180)),
    8: (lambda picture: cv2.rotate(picture, cv2.ROTATE_90_COUNTERCLOCKWISE),),
}


def orient(picture: Array, orientation: int) -> Array:
    """Return a picture, `(h, w, 3)` uint8, as EXIF's orientation (1 to 8) says it is viewed."""
    for transform in TRANSFORMS.get(orientation, ()):
        picture = transform(picture)
    return picture


def exif_orientation(exif: bytes) -> int:
    """Return the orientation of an EXIF block, with or without its prefix; 1 if there is none."""
    exif = exif.removeprefix(EXIF_PREFIX)
    try:
        tags = read_tags(exif)
    except SourceError:
        return 1
    value = tags.get(ORIENTATION_TAG, 1)
    return value if 1 <= value <= 8 else 1


def xmp_orientation(xmp: bytes) -> int:
    """Return the orientation of an XMP packet; 1 if there is none."""
    found = XMP.search(xmp)
    return 1 if found is None else int(found[1])


def read_tags(tiff: bytes) -> dict[int, int]:
    """Return the first value of each integer tag in the first directory of TIFF or EXIF data.

    Raises:
        SourceError: the directory is not inside the data.
    """
    order = byte_order(tiff)
    return {tag: read_number(tiff, at, size, order) for tag, at, size in tag_places(tiff)}


def tag_places(tiff: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield each integer tag of the first directory, with position and size of its first value.

    Raises:
        SourceError: the directory is not inside the data.
    """
    order = byte_order(tiff)
    directory = read_number(tiff, 4, 4, order)
    for k in range(min(read_number(tiff, directory, 2, order), MOST_TAGS)):
        at = directory + 2 + 12 * k
        tag, kind = read_number(tiff, at, 2, order), read_number(tiff, at + 2, 2, order)
        size, values = SIZES.get(kind), read_number(tiff, at + 4, 4, order)
        if size is not None and values:
            inline = values * size <= 4
            yield tag, at + 8 if inline else read_number(tiff, at + 8, 4, order), size


def byte_order(tiff: bytes) -> Literal["big", "little"]:
    """Return the byte order of TIFF or EXIF data."""
    return "little" if tiff[:2] == b"II" else "big"
