"""PNG: size, orientation, completeness, and the content without animation and metadata."""

from __future__ import annotations

from collections.abc import Iterator

from feredge.runtime.errors import SourceError
from feredge.runtime.sources.decode.header import DAMAGED, TRUNCATED, Picture, read_number
from feredge.runtime.sources.decode.orientation import exif_orientation, xmp_orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# OpenCV 5.0 writes past its buffer for some animations, whose chunks are acTL, fcTL and fdAT.
KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
XMP_KEYWORD = b"XML:com.adobe.xmp\0"


def parse_png(content: bytes) -> Picture:
    """Read the header of a PNG.

    Raises:
        SourceError: it is damaged or truncated.
    """
    kept, orientation, kinds = [SIGNATURE], 1, []
    for kind, chunk in chunks(content):
        if kind in KEPT:
            kept.append(chunk)
            kinds.append(kind)
        elif kind == b"eXIf":
            orientation = exif_orientation(chunk[8:-4])
        elif kind == b"iTXt" and chunk[8:].startswith(XMP_KEYWORD) and orientation == 1:
            orientation = xmp_orientation(chunk[8:-4])
    if kinds[0] != b"IHDR" or kinds.count(b"IHDR") > 1 or b"IDAT" not in kinds:
        raise SourceError(f"{DAMAGED}: its chunks are {b' '.join(kinds[:4]).decode()}")
    header = kept[1]
    if len(header) != 25:
        raise SourceError(f"{DAMAGED}: its header has {len(header) - 12} bytes, expected 13")
    return Picture("PNG", read_number(header, 8, 4), read_number(header, 12, 4), b"".join(kept),
                   orientation, is_plain=True)


def chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type of each chunk and the whole chunk, up to IEND.

    Raises:
        SourceError: the content ends before.
    """
    at, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        size = read_number(content, at, 4) + 12
        kind = content[at + 4 : at + 8]
        if at + size > len(content):
            raise SourceError(TRUNCATED)
        yield kind, content[at : at + size]
        at += size
