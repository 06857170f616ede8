"""fer-export building plans, as a user runs it: files, sidecars, and what is refused."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from feredge.export.fer_export import MODEL_ARGUMENTS, arguments, main, report_text
from feredge.export.network.to_onnx import save
from feredge.export.tensorrt.builder import PlanOptions
from feredge.export.tensorrt.plan_sources import (
    Source,
    check_form,
    suffix_for,
    with_file_precision,
)
from feredge.runtime.errors import ExportError
from feredge.runtime.spec import DetectorSpec, ModelSpec


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def embedded(path):
    metadata = {item.key: item.value for item in onnx.load(path).metadata_props}
    return ModelSpec.from_json(metadata["feredge"])


def test_an_export_ends_in_a_plan_with_its_sidecar(typed, rtx):
    assert {file.name for file in typed.iterdir()} == {
        "manet.onnx", "manet.int8.onnx", "manet.int8.qdq.onnx", "manet.fp16.onnx",
        "manet.int8.fp16.onnx", "manet.plan", "manet.plan.json", "manet.ranges.json",
        "manet.report.json",
    }
    sidecar = ModelSpec.from_json((typed / "manet.plan.json").read_text())
    onnx_spec = embedded(typed / "manet.int8.fp16.onnx")
    assert sidecar.sha256 == sha256(typed / "manet.plan")
    target = sidecar.target
    assert target.onnx_sha256 == sha256(typed / "manet.int8.fp16.onnx")
    assert (target.kind, target.version) == ("tensorrt-rtx", rtx.module.__version__)
    assert {"8.0", "8.6", "8.9", "12.0"} <= set(target.compute_capabilities)
    assert target.profile == (1, 4, 16) and target.flags == ("strongly_typed", "tf32")
    for field in ("model", "variant", "labels", "input", "crop", "source", "calibration"):
        assert getattr(sidecar, field) == getattr(onnx_spec, field)
    assert sidecar.precision == onnx_spec.precision == "int8"
    assert onnx_spec.target.flags == ("strongly_typed",)
    assert sidecar.quality["int8_share"] > 0.99


def test_the_report_tells_seconds_size_and_what_the_share_rests_on(typed):
    report = json.loads((typed / "manet.report.json").read_text())
    plan = report["plan"]
    assert plan["bytes"] == (typed / "manet.plan").stat().st_size and plan["build_seconds"] > 0
    assert plan["int8_share_from"] == "parsed network"
    assert report["fp16"]["largest_difference"] < 5e-3
    assert 1 < report["fp16"]["largest_activation"] < 65504
    assert report["fp16"]["recorded_ranges"] > 100
    assert report["int8"]["manet.int8.fp16.onnx"]["int8_share"] > 0.99
    text = report_text(report)
    assert "manet.plan: INT8, tensorrt-rtx" in text and "by the parsed network" in text
    assert "onnxruntime, which computes most of it in FP32" in text


def test_the_two_precision_graph_has_its_recorded_agreement(typed):
    report = json.loads((typed / "manet.report.json").read_text())
    agreement = report["int8"]["manet.int8.fp16.onnx"]["agreement"]
    assert agreement["faces"] == 1024 and agreement["top1"] > 0.97


def test_a_device_builds_without_torch_or_onnx(typed, tmp_path, rtx):
    code = ("import sys\n"
            "for name in ('torch', 'onnx', 'onnx_ir', 'onnxscript', 'safetensors', 'tqdm'):\n"
            "    sys.modules[name] = None\n"
            "from feredge.export.fer_export import main\n"
            f"code = main(['--onnx', {str(typed / 'manet.int8.qdq.onnx')!r}, '--target', "
            f"'tensorrt-rtx', '--max-batch', '8', '--output', {str(tmp_path)!r}])\n"
            "assert not [n for n in sys.modules if n.split('.')[0] == 'torch' and n != 'torch']\n"
            "sys.exit(code)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {file.name for file in tmp_path.iterdir()} == {
        "manet.plan", "manet.plan.json", "manet.plan.report.json"}
    sidecar = ModelSpec.from_json((tmp_path / "manet.plan.json").read_text())
    assert sidecar.precision == "int8" and sidecar.target.profile == (1, 4, 8)
    assert sidecar.target.onnx_sha256 == sha256(typed / "manet.int8.qdq.onnx")


def test_json_is_the_report(typed, tmp_path, capfd, rtx):
    assert main(["--onnx", str(typed / "manet.fp16.onnx"), "--target", "tensorrt-rtx", "--json",
                 "--name", "other", "--output", str(tmp_path)]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report == json.loads((tmp_path / "other.plan.report.json").read_text())
    assert report["plan"]["precision"] == "fp16" and report["plan"]["file"] == "other.plan"


def test_the_detectors_plan_is_built_from_its_onnx_file(detector_path, tmp_path, rtx):
    assert main(["--detector", str(detector_path), "--detector-size", "500", "--target",
                 "tensorrt-rtx", "--name", "yunet", "--output", str(tmp_path)]) == 0
    sidecar = DetectorSpec.from_json((tmp_path / "yunet.plan.json").read_text())
    assert sidecar.sha256 == sha256(tmp_path / "yunet.plan") and sidecar.size_px == 512
    assert sidecar.target.onnx_sha256 == sha256(detector_path)
    assert (tmp_path / "yunet.plan").stat().st_size > 2e5


def test_what_cannot_be_meant_is_refused_in_one_line(typed, detector_path, tmp_path, line, rtx):
    output = tmp_path / "out"
    output.mkdir()
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    cases = [
        ([], "pass --model NAME for a network, --onnx FILE"),
        (["--onnx", typed / "manet.onnx", "--detector", detector_path], "name two networks"),
        (["--onnx", tmp_path / "none.onnx"], "does not exist; export it with: fer-export"),
        (["--onnx", tmp_path / "broken.onnx"], "no ONNX file that onnxruntime can run"),
        (["--onnx", detector_path], "carries no ModelSpec"),
        (["--detector", typed / "manet.onnx"], "is not a YuNet-format face detector"),
        (["--detector", tmp_path / "none.onnx"], "does not exist"),
        (["--detector", detector_path, "--fp16"], "a detector's plan is FP32"),
        (["--onnx", typed / "manet.int8.onnx"], "build from manet.int8.qdq.onnx"),
        (["--onnx", typed / "manet.onnx", "--int8"], "build from manet.int8.qdq.onnx"),
        (["--onnx", typed / "manet.onnx", "--fp16"], "build from manet.fp16.onnx"),
        (["--onnx", typed / "manet.int8.qdq.onnx", "--fp16"], "build from manet.int8.fp16.onnx"),
        (["--onnx", typed / "manet.onnx", "--fp16", "--dla", "0"], "cannot build for a DLA"),
        (["--onnx", typed / "manet.onnx", "--int8", "--calibrator"], "as Q/DQ only"),
        (["--onnx", typed / "manet.onnx", "--timing-cache", "a"], "a timing cache has no effect"),
    ]
    for given, said in cases:
        message = line(*given, "--target", "tensorrt-rtx", "--output", output)
        assert said in message, given
        assert list(output.iterdir()) == []
    assert "builds no plan" in line("--onnx", typed / "manet.onnx", "--target", "onnx")


def test_arguments_of_an_export_are_refused_for_a_build(typed, line):
    assert set(MODEL_ARGUMENTS) < {action.dest for action in arguments()._actions}
    message = line("--onnx", typed / "manet.onnx", "--side", "96", "--detect")
    assert "--detect, --side belong to --model" in message


def test_a_tensorrt_that_is_not_installed_names_its_extra(typed, line, monkeypatch):
    for kind, module in (("tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt_rtx")):
        monkeypatch.setitem(sys.modules, module, None)
        message = line("--onnx", typed / "manet.onnx", "--target", kind)
        assert f"pip install 'feredge[{kind}]'" in message
        assert f"pip install 'feredge[{kind}]'" in line("--model", "manet", "--target", kind)


def test_a_graph_that_says_int8_and_is_not_leaves_no_plan(typed, tmp_path, line, rtx):
    float_graph = ir.load(typed / "manet.onnx")
    spec = replace(embedded(typed / "manet.int8.qdq.onnx"), quality={})
    save(float_graph, spec, tmp_path / "false.int8.qdq.onnx")
    output = tmp_path / "out"
    output.mkdir()
    message = line("--onnx", tmp_path / "false.int8.qdq.onnx", "--target", "tensorrt-rtx",
                   "--output", output)
    assert "none of the convolution work is INT8" in message
    assert list(output.iterdir()) == []


def test_ranges_of_other_weights_are_refused_by_the_calibrator_path(typed, tmp_path):
    from feredge.export.tensorrt.plan_sources import ranges_beside
    from feredge.runtime.errors import CalibrationError

    spec = embedded(typed / "manet.onnx")
    source = Source(tmp_path / "manet.onnx", spec)
    with pytest.raises(CalibrationError, match=r"manet\.ranges\.json cannot be read: No such file"):
        ranges_beside(source)
    text = (typed / "manet.ranges.json").read_text()
    (tmp_path / "manet.ranges.json").write_text(text)
    assert ranges_beside(source).faces == 1024
    (tmp_path / "manet.ranges.json").write_text(
        text.replace(spec.source.checkpoint_sha256, "00" * 32))
    with pytest.raises(CalibrationError, match="belong to weights 000000000000"):
        ranges_beside(source)


@pytest.fixture
def weak(older_than_11):
    return older_than_11("10.3.0")


OPTIONS = {"fp32": PlanOptions(), "fp16": PlanOptions(fp16=True), "int8": PlanOptions(int8=True),
           "both": PlanOptions(fp16=True, int8=True),
           "calibrator": PlanOptions(fp16=True, int8=True, calibrator=True)}


@pytest.mark.parametrize(
    "options, weakly, strongly",
    [("fp32", ".onnx", ".onnx"), ("fp16", ".onnx", ".fp16.onnx"),
     ("int8", ".int8.qdq.onnx", ".int8.qdq.onnx"),
     ("both", ".int8.qdq.onnx", ".int8.fp16.onnx"), ("calibrator", ".onnx", ".onnx")],
)
def test_each_version_is_given_the_file_in_its_form(options, weakly, strongly, weak, rtx, typed):
    chosen = OPTIONS[options]
    for tensorrt, suffix in ((weak, weakly), (rtx, strongly)):
        if chosen.calibrator and tensorrt is rtx:
            continue  # refused before: it has no calibrators
        assert suffix_for(chosen, tensorrt) == suffix
        file = typed / f"manet{suffix}"
        source = Source(file, embedded(file))
        assert source.name == "manet"
        check_form(source, with_file_precision(source, chosen, tensorrt), tensorrt)


def test_a_graph_with_types_is_not_given_to_a_weakly_typed_version(weak, typed):
    for file, wanted in (("manet.fp16.onnx", "manet.onnx"),
                         ("manet.int8.fp16.onnx", "manet.int8.qdq.onnx")):
        source = Source(typed / file, embedded(typed / file))
        with pytest.raises(ExportError, match=rf"opset 19.*build from {wanted}"):
            check_form(source, with_file_precision(source, PlanOptions(), weak), weak)


def test_the_calibrator_starts_from_fp32(weak, typed):
    file = typed / "manet.int8.qdq.onnx"
    with pytest.raises(ExportError, match=r"starts from FP32: build from manet\.onnx"):
        with_file_precision(Source(file, embedded(file)), OPTIONS["calibrator"], weak)


def test_a_plan_is_a_plain_tensorrt_file(typed):
    content = (typed / "manet.plan").read_bytes()
    assert content[:4] != b"{" and b'"labels"' not in content
    with pytest.raises(Exception, match=r"(?i)protobuf"):
        ort.InferenceSession(str(typed / "manet.plan"), providers=["CPUExecutionProvider"])


def test_the_typed_graphs_take_and_give_fp32(typed):
    crops = np.random.default_rng(0).random((2, 3, 96, 96), np.float32)
    for name in ("manet.fp16.onnx", "manet.int8.fp16.onnx"):
        session = ort.InferenceSession(str(Path(typed) / name), providers=["CPUExecutionProvider"])
        answer = session.run(["probabilities"], {"faces": crops})[0]
        assert answer.dtype == np.float32 and answer.shape == (2, 8)
        assert np.allclose(answer.sum(axis=1), 1, atol=1e-5)
