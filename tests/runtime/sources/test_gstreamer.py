"""Pipelines for real: pip's cv2 has no GStreamer, so the command runs in a system's Python."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest

import feredge.runtime
from feredge.runtime.fer_run import main
from feredge.runtime.outputs import gstreamer as outputs_gstreamer

PYTHON = Path("/usr/bin/python3")
PLUGINS = ("app", "imagefreeze", "jpeg", "videoconvert*", "videotestsrc")
PROBE = ("import cv2, onnxruntime; from feredge.runtime import open_engine;"
         "assert 'GStreamer:                   YES' in cv2.getBuildInformation(), 'no GStreamer'")


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Variables with which the system's Python finds its own cv2 and numpy, and ours besides."""
    missing = [name for name in PLUGINS
               if not list(Path("/usr/lib").glob(f"*/gstreamer-1.0/libgst{name}.so"))]
    if not PYTHON.exists() or missing:
        pytest.skip(f"{PYTHON} or GStreamer's plugins are not installed: {' '.join(missing)}")
    packages = tmp_path_factory.mktemp("packages")
    (packages / "feredge").symlink_to(Path(feredge.runtime.__file__).parents[1])
    (packages / "onnxruntime").symlink_to(Path(onnxruntime.__file__).parent)
    variables = {**os.environ, "PYTHONPATH": str(packages)}
    done = subprocess.run([PYTHON, "-c", PROBE], env=variables, capture_output=True, text=True)
    if done.returncode:
        why = done.stderr.splitlines()[-1:] or done.returncode
        pytest.skip(f"{PYTHON} has no cv2 with GStreamer: {why}")
    return variables


@pytest.fixture
def start(environment, exported, detector_path, tmp_path):
    """Start the command on a pipeline."""
    processes = []

    def call(pipeline, *arguments):
        processes.append(subprocess.Popen(
            [PYTHON, "-m", "feredge.runtime.fer_run", "--engine", exported / "manet.int8.onnx",
             "--detector", detector_path, "--source", f"gst:{pipeline}", "--jsonl",
             tmp_path / "out.jsonl", *arguments], stderr=subprocess.PIPE, text=True,
            env=environment))
        return processes[-1]

    yield call
    for process in processes:
        process.kill()
        process.wait()


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_pipelines_faces_are_labelled_until_sigterm(start, astronaut, tmp_path):
    cv2.imwrite(str(tmp_path / "face.jpg"), astronaut)
    process = start(f"filesrc location={tmp_path}/face.jpg ! jpegdec ! imagefreeze ! "
                    "videoconvert ! video/x-raw,format=BGR,framerate=25/1 ! "
                    "appsink drop=1 max-buffers=1")
    deadline_s = time.monotonic() + 60
    while len(records(tmp_path / "out.jsonl")) < 10 and process.poll() is None:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=5)
    assert process.returncode == 0, err
    found = [face["label"] for record in records(tmp_path / "out.jsonl")
             for face in record["faces"]]
    assert len(found) >= 10 and set(found) == {"happiness"}


@pytest.mark.parametrize("pipeline, code, said", [
    ("appsrc ! videoconvert ! jpegenc ! avimux ! filesink location={}", 0, ""),
    ("appsrc ! videoconvert ! nosuchencoder ! filesink location={}", 2, "gst-inspect-1.0 NAME"),
], ids=["it encodes", "an encoder is missing"])
def test_the_annotated_video_is_encoded_by_a_pipeline(
    environment, astronaut, write_clip, tmp_path, pipeline, code, said
):
    clip = write_clip([astronaut] * 12)
    done = subprocess.run(
        [PYTHON, "-m", "feredge.runtime.fer_run", "--source", clip, "--output",
         "gst:" + pipeline.format(tmp_path / "out.avi")], stderr=subprocess.PIPE, text=True,
        env=environment)
    assert done.returncode == code and said in done.stderr, done.stderr
    if not code:
        capture, frames = cv2.VideoCapture(str(tmp_path / "out.avi")), []
        while (found := capture.read())[0]:
            frames.append(found[1])
        assert len(frames) == 12 and frames[0].shape == astronaut.shape
        assert np.abs(frames[0].astype(int) - astronaut).max() > 100, "nothing was drawn"


def test_a_cv2_without_gstreamer_refuses_a_pipeline_as_output(
    astronaut, write_clip, capfd, monkeypatch
):
    monkeypatch.setattr(outputs_gstreamer, "has_gstreamer", lambda: False)
    clip = write_clip([astronaut] * 2)
    assert main(["--source", str(clip), "--output", "gst:appsrc ! fakesink"]) == 2
    err = capfd.readouterr().err
    assert "needs a cv2 with GStreamer" in err and err.count("\n") == 1


@pytest.mark.parametrize("pipeline, said", [
    ("videotestsrc is-live=1 num-buffers=20 ! videoconvert ! video/x-raw,format=BGR ! appsink",
     "stopped delivering after 20 frames"),
    ("nosuchelement ! videoconvert ! appsink", "try it with: gst-launch-1.0 nosuchelement '!'"),
    ("videotestsrc ! videoconvert ! fakesink", "does not start; try it with: gst-launch-1.0"),
    ("videotestsrc ! video/x-raw,format=GRAY8 ! appsink", "format=BGR ! appsink"),
], ids=["it ends", "an element is missing", "no appsink", "not BGR"])
def test_a_pipeline_that_ends_or_does_not_work_is_one_line_and_exit_2(
    start, tmp_path, pipeline, said
):
    process = start(pipeline, "--retry", "0")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and said in err, err
    assert err.startswith("fer-run: error: ") and err.count("error") == 1
    assert err.count("\n") == (3 if "stopped" in said else 1)  # with the summary
