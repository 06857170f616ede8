"""Memory traffic of the warp kernel, counted on an instrumented build: sectors per load."""

import re
import subprocess

import emulated_cuda
import numpy as np
import pytest
from emulated_cuda import or_skip
from warp_cases import Case, frame_of, recorded

from feredge.runtime.preprocess.geometry import crop_matrices, scaled_frame
from feredge.runtime.spec import CropSpec

SECTOR_BYTES = 32


@pytest.fixture(scope="module")
def traffic(tmp_path_factory):
    """Return a function from a case to its `(requests, sectors)` for the frame's pixels."""
    program, folder = or_skip(emulated_cuda.counting_runner), tmp_path_factory.mktemp("sectors")

    def count(case):
        (folder / "cases").write_bytes(recorded(case))
        done = subprocess.run([program, folder / "cases", folder / "results"],
                              capture_output=True, text=True, check=True)
        requests, sectors = map(int, re.findall(r"\d+", done.stderr))
        return requests, sectors

    return count


def detector_case(pixels, width=1920, height=1080):
    layout, rows, chroma = frame_of(pixels, width, height)
    matrices, samples = scaled_frame((height, width), (320, 180))
    return Case(layout, rows, matrices, samples, (192, 320), chroma, black=True)


def crops_case(pixels, face_px):
    layout, rows, chroma = frame_of(pixels, 1920, 1080)
    boxes = np.array([[400 + 500 * k, 300.5, 400 + 500 * k + face_px, 300.5 + face_px]
                      for k in range(3)])
    matrices, samples = crop_matrices(boxes, CropSpec(), 96)
    return Case(layout, rows, matrices, samples, (96, 96), chroma, fp16=True)


# The most sectors per load; with four columns per thread it was 32 and 23 to 26.
@pytest.mark.parametrize(
    "case, budget",
    [(lambda: detector_case("bgr"), 19), (lambda: detector_case("bgra"), 24.5),
     (lambda: detector_case("nv12"), 8), (lambda: crops_case("bgr", 96), 4.5),
     (lambda: crops_case("bgr", 250), 9), (lambda: crops_case("nv12", 250), 4)],
    ids=["detector-bgr", "detector-bgrx", "detector-nv12", "crops-96px", "crops-250px",
         "crops-nv12"],
)
def test_a_load_touches_few_sectors(traffic, case, budget):
    requests, sectors = traffic(case())
    assert requests > 1000 and sectors / requests <= budget, sectors / requests


def test_half_as_many_samples_an_axis_at_even_steps_are_a_quarter_of_the_loads(traffic):
    """1080p to 320 px: 3 x 3 samples; with 6 x 6, as for other steps, 4 times as many loads."""
    case = detector_case("bgr")
    assert case.samples.tolist() == [3]
    requests, sectors = traffic(case)
    case.samples = np.array([6])
    as_before, _ = traffic(case)
    assert as_before / requests == pytest.approx(4, rel=0.02)
    assert requests <= 200_000 and sectors * SECTOR_BYTES <= 120e6
