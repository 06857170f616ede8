"""What only a GPU can tell; run it there with: pytest -m gpu.

Needs the tensorrt extra, or JetPack's TensorRT and PyCUDA. No GPU has run it yet.
"""

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
        found = Gpu().use()
    except FeredgeError as error:
        pytest.skip(str(error))
    if found.name == "CPU emulation":
        found.release()
        pytest.skip("the CUDA driver in this process is the emulation; run these alone")
    yield found
    found.release()


@pytest.fixture(scope="module")
def plan(gpu, tmp_path_factory):
    """The bundled network's INT8 plan, built on this machine."""
    pytest.importorskip("tensorrt")
    from feredge.export.fer_export import main

    folder = tmp_path_factory.mktemp("plan")
    arguments = ["--model", "manet", "--int8", "--fp16", "--target", "tensorrt"]
    assert main([*arguments, "--max-batch", "16", "--output", str(folder)]) == 0
    return folder / "manet.plan"


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("ratio", [0.1, 0.7, 1, 2.5, 20])
def test_the_kernel_follows_the_reference_on_the_device(gpu, half, ratio):
    from feredge.runtime.gpu.device import Buffer
    from feredge.runtime.preprocess.cuda import WarpFaces, pack_faces, packed_bytes

    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    side, count = 96, 7
    centres = rng.uniform([0, 0], [1920, 1080], (count, 2))
    boxes = np.concatenate([centres - ratio * side / 2, centres + ratio * side / 2], axis=1)
    spec, crop = InputSpec(side), CropSpec()
    matrices, samples = crop_matrices(boxes, crop, side)
    with gpu.active():
        layout = gpu.upload(frame)
        packed = Buffer(gpu, (packed_bytes(8),), np.uint8)
        crops = Buffer(gpu, (8, 3, side, side), np.float16 if half else np.float32)
        pack_faces(packed.host, matrices, samples, (side, side), layout)
        packed.upload()
        warp = WarpFaces(gpu.kernels, layout, spec, half=half)
        warp.launch(gpu.frame_address, packed.device, crops.device, 8, gpu.stream)
        crops.download()
        gpu.stream.synchronize()
        got = crops.host[:count].astype(np.float64)
        packed.free()
        crops.free()
    expected = reference.crop_faces(frame, boxes, spec, crop)
    # One level where a sum falls between two, else half's own rounding.
    difference = np.abs(got - expected)
    assert difference.max() <= 1.01 / 255
    assert (difference > (2**-11 if half else 1e-6)).mean() <= 0.01


def test_the_plan_labels_faces_as_the_onnx_file(plan, faces_48px):
    files = find_pictures(faces_48px)[::7]
    with open_engine(plan.with_suffix(".onnx")) as onnx, open_engine(plan) as engine:
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
        assert with_graphs.replay.graphs, "nothing was captured"


def test_engines_give_their_memory_back(gpu, plan, astronaut):
    boxes = np.array([[176, 70, 290, 195]], np.float32)

    def cycle():
        with open_engine(plan) as engine:
            for _ in range(4):
                engine.classify(astronaut, boxes)
        with gpu.active():
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
        [sanitizer, "--error-exitcode", "9", sys.executable, "-c", code, Path(plan)],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
