"""Read one picture file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from feredge.runtime.errors import FeredgeError, SourceError
from feredge.runtime.placeholder import placeholder_hint
from feredge.runtime.results import Array
from feredge.runtime.sources.base import SourceOptions
from feredge.runtime.sources.decode.header import Picture, picture_format
from feredge.runtime.sources.decode.jpeg import parse_jpeg
from feredge.runtime.sources.decode.native import decode
from feredge.runtime.sources.decode.orientation import orient
from feredge.runtime.sources.decode.others import (
    parse_bmp,
    parse_gif,
    parse_heif,
    parse_pnm,
    parse_tiff,
)
from feredge.runtime.sources.decode.png import parse_png
from feredge.runtime.sources.decode.webp import parse_webp
from feredge.runtime.sources.decode.worker import shared_process

MAX_PIXELS = SourceOptions.max_pixels
MAX_FILE_BYTES = 1 << 30
HEAD_BYTES = 32
PARSERS: dict[str, Callable[[bytes], Picture]] = {
    "JPEG": parse_jpeg, "PNG": parse_png, "WebP": parse_webp, "GIF": parse_gif, "BMP": parse_bmp,
    "PNM": parse_pnm, "TIFF": parse_tiff, "HEIC": parse_heif, "AVIF": parse_heif,
}

logger = logging.getLogger(__name__)


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> Array:
    """Read a picture, whatever its depth and channels.

    16 bits are scaled to 8, gray is repeated, alpha is dropped, the orientation is applied; of an
    animation the first picture is read.

    Args:
        path: the file; its format is recognized by its content.
        max_pixels: larger JPEGs are decoded at a half, a quarter or an eighth of their size; other
            pictures are refused before they are decoded.

    Returns:
        `(h, w, 3)` uint8 BGR.

    Raises:
        SourceError: it is missing, empty, truncated, too large, or not a picture.
    """
    return decode_picture(str(path), read_content(path), max_pixels)


def decode_picture(name: str, content: bytes, max_pixels: int = MAX_PIXELS) -> Array:
    """Decode the content of a picture file; see `read_picture`.

    Args:
        name: what errors call it.
        content: the whole file.
        max_pixels: see `read_picture`.

    Raises:
        SourceError: it is empty, truncated, too large, or not a picture.
    """
    try:
        picture = parse_picture(content)
        reduction = reduction_of(picture, max_pixels)
        if reduction > 1:
            logger.warning("%s: %dx%d pixels exceed the limit of %d (max_pixels): decoded at "
                           "1/%d of its size", name, picture.width, picture.height, max_pixels,
                           reduction)
        if not picture.is_plain:
            return orient(shared_process().decode(picture), picture.orientation)
        return orient(decode(picture, reduction), picture.orientation)
    except FeredgeError as error:
        raise SourceError(f"{name} {error}") from error


def read_content(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        SourceError: it cannot be read, or is too large for a picture.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise SourceError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB, which is no picture")
    return content


def parse_picture(content: bytes) -> Picture:
    """Read the header of a picture of any format.

    Raises:
        SourceError: it is empty, damaged, or not a picture that can be decoded.
    """
    if not content:
        raise SourceError("is empty")
    format_name = picture_format(content[:HEAD_BYTES])
    if format_name is None:
        raise SourceError(placeholder_hint(content) or "is not a picture that can be read")
    if format_name not in PARSERS:
        raise SourceError(f"is a {format_name} picture, which cannot be read: convert it to JPEG "
                          "or PNG")
    return PARSERS[format_name](content)


def reduction_of(picture: Picture, max_pixels: int) -> int:
    """Return the factor by which a picture is scaled down to keep the limit.

    Raises:
        SourceError: it is too large.
    """
    allowed = (1, 2, 4, 8) if picture.is_reducible and picture.is_plain else (1,)
    for factor in allowed:
        if -(-picture.width // factor) * -(-picture.height // factor) <= max_pixels:
            return factor
    raise SourceError(f"has {picture.width}x{picture.height} pixels, more than the limit of "
                      f"{max_pixels:,} (`max_pixels`)")
