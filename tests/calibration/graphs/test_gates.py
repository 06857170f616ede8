"""CBAM's gates of parallel branches in the CPU graph: fewer operators, the same output."""

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from feredge.calibration.graphs.gates import find_gates, matrix_of, stack_gates
from feredge.calibration.graphs.qdq import cpu_graph
from feredge.calibration.graphs.sessions import session_of
from feredge.calibration.ranges import Ranges


@pytest.fixture(scope="module")
def fp32(exported):
    return ir.load(exported / "manet.onnx")


@pytest.fixture(scope="module")
def stacked(fp32):
    model = fp32.clone()
    stack_gates(model)
    return model


def operators(model):
    return Counter(node.op_type for node in model.graph)


def test_stacked_gates_compute_what_the_branches_compute(fp32, stacked):
    crops = np.random.default_rng(0).random((3, 3, 96, 96), np.float32)
    expected, found = (session_of(model).run(None, {"faces": crops})[0]
                       for model in (fp32, stacked))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_gates_of_four_branches_are_one_chain_of_operators(fp32, stacked):
    before, after = operators(fp32), operators(stacked)
    assert before["Sigmoid"] == 32 and after["Sigmoid"] == 8
    assert before["ReduceMax"] == 32 and after["ReduceMax"] == 8
    assert after["Conv"] == before["Conv"] - 3 * 16, "squeeze, excite and spatial are matrices"


def test_convolutions_outside_the_gates_keep_their_names(fp32, stacked):
    left = {node.name for node in stacked.graph if node.op_type == "Conv"}
    assert left == {node.name for node in fp32.graph
                    if node.op_type == "Conv" and ".cbam." not in node.name}


def test_gates_on_large_maps_stay(fp32, monkeypatch):
    assert len(find_gates(fp32.graph)) == 16
    monkeypatch.setattr("feredge.calibration.graphs.gates.MOST_POSITIONS", 8)  # they have 3x3
    model = fp32.clone()
    stack_gates(model)
    assert operators(model) == operators(fp32)


@pytest.mark.parametrize("kernel", [(3, 3), (7, 7), (7, 3)])
@pytest.mark.parametrize("shape", [(6, 6), (3, 5)])
def test_the_matrix_of_a_kernel_is_its_convolution(kernel, shape):
    import torch

    random = np.random.default_rng(1)
    weights, maps = random.normal(size=(2, *kernel)), random.normal(size=(2, *shape))
    expected = torch.nn.functional.conv2d(
        torch.tensor(maps)[None], torch.tensor(weights)[None], padding=[k // 2 for k in kernel])
    np.testing.assert_allclose(
        matrix_of(weights, *shape) @ maps.reshape(-1), expected.numpy().reshape(-1), atol=1e-12)


def test_a_relu_between_integers_is_a_clip_at_their_zero_point(fp32, exported):
    ranges = Ranges.from_json((exported / "manet.ranges.json").read_text())
    model = cpu_graph(fp32, ranges, ("*.cbam.*",), 7)
    clips = [node for node in model.graph if node.op_type == "Clip"]
    assert clips
    for clip in clips:
        (low,) = [value.const_value.numpy() for value in clip.inputs[1:]]
        (use,) = clip.outputs[0].uses()
        assert low.dtype == np.uint8 and use.node.op_type == "DequantizeLinear"
    session_of(model)
