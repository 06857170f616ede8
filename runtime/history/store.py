"""The SQLite file of the history: its tables, its age limit, and a disk that is full."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from feredge.runtime.errors import OutputError

WINDOW_S = 10
DAY_S = 86_400
APPLICATION_ID = 0x66657265  # "fere", which identifies the file
VERSION = 1
TABLES = """
CREATE TABLE sources (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL);
CREATE TABLE runs (id INTEGER PRIMARY KEY, started INTEGER NOT NULL, model TEXT NOT NULL);
CREATE TABLE labels (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL);
-- One row per window of ten seconds, track and label; track 0 are faces without a track.
CREATE TABLE windows (
    start INTEGER NOT NULL, source INTEGER NOT NULL, run INTEGER NOT NULL, track INTEGER NOT NULL,
    label INTEGER NOT NULL, frames INTEGER NOT NULL, seconds REAL NOT NULL,
    confidence REAL NOT NULL,  -- mean probability of the label
    PRIMARY KEY (start, source, run, track, label)) WITHOUT ROWID;
CREATE TABLE events (
    time INTEGER NOT NULL, source INTEGER NOT NULL, run INTEGER NOT NULL, kind TEXT NOT NULL,
    track INTEGER NOT NULL);
CREATE INDEX events_by_time ON events (time);
CREATE TABLE health (
    start INTEGER NOT NULL, source INTEGER NOT NULL, run INTEGER NOT NULL, frames INTEGER NOT NULL,
    dropped INTEGER NOT NULL, age_ms REAL, temperature_c REAL,
    PRIMARY KEY (start, source, run)) WITHOUT ROWID;
CREATE TABLE stages (
    start INTEGER NOT NULL, stage TEXT NOT NULL, run INTEGER NOT NULL, frames INTEGER NOT NULL,
    mean_ms REAL NOT NULL, most_ms REAL NOT NULL,
    PRIMARY KEY (start, stage, run)) WITHOUT ROWID;
"""
# A window may be written in parts: sources of different speed leave it at different times.
MERGE = {
    "windows": """ ON CONFLICT (start, source, run, track, label) DO UPDATE SET
        confidence = (confidence * frames + excluded.confidence * excluded.frames)
            / (frames + excluded.frames),
        frames = frames + excluded.frames, seconds = seconds + excluded.seconds""",
    "health": """ ON CONFLICT (start, source, run) DO UPDATE SET
        frames = frames + excluded.frames, dropped = dropped + excluded.dropped,
        age_ms = excluded.age_ms, temperature_c = excluded.temperature_c""",
    "stages": """ ON CONFLICT (start, stage, run) DO UPDATE SET
        mean_ms = (mean_ms * frames + excluded.mean_ms * excluded.frames)
            / (frames + excluded.frames),
        frames = frames + excluded.frames, most_ms = MAX(most_ms, excluded.most_ms)""",
}
DATED = {"windows": "start", "events": "time", "health": "start", "stages": "start"}

Row = tuple[object, ...]

logger = logging.getLogger(__name__)


def open_database(path: Path) -> sqlite3.Connection:
    """Open a history file, or create it where there is none.

    Raises:
        OutputError: it cannot be opened, or is another kind of file.
    """
    try:
        database = sqlite3.connect(path, timeout=2, isolation_level=None, check_same_thread=False)
        (tables,) = database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        if not tables:
            create_tables(database)
        (kind,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        raise OutputError(f"history {path} cannot be used: {error}") from error
    if kind != APPLICATION_ID:
        raise OutputError(f"history {path} is another program's database: pass another path")
    if version != VERSION:
        raise OutputError(f"history {path} has format {version}, this version reads {VERSION}: "
                          "pass another path")
    return database


def create_tables(database: sqlite3.Connection) -> None:
    """Create the tables. The write-ahead log lets a report read while a run writes."""
    for pragma in ("auto_vacuum = INCREMENTAL", "journal_mode = WAL", "synchronous = NORMAL",
                   f"application_id = {APPLICATION_ID}", f"user_version = {VERSION}"):
        database.execute(f"PRAGMA {pragma}")
    database.executescript(TABLES)


class HistoryStore:
    """Writes windows to a history file; what cannot be written is counted, never raised.

    Attributes:
        lost: transactions that were given up because the disk was full.

    Raises:
        OutputError: the file cannot be used.
    """

    def __init__(self, path: Path, days: int) -> None:
        self.path, self.days, self.lost, self._reason = path, days, 0, ""
        self._database = open_database(path)

    def identify(self, table: str, name: str) -> int:
        """Return the number of a source or label, which is added if it is new.

        Args:
            table: `sources` or `labels`.
            name: its name.
        """
        name = name.encode(errors="backslashreplace").decode()  # SQLite's text is UTF-8
        with self._errors():
            self._database.execute(f"INSERT OR IGNORE INTO {table} (name) VALUES (?)", (name,))
            query = f"SELECT id FROM {table} WHERE name = ?"
            return int(self._database.execute(query, (name,)).fetchone()[0])

    def add_run(self, started: int, model: str) -> int:
        """Add a run and return its number: tracks count from 1 in each run."""
        with self._errors():
            cursor = self._database.execute("INSERT INTO runs (started, model) VALUES (?, ?)",
                                            (started, model))
            return int(cursor.lastrowid or 0)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn an error of SQLite into one of the output."""
        try:
            yield
        except sqlite3.Error as error:
            raise OutputError(f"history {self.path} cannot be written: {error}") from error

    def add(self, rows: Mapping[str, Sequence[Row]], now: int) -> None:
        """Write rows in one transaction.

        On a full disk the oldest days are deleted until it succeeds; if nothing older is left, the
        rows are given up.

        Args:
            rows: by table, in the order of its columns.
            now: Unix time in seconds, for the age limit.
        """
        self._attempt(lambda: self._delete_before(now - self.days * DAY_S))
        while not self._attempt(lambda: self._insert(rows)):
            oldest = self._oldest_day()
            is_full = "full" in self._reason  # not locked, read-only or damaged
            if not is_full or oldest is None or oldest >= now // DAY_S:
                self._give_up()
                return
            logger.warning("history %s: the disk is full, its oldest day is deleted", self.path)
            if not self._attempt(partial(self._delete_before, (oldest + 1) * DAY_S)):
                self._give_up()
                return

    def _attempt(self, work: Callable[[], None]) -> bool:
        """Do work in one transaction; False if the database refuses it."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            work()
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            self._reason = str(error)
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            return False
        return True

    def _insert(self, rows: Mapping[str, Sequence[Row]]) -> None:
        for table, values in rows.items():
            if values:
                places = ", ".join("?" * len(values[0]))
                self._database.executemany(
                    f"INSERT INTO {table} VALUES ({places}){MERGE.get(table, '')}", values)

    def _delete_before(self, time: int) -> None:
        for table, column in DATED.items():
            self._database.execute(f"DELETE FROM {table} WHERE {column} < ?", (time,))
        self._database.execute("PRAGMA incremental_vacuum")

    def _oldest_day(self) -> int | None:
        (start,) = self._database.execute("SELECT MIN(start) FROM windows").fetchone()
        return None if start is None else int(start) // DAY_S

    def _give_up(self) -> None:
        if not self.lost:
            reason = "the disk is full" if "full" in self._reason else self._reason
            logger.warning("history %s cannot be written: %s", self.path, reason)
        self.lost += 1

    def close(self) -> None:
        """Close the file."""
        self._database.close()
