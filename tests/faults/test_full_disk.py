"""Every output of the commands on a disk that is really full: one line, exit code 2, no remains."""

import os
import re

import cv2
import numpy as np
import pytest

from feredge.export import fer_export
from feredge.runtime import fer_run
from feredge.runtime.history.store import HistoryStore

TINY = "tests/export/tiny_network.py"


@pytest.fixture
def sources(astronaut, write_clip, tmp_path):
    """A clip and an album of one face over noise, which no encoder makes small."""
    rng = np.random.default_rng(0)
    frame = cv2.resize(astronaut, (320, 320))
    frame[200:] = rng.integers(0, 256, frame[200:].shape, np.uint8)
    (tmp_path / "album").mkdir()
    for number in range(4):
        cv2.imwrite(str(tmp_path / "album" / f"{number}.png"), frame)
    write_clip([frame] * 40, "clip.avi")
    return tmp_path


@pytest.mark.parametrize("option, name, size_kb", [
    ("--output", "out.mp4", 16), ("--output", "out.avi", 256), ("--jsonl", "faces.jsonl", 8),
    ("--csv", "faces.csv", 4), ("--summary", "summary.json", 4)])
def test_a_full_disk_ends_a_run_with_one_line(small_disk, sources, capfd, option, name, size_kb):
    disk = small_disk(size_kb)
    if option == "--summary":
        (disk / "filler").write_bytes(bytes(size_kb * 1024))
    code = fer_run.main(["--source", str(sources / "clip.avi"), option, str(disk / name)])
    errors = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert code == 2 and len(errors) == 1
    assert re.search(f"{name} cannot be written: .*(No space left on device|0 MB are free)",
                     errors[0])
    grows = option in ("--jsonl", "--csv")  # what was written stays, as it can be followed
    assert set(os.listdir(disk)) - {"filler"} == ({name} if grows else set())


def test_the_pictures_before_the_disk_was_full_are_whole(small_disk, sources, capfd):
    folder = small_disk(640) / "annotated"
    assert fer_run.main(["--source", str(sources / "album"), "--output", str(folder)]) == 2
    assert "2.png cannot be written: No space left on device" in capfd.readouterr().err
    assert sorted(os.listdir(folder)) == ["0.png", "1.png"]
    assert all(cv2.imread(str(path)).shape == (320, 320, 3) for path in folder.iterdir())


@pytest.mark.parametrize("size_kb", [4, 16, 48])
def test_a_history_that_has_no_room_is_one_line(small_disk, sources, capfd, size_kb):
    database = small_disk(size_kb) / "history.db"
    code = fer_run.main(["--source", str(sources / "clip.avi"), "--history", str(database)])
    errors = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert code == 2 and len(errors) == 1 and "history.db cannot be used: " in errors[0]


def test_a_history_on_a_disk_that_becomes_full_is_kept_readable(small_disk, caplog):
    disk = small_disk(1024)
    store = HistoryStore(disk / "history.db", 100)
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "filler").write_bytes(bytes(free))
    rows = [(second, 1, 1, track, 1, 9, 1.0, 0.5) for second in range(100) for track in range(40)]
    store.add({"windows": rows}, 0)
    assert store.lost and caplog.text.count("the disk is full") == 1
    (disk / "filler").unlink()
    store.add({"windows": rows}, 0)
    store.close()
    reopened = HistoryStore(disk / "history.db", 100)
    (count,) = reopened._database.execute("SELECT count(*) FROM windows").fetchone()
    reopened.close()
    assert count == len(rows)


def test_a_full_disk_ends_an_export_with_one_line(small_disk, own, capfd, pytestconfig):
    own((pytestconfig.rootpath / TINY).read_text(), "tiny_network")
    disk = small_disk(24)
    words = ["--model", "tiny_network:tiny", "--random-weights", "--target", "onnx", "--output"]
    assert fer_export.main([*words, str(disk)]) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1 and "cannot be written" in errors[0]
    assert os.listdir(disk) == []
