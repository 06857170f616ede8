import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feredge.runtime.errors import OutputError
from feredge.runtime.publish.base import Message
from feredge.runtime.publish.spool import Spool, size_bytes


def message(number, size=10):
    return Message("t", str(number).encode().ljust(size))


def numbers(spool):
    return [int(kept.payload) for _, kept in spool.pending_messages(0, 1000)]


def test_messages_come_in_order_until_they_are_confirmed(tmp_path):
    spool = Spool(tmp_path / "s.db", 10_000)
    for number in range(5):
        spool.append(message(number))
    (first, _), (second, _) = spool.pending_messages(0, 2)
    assert numbers(spool) == [0, 1, 2, 3, 4]
    spool.confirm([first])
    assert numbers(spool) == [1, 2, 3, 4]
    assert [int(kept.payload) for _, kept in spool.pending_messages(second, 9)] == [2, 3, 4]


def test_a_file_keeps_messages_for_the_next_run(tmp_path):
    first = Spool(tmp_path / "s.db", 10_000)
    first.append(message(7))
    first.close()
    assert numbers(Spool(tmp_path / "s.db", 10_000)) == [7]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 60), max_size=40), st.integers(30, 200))
def test_the_bound_holds_and_the_oldest_are_dropped_and_counted(sizes, most_bytes):
    spool = Spool(None, most_bytes)
    for number, size in enumerate(sizes):
        spool.append(message(number, size))
    kept = [entry for _, entry in spool.pending_messages(0, 1000)]
    assert sum(size_bytes(entry.topic, entry.payload) for entry in kept) <= most_bytes
    assert numbers(spool) == list(range(len(sizes) - len(kept), len(sizes)))
    assert spool.dropped == len(sizes) - len(kept)
    spool.close()


def test_a_second_process_cannot_use_the_same_spool(tmp_path):
    first = Spool(tmp_path / "s.db", 1000)
    with pytest.raises(OutputError, match="another process may use it"):
        Spool(tmp_path / "s.db", 1000)
    first.close()
    Spool(tmp_path / "s.db", 1000).close()


@pytest.mark.parametrize("content", [b"not a database" * 99, b"\0" * 5000], ids=["text", "zeros"])
def test_another_kind_of_file_is_refused_and_stays_as_it_is(tmp_path, content):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(OutputError, match="cannot be used"):
        Spool(path, 1000)
    assert path.read_bytes() == content


def test_a_full_disk_drops_and_counts():
    spool = Spool(None, 1000)
    spool._database.execute("PRAGMA max_page_count=3")
    for number in range(3):
        spool.append(message(number, 900_000))
    assert spool.dropped >= 3
    assert sqlite3.sqlite_version
    spool.close()


def test_what_a_full_disk_keeps_from_being_removed_is_removed_later(tmp_path):
    spool = Spool(tmp_path / "s.db", 100_000)
    for number in range(3):
        spool.append(message(number))
    keys = [key for key, _ in spool.pending_messages(0, 3)]
    database, spool._database = spool._database, sqlite3.connect(":memory:")  # refuses everything
    spool.confirm(keys[:2])
    spool._database = database
    assert numbers(spool) == [0, 1, 2]
    spool.confirm(keys[2:])
    assert numbers(spool) == []
