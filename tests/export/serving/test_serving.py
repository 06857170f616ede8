import configparser
import json
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from feredge.export.serving import WRITERS, ServedModel, plan_for_servers, write_serving
from feredge.runtime.preprocess.opencv import crop_faces
from feredge.runtime.spec import InputSpec, ModelSpec, SourceSpec, TargetSpec

# What nvinfer of DeepStream 9 reads in [property] (gstnvinfer_property_parser.h), as far as used.
NVINFER_KEYS = {
    "gpu-id", "gie-unique-id", "process-mode", "operate-on-gie-id", "operate-on-class-ids",
    "network-type", "network-mode", "onnx-file", "model-engine-file", "labelfile-path",
    "batch-size", "infer-dims", "model-color-format", "net-scale-factor", "offsets",
    "maintain-aspect-ratio", "symmetric-padding", "output-blob-names", "classifier-threshold",
    "classifier-async-mode", "secondary-reinfer-interval", "int8-calib-file",
    "input-object-min-width", "input-object-min-height",
}
LABELS = ('calm "and" quiet', "müde", "tense")


def tiny_onnx(path):
    """A network of one convolution with seeded weights: faces to probabilities."""
    weights = np.random.default_rng(0).normal(0, 0.3, (3, 3, 8, 8)).astype(np.float32)
    faces = ir.Value(name="faces", type=ir.TensorType(ir.DataType.FLOAT),
                     shape=ir.Shape(["n", 3, 8, 8]))
    kernel = ir.Value(name="w", const_value=ir.tensor(weights, name="w"))
    axes = ir.Value(name="axes", const_value=ir.tensor(np.array([2, 3]), name="axes"))
    conv = ir.node("Conv", [faces, kernel])
    squeeze = ir.node("Squeeze", [conv.outputs[0], axes])
    softmax = ir.node("Softmax", [squeeze.outputs[0]], attributes={"axis": 1})
    softmax.outputs[0].name = "probabilities"
    softmax.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    softmax.outputs[0].shape = ir.Shape(["n", 3])
    graph = ir.Graph([faces], softmax.outputs, nodes=[conv, squeeze, softmax],
                     initializers=[kernel, axes], opset_imports={"": 17}, name="tiny")
    ir.save(ir.Model(graph, ir_version=9), path)
    return path


@pytest.fixture
def served(tmp_path):
    def make(**input):
        spec = ModelSpec("tiny", "t", LABELS, InputSpec(8, **input), SourceSpec("0" * 64))
        return ServedModel("tiny", spec, tiny_onnx(tmp_path / "tiny.onnx"))

    return make


def test_tritons_configuration_is_read_by_its_own_protobuf(served, tmp_path):
    protobuf = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf import text_format

    one = served()
    write_serving("triton", one, tmp_path / "repository")
    text = (tmp_path / "repository" / "tiny" / "config.pbtxt").read_text(encoding="utf-8")
    config = text_format.Parse(text, protobuf.ModelConfig())
    session = ort.InferenceSession(tmp_path / "repository" / "tiny" / "1" / "model.onnx")
    for described, value in ((config.input, session.get_inputs()[0]),
                             (config.output, session.get_outputs()[0])):
        assert described[0].name == value.name
        assert list(described[0].dims) == value.shape[1:]
        assert described[0].data_type == protobuf.TYPE_FP32
    assert (config.name, config.backend, config.max_batch_size) == ("tiny", "onnxruntime", 16)
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    assert config.model_warmup[0].inputs["faces"].zero_data
    assert ModelSpec.from_json(config.parameters["feredge"].string_value) == one.spec
    labels = (tmp_path / "repository" / "tiny" / "labels.txt").read_text(encoding="utf-8")
    assert tuple(labels.splitlines()) == LABELS


def test_a_plan_becomes_a_model_of_its_own(served, tmp_path):
    one = served()
    plan = tmp_path / "tiny.plan"
    plan.write_bytes(b"plan")
    write_serving("triton", ServedModel("tiny", one.spec, one.onnx, plan=plan), tmp_path / "r")
    config = (tmp_path / "r" / "tiny_tensorrt" / "config.pbtxt").read_text(encoding="utf-8")
    assert 'platform: "tensorrt_plan"' in config
    assert (tmp_path / "r" / "tiny_tensorrt" / "1" / "model.plan").read_bytes() == b"plan"


