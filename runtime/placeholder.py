"""Files that are not what their name says: a Git LFS pointer, or a web page."""

from __future__ import annotations

from pathlib import Path

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
HTML_STARTS = (b"<!doctype html", b"<html", b"<head", b"<?xml")


HEAD_BYTES = 64


def file_placeholder_hint(path: Path) -> str | None:
    """Return what a file is instead of its content; see `placeholder_hint`."""
    try:
        with path.open("rb") as file:
            return placeholder_hint(file.read(HEAD_BYTES))
    except OSError:
        return None


def placeholder_hint(start: bytes) -> str | None:
    """Return what a file is instead of its content, and what to do; None if it is neither.

    Args:
        start: the first 64 bytes of the file, or more.
    """
    if start.startswith(LFS_POINTER):
        return "is a Git LFS pointer, not the file itself: run git lfs pull"
    if start[:HEAD_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(HTML_STARTS):
        return "is a web page, not the file itself: download it again"
    return None
