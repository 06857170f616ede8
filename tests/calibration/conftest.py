"""A small network whose weights lose much in INT8, its faces and their ranges."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from feredge.calibration.graphs.placement import quantized_convs
from feredge.calibration.ranges import Ranges


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).random((32, 3, 12, 12), np.float32)


@pytest.fixture(scope="module")
def lossy():
    """Three convolutions with ReLUs between them; the second has no bias."""
    rng = np.random.default_rng(1)
    nodes, tensors, source, channels = [], [], "faces", 3
    for name, target in (("conv1", "a"), ("conv2", "b"), ("conv3", "probabilities")):
        weight = rng.standard_t(2, size=(16, channels, 3, 3)).astype(np.float32)
        bias = rng.normal(size=16).astype(np.float32)
        names = [f"{name}.weight", f"{name}.bias"][: 1 if name == "conv2" else 2]
        tensors += [numpy_helper.from_array(array, key)
                    for key, array in zip(names, (weight, bias))]
        nodes.append(helper.make_node("Conv", [source, *names], [target], name))
        nodes.append(helper.make_node("Relu", [target], [f"{target}.relu"], f"{name}.relu"))
        source, channels = f"{target}.relu", 16
    values = [helper.make_tensor_value_info(name, 1, ["n", None, None, None])
              for name in ("faces", "probabilities")]
    graph = helper.make_graph(nodes[:-1], "small", values[:1], values[1:], tensors)
    return ir.from_proto(helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


@pytest.fixture(scope="module")
def lossy_ranges(lossy, crops, measured_ranges):
    values, faces = measured_ranges(lossy, quantized_convs(lossy.graph), [crops])
    return Ranges("", faces, "", {}, values)
