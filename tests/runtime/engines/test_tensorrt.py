"""Plans end to end: real PyCUDA and the real kernel on an emulated driver, TensorRT stood in for.

The stand-in has TensorRT's API and refuses what it refuses; what it computes is onnxruntime's.
"""

import ctypes
import hashlib
import inspect
import json
import shutil
import sys
import textwrap
import threading
import types
from dataclasses import replace

import cv2
import numpy as np
import pytest

from feredge.runtime import open_detector, open_engine
from feredge.runtime.detect import DetectorOptions
from feredge.runtime.detect.yunet import padded_input
from feredge.runtime.engines.tensorrt import bucket_sizes
from feredge.runtime.errors import EngineError, SpecError
from feredge.runtime.fer_run import main
from feredge.runtime.sources.pictures import find_pictures, read_picture
from feredge.runtime.spec import DetectorSpec, TargetSpec

import tensorrt_standin  # isort: skip  (on the path once tests/runtime/conftest.py is loaded)

RTX = tensorrt_standin.RTX
VERSION = tensorrt_standin.OLDEST
TARGET = TargetSpec("tensorrt", version=VERSION, compute_capabilities=("8.7",), profile=(1, 4, 8))
MEMORY = pytest.mark.parametrize("integrated", [1, 0], ids=["shared memory", "own memory"])


@pytest.fixture(autouse=True)
def tensorrt(cuda_context, monkeypatch, tmp_path_factory):
    """The oldest stand-in as `tensorrt`, and a kernel cache of its own."""
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_standin.standin(VERSION))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    return tensorrt_standin.standin(VERSION)


@pytest.fixture(autouse=True)
def nothing_leaks(emulated_driver, cuda_context):
    """Every test frees memory, contexts and streams, none of it while work is queued."""
    emulated_driver.emulated_reset()

    def held():
        return {name: getattr(emulated_driver, f"emulated_{name}")()
                for name in ("allocations", "stack_depth", "retained", "streams")}

    before = held()
    yield
    assert held() == before
    assert not emulated_driver.emulated_violations(), emulated_driver.emulated_violation()


def write_sidecar(path, spec):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.json").write_text(replace(spec, sha256=digest).to_json())
    return path


@pytest.fixture
def plan(exported, tmp_path):
    """A plan of the bundled network for up to eight faces."""
    with open_engine(exported / "manet.onnx") as engine:
        spec = replace(engine.spec, target=TARGET)
    path = tmp_path / "manet.plan"
    tensorrt_standin.write_plan(path, exported / "manet.onnx",
                                [(batch, 3, 96, 96) for batch in (1, 4, 8)])
    return write_sidecar(path, spec)


@pytest.fixture
def detector_plan(detector_path, tmp_path):
    path = tmp_path / "yunet.plan"
    tensorrt_standin.write_plan(path, detector_path,
                                [(1, 3, 32, 32), (1, 3, 192, 320), (1, 3, 320, 320)])
    return write_sidecar(path, DetectorSpec(TARGET, "0" * 64, 320))


def several_boxes(count, seed=0):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-20, 400, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(30, 200, (count, 2))], axis=1)


@pytest.mark.slow
@MEMORY
@pytest.mark.parametrize("cuda_graphs", [True, False], ids=["graphs", "no graphs"])
def test_a_plan_answers_as_its_onnx_file(
    plan, exported, astronaut, emulated_driver, integrated, cuda_graphs
):
    emulated_driver.emulate_integrated(integrated)
    frames = [astronaut, np.ascontiguousarray(astronaut[:301, 3:400])]
    with open_engine(exported / "manet.onnx") as onnx, open_engine(plan, cuda_graphs) as engine:
        for repeat in range(4):
            for frame in frames:
                for count in (1, 3, 8, 19, 0):
                    boxes = several_boxes(count, 10 * repeat + count) * 0.7
                    got = engine.classify(frame, boxes)
                    assert got.dtype == np.float32
                    assert np.abs(got - onnx.classify(frame, boxes)).max(initial=0) < 1e-3
        assert bool(engine.runner.replay.graphs) == cuda_graphs
    emulated_driver.emulate_integrated(1)


