"""ONNX files, plans and sidecars of any content are read correctly or refused in one line."""

import hashlib
import json

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from feredge.runtime import open_engine
from feredge.runtime.errors import EngineError, FeredgeError
from feredge.runtime.plans.files import read_plan
from feredge.runtime.spec import InputSpec, ModelSpec, SourceSpec, TargetSpec

SIDE = 8
SPEC = ModelSpec("tiny", "x", ("a", "b"), InputSpec(SIDE), SourceSpec("00" * 32))
PLAN_SPEC = ModelSpec("tiny", "x", ("a", "b"), InputSpec(SIDE), SourceSpec("00" * 32), target=(
    TargetSpec("tensorrt", version="10.3.0", compute_capabilities=("8.7",), profile=(1, 2, 4))))
LIMITS = settings(max_examples=200, deadline=None,
                  suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner,
                                                                max_size=3), max_leaves=8)


def tiny_network():
    """Return a network of four nodes, as bytes."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(2, 3, 3, 3)), "b": rng.normal(size=2)}
    nodes = [helper.make_node("Conv", ["faces", "w", "b"], ["c"], name="conv"),
             helper.make_node("Relu", ["c"], ["r"]),
             helper.make_node("ReduceMean", ["r"], ["m"], axes=[2, 3], keepdims=0),
             helper.make_node("Softmax", ["m"], ["probabilities"], axis=1)]
    faces = helper.make_tensor_value_info("faces", 1, ["n", 3, SIDE, SIDE])
    probabilities = helper.make_tensor_value_info("probabilities", 1, ["n", 2])
    initializers = [numpy_helper.from_array(array.astype(np.float32), name)
                    for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", [faces], [probabilities], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    model.metadata_props.add(key="feredge", value=SPEC.to_json())
    return model.SerializeToString()


TINY = tiny_network()


def infer(path):
    """Return predictions that are distributions, or None where the file was refused in one line."""
    try:
        with open_engine(path, threads=1) as engine:
            side = engine.spec.input.side
            predictions = engine.infer(np.full((2, 3, side, side), 0.5, np.float32))
    except FeredgeError as error:
        assert "\n" not in str(error) and str(error)
        return None
    assert np.isfinite(predictions).all() and np.abs(predictions.sum(axis=1) - 1).max() <= 0.02
    return predictions


@pytest.fixture
def path(tmp_path):
    return tmp_path / "network.onnx"


def test_the_undamaged_network_predicts(path):
    path.write_bytes(TINY)
    assert infer(path).shape == (2, 2)


@LIMITS
@given(st.lists(st.tuples(st.integers(0, len(TINY) - 1), st.integers(0, 255)), min_size=1,
                max_size=4))
def test_a_network_with_changed_bytes_is_refused_or_predicts(path, changes):
    content = bytearray(TINY)
    for place, value in changes:
        content[place] = value
    path.write_bytes(content)
    infer(path)


@LIMITS
@given(st.integers(0, len(TINY)), st.integers(0, 40), st.binary(max_size=40))
def test_a_network_that_is_cut_or_has_bytes_inserted_is_refused_or_predicts(
    path, place, length, inserted
):
    path.write_bytes(TINY[:place] + inserted + TINY[place + length :])
    infer(path)


@LIMITS
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(path, content):
    path.write_bytes(content)
    assert infer(path) is None


@LIMITS
@given(st.sampled_from(["input", "crop", "labels", "target", "precision", "format", "quality",
                        "model", "source"]), JSON)
def test_a_network_with_any_spec_is_refused_or_predicts(path, field, value):
    model = onnx.ModelProto.FromString(TINY)
    document = json.loads(SPEC.to_json())
    if isinstance(document[field], dict) and isinstance(value, dict):
        value = document[field] | value
    model.metadata_props[0].value = json.dumps(document | {field: value})
    path.write_bytes(model.SerializeToString())
    infer(path)


@LIMITS
@given(st.sampled_from(["input", "crop", "target"]), st.data())
def test_a_spec_with_any_number_is_refused_or_predicts(path, part, data):
    document = json.loads(SPEC.to_json())
    field = data.draw(st.sampled_from(sorted(document[part])))
    document[part][field] = data.draw(st.floats() | st.integers() | st.lists(
        st.floats() | st.integers(), min_size=3, max_size=3))
    model = onnx.ModelProto.FromString(TINY)
    model.metadata_props[0].value = json.dumps(document)
    path.write_bytes(model.SerializeToString())
    infer(path)


@LIMITS
@given(st.binary(min_size=1, max_size=200), st.binary(max_size=60), st.booleans())
def test_a_plan_and_sidecar_of_any_bytes_are_refused_in_one_line(
    tmp_path, plan, damage, is_described
):
    path = tmp_path / "network.plan"
    path.write_bytes(plan)
    sidecar = json.loads(PLAN_SPEC.to_json())
    sidecar["sha256"] = hashlib.sha256(plan).hexdigest() if is_described else "0" * 64
    text = json.dumps(sidecar).encode()
    place = len(damage) * 7 % len(text)
    path.with_name("network.plan.json").write_bytes(text[:place] + damage + text[place:])
    try:
        content, _ = read_plan(path, ModelSpec)
        assert content == plan and is_described
    except FeredgeError as error:
        assert "\n" not in str(error)
    with pytest.raises((EngineError, FeredgeError)):
        open_engine(path)
