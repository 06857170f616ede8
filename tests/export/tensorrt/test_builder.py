"""Plans that TensorRT-RTX really builds; it needs no GPU for that, and cannot run them here."""

import signal
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper

from feredge.calibration.graphs.placement import quantized_convs
from feredge.calibration.graphs.qdq import tensorrt_graph
from feredge.calibration.graphs.sessions import session_of
from feredge.calibration.ranges import Ranges
from feredge.export.fp16 import fp16_graph
from feredge.export.models.manet import MaNet
from feredge.export.models.registry import NETWORKS
from feredge.export.network.to_onnx import onnx_from_torch
from feredge.export.tensorrt.builder import plan_from_onnx, polygraphy_for, tensorrt_errors
from feredge.export.tensorrt.config import Build, calibrator_of, config_with_flags
from feredge.export.tensorrt.options import PlanOptions, builder_flags, check_options, is_typed
from feredge.export.tensorrt.progress import allow_interrupt, progress_monitor
from feredge.runtime.errors import ExportError


def shapes(side, most=16, name="faces"):
    return {name: tuple((batch, 3, side, side) for batch in (1, min(4, most), most))}


@pytest.fixture(scope="module")
def sizes(rtx, typed):
    """Bytes of the bundled network's plan in each form that RTX takes."""
    forms = {"fp32": "manet.onnx", "fp16": "manet.fp16.onnx", "int8": "manet.int8.qdq.onnx",
             "both": "manet.int8.fp16.onnx"}
    return {form: plan_from_onnx(typed / file, Build(shapes(96), PlanOptions(
        "tensorrt-rtx", fp16=form in ("fp16", "both"), int8=form in ("int8", "both")), rtx))
        for form, file in forms.items()}


def test_every_precision_builds_and_is_smaller_than_the_one_before(sizes):
    lengths = {form: len(plan.content) for form, plan in sizes.items()}
    assert lengths["fp32"] > 1.6 * lengths["fp16"] > 1.6 * lengths["both"]
    assert sizes["fp32"].flags == ("strongly_typed",)
    assert sizes["both"].flags == ("strongly_typed", "tf32")


def test_int8_is_measured_on_the_parsed_network(sizes):
    assert sizes["fp32"].int8 == {} and sizes["fp16"].int8 == {}
    for form in ("int8", "both"):
        facts = sizes[form].int8
        assert facts["int8_share"] > 0.99 and facts["int8_share_from"] == "parsed network"
        assert 0.5 < facts["size_against_fp16_weights"] < 1.2


def test_the_plan_holds_int8_weights_and_no_others(sizes, typed):
    """What no inspector can say without a GPU: the integers themselves stand in the file."""
    stored = {tensor.name: numpy_helper.to_array(tensor)
              for tensor in onnx.load(typed / "manet.int8.fp16.onnx").graph.initializer}
    weights = {name: array for name, array in stored.items()
               if array.dtype == np.int8 and array.ndim == 4}
    assert len(weights) == 88
    plan = sizes["both"].content
    found = [name for name, array in weights.items()
             if array.transpose(0, 2, 3, 1).tobytes()[:256] in plan]
    assert set(weights) - set(found) <= {"conv1.weight_quantized"}, "its 3 channels are padded"
    assert not any(array[0].astype(np.float16).transpose(1, 2, 0).tobytes()[:256] in plan
                   for array in weights.values())


def test_a_plan_asked_for_int8_without_any_is_refused(rtx, typed):
    options = PlanOptions("tensorrt-rtx", int8=True)
    with pytest.raises(ExportError, match=r"none of the convolution work is INT8 \(by the parsed"):
        plan_from_onnx(typed / "manet.onnx", Build(shapes(96), options, rtx))


