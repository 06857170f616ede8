"""Where quantisation goes, on the bundled network's own graph."""

import onnx_ir as ir
import pytest

from feredge.calibration.graphs.placement import (
    keyed_values,
    quantized_convs,
    range_key,
    shortcuts,
    source_of,
    tensorrt_values,
)
from feredge.export.models.manet import manet  # noqa: F401
from feredge.export.models.registry import NETWORKS

KEEP_FLOAT = NETWORKS["manet"].keep_float


@pytest.fixture(scope="module")
def graph(exported):
    return ir.load(exported / "manet.onnx").graph


@pytest.fixture(scope="module")
def convs(graph):
    return quantized_convs(graph, KEEP_FLOAT)


def test_every_convolution_but_the_gates_runs_in_int8(graph, convs):
    names = {conv.name for conv in convs}
    others = {node.name for node in graph if node.op_type == "Conv"} - names
    assert "conv1" in names, "the 3-channel stem may be INT8"
    assert len(names) == 88 and len(others) == 48
    assert all(".cbam." in name for name in others)


def test_tiny_convolutions_stay_float_without_being_named(graph):
    names = {conv.name for conv in quantized_convs(graph)}
    assert not any(name.endswith("SpatialGate.spatial.conv") for name in names)
    assert not any("layer3" in name and "Gate" in name for name in names), "8 channels are few"


def test_the_four_quadrants_and_the_global_branch_share_one_scale(graph, convs):
    readers = [conv for conv in convs if source_of(conv.inputs[0]).name == "layer2.1.relu_1"]
    assert {conv.name for conv in readers} == {
        *(f"layer3_1_p{k}.0.{part}" for k in (1, 2, 3, 4) for part in ("conv1", "downsample.0")),
        "layer3_2.0.conv1", "layer3_2.0.downsample.0",
    }


def test_only_plain_residual_blocks_quantise_their_shortcut(graph, convs):
    assert [node.name for node, _ in shortcuts(graph, convs)] == [
        "layer1.0.add", "layer1.1.add", "layer2.0.add", "layer2.1.add"]


def test_keys_are_module_paths(graph, convs):
    keys = {range_key(value, graph) for value in tensorrt_values(graph, convs)}
    assert {"conv1:input", "layer1.0.conv1:input", "layer1.0.conv2:input",
            "layer2.0.downsample.0:output", "layer3_2.0.conv1_2_2:input"} <= keys
    assert len(keys) == len(tensorrt_values(graph, convs))


def test_ranges_of_the_whole_network_cover_any_part_of_it(graph, convs):
    ranges = keyed_values(graph, convs)
    for conv in convs[::8]:
        others = [other.name for other in convs if other is not conv]
        for keep_float in ([*KEEP_FLOAT, conv.name], [*KEEP_FLOAT, *others]):
            chosen = quantized_convs(graph, keep_float)
            assert set(keyed_values(graph, chosen)) <= set(ranges)
