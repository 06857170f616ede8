"""The warp kernel under AddressSanitizer and UndefinedBehaviorSanitizer, on the CPU."""

import os
import subprocess

import numpy as np
import pytest
from emulated_cuda import KERNEL
from hypothesis import HealthCheck, Phase, given, settings
from warp_cases import Case, cases, check, frame_of, recorded, turned

from feredge.runtime.preprocess.face_table import table_bytes

LAUNCHES = 300
# Each takes one of the kernel's guards away: what stands there, what instead, what is said then.
PLANTED = {
    "reads-beyond-the-frame": ("min(low + 1, size - 1)", "low + 1", "heap-buffer-overflow"),
    "writes-beyond-the-crop": ("if (row + i >= height) return;", "", "heap-buffer-overflow"),
    "makes-faces-beyond-the-count": ("if (int(blockIdx.z) >= __ldg(&faces->count)) return;", "",
                                     "heap-buffer-overflow"),
    "splits-before-clamping": ("fminf(fmaxf(center, float(-origin)), float(size - 1 - origin))",
                               "center", "outside the range of representable values"),
}


def launched(runner, launches, folder):
    """Run recorded launches; return how the process ended and the buffers it left."""
    (folder / "cases").write_bytes(b"".join(map(recorded, launches)))
    # Containers often forbid what the leak checker needs, and the kernel allocates nothing.
    done = subprocess.run([runner, folder / "cases", folder / "results"], capture_output=True,
                          text=True, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
    return done, np.fromfile(folder / "results", np.uint8)


@pytest.mark.slow
def test_launches_stay_inside_their_buffers(sanitized_runner, tmp_path):
    drawn = []

    @settings(max_examples=LAUNCHES, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=[HealthCheck.too_slow])
    @given(case=cases())
    def draw(case):
        drawn.append(case)

    draw()
    assert len(drawn) == LAUNCHES
    done, results = launched(sanitized_runner(KERNEL), drawn, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for case in drawn:
        used = sum(case.buffer_bytes())
        crops_at = sum(case.buffer_bytes()[:2])
        check(case, results[crops_at : crops_at + case.crops_bytes()])
        results = results[used:]
    assert not results.size


@pytest.mark.slow
@pytest.mark.parametrize(("guard", "instead", "said"), PLANTED.values(), ids=list(PLANTED))
def test_a_kernel_without_a_guard_is_caught(sanitized_runner, tmp_path, guard, instead, said):
    source = KERNEL.read_text()
    assert source.count(guard) == 1
    (tmp_path / "planted.cu").write_text(source.replace(guard, instead))
    layout, rows, chroma = frame_of("bgr", 9, 9)
    size = (7, 7)  # not a multiple of four pixels
    matrix = turned((8, 8), 1.0, 0.0, size)
    matrix[:, 2] += 1e12 if "representable" in said else 0
    spare = 50 if "blockIdx" in guard else 0  # so many more blocks than faces
    case = Case(layout, rows, matrix[None], np.array([1]), size, chroma, spare)
    if spare:
        only_one = case.packed()[: table_bytes(1, 1)]
        case.packed = lambda: only_one
    done, _ = launched(sanitized_runner(tmp_path / "planted.cu"), [case], tmp_path)
    assert done.returncode and said in done.stderr
