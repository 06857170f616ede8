"""Ranges files of any content become valid ranges or one error of one line."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feredge.calibration.ranges import Ranges
from feredge.runtime.errors import CalibrationError

VALID = Ranges("a" * 64, 3, "b" * 64, {"scale": 1.0}, {"conv1:input": {"max": (0.0, 2.5)}},
               {"cpu-7bit": {"top1": 0.99}}, input={"side": 96})
NUMBERS = st.one_of(st.floats(), st.integers(), st.integers(10**350, 10**400))
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8))
JSON = st.recursive(PLAIN, lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8)


def read(text):
    """Return valid ranges, or None where they were refused in one line."""
    try:
        ranges = Ranges.from_json(text)
    except CalibrationError as error:
        assert "\n" not in str(error) and str(error)
        return None
    for methods in ranges.values.values():
        for low, high in methods.values():
            assert math.isfinite(low) and math.isfinite(high) and low <= high
    assert Ranges.from_json(ranges.to_json()) == ranges
    return ranges


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(json.loads(VALID.to_json()))), JSON)
def test_a_field_of_any_value_is_valid_or_refused(name, value):
    document = json.loads(VALID.to_json())
    document[name] = value
    read(json.dumps(document))


@settings(max_examples=200, deadline=None)
@given(NUMBERS, NUMBERS)
def test_a_range_of_any_numbers_is_valid_or_refused_with_its_tensor(low, high):
    document = json.loads(VALID.to_json())
    document["values"]["conv1:input"]["max"] = [low, high]
    try:
        ranges = read(json.dumps(document))
        valid = math.isfinite(low) and math.isfinite(high) and low <= high and (
            max(abs(low), abs(high)) <= 1e9)
    except OverflowError:  # of an integer that no float holds, in this test
        valid = False
        ranges = read(json.dumps(document))
    assert (ranges is not None) == valid
    if ranges is None:
        with pytest.raises(CalibrationError, match="conv1:input"):
            Ranges.from_json(json.dumps(document))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_text_that_is_cut_or_changed_is_valid_or_refused(data):
    text = VALID.to_json()
    place = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 20))
    read(text[:place] + data.draw(st.text(max_size=10)) + text[place + length:])


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000, "NaN"],
                         ids=["lists", "objects", "digits", "nan"])
def test_text_that_exhausts_a_parser_is_refused(text):
    assert read(text) is None
