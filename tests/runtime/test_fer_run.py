"""fer-run as a user runs it: pictures, folders, clips, and what goes wrong."""

import ast
import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import feredge.runtime
from feredge.runtime import open_detector, predict
from feredge.runtime import run as api_run
from feredge.runtime.detect import DetectorOptions
from feredge.runtime.errors import UsageError
from feredge.runtime.fer_run import arguments as run_arguments
from feredge.runtime.fer_run import main
from feredge.runtime.observer import Observer
from feredge.runtime.options import EngineOptions, RunOptions
from feredge.runtime.output_options import OutputOptions
from feredge.runtime.outputs import terminal
from feredge.runtime.runner import concurrent_frames
from feredge.runtime.sources import frames_of, open_source
from feredge.runtime.sources.base import SourceOptions
from feredge.runtime.track.options import TrackOptions


@pytest.fixture
def run(exported, detector_path, capfd):
    """Run the command with the bundled engine; returns exit code, stdout and stderr."""

    def call(*arguments, engine="manet.int8.onnx"):
        code = main(["--engine", str(exported / engine), "--detector", str(detector_path),
                     *map(str, arguments)])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def portrait(tmp_path, astronaut):
    path = tmp_path / "portrait.png"
    cv2.imwrite(str(path), astronaut)
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_picture_becomes_an_annotated_picture_and_a_line(run, portrait, tmp_path, astronaut):
    code, out, err = run("--source", portrait, "--output", tmp_path / "out.jpg",
                         "--jsonl", tmp_path / "out.jsonl", "--csv", tmp_path / "out.csv", "--json")
    assert code == 0
    drawn = cv2.imread(str(tmp_path / "out.jpg"))
    assert drawn.shape == astronaut.shape and np.abs(drawn.astype(int) - astronaut).mean() > 1
    (record,) = lines(tmp_path / "out.jsonl")
    (face,) = record["faces"]
    assert face["track"] is None and "events" not in record
    assert record["frame"] == 0 and record["source"] == str(portrait) and "age_ms" not in record
    assert face["label"] == "happiness" and face["probability"] > 0.5 and face["score"] > 0.8
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert face["probability"] == max(face["probabilities"].values())
    (row,) = csv.DictReader((tmp_path / "out.csv").open())
    assert row["label"] == "happiness" and float(row["x0"]) == face["box"][0]
    assert float(row["happiness"]) == face["probability"]
    summary = json.loads(out)
    assert summary["frames"] == summary["faces"] == 1 and summary["stages"]["draw"]["median_ms"] > 0
    assert "1 frames, 1 faces" in err


def test_fp32_and_int8_agree_on_a_picture(run, portrait, tmp_path):
    boxes = {}
    for engine in ("manet.onnx", "manet.int8.onnx"):
        run("--source", portrait, "--jsonl", tmp_path / engine, engine=engine)
        (boxes[engine],) = lines(tmp_path / engine)
    fp32, int8 = (record["faces"][0] for record in boxes.values())
    assert fp32["box"] == int8["box"] and fp32["label"] == int8["label"]
    assert fp32["probability"] == pytest.approx(int8["probability"], abs=0.1)


