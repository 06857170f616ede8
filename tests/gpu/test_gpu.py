"""What only a GPU can show.

Needs the tensorrt extra, or JetPack's TensorRT and PyCUDA, and an exported ONNX file:

    FEREDGE_ONNX=manet.int8.fp16.onnx pytest -m gpu tests/gpu

No GPU has run it yet.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from feredge.runtime import open_engine
from feredge.runtime.preprocess import reference
from feredge.runtime.preprocess.geometry import crop_matrices, whole_picture
from feredge.runtime.sources.pictures import find_pictures, read_picture
from feredge.runtime.spec import CropSpec, InputSpec

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def gpu():
    """The first GPU, in the package's own wrapper; skipped where there is none."""
    from feredge.runtime.errors import FeredgeError
    from feredge.runtime.gpu.device import Gpu

    try:
        found = Gpu()
    except FeredgeError as error:
        pytest.skip(str(error))
    if found.name == "CPU emulation":
        found.close()
        pytest.skip("the CUDA driver in this process is the emulation; run these alone")
    yield found
    found.close()


@pytest.fixture(scope="module")
def onnx_file():
    """The exported network that FEREDGE_ONNX names, as a Jetson has no torch to export one."""
    name = os.environ.get("FEREDGE_ONNX")
    if name is None:
        pytest.skip("set FEREDGE_ONNX to NAME.int8.fp16.onnx or NAME.int8.qdq.onnx, with NAME.onnx "
                    "beside it, as fer-export wrote them on another machine")
    return Path(name)


@pytest.fixture(scope="module")
def plan(gpu, onnx_file, tmp_path_factory):
    """The network's plan, built on this machine."""
    pytest.importorskip("tensorrt")
    from feredge.export.fer_export import main

    folder = tmp_path_factory.mktemp("plan")
    arguments = ["--onnx", str(onnx_file), "--target", "tensorrt", "--max-batch", "16"]
    assert main([*arguments, "--output", str(folder)]) == 0
    (built,) = folder.glob("*.plan")
    return built


@pytest.mark.parametrize("fp16", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("ratio", [0.1, 0.7, 1, 2.5, 20])
def test_the_kernel_follows_the_reference_on_the_device(gpu, fp16, ratio):
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    side, count = 96, 7
    centers = rng.uniform([0, 0], [1920, 1080], (count, 2))
    boxes = np.concatenate([centers - ratio * side / 2, centers + ratio * side / 2], axis=1)
    got = device_crops(gpu, frame, boxes, side, fp16)
    expected = reference.crop_faces(frame, boxes, InputSpec(side), CropSpec())
    # One level where a sum falls between two; FP16 rounds values up to 1 by 2^-12.
    rounding = 2**-12 if fp16 else 1e-6
    difference = np.abs(got - expected)
    assert difference.max() <= 1.01 / 255 + rounding
    assert (difference > rounding).mean() <= 0.01


def device_crops(gpu, frame, boxes, side, fp16):
    """Return the crops that the kernel makes, `(n, 3, side, side)` float64."""
    from feredge.runtime.gpu.buffers import CopiedBuffer
    from feredge.runtime.gpu.frames import FrameStore
    from feredge.runtime.preprocess.cuda import SOURCE, WarpFaces
    from feredge.runtime.preprocess.face_table import FaceTable, table_bytes

    count, values = len(boxes), np.float16 if fp16 else np.float32
    with gpu.activate():
        store = FrameStore(gpu)
        (on_gpu,) = store.take([frame])
        parameters = CopiedBuffer(gpu, table_bytes(1, 8))
        crops = CopiedBuffer(gpu, 8 * 3 * side * side * np.dtype(values).itemsize)
        matrices, samples = crop_matrices(boxes, CropSpec(), side)
        FaceTable(parameters.host, 1, 8).add_frame(matrices, samples, (side, side), on_gpu.layout)
        parameters.upload(len(parameters.host))
        warp = WarpFaces(gpu.module(SOURCE), on_gpu.layout, InputSpec(side), fp16=fp16)
        warp.launch(on_gpu.address, parameters.device, crops.device, 8, gpu.stream)
        crops.download(len(crops.host))
        gpu.stream.synchronize()
        got = crops.host.view(values).reshape(8, 3, side, side)[:count].astype(np.float64)
        for slot in list(store.slots):
            store.remove(slot)
        parameters.free()
        crops.free()
    return got


def test_the_plan_labels_faces_as_the_onnx_file(plan, onnx_file, faces_48px):
    files = find_pictures(faces_48px)[::7]
    fp32 = onnx_file.with_name(f"{onnx_file.name.split('.')[0]}.onnx")
    with open_engine(fp32) as onnx, open_engine(plan) as engine:
        crops = []
        for file in files:
            picture = read_picture(file)
            box, whole = whole_picture(picture.shape)
            crops.append(reference.crop_faces(picture, box, onnx.spec.input, whole))
        batch = np.concatenate(crops)
        same = onnx.infer(batch).argmax(axis=1) == engine.infer(batch).argmax(axis=1)
    assert same.mean() >= 0.98


def test_graphs_change_nothing(plan, astronaut):
    boxes = np.array([[176, 70, 290, 195], [100, 40, 300, 240], [-20, -20, 60, 60]], np.float32)
    with open_engine(plan) as with_graphs, open_engine(plan, cuda_graphs=False) as without:
        expected = without.classify(astronaut, boxes)
        for _ in range(5):
            assert np.array_equal(with_graphs.classify(astronaut, boxes), expected)
        assert with_graphs.runner.replay.graphs, "nothing was captured"


def test_engines_give_their_memory_back(gpu, plan, astronaut):
    boxes = np.array([[176, 70, 290, 195]], np.float32)

    def cycle():
        with open_engine(plan) as engine:
            for _ in range(4):
                engine.classify(astronaut, boxes)
        with gpu.activate():
            return gpu.driver.mem_get_info()[0]

    for _ in range(3):
        before = cycle()
    for _ in range(20):
        after = cycle()
    assert before - after < 4 << 20


def test_compute_sanitizer_finds_nothing(plan, gpu):
    sanitizer = shutil.which("compute-sanitizer", path="/usr/local/cuda/bin:/usr/bin")
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not installed (it comes with the CUDA toolkit)")
    code = ("import sys, numpy as np; from feredge.runtime import open_engine\n"
            "with open_engine(sys.argv[1], cuda_graphs=False) as engine:\n"
            "    engine.classify(np.zeros((99, 131, 3), np.uint8), np.array([[-5, 3, 80, 140.]]))")
    done = subprocess.run(
        # Libraries provoke errors of the API and handle them.
        [sanitizer, "--report-api-errors", "no", "--error-exitcode", "9", sys.executable,
         "-c", code, Path(plan)],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