@pytest.fixture(params=tensorrt_standin.API)
def versioned(request, plan, detector_plan, exported, detector_path, monkeypatch, tmp_path):
    """The plans of engine and detector for each version, whose stand-in can be imported."""
    version, kind = request.param, "tensorrt-rtx" if request.param == RTX else "tensorrt"
    module = tensorrt_standin.standin(version)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    target = replace(TARGET, kind=kind, version=module.__version__)
    engine_profile = [(batch, 3, 96, 96) for batch in (1, 4, 8)]
    tensorrt_standin.write_plan(plan, exported / "manet.onnx", engine_profile, version)
    with open_engine(exported / "manet.onnx") as onnx:
        write_sidecar(plan, replace(onnx.spec, target=target))
    detector_profile = [(1, 3, 32, 32), (1, 3, 192, 320), (1, 3, 320, 320)]
    tensorrt_standin.write_plan(detector_plan, detector_path, detector_profile, version)
    write_sidecar(detector_plan, DetectorSpec(target, "0" * 64, 320))
    return plan, detector_plan


def test_a_plan_of_each_version_answers_as_its_onnx_file(
    versioned, exported, detector_path, astronaut
):
    plan, detector_plan = versioned
    with open_engine(exported / "manet.onnx") as onnx, open_detector(detector_path) as finder:
        boxes = finder.detect(astronaut).boxes_xyxy
        expected = onnx.classify(astronaut, boxes)
    with open_engine(plan) as engine, open_detector(detector_plan, beside=engine) as detector:
        for _ in range(4):
            faces = detector.detect(astronaut)
            assert np.abs(faces.boxes_xyxy - boxes).max() < 0.5
            assert np.abs(engine.classify(astronaut, boxes) - expected).max() < 1e-3
        assert bool(engine.runner.replay.graphs) == engine.runner.session.can_capture


@MEMORY
def test_faces_of_several_cameras_are_one_batch(
    plan, exported, astronaut, emulated_driver, integrated, monkeypatch
):
    emulated_driver.emulate_integrated(integrated)
    frames = [astronaut, np.ascontiguousarray(astronaut[:301, 3:400]), astronaut[::-1].copy()]
    with open_engine(exported / "manet.onnx") as onnx, open_engine(plan) as engine:
        sizes, run = [], engine.runner.run
        monkeypatch.setattr(engine.runner, "run", lambda frames, shape, size: (
            sizes.append(shape[0]), run(frames, shape, size)))
        for counts in ((2, 0, 3), (1, 6, 1), (0, 0, 0), (4, 4, 5)):
            boxes = [several_boxes(count, count) * 0.7 for count in counts]
            got = engine.classify_frames(frames, boxes)
            for frame, each, rows in zip(frames, boxes, got):
                assert np.abs(rows - onnx.classify(frame, each)).max(initial=0) < 1e-3
    assert sizes == [8, 8, 8, 8], "5 and 8 faces in one run each, 13 in two"
    emulated_driver.emulate_integrated(1)


KERNELS, NETWORKS, UPLOADS, UPLOAD_BYTES, DOWNLOADS, _, GRAPHS = range(7)


@pytest.mark.parametrize("integrated, copies", [(1, (1, 0)), (0, (3, 2))],
                         ids=["shared memory", "own memory"])