def test_what_tensorrt_cannot_parse_is_said_in_its_own_words(rtx, tmp_path):
    node = onnx.helper.make_node("Conv", ["faces", "w"], ["probabilities"], kernel_shape=[3, 3])
    values = [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in
              (("faces", ["n", 3, 8, 8]), ("probabilities", None))]
    weight = numpy_helper.from_array(np.zeros((4, 5, 3, 3), np.float32), "w")
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:], [weight])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "wrong.onnx")
    with pytest.raises(ExportError, match=r"TensorRT cannot build wrong\.onnx: ..") as caught:
        plan_from_onnx(tmp_path / "wrong.onnx", Build(shapes(8), PlanOptions("tensorrt-rtx"), rtx))
    assert "\n" not in str(caught.value)


def test_a_build_prints_nothing(rtx, typed, capfd):
    plan_from_onnx(typed / "manet.fp16.onnx", Build(shapes(96, 2), PlanOptions(fp16=True), rtx))
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""


def test_ctrl_c_ends_a_build_at_its_next_step(rtx, typed):
    def press():
        time.sleep(0.4)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        plan_from_onnx(typed / "manet.int8.fp16.onnx",
                       Build(shapes(96), PlanOptions(fp16=True), rtx))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_monitor_that_says_stop_ends_the_build(rtx, typed):
    loaders = polygraphy_for(rtx)
    from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

    monitor = progress_monitor(rtx.module, quiet=True)
    monitor.interrupted = True
    with (pytest.raises(KeyboardInterrupt), tensorrt_errors(Path("a.onnx")),
          allow_interrupt(monitor)):
        network = loaders.network_from_onnx_path(str(typed / "manet.onnx"), strongly_typed=True)
        profile = loaders.Profile().add("faces", *shapes(96)["faces"])
        loaders.engine_bytes_from_network(
            network, config=CreateConfigRTX(profiles=[profile], progress_monitor=monitor))


@pytest.fixture(scope="module")
def full_width():
    torch.manual_seed(0)
    return onnx_from_torch(MaNet(classes=7, width=1.0), 224)


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
def test_the_full_width_network_builds_at_224_px(rtx, tmp_path, full_width, half):
    model = full_width
    ir.save(fp16_graph(model) if half else model, tmp_path / "full.onnx")
    plan = plan_from_onnx(tmp_path / "full.onnx", Build(shapes(224), PlanOptions(fp16=half), rtx))
    assert len(plan.content) > (101e6 if half else 202e6), "it holds all 50.6 million weights"


@pytest.mark.slow
def test_the_full_width_network_builds_in_int8_at_224_px(
    rtx, tmp_path, full_width, measured_ranges
):
    keep_float = NETWORKS["manet"].keep_float
    convs = quantized_convs(full_width.graph, keep_float)
    faces = np.random.default_rng(0).random((2, 3, 224, 224), np.float32)
    values, count = measured_ranges(full_width, convs, [faces])
    ranges = Ranges("00" * 32, count, "", {}, values)
    graph = fp16_graph(tensorrt_graph(full_width, ranges, keep_float))
    ir.save(graph, tmp_path / "full.onnx")
    options = PlanOptions(fp16=True, int8=True)
    plan = plan_from_onnx(tmp_path / "full.onnx", Build(shapes(224), options, rtx))
    assert 50e6 < len(plan.content) < 101e6, "less than FP16 takes for the weights alone"
    assert plan.int8["int8_share"] > 0.99


@pytest.mark.parametrize(
    "version, typed_network",
    [("10.3.0", False), ("10.11.0.33", False), ("10.12.0.36", True)],
)
def test_weak_typing_ends_with_10_12(rtx, older_than_11, version, typed_network):
    older = older_than_11(version)
    assert is_typed(PlanOptions(int8=True), older) is typed_network
    assert not is_typed(PlanOptions(int8=True, calibrator=True), older)
    assert not is_typed(PlanOptions(fp16=True, dla=0), older)
    assert is_typed(PlanOptions(int8=True), rtx)


