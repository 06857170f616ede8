import csv
import json
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from feredge.runtime.errors import OutputError
from feredge.runtime.fer_report import main
from feredge.runtime.history import HistoryOptions, HistoryRecorder
from feredge.runtime.history.queries import read_report
from feredge.runtime.history.store import DAY_S, HistoryStore
from feredge.runtime.results import Faces, Frame, FrameResult, TrackEvent

LABELS = ("neutral", "happiness", "anger")
DOOR = SimpleNamespace(name="door", is_ordered=True, parts=[SimpleNamespace(name="door")])
NOON = int(time.time()) // DAY_S * DAY_S - DAY_S + DAY_S // 2  # yesterday


def faces(tracks, label):
    count = len(tracks)
    probabilities = np.full((count, 3), 0.1, np.float32)
    probabilities[:, LABELS.index(label)] = 0.8
    found = Faces.from_detections(np.array([[0, 0, 9, 9]] * count).reshape(-1, 4),
                                  np.zeros((count, 5, 2)), np.ones(count))
    return replace(found.with_probabilities(probabilities, LABELS),
                   track_ids=np.array(tracks, np.int64))


def record(path, results, start=NOON, source=DOOR, days=10):
    recorder = HistoryRecorder(HistoryOptions(path, days), source, LABELS, "manet", lambda: start)
    for one in results:
        recorder.write(one)
    recorder.close()


def clip(seconds, tracks, label, fps=10):
    for index in range(seconds * fps):
        frame = Frame(index, np.zeros((2, 2, 3), np.uint8), "door", index / fps)
        events = [TrackEvent("enter", track) for track in tracks] if not index else []
        yield FrameResult(frame, faces=faces(tracks, label), events=events,
                          times_s={"detect": 0.004})


@pytest.fixture
def history(tmp_path):
    """Yesterday at noon: three people, half an hour neutral, then half an hour happy."""
    path = tmp_path / "history.db"
    record(path, clip(1200, [1, 2, 3], "neutral", fps=1))
    record(path, clip(600, [1], "happiness", fps=1), NOON + 1800)
    return path


def test_an_hours_shares_are_those_of_the_time_in_view(history):
    (hour,) = read_report(history, NOON - 1, 3).hours
    assert hour.people == 4 and hour.source == "door"
    neutral, happiness = 3 * 1199, 599
    assert hour.shares == pytest.approx({
        "neutral": neutral / (neutral + happiness), "happiness": happiness / (neutral + happiness),
    }, abs=1e-3)
    assert hour.confidence == pytest.approx(0.8, abs=1e-3)


def test_hours_with_few_people_are_counted_but_hidden(history):
    report = read_report(history, NOON - 1, 5)
    assert report.hours[0].people == 4 and report.hours[0].shares is None
    assert report.people == {}
    assert "shares are hidden" in capture([str(history), "--min-people", "5"])