def test_a_frame_takes_so_many_copies_kernels_and_graphs(
    plan, detector_plan, astronaut, emulated_driver, integrated, copies
):
    emulated_driver.emulate_integrated(integrated)
    boxes = several_boxes(3)
    with open_engine(plan) as engine, open_detector(detector_plan, beside=engine) as detector:
        for _ in range(4):
            emulated_driver.emulated_reset()
            detector.detect(astronaut)
            engine.classify(astronaut, boxes)
        counts = [emulated_driver.emulated_count(kind) for kind in range(7)]
    assert (counts[UPLOADS], counts[DOWNLOADS]) == copies
    assert counts[KERNELS] == counts[NETWORKS] == counts[GRAPHS] == 2
    assert astronaut.nbytes <= counts[UPLOAD_BYTES] <= astronaut.nbytes + 1024
    emulated_driver.emulate_integrated(1)


@pytest.fixture
def any_order(emulated_driver):
    """Set the order in which queued work runs; 0 is as late as possible."""
    yield emulated_driver.emulate_order
    emulated_driver.emulate_order(0)


@MEMORY
def test_predictions_are_the_same_in_every_order_of_the_work(
    plan, detector_plan, exported, astronaut, emulated_driver, integrated, any_order
):
    emulated_driver.emulate_integrated(integrated)
    frames = [astronaut, np.ascontiguousarray(astronaut[:301, 3:400])]
    boxes = [several_boxes(3) * 0.7, several_boxes(2, 1) * 0.7]
    with open_engine(exported / "manet.onnx") as onnx:
        expected = onnx.classify_frames(frames, boxes)
    with open_engine(plan) as engine, open_detector(detector_plan, beside=engine) as detector:
        found = [detector.detect(frame).boxes_xyxy for frame in frames]
        for seed in range(30):
            any_order(seed)
            for frame, before in zip(frames, found):
                assert np.array_equal(detector.detect(frame).boxes_xyxy, before)
            for rows, right in zip(engine.classify_frames(frames, boxes), expected):
                assert np.abs(rows - right).max() < 1e-3
        assert engine.runner.replay.graphs, "several frames are replayed as a graph, too"
    emulated_driver.emulate_integrated(1)


def test_a_missing_wait_is_found(plan, astronaut, monkeypatch):
    """What the emulation is for: without its wait the runner returns the predictions before."""
    from feredge.runtime.plans import runner as runners

    boxes, others = several_boxes(2), several_boxes(2, 5)
    source = inspect.getsource(runners.PlanRunner.run)
    assert source.count("self.gpu.stream.synchronize()") == 1
    planted = textwrap.dedent(source).replace("self.gpu.stream.synchronize()", "pass")
    names = dict(vars(runners))
    exec(compile("from __future__ import annotations\n" + planted, "planted", "exec"), names)
    with open_engine(plan, cuda_graphs=False) as engine:
        first, right = engine.classify(astronaut, boxes), engine.classify(astronaut, others)
        assert np.abs(first - right).max() > 0.01
        engine.classify(astronaut, boxes)
        monkeypatch.setattr(runners.PlanRunner, "run", names["run"])
        assert np.array_equal(engine.classify(astronaut, others), first), "stale, as on a GPU"
        engine.runner.gpu.stream.synchronize()


def test_crops_are_inferred_as_by_the_onnx_file(plan, exported):
    crops = np.random.default_rng(0).random((11, 3, 96, 96), np.float32)
    with open_engine(exported / "manet.onnx") as onnx, open_engine(plan) as engine:
        assert np.abs(engine.infer(crops) - onnx.infer(crops)).max() < 1e-5
        assert engine.max_batch == 8 and engine.sizes == [1, 2, 4, 8]


def test_where_the_time_goes_lies_between_events(plan):
    """That events stand where trtexec has them; how long anything takes only a GPU can tell."""
    crops = np.random.default_rng(0).random((3, 3, 96, 96), np.float32)
    with open_engine(plan) as engine:
        parts = engine.profile(crops)
    assert parts.keys() == {"h2d", "compute", "d2h", "latency", "enqueue"}
    assert min(parts.values()) >= 0 and parts["compute"] > parts["h2d"] + parts["d2h"]
    total = parts["h2d"] + parts["compute"] + parts["d2h"]
    assert parts["latency"] == pytest.approx(total, abs=1e-3)


