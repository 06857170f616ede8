"""The CPU graph on an x86 CPU without VNNI, emulated instruction by instruction.

onnxruntime picks its kernels by the CPU that it sees; under an emulated Haswell (AVX2, no VNNI) it
takes the ones that add pairs of 8-bit products in 16 bits.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.graphs.qdq import cpu_graph
from feredge.calibration.graphs.sessions import session_of
from feredge.calibration.ranges import Ranges
from feredge.runtime import machine as cpu
from feredge.runtime import open_engine

RUN = """
import sys
sys.path[:0] = sys.argv[1].split(":")
import numpy as np, onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = 1
crops = np.load(sys.argv[2])
for graph in sys.argv[3:]:
    session = ort.InferenceSession(graph, options)
    np.save(graph + ".npy", session.run(None, {"faces": crops})[0])
"""


@pytest.fixture(scope="module")
def emulator():
    found = shutil.which("qemu-x86_64")
    if found is None:
        message = "qemu-x86_64 is not installed (Debian: qemu-user)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*recommended:UserWarning")
@pytest.mark.skipif(not cpu.exact_8_bit_weights(), reason="needs a CPU with VNNI to compare with")
def test_7_bit_weights_answer_the_same_without_vnni_and_8_bit_ones_do_not(
    emulator, exported, faces_48px, tmp_path
):
    with open_engine(exported / "manet.onnx") as engine:
        faces = FaceFolder(faces_48px, engine.spec.input, engine.spec.crop)
    faces.files = faces.files[::150]
    crops = np.concatenate(list(faces.batches()))
    np.save(tmp_path / "crops.npy", crops)
    model = ir.load(exported / "manet.onnx")
    ranges = Ranges.from_json((exported / "manet.ranges.json").read_text())
    graphs = {bits: tmp_path / f"{bits}.onnx" for bits in (7, 8)}
    for bits, path in graphs.items():
        ir.save(cpu_graph(model, ranges, ("*.cbam.*",), bits), path)
    packages = str(Path(onnxruntime.__file__).parents[1])
    subprocess.run(
        [emulator, "-cpu", "Haswell", Path(sys.executable).resolve(), "-c", RUN, packages,
         tmp_path / "crops.npy", *graphs.values()],
        check=True, timeout=240, stderr=subprocess.DEVNULL,
    )
    change = {}
    for bits, path in graphs.items():
        expected = session_of(ir.load(path)).run(None, {"faces": crops})[0]
        change[bits] = np.abs(np.load(f"{path}.npy") - expected).max()
    assert change[7] < 1e-5, "7 bits must not depend on the CPU"
    assert change[8] > 0.1, "if 8 bits no longer saturate, --cpu avx2 may take all of them"
