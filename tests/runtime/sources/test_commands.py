"""fer-run on files and addresses that people really have."""

import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from feredge.runtime.environment import child_environment
from feredge.runtime.fer_run import main

URLS = [
    "rtsp://127.0.0.1:9/user=admin&password=hunter2&channel=1&stream=0.sdp?",
    "http://127.0.0.1:9/cgi?user=a&pwd=hunter2", "rtsp://admin:hun/ter2@127.0.0.1:9/x",
    "rtmp://127.0.0.1:9/live?token=hunter2",
]


@pytest.fixture
def run(exported, tmp_path, capfd):
    """Run the command; returns its exit code, its error output, and the JSON lines."""

    def call(source, *arguments):
        lines = tmp_path / "out.jsonl"
        lines.unlink(missing_ok=True)
        code = main(["--engine", str(exported / "manet.int8.onnx"), "--source", str(source),
                     "--jsonl", str(lines), *arguments])
        text = lines.read_text() if lines.exists() else ""
        return code, capfd.readouterr().err, [json.loads(line) for line in text.splitlines()]

    return call


def test_raw_h264_has_times_and_a_track(run, shared_file, tmp_path):
    source = shared_file("cases/08-raw-h264-has-no-times/raw.h264")
    code, _, records = run(source, "--summary", str(tmp_path / "s.json"))
    assert code == 0
    np.testing.assert_allclose([record["time_s"] for record in records], np.arange(50) / 25,
                               atol=0.002)
    tracks = json.loads((tmp_path / "s.json").read_text())["tracks"]
    assert len(tracks) == 1


def test_joined_parts_are_one_time_in_view(run, shared_file, tmp_path):
    source = shared_file("cases/31-joined-ts/joined.ts")
    assert run(source, "--summary", str(tmp_path / "s.json"))[0] == 0
    tracks = json.loads((tmp_path / "s.json").read_text())["tracks"]
    assert [track["in_view_s"] > 3.7 for track in tracks] == [True]


@pytest.mark.slow
def test_a_complete_segment_is_a_success_and_a_truncated_video_is_not(run, shared_file):
    folder = shared_file("cases/10-segment-called-truncated")
    code, err, records = run(folder / "segment1.mkv")
    assert code == 0 and len(records) == 120 and "truncated" not in err
    code, err, records = run(folder / "truncated.mkv")
    assert code == 1 and "is truncated or damaged" in err and records


@pytest.mark.parametrize("name", ["10:30:00.mp4", os.fsdecode(b"caf\xe9.mp4")])
def test_a_video_of_any_name_is_run(run, write_clip, astronaut, tmp_path, monkeypatch, name):
    os.rename(write_clip([astronaut] * 3), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    code, _, records = run(name)
    assert code == 0 and [len(record["faces"]) for record in records] == [1, 1, 1]


def test_a_jfif_is_upright_alone_and_in_its_folder(run, shared_file):
    folder = shared_file("cases/16-jfif-is-a-video")
    expected = run(folder / "same.jpg")[2][0]["faces"]
    for where, count in ((folder / "exif6.jfif", 1), (folder / "folder", 2)):
        code, _, records = run(where)
        assert code == 0 and len(records) == count
        assert records[-1]["faces"][0]["box"] == pytest.approx(expected[0]["box"], abs=1)


def test_hostile_pictures_cost_themselves_and_no_other(run, shared_file, tmp_path, astronaut):
    album = tmp_path / "album"
    shutil.copytree(shared_file("cases/hostile/pictures"), album)
    shutil.copy(shared_file("cases/18-apng-corrupts-memory/grey_dispose.png"), album)
    cv2.imwrite(str(album / "z.png"), astronaut)
    code, err, records = run(album)
    assert code == 1 and err.count(f"{album}{os.sep}") == 4
    assert [os.path.basename(record["source"]) for record in records] == [
        "grey_dispose.png", "z.png"]
    assert len(records[1]["faces"]) == 1


@pytest.mark.parametrize("url", URLS)
def test_no_error_shows_a_password(run, url):
    code, err, records = run(url, "--retry", "0")
    assert code == 2 and not records and err.count("\n") == 1
    assert "hunter2" not in err and "ter2@" not in err and "127.0.0.1" in err


@pytest.mark.parametrize("source, said", [
    ("0", "--camera 0"), ("none/*.jpg", "no file matches")])
def test_a_source_that_is_not_there_is_one_line(run, tmp_path, monkeypatch, source, said):
    monkeypatch.chdir(tmp_path)
    code, err, _ = run(source)
    assert code == 2 and said in err and err.count("\n") == 1


@pytest.mark.parametrize("number", ["-1", "100", "99999999999999999999"])
def test_a_camera_number_that_no_camera_has_is_refused(tmp_path, number):
    done = subprocess.run([sys.executable, "-m", "feredge.runtime.fer_run", "--camera", number],
                          env=child_environment(), capture_output=True, text=True)
    assert done.returncode == 2 and "camera" in done.stderr and "Traceback" not in done.stderr


def test_an_album_with_a_pgm_is_written_completely(run, astronaut, tmp_path):
    (tmp_path / "album").mkdir()
    cv2.imwrite(str(tmp_path / "album/a.pgm"), cv2.cvtColor(astronaut, cv2.COLOR_BGR2GRAY))
    cv2.imwrite(str(tmp_path / "album/b.jpg"), astronaut)
    code, err, records = run(tmp_path / "album", "--output", str(tmp_path / "out"))
    assert len(records) == 2 and (tmp_path / "out/b.jpg").exists()
    assert code == 0 or (code == 1 and "a.pgm" in err)
