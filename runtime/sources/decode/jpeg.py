"""JPEG: size, orientation, completeness, and the content without metadata."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from feredge.runtime.errors import SourceError
from feredge.runtime.sources.decode.header import DAMAGED, TRUNCATED, Picture, read_number
from feredge.runtime.sources.decode.orientation import (
    EXIF_PREFIX,
    exif_orientation,
    xmp_orientation,
)

SCAN, END, EXIF_OR_XMP, COMMENT = 0xDA, 0xD9, 0xE1, 0xFE
XMP_PREFIX = b"http://ns.adobe.com/xap/"
JFIF, ADOBE = 0xE0, 0xEE  # they say how the colors are coded
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
BASELINE, COMMON = (0xC0, 0xC1), (0xC0, 0xC1, 0xC2)
NEXT_SEGMENT = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")


def parse_jpeg(content: bytes) -> Picture:
    """Read the header of a JPEG.

    Raises:
        SourceError: it is damaged or truncated: OpenCV would fill the rest with gray.
    """
    kept, frame, orientation = [content[:2]], b"", 1
    for marker, start, end in segments(content):
        segment = content[start:end]
        if marker == SCAN:
            break
        if marker in FRAMES:
            frame = frame or segment
        if marker == EXIF_OR_XMP and orientation == 1:
            orientation = app1_orientation(segment[4:])
        if marker in (JFIF, ADOBE) or not (0xE0 <= marker <= 0xEF or marker == COMMENT):
            kept.append(segment)
    if not scan_ends(content, end):
        raise SourceError(TRUNCATED)
    height, width = read_number(frame, 5, 2), read_number(frame, 7, 2)
    kind, components = frame[1], read_number(frame, 9, 1)
    if kind in BASELINE and len(content) - end < fewest_bytes(width, height, frame[10:]):
        raise SourceError(f"{DAMAGED}: {len(content) - end} bytes hold no {width}x{height} pixels")
    is_plain = kind in COMMON and frame[4] == 8 and components in (1, 3)
    return Picture(
        "JPEG", width, height, b"".join([*kept, content[start:]]), orientation, is_plain,
        is_reducible=kind in BASELINE and read_number(segment, 4, 1) == components,
    )


def segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment of a JPEG up to the header of its first scan.

    Raises:
        SourceError: the content ends before a scan, or without a frame header.
    """
    at, has_frame = 2, False
    while True:
        found = NEXT_SEGMENT.search(content, at)
        if found is None:
            raise SourceError(TRUNCATED)
        marker, at = found[1][0], found.end() - 2
        if marker == END:
            raise SourceError(f"{DAMAGED}: it has no pixels")
        if marker in (0x01, 0xD8):
            at += 2
            continue
        size = read_number(content, at + 2, 2)
        end = at + 2 + size
        if size < 2 or end > len(content):
            raise SourceError(TRUNCATED if size >= 2 else DAMAGED)
        has_frame |= marker in FRAMES
        if marker == SCAN and not has_frame:
            raise SourceError(f"{DAMAGED}: it has no size")
        yield marker, at, end
        at = end
        if marker == SCAN:
            return


def scan_ends(content: bytes, at: int) -> bool:
    """Return whether the end marker follows; one inside a segment does not count."""
    rest = np.frombuffer(content, np.uint8, offset=at)
    places = np.flatnonzero(rest[:-1] == 0xFF)
    markers = rest[places + 1]
    # 0xff is followed by 0 in the data, by 0xff as fill, and by restart markers.
    is_segment = (markers != 0) & (markers != 0xFF) & ((markers < 0xD0) | (markers > 0xD7))
    end = at
    for start in (places[is_segment] + at).tolist():
        marker = content[start + 1]
        if start < end:
            continue
        if marker == END:
            return True
        if marker not in (0x01, 0xD8):
            end = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
    return False


def fewest_bytes(width: int, height: int, components: bytes) -> int:
    """Return how many bytes a baseline scan has at least: two bits for each block of 8x8.

    Args:
        width: pixels.
        height: pixels.
        components: of the frame header: id, sampling factors and table of each.
    """
    factors = [(flags >> 4, flags & 15) for flags in components[1::3]]
    if len(factors) == 1:
        factors = [(1, 1)]
    most_x, most_y = (max((pair[k] for pair in factors), default=1) or 1 for k in (0, 1))
    units = -(-width // (8 * most_x)) * -(-height // (8 * most_y))
    return units * sum(x * y for x, y in factors) // 4


def app1_orientation(segment: bytes) -> int:
    """Return the orientation of an APP1 segment without its marker and size."""
    if segment.startswith(EXIF_PREFIX):
        return exif_orientation(segment)
    return xmp_orientation(segment) if segment.startswith(XMP_PREFIX) else 1