def test_an_fp16_input_gets_fp16(exported, tmp_path, astronaut):
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(exported / "manet.onnx")
    value = model.graph.input[0]
    value.type.tensor_type.elem_type = TensorProto.FLOAT16
    for node in model.graph.node:
        node.input[:] = ["faces_fp32" if name == "faces" else name for name in node.input]
    model.graph.node.insert(
        0, helper.make_node("Cast", ["faces"], ["faces_fp32"], to=TensorProto.FLOAT))
    onnx.save(model, tmp_path / "half.onnx")
    path = tmp_path / "half.plan"
    tensorrt_standin.write_plan(path, tmp_path / "half.onnx",
                                [(batch, 3, 96, 96) for batch in (1, 2, 2)])
    boxes = several_boxes(2)
    with open_engine(exported / "manet.onnx") as onnx_engine:
        write_sidecar(path, replace(onnx_engine.spec, target=TARGET))
        expected = onnx_engine.classify(astronaut, boxes)
        with open_engine(path) as engine:
            assert engine.runner.input_dtype == np.float16
            assert np.abs(engine.classify(astronaut, boxes) - expected).max() < 1e-3
            crops = np.random.default_rng(0).random((2, 3, 96, 96), np.float32)
            assert np.abs(engine.infer(crops) - onnx_engine.infer(crops)).max() < 5e-3


@MEMORY
def test_the_detectors_plan_finds_the_same_faces(
    detector_plan, detector_path, photos, astronaut, emulated_driver, integrated
):
    emulated_driver.emulate_integrated(integrated)
    frames = [read_picture(path) for path in find_pictures(photos)[:12]]
    frames += [astronaut, astronaut, cv2.resize(astronaut, (1280, 720)), np.zeros_like(astronaut)]
    apart_px = []
    with open_detector(detector_path) as onnx, open_detector(detector_plan) as plan:
        for frame in frames:
            expected, got = onnx.detect(frame), plan.detect(frame)
            canvas, _ = padded_input(frame, 320, None)
            content = ctypes.string_at(int(plan.runner.input), canvas.nbytes)
            seen = np.frombuffer(content, np.float32)
            assert np.abs(seen - canvas.ravel()).max() <= 1, "OpenCV scales in fixed point"
            assert len(got) == len(expected)
            apart_px.append(np.abs(got.boxes_xyxy - expected.boxes_xyxy).max(initial=0))
    # Of two candidates whose scores are all but equal, rounding may choose the other.
    assert np.median(apart_px) < 0.5 and np.max(apart_px) < 50
    emulated_driver.emulate_integrated(1)


def test_a_frame_goes_up_once_for_detector_and_network(plan, detector_plan, astronaut, monkeypatch):
    from feredge.runtime.gpu.frames import FrameStore
    from feredge.runtime.pipeline import classify

    uploads = []
    upload = FrameStore.upload
    monkeypatch.setattr(FrameStore, "upload",
                        lambda self, frame: uploads.append(1) or upload(self, frame))
    with open_engine(plan) as engine, open_detector(detector_plan, beside=engine) as detector:
        assert detector.runner.frames is engine.frames
        for _ in range(3):
            assert len(classify(astronaut, detector, engine)) == 1
        assert len(uploads) == 3
        boxes = several_boxes(1)
        first = engine.classify(astronaut, boxes)
        changed = astronaut.copy()
        changed[:] = 255 - changed
        second = engine.classify(changed, boxes)
        changed[:] = astronaut
        assert np.allclose(engine.classify(changed, boxes), first), "a frame is never stale"
        assert not np.allclose(first, second)


