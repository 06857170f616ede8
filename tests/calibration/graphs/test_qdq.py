"""The two INT8 graphs of one set of ranges, as the export wrote them."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper

from feredge.calibration.graphs.placement import keyed_values, quantized_convs, weight_of
from feredge.calibration.graphs.qdq import cpu_graph, tensorrt_graph
from feredge.calibration.graphs.scales import channel_scales
from feredge.calibration.graphs.sessions import evaluation_session, session_of
from feredge.calibration.quality.agreement import (
    agreements,
    conv_macs,
    cpu_int8_convs,
    int8_share,
    tensorrt_int8_convs,
)
from feredge.calibration.ranges import Ranges
from feredge.export.network.to_onnx import onnx_from_torch
from feredge.runtime.errors import CalibrationError

KEEP_FLOAT = ("*.cbam.*",)


@pytest.fixture(scope="module")
def fp32(exported):
    return ir.load(exported / "manet.onnx")


@pytest.fixture(scope="module")
def ranges(exported):
    return Ranges.from_json((exported / "manet.ranges.json").read_text())


@pytest.fixture(scope="module")
def qdq(exported):
    return onnx.load(exported / "manet.int8.qdq.onnx")


@pytest.fixture(scope="module")
def cpu(exported):
    return onnx.load(exported / "manet.int8.onnx")


def tables(model):
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    return constants, makers


def test_the_tensorrt_graph_is_what_every_tensorrt_since_8_6_takes(qdq):
    constants, makers = tables(qdq)
    (opset,) = [item.version for item in qdq.opset_import if item.domain == ""]
    assert opset == 17
    for node in qdq.graph.node:
        if node.op_type.startswith("Reduce"):
            assert len(node.input) == 1 and any(item.name == "axes" for item in node.attribute)
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero = constants[node.input[1]], constants[node.input[2]]
            assert scale.dtype == np.float32 and (scale > 0).all()
            assert zero.dtype == np.int8 and not zero.any()
    quantized = [node for node in qdq.graph.node if node.op_type == "Conv"
                 and makers.get(node.input[1]) is not None]
    assert len(quantized) == 88
    for conv in quantized:
        restore = makers[conv.input[1]]
        quantize = makers[restore.input[0]]
        assert (restore.op_type, quantize.op_type) == ("DequantizeLinear", "QuantizeLinear")
        weight = constants[quantize.input[0]]
        assert weight.dtype == np.float32, "8.x wants float weights before Q/DQ"
        assert constants[quantize.input[1]].shape == (len(weight),)
        assert next(item.i for item in quantize.attribute if item.name == "axis") == 0
        assert constants[conv.input[2]].dtype == np.float32, "TensorRT refuses an INT32 bias"


def test_nothing_of_cbam_or_the_heads_is_quantized(qdq):
    for node in qdq.graph.node:
        if node.op_type == "QuantizeLinear":
            assert ".cbam." not in node.input[0] and not node.input[0].startswith("fc_")


def test_the_cpu_graph_is_unsigned_with_integer_weights_and_biases(cpu):
    constants, makers = tables(cpu)
    for node in cpu.graph.node:
        if node.op_type == "QuantizeLinear":
            zero = constants[node.input[2]]
            assert zero.dtype == np.uint8 and zero in (0, 128)
    integer = 0
    for node in cpu.graph.node:
        if node.op_type == "Conv" and ".cbam." not in node.name:
            weight = constants[makers[node.input[1]].input[0]]
            bias = constants[makers[node.input[2]].input[0]]
            assert weight.dtype == np.int8 and np.abs(weight.astype(int)).max() <= 64
            assert bias.dtype == np.int32
            integer += 1
    assert integer == 88


def test_both_graphs_hold_the_same_ranges(qdq, cpu):
    signed, unsigned = tables(qdq)[0], tables(cpu)[0]
    shared = [name for name in signed if name.endswith("_scale") and name in unsigned
              and signed[name].ndim == 0]
    assert len(shared) > 60
    for name in shared:
        zero = unsigned[name.removesuffix("_scale") + "_zero"]
        steps = 127 if zero == 128 else 255
        assert unsigned[name] * steps == pytest.approx(signed[name] * 127, rel=1e-6)


def test_onnxruntime_runs_every_chosen_convolution_in_integers(fp32, exported):
    macs = conv_macs(fp32, 96)
    convs = cpu_int8_convs(ir.load(exported / "manet.int8.onnx"))
    assert convs == {conv.name for conv in quantized_convs(fp32.graph, KEEP_FLOAT)}
    assert int8_share(convs, macs) > 0.99
    assert tensorrt_int8_convs(ir.load(exported / "manet.int8.qdq.onnx")) == convs


def test_macs_are_those_of_the_published_network(tmp_path):
    """MA-Net at 224 px: 3.64 GMAC with the two heads (shared facts); 50.55 M parameters."""
    import torch

    from feredge.export.models.manet import MaNet

    with torch.device("meta"):
        network = MaNet()
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(50.55e6, rel=1e-3)
    total = 0

    def count(module, inputs, output):
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    network.eval()(torch.zeros(1, 3, 224, 224, device="meta"))
    assert total == pytest.approx(3.64e9, rel=5e-3)


def test_a_float_graph_is_not_called_int8(fp32):
    assert tensorrt_int8_convs(fp32) == set() and cpu_int8_convs(fp32) == set()


@pytest.mark.slow
def test_the_weight_range_follows_the_bits(fp32, ranges):
    for bits, largest in ((7, 64), (8, 127)):
        model = cpu_graph(fp32, ranges, KEEP_FLOAT, bits)
        stored = [value.const_value.numpy() for name, value in model.graph.initializers.items()
                  if name.endswith("weight_quantized")]
        assert max(np.abs(array.astype(int)).max() for array in stored) == largest


@pytest.mark.slow
def test_int8_answers_as_fp32_on_faces_it_was_not_calibrated_on(fp32, exported, faces_48px):
    from feredge.calibration.face_folder import FaceFolder
    from feredge.runtime import open_engine

    with open_engine(exported / "manet.onnx") as engine:
        spec = engine.spec
    faces = FaceFolder(faces_48px, spec.input, spec.crop)
    faces.files = faces.files[::14]
    sessions = {
        "cpu": session_of(ir.load(exported / "manet.int8.onnx")),
        "tensorrt": session_of(ir.load(exported / "manet.int8.qdq.onnx"), integer_kernels=False),
    }
    found = agreements(session_of(fp32), sessions, faces.batches())
    for agreement in found.values():
        assert agreement.faces == len(faces.files) > 200
        assert agreement.top1 >= 0.97 and agreement.mean_change < 0.006
        assert 0 < agreement.largest_change < 0.3


def test_ranges_that_do_not_cover_the_graph_are_refused(fp32, ranges):
    values = dict(ranges.values)
    for key in ("conv1:input", "layer1.0.conv1:input"):
        del values[key]
    less = Ranges(ranges.checkpoint_sha256, 1, "", {}, values)
    for build in (tensorrt_graph, lambda *a: cpu_graph(*a, 7)):
        with pytest.raises(CalibrationError, match=r"missing: conv1:input, layer1\.0\.conv1:input"):
            build(fp32, less, KEEP_FLOAT)


def test_dead_channels_and_tensors_keep_positive_scales(fp32, ranges):
    dead = {key: {"max": (0.0, 0.0)} for key in keyed_values(
        fp32.graph, quantized_convs(fp32.graph, KEEP_FLOAT))}
    zero = Ranges(ranges.checkpoint_sha256, 1, "", {}, dead)
    model = fp32.clone()
    for name, value in model.graph.initializers.items():
        if name == "layer1.0.conv1.weight":
            value.const_value = ir.tensor(np.zeros(value.const_value.shape, np.float32))
    faces = np.zeros((2, 3, 96, 96), np.float32)
    for quantized in (tensorrt_graph(model, zero, KEEP_FLOAT),
                      cpu_graph(model, zero, KEEP_FLOAT, 7)):
        answer = session_of(quantized).run(None, {"faces": faces})[0]
        assert np.isfinite(answer).all()


@pytest.mark.parametrize("largest, gain", [(64, 0.97), (127, 0.999)], ids=["7 bit", "8 bit"])
def test_weight_scales_lose_less_than_the_widest_ones(fp32, largest, gain):
    before = after = 0.0
    for conv in quantized_convs(fp32.graph, KEEP_FLOAT):
        weight = weight_of(conv)
        flat = weight.reshape(len(weight), -1)

        def error(scale, flat=flat):
            stored = np.clip(np.rint(flat / scale[:, None]), -largest, largest) * scale[:, None]
            return ((stored - flat) ** 2).sum(axis=1)

        widest = np.abs(flat).max(axis=1) / largest
        chosen = error(channel_scales(weight, largest))
        assert (chosen <= error(widest) * 1.001 + 1e-12).all()
        before, after = before + error(widest).sum(), after + chosen.sum()
    assert after < gain * before


def test_the_fp32_graph_is_left_as_it_was(fp32, ranges, exported):
    tensorrt_graph(fp32, ranges, KEEP_FLOAT)
    cpu_graph(fp32, ranges, KEEP_FLOAT, 7)
    before = ir.to_proto(ir.load(Path(exported) / "manet.onnx"))
    assert ir.to_proto(fp32).graph.node == before.graph.node


def test_two_convolutions_may_share_a_weight(measured_ranges):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Conv2d(3, 16, 3)
            self.again = self.same = torch.nn.Conv2d(16, 16, 3)

        def forward(self, faces):
            features = torch.relu(self.again(torch.relu(self.first(faces))))
            return self.same(features).mean((2, 3)).softmax(1)

    torch.manual_seed(0)
    model = onnx_from_torch(Tied(), 16)
    faces = np.random.default_rng(0).random((8, 3, 16, 16), np.float32)
    values, count = measured_ranges(model, quantized_convs(model.graph), [faces])
    tied = Ranges("", count, "", {}, values)
    graphs = {"tensorrt": tensorrt_graph(model, tied, ()),
              "cpu-7bit": cpu_graph(model, tied, (), 7)}
    sessions = {name: evaluation_session(name, graph) for name, graph in graphs.items()}
    for found in agreements(session_of(model), sessions, [faces]).values():
        assert found.largest_change < 0.01