def test_without_any_output_the_faces_are_printed(run, portrait, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    code, out, _ = run("--source", portrait)
    assert code == 0 and "happiness" in out and str(portrait) in out


def test_a_clip_becomes_an_annotated_clip_with_every_frame(run, astronaut, write_clip, tmp_path):
    small = cv2.resize(astronaut, (320, 320))
    clip = write_clip([np.roll(small, 4 * k, axis=1) for k in range(20)])
    code, _, _ = run("--source", clip, "--output", tmp_path / "out.mp4", "--jsonl",
                     tmp_path / "out.jsonl")
    assert code == 0
    records = lines(tmp_path / "out.jsonl")
    assert [record["frame"] for record in records] == list(range(20))
    assert records[-1]["time_s"] == pytest.approx(19 / 25, abs=0.05)
    assert sum(len(record["faces"]) for record in records) >= 18
    assert {face["track"] for record in records[5:] for face in record["faces"]} == {1}
    (entered,) = [record for record in records if "events" in record]
    assert entered["events"] == [{"event": "enter", "track": 1}] and entered["frame"] == 3
    written = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert written.get(cv2.CAP_PROP_FRAME_COUNT) == 20
    assert written.get(cv2.CAP_PROP_FPS) == pytest.approx(25)
    assert not list(tmp_path.glob(".*partial*"))


def test_a_folder_with_a_broken_picture_is_done_and_exits_1(run, portrait, tmp_path, astronaut):
    source = tmp_path / "in"
    (source / "below").mkdir(parents=True)
    for name in ("a.png", "below/b.png"):
        cv2.imwrite(str(source / name), astronaut)
    (source / "broken.jpg").write_bytes(cv2.imencode(".jpg", astronaut)[1].tobytes()[:9000])
    code, _, err = run("--source", source, "--output", tmp_path / "out", "--jsonl",
                       tmp_path / "out.jsonl")
    assert code == 1 and "broken.jpg is truncated" in err
    assert len(lines(tmp_path / "out.jsonl")) == 2
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.png")) == ["a.png", "b.png"]


def test_faces_are_limited_by_number_and_score(run, astronaut, tmp_path):
    both = tmp_path / "two.png"
    cv2.imwrite(str(both), np.hstack([astronaut, astronaut[:, ::-1]]))
    for arguments, faces in (((), 2), (("--max-faces", 1), 1), (("--min-score", 0.999), 0)):
        run("--source", both, "--jsonl", tmp_path / "out.jsonl", *arguments)
        assert len(lines(tmp_path / "out.jsonl")[0]["faces"]) == faces


@pytest.mark.parametrize("depth", ["grey", "16 bit", "alpha"])
def test_unusual_pictures_give_the_same_face(run, astronaut, tmp_path, depth):
    grey = np.repeat(cv2.cvtColor(astronaut, cv2.COLOR_BGR2GRAY)[..., None], 3, axis=2)
    picture = {
        "grey": grey[..., 0],
        "16 bit": astronaut.astype(np.uint16) * 257,
        "alpha": np.dstack([astronaut, np.full(astronaut.shape[:2], 200, np.uint8)]),
    }[depth]
    plain = grey if depth == "grey" else astronaut
    faces = []
    for name, content in (("plain.png", plain), ("unusual.png", picture)):
        cv2.imwrite(str(tmp_path / name), content)
        assert run("--source", tmp_path / name, "--jsonl", tmp_path / "out.jsonl")[0] == 0
        faces.append(lines(tmp_path / "out.jsonl")[0]["faces"])
    assert len(faces[0]) == 1 and faces[0][0]["box"] == pytest.approx(faces[1][0]["box"], abs=1)
    assert faces[0][0]["label"] == faces[1][0]["label"]


def test_a_picture_of_one_pixel_has_no_face(run, tmp_path):
    cv2.imwrite(str(tmp_path / "dot.png"), np.zeros((1, 1, 3), np.uint8))
    code, out, _ = run("--source", tmp_path / "dot.png", "--json")
    assert code == 0 and json.loads(out)["faces"] == 0


def test_errors_are_one_line_and_exit_2(run, portrait, tmp_path, write_clip, astronaut):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "text.mp4").write_text("hello")
    clip = write_clip([astronaut] * 2)
    (tmp_path / "link.mp4").symlink_to(clip)
    before = portrait.read_bytes(), clip.read_bytes()
    cases = [
        (("--source", tmp_path / "none.jpg"), "does not exist"),
        (("--source", tmp_path / "empty.jpg"), "is empty"),
        (("--source", tmp_path / "text.jpg"), "not a picture"),
        (("--source", tmp_path / "text.mp4"), "neither a picture nor a video"),
        (("--camera", 97), "camera 97 is not there"),
        (("--source", portrait, "--output", portrait / "out.jpg"), "cannot be made"),
        (("--source", portrait, "--output", tmp_path / "text.jpg" / "x.jpg"), "cannot be made"),
        (("--source", portrait, "--output", portrait), "would overwrite --source"),
        (("--source", portrait, "--jsonl", tmp_path / "." / "portrait.png"), "would overwrite"),
        (("--source", clip, "--output", tmp_path / "link.mp4"), "would overwrite --source"),
        (("--source", portrait, "--jsonl", "-", "--csv", "-"), "cannot both be standard output"),
        (("--source", portrait, "--jsonl", "-", "--json"), "cannot be told apart"),
        (("--source", portrait, "--csv", tmp_path / "x", "--jsonl", tmp_path / "x"), "also writ"),
        (("--source", portrait, "--output", tmp_path / "out.xyz"), "needs a name that ends in"),
        (("--source", clip, "--output", tmp_path / "out.jpg"), "a video needs a name"),
        (("--source", portrait, "--jsonl", tmp_path / "text.jpg" / "x"), "cannot be made"),
        (("--source", portrait, "--csv", tmp_path), "it is a folder"),
        (("--source", portrait, "--detector", tmp_path / "none.onnx"), "detector"),
        (("--source", portrait, "--detect-every", 3), "pictures have none"),
        (("--source", portrait, "--reuse", 4), "--reuse needs tracks"),
        (("--source", clip, "--no-track", "--summary", tmp_path / "s.json"), "tracking is off"),
        (("--source", clip, "--summary", tmp_path / "text.jpg" / "s.json"), "cannot be made"),
        (("--source", clip, "--no-images", "--output", tmp_path / "o.mp4"), "--no-images excludes"),
        (("--source", clip, "--no-images", "--display"), "--display shows images"),
        (("--source", clip, "--blur", "--detect-every", 2), "detection in every frame"),
        ((), "pass --source or --camera"),
        (("--source", clip, "--source", portrait), "put pictures into one folder"),
        (("--source", clip, "--source", tmp_path / "text.mp4"), "neither a picture nor a video"),
        (("--source", clip, "--camera", 97), "camera 97 is not there"),
    ]
    for arguments, said in cases:
        code, out, err = run(*arguments)
        assert code == 2, arguments
        assert err.startswith("fer-run: error: ") and said in err and err.count("\n") == 1, err
        assert not out
    assert not (tmp_path / "o.mp4").exists()
    assert (portrait.read_bytes(), clip.read_bytes()) == before