@pytest.mark.slow
def test_fer_run_gives_the_same_labels_with_each_version(
    versioned, detector_path, exported, photos, tmp_path
):
    plan, detector_plan = versioned
    files = find_pictures(photos)[::40]
    labels = {}
    for engine, detector in ((exported / "manet.onnx", detector_path), (plan, detector_plan)):
        lines = tmp_path / f"{engine.name}.jsonl"
        folder = tmp_path / "photos"
        folder.mkdir(exist_ok=True)
        for file in files:
            shutil.copy(file, folder)
        assert main(["--engine", str(engine), "--detector", str(detector), "--source", str(folder),
                     "--jsonl", str(lines)]) == 0
        records = [json.loads(line) for line in lines.read_text().splitlines()]
        labels[engine.suffix] = [[face["label"] for face in record["faces"]] for record in records]
    assert labels[".plan"] == labels[".onnx"] and sum(map(len, labels[".onnx"])) >= 5


@pytest.mark.parametrize("size", [(360, 640), (720, 1280)], ids=["bt601", "bt709"])
def test_bgrx_and_nv12_frames_are_read_as_they_are(plan, detector_plan, exported, astronaut, size):
    """A camera's frame goes up unconverted; what the GPU reads is what OpenCV would convert."""
    frame = np.zeros((*size, 3), np.uint8)
    frame[: size[0], : size[0]] = cv2.resize(astronaut, (size[0], size[0]))
    bgrx = np.concatenate([frame, np.full((*size, 1), 77, np.uint8)], axis=2)
    planes = cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420)
    height, chroma = size[0], planes[size[0] :].reshape(2, -1)
    nv12 = planes.copy()
    nv12[height:] = chroma.T.reshape(nv12[height:].shape)
    box = np.array([[0.34, 0.13, 0.57, 0.38]]) * size[0]
    with open_engine(exported / "manet.onnx") as onnx:
        expected = onnx.classify(frame, box)
        assert np.abs(onnx.classify(nv12, box) - expected).max() < 0.02
        assert np.array_equal(onnx.classify(bgrx, box), expected)
    with open_engine(plan) as engine, open_detector(detector_plan, beside=engine) as detector:
        boxes = [detector.detect(form).boxes_xyxy for form in (frame, bgrx, nv12) for _ in (1, 2)]
        assert all(len(found) == len(boxes[0]) == 1 for found in boxes)
        assert np.abs(np.concatenate(boxes) - boxes[0]).max() < 1
        for form in (frame, bgrx, nv12):
            for _ in range(3):
                off = 0.05 if form is nv12 and size[0] >= 720 else 0.02  # OpenCV writes BT.601
                assert np.abs(engine.classify(form, box) - expected).max() < off


@pytest.mark.slow
@pytest.mark.parametrize("graphs", ["--cuda-graphs", "--no-cuda-graphs"])
@pytest.mark.parametrize("kind", ["detector in ONNX", "detector's plan"])
def test_fer_run_gives_the_same_labels_from_a_plan(
    plan, detector_plan, detector_path, exported, photos, tmp_path, graphs, kind
):
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in find_pictures(photos)[::9]:
        shutil.copy(path, folder)
    finder = detector_path if kind == "detector in ONNX" else detector_plan
    records = {}
    for engine, detector in ((exported / "manet.onnx", detector_path), (plan, finder)):
        lines = tmp_path / f"{engine.name}.jsonl"
        assert main(["--engine", str(engine), "--detector", str(detector), "--source", str(folder),
                     "--jsonl", str(lines), graphs]) == 0
        records[engine.suffix] = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(records[".plan"]) == len(records[".onnx"]) >= 20
    same_boxes = kind == "detector in ONNX"
    agreed = 0
    for onnx, tensorrt in zip(records[".onnx"], records[".plan"]):
        assert len(onnx["faces"]) == len(tensorrt["faces"])
        for a, b in zip(onnx["faces"], tensorrt["faces"]):
            agreed += a["label"] == b["label"]
            if same_boxes:
                assert a["label"] == b["label"] and a["box"] == b["box"]
                assert a["probabilities"] == pytest.approx(b["probabilities"], abs=1e-3)
    assert agreed >= (1 if same_boxes else 0.95) * sum(len(r["faces"]) for r in records[".onnx"])


