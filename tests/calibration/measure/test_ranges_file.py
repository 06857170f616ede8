"""Ranges files of this and other tools, and the inputs that must be refused in one line."""

import subprocess
import sys

import onnx_ir as ir
import pytest

from feredge.calibration.graphs.placement import quantized_convs, tensorrt_values
from feredge.calibration.measure.import_qdq import quantizations
from feredge.calibration.measure.ranges_file import read_ranges
from feredge.calibration.measure.tensorrt_cache import cache_text
from feredge.calibration.ranges import Ranges
from feredge.runtime.errors import CalibrationError

SHA256 = "ab" * 32


@pytest.fixture(scope="module")
def fp32(exported):
    return ir.load(exported / "manet.onnx")


def test_our_own_file_is_read_as_it_is(fp32, exported):
    path = exported / "manet.ranges.json"
    assert read_ranges(path, fp32, SHA256) == Ranges.from_json(path.read_text())


def test_a_qdq_file_gives_ranges_of_this_checkpoint(fp32, exported):
    ranges = read_ranges(exported / "manet.int8.qdq.onnx", fp32, SHA256)
    ranges.check_belongs(SHA256, {"scale": 1.0}, {"side": 96})
    own = Ranges.from_json((exported / "manet.ranges.json").read_text())
    low, high = own.of(["layer1.0.conv1:input"])["layer1.0.conv1:input"]
    found = ranges.of(["layer1.0.conv1:input"])["layer1.0.conv1:input"]
    assert found == pytest.approx((low, high), rel=1e-4)


def test_a_calibration_cache_with_a_mark_and_a_blank_last_line_is_read(fp32, tmp_path):
    names = [value.name for value in
             tensorrt_values(fp32.graph, quantized_convs(fp32.graph))]
    text = cache_text(dict.fromkeys(names, 2.0), (10, 3, 0))
    (tmp_path / "calibration.cache").write_text("\ufeff" + text + "\n\n", encoding="utf-8")
    ranges = read_ranges(tmp_path / "calibration.cache", fp32, SHA256)
    assert ranges.of(["layer1.0.conv1:input"])["layer1.0.conv1:input"] == (0.0, pytest.approx(2.0))


def test_a_file_that_cannot_be_read_is_refused(fp32, tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.json", tmp_path, tmp_path / "binary"):
        with pytest.raises(CalibrationError, match="cannot be read"):
            read_ranges(path, fp32, SHA256)


@pytest.fixture(scope="module")
def interchange(shared_file, tmp_path_factory):
    """Q/DQ files of other tools: types and scales of every kind."""
    folder = tmp_path_factory.mktemp("interchange")
    subprocess.run([sys.executable, shared_file("cases/21-interchange-types/make.py"), folder],
                   check=True)
    return folder


@pytest.mark.parametrize("name, bounds", [
    ("fp8", (-4.48, 4.48)), ("fp8_e5m2", (-573.44, 573.44)), ("int4", (-0.07, 0.07)),
    ("uint4", (0, 0.15)), ("nozp_int8", (-1.27, 1.27)), ("nozp_fp8", (-4.48, 4.48)),
])
def test_stored_types_of_other_tools_have_their_bounds(interchange, name, bounds):
    found = quantizations(interchange / f"{name}.onnx")["faces"]
    assert found.bounds == pytest.approx(bounds)


@pytest.mark.parametrize("name", ["zero", "negative", "nan", "inf"])
def test_scales_that_cannot_be_are_refused_with_their_tensor(interchange, name):
    with pytest.raises(CalibrationError, match=r"^faces: its scale is .* above 0"):
        quantizations(interchange / f"{name}_scale.onnx")


@pytest.mark.parametrize("name", ["nan", "reversed", "infinite"])
def test_ranges_that_cannot_be_are_refused_with_their_tensor(
    shared_file, exported, fp32, tmp_path, name
):
    subprocess.run([sys.executable, shared_file("cases/23-scales-and-ranges-unchecked/make.py"),
                    exported / "manet.ranges.json", tmp_path], check=True)
    with pytest.raises(CalibrationError, match=r"the range of \S+ is .*expected finite"):
        read_ranges(tmp_path / f"{name}.json", fp32, SHA256)
