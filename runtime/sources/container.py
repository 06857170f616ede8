"""Containers of video files: whether a file ends before its own size fields say."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

EBML, SEGMENT, UNKNOWN_SIZE = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", -1
SLACK_BYTES = 8  # some writers count a header twice
MOST_BOXES = 100_000


def is_cut_short(path: Path) -> bool:
    """Return whether an MP4, Matroska or AVI file is shorter than it says; False for others."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(12)
            file.seek(0)
            if head.startswith(EBML):
                return matroska_end(file) > size + SLACK_BYTES
            if head[:4] == b"RIFF":
                return riff_end(file, size) > size + SLACK_BYTES
            return head[4:8] in (b"ftyp", b"moov", b"mdat") and boxes_end(file, size) > size
    except OSError:
        return False


def boxes_end(file: BinaryIO, size: int) -> int:
    """Return where the last top-level box of an MP4 ends."""
    at = 0
    for _ in range(MOST_BOXES):
        file.seek(at)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        # 0: to the end of the file. No box: something was appended.
        if len(header) < 8 or length < 8 or not header[4:8].isalnum():
            return at
        at += length
        if at >= size:
            return at
    return at


def riff_end(file: BinaryIO, size: int) -> int:
    """Return where the last RIFF chunk of an AVI ends; 0 if its writer did not finish it."""
    at = 0
    while at < size:
        file.seek(at)
        header = file.read(8)
        if header[:4] != b"RIFF":
            return at
        at += 8 + int.from_bytes(header[4:8], "little")
    return at


def matroska_end(file: BinaryIO) -> int:
    """Return where the segment of a Matroska file ends; 0 if it does not say."""
    file.seek(len(EBML))
    header_size = read_size(file)
    if header_size == UNKNOWN_SIZE:
        return 0
    file.seek(header_size, 1)
    if file.read(len(SEGMENT)) != SEGMENT:
        return 0
    segment_size = read_size(file)
    return 0 if segment_size == UNKNOWN_SIZE else file.tell() + segment_size


def read_size(file: BinaryIO) -> int:
    """Read the size field of an EBML element: 1 to 8 bytes, of which the first says how many."""
    first = file.read(1)
    if not first or not first[0]:
        return UNKNOWN_SIZE
    length = 9 - first[0].bit_length()
    field = first + file.read(length - 1)
    value = int.from_bytes(field, "big") & ((1 << 7 * length) - 1)
    return UNKNOWN_SIZE if value == (1 << 7 * length) - 1 else value
