"""Choose the kind of source that an argument names, and open it."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from feredge.runtime.environment import configure_ffmpeg
from feredge.runtime.errors import SourceError, UsageError
from feredge.runtime.sources.base import Source, SourceOptions
from feredge.runtime.sources.camera import open_camera
from feredge.runtime.sources.capture import call_in_thread
from feredge.runtime.sources.gstreamer import PREFIXES, open_gstreamer
from feredge.runtime.sources.multi import MultiSource, check_names
from feredge.runtime.sources.names import mask_passwords
from feredge.runtime.sources.paced import PacedSource
from feredge.runtime.sources.paths import is_picture_path, open_path
from feredge.runtime.sources.pictures import Pictures
from feredge.runtime.sources.pipe import STDIN, open_stdin
from feredge.runtime.sources.url import open_url


def open_one(where: str | int, options: SourceOptions) -> Source:
    """Open a single source; see `feredge.runtime.sources.open_source`."""
    return open_at_pace(partial(open_unpaced, where, options), options)


def open_at_pace(open_source: Callable[[], Source], options: SourceOptions) -> Source:
    """Open a source; if the options say so, a recorded one plays at its own pace."""
    source = open_source()
    is_recorded = not source.is_live and source.parts == (source,)
    if not is_recorded or not (options.is_paced or options.is_loop):
        return source
    return PacedSource(source, open_source if options.is_loop else None)


def open_unpaced(where: str | int, options: SourceOptions) -> Source:
    """Open a single source that delivers its frames as fast as they are taken."""
    if isinstance(where, int):
        return open_camera(where, options.retry_s)
    if where.startswith(PREFIXES):
        return open_gstreamer(where, options.retry_s)
    if "://" in where:
        return open_url(where, options.retry_s)
    if where == STDIN:
        return open_stdin(options)
    if not where:  # Path("") is the current folder
        raise SourceError("the name of the source is empty: pass a picture, folder, video or URL")
    return open_path(Path(where), options)


def open_all(wheres: Sequence[str | int], options: SourceOptions) -> Source:
    """Open one or several sources; see `feredge.runtime.sources.open_sources`."""
    if not wheres:
        raise UsageError("no source was given: pass `source` or `camera`")
    names = [name for where in wheres for name in expand_pattern(where)]
    if len(names) == 1:
        return open_one(names[0], options)
    check_names([str(name) for name in names])
    paths = [Path(str(name)) for name in names if is_path(name)]
    if len(paths) == len(names) and all(map(is_picture_path, paths)):
        return open_at_pace(partial(Pictures, paths, options.max_pixels), options)
    return open_concurrently(names, options)


def expand_pattern(where: str | int) -> Iterator[str | int]:
    """Yield the files that match a pattern, sorted, or else the argument itself.

    Raises:
        SourceError: no file matches.
    """
    if not is_path(where) or os.path.lexists(where) or not glob.has_magic(str(where)):
        yield where
        return
    matches = sorted(glob.glob(str(where), recursive=True))
    if not matches:
        raise SourceError(f"source {where}: no file matches")
    yield from matches


def is_path(where: str | int) -> bool:
    """Return whether an argument names something in the file system."""
    return (isinstance(where, str) and "://" not in where and where != STDIN
            and not where.startswith(PREFIXES))


def open_concurrently(names: Sequence[str | int], options: SourceOptions) -> MultiSource:
    """Open videos, streams and cameras, each in a thread of its own.

    Raises:
        UsageError: one is a picture.
        SourceError: one cannot be opened.
    """
    configure_ffmpeg()  # before there are threads that read the environment
    opening = [call_in_thread(partial(open_one, name, options)) for name in names]
    failed = [error for future in opening if (error := future.exception()) is not None]
    sources = [future.result() for future in opening if future.exception() is None]
    try:
        if failed:
            raise failed[0]
        number_names(names, sources)
        return MultiSource(sources)
    except BaseException:
        for source in sources:
            source.close()
        raise


def number_names(wheres: Sequence[str | int], sources: Sequence[Source]) -> None:
    """Number the names of sources that differ in passwords and tokens alone."""
    counts: Counter[str] = Counter()
    for where, source in zip(wheres, sources):
        if mask_passwords(str(where)) != str(where):
            counts[source.name] += 1
            if counts[source.name] > 1:
                source.name += f" #{counts[source.name]}"