@pytest.fixture
def passing(astronaut, write_clip):
    """A clip of two portraits, of which one leaves after two seconds of four."""
    face, frames = cv2.resize(astronaut[0:240, 120:320], (150, 180)), []
    for k in range(100):
        frame = np.full((240, 480, 3), 110, np.uint8)
        frame[20:200, 5 + k : 155 + k] = face
        if k < 50:
            frame[30:210, 320:470] = face
        frames.append(frame)
    return write_clip(frames)


def test_persons_have_numbers_events_and_a_summary(run, passing, tmp_path):
    code, _, _ = run("--source", passing, "--jsonl", tmp_path / "out.jsonl", "--csv",
                     tmp_path / "out.csv", "--summary", tmp_path / "summary.json")
    assert code == 0
    records = lines(tmp_path / "out.jsonl")
    events = [event for record in records for event in record.get("events", [])]
    assert [event["event"] for event in events] == ["enter", "enter", "exit"]
    (left,) = [event["track"] for event in events if event["event"] == "exit"]
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert len(rows) == sum(len(record["faces"]) for record in records)
    entered = [row for row in rows if row["event"] == "enter"]
    assert sorted(row["track"] for row in entered) == ["1", "2"]
    people = {person["track"]: person for person in
              json.loads((tmp_path / "summary.json").read_text())["tracks"]}
    assert set(people) == {1, 2}
    stayed = people[3 - left]
    assert stayed["in_view_s"] == pytest.approx(3.84, abs=0.2)
    assert people[left]["in_view_s"] == pytest.approx(1.84, abs=0.2)
    for person in people.values():
        assert person["label"] == "happiness" and person["shares"]["happiness"] > 0.9
        assert sum(person["shares"].values()) == pytest.approx(1, abs=1e-3)
    labels = [face["label"] for record in records for face in record["faces"]
              if face["track"] == 3 - left]
    assert labels.count("happiness") / len(labels) > 0.9


def test_without_tracks_faces_are_answered_one_by_one(run, passing, tmp_path):
    run("--source", passing, "--jsonl", tmp_path / "out.jsonl", "--no-track")
    records = lines(tmp_path / "out.jsonl")
    assert {face["track"] for record in records for face in record["faces"]} == {None}
    assert not any("events" in record for record in records)
    for face in (face for record in records for face in record["faces"]):
        assert face["probability"] == max(face["probabilities"].values())


