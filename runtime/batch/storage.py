"""Files on local disks and remote file systems: one name, one way to read and to write."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from feredge.runtime.errors import OutputError, SourceError, UsageError, require
from feredge.runtime.files import atomic_write, make_folder

WORK = "_work"  # temporary files and journals; readers of the output skip folders with a _
# A file appears on these once its upload is complete, so that it needs no temporary name.
OBJECT_STORES = ("s3", "gs", "gcs", "abfs", "abfss", "az")
ROOTED = ("hdfs", "viewfs")  # their paths do not contain the host


@dataclass(frozen=True)
class Place:
    """A path on a file system, as pyarrow names it; `scheme` and `host` are empty if local."""

    fs: Any
    path: str
    scheme: str = ""
    host: str = ""

    @property
    def is_local(self) -> bool:
        """Whether the operating system can open the path."""
        return not self.scheme

    def name_of(self, path: str) -> str:
        """Return the public name of a path on this file system: no password, no query."""
        if self.is_local:
            return path
        if self.scheme in ROOTED:
            return f"{self.scheme}://{self.host}{path}"
        return f"{self.scheme}://{path.lstrip('/')}"


def open_place(where: str) -> Place:
    """Resolve a local path, a URI that pyarrow opens, or else one that fsspec opens.

    Raises:
        UsageError: no installed package opens it.
    """
    fs = require("pyarrow.fs", "batch")
    if "://" not in where:
        return Place(fs.LocalFileSystem(), os.path.abspath(where))
    parts = urlsplit(where)
    try:
        opened, path = fs.FileSystem.from_uri(quote_uri(where))
    except require("pyarrow", "batch").ArrowInvalid as error:
        return open_fsspec(where, parts.scheme, error)
    if opened.type_name == "local":
        return Place(opened, path)
    return Place(opened, path.rstrip("/"), parts.scheme, parts.netloc.rpartition("@")[2])


def quote_uri(where: str) -> str:
    """Return a URI whose path is written as it is named: with spaces, percent signs or globs."""
    address, mark, query = where.rpartition("?")
    if not mark or "=" not in query:  # a glob
        address, mark, query = where, "", ""
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}{slash}{quote(path)}{mark}{query}"


def open_fsspec(where: str, scheme: str, reason: Exception) -> Place:
    """Resolve a URI with fsspec.

    Raises:
        UsageError: fsspec cannot open it either.
    """
    fs, url_to_fs = require("pyarrow.fs", "batch"), require("fsspec.core", "batch").url_to_fs
    try:
        opened, path = url_to_fs(where)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{scheme}:// cannot be opened: {reason}; {error}") from error
    return Place(fs.PyFileSystem(fs.FSSpecHandler(opened)), path.rstrip("/"), scheme)


class FileSystems:
    """The file systems of all sources: finds the one that contains a name.

    Args:
        roots: the sources; their credentials and endpoints apply to every name on the same host.
    """

    def __init__(self, roots: Sequence[str]) -> None:
        self.known: dict[tuple[str, str], Place] = {}
        for root in roots:
            if "://" in root:
                place = open_place(root)
                host = place.name_of(place.path).split("://")[1].partition("/")[0]
                self.known.setdefault((place.scheme, host), place)

    def find(self, name: str) -> tuple[Any, str]:
        """Return the file system of a name, and its path there."""
        if "://" not in name:
            return require("pyarrow.fs", "batch").LocalFileSystem(), name
        scheme, _, rest = name.partition("://")
        host = rest.partition("/")[0]
        if (scheme, host) not in self.known:
            self.known[scheme, host] = open_place(f"{scheme}://{host}")
        place = self.known[scheme, host]
        if scheme in ROOTED:
            return place.fs, "/" + rest.partition("/")[2]
        handler = getattr(place.fs, "handler", None)
        return place.fs, rest if handler is None else handler.fs._strip_protocol(name)

    def read(self, name: str) -> bytes:
        """Read a whole file.

        Raises:
            SourceError: it cannot be read.
        """
        try:
            with self.open(name) as stream:
                return bytes(stream.read())
        except OSError as error:
            raise SourceError(f"{name} cannot be read: {first_line(error)}") from error

    def open(self, name: str) -> Any:
        """Open a file for reading and seeking."""
        fs, path = self.find(name)
        return fs.open_input_file(path)


class OutputFolder:
    """The folder of a run's output: files appear complete under their name, or not at all.

    Raises:
        OutputError: it cannot be created.
    """

    def __init__(self, where: str) -> None:
        self.place = open_place(where)
        if self.place.is_local:
            make_folder(Path(self.place.path) / WORK)
        self.name = self.place.name_of(self.place.path)

    def path(self, name: str) -> str:
        """Return the path of a file on the folder's file system."""
        return f"{self.place.path}/{name}"

    def names(self, folder: str = "") -> list[str]:
        """Return the names of the files in a subfolder, sorted; none if it is missing."""
        fs = require("pyarrow.fs", "batch")
        path = self.path(folder).rstrip("/")
        found = self.place.fs.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == fs.FileType.File)

    def open(self, name: str) -> Any:
        """Open a file for reading and seeking."""
        return self.place.fs.open_input_file(self.path(name))

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if it is missing."""
        try:
            with self.open(name) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write a file atomically.

        Raises:
            OutputError: it cannot be written; nothing of it appears.
        """
        try:
            if self.place.is_local:
                self.write_local(name, lambda temporary: temporary.write_bytes(content))
            else:
                self.upload(name, content)
        except OSError as error:
            reason = first_line(error)
            raise OutputError(f"{self.name}/{name} cannot be written: {reason}") from error

    def write_local(self, name: str, fill: Any) -> None:
        """Fill a file in the work folder, then move it to its name.

        Readers that match `*.parquet` (DuckDB) also see temporary files beside the others.
        """
        work, target = Path(self.path(WORK)), Path(self.path(name))
        finished = work / f"{secrets.token_hex(8)}-{target.name}"
        with atomic_write(finished) as temporary:
            fill(temporary)
        target.parent.mkdir(exist_ok=True)
        os.replace(finished, target)

    def upload(self, name: str, content: bytes) -> None:
        """Write a file on a remote file system: one request, or a temporary name and a move."""
        path, fs = self.path(name), self.place.fs
        direct = self.place.scheme in OBJECT_STORES
        if not direct:
            fs.create_dir(path.rpartition("/")[0])
            fs.create_dir(self.path(WORK))
        first = path if direct else self.path(f"{WORK}/{secrets.token_hex(8)}")
        with fs.open_output_stream(first) as stream:
            stream.write(content)
        if not direct:
            fs.move(first, path)

    def write_file(self, name: str, local: Path) -> None:
        """Write a file atomically with the content of a local one, which may be large.

        Raises:
            OutputError: it cannot be written; nothing of it appears.
        """
        fs = require("pyarrow.fs", "batch")
        try:
            if self.place.is_local:
                self.write_local(name, lambda temporary: os.replace(local, temporary))
            else:
                fs.copy_files(str(local), self.path(name), destination_filesystem=self.place.fs)
        except OSError as error:
            reason = first_line(error)
            raise OutputError(f"{self.name}/{name} cannot be written: {reason}") from error

    def delete(self, name: str) -> None:
        """Delete a file; a missing one is ignored."""
        try:
            self.place.fs.delete_file(self.path(name))
        except FileNotFoundError:
            pass

    def temporary_folder(self) -> tempfile.TemporaryDirectory[str]:
        """Return a folder for a large file before it is written: in the output if that is local."""
        where = self.path(WORK) if self.place.is_local else None
        return tempfile.TemporaryDirectory(dir=where, ignore_cleanup_errors=True)


def first_line(error: BaseException) -> str:
    """Return an error as one line."""
    strerror = getattr(error, "strerror", None)
    return str(strerror or (str(error).splitlines() or [type(error).__name__])[0])
