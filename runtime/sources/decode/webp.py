"""WebP: size, orientation, and the first picture without alpha, animation and metadata."""

from __future__ import annotations

from collections.abc import Iterator

from feredge.runtime.errors import SourceError
from feredge.runtime.sources.decode.header import DAMAGED, TRUNCATED, Picture, read_number
from feredge.runtime.sources.decode.orientation import exif_orientation, xmp_orientation

LOSSY, LOSSLESS, ANIMATION_FRAME, FRAME_HEADER = b"VP8 ", b"VP8L", b"ANMF", 16


def parse_webp(content: bytes) -> Picture:
    """Read the header of a WebP.

    Raises:
        SourceError: it is damaged or truncated.
    """
    end = read_number(content, 4, 4, "little") + 8
    if end > len(content):
        raise SourceError(TRUNCATED)
    pixels, orientation = None, 1
    for kind, payload in chunks(content[12:end]):
        if kind == ANIMATION_FRAME and pixels is None:
            pixels = first_pixels(payload[FRAME_HEADER:])
        elif kind in (LOSSY, LOSSLESS) and pixels is None:
            pixels = kind, payload
        elif kind == b"EXIF":
            orientation = exif_orientation(payload)
        elif kind == b"XMP " and orientation == 1:
            orientation = xmp_orientation(payload)
    if pixels is None:
        raise SourceError(f"{DAMAGED}: it has no pixels")
    return Picture("WebP", *frame_size(*pixels), still_picture(*pixels), orientation, is_plain=True)


def chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and the payload of each chunk.

    Raises:
        SourceError: the content ends inside one.
    """
    at = 0
    while at + 8 <= len(content):
        size = read_number(content, at + 4, 4, "little")
        if at + 8 + size > len(content):
            raise SourceError(TRUNCATED)
        yield content[at : at + 4], content[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def first_pixels(content: bytes) -> tuple[bytes, bytes] | None:
    """Return the first chunk with pixels of an animation's frame."""
    return next((chunk for chunk in chunks(content) if chunk[0] in (LOSSY, LOSSLESS)), None)


def frame_size(kind: bytes, payload: bytes) -> tuple[int, int]:
    """Return width and height of a chunk with pixels."""
    if kind == LOSSY:
        return (read_number(payload, 6, 2, "little") & 0x3FFF,
                read_number(payload, 8, 2, "little") & 0x3FFF)
    bits = read_number(payload, 1, 4, "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def still_picture(kind: bytes, payload: bytes) -> bytes:
    """Return a WebP file with nothing but the pixels."""
    chunk = kind + len(payload).to_bytes(4, "little") + payload + bytes(len(payload) % 2)
    return b"RIFF" + (len(chunk) + 4).to_bytes(4, "little") + b"WEBP" + chunk
