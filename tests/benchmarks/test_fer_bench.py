"""fer-bench as an engineer runs it: a small run, its document and its plot, and what goes wrong."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from feredge.benchmarks import fer_bench
from feredge.benchmarks.bench import options
from feredge.benchmarks.bench.baselines import BASELINES
from feredge.benchmarks.bench.candidates import Candidate
from feredge.benchmarks.bench.peak import published_peak, work_of
from feredge.benchmarks.bench.predictions import compare_predictions
from feredge.runtime.engines.onnxruntime import OnnxEngine
from feredge.runtime.errors import EngineError

QUICK = ("--duration", "0.05", "--warmup", "0.01")


@pytest.fixture
def bench(exported, capfd):
    """Run the command with the bundled FP32 engine; returns exit code, stdout and stderr."""

    def call(*arguments, engine=None):
        code = fer_bench.main(["--engine", str(engine or exported / "manet.onnx"), *QUICK,
                               *map(str, arguments)])
        return code, *capfd.readouterr()

    return call


@pytest.mark.slow
def test_engines_and_baselines_stand_side_by_side(bench, exported, tmp_path):
    code, out, _ = bench("--engine", exported / "manet.int8.onnx", "--batch", "1,3", "--baseline",
                         "torch,onnxruntime-fp32,session", "--peak", "--json", tmp_path,
                         "--markdown", "--plot", tmp_path / "plot.svg")
    assert code == 0 and out.startswith("| engine | batch |")
    (file,) = tmp_path.glob("manet.onnx-b1-3-*cores-torch-onnxruntime-fp32-session.json")
    report = json.loads(file.read_text())
    rows = report["rows"]
    assert [row["batch"] for row in rows] == [1] * 5 + [3] * 5
    assert {row["samples"] for row in rows} == {len(row["seconds"]) for row in rows}
    first, int8, torch, bare, session = rows[5:]
    assert first["speed_up"] == {"value": 1, "low": 1, "high": 1} and int8["precision"] == "int8"
    assert 0 < int8["answers"]["largest_change"] < 0.2 and int8["answers"]["recorded"]["top1"] > 0.9
    for row in (torch, bare, session):
        assert row["answers"]["largest_change"] < 1e-5 and row["answers"]["same_label"] == 1
    assert first["median_s"] <= first["p90_s"] <= first["p95_s"] <= first["p99_s"]
    assert first["faces_per_s"] == pytest.approx(3 / first["median_s"]) and first["gpu"] is None
    assert int8["peak"]["macs"] == first["peak"]["macs"] > 3e8
    assert int8["peak"]["bytes"] * 4 == first["peak"]["bytes"]
    assert 0 < first["peak"]["compute_share"] < 1.5
    assert report["environment"]["packages"]["onnxruntime"]
    assert "manet.int8.onnx" in (tmp_path / "plot.svg").read_text()


def test_the_profile_names_integer_operators(bench, exported):
    code, out, _ = bench("--engine", exported / "manet.int8.onnx", "--batch", "1", "--profile")
    table = [line.split("|")[1:-1] for line in out.splitlines() if line.startswith("|")]
    times = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in table}
    assert code == 0 and times["operator, ms"] == ["`manet.onnx`", "`manet.int8.onnx`"]
    assert times["QLinearConv"][0] == "" and float(times["QLinearConv"][1]) > 0
    fp32 = [float(cells[0]) for kind, cells in times.items()
            if cells[0] and kind not in ("all", "operator, ms", "---")]
    assert sum(fp32) == pytest.approx(float(times["all"][0]), abs=0.01)


def test_a_clip_is_worked_through_offline_and_live(
    bench, detector_path, astronaut, write_clip, tmp_path
):
    clip = write_clip([cv2.resize(astronaut, (256, 256))] * 30, fps=200.0)
    code, out, _ = bench("--batch", "1", "--source", clip, "--detector", detector_path, "--json",
                         tmp_path / "r.json", "--plot", tmp_path / "plot.png")
    assert code == 0 and "offline: 30 frames (0 dropped), 30 faces" in out
    report = json.loads((tmp_path / "r.json").read_text())["clip"]
    offline, live = report["offline"]["stages"], report["live"]["stages"]
    assert {"read", "detect", "crop", "infer", "classify", "draw", "write"} < offline.keys()
    assert offline["end to end"]["samples"] == 30 and "age" not in offline
    assert report["live"]["frames"] + report["live"]["dropped"] == 30
    assert live["age"]["samples"] == report["live"]["frames"]
    # 5 ms a frame is faster than this pipeline: what is not taken at once gets old or is dropped.
    assert live["age"]["median_s"] > live["end to end"]["median_s"] * 0.9
    assert cv2.imread(str(tmp_path / "plot.png")) is not None


@pytest.mark.parametrize("arguments, message", [
    (("--engine", "nothing.onnx"), "engine nothing.onnx does not exist"),
    (("--batch", "64"), "manet.onnx takes at most 32 faces per inference, --batch asks for 64"),
    (("--source", "nothing.mp4"), "source nothing.mp4 does not exist"),
    (("--json", "no/where/r.json"), "no/where/r.json cannot be written: there is no folder"),
    (("--plot", "no/where/p.png"), "no/where/p.png cannot be written: there is no folder"),
    (("--baseline", "torch", "--checkpoint", "no.pth"), "checkpoint no.pth cannot be read"),
], ids=["engine", "batch over the maximum", "clip", "json", "plot", "checkpoint"])
def test_what_cannot_be_measured_is_one_line(bench, arguments, message):
    code, out, err = bench(*arguments)
    assert code == 2 and out == "" and message in err and err.count("\n") == 1


@pytest.mark.parametrize("arguments, message", [
    (("--batch", "0"), "'0', expected whole numbers from 1 on"),
    (("--batch", "1,x"), "'1,x', expected whole numbers from 1 on"),
    (("--baseline", "tvm"), "unknown baseline tvm; the baselines are torch, "),
    (("--plot", "p.gif"), "'p.gif', expected a name that ends in .png or .svg"),
    (("--duration", "-1"), "argument --duration: invalid"),
])
def test_arguments_are_checked(bench, capfd, arguments, message):
    with pytest.raises(SystemExit) as ended:
        bench(*arguments)
    assert ended.value.code == 2 and message in capfd.readouterr().err


def test_a_baseline_that_is_not_installed_is_named(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    code, _, err = bench("--baseline", "openvino")
    assert code == 2 and "install it with: pip install openvino" in err


def test_a_baseline_without_its_file_says_which(bench, exported, tmp_path):
    engine = shutil.copy(exported / "manet.int8.onnx", tmp_path)
    code, _, err = bench("--baseline", "onnxruntime-fp32", engine=engine)
    assert code == 2 and f"needs {tmp_path / 'manet.onnx'}, which does not exist" in err


def test_torch_of_another_checkpoint_is_refused(bench, tmp_path):
    import torch

    from feredge.export.models.manet import MaNet

    torch.save(MaNet(7, 0.25).state_dict(), tmp_path / "other.pth")
    code, _, err = bench("--baseline", "torch", "--checkpoint", tmp_path / "other.pth")
    assert code == 2 and "was not exported from" in err


@pytest.mark.parametrize("change, message", [
    (lambda spec: replace(spec, labels=tuple(reversed(spec.labels))), "has labels of"),
    (lambda spec: replace(spec, input=replace(spec.input, side=64)), "has an input side of 64"),
], ids=["labels", "side"])
def test_engines_that_answer_another_question_are_refused(
    bench, exported, monkeypatch, change, message
):
    def changed(engine, path, *options, opened=OnnxEngine.__init__):
        opened(engine, path, *options)
        if "int8" in path.name:
            engine.spec = change(engine.spec)

    monkeypatch.setattr(OnnxEngine, "__init__", changed)
    code, _, err = bench("--engine", exported / "manet.int8.onnx")
    assert code == 2 and message in err


@pytest.mark.parametrize("precision, refused", [("fp32", True), ("int8", False)])
def test_another_network_is_noticed_before_it_is_timed(precision, refused):
    crops = np.zeros((4, 3, 8, 8), np.float32)
    first = Candidate("first", "fp32", lambda crops: np.full((len(crops), 2), 0.5))
    other = Candidate("other", precision, lambda crops: np.tile([0.45, 0.55], (len(crops), 1)))
    if refused:
        with pytest.raises(EngineError, match="predictions of other differ from those of first"):
            compare_predictions([first, other], crops)
    else:
        difference = compare_predictions([first, other], crops)[1]
        assert difference["largest_change"] == pytest.approx(0.05)


def test_help_lists_the_baselines_that_there_are():
    assert set(options.BASELINES) == set(BASELINES)


def test_help_loads_nothing_heavy():
    code = ("import sys, json, atexit\n"
            "atexit.register(lambda: print(json.dumps(list(sys.modules)), file=sys.stderr))\n"
            "from feredge.benchmarks.fer_bench import main; main(['--help'])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert not loaded & {"torch", "onnx", "onnxruntime", "cv2", "matplotlib", "sklearn"}


def test_the_work_is_counted_from_the_graph_in_every_form(exported):
    forms = [work_of(exported / name, "fp32", 2)
             for name in ("manet.onnx", "manet.int8.qdq.onnx", "manet.int8.onnx")]
    assert forms[0] == forms[1]
    # A gate on a small map is a matrix over its positions in the CPU graph.
    assert forms[2].macs == pytest.approx(forms[0].macs, rel=1e-3)
    assert forms[2].bytes == pytest.approx(forms[0].bytes, rel=5e-3)
    assert forms[0].macs == 2 * work_of(exported / "manet.onnx", "fp32", 1).macs


def test_published_peaks_go_by_the_board_first():
    nano = published_peak("NVIDIA Jetson Orin Nano Developer Kit", "Orin")
    boosted = published_peak("NVIDIA Jetson Orin Nano Developer Kit Super", "Orin")
    assert nano.ops("int8") < boosted.ops("int8") and nano.ops("fp16") < nano.ops("int8")
    assert published_peak(None, "NVIDIA GeForce RTX 4090").bandwidth == 1008e9
    assert published_peak(None, "Voodoo 2") is published_peak(None, None) is None
