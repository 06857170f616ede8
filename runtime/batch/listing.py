"""The inputs of a run: folders, globs, lists, pictures, videos and Parquet files, as a stream."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from feredge.runtime.batch.pictures import IMAGE
from feredge.runtime.batch.plan import Input
from feredge.runtime.batch.storage import Place, open_place
from feredge.runtime.batch.tasks import PICTURES, ROWS, VIDEO
from feredge.runtime.batch.video import SUFFIXES as VIDEO_SUFFIXES
from feredge.runtime.errors import SourceError, require
from feredge.runtime.sources.names import mask_passwords
from feredge.runtime.sources.pictures import SUFFIXES as PICTURE_SUFFIXES
from feredge.runtime.sources.pictures import has_picture_content

LIST, PARQUET, PATH = ".txt", ".parquet", "path"
GLOB = re.compile(r"[*?\[]")


def list_inputs(sources: Sequence[str]) -> Iterator[Input]:
    """Yield kind and name of every input.

    Raises:
        SourceError: a source is missing, or contains nothing that can be read.
    """
    for source in sources:
        found = False
        for entry in list_source(source):
            found = True
            yield entry
        if not found:
            raise SourceError(f"{mask_passwords(source)} contains no pictures, videos or rows")


def list_source(source: str) -> Iterator[Input]:
    """Yield the inputs of one source."""
    place = open_place(source)
    kinds = require("pyarrow.fs", "batch").FileType
    kind = place.fs.get_file_info(place.path).type
    if kind == kinds.Directory:
        yield from list_folder(place)
    elif kind == kinds.File:
        yield from list_file(place, place.path)
    elif GLOB.search(place.path):
        for path in match(place):
            yield from list_file(place, path)
    else:
        raise SourceError(f"source {mask_passwords(source)} does not exist")


def list_folder(place: Place) -> Iterator[Input]:
    """Yield the pictures and videos below a folder; hidden files and folders are skipped.

    A local file without a known suffix is a picture if its content is one, as for `fer-run`.
    """
    for path in walk_local(place.path) if place.is_local else walk(place):
        suffix = PurePosixPath(path).suffix.lower()
        if suffix in PICTURE_SUFFIXES | VIDEO_SUFFIXES or (
                place.is_local and has_picture_content(Path(path))):
            yield kind_of(path), place.name_of(path)


def is_hidden(path: str) -> bool:
    """Whether the name of a file or folder starts with a dot."""
    return path.rpartition("/")[2].startswith(".")


def walk(place: Place) -> Iterator[str]:
    """Yield the paths of all files below a folder, one folder at a time, sorted."""
    fs = require("pyarrow.fs", "batch")
    folders = [place.path]
    while folders:
        listed = place.fs.get_file_info(fs.FileSelector(folders.pop(), allow_not_found=True))
        found = sorted((info for info in listed if not is_hidden(info.path)),
                       key=lambda info: info.path)
        folders += [info.path for info in reversed(found) if info.type == fs.FileType.Directory]
        yield from (info.path for info in found if info.type == fs.FileType.File)


def walk_local(folder: str) -> Iterator[str]:
    """Yield the paths of all files below a local folder, sorted within each folder."""
    for current, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield from (f"{current}/{name}" for name in sorted(names) if not is_hidden(name))


def match(place: Place) -> Iterator[str]:
    """Yield the paths that match a glob; on remote file systems `*` also matches `/`."""
    if place.is_local:
        paths = glob.iglob(place.path, recursive=True)
        yield from (path for path in paths if os.path.isfile(path))
        return
    base = GLOB.split(place.path)[0].rpartition("/")[0]
    for path in walk(Place(place.fs, base, place.scheme, place.host)):
        if fnmatch.fnmatchcase(path, place.path):
            yield path


def list_file(place: Place, path: str) -> Iterator[Input]:
    """Yield a picture or a video, or what a list or a Parquet file contains."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == LIST:
        yield from list_lines(place, path)
    elif suffix == PARQUET:
        yield from list_parquet(place, path)
    else:
        yield kind_of(path), place.name_of(path)


def list_lines(place: Place, path: str) -> Iterator[Input]:
    """Yield the names in a list, one per line."""
    with place.fs.open_input_stream(path) as stream:
        lines = require("io").TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape")
        names = (line.rstrip("\r\n") for line in lines)
        yield from (input_of(name) for name in names if name.strip())


def list_parquet(place: Place, path: str) -> Iterator[Input]:
    """Yield the rows of an `image` column, or the names in a `path` column.

    Raises:
        SourceError: it is damaged, or has neither.
    """
    name = place.name_of(path)
    with place.fs.open_input_file(path) as stream:
        try:
            file = require("pyarrow.parquet", "batch").ParquetFile(stream)
        except require("pyarrow", "batch").ArrowException as error:
            raise SourceError(f"{name} is damaged or no Parquet file: {error}") from error
        columns = file.schema_arrow.names
        if IMAGE in columns:
            yield from ((ROWS, f"{name}#{row}") for row in range(file.metadata.num_rows))
        elif PATH in columns:
            yield from (input_of(str(path)) for path in column_values(file, PATH) if path)
        else:
            raise SourceError(f"{name} has columns {', '.join(columns)}; expected {IMAGE} (bytes) "
                              f"or {PATH}")


def column_values(file: Any, column: str) -> Iterator[Any]:
    """Yield the values of a column, a part of the file at a time."""
    for batch in file.iter_batches(columns=[column]):
        yield from batch.column(0).to_pylist()


def input_of(name: str) -> Input:
    """Return the input of a path, relative to the current directory, or of a URI."""
    return kind_of(name), name if "://" in name else os.path.abspath(name)


def kind_of(name: str) -> str:
    """Return the kind of chunk that an input belongs to, by its suffix."""
    return VIDEO if PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES else PICTURES
