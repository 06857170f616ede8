"""Headers of the less common formats: GIF, BMP, PNM, TIFF, HEIC and AVIF."""

from __future__ import annotations

import re

from feredge.runtime.errors import SourceError
from feredge.runtime.sources.decode.header import (
    DAMAGED,
    TRUNCATED,
    Picture,
    picture_format,
    read_number,
)
from feredge.runtime.sources.decode.orientation import (
    ORIENTATION_TAG,
    byte_order,
    read_tags,
    tag_places,
)

GIF_IMAGE, GIF_EXTENSION, GIF_END = 0x2C, 0x21, b"\x3b"
PNM = re.compile(rb"P([1-6])(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})\s")
PAM_SIZES = re.compile(rb"^(WIDTH|HEIGHT)\s+(\d{1,9})\s*$", re.MULTILINE)
WIDTH_TAG, HEIGHT_TAG, SAMPLES_TAG, TILE_TAGS, ALPHA_TAG = 256, 257, 277, (322, 323), 338
MOST_SAMPLES = 8
PLAIN_VALUES = {ORIENTATION_TAG: 1, ALPHA_TAG: 1}  # upright; multiplied already
HEIF_SIZE = re.compile(rb"ispe\0{4}(.{4})(.{4})", re.DOTALL)
HEIF_HEADER = 1 << 20
HEIF_TURN, HEIF_MIRROR = (re.compile(rb"\0\0\0\x09" + kind + rb"(.)", re.DOTALL)
                          for kind in (b"irot", b"imir"))
# By quarter turns counterclockwise; mirrored top to bottom, left to right, or not.
HEIF_ORIENTATIONS = ((4, 2, 1), (5, 7, 8), (2, 4, 3), (7, 5, 6))


def parse_gif(content: bytes) -> Picture:
    """Read the header of a GIF, and cut it after its first picture.

    Raises:
        SourceError: it is damaged or truncated.
    """
    width, height = read_number(content, 6, 2, "little"), read_number(content, 8, 2, "little")
    at = 13 + palette_size(read_number(content, 10, 1))
    head = content[:at]
    while (kind := read_number(content, at, 1)) == GIF_EXTENSION:
        at = blocks_end(content, at + 2)
    if kind != GIF_IMAGE:
        raise SourceError(f"{DAMAGED}: it has no picture")
    x, y, w, h = (read_number(content, at + 1 + 2 * k, 2, "little") for k in range(4))
    if x + w > width or y + h > height:
        raise SourceError(f"{DAMAGED}: its first picture is larger than its canvas")
    end = blocks_end(content, at + 11 + palette_size(read_number(content, at + 9, 1)))
    return Picture("GIF", width, height, head + content[at:end] + GIF_END)


def palette_size(flags: int) -> int:
    """Return the bytes of a GIF's palette."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def blocks_end(content: bytes, at: int) -> int:
    """Return where a GIF's chain of data blocks ends.

    Raises:
        SourceError: the content ends before.
    """
    while size := read_number(content, at, 1):
        at += size + 1
    return at + 1


def parse_bmp(content: bytes) -> Picture:
    """Read the header of a BMP.

    Raises:
        SourceError: it is truncated.
    """
    if read_number(content, 14, 4, "little") == 12:
        return Picture("BMP", read_number(content, 18, 2, "little"),
                       read_number(content, 20, 2, "little"), content)
    return Picture("BMP", read_number(content, 18, 4, "little", signed=True),
                   abs(read_number(content, 22, 4, "little", signed=True)), content)


def parse_pnm(content: bytes) -> Picture:
    """Read the header of a PBM, PGM, PPM or PAM.

    Raises:
        SourceError: it is damaged.
    """
    if content.startswith(b"P7"):
        sizes = dict(PAM_SIZES.findall(content[:1000]))
        width, height = sizes.get(b"WIDTH", b"0"), sizes.get(b"HEIGHT", b"0")
    elif (found := PNM.match(content[:4096])) is not None:
        width, height = found[2], found[3]
    else:
        raise SourceError(DAMAGED)
    return Picture("PNM", int(width), int(height), content)


def parse_tiff(content: bytes) -> Picture:
    """Read the header of a TIFF's first picture.

    Raises:
        SourceError: it is damaged, truncated, or a BigTIFF.
    """
    if content[2:4] in (b"+\0", b"\0+"):
        raise SourceError("is a BigTIFF, which cannot be read: convert it to TIFF or PNG")
    tags = read_tags(content)
    width, height = tags.get(WIDTH_TAG, 0), tags.get(HEIGHT_TAG, 0)
    tile_width, tile_height = (tags.get(tag, 1) for tag in TILE_TAGS)
    samples = tags.get(SAMPLES_TAG, 1)
    if samples > MOST_SAMPLES:
        raise SourceError(f"has {samples} channels, expected at most {MOST_SAMPLES}")
    if tile_width > 2 * width + 4096 or tile_height > 2 * height + 4096:
        raise SourceError(f"{DAMAGED}: its tiles are {tile_width}x{tile_height} pixels large")
    return Picture("TIFF", width, height, with_plain_pixels(content),
                   tags.get(ORIENTATION_TAG, 1))


def with_plain_pixels(tiff: bytes) -> bytes:
    """Return a TIFF of which the decoder neither turns the pixels nor multiplies them by alpha."""
    plain = bytearray(tiff)
    for tag, at, size in tag_places(tiff):
        if tag in PLAIN_VALUES:
            plain[at : at + size] = PLAIN_VALUES[tag].to_bytes(size, byte_order(tiff))
    return bytes(plain)


def parse_heif(content: bytes) -> Picture:
    """Read the sizes in a HEIC or AVIF file; the largest is the picture's.

    Raises:
        SourceError: there is none.
    """
    sizes = [(int.from_bytes(width, "big"), int.from_bytes(height, "big"))
             for width, height in HEIF_SIZE.findall(content[:HEIF_HEADER])]
    if not sizes:
        raise SourceError(TRUNCATED)
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    format_name = picture_format(content[:32]) or "HEIC"
    # The decoder of HEIC turns its pixels, that of AVIF does not.
    orientation = heif_orientation(content[:HEIF_HEADER]) if format_name == "AVIF" else 1
    return Picture(format_name, width, height, content, orientation)


def heif_orientation(header: bytes) -> int:
    """Return EXIF's value for the rotation and mirroring in the header of an AVIF file."""
    turn, mirror = HEIF_TURN.search(header), HEIF_MIRROR.search(header)
    quarters = turn[1][0] & 3 if turn else 0
    return HEIF_ORIENTATIONS[quarters][mirror[1][0] & 1 if mirror else 2]
