"""What a picture's header says, and how to read numbers from untrusted bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from feredge.runtime.errors import SourceError

TRUNCATED = "is truncated: copy it again"
DAMAGED = "is damaged"


@dataclass(frozen=True)
class Picture:
    """A picture that is not decoded yet.

    Attributes:
        format: as messages call it.
        width: pixels, before `orientation` is applied.
        height: pixels, before `orientation` is applied.
        content: what the decoder gets: the first picture only, without metadata.
        orientation: EXIF's value, 1 to 8.
        is_plain: a common form whose decoder is well tested; others are decoded in a process of
            their own.
        is_reducible: the decoder can scale it down without holding all of it in memory.
    """

    format: str
    width: int
    height: int
    content: bytes
    orientation: int = 1
    is_plain: bool = False
    is_reducible: bool = False

    def __post_init__(self) -> None:
        """Check the size.

        Raises:
            SourceError: there are no pixels.
        """
        if self.width < 1 or self.height < 1:
            raise SourceError(f"{DAMAGED}: it is {self.width}x{self.height} pixels large")


def read_number(
    content: bytes, at: int, size: int, order: Literal["big", "little"] = "big",
    signed: bool = False,
) -> int:
    """Return the integer of `size` bytes at a position.

    Raises:
        SourceError: the content ends before.
    """
    if at < 0 or at + size > len(content):
        raise SourceError(TRUNCATED)
    return int.from_bytes(content[at : at + size], order, signed=signed)


def picture_format(start: bytes) -> str | None:
    """Return the format of a picture from its first 32 bytes, None if it is no picture."""
    for format_name, prefixes in PREFIXES.items():
        if start.startswith(prefixes):
            return format_name
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    if start[:1] == b"P" and start[1:2] in b"1234567" and start[2:3] in b" \t\r\n#":
        return "PNM"
    if start[:2] == b"BM" and start[6:10] == bytes(4) and len(start) >= 26:
        return "BMP"
    if start[4:8] == b"ftyp":
        is_avif = start[8:12] in (b"mif1", b"msf1") and b"avif" in start[16:]
        return "AVIF" if is_avif else BRANDS.get(start[8:12])
    return None


PREFIXES: dict[str, bytes | tuple[bytes, ...]] = {
    "JPEG": b"\xff\xd8\xff",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    "JPEG XL": (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
}
BRANDS = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC")
