"""TensorRT calibration caches of any content become finite scales or one error of one line."""

import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feredge.calibration.measure.ranges_file import read_ranges
from feredge.calibration.measure.tensorrt_cache import cache_text, read_cache
from feredge.runtime.errors import CalibrationError

VERSION = (10, 3, 0)
NAMES = st.text(st.characters(exclude_characters="\n\r", exclude_categories=("Cs",)), min_size=1)


def read(text):
    """Return the scales, or None where the cache was refused in one line."""
    try:
        largest = read_cache(text)
    except CalibrationError as error:
        assert "\n" not in str(error) and str(error)
        return None
    assert all(math.isfinite(value) and 0 <= value <= 1e9 for value in largest.values())
    return largest


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(NAMES, st.floats(1e-3, 1e8)), st.sampled_from(["\n", "\r\n"]),
       st.sampled_from(["", "\ufeff"]), st.integers(0, 3))
def test_marks_line_ends_and_blank_lines_change_nothing(largest, end, mark, blank):
    text = cache_text(largest, VERSION).replace("\n", end)
    found = read(mark + text + blank * end)
    assert found == pytest.approx(largest, rel=1e-6)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_scale_of_any_bits_is_finite_or_refused(bits):
    found = read(f"TRT-100300-EntropyCalibration2\nrelu: {bits:08x}\n")
    (scale,) = struct.unpack(">f", struct.pack(">I", bits))
    assert (found is not None) == (0 <= scale <= 1e9 / 127)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_text_that_is_cut_or_changed_is_valid_or_refused(data):
    text = cache_text({"faces": 1.0, "layer1.relu": 3.5}, VERSION)
    place = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 20))
    read(text[:place] + data.draw(st.text(max_size=10)) + text[place + length:])


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200))
def test_a_file_of_any_bytes_is_refused_in_one_line(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "ranges.json"
    path.write_bytes(content)
    with pytest.raises(CalibrationError) as caught:
        read_ranges(path, None, "")
    assert "\n" not in str(caught.value)
