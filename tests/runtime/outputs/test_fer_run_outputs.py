"""fer-run's outputs as a user meets them: overwritten sources, names, disks, pipes."""

import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from feredge.runtime.fer_run import main


@pytest.fixture
def run(exported, detector_path, capfd):
    """Run the command; returns exit code, stdout and stderr."""

    def call(*arguments):
        code = main(["--engine", str(exported / "manet.int8.onnx"), "--detector",
                     str(detector_path), *map(str, arguments)])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def work(tmp_path, astronaut, write_clip, monkeypatch):
    """A folder with a picture, an album and a clip; the current folder."""
    (tmp_path / "album").mkdir()
    cv2.imwrite(str(tmp_path / "a.jpg"), astronaut)
    cv2.imwrite(str(tmp_path / "album" / "b.jpg"), astronaut)
    cv2.imwrite(str(tmp_path / "album" / "a.pgm"), cv2.cvtColor(astronaut, cv2.COLOR_BGR2GRAY))
    assert write_clip([astronaut] * 6) == tmp_path / "clip.mp4"
    os.symlink("clip.mp4", tmp_path / "link.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("arguments", [
    ("--source", "a.jpg", "--jsonl", "a.jpg"), ("--source", "clip.mp4", "--output", "./clip.mp4"),
    ("--source", "album", "--output", "album"), ("--source", "a.jpg", "--output", "a.jpg"),
    ("--source", "clip.mp4", "--summary", "link.mp4"),
    ("--source", "link.mp4", "--csv", "clip.mp4"),
    ("--source", "album", "--output", "album/annotated"),
    ("--source", "clip.mp4", "--jsonl", "x", "--csv", "x"),
], ids=" ".join)
def test_an_output_never_replaces_a_source_or_another_output(run, work, arguments):
    before = contents(work)
    code, _, err = run(*arguments)
    assert code == 2 and err.count("\n") == 1 and "--" in err
    assert contents(work) == before


def test_the_engine_and_the_detector_are_never_replaced(exported, detector_path, work, capfd):
    engine, detector = work / "engine.onnx", work / "detector.onnx"
    shutil.copy(exported / "manet.int8.onnx", engine)
    shutil.copy(detector_path, detector)
    before = contents(work)
    for victim in (engine, detector):
        assert main(["--engine", str(engine), "--detector", str(detector), "--source", "a.jpg",
                     "--csv", str(victim)]) == 2
        assert "would overwrite" in capfd.readouterr().err
    assert contents(work) == before


def test_gray_pictures_of_an_album_are_written_too(run, work):
    assert run("--source", "album", "--output", "annotated")[0] == 0
    assert sorted(os.listdir("annotated")) == ["a.pgm", "b.jpg"]
    assert cv2.imread("annotated/a.pgm").shape == cv2.imread("album/b.jpg").shape


@pytest.mark.parametrize("name", ["10:30:00.mp4", os.fsdecode(b"caf\xe9.mp4"), "new/deep/out.mp4"])
def test_any_name_of_an_output_works(run, work, name):
    assert run("--source", "clip.mp4", "--output", name)[0] == 0
    assert os.path.getsize(os.fsencode(name)) > 1000


@pytest.mark.parametrize("clip", ["fps90000.mp4", "wide9000.mkv"])
def test_the_first_error_of_an_output_is_the_one_that_is_shown(run, work, shared_file, clip):
    source = shared_file(f"cases/11-output-error-hidden/{clip}")
    for suffix in (".mp4", ".avi"):
        code, _, err = run("--source", source, "--output", f"out{suffix}")
        assert "No such file" not in err
        assert code == 0 or (code == 2 and "no encoder for a 9000x64" in err)
        assert os.path.exists(f"out{suffix}") == (code == 0)


def command(exported, detector_path, *arguments):
    return [sys.executable, "-m", "feredge.runtime.fer_run", "--engine",
            str(exported / "manet.int8.onnx"), "--detector", str(detector_path), *arguments]


def test_a_full_disk_ends_a_run_with_one_line_and_no_video(exported, detector_path, work):
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter("noise.avi", cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 240))
    for _ in range(60):
        writer.write(rng.integers(0, 256, (240, 320, 3), np.uint8))
    writer.release()
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 300; exec "$0" "$@"', *command(
            exported, detector_path, "--source", "noise.avi", "--output", "out.mp4")],
        capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "out.mp4 cannot be written" in done.stderr
    assert not any("out" in name or name.startswith(".feredge") for name in os.listdir("."))


def test_a_full_device_is_one_line(run, work):
    code, _, err = run("--source", "a.jpg", "--jsonl", "/dev/full")
    assert code == 2 and "/dev/full cannot be written: No space left" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("screen", [None, ":99", "nowhere:0"])
def test_a_window_without_a_screen_is_one_line(run, work, monkeypatch, screen):
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    if screen is not None:
        monkeypatch.setenv("DISPLAY", screen)
    code, _, err = run("--source", "a.jpg", "--display")
    assert code == 2 and "no window can be opened here" in err and "Aborted" not in err


def test_a_reader_that_ends_early_ends_the_run_quietly(exported, detector_path, work):
    done = subprocess.run(
        ["bash", "-c", '"$0" "$@" | head -1; exit ${PIPESTATUS[0]}', *command(
            exported, detector_path, "--source", "clip.mp4", "--jsonl", "-")],
        capture_output=True, text=True)
    assert done.stdout.count("\n") == 1 and "Traceback" not in done.stderr
    assert "error" not in done.stderr