def capture(words):
    done = subprocess.run([sys.executable, "-m", "feredge.runtime.fer_report", "--history", *words],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tracks_of_two_runs_are_two_people_and_their_time_in_view_is_told(history):
    people = read_report(history, NOON - 1, 1).people["door"]
    assert people == {"people": 4, "median_s": 1199.0, "longest_s": 1199.0}


def test_stages_and_health_are_reported(history):
    report = read_report(history, NOON - 1, 1)
    assert report.stages["detect"]["mean_ms"] == pytest.approx(4.0)
    assert sum(row["frames"] for row in report.health) == 1800
    assert report.health[0]["fps"] == pytest.approx(1.0, rel=0.05)


def test_what_is_older_than_the_period_is_left_out(history):
    assert read_report(history, NOON + 3600, 1).hours == []


def test_days_beyond_the_limit_are_deleted(tmp_path):
    path = tmp_path / "h.db"
    record(path, clip(20, [1], "anger"), NOON - 5 * DAY_S)
    record(path, clip(20, [1], "neutral"), NOON, days=3)
    (hour,) = read_report(path, 0, 1).hours
    assert set(hour.shares) == {"neutral"}


def test_a_killed_process_loses_the_last_window_alone(tmp_path):
    path = tmp_path / "h.db"
    recorder = HistoryRecorder(HistoryOptions(path), DOOR, LABELS, "manet", lambda: NOON)
    for one in clip(35, [1], "neutral"):
        recorder.write(one)
    copy = tmp_path / "copy.db"  # what is on disk at this moment, as after a kill
    for file in tmp_path.glob("h.db*"):
        (tmp_path / file.name.replace("h.db", "copy.db")).write_bytes(file.read_bytes())
    assert sum(row["frames"] for row in read_report(copy, 0, 1).health) == 300
    recorder.close()
    assert sum(row["frames"] for row in read_report(path, 0, 1).health) == 350


def test_on_a_full_disk_the_oldest_day_goes_and_the_run_goes_on(tmp_path, caplog):
    path = tmp_path / "h.db"
    for day in range(6, 0, -1):
        record(path, clip(300, list(range(1, 40)), "neutral", fps=1), NOON - day * DAY_S)
    store = HistoryStore(path, 100)
    (pages,) = store._database.execute("PRAGMA page_count").fetchone()
    store._database.execute(f"PRAGMA max_page_count={pages}")
    rows = [(NOON + k, 1, 1, track, 1, 9, 1.0, 0.5) for k in range(20) for track in range(40)]
    store.add({"windows": rows}, NOON)
    store.close()
    assert store.lost == 0 and "its oldest day is deleted" in caplog.text
    starts = [hour.hour for hour in read_report(path, 0, 1).hours]
    assert NOON // 3600 * 3600 in starts and min(starts) > NOON - 6 * DAY_S


def test_a_disk_that_stays_full_is_one_line(tmp_path, caplog):
    store = HistoryStore(tmp_path / "h.db", 100)
    store._database.execute("PRAGMA max_page_count=1")
    rows = [(NOON, 1, 1, track, 1, 9, 1.0, 0.5) for track in range(900)]
    for _ in range(3):
        store.add({"windows": rows}, NOON)
    assert store.lost == 3 and caplog.text.count("the disk is full") == 1
    store.close()


@pytest.mark.parametrize("content, message", [
    (b"no database at all" * 99, "cannot be used"), (None, "another program's database"),
], ids=["text", "sqlite"])
def test_another_kind_of_file_is_refused_and_kept(tmp_path, content, message):
    path = tmp_path / "precious"
    if content is None:
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE t (x)")
        content = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(OutputError, match=message):
        HistoryStore(path, 10)
    assert path.read_bytes() == content


def test_pictures_are_recorded_under_the_folders_name(tmp_path):
    folder = SimpleNamespace(name="album", is_ordered=False, parts=[SimpleNamespace(name="album")])
    results = [FrameResult(Frame(k, np.zeros((2, 2, 3), np.uint8), f"album/{k}.jpg"),
                           faces=faces([-1], "happiness")) for k in range(5)]
    record(tmp_path / "h.db", results, source=folder)
    (hour,) = read_report(tmp_path / "h.db", 0, 1).hours
    assert (hour.source, hour.people, hour.shares) == ("album", 5, {"happiness": 1.0})


def test_the_report_is_written_as_text_csv_json_and_page(history, tmp_path, capsys):
    period = ["--history", str(history), "--since", "3d"]
    assert main(period) == 0
    assert "neutral 86%, happiness 14%" in capsys.readouterr().out
    assert main([*period, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hours"][0]["people"] == 4
    assert main([*period, "--csv", str(tmp_path / "h.csv")]) == 0
    (row,) = csv.DictReader((tmp_path / "h.csv").open())
    assert row["source"] == "door" and float(row["neutral"]) == pytest.approx(0.857, abs=1e-3)
    assert main([*period, "--html", str(tmp_path / "h.html")]) == 0
    page = (tmp_path / "h.html").read_text()
    assert "{report}" not in page and len(page) < 20_000


def test_a_name_cannot_become_markup(tmp_path):
    evil = "</script><b>x"
    source = SimpleNamespace(name=evil, is_ordered=True, parts=[SimpleNamespace(name=evil)])
    frame = Frame(0, np.zeros((2, 2, 3), np.uint8), evil)
    results = [FrameResult(frame, faces=faces([1], "anger"))]
    record(tmp_path / "h.db", results, source=source)
    assert main(["--history", str(tmp_path / "h.db"), "--html", str(tmp_path / "h.html")]) == 0
    page = (tmp_path / "h.html").read_text()
    assert evil not in page and page.count("</script>") == 2


@pytest.mark.parametrize("words, message", [
    (["--history", "missing.db"], "fer-run --history FILE records one"),
    (["--history", "."], "does not exist"),
])
def test_a_history_that_is_not_there_is_one_line(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_an_empty_period_says_so(history, capsys):
    assert main(["--history", str(history), "--since", "1m"]) == 0
    assert "nothing was recorded" in capsys.readouterr().out
    assert Path(history).is_file()


def test_sources_of_different_speed_lose_no_part_of_a_window(tmp_path):
    names = ("slow", "fast")
    both = SimpleNamespace(name="both", is_ordered=True,
                           parts=[SimpleNamespace(name=name) for name in names])
    recorder = HistoryRecorder(HistoryOptions(tmp_path / "h.db"), both, LABELS, "m", lambda: NOON)
    for index in range(300):
        for name, fps in zip(names, (5, 25)):
            frame = Frame(index, np.zeros((2, 2, 3), np.uint8), name, index / fps)
            recorder.write(FrameResult(frame, faces=faces([1], "anger"), times_s={"detect": 0.01}))
    recorder.close()
    report = read_report(tmp_path / "h.db", 0, 1)
    assert sum(row["frames"] for row in report.health) == 600
    assert report.stages["detect"]["frames"] == 600
    assert {row["source"]: row["frames"] for row in report.health} == {"slow": 300, "fast": 300}


def test_a_locked_file_is_not_taken_for_a_full_disk(tmp_path, caplog, monkeypatch):
    record(tmp_path / "h.db", clip(20, [1], "anger"), NOON - 3 * DAY_S)
    store = HistoryStore(tmp_path / "h.db", 10)
    store._database.execute("PRAGMA busy_timeout = 1")
    with sqlite3.connect(tmp_path / "h.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        store.add({"windows": [(NOON, 1, 1, 1, 1, 9, 1.0, 0.5)]}, NOON)
        with pytest.raises(OutputError, match="cannot be written: database is locked"):
            store.identify("sources", "new")
        other.execute("ROLLBACK")
    assert store.lost == 1 and "database is locked" in caplog.text
    assert "oldest day" not in caplog.text
    store.close()


def test_a_name_that_is_not_utf8_is_recorded(tmp_path):
    store = HistoryStore(tmp_path / "h.db", 10)
    assert store.identify("sources", "caf\udce9.mp4") == 1
    store.close()
