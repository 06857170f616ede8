"""fer-export as a user runs it, on small seeded networks and on the bundled one."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import onnx_ir as ir
import pytest
import torch
from safetensors.torch import save_file

from feredge.export import prepare
from feredge.export.fer_export import main
from feredge.export.int8 import graphs as int8
from feredge.export.models.manet import MaNet
from feredge.runtime import open_engine
from feredge.runtime.sources.pictures import find_pictures

RAF_DB = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger")


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """A small MA-Net of seven classes, saved as a plain state dict."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("seeded") / "seeded.pth"
    torch.save(MaNet(classes=7, width=0.25).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def some_faces(faces_48px, tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    for file in find_pictures(faces_48px)[::50]:
        shutil.copy(file, folder)
    return folder


def test_the_bundled_network_is_exported_whole(exported):
    files = {"manet.onnx", "manet.int8.onnx", "manet.int8.qdq.onnx", "manet.ranges.json",
             "manet.report.json"}
    assert {file.name for file in exported.iterdir()} == files
    report = json.loads((exported / "manet.report.json").read_text())
    for name, facts in report["files"].items():
        content = (exported / name).read_bytes()
        assert facts == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert set(report["files"]) == files - {"manet.report.json"}
    assert report["parity"]["largest_difference"] < 1e-5
    assert report["parity"]["on"] == "a portrait and seeded noise"
    assert report["int8"]["ranges"] == "bundled" and report["int8"]["faces"] == 1024
    for name in ("manet.int8.onnx", "manet.int8.qdq.onnx"):
        assert report["int8"][name]["int8_share"] > 0.99
        assert report["int8"][name]["agreement"]["top1"] > 0.98
    assert set(report["seconds"]) >= {"export to ONNX", "quantize"}


def test_every_file_carries_its_own_spec(exported):
    from feredge.runtime.spec import ModelSpec

    specs = {}
    for name in ("manet.onnx", "manet.int8.onnx", "manet.int8.qdq.onnx"):
        import onnx

        metadata = {item.key: item.value for item in onnx.load(exported / name).metadata_props}
        specs[name] = ModelSpec.from_json(metadata["feredge"])
    fp32, cpu, qdq = specs.values()
    assert (fp32.precision, cpu.precision, qdq.precision) == ("fp32", "int8", "int8")
    assert (cpu.target.kind, cpu.target.cpu, cpu.target.weight_bits) == ("onnx", "avx2", 7)
    assert qdq.target.kind == "tensorrt"
    assert cpu.calibration["faces"] == 1024 and len(cpu.calibration["sha256"]) == 64
    assert fp32.source.trained_on.startswith("FER2013") and len(fp32.source.checkpoint_sha256) == 64
    assert cpu.quality["agreement"]["top1"] > 0.98


@pytest.mark.slow
def test_a_checkpoint_without_metadata_is_raf_db_at_224_px(seeded, tmp_path, capfd):
    assert main(["--model", "manet", "--checkpoint", str(seeded), "--output", str(tmp_path),
                 "--name", "mine", "--json", "--target", "onnx"]) == 0
    report = json.loads(capfd.readouterr().out)
    with open_engine(tmp_path / "mine.onnx") as engine:
        assert engine.spec.labels == RAF_DB and engine.spec.variant == "w25-224"
        assert engine.spec.input.side == 224 and engine.spec.input.mean == (0, 0, 0)
        assert engine.infer(np.zeros((2, 3, 224, 224), np.float32)).shape == (2, 7)
    assert report["model"]["labels"] == list(RAF_DB)
    assert report == json.loads((tmp_path / "mine.report.json").read_text())


@pytest.mark.slow
def test_what_the_checkpoint_does_not_say_is_taken_from_arguments(seeded, some_faces, tmp_path):
    arguments = ["--model", "manet", "--checkpoint", str(seeded), "--output", str(tmp_path),
                 "--int8", "--calibration-data", str(some_faces), "--cpu", "vnni",
                 "--target", "onnx", "--labels", "a,b,c,d,e,f,g", "--side", "64",
                 "--channels", "bgr",
                 "--mean", "0.5,0.4,0.3", "--std", "0.2,0.3,0.4", "--crop-scale", "1.3",
                 "--crop-shift-y", "0.05"]
    assert main(arguments) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("feredge.runtime.machine.exact_8_bit_weights", lambda: True)
        engine = open_engine(tmp_path / "manet.int8.onnx")
    spec = engine.spec
    assert spec.labels == tuple("abcdefg") and spec.input.side == 64
    assert spec.input.channels == "bgr" and spec.input.mean == (0.5, 0.4, 0.3)
    assert (spec.crop.scale, spec.crop.shift_y) == (1.3, 0.05)
    assert (spec.target.cpu, spec.target.weight_bits) == ("vnni", 8)
    report = json.loads((tmp_path / "manet.report.json").read_text())
    assert report["int8"]["ranges"] == "measured" and report["int8"]["faces"] == 71
    assert report["int8"]["manet.int8.qdq.onnx"]["agreement"]["faces"] == 71
    ranges = json.loads((tmp_path / "manet.ranges.json").read_text())
    assert ranges["checkpoint_sha256"] == spec.source.checkpoint_sha256
    assert ranges["values"]["conv1:input"]["max"][0] < 0, "normalised inputs are signed"


@pytest.mark.slow
def test_scenes_are_searched_for_faces(seeded, photos, detector_path, tmp_path):
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    for file in find_pictures(photos)[:6]:
        shutil.copy(file, scenes)
    assert main(["--model", "manet", "--checkpoint", str(seeded), "--side", "32", "--int8",
                 "--calibration-data", str(scenes), "--detect", "--force", "--detector",
                 str(detector_path),
                 "--target", "onnx", "--output", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "manet.report.json").read_text())
    assert report["int8"]["faces"] == 6


def failed(arguments, output, capfd):
    """Run an export that must fail; return its one line."""
    assert main(["--model", "manet", "--target", "onnx", "--output", str(output),
                 *map(str, arguments)]) == 2
    error = [line for line in capfd.readouterr().err.splitlines() if "error:" in line]
    assert len(error) == 1
    assert list(output.iterdir()) == []
    return error[0]


@pytest.mark.slow
def test_wrong_checkpoints_labels_and_data_leave_nothing_behind(seeded, tmp_path, capfd):
    output = tmp_path / "out"
    output.mkdir()
    state = torch.load(seeded, weights_only=True)
    for number, label in ((8, "eight"), (12666, "faces")):
        other = dict(state)
        for name in ("fc_1", "fc_2"):
            other[f"{name}.weight"] = torch.zeros(number, 128)
            other[f"{name}.bias"] = torch.zeros(number)
        save_file(other, tmp_path / f"{label}.safetensors")
    torch.save({"resnet.weight": torch.zeros(2)}, tmp_path / "other.pth")
    cases = [
        (["--checkpoint", tmp_path / "none.pth"], "cannot be read"),
        (["--checkpoint", tmp_path / "other.pth"], "not a manet checkpoint: it has no tensor"),
        (["--checkpoint", tmp_path / "eight.safetensors"], "8 classes, but there are 7 labels"),
        (["--checkpoint", tmp_path / "faces.safetensors"], "12666 classes"),
        (["--checkpoint", seeded, "--labels", "a,b"], "7 classes, but there are 2 labels: a,b"),
        (["--checkpoint", seeded, "--labels", "a,a,b,c,d,e,f"], "all different"),
        (["--checkpoint", seeded, "--side", "100"], "multiple of 32"),
        (["--checkpoint", seeded, "--int8"], "pass --calibration-data"),
        (["--int8", "--calibration-data", tmp_path / "nowhere"], "no such folder"),
    ]
    for arguments, said in cases:
        assert said in failed(arguments, output, capfd), arguments


def test_an_output_that_cannot_be_made_is_said(tmp_path, capfd):
    (tmp_path / "file").write_text("x")
    assert main(["--model", "manet", "--output", str(tmp_path / "file" / "below")]) == 2
    assert "cannot be written" in capfd.readouterr().err


@pytest.mark.slow
def test_a_graph_that_strays_from_torch_is_not_written(seeded, tmp_path, capfd, monkeypatch):
    real = prepare.onnx_from_torch

    def strayed(module, side):
        model = real(module, side)
        weight = model.graph.initializers["conv1.weight"]
        weight.const_value = ir.tensor(weight.const_value.numpy() * 1.5)
        return model

    monkeypatch.setattr(prepare, "onnx_from_torch", strayed)
    output = tmp_path / "out"
    output.mkdir()
    line = failed(["--checkpoint", seeded, "--side", "32"], output, capfd)
    assert "differ from torch's by" in line and "more than 1e-04" in line


@pytest.mark.slow
def test_an_int8_graph_that_is_mostly_float_is_not_written(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(int8, "cpu_int8_convs", lambda model: {"conv1"})
    output = tmp_path / "out"
    output.mkdir()
    line = failed(["--int8"], output, capfd)
    assert "of the cpu-7bit graph's convolution work is INT8, expected 90%" in line


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_under_a_final_name(tmp_path):
    output = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "feredge.export.fer_export", "--model", "manet", "--int8",
         "--target", "onnx", "--output", output], stderr=subprocess.PIPE, text=True, env=os.environ)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(output.glob(".feredge-*/manet.onnx")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "interrupted" in error
    assert "Traceback" not in error
    assert list(output.iterdir()) == []


def test_the_table_shows_sizes_shares_and_where_agreement_is_from(exported, capfd, tmp_path):
    from feredge.export.fer_export import report_text

    text = report_text(json.loads((exported / "manet.report.json").read_text()))
    assert "on 1024 faces; INT8 against FP32: recorded with the ranges" in text
    assert "manet.int8.qdq.onnx" in text and "99." in text and "MB" in text


@pytest.mark.slow
def test_bundled_accuracy_holds_on_labelled_faces(exported, faces_48px, tmp_path):
    """FP32 as the card says, INT8 within half a point of it (on a CPU with or without VNNI)."""
    from feredge.benchmarks.fer_eval import main as fer_eval

    assert fer_eval(["--data", str(faces_48px), "--engine", str(exported / "manet.onnx"),
                     "--engine", str(exported / "manet.int8.onnx"),
                     "--json", str(tmp_path / "eval.json")]) == 0
    found = json.loads((tmp_path / "eval.json").read_text())
    fp32, int8 = (row["scores"]["accuracy"]["value"] for row in found["engines"])
    assert found["faces"] == 3526 and fp32 >= 0.844
    assert int8 >= fp32 - 0.005


def test_a_portrait_of_matplotlib_is_there():
    from feredge.export.portrait import FACE_XYXY, portrait_face

    picture, box = portrait_face()
    assert picture.shape == (600, 512, 3) and tuple(box[0]) == FACE_XYXY
    assert cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).std() > 20
