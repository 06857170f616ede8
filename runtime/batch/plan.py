"""The plan: which inputs belong to which output file. Files under `_plan/` are only ever added.

A chunk is named by the hash of its units, and its output file by the chunk. So a run needs no other
record of what is done, and a task that runs twice writes the same file twice.
"""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from feredge.runtime.batch.storage import OutputFolder
from feredge.runtime.batch.tasks import VIDEO, Task
from feredge.runtime.errors import require

FOLDER = "_plan"
FILE_UNITS = 65_536  # units of a plan file: bounds the memory, whatever the number of inputs
LEAST_CHUNKS, LEAST_UNITS = 64, 8  # small inputs still occupy all workers, but not with nothing

Input = tuple[str, str]  # kind of chunk, unit


@dataclass
class Remaining:
    """What a run has to do."""

    chunks: int = 0
    units: int = 0


class Plan:
    """The plan of an output folder."""

    def __init__(self, output: OutputFolder) -> None:
        self.output = output

    def files(self) -> list[str]:
        """Return the names of the plan files, in order."""
        return [name for name in self.output.names(FOLDER) if name.endswith(".parquet")]

    def read(self, name: str, columns: list[str]) -> Any:
        """Return columns of a plan file as an Arrow table."""
        with self.output.open(f"{FOLDER}/{name}") as stream:
            return require("pyarrow.parquet", "batch").read_table(stream, columns=columns)

    def add(self, inputs: Iterable[Input], chunk_units: int) -> int:
        """Add the inputs that are not in the plan yet, and return their number."""
        known = self.digests()
        new = (entry for entry in inputs if is_text(entry[1]) and is_new(entry[1], known))
        first, total = len(self.files()), 0
        for number in itertools.count(first):
            entries = list(itertools.islice(new, FILE_UNITS))
            if not entries:
                return total
            self.output.write(f"{FOLDER}/{number:05}.parquet", plan_bytes(entries, chunk_units))
            total += len(entries)
        raise AssertionError("unreachable")

    def digests(self) -> set[bytes]:
        """Return the digests of all units of the plan: some 90 bytes of memory per unit."""
        return {digest(unit) for name in self.files()
                for unit in self.read(name, ["unit"])["unit"].to_pylist()}

    def remaining(self, finished: set[str]) -> Remaining:
        """Count what is not finished.

        Args:
            finished: names of the chunks whose output file exists.
        """
        remaining = Remaining()
        for name in self.files():
            for row in self.read(name, ["chunk"])["chunk"].value_counts().to_pylist():
                if row["values"] not in finished:
                    remaining.chunks += 1
                    remaining.units += row["counts"]
        return remaining

    def tasks(self, finished: set[str]) -> Iterator[Task]:
        """Yield the tasks that are not finished; one plan file is in memory at a time."""
        for name in self.files():
            table = self.read(name, ["chunk", "kind", "unit"])
            rows = zip(*(table[column].to_pylist() for column in ("chunk", "kind", "unit")))
            for (chunk, kind), group in itertools.groupby(rows, key=lambda row: row[:2]):
                if chunk not in finished:
                    yield Task(kind, chunk, tuple(row[2] for row in group))


def digest(unit: str) -> bytes:
    """Return a digest of a unit's name: 16 bytes, so that no two names are the same."""
    return blake2b(unit.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def is_text(unit: str) -> bool:
    """Return whether a name can be stored; one that cannot is skipped with a warning."""
    try:
        unit.encode()
    except UnicodeEncodeError:
        warnings.warn(f"{unit!a} is skipped: its name is not UTF-8; rename it", stacklevel=2)
        return False
    return True


def is_new(unit: str, known: set[bytes]) -> bool:
    """Tell whether a unit is not known yet, and remember it."""
    key = digest(unit)
    if key in known:
        return False
    known.add(key)
    return True


def chunks_of(entries: list[Input], chunk_units: int) -> Iterator[tuple[str, str, str]]:
    """Yield chunk, kind and unit of each input: videos alone, others in groups."""
    size = min(chunk_units, max(-(-len(entries) // LEAST_CHUNKS), LEAST_UNITS))
    for kind, group in itertools.groupby(entries, key=lambda entry: entry[0]):
        units = [unit for _, unit in group]
        step = 1 if kind == VIDEO else size
        for start in range(0, len(units), step):
            part = units[start : start + step]
            chunk = digest("\n".join([kind, *part])).hex()
            yield from ((chunk, kind, unit) for unit in part)


def plan_bytes(entries: list[Input], chunk_units: int) -> bytes:
    """Return a plan file."""
    pa, pq = require("pyarrow", "batch"), require("pyarrow.parquet", "batch")
    columns = zip(*chunks_of(entries, chunk_units))
    table = pa.table({name: pa.array(column, pa.string())
                      for name, column in zip(("chunk", "kind", "unit"), columns)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
