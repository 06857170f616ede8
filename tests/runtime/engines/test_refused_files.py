"""Files given as engine or detector that are something else, damaged or hostile: one line each."""

import os
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from feredge.runtime import open_detector, open_engine
from feredge.runtime.engines.onnx_check import read_onnx
from feredge.runtime.engines.protobuf import Reader, WireError
from feredge.runtime.errors import EngineError, FeredgeError, SpecError
from feredge.runtime.spec import InputSpec, ModelSpec, SourceSpec

FACE = np.array([[176, 70, 290, 195.0]])
HOSTILE = {  # what is right, by the file's name
    "endless_loop": "holds the control flow operator Loop",
    "cycle": "is not in order, or has a cycle",
    "fixed_batch": "has a fixed batch",
    "int_input": r"tensor\(int64\)",
    "probs_nan": "returned nan, nan, which are not probabilities",
    "probs_neg": "which are not probabilities",
    "crop_1e9": r"crop\.scale is 1000000000\.0, expected a number from 0.05 to 20",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_engine_is_refused_in_one_line(shared_file, astronaut, name):
    path = shared_file(f"cases/hostile/onnx/{name}.onnx")
    with pytest.raises(FeredgeError, match=HOSTILE[name]) as caught, open_engine(path) as engine:
        engine.classify(astronaut, FACE)
    assert "\n" not in str(caught.value)
    with pytest.raises(FeredgeError) as caught:
        open_detector(path)
    assert "\n" not in str(caught.value)


KINDS = {
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n",
                "is a Git LFS pointer, not the file itself: run git lfs pull"),
    "page": (b"\xef\xbb\xbf\n<!DOCTYPE html><html>Quota exceeded</html>", "is a web page"),
    "archive": (b"PK\x03\x04rest", "is a zip archive, such as a PyTorch checkpoint"),
    "empty": (b"", "is empty"),
    "text": (b"hello", "is no ONNX file that onnxruntime can run"),
}


@pytest.mark.parametrize("content, said", KINDS.values(), ids=list(KINDS))
@pytest.mark.parametrize("opener", [open_engine, open_detector])
def test_another_kind_of_file_is_named(tmp_path, content, said, opener):
    path = tmp_path / "network.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=said) as caught:
        opener(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["pointer", "page", "empty"])
def test_a_plan_that_was_not_downloaded_is_named(tmp_path, kind):
    path = tmp_path / "network.plan"
    path.write_bytes(KINDS[kind][0])
    with pytest.raises(EngineError, match=KINDS[kind][1]):
        open_engine(path)


def graph(nodes, initializers=(), name="y"):
    values = [helper.make_tensor_value_info(value, 1, ["n", 3, 8, 8]) for value in ("x", name)]
    made = helper.make_graph(nodes, "g", values[:1], values[1:], list(initializers))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def saved(tmp_path, model):
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "model.onnx"


RELU = helper.make_node("Relu", ["x"], ["y"])
BRANCH = helper.make_graph([], "b", [], [])


def with_function():
    model = graph([RELU])
    model.functions.append(helper.make_function(
        "own", "f", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])],
        [helper.make_opsetid("", 17)]))
    return model


