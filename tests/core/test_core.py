"""The runtime with its core requirements alone: bundled detector and network on a picture."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def astronaut_path():
    import skimage

    return Path(skimage.__file__).parent / "data" / "astronaut.png"


def test_fer_run_labels_a_face_with_what_is_bundled(astronaut_path, tmp_path):
    output = tmp_path / "annotated.jpg"
    done = subprocess.run(
        [sys.executable, "-m", "feredge.runtime.fer_run", "--source", astronaut_path, "--output",
         output, "--jsonl", "-"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (face,) = json.loads(done.stdout)["faces"]
    assert face["label"] == "happiness"
    assert output.stat().st_size > 10_000


def test_python_labels_a_face_with_what_is_bundled(astronaut_path):
    import cv2

    from feredge.runtime import classify, open_detector, open_engine

    with open_engine() as engine, open_detector() as detector:
        faces = classify(cv2.imread(str(astronaut_path)), detector, engine)
    assert [engine.spec.labels[k] for k in faces.label_ids] == ["happiness"]


def test_the_runtime_needs_no_other_package():
    code = ("import sys; import feredge.runtime.fer_run, feredge.runtime.pipeline; "
            "print([name for name in ('torch', 'onnx', 'aiohttp', 'av') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
