"""FP16 graphs for strongly typed builds, and the checks that stand before a build."""

import numpy as np
import onnx_ir as ir
import pytest

from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.graphs.sessions import session_of
from feredge.calibration.quality.agreement import agreements, tensorrt_int8_convs
from feredge.calibration.ranges import Ranges
from feredge.export.fp16 import check_fp16_fits, check_fp16_probabilities, fp16_graph
from feredge.runtime import open_engine
from feredge.runtime.errors import ExportError

HALF, SINGLE = ir.DataType.FLOAT16, ir.DataType.FLOAT


@pytest.fixture(scope="module")
def fp32(exported):
    return ir.load(exported / "manet.onnx")


@pytest.fixture(scope="module")
def qdq(exported):
    return ir.load(exported / "manet.int8.qdq.onnx")


@pytest.fixture
def noise():
    return np.random.default_rng(0).random((2, 3, 96, 96), np.float32)


def of(graph, kind):
    return [node for node in graph if node.op_type == kind]


def test_the_body_is_half_and_the_head_and_the_ends_are_not(fp32):
    half = fp16_graph(fp32)
    assert half.opset_imports[""] == 19
    assert half.graph.inputs[0].dtype == half.graph.outputs[0].dtype == SINGLE
    convs = of(half.graph, "Conv")
    assert len(convs) == 136
    assert {value.dtype for conv in convs for value in conv.inputs[1:]} == {HALF}
    for gemm in of(half.graph, "Gemm"):
        assert {value.dtype for value in gemm.inputs[1:]} == {SINGLE}
        assert gemm.inputs[0].producer().op_type == "Cast"
    assert len(of(half.graph, "Cast")) == 3, "the input, and what each head reads"
    assert not [value for value in half.graph.initializers.values()
                if value.dtype == SINGLE and np.prod(value.shape) > 8 * 256]


def test_q_and_dq_get_half_scales_and_stored_weights(qdq):
    half = fp16_graph(qdq)
    for node in (*of(half.graph, "QuantizeLinear"), *of(half.graph, "DequantizeLinear")):
        scale = node.inputs[1].const_value.numpy()
        assert scale.dtype == np.float16 and (scale > 0).all()
    weights = [conv.inputs[1].producer().inputs[0] for conv in of(half.graph, "Conv")
               if conv.inputs[1].producer() is not None]
    assert len(weights) == 88 and {weight.dtype for weight in weights} == {ir.DataType.INT8}
    assert tensorrt_int8_convs(half) == tensorrt_int8_convs(qdq)


def test_stored_weights_are_the_nearest_to_the_fp32_ones(qdq):
    half = fp16_graph(qdq)
    for conv in of(half.graph, "Conv"):
        maker = conv.inputs[1].producer()
        if maker is None:
            continue
        exact = qdq.graph.initializers[f"{conv.name}.weight"].const_value.numpy()
        steps = maker.inputs[0].const_value.numpy().astype(np.float32)
        scale = maker.inputs[1].const_value.numpy().astype(np.float32)[:, None, None, None]
        inside = np.abs(steps) < 127
        assert (np.abs(steps * scale - exact)[inside] <= (0.501 * scale + 0 * exact)[inside]).all()


def test_the_graph_it_was_made_from_stays_as_it_was(fp32):
    before = ir.to_proto(fp32).SerializeToString()
    fp16_graph(fp32)
    assert ir.to_proto(fp32).SerializeToString() == before


def test_scales_too_small_for_half_stay_above_zero(qdq):
    tiny = qdq.clone()
    scale = tiny.graph.initializers["conv1.weight_scale"]
    scale.const_value = ir.tensor(np.full(scale.shape, 1e-8, np.float32))
    stored = fp16_graph(tiny).graph.initializers["conv1.weight_scale.fp16"].const_value.numpy()
    assert (stored == np.float16(2.0**-24)).all()


@pytest.mark.slow
def test_both_answer_as_fp32_on_real_faces(fp32, qdq, exported, shared_file):
    with open_engine(exported / "manet.onnx") as engine:
        spec = engine.spec
    faces = FaceFolder(shared_file("data/ferplus-calibration"), spec.input, spec.crop)
    faces.files = faces.files[::4]
    sessions = {"fp16": session_of(fp16_graph(fp32)),
                "int8": session_of(qdq, integer_kernels=False),
                "both": session_of(fp16_graph(qdq), integer_kernels=False)}
    found = agreements(session_of(fp32), sessions, faces.batches())
    assert found["fp16"].faces == len(faces.files) > 200
    assert found["fp16"].top1 > 0.995 and found["fp16"].largest_change < 5e-3
    assert found["both"].top1 > 0.97
    assert found["both"].mean_change < 1.5 * found["int8"].mean_change


def test_an_activation_beyond_half_is_refused(fp32, noise):
    assert check_fp16_fits(fp32, noise, {}) < 1000
    loud = fp32.clone()
    weight = loud.graph.initializers["conv1.weight"]
    weight.const_value = ir.tensor(weight.const_value.numpy() * 3e4)
    assert np.abs(weight.const_value.numpy()).max() < 65504, "the weights themselves fit"
    with pytest.raises(ExportError, match=r"the activation \w+ reaches .*, FP16 ends at 65504"):
        check_fp16_fits(loud, noise, {})


def test_a_recorded_range_beyond_half_is_refused(fp32, noise, exported):
    ranges = Ranges.from_json((exported / "manet.ranges.json").read_text())
    check_fp16_fits(fp32, noise, ranges.values)
    values = dict(ranges.values) | {"layer1.0.conv2:input": {"max": (0.0, 65504.0)}}
    with pytest.raises(ExportError, match=r"layer1\.0\.conv2:input reaches 6\.55e\+04"):
        check_fp16_fits(fp32, noise, values)


def test_activations_that_are_not_numbers_are_refused(fp32):
    with pytest.raises(ExportError, match="nan"):
        check_fp16_fits(fp32, np.full((1, 3, 96, 96), np.nan, np.float32), {})


def test_a_weight_beyond_half_is_refused(fp32):
    loud = fp32.clone()
    weight = loud.graph.initializers["conv1.weight"]
    weight.const_value = ir.tensor(weight.const_value.numpy() * 1e6)
    with pytest.raises(ExportError, match=r"conv1\.weight holds .* more than FP16's 65504"):
        fp16_graph(loud)


@pytest.mark.parametrize("quantized", [False, True], ids=["largest", "mean"])
def test_a_graph_that_answers_otherwise_is_refused(fp32, noise, quantized):
    half = fp16_graph(fp32)
    assert check_fp16_probabilities(half, fp32, noise, quantized) < 5e-3
    bias = half.graph.initializers["fc_1.bias"]
    bias.const_value = ir.tensor(bias.const_value.numpy() + np.arange(8, dtype=np.float32))
    with pytest.raises(ExportError, match="FP16 moves a probability by"):
        check_fp16_probabilities(half, fp32, noise, quantized)