@pytest.mark.parametrize(
    "options, profile",
    [(PlanOptions(), (1, 4, 16)), (PlanOptions(max_batch=2), (1, 2, 2)),
     (PlanOptions(max_batch=8, dla=0), (8, 8, 8))],
    ids=["default", "small", "dla"],
)
def test_the_profile_spans_the_batches(options, profile):
    assert options.profile == profile


def test_a_half_graph_is_judged_where_it_is_built(typed):
    session = session_of(ir.load(typed / "manet.fp16.onnx"))
    assert session.get_inputs()[0].type == session.get_outputs()[0].type == "tensor(float)"


def test_the_calibrator_hands_out_our_ranges(rtx, typed, older_than_11, monkeypatch):
    """Polygraphy's calibrator on a network that RTX parsed; RTX itself lacks the base class."""
    import polygraphy.backend.trt.calibrator as calibrators

    class Calibrators:
        class IInt8EntropyCalibrator2:
            pass

        IInt8LegacyCalibrator = IInt8Calibrator = None

    monkeypatch.setattr(calibrators, "trt", Calibrators)
    older = older_than_11("10.3.0")
    builder, network, parser = polygraphy_for(rtx).network_from_onnx_path(
        str(typed / "manet.onnx"), strongly_typed=True)
    ranges = Ranges.from_json((typed / "manet.ranges.json").read_text())
    calibrator = calibrator_of(network, ranges, older)
    lines = calibrator.read_calibration_cache().decode().splitlines()
    assert lines[0] == "TRT-100300-EntropyCalibration2" and "faces: 3c010204" in lines
    assert len(lines) > 150 and calibrator.get_batch(["faces"]) is None
    with pytest.raises(ExportError, match="needs the ranges"):
        calibrator_of(network, None, older)
    del network, parser, builder


@pytest.mark.parametrize(
    "options, told",
    [(PlanOptions(), ()), (PlanOptions(fp16=True), ("fp16", "tf32")),
     (PlanOptions(fp16=True, int8=True), ("fp16", "int8", "tf32")),
     (PlanOptions(int8=True, calibrator=True), ("int8", "tf32", "calibrator")),
     (PlanOptions(int8=True, fp16=True, dla=0), ("fp16", "int8", "tf32", "calibrator", "dla",
                                                    "gpu_fallback"))],
    ids=["fp32", "fp16", "both", "calibrator", "dla"],
)
def test_a_weakly_typed_builder_is_told_the_precision(older_than_11, options, told):
    older = older_than_11("10.3.0")
    check_options(options, older)
    assert builder_flags(options, older) == told


@pytest.mark.parametrize(
    "options, said",
    [(PlanOptions(dla=0), "FP16 or INT8 only"),
     (PlanOptions(int8=True, dla=0), "pass --fp16, or --int8 --fp16"),
     (PlanOptions(calibrator=True), "pass --int8, too")],
    ids=["dla", "dla without fp16", "calibrator"],
)
def test_options_that_make_no_sense_are_refused(older_than_11, options, said):
    with pytest.raises(ExportError, match=said):
        check_options(options, older_than_11("10.3.0"))


def test_tensorrts_own_configuration_is_made_and_a_missing_dla_core_is_refused(
    rtx, typed, older_than_11
):
    older = older_than_11("10.3.0")
    loaders = polygraphy_for(rtx)
    builder, network, parser = loaders.network_from_onnx_path(
        str(typed / "manet.onnx"), strongly_typed=True)
    common = {"profiles": [loaders.Profile().add("faces", *shapes(96)["faces"])]}
    config = config_with_flags(builder, network, Build({}, PlanOptions(), older), common)
    assert config.num_optimization_profiles == 1
    assert not config.get_flag(rtx.module.BuilderFlag.TF32)
    with pytest.raises(ExportError, match="--dla 0: this machine has 0 DLA cores"):
        config_with_flags(builder, network, Build({}, PlanOptions(fp16=True, dla=0), older),
                       common)
    del config, network, parser, builder