def properties(folder):
    parser = configparser.ConfigParser()
    parser.read(folder / "config_infer_secondary.txt")
    return dict(parser["property"])


@pytest.mark.parametrize("input", [
    {}, {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.2)},
    {"channels": "bgr", "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.25)},
], ids=["plain", "one-std", "a-std-per-channel"])
def test_what_nvinfer_computes_is_what_the_runtime_computes(served, tmp_path, input):
    one = served(**input)
    write_serving("deepstream", one, tmp_path / "ds")
    found = properties(tmp_path / "ds")
    assert set(found) <= NVINFER_KEYS
    picture = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    box = np.array([[0, 0, 8, 8]], np.float32)
    ours = crop_faces(picture, box, one.spec.input, one.spec.crop)
    expected = ort.InferenceSession(one.onnx).run(None, {"faces": ours})[0]

    pixels = picture if found["model-color-format"] == "1" else picture[..., ::-1]
    offsets = np.array([float(offset) for offset in found["offsets"].split(";")])
    planes = ((pixels - offsets) * float(found["net-scale-factor"])).transpose(2, 0, 1)
    session = ort.InferenceSession(tmp_path / "ds" / found["onnx-file"])
    nvinfer = session.run(None, {"faces": planes[None].astype(np.float32)})[0]
    assert nvinfer == pytest.approx(expected, abs=1e-5)


def test_nvinfers_labels_stand_on_one_line_and_int8_is_named(served, tmp_path):
    one = served()
    write_serving("deepstream", ServedModel("tiny", one.spec, one.onnx, qdq=one.onnx),
                  tmp_path / "ds")
    assert (tmp_path / "ds" / "labels.txt").read_text(encoding="utf-8") == ";".join(LABELS) + "\n"
    assert properties(tmp_path / "ds")["network-mode"] == "1"
    assert "198 of 213" in (tmp_path / "ds" / "README.md").read_text()


def test_nvinfer_builds_int8_and_classifies_tracked_faces_in_every_frame(served, tmp_path):
    """By nvinfer's source: INT8 needs a calibration file that is there, and the default interval
    between two inferences of a tracked object is the largest integer."""
    one = served()
    write_serving("deepstream", ServedModel("tiny", one.spec, one.onnx, qdq=one.onnx),
                  tmp_path / "int8")
    write_serving("deepstream", one, tmp_path / "fp32")
    found = properties(tmp_path / "int8")
    assert (tmp_path / "int8" / found["int8-calib-file"]).read_text().startswith("TRT-")
    assert found["secondary-reinfer-interval"] == "0"
    assert "int8-calib-file" not in properties(tmp_path / "fp32")
    for name in ("onnx-file", "labelfile-path", "int8-calib-file"):
        assert (tmp_path / "int8" / found[name]).is_file()


@pytest.mark.parametrize(("kind", "is_served"), [("tensorrt", True), ("tensorrt-rtx", False)])
def test_a_plan_of_tensorrt_rtx_is_not_served(served, tmp_path, kind, is_served):
    spec, plan = served().spec, tmp_path / "tiny.plan"
    target = TargetSpec(kind, version="10.16.0", compute_capabilities=("8.9",),
                        profile=(1, 8, 16), onnx_sha256="0" * 64)
    (tmp_path / "tiny.plan.json").write_text(replace(spec, target=target).to_json())
    assert plan_for_servers(plan) == (plan if is_served else None)
    assert plan_for_servers(None) is None


@pytest.mark.parametrize("kind", WRITERS)
def test_a_folder_that_is_there_is_not_overwritten(served, tmp_path, kind):
    with pytest.raises(FileExistsError):
        write_serving(kind, served(), tmp_path)


def test_the_spec_beside_the_repository_is_the_models(served, tmp_path):
    one = served()
    write_serving("triton", one, tmp_path / "r")
    assert json.loads((tmp_path / "r" / "feredge.json").read_text())["labels"] == list(LABELS)
