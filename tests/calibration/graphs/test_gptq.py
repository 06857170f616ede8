import numpy as np
import onnx_ir as ir
import pytest

from feredge.calibration.graphs.gptq import (
    DAMPING,
    Gptq,
    gptq_rounding,
    input_moments,
    is_plain,
    order_and_factor,
    patch_form,
    patches,
)
from feredge.calibration.graphs.placement import quantized_convs, weight_of
from feredge.calibration.graphs.qdq import cpu_graph, round_to_nearest
from feredge.calibration.graphs.scales import channel_scales
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
        for rounding in (round_to_nearest, gptq):
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
    layer = "conv1", weight, scale, 64
    assert (Gptq({})(*layer) == round_to_nearest(*layer)).all()


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


def test_damping_grows_until_nearly_dependent_patches_have_a_factor():
    rows = np.random.default_rng(0).random((4, 64))
    singular = (rows.T @ rows * 1e-3).astype(np.float32)
    singular[0, 0] -= 0.002  # what rounding does to the moments of almost equal patches
    order, factor, damping = order_and_factor(singular)
    assert damping > DAMPING and np.isfinite(factor).all()
    assert sorted(order) == list(range(64))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_moments_that_are_not_finite_have_no_factor(value):
    _, factor, damping = order_and_factor(np.full((3, 3), value, np.float32))
    assert factor is None and damping == np.inf


def test_a_layer_without_a_factor_is_rounded_to_nearest_and_reported(lossy, crops):
    broken = lossy.clone()
    weight = broken.graph.initializers["conv1.weight"]
    array = weight.const_value.numpy().copy()
    array[0] = 1e30  # the moments of what the next convolution reads overflow
    weight.const_value = ir.tensor(array)
    convs = quantized_convs(broken.graph)
    with np.errstate(over="ignore", invalid="ignore"):
        gptq = gptq_rounding(broken, convs, [crops])
    assert set(gptq.factors) == {"conv1"}
    assert gptq.damping == {"conv2": np.inf, "conv3": np.inf}
    assert gptq.damping_text() == "weights are rounded to nearest in conv2, conv3"
