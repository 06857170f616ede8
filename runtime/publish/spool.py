"""A bounded queue of messages in SQLite that survives outages and, in a file, the process."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

from feredge.runtime.errors import OutputError
from feredge.runtime.publish.base import Message

# A commit is in the write-ahead log before `append` returns, so that a killed process loses
# nothing; only a power cut can lose the newest ones. Exclusive: two processes would send everything
# twice.
PRAGMAS = ("PRAGMA locking_mode=EXCLUSIVE", "PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL")
TABLE = ("CREATE TABLE IF NOT EXISTS messages "
         "(id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload BLOB NOT NULL)")


class Spool:
    """Messages that the broker has not confirmed yet, oldest first; any thread may use it.

    Args:
        path: the file; None keeps the messages in memory.
        most_bytes: bound on topics and payloads together; the oldest messages are dropped.

    Attributes:
        dropped: messages that were dropped because the spool or the disk was full.

    Raises:
        OutputError: the file cannot be opened, is another kind of file, or is in use.
    """

    def __init__(self, path: Path | None, most_bytes: int) -> None:
        self.path, self.most_bytes, self.dropped = path, most_bytes, 0
        self._lock = threading.Lock()
        self._confirmed: list[int] = []  # not removed yet: a full disk refuses that, too
        try:
            self._database = sqlite3.connect(
                ":memory:" if path is None else path, timeout=0.5, isolation_level=None,
                check_same_thread=False)
            for statement in (*PRAGMAS, TABLE):
                self._database.execute(statement)
            self._bytes = self._stored_bytes()
        except sqlite3.Error as error:
            raise OutputError(f"spool {path} cannot be used: {error}; another process may use it, "
                              "or it is another kind of file: pass another path") from error

    def _stored_bytes(self) -> int:
        query = "SELECT COALESCE(SUM(LENGTH(topic) + LENGTH(payload)), 0) FROM messages"
        return int(self._database.execute(query).fetchone()[0])

    def append(self, message: Message) -> None:
        """Add a message; where the disk is full it is dropped and counted."""
        with self._lock:
            try:
                self._database.execute("INSERT INTO messages (topic, payload) VALUES (?, ?)",
                                       (message.topic, message.payload))
                self._bytes += size_bytes(message.topic, message.payload)
                self._drop_oldest()
            except sqlite3.Error:
                self.dropped += 1

    def _drop_oldest(self) -> None:
        while self._bytes > self.most_bytes:
            row = self._database.execute(
                "SELECT id, topic, payload FROM messages ORDER BY id LIMIT 1").fetchone()
            if row is None:
                break
            self._delete(*row)
            self.dropped += 1

    def _delete(self, key: int, topic: str, payload: bytes) -> None:
        self._database.execute("DELETE FROM messages WHERE id = ?", (key,))
        self._bytes -= size_bytes(topic, payload)

    def pending_messages(self, after: int, count: int) -> list[tuple[int, Message]]:
        """Return the oldest messages with a key above `after`, at most `count`, with their keys."""
        with self._lock:
            rows = self._database.execute(
                "SELECT id, topic, payload FROM messages WHERE id > ? ORDER BY id LIMIT ?",
                (after, count)).fetchall()
        return [(key, Message(topic, payload)) for key, topic, payload in rows]

    def confirm(self, keys: list[int]) -> None:
        """Remove messages that the broker has confirmed; on a full disk, with a later call."""
        with self._lock, suppress(sqlite3.Error):
            self._confirmed += keys
            while self._confirmed:
                row = self._database.execute("SELECT id, topic, payload FROM messages WHERE id = ?",
                                             (self._confirmed[0],)).fetchone()
                if row is not None:  # dropped meanwhile
                    self._delete(*row)
                del self._confirmed[0]

    def __len__(self) -> int:
        """Return the number of messages."""
        with self._lock:
            return int(self._database.execute("SELECT COUNT(*) FROM messages").fetchone()[0])

    def close(self) -> None:
        """Close the file; its messages are sent by the next run that uses it."""
        with self._lock:
            self._database.close()


def size_bytes(topic: str, payload: bytes) -> int:
    """Return how much of the bound a message takes."""
    return len(topic) + len(payload)