def with_external_weights():
    tensor = TensorProto(name="w", data_type=1, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return graph([helper.make_node("Add", ["x", "w"], ["y"])], [tensor])


REFUSED = {
    "branch": (lambda: graph([helper.make_node("If", ["x"], ["y"], then_branch=BRANCH)]),
               "control flow operator If"),
    "subgraph": (lambda: graph([helper.make_node("Relu", ["x"], ["y"], body=BRANCH)]),
                 "holds a subgraph, in Relu"),
    "function": (with_function, "holds functions"),
    "domain": (lambda: graph([helper.make_node("Relu", ["x"], ["y"], domain="evil.ops")]),
               "operators of the domain 'evil.ops'"),
    "external": (with_external_weights, "keeps weights in another file"),
    "nodes": (lambda: graph([RELU] * 20_001), "has 20001 nodes, more than 20000"),
}


@pytest.mark.parametrize("model, said", REFUSED.values(), ids=list(REFUSED))
def test_a_graph_that_is_no_plain_network_is_refused_before_onnxruntime(tmp_path, model, said):
    with pytest.raises(EngineError, match=said):
        read_onnx(saved(tmp_path, model()))


def test_a_plain_graph_is_read(tmp_path):
    path = saved(tmp_path, graph([RELU]))
    assert read_onnx(path) == path.read_bytes()


def test_a_file_of_countless_fields_is_refused():
    with pytest.raises(WireError, match="too many fields"):
        Reader(1000).group(memoryview(b"\x08\x00" * 1001))


def test_a_graph_that_asks_for_terabytes_is_an_error_of_one_line(tmp_path):
    from feredge.runtime.engines.onnxruntime import open_session, run_session

    shape = numpy_helper.from_array(np.array([3_000_000_000]), "s")
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["c"]),
             helper.make_node("ReduceSum", ["c"], ["r"], keepdims=0),
             helper.make_node("Add", ["x", "r"], ["y"])]
    path = saved(tmp_path, graph(nodes, [shape]))
    with pytest.raises(EngineError, match=r"cannot run|can run") as caught:
        session = open_session(path)
        run_session(session, ["y"], {"x": np.zeros((1, 3, 8, 8), np.float32)}, "x.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changes, said", [
    (dict(scale=float("nan")), "NaN"),
    (dict(scale=10**400), "integer|finite|number"),
    (dict(scale=1e-300), r"crop\.scale is 1e-300"),
    (dict(shift_y=1e9), r"crop\.shift_y is 1000000000\.0"),
], ids=["nan", "huge", "tiny", "shift"])
def test_a_spec_with_absurd_numbers_is_refused(tmp_path, exported, changes, said):
    import json

    model = onnx.load(exported / "manet.onnx")
    document = json.loads(model.metadata_props[0].value)
    document["crop"] |= changes
    model.metadata_props[0].value = json.dumps(document)
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(SpecError, match=said) as caught:
        open_engine(tmp_path / "changed.onnx")
    assert "\n" not in str(caught.value)


def test_one_engine_in_eight_threads_gives_the_same_everywhere(exported, astronaut):
    boxes = np.array([[176, 70, 290, 195], [100, 40, 300, 240], [-20, -20, 60, 60]], np.float32)
    with open_engine(exported / "manet.int8.onnx", threads=1) as engine:
        expected, found = engine.classify(astronaut, boxes), []
        threads = [threading.Thread(target=lambda: found.append(engine.classify(astronaut, boxes)))
                   for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 8 and all(np.array_equal(each, expected) for each in found)


def tiny_engine(path):
    """Write a network of three nodes: a mean per channel, two scores, softmax."""
    spec = ModelSpec("tiny", "x", ("a", "b"), InputSpec(8), SourceSpec("00" * 32))
    weight = numpy_helper.from_array(np.eye(3, 2, dtype=np.float32), "w")
    nodes = [helper.make_node("ReduceMean", ["faces"], ["m"], axes=[2, 3], keepdims=0),
             helper.make_node("MatMul", ["m", "w"], ["s"]),
             helper.make_node("Softmax", ["s"], ["probabilities"], axis=1)]
    values = [helper.make_tensor_value_info("faces", 1, ["n", 3, 8, 8]),
              helper.make_tensor_value_info("probabilities", 1, ["n", 2])]
    made = helper.make_graph(nodes, "g", values[:1], values[1:], [weight])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    model.metadata_props.add(key="feredge", value=spec.to_json())
    path.write_bytes(model.SerializeToString())
    return path


def test_five_hundred_engines_leave_memory_threads_and_files_as_they_were(tmp_path, astronaut):
    def held():
        status = Path("/proc/self/status").read_text()
        resident = int(status.split("VmRSS:")[1].split()[0]) >> 10
        return resident, threading.active_count(), len(os.listdir("/proc/self/fd"))

    path = tiny_engine(tmp_path / "tiny.onnx")
    for k in range(500):
        with open_engine(path) as engine:
            engine.classify(astronaut, FACE)
        if k == 20:
            before = held()
    after = held()
    assert after[0] <= before[0] + 30 and after[1:] == before[1:]


def test_a_closed_engine_and_detector_are_named(exported, detector_path, astronaut):
    engine, detector = open_engine(exported / "manet.onnx"), open_detector(detector_path)
    engine.close()
    detector.close()
    with pytest.raises(EngineError, match=r"manet\.onnx was closed"):
        engine.classify(astronaut, FACE)
    with pytest.raises(EngineError, match="was closed"):
        detector.detect(astronaut)
