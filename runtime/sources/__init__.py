"""Sources of frames: pictures, folders, videos, streams and cameras."""

from __future__ import annotations

from collections.abc import Sequence

from feredge.runtime.sources.base import Health, Source, SourceOptions, frames_of

__all__ = ["Health", "Source", "SourceOptions", "frames_of", "open_source", "open_sources"]


def open_source(where: str | int, options: SourceOptions | None = None) -> Source:
    """Open a picture, a folder of pictures, a video file, a URL, `csi:N`, `gst:PIPELINE`, a camera.

    Args:
        where: what to open; an integer is the index of a camera.
        options: None: the defaults.

    Raises:
        SourceError: it is missing, empty, or neither a picture nor a video.
    """
    from feredge.runtime.sources.open import open_one

    return open_one(where, options or SourceOptions())


def open_sources(wheres: Sequence[str | int], options: SourceOptions | None = None) -> Source:
    """Open one source, or several videos, streams and cameras as one.

    Args:
        wheres: see `open_source`.
        options: None: the defaults.

    Raises:
        UsageError: there is none, one is given twice, or one of several is pictures.
        SourceError: one cannot be opened.
    """
    from feredge.runtime.sources.open import open_all

    return open_all(wheres, options or SourceOptions())
