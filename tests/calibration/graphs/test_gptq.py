import numpy as np
import onnx_ir as ir
import pytest

from feredge.calibration.graphs.gptq import (
    Gptq,
    gptq_rounding,
    input_moments,
    is_plain,
    patch_form,
    patches,
)
from feredge.calibration.graphs.placement import quantized_convs, weight_of
from feredge.calibration.graphs.qdq import channel_scales, cpu_graph, nearest
from feredge.calibration.graphs.sessions import session_of


@pytest.fixture(scope="module")
def moments(lossy, crops):
    return input_moments(lossy, quantized_convs(lossy.graph), [crops[:20], crops[20:]])


@pytest.fixture(scope="module")
def gptq(lossy, crops):
    return gptq_rounding(lossy, quantized_convs(lossy.graph), [crops[:20], crops[20:]])


@pytest.mark.parametrize("kernel, strides, pads", [
    ((3, 3), (1, 1), (1, 1, 1, 1)), ((1, 1), (2, 2), (0, 0, 0, 0)), ((5, 3), (2, 1), (0, 1, 2, 3)),
], ids=["3x3", "projection", "uneven"])
def test_patches_are_what_a_convolution_multiplies(kernel, strides, pads):
    import torch

    rng = np.random.default_rng(0)
    maps = rng.random((2, 4, 9, 8), np.float32)
    weight = rng.random((6, 4, *kernel), np.float32)
    top, left, bottom, right = pads
    padded = torch.nn.functional.pad(torch.from_numpy(maps), (left, right, top, bottom))
    expected = torch.conv2d(padded, torch.from_numpy(weight), stride=strides).numpy()
    rows = patches(maps, (kernel, strides, pads)) @ weight.reshape(6, -1).T
    assert rows == pytest.approx(expected.transpose(0, 2, 3, 1).reshape(-1, 6), rel=1e-4)


def test_moments_are_those_of_all_faces(lossy, crops, moments):
    conv = lossy.graph[0]
    rows = patches(crops, patch_form(conv)[1])
    mean = rows.T @ rows / len(rows)
    assert moments["conv1"] / len(crops) == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("largest", [64, 127], ids=["7 bit", "8 bit"])
def test_each_layers_output_changes_less_than_by_nearest_rounding(lossy, moments, gptq, largest):
    for conv in quantized_convs(lossy.graph):
        weight = weight_of(conv)
        scale = channel_scales(weight, largest)
        arguments = (conv.name, weight, scale, largest)
        errors = []
        for rounding in (nearest, gptq):
            integers = rounding(*arguments)
            assert integers.dtype == np.int8 and np.abs(integers.astype(int)).max() <= largest
            lost = (integers * scale[:, None, None, None] - weight).reshape(len(weight), -1)
            errors.append(np.einsum("ok,kl,ol->", lost, moments[conv.name], lost))
        assert errors[1] < 0.9 * errors[0]


def test_the_graph_holds_the_rounded_weights(lossy, lossy_ranges, gptq):
    weight = weight_of(lossy.graph[0])
    tensors = cpu_graph(lossy, lossy_ranges, (), 7, gptq).graph.initializers
    expected = gptq("conv1", weight, channel_scales(weight, 64), 64)
    assert (tensors["conv1.weight_quantized"].const_value.numpy() == expected).all()


def test_a_layer_without_moments_is_rounded_to_the_nearest(lossy):
    weight = weight_of(lossy.graph[0])
    scale = channel_scales(weight, 64)
    assert (Gptq({})("conv1", weight, scale, 64) == nearest("conv1", weight, scale, 64)).all()


@pytest.mark.parametrize("name, value", [
    ("dilations", ir.AttrInt64s("dilations", [2, 2])), ("group", ir.AttrInt64("group", 3)),
], ids=["dilated", "in groups"])
def test_a_convolution_without_plain_patches_is_left_out(lossy, name, value):
    first = lossy.clone().graph[0]
    first.attributes[name] = value
    assert not is_plain(first) and is_plain(lossy.graph[0])


def test_a_layer_of_too_many_columns_is_left_out(lossy, crops, monkeypatch):
    monkeypatch.setattr("feredge.calibration.graphs.gptq.MOST_COLUMNS", 100)
    assert set(input_moments(lossy, quantized_convs(lossy.graph), [crops])) == {"conv1"}


def test_nothing_but_rounding_changes(lossy, lossy_ranges, crops):
    plain = session_of(cpu_graph(lossy, lossy_ranges, (), 7))
    same = session_of(cpu_graph(lossy, lossy_ranges, (), 7, Gptq({})))
    expected = plain.run(None, {"faces": crops})[0]
    assert same.run(None, {"faces": crops})[0] == pytest.approx(expected, rel=1e-5)
