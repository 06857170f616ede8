"""Q/DQ files of any scales, zero points and bytes give finite bounds or one error of one line."""

import math

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from feredge.calibration.measure.import_qdq import quantizations
from feredge.runtime.errors import CalibrationError

TYPES = ("INT4", "UINT4", "INT8", "UINT8", "INT16", "UINT16", "INT32", "FLOAT8E4M3FN",
         "FLOAT8E5M2", "FLOAT", "STRING", "BOOL", "INT64", "BFLOAT16")
INTEGERS = {"INT4": 7, "INT8": 127, "INT16": 32767, "FLOAT8E4M3FN": 448, "FLOAT8E5M2": 57344}


def qdq_graph(scale, kind, output=None):
    """Return a graph of one Q/DQ pair; without `output`, its zero point is of `kind`."""
    number = getattr(TensorProto, kind)
    inputs = ["s"] if output else ["s", "z"]
    tensors = [helper.make_tensor("s", TensorProto.FLOAT, [], [scale])]
    if not output:
        zero = b"0" if kind == "STRING" else 0
        tensors.append(helper.make_tensor("z", number, [], [zero]))
    attributes = {"output_dtype": number} if output else {}
    nodes = [helper.make_node("QuantizeLinear", ["faces", *inputs], ["q"], **attributes),
             helper.make_node("DequantizeLinear", ["q", *inputs], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
              for name in ("faces", "y")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def read(path):
    """Return the bounds by tensor, or None where the file was refused in one line."""
    try:
        found = {name: quantization.bounds for name, quantization in quantizations(path).items()
                 if quantization.axis is None}
    except CalibrationError as error:
        assert "\n" not in str(error) and str(error)
        return None
    for low, high in found.values():
        assert math.isfinite(low) and math.isfinite(high) and low <= high
    return found


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("qdq") / "model.onnx"


@settings(max_examples=200, deadline=None)
@given(scale=st.floats(width=32), kind=st.sampled_from(TYPES), output=st.booleans())
def test_scales_and_types_are_read_or_refused(path, scale, kind, output):
    onnx.save(qdq_graph(scale, kind, output), path)
    found = read(path)
    if found is None:
        assert not 0 < scale <= 1e9 or kind in TYPES[-5:]
    elif kind in INTEGERS:
        assert found["faces"] == pytest.approx((-INTEGERS[kind] * scale, INTEGERS[kind] * scale))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_bytes_that_are_cut_or_changed_are_read_or_refused(path, data):
    content = qdq_graph(0.01, "INT8").SerializeToString()
    place = data.draw(st.integers(0, len(content)))
    length = data.draw(st.integers(0, 20))
    path.write_bytes(content[:place] + data.draw(st.binary(max_size=10)) + content[place + length:])
    read(path)
