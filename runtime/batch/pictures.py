"""Pictures of a task: local files, remote files read ahead, and rows of Parquet files."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from feredge.runtime.batch.storage import FileSystems
from feredge.runtime.batch.tasks import ROWS
from feredge.runtime.errors import SourceError, require
from feredge.runtime.results import Array
from feredge.runtime.sources.decode.read import decode_picture, read_picture

IMAGE = "image"  # the column of a Parquet file that contains pictures
AHEAD = 8  # remote files in flight per worker: a request takes longer than a picture
TRIES = 3  # of a remote file, before it is an error
BATCH_ROWS = 16  # decoded pictures of a Parquet file in memory


class PictureReader:
    """Reads the pictures of a task, in order.

    Args:
        files: opens remote names.
        kind: `pictures`, or `rows` of Parquet files.
        units: names of pictures, or `FILE#ROW`.
        ahead: read remote files before they are asked for.
    """

    def __init__(
        self, files: FileSystems, kind: str, units: tuple[str, ...], ahead: bool = True
    ) -> None:
        self.files, self.kind, self.units = files, kind, units
        self.rows = RowReader(files)
        self.threads = ThreadPoolExecutor(AHEAD) if ahead else None
        self.pending: deque[tuple[int, Future[bytes]]] = deque()
        self.submitted = 0

    def __enter__(self) -> PictureReader:
        """Return the reader."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading ahead."""
        if self.threads is not None:
            self.threads.shutdown(cancel_futures=True)

    def read(self, k: int) -> Array:
        """Read a picture as `(h, w, 3)` uint8 BGR.

        Raises:
            SourceError: it cannot be read.
        """
        unit = self.units[k]
        if self.kind == ROWS:
            return decode_picture(unit, self.rows.read(unit))
        if "://" not in unit:
            return read_picture(Path(unit))
        return decode_picture(unit, self.content(k))

    def content(self, k: int) -> bytes:
        """Return a remote file, and keep the next ones in flight."""
        if self.threads is None:
            return read_remote(self.files, self.units[k])
        self.submitted = max(self.submitted, k)
        while self.submitted < min(k + AHEAD, len(self.units)):
            name = self.units[self.submitted]
            future = self.threads.submit(read_remote, self.files, name)
            self.pending.append((self.submitted, future))
            self.submitted += 1
        while self.pending[0][0] < k:  # units that were skipped
            self.pending.popleft()
        return self.pending.popleft()[1].result()


def read_remote(files: FileSystems, name: str) -> bytes:
    """Read a remote file; failed requests are repeated.

    Raises:
        SourceError: all tries failed.
    """
    for _ in range(TRIES - 1):
        try:
            return files.read(name)
        except SourceError:
            continue
    return files.read(name)


class RowReader:
    """Reads the `image` column of Parquet files, in order of its rows."""

    def __init__(self, files: FileSystems) -> None:
        self.files = files
        self.name, self.start, self.batch = "", 0, []  # type: str, int, list[Any]
        self.batches: Any = iter(())

    def read(self, unit: str) -> bytes:
        """Return the content of a picture, from `FILE#ROW`.

        Raises:
            SourceError: the file or the row cannot be read.
        """
        name, _, row = unit.rpartition("#")
        try:
            value = self.value(name, int(row))
        except (OSError, StopIteration, require("pyarrow", "batch").ArrowException) as error:
            raise SourceError(f"{unit} cannot be read: {error}") from error
        content = value.get("bytes") if isinstance(value, dict) else value
        if not content:
            raise SourceError(f"{unit} is empty")
        return bytes(content)

    def value(self, name: str, row: int) -> Any:
        """Return the value of a row; rows that come in order are decoded once."""
        if name != self.name or row < self.start:
            self.open(name, row)
        while row >= self.start + len(self.batch):
            self.start += len(self.batch)
            self.batch = next(self.batches).column(0).to_pylist()
        return self.batch[row - self.start]

    def open(self, name: str, row: int) -> None:
        """Open a file at the row group that contains a row."""
        file = require("pyarrow.parquet", "batch").ParquetFile(self.files.open(name))
        group, first = 0, 0
        sizes = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
        while group < len(sizes) and row >= first + sizes[group]:
            first += sizes[group]
            group += 1
        self.name, self.start, self.batch = name, first, []
        self.batches = file.iter_batches(
            BATCH_ROWS, row_groups=range(group, len(sizes)), columns=[IMAGE])