def test_every_third_frame_and_reuse_give_the_same_persons(run, passing, tmp_path):
    for name, arguments in (("plain", ()), ("third", ("--detect-every", 3)),
                            ("reuse", ("--reuse", 5)), ("both", ("--detect-every", 3,
                                                                 "--reuse", 5))):
        assert run("--source", passing, "--summary", tmp_path / name, *arguments)[0] == 0
        people = json.loads((tmp_path / name).read_text())["tracks"]
        assert sorted(round(person["in_view_s"]) for person in people) == [2, 4], name
        assert {person["label"] for person in people} == {"happiness"}


def test_no_images_opens_no_window_and_still_writes_numbers(run, portrait, monkeypatch):
    def refused(*arguments):
        raise AssertionError("a window was opened")

    monkeypatch.setattr(terminal.cv2, "imshow", refused)
    monkeypatch.setenv("DISPLAY", ":0")
    code, out, _ = run("--source", portrait, "--no-images")
    assert code == 0 and "happiness" in out


def test_blurred_pictures_and_videos_show_no_face(run, portrait, passing, tmp_path, detector_path):
    assert run("--source", portrait, "--output", tmp_path / "out.png", "--blur")[0] == 0
    assert run("--source", passing, "--output", tmp_path / "out.mp4", "--blur")[0] == 0
    shown = [cv2.imread(str(tmp_path / "out.png"))]
    shown += [frame.frame_bgr for frame in frames_of(open_source(str(tmp_path / "out.mp4")))]
    assert len(shown) == 101
    with open_detector(detector_path) as finder:
        assert not any(len(finder.detect(frame)) for frame in shown[::7])


def test_a_missing_engine_and_a_plan_are_one_line(portrait, tmp_path, capfd):
    (tmp_path / "manet.plan").write_bytes(b"a plan")
    for engine, said in (("none.onnx", "does not exist"), ("manet.plan", "ONNX file beside it")):
        assert main(["--engine", str(tmp_path / engine), "--source", str(portrait)]) == 2
        err = capfd.readouterr().err
        assert said in err and err.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path, portrait):
    from feredge.runtime.errors import EngineError

    with pytest.raises(EngineError):
        main(["--debug", "--engine", str(tmp_path / "none.onnx"), "--source", str(portrait)])


def test_a_window_that_cannot_be_opened_is_explained(run, portrait, monkeypatch):
    def refused(*arguments):
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr("feredge.runtime.run_outputs.has_screen", lambda: True)
    monkeypatch.setattr(terminal, "check_window", lambda: None)
    monkeypatch.setattr(terminal.cv2, "imshow", refused)
    monkeypatch.setattr(terminal.cv2, "destroyAllWindows", lambda: None)
    code, _, err = run("--source", portrait, "--display")
    assert code == 2 and "no window can be opened" in err