def test_engines_may_be_used_from_any_thread(plan, exported, astronaut):
    boxes = several_boxes(5)
    with open_engine(exported / "manet.onnx") as onnx, open_engine(plan) as engine:
        expected = onnx.classify(astronaut, boxes)
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(
            engine.classify(astronaut, boxes))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 6
    assert all(np.abs(answer - expected).max() < 1e-3 for answer in answers)


@pytest.mark.slow
def test_a_thousand_engines_leak_nothing(plan, emulated_driver, astronaut, tensorrt, monkeypatch):
    """The stand-in's network is opened once; allocations, streams, contexts and kernels are not."""
    opened = tensorrt.Runtime(tensorrt.Logger("ERROR")).deserialize_cuda_engine(plan.read_bytes())
    monkeypatch.setattr(tensorrt.Runtime, "deserialize_cuda_engine", lambda self, content: opened)
    before = emulated_driver.emulated_allocations()
    handles = len(list(__import__("pathlib").Path("/proc/self/fd").iterdir()))
    boxes = several_boxes(2)
    for k in range(1000):
        with open_engine(plan) as engine:
            if k % 100 == 0:
                for _ in range(3):
                    engine.classify(astronaut, boxes)
        assert emulated_driver.emulated_allocations() == before
    assert len(list(__import__("pathlib").Path("/proc/self/fd").iterdir())) <= handles + 2


def test_a_capture_that_fails_is_said_once_and_the_run_goes_on(
    plan, exported, astronaut, emulated_driver, monkeypatch
):
    from feredge.runtime.gpu import graphs as cuda_graphs

    def refused(name, *arguments):
        if name == "cuGraphInstantiateWithFlags":
            raise cuda_graphs.GraphError(f"{name} failed with CUDA error 901")
        return real(name, *arguments)

    real = cuda_graphs.call
    monkeypatch.setattr(cuda_graphs, "call", refused)
    boxes = several_boxes(3)
    with open_engine(exported / "manet.onnx") as onnx, open_engine(plan) as engine:
        expected = onnx.classify(astronaut, boxes)
        with pytest.warns(UserWarning, match="no CUDA graphs: .*901") as warned:
            for _ in range(6):
                assert np.abs(engine.classify(astronaut, boxes) - expected).max() < 1e-3
        assert len(warned) == 1 and not engine.runner.replay.enabled


def test_rtx_keeps_its_kernels_and_has_graphs_of_its_own(plan, exported, astronaut, monkeypatch,
                                                         tmp_path):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", tensorrt_standin.standin(RTX))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tensorrt_standin.write_plan(plan, exported / "manet.onnx",
                                [(batch, 3, 96, 96) for batch in (1, 4, 8)], RTX)
    with open_engine(exported / "manet.onnx") as onnx:
        target = replace(TARGET, kind="tensorrt-rtx", version=tensorrt_standin.number(RTX),
                         onnx_sha256="ab" * 32)
        write_sidecar(plan, replace(onnx.spec, target=target))
        boxes = several_boxes(3)
        expected = onnx.classify(astronaut, boxes)
    version = tensorrt_standin.number(RTX)
    kept = (tmp_path / "cache" / "feredge" / "kernels"
            / f"tensorrt-rtx_{version}_CPU-emulation_sm_87_abababababababab.cache")
    for opened in (1, 2):
        with open_engine(plan) as engine:
            for _ in range(4):
                assert np.abs(engine.classify(astronaut, boxes) - expected).max() < 1e-3
            assert not engine.runner.replay.enabled and not engine.runner.replay.graphs
        assert kept.read_bytes() == b"kernel " * opened, "what was kept is taken up again"
    kept.unlink()
    kept.mkdir()  # a cache that cannot be written
    with open_engine(plan) as engine:
        engine.classify(astronaut, boxes)


