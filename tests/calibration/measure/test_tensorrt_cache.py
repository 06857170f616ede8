import os
import struct
from importlib.util import find_spec

import onnx_ir as ir
import pytest

from feredge.calibration.graphs.placement import keyed_values, quantized_convs, source_of
from feredge.calibration.measure.tensorrt_cache import (
    cache_header,
    cache_text,
    read_cache,
    tensor_extremes,
)
from feredge.calibration.ranges import Ranges
from feredge.runtime.errors import CalibrationError


@pytest.mark.parametrize(
    "version, header",
    [((8, 6, 2), "TRT-8602-EntropyCalibration2"), ((10, 3, 0), "TRT-100300-EntropyCalibration2"),
     ((10, 13, 3), "TRT-101303-EntropyCalibration2")],
)
def test_the_header_is_the_versions(version, header):
    assert cache_text({}, version).splitlines() == [header]


def test_a_line_is_a_name_and_the_scale_in_big_endian_hex():
    lines = cache_text({"faces": 1.0, "layer1.0.relu": 15.875, "dead": 0.0}, (10, 3, 0))
    faces, relu, dead = (line.split(": ") for line in lines.splitlines()[1:])
    # 3c010204 is the float32 of 1/127; every cache of a network fed 0 to 1 has it.
    assert faces == ["faces", "3c010204"] and relu == ["layer1.0.relu", "3e000000"]
    assert struct.unpack(">f", bytes.fromhex(dead[1]))[0] > 0
    assert lines.endswith("\n")


def test_a_cache_survives_the_round_trip():
    text = cache_text({"faces": 1.0, "a: b": 15.875, "relu": 13.332508087158203}, (8, 6, 2))
    largest = read_cache(text, "TRT-8602-EntropyCalibration2")
    assert largest == pytest.approx({"faces": 1.0, "a: b": 15.875, "relu": 13.3325081}, rel=1e-7)
    assert cache_text(largest, (8, 6, 2)) == text


def test_a_cache_of_tensorrts_own_is_read_whatever_its_version():
    text = ("TRT-7202-MinMaxCalibration\ndata: 3c010204\ndead: 0\n"
            "(Unnamed Layer* 4) [Fully Connected]_output: 3d800000\n")
    largest = read_cache(text)
    assert largest["data"] == pytest.approx(1) and largest["dead"] == 0
    assert largest["(Unnamed Layer* 4) [Fully Connected]_output"] == 0.0625 * 127


@pytest.mark.parametrize(
    "text, said",
    [("", "begins with ''"), ('{"format": 1}', "begins with '{"),
     ("TRT-8602-EntropyCalibration2\n", "is of TRT-8602-Ent.*expected TRT-100300-EntropyCal"),
     ("TRT-100300-MinMaxCalibration\n", "is of TRT-100300-MinMax.*expected TRT-100300-Entropy"),
     ("TRT-100300-EntropyCalibration2\na: 3c010204\nrelu: 3c01", "line 3: 'relu: 3c01'"),
     ("TRT-100300-EntropyCalibration2\nrelu", "line 2: 'relu'"),
     ("TRT-100300-EntropyCalibration2\nrelu: 7fc00000\n", "line 2.*truncated or damaged"),
     ("TRT-100300-EntropyCalibration2\nrelu: bc010204\n", "line 2.*truncated or damaged")],
    ids=["empty", "json", "version", "algorithm", "digits", "no scale", "nan", "negative"],
)
def test_what_is_no_cache_for_this_tensorrt_is_refused(text, said):
    with pytest.raises(CalibrationError, match=said):
        read_cache(text, cache_header((10, 3, 0)))


@pytest.fixture(scope="module")
def network(exported):
    missing = [name for name in ("tensorrt_rtx", "polygraphy") if find_spec(name) is None]
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"not installed: {missing}")
    import tensorrt_rtx as trt
    from polygraphy import config

    config.USE_TENSORRT_RTX = True
    from polygraphy.backend.trt import get_trt_logger

    builder = trt.Builder(get_trt_logger())
    parsed = builder.create_network(0)
    parser = trt.OnnxParser(parsed, get_trt_logger())
    assert parser.parse_from_file(str(exported / "manet.onnx"))
    yield parsed
    del parser, parsed, builder


@pytest.fixture(scope="module")
def ranges(exported):
    return Ranges.from_json((exported / "manet.ranges.json").read_text())


def test_the_parsed_network_gives_the_tensors_of_the_onnx_graph(network, ranges, exported):
    graph = ir.load(exported / "manet.onnx").graph
    convs = quantized_convs(graph, ("*.cbam.*", "fc_1", "fc_2"))
    expected = {}
    for key, value in keyed_values(graph, convs).items():
        expected[value.name] = max(map(abs, ranges.values[key][ranges.method]))
    found = tensor_extremes(network, ranges)
    assert {name: found[name] for name in expected} == expected
    cuts = {value.name: source_of(value).name for node in graph for value in node.outputs
            if source_of(value) is not value}
    extra = set(found) - set(expected)
    below = set(found) - set(cuts) - set(expected)  # cut from a covered tensor, read by no conv
    assert extra and {graph_makers(graph)[name].op_type for name in below} <= {
        "Slice", "Split", "MaxPool"}
    extra -= below
    assert all(found[name] == found[cuts[name]] for name in extra)
    tensors = {network.get_layer(k).get_output(0).name for k in range(network.num_layers)}
    assert set(found) - {"faces"} <= tensors


def graph_makers(graph):
    return {value.name: node for node in graph for value in node.outputs}


def fused_outputs(conv):
    """Return the outputs of a convolution and of the sums and activations fused behind it."""
    names, value = [conv.outputs[0].name], conv.outputs[0]
    while [use.node.op_type for use in value.uses()] in (["Relu"], ["Add"]):
        value = value.uses()[0].node.outputs[0]
        names.append(value.name)
    return names


def test_every_quantized_convolution_has_a_range_on_both_sides(network, ranges, exported):
    """Its output is the tensor behind the activation that TensorRT fuses, or behind the sum."""
    graph = ir.load(exported / "manet.onnx").graph
    found = tensor_extremes(network, ranges)
    convs = quantized_convs(graph, ("*.cbam.*", "fc_1", "fc_2"))
    missing = []
    for conv in convs:
        results = fused_outputs(conv)
        missing += [] if conv.inputs[0].name in found else [conv.inputs[0].name]
        missing += [] if set(results) & set(found) else [results[-1]]
    assert len(convs) == 88 and not missing


def test_ranges_of_another_network_are_refused(network, ranges):
    other = Ranges("ab" * 32, 1, "", {}, {"stem.0:input": {"max": (0.0, 1.0)}})
    with pytest.raises(CalibrationError, match=r"1 layers that the network lacks, as stem\.0:in"):
        tensor_extremes(network, other)
