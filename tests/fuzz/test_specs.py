"""Altered specs and random JSON: a valid spec or one line, whatever the text is."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feredge.runtime.errors import SpecError
from feredge.runtime.spec import (
    ConfidenceSpec,
    CropSpec,
    DetectorSpec,
    InputSpec,
    ModelSpec,
    SourceSpec,
    TargetSpec,
)

TARGET = TargetSpec("tensorrt", None, 7, "10.3", ("8.7",), (1, 4, 16), ("int8",), "ab" * 32)
SPECS = {
    "model": ModelSpec("manet", "w50-96", ("neutral", "happiness"), InputSpec(96),
                       SourceSpec("ab" * 32), CropSpec(1.2, 0.1, False), "int8", TARGET,
                       {"faces": 3}, {"parity": 1e-6}, "cd" * 32,
                       confidence=ConfidenceSpec({"log_odds": 1.0}, -0.5)),
    "detector": DetectorSpec(TARGET, "cd" * 32, 640),
}
limits = settings(max_examples=200, deadline=5_000)
scalars = (st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
           | st.sampled_from([10**400, -(10**400), 1e300, 1e-300, 2**63, "\n", "\ud800", ""]))
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4)
                      | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=8)


def places(document, path=()):
    """Yield the path of every value of a JSON document."""
    yield path
    items = document.items() if isinstance(document, dict) else enumerate(document) if (
        isinstance(document, list)) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def read(kind, text):
    """Read a spec: valid and equal after a round trip, or one line."""
    try:
        spec = type(SPECS[kind]).from_json(text)
    except SpecError as error:
        assert str(error).isprintable() and len(str(error)) < 2_000
        return
    assert type(spec).from_json(spec.to_json()) == spec
    if kind == "model":
        assert all(math.isfinite(value) and value > 0 for value in spec.input.std)
        assert 0 < spec.crop.scale < 100 and 0 < spec.input.side <= 4096


@pytest.mark.parametrize("kind", SPECS)
@limits
@given(data=st.data())
def test_an_altered_spec_is_valid_or_refused_in_one_line(kind, data):
    document = json.loads(SPECS[kind].to_json())
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list(places(document))))
        value = data.draw(values)
        if not path:
            document = value
            break
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = value
    read(kind, json.dumps(document))


@pytest.mark.parametrize("kind", SPECS)
@limits
@given(edits=st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 20), st.text(max_size=9)),
                      min_size=1, max_size=4))
def test_edited_text_is_valid_or_refused_in_one_line(kind, edits):
    text = SPECS[kind].to_json()
    for place, removed, added in edits:
        start = place % len(text)
        text = text[:start] + added + text[start + removed :]
    read(kind, text)


@limits
@given(text=st.text(max_size=200) | values.map(json.dumps))
def test_any_text_is_refused_in_one_line(text):
    for kind in SPECS:
        read(kind, text)