def test_a_closed_engine_says_so(plan, astronaut):
    engine = open_engine(plan)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="was closed"):
        engine.classify(astronaut, several_boxes(1))


def changed_target(plan, **changes):
    sidecar = plan.with_name(f"{plan.name}.json")
    document = json.loads(sidecar.read_text())
    document["target"] |= changes
    sidecar.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"version": "10.4.0"}, r"was built with tensorrt 10\.4\.0, here is 10\.3\.0"),
        ({"compute_capabilities": ["8.9"]}, r"built for compute capability 8\.9, this .* has 8\.7"),
        ({"kind": "tensorrt-rtx"}, "needs TensorRT: tensorrt_rtx"),
        ({"kind": "onnx"}, "a plan by its name and for onnx by its sidecar"),
    ],
    ids=["version", "GPU", "flavour", "no plan"],
)
def test_a_plan_for_something_else_is_refused_with_the_rebuild_command(
    plan, changes, said, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    changed_target(plan, **changes)
    with pytest.raises(EngineError, match=said) as caught:
        open_engine(plan)
    assert "\n" not in str(caught.value)
    if "needs TensorRT" not in said:
        assert f"fer-export --onnx {plan.with_suffix('.int8.qdq.onnx')}" in str(caught.value)


def test_a_tensorrt_older_than_jetpack_6_1_is_named(plan, monkeypatch):
    old = types.ModuleType("tensorrt")
    old.__version__ = "8.6.2"
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    changed_target(plan, version="8.6.2")
    with pytest.raises(EngineError, match=r"10\.3 \(JetPack 6\.1\) or later, here is 8\.6"):
        open_engine(plan)


def test_a_dla_plan_is_loaded_for_its_core(plan, monkeypatch):
    changed_target(plan, dla_core=1, flags=["dla"])
    with open_engine(plan) as engine:
        assert engine.runner.session.runtime.DLA_core == 1


@pytest.mark.parametrize("allocation", range(1, 6))
def test_an_open_that_fails_frees_what_it_had(plan, emulated_driver, allocation):
    """Memory runs out at the n-th allocation; `nothing_leaks` counts what is left."""
    from pycuda.driver import MemoryError as OutOfMemory

    emulated_driver.emulate_failure(allocation)
    try:
        with open_engine(plan) as engine, pytest.raises(OutOfMemory):
            engine.classify(np.zeros((99, 131, 3), np.uint8), np.array([[5, 3, 80, 90.0]]))
    except OutOfMemory:
        pass
    finally:
        emulated_driver.emulate_failure(0)


def test_the_rebuild_command_names_the_file_that_the_plan_came_from(plan, exported):
    onnx = plan.with_name("other-name.onnx")
    shutil.copy(exported / "manet.onnx", onnx)
    changed_target(plan, version="8.6.2",
                   onnx_sha256=hashlib.sha256(onnx.read_bytes()).hexdigest())
    with pytest.raises(EngineError) as caught:
        open_engine(plan)
    command = f"fer-export --onnx {onnx} --target tensorrt --max-batch 8 --output {plan.parent}"
    assert str(caught.value).endswith(command)


def test_a_plan_is_checked_before_tensorrt_sees_it(plan, tensorrt, monkeypatch):
    def seen(*arguments):
        raise AssertionError("TensorRT was given the plan")

    monkeypatch.setattr(tensorrt.Runtime, "deserialize_cuda_engine", seen)
    plan.write_bytes(plan.read_bytes() + b" ")
    with pytest.raises(EngineError, match="SHA-256 differs"):
        open_engine(plan)
    plan.with_name(f"{plan.name}.json").write_text("{")
    with pytest.raises(SpecError, match=r"manet\.plan\.json is broken"):
        open_engine(plan)
    plan.with_name(f"{plan.name}.json").unlink()
    with pytest.raises(SpecError, match=r"has no manet\.plan\.json beside it"):
        open_engine(plan)


def test_what_is_missing_is_named_with_what_to_use_instead(plan, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"needs TensorRT: .*\[tensorrt\].*or use the ONNX"):
        open_engine(plan)


def test_no_pycuda_no_driver_and_no_gpu_have_their_own_answers(plan, monkeypatch, emulated_driver):
    import pycuda.driver

    from feredge.runtime.errors import PackageError
    from feredge.runtime.gpu import device as gpu

    monkeypatch.setattr(pycuda.driver.Device, "count", staticmethod(lambda: 0))
    with pytest.raises(EngineError, match="needs a GPU, and there is none here"):
        open_engine(plan)

    def without(message):
        def refused(package, extra=None):
            raise PackageError(f"{package}: {message}; install it with: pip install 'x[{extra}]'")
        return refused

    monkeypatch.setattr(gpu, "require", without("No module named 'pycuda'"))
    with pytest.raises(PackageError, match="pycuda"):
        open_engine(plan)
    monkeypatch.setattr(gpu, "require", without("libcuda.so.1: cannot open shared object file"))
    with pytest.raises(EngineError, match="needs NVIDIA's driver"):
        open_engine(plan)


def test_a_plan_that_tensorrt_refuses_is_an_error(plan, exported):
    with open_engine(exported / "manet.onnx") as engine:
        spec = replace(engine.spec, target=TARGET)
    plan.write_bytes(b"not a plan")
    write_sidecar(plan, spec)
    with pytest.raises(EngineError, match="TensorRT refuses"):
        open_engine(plan)


def test_a_plan_of_other_inputs_is_refused(plan, detector_path, detector_plan, exported, tmp_path):
    with open_engine(exported / "manet.onnx") as engine:
        spec = replace(engine.spec, target=TARGET)
    write_sidecar(detector_plan, spec)
    with pytest.raises(EngineError, match="its sidecar says"):
        open_engine(detector_plan)
    shutil.copy(plan, tmp_path / "other.plan")
    write_sidecar(tmp_path / "other.plan", DetectorSpec(TARGET, "0" * 64, 320))
    with pytest.raises(EngineError, match="not a YuNet-format"):
        open_detector(tmp_path / "other.plan")
    write_sidecar(detector_plan, DetectorSpec(TARGET, "0" * 64, 320))
    with pytest.raises(EngineError, match="`size_px` 320 or less"):
        open_detector(DetectorOptions(detector_plan, 640))


def test_buckets_are_powers_of_two_inside_the_profile():
    assert bucket_sizes(1, 8) == [1, 2, 4, 8] and bucket_sizes(1, 6) == [1, 2, 4, 6]
    assert bucket_sizes(4, 4) == [4] and bucket_sizes(1, 1) == [1]
    assert bucket_sizes(2, 16) == [2, 4, 8, 16]


def test_the_stand_in_refuses_what_tensorrt_refuses(plan, tensorrt):
    runtime = tensorrt.Runtime(tensorrt.Logger("ERROR"))
    content = plan.read_bytes()
    assert runtime.deserialize_cuda_engine(content.replace(b"10.3.0", b"10.4.0", 1)) is None
    engine = runtime.deserialize_cuda_engine(content)
    context = engine.create_execution_context(
        tensorrt.ExecutionContextAllocationStrategy.USER_MANAGED)
    assert not context.set_input_shape("faces", (9, 3, 96, 96))
    assert not context.set_tensor_address("nothing", 256)
    assert context.infer_shapes() == ["faces"]
    assert context.set_input_shape("faces", (1, 3, 96, 96))
    assert not context.execute_async_v3(1), "addresses are missing"
    memory = ctypes.create_string_buffer(8192)
    aligned = -(-ctypes.addressof(memory) // 256) * 256
    for name in ("faces", "probabilities"):
        assert context.set_tensor_address(name, aligned)
    assert not context.execute_async_v3(1), "it has no memory"
    context.set_device_memory(aligned, 4096)
    assert not context.execute_async_v3(0), "stream 0"
