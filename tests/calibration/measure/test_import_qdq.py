"""Scales out of Q/DQ graphs: ours, onnxruntime's, and the forms that other tools write."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from feredge.calibration.graphs.placement import quantized_convs, tensorrt_values
from feredge.calibration.graphs.qdq import cpu_graph, tensorrt_graph
from feredge.calibration.measure.import_qdq import (
    quantizations,
    ranges_from_bounds,
    ranges_from_onnx,
)
from feredge.calibration.measure.tensorrt_cache import cache_text, read_cache
from feredge.calibration.ranges import Ranges
from feredge.runtime.errors import CalibrationError

KEEP_FLOAT = ("*.cbam.*",)


@pytest.fixture(scope="module")
def fp32(exported):
    return ir.load(exported / "manet.onnx")


@pytest.fixture(scope="module")
def bundled(exported):
    return Ranges.from_json((exported / "manet.ranges.json").read_text())


def with_values(values):
    return Ranges("", 0, "", {}, values)


def activations(path):
    return {name: (float(found.scale), int(found.zero_point))
            for name, found in quantizations(path).items() if found.axis is None}


@pytest.mark.parametrize(
    "file, build", [("manet.int8.qdq.onnx", tensorrt_graph),
                    ("manet.int8.onnx", lambda *a: cpu_graph(*a, 7))], ids=["TensorRT", "CPU"])
def test_our_own_scales_survive_the_round_trip(fp32, exported, tmp_path, file, build):
    values = ranges_from_onnx(exported / file, fp32)
    ir.save(build(fp32, with_values(values), KEEP_FLOAT), tmp_path / "again.onnx")
    before, after = activations(exported / file), activations(tmp_path / "again.onnx")
    assert len(before) >= 70 and set(after) == set(before)
    for name, (scale, zero) in before.items():
        assert after[name] == (pytest.approx(scale, rel=1e-6), zero)


def test_a_tensorrt_cache_gives_the_ranges_that_the_tensorrt_graph_needs(fp32, bundled, tmp_path):
    convs = quantized_convs(fp32.graph, KEEP_FLOAT)
    tensors = [str(value.name) for value in tensorrt_values(fp32.graph, convs)]
    text = cache_text({name: 1.0 + k for k, name in enumerate(tensors)}, (10, 3, 0))
    bounds = {name: (-a, a) for name, a in read_cache(text).items()}
    values = ranges_from_bounds(bounds, fp32)
    assert values["layer1.0.conv1:input"]["max"][0] == 0, "a ReLU's output is never negative"
    assert values["layer2.0.downsample.0:output"]["max"][0] < 0
    ir.save(tensorrt_graph(fp32, with_values(values), KEEP_FLOAT), tmp_path / "cached.onnx")
    found = activations(tmp_path / "cached.onnx")
    for k, name in enumerate(tensors):
        assert found[name][0] == pytest.approx((1 + k) / 127, rel=1e-6)


def test_a_tensor_spans_what_is_cut_from_it(fp32):
    split = next(node for node in fp32.graph if node.op_type == "Split")
    assert split.inputs[0].name == "layer3_2.0.relu" and len(split.outputs) == 4
    bounds = {str(value.name): (-1.0 - k, 1.0 + k) for k, value in enumerate(split.outputs)}
    assert list(ranges_from_bounds(bounds, fp32).values()) == [{"max": (0, 4)}]


class Noise(CalibrationDataReader):
    def __init__(self):
        rng = np.random.default_rng(0)
        self.batches = iter([{"faces": rng.random((2, 3, 8, 8), np.float32)}])

    def get_next(self):
        return next(self.batches, None)


@pytest.fixture
def small(tmp_path):
    """Two convolutions with a ReLU between them, named as exports are."""
    rng = np.random.default_rng(1)
    tensors, nodes = [], []
    for name, source, channels, target in (("conv1", "faces", 3, "conv1"),
                                           ("conv2", "relu", 16, "probabilities")):
        weight = rng.normal(size=(16, channels, 3, 3)).astype(np.float32)
        tensors += [numpy_helper.from_array(weight, f"{name}.weight"),
                    numpy_helper.from_array(weight[:, 0, 0, 0], f"{name}.bias")]
        nodes.append(helper.make_node("Conv", [source, f"{name}.weight", f"{name}.bias"],
                                      [target], name))
    nodes.insert(1, helper.make_node("Relu", ["conv1"], ["relu"], "relu"))
    values = [helper.make_tensor_value_info(name, 1, shape) for name, shape in
              (("faces", ["n", 3, 8, 8]), ("probabilities", ["n", 16, 4, 4]))]
    graph = helper.make_graph(nodes, "small", values[:1], values[1:], tensors)
    path = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
              path)
    return path


@pytest.mark.parametrize("activation", [QuantType.QUInt8, QuantType.QInt8],
                         ids=["unsigned", "signed"])
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_onnxruntimes_scales_become_our_graph(small, tmp_path, activation, symmetric):
    theirs, ours = tmp_path / "theirs.onnx", tmp_path / "ours.onnx"
    quantize_static(small, theirs, Noise(), per_channel=True, activation_type=activation,
                    weight_type=QuantType.QInt8,
                    extra_options={"ActivationSymmetric": symmetric})
    found = quantizations(theirs)
    weight = found["conv1.weight_quantized"]
    assert weight.axis == 0 and weight.scale.shape == weight.zero_point.shape == (16,)
    assert weight.zero_point.dtype == np.int8
    model = ir.load(small)
    values = ranges_from_onnx(theirs, model)
    assert values["conv2:input"]["max"][0] == 0, "behind a ReLU, which they may drop"
    ir.save(tensorrt_graph(model, with_values(values), ()), ours)
    for name, key in (("faces", "conv1:input"), ("relu", "conv2:input")):
        their = found[name if name in found else "conv1"]
        largest = max(map(abs, values[key]["max"]))
        assert largest == pytest.approx(max(map(abs, their.bounds)), rel=1e-6)
        assert activations(ours)[name][0] == pytest.approx(largest / 127, rel=1e-6)


def qdq_file(path, constants_as_nodes, zero_point=True, scale_as_input=False):
    """A Q/DQ pair and a weight stored in INT8 along axis 1, as Model Optimizer may write them."""
    arrays = {"s": np.float32(0.5), "z": np.int8(0), "ws": np.float32([1, 2, 3]),
              "wz": np.zeros(3, np.int8), "w": np.ones((2, 3), np.int8)}
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    if scale_as_input:
        tensors = tensors[1:]
    pair = ["s", "z"] if zero_point else ["s"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *pair], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", *pair], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=1),
        helper.make_node("Gemm", ["d", "wd"], ["y"]),
    ]
    constants = [helper.make_node("Constant", [], [tensor.name], value=tensor)
                 for tensor in tensors]
    given = [("x", ["n", 2]), *([("s", [])] if scale_as_input else [])]
    values = [helper.make_tensor_value_info(name, 1, shape) for name, shape in given]
    graph = helper.make_graph(
        (constants if constants_as_nodes else []) + nodes, "g", values,
        [helper.make_tensor_value_info("y", 1, ["n", 3])], [] if constants_as_nodes else tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.parametrize("constants_as_nodes", [False, True], ids=["initializers", "Constants"])
def test_parameters_are_read_from_initializers_and_constant_nodes(tmp_path, constants_as_nodes):
    found = quantizations(qdq_file(tmp_path / "a.onnx", constants_as_nodes))
    assert set(found) == {"x", "w"}
    assert (found["x"].scale, found["x"].axis, found["x"].bounds) == (0.5, None, (-63.5, 63.5))
    assert found["w"].axis == 1 and found["w"].scale.tolist() == [1, 2, 3]


def test_without_a_zero_point_the_integers_are_unsigned(tmp_path):
    found = quantizations(qdq_file(tmp_path / "a.onnx", True, zero_point=False))
    assert found["x"].bounds == (0, 127.5)


def test_files_without_scales_are_refused(exported, tmp_path):
    (tmp_path / "cut.onnx").write_bytes((exported / "manet.int8.onnx").read_bytes()[:5000])
    computed = qdq_file(tmp_path / "computed.onnx", False, scale_as_input=True)
    for path, said in ((tmp_path / "cut.onnx", "is not a readable ONNX file"),
                       (tmp_path / "none.onnx", "is not a readable ONNX file"),
                       (exported / "manet.onnx", "has no QuantizeLinear"),
                       (computed, "x: its scale or zero point is computed")):
        with pytest.raises(CalibrationError, match=said):
            quantizations(path)


def test_scales_of_another_network_are_refused(fp32, tmp_path):
    with pytest.raises(CalibrationError, match=r"none of the 1 quantized tensors.*as x; the"):
        ranges_from_onnx(qdq_file(tmp_path / "a.onnx", False), fp32)
