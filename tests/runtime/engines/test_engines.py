import os
import platform
import subprocess
import sys
import warnings

import numpy as np
import onnx
import pytest

from feredge.runtime import machine as cpu
from feredge.runtime import open_engine
from feredge.runtime.errors import BoxError, EngineError, SpecError
from feredge.runtime.preprocess.opencv import crop_faces
from feredge.runtime.spec import ModelSpec

CLASSES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")


@pytest.fixture(scope="module", params=["manet.onnx", "manet.int8.onnx"])
def engine(request, exported):
    with open_engine(exported / request.param) as opened:
        yield opened


def test_an_engine_knows_its_spec(engine):
    assert engine.spec.labels == CLASSES
    assert engine.spec.input.side == 96 and engine.spec.variant == "w50-96"


def test_onnxruntime_tells_nobody_and_makes_up_no_device_id(exported, tmp_path):
    said = ("CI", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY")  # with which it keeps quiet by itself
    environment = {key: value for key, value in os.environ.items() if key not in said}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    code = ("from feredge.runtime import open_engine\n"
            f"open_engine({str(exported / 'manet.onnx')!r}).close()")
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not list(tmp_path.rglob("*"))


def test_classify_is_crop_then_infer(engine, astronaut):
    boxes = np.array([[176, 70, 290, 195], [150, 50, 300, 210], [-20, -20, 60, 60]], np.float32)
    crops = crop_faces(astronaut, boxes, engine.spec.input, engine.spec.crop)
    probabilities = engine.classify(astronaut, boxes)
    assert np.allclose(probabilities, engine.infer(crops), atol=1e-6)
    assert probabilities.shape == (3, 8) and np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert CLASSES[probabilities[0].argmax()] == "happiness"


def test_a_batch_larger_than_the_engine_takes_is_split(engine):
    side = engine.spec.input.side
    crops = np.random.default_rng(0).random((engine.max_batch + 3, 3, side, side), np.float32)
    alone = engine.infer(crops[-1:])
    assert np.allclose(engine.infer(crops)[-1:], alone, atol=1e-5)


def test_no_faces_are_no_work(engine, astronaut):
    assert engine.classify(astronaut, np.zeros((0, 4))).shape == (0, 8)
    assert engine.infer(np.zeros((0, 3, 96, 96), np.float32)).shape == (0, 8)


def test_wrong_frames_crops_and_boxes_are_refused(engine, astronaut):
    with pytest.raises(ValueError, match="uint8"):
        engine.classify(astronaut.astype(np.float32), np.zeros((1, 4)))
    with pytest.raises(ValueError, match=r"\(h, w, 3\)"):
        engine.classify(astronaut[..., 0], np.zeros((1, 4)))
    with pytest.raises(ValueError, match="float32"):
        engine.infer(np.zeros((1, 3, 96, 96)))
    with pytest.raises(ValueError, match="96"):
        engine.infer(np.zeros((1, 3, 48, 48), np.float32))
    with pytest.raises(BoxError, match="not finite"):
        engine.classify(astronaut, np.array([[0, 0, np.nan, 9]]))


def with_metadata(exported, target, **changes):
    """Write the exported network anew with other metadata."""
    model = onnx.load(exported / "manet.onnx")
    del model.metadata_props[:]
    for key, value in changes.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, target)
    return target


def test_files_that_are_no_engine_are_refused(tmp_path, exported, detector_path):
    text = tmp_path / "text.onnx"
    text.write_text("not a graph")
    with pytest.raises(EngineError, match="no ONNX file"):
        open_engine(text)
    with pytest.raises(EngineError, match="does not exist; export one with: fer-export"):
        open_engine(tmp_path / "missing.onnx")
    with pytest.raises(EngineError, match="is a folder"):
        open_engine(tmp_path)
    (tmp_path / "model.pt").write_text("x")
    with pytest.raises(EngineError, match=r"expected an \.onnx or \.plan file"):
        open_engine(tmp_path / "model.pt")
    with pytest.raises(SpecError, match="carries no ModelSpec"):
        open_engine(detector_path)
    with pytest.raises(SpecError, match="ModelSpec is broken: not JSON"):
        open_engine(with_metadata(exported, tmp_path / "broken.onnx", feredge="{"))


def test_a_graph_that_contradicts_its_spec_is_refused(tmp_path, exported):
    spec = open_engine(exported / "manet.onnx").spec.to_json()
    other = spec.replace('"contempt",\n', "").replace('"side": 96', '"side": 64')
    path = with_metadata(exported, tmp_path / "other.onnx", feredge=other)
    with pytest.raises(EngineError, match="its ModelSpec says"):
        open_engine(path)


def test_a_plan_names_the_onnx_file_beside_it(tmp_path, exported):
    plan = tmp_path / "manet.plan"
    plan.write_bytes(b"plan")
    with pytest.raises(SpecError, match=r"use the ONNX file beside it: .*manet\.int8\.onnx, as"):
        open_engine(plan)
    (tmp_path / "manet.onnx").write_bytes((exported / "manet.onnx").read_bytes())
    with pytest.raises(SpecError, match=r"beside it: .*manet\.onnx$"):
        open_engine(plan)


@pytest.mark.parametrize(
    "machine, flags, exact",
    [("x86_64", "avx2 fma", False), ("x86_64", "avx2 avx512_vnni", True),
     ("AMD64", "avx_vnni", True), ("aarch64", "", True), ("x86_64", None, None)],
)
def test_vnni_is_read_off_the_machine(monkeypatch, tmp_path, machine, flags, exact):
    info = tmp_path / "cpuinfo"
    if flags is not None:
        info.write_text(f"flags\t\t: fpu {flags} sse\n")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(cpu, "CPUINFO", info)
    assert cpu.exact_8_bit_weights() is exact


def test_an_8_bit_graph_warns_on_a_cpu_without_vnni(exported, tmp_path, monkeypatch):
    with open_engine(exported / "manet.int8.onnx") as opened:
        spec = opened.spec
    assert (spec.target.cpu, spec.target.weight_bits) == ("avx2", 7)
    text = spec.to_json().replace('"weight_bits": 7', '"weight_bits": 8')
    path = with_metadata(exported, tmp_path / "vnni.onnx", feredge=text)
    assert ModelSpec.from_json(text).target.weight_bits == 8
    monkeypatch.setattr(cpu, "exact_8_bit_weights", lambda: False)
    with pytest.warns(UserWarning, match="export with: fer-export --int8 --cpu avx2"):
        open_engine(path).close()
    monkeypatch.setattr(cpu, "exact_8_bit_weights", lambda: True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_engine(path).close()