def test_q_in_the_window_ends_the_run(run, astronaut, write_clip, monkeypatch):
    monkeypatch.setattr("feredge.runtime.run_outputs.has_screen", lambda: True)
    monkeypatch.setattr(terminal, "check_window", lambda: None)
    monkeypatch.setattr(terminal.cv2, "imshow", lambda *_: None)
    monkeypatch.setattr(terminal.cv2, "waitKey", lambda *_: ord("q"))
    monkeypatch.setattr(terminal.cv2, "getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr(terminal.cv2, "destroyAllWindows", lambda: None)
    code, out, _ = run("--source", write_clip([astronaut] * 9), "--display", "--json")
    assert code == 0 and json.loads(out)["frames"] == 1


@pytest.mark.parametrize("display", [None, ":97"], ids=["none", "unreachable"])
def test_a_window_without_a_screen_is_one_line(exported, detector_path, portrait, display):
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-m", "feredge.runtime.fer_run", "--engine", exported / "manet.int8.onnx",
         "--detector", detector_path, "--source", portrait, "--display"],
        env=environment | ({} if display is None else {"DISPLAY": display}),
        capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "--display needs a screen" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
                         ids=["Ctrl-C", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_run_with_its_files_closed(
    exported, detector_path, astronaut, write_clip, tmp_path, number
):
    clip = write_clip([cv2.resize(astronaut, (640, 640))] * 1500)
    process = subprocess.Popen(
        [sys.executable, "-m", "feredge.runtime.fer_run", "--engine", exported / "manet.int8.onnx",
         "--detector", detector_path, "--source", clip, "--jsonl", tmp_path / "out.jsonl",
         "--output", tmp_path / "out.mp4", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (tmp_path / "out.jsonl").exists() and (tmp_path / "out.jsonl").stat().st_size > 2000:
            break
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    frames = json.loads(out)["frames"]
    assert 0 < frames < 1500
    assert len(lines(tmp_path / "out.jsonl")) == frames
    assert cv2.VideoCapture(str(tmp_path / "out.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == frames


@pytest.fixture
def watch(exported, detector_path, network_camera, tmp_path):
    """Start the command on a network camera; returns it once it has written a line."""
    processes = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "feredge.runtime.fer_run", "--engine",
             exported / "manet.int8.onnx", "--detector", detector_path, "--source",
             network_camera.url, "--jsonl", tmp_path / "out.jsonl", "--json", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
        processes.append(process)
        while not (tmp_path / "out.jsonl").exists() or not lines(tmp_path / "out.jsonl"):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        return process

    yield start
    for process in processes:
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("lost", [
    pytest.param(lambda camera: camera.stop(), id="it is tried again"),
    pytest.param(lambda camera: setattr(camera, "stalled", True), id="its reader hangs"),
])
def test_a_signal_ends_a_run_whose_camera_is_lost(watch, network_camera, tmp_path, number, lost):
    process = watch("--output", tmp_path / "out.mp4")
    lost(network_camera)
    time.sleep(1)
    process.send_signal(number)
    out, err = process.communicate(timeout=8)  # FFmpeg alone would hang for 10 s
    assert process.returncode == 0, err
    frames = json.loads(out)["frames"]
    assert frames and len(lines(tmp_path / "out.jsonl")) == frames
    assert cv2.VideoCapture(str(tmp_path / "out.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == frames


@pytest.mark.parametrize("arguments, said", [
    (("--max-silence", "1"), "no frame for 1 s (--max-silence)"),
    (("--retry", "0", "--max-silence", "60"), "stopped delivering after"),
], ids=["watchdog", "no patience"])
def test_a_camera_that_stays_silent_ends_the_run_with_exit_2(
    watch, network_camera, arguments, said
):
    process = watch(*arguments)
    network_camera.stop()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2 and err.count("fer-run: error: ") == 1 and said in err
    assert json.loads(out)["frames"]


@pytest.mark.parametrize("hangs", [True, False])
def test_a_process_ends_with_its_code_and_output_although_a_thread_hangs(hangs):
    code = ("import threading, time\n"
            "from feredge.runtime.command import end_process\n"
            f"threading.Thread(target=time.sleep, args=(60 * {hangs},), daemon=True).start()\n"
            "print('told')\n"
            "end_process(3)")
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 3 and done.stdout == "told\n"


def test_the_watchdog_ends_a_run_whose_reader_hangs(watch, network_camera):
    process = watch("--max-silence", "1")
    network_camera.stalled = True
    _, err = process.communicate(timeout=8)
    assert process.returncode == 2 and "no frame for 1 s (--max-silence)" in err


def test_what_becomes_of_a_camera_is_logged_as_json(watch, network_camera):
    process = watch("--log-json")
    network_camera.stop()
    lost = json.loads(process.stderr.readline())
    network_camera.start()
    back = json.loads(process.stderr.readline())
    process.terminate()
    assert (lost["event"], back["event"]) == ("lost", "back") and back["seconds"] > 0
    assert lost["source"] == back["source"] == network_camera.url
    assert lost["message"].endswith("; trying again") and lost["time"] < back["time"]


def test_a_damaged_clip_gives_what_it_holds_and_exits_1(run, write_clip, tmp_path, astronaut):
    whole = write_clip([astronaut] * 30, "clip.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    code, _, err = run("--source", tmp_path / "cut.avi", "--jsonl", tmp_path / "out.jsonl")
    assert code == 1 and "truncated or damaged" in err
    assert 5 < len(lines(tmp_path / "out.jsonl")) < 30


@pytest.mark.parametrize("wrong", [("--retry", "-1"), ("--retry", "nan"), ("--max-silence", "0")])
def test_durations_that_mean_nothing_are_refused(wrong):
    with pytest.raises(SystemExit):
        run_arguments().parse_args(["--engine", "x", "--source", "x", *wrong])


@pytest.mark.parametrize("live, expected, engine, more, frames", [
    pytest.param(False, 300, "x.onnx", (), 2, id="a clip"),
    pytest.param(False, 1, "x.onnx", (), 1, id="one picture has all cores"),
    pytest.param(False, 0, "x.onnx", (), 2, id="a clip of unknown length"),
    pytest.param(True, 0, "x.onnx", (), 1, id="a live source is not delayed"),
    pytest.param(False, 300, "x.plan", (), 1, id="a GPU takes one after the other"),
    pytest.param(False, 300, "x.onnx", ("--reuse", "4"), 1, id="answers that are reused"),
    pytest.param(False, 300, "x.onnx", ("--detect-every", "3"), 2, id="fewer searches"),
])
def test_clips_and_folders_are_worked_on_by_every_core(
    monkeypatch, live, expected, engine, more, frames
):
    monkeypatch.setattr("feredge.runtime.runner.cores", lambda: 2)
    options = RunOptions.from_arguments(run_arguments().parse_args(
        ["--engine", engine, "--source", "x", *more]))
    source = SimpleNamespace(is_live=live, parts=(None,), expected_frames=expected)
    assert concurrent_frames(options, source) == frames


def start(exported, detector_path, *arguments, engine=None, **options):
    """Start the command; its output is text."""
    return subprocess.Popen(
        [sys.executable, "-m", "feredge.runtime.fer_run", "--engine",
         str(engine or exported / "manet.int8.onnx"), "--detector", str(detector_path),
         *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        **options)


DEADLOCK = """
import ctypes, sys
from feredge.runtime.engines.onnxruntime import OnnxEngine
from feredge.runtime.fer_run import script

def lock_twice(self, crops):
    mutex, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    print("locked", flush=True)
    while True:
        libc.pthread_mutex_lock(mutex)

OnnxEngine._infer = lock_twice
script()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_within_two_seconds_although_native_code_does_not_return(
    exported, detector_path, portrait, tmp_path, number
):
    with subprocess.Popen(
        [sys.executable, "-c", DEADLOCK, "--engine", exported / "manet.int8.onnx", "--detector",
         detector_path, "--source", portrait, "--jsonl", tmp_path / "out.jsonl"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:
        assert process.stdout.readline() == "locked\n", process.communicate()
        sent_s = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
        assert time.monotonic() - sent_s < 3  # two, and a second for a loaded machine
    assert process.returncode == 128 + number and err.count("\n") == 1, err


@pytest.mark.parametrize("results", ["--jsonl", "--csv"])
def test_a_reader_that_goes_away_ends_the_run_quietly(
    exported, detector_path, astronaut, write_clip, results
):
    clip = write_clip([cv2.resize(astronaut, (320, 320))] * 300)
    with start(exported, detector_path, "--source", clip, results, "-") as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == ""


def test_a_full_disk_behind_standard_output_is_one_line(exported, detector_path, portrait):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "feredge.runtime.fer_run", "--engine",
             exported / "manet.int8.onnx", "--detector", detector_path, "--source", portrait,
             "--jsonl", "-"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(errors) == 1 and "No space left" in errors[0], done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_names_are_escaped_and_never_forge_a_line(exported, detector_path, astronaut, tmp_path):
    name = "a\nfer-run: error: forged\x1b[31m.png"
    cv2.imwrite(str(tmp_path / "plain.png"), astronaut)
    (tmp_path / "plain.png").rename(tmp_path / name)
    (tmp_path / "b\nc.png").write_bytes(b"no picture")
    for encoding in ("ascii", "utf-8"):
        with start(exported, detector_path, "--source", tmp_path,
                   env=os.environ | {"PYTHONIOENCODING": encoding}) as process:
            out, err = process.communicate(timeout=60)
        assert process.returncode == 1, err
        assert out.count("\n") == 1 and "happiness" in out and "\x1b" not in out
        assert "\nfer-run: error: forged" not in out + err and "b\\nc.png" in err


def test_errors_and_warnings_are_json_with_log_json(run, portrait, tmp_path):
    code, _, err = run("--source", tmp_path / "none.jpg", "--log-json")
    (line,) = map(json.loads, err.splitlines())
    assert code == 2 and line["level"] == "error" and "does not exist" in line["message"]
    code, _, err = run("--source", portrait, "--log-json", "--json")
    (line,) = map(json.loads, err.splitlines())
    assert code == 0 and line["level"] == "info" and line["message"].startswith("1 frames")


def test_a_run_needs_no_home(exported, detector_path, portrait, tmp_path):
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("HOME", "XDG_CACHE_HOME")}
    with start(exported, detector_path, "--source", portrait, "--json",
               env=environment) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and json.loads(out)["faces"] == 1, err


def test_a_wrong_argument_is_one_line(capfd):
    for wrong, said in ((("--max-faces", "x"), "'x' is not a whole number"),
                        (("--reuse", "nan"), "'nan' is not a number above 0"),
                        (("--camera", "9" * 5000), "--camera"), (("--nonsense",), "--nonsense"),
                        (("--max-faces", "1", "y.jpg"), "y.jpg; pass what to read with --source")):
        with pytest.raises(SystemExit) as ended:
            main(["--source", "x", *wrong])
        err = capfd.readouterr().err
        assert ended.value.code == 2 and err.count("\n") == 1 and said in err and len(err) < 300


def test_run_and_predict_do_the_same_from_python(exported, detector_path, portrait, tmp_path):
    engine = exported / "manet.int8.onnx"
    seen = []

    class Watch(Observer):
        def on_frame(self, result):
            seen.append(set(result.times_s))

    options = RunOptions((str(portrait),), EngineOptions(engine),
                         detector=DetectorOptions(detector_path),
                         outputs=OutputOptions(jsonl=str(tmp_path / "new" / "faces.jsonl")))
    summary = api_run(options, Watch())
    assert (summary.frames, summary.faces, summary.problems) == (1, 1, ())
    assert seen == [{"read", "detect", "classify", "write"}]
    (record,) = lines(tmp_path / "new" / "faces.jsonl")
    (result,) = predict(portrait, engine, detector_path)
    (face,) = result.faces
    assert face.label == record["faces"][0]["label"] == "happiness"
    assert face.probability() == pytest.approx(record["faces"][0]["probability"], abs=1e-5)


def test_errors_from_python_name_parameters_not_flags(exported, portrait):
    with pytest.raises(UsageError, match="`jsonl` and `csv` cannot both"):
        OutputOptions(jsonl="-", csv="-")
    with pytest.raises(UsageError, match="there is no source"):
        RunOptions(())
    with pytest.raises(UsageError, match=r"expected a tuple: \('clip.mp4',\)"):
        RunOptions("clip.mp4")
    with pytest.raises(UsageError, match="`reuse` needs tracks"):
        api_run(RunOptions((str(portrait),), EngineOptions(exported / "manet.int8.onnx"),
                           tracks=TrackOptions(reuse=3.0)))


def test_no_error_of_the_api_names_a_flag_of_fer_run():
    """A command prints `parameter` as its flag; an error of Python code must not name flags."""
    flags = {flag for action in run_arguments()._actions for flag in action.option_strings}
    folder = Path(feredge.runtime.__file__).parent
    named = [
        (str(file.relative_to(folder)), node.value)
        for file in folder.rglob("*.py") if "batch" not in str(file.relative_to(folder))
        for statement in ast.walk(ast.parse(file.read_text())) if isinstance(statement, ast.Raise)
        for node in ast.walk(statement) if isinstance(node, ast.Constant)
        if isinstance(node.value, str) and "fer-" not in node.value
        and flags & set(re.findall("--[a-z-]+", node.value))]
    assert named == []


def test_a_run_that_cannot_start_keeps_the_results_of_the_run_before(portrait, tmp_path):
    for name in ("faces.jsonl", "faces.csv", "people.json"):
        (tmp_path / name).write_text("precious\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code = main(["--source", str(portrait), "--jsonl", str(tmp_path / "faces.jsonl"), "--csv",
                     str(tmp_path / "faces.csv"), "--summary", str(tmp_path / "people.json"),
                     "--serve", address])
    assert code == 2
    for name in ("faces.jsonl", "faces.csv", "people.json"):
        assert (tmp_path / name).read_text() == "precious\n"


def test_a_recording_at_its_own_pace_is_processed_frame_by_frame(portrait, monkeypatch):
    monkeypatch.setattr("feredge.runtime.runner.cores", lambda: 8)
    source = SimpleNamespace(is_live=False, parts=(1,), expected_frames=100)
    assert concurrent_frames(RunOptions(("clip.mp4",)), source) == 8
    paced = RunOptions(("clip.mp4",), source=SourceOptions(is_paced=True))
    assert concurrent_frames(paced, source) == 1
