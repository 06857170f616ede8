"""Choose the kind of source that an argument names, and open it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from feredge.runtime.environment import configure_ffmpeg
from feredge.runtime.errors import SourceError, UsageError
from feredge.runtime.sources.base import Source, SourceOptions
from feredge.runtime.sources.camera import open_camera
from feredge.runtime.sources.capture import call_in_thread
from feredge.runtime.sources.gstreamer import CSI, GSTREAMER, open_gstreamer
from feredge.runtime.sources.multi import MultiSource, check_names
from feredge.runtime.sources.names import mask_passwords
from feredge.runtime.sources.pictures import Pictures
from feredge.runtime.sources.url import open_url
from feredge.runtime.sources.video import open_video
from feredge.runtime.suffixes import PICTURES


def open_one(where: str | int, options: SourceOptions) -> Source:
    """Open a single source; see `feredge.runtime.sources.open_source`."""
    if isinstance(where, int):
        return open_camera(where, options.retry_s)
    if where.startswith((GSTREAMER, CSI)):
        return open_gstreamer(where, options.retry_s)
    if "://" in where:
        return open_url(where, options.retry_s)
    return open_path(Path(where))


def open_path(path: Path) -> Source:
    """Open a picture, a folder of pictures or a video file.

    Raises:
        SourceError: it is missing, empty, or neither a picture nor a video.
    """
    if not path.exists():
        raise SourceError(f"source {path} does not exist")
    if path.is_dir() or path.suffix.lower() in PICTURES:
        return Pictures(path)
    return open_video(path)


def open_all(wheres: Sequence[str | int], options: SourceOptions) -> Source:
    """Open one or several sources; see `feredge.runtime.sources.open_sources`."""
    if not wheres:
        raise UsageError("no source was given: pass --source or --camera")
    if len(wheres) == 1:
        return open_one(wheres[0], options)
    check_names([mask_passwords(str(where)) for where in wheres])
    configure_ffmpeg()  # before there are threads that read the environment
    opening = [call_in_thread(partial(open_one, where, options)) for where in wheres]
    failed = [error for future in opening if (error := future.exception()) is not None]
    sources = [future.result() for future in opening if future.exception() is None]
    try:
        if failed:
            raise failed[0]
        return MultiSource(sources)
    except BaseException:
        for source in sources:
            source.close()
        raise
