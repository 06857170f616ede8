"""The warp kernel against the reference, through PyCUDA on the emulated driver."""

import ctypes

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from warp_cases import IMAGENET, UNTOUCHED, Case, cases, check, frame_of, run, turned

from feredge.runtime.detect.yunet import padded_input
from feredge.runtime.gpu.frame_layout import FORMATS, FrameLayout
from feredge.runtime.preprocess import cuda, reference
from feredge.runtime.preprocess.face_table import FACE, HEADER
from feredge.runtime.preprocess.geometry import crop_matrices, scaled_frame
from feredge.runtime.spec import CropSpec, InputSpec

every_format = pytest.mark.parametrize("pixels", sorted(FORMATS))


def boxes_case(pixels, width, height, boxes, side, crop=CropSpec(), **options):  # noqa: B008
    layout, rows, chroma = frame_of(pixels, width, height, extra=3)
    matrices, samples = crop_matrices(np.array(boxes, float).reshape(-1, 4), crop, side)
    return Case(layout, rows, matrices, samples, (side, side), chroma, **options)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None, database=None,
          suppress_health_check=[HealthCheck.too_slow])
@given(case=cases())
def test_the_kernel_follows_the_reference(warp_module, case):
    check(case, run(warp_module, case))


@every_format
@pytest.mark.parametrize("fp16", [False, True], ids=["fp32", "fp16"])
def test_boxes_over_every_edge(warp_module, pixels, fp16):
    boxes = [[-5, -7, 9, 8], [20, -3, 40, 12], [-9, 15, 8, 39], [25, 22, 44, 41],
             [-10, -10, 60, 60], [10, 10, 10.3, 10.2], [-200, 3, 5, 30]]
    case = boxes_case(pixels, 33, 31, boxes, 24, CropSpec(1.2, 0.1), fp16=fp16, input=IMAGENET)
    check(case, run(warp_module, case))


@every_format
def test_a_frame_of_one_pixel(warp_module, pixels):
    case = boxes_case(pixels, 1, 1, [[0.2, 0.2, 0.7, 0.8], [-3, -3, 4, 4]], 7)
    check(case, run(warp_module, case))


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1, 3, 8, 20])
def test_enlarging_and_shrinking(warp_module, ratio):
    half = ratio * 8
    case = boxes_case("bgr", 97, 61, [[48 - half, 30 - half, 48 + half, 30 + half]], 16)
    check(case, run(warp_module, case))


@pytest.mark.parametrize("count", [0, 1, 63, 64])
def test_any_number_of_faces_up_to_the_bucket(warp_module, count):
    corners = np.random.default_rng(count).uniform(-5, 50, (count, 2))
    boxes = np.concatenate([corners, corners + 12], axis=1)
    case = boxes_case("nv12", 57, 43, boxes, 9, capacity=64)
    check(case, run(warp_module, case))


@every_format
def test_turned_faces(warp_module, pixels):
    layout, rows, chroma = frame_of(pixels, 50, 40)
    size = (20, 20)
    matrices = np.stack([turned((25, 20), 0.7, a, size) for a in np.linspace(-3, 3, 5)])
    case = Case(layout, rows, matrices, np.full(5, 2), size, chroma)
    check(case, run(warp_module, case))


@pytest.mark.parametrize("pixels", ["bgr", "nv12"])
def test_faces_in_the_corners_of_a_4k_frame(warp_module, pixels):
    boxes = [[3800.3, 2100.7, 3860.9, 2190.2], [0.1, -3.3, 61, 62], [3779.9, 5.2, 3839.9, 71.7],
             [1919.3, 1079.8, 1958.4, 1131.5], [-100, -900, 3900, 3100]]
    case = boxes_case(pixels, 3840, 2160, boxes, 48)
    crops = run(warp_module, case)
    check(case, crops)
    # Counted from the nearest whole pixel, a small face is as exact there as anywhere.
    small = crops.view(np.float32).reshape(-1, 3, 48, 48)[:4]
    assert np.abs(small - case.expected()[:4]).max() < 0.5 / 255 + 2e-5


def test_a_frame_far_from_the_corner_of_a_huge_box_is_exact(warp_module):
    case = boxes_case("bgr", 9, 9, [[-9000, -9000, 1000.5, 1000.25]], 90)
    check(case, run(warp_module, case))


def test_rgb_frames_and_bgr_frames_make_the_same_crops(warp_module):
    bgr = boxes_case("bgr", 20, 20, [[3, 3, 17, 15]], 8)
    rows = bgr.pixels[:, :60].reshape(20, 20, 3)[..., ::-1].reshape(20, 60)
    layout = FrameLayout("rgb", 20, 20, 60)
    rgb = Case(layout, np.ascontiguousarray(rows), bgr.matrices, bgr.samples, bgr.size)
    assert (run(warp_module, bgr) == run(warp_module, rgb)).all()


@pytest.mark.parametrize("std", [1e-4, 1e-3, 1.0, 1e3])
def test_halves_are_the_floats_rounded_to_nearest(warp_module, std):
    spec = InputSpec(16, std=(std,) * 3, mean=(0.3,) * 3)
    case = boxes_case("bgr", 40, 40, [[3, 3, 37, 35]], 16, input=spec)
    floats = run(warp_module, case).view(np.float32)
    case.fp16 = True
    halves = run(warp_module, case)
    with np.errstate(over="ignore"):
        assert (halves.view(np.uint16) == floats.astype(np.float16).view(np.uint16)).all()


def test_a_crop_equals_crop_faces_of_the_reference(warp_module, astronaut):
    boxes, spec = np.array([[170.0, 60, 280, 190]]), InputSpec(48, "rgb", (0.5,) * 3, (0.25,) * 3)
    matrices, samples = crop_matrices(boxes, CropSpec(1.1), 48)
    layout = FrameLayout("bgr", 512, 512, 1536)
    case = Case(layout, astronaut.reshape(512, 1536), matrices, samples, (48, 48), input=spec)
    crop = run(warp_module, case).view(np.float32).reshape(1, 3, 48, 48)
    expected = reference.crop_faces(astronaut, boxes, spec, CropSpec(1.1))
    assert np.abs(crop - expected).max() < 4 * (1e-5 + 4 * 2**-24 * 512)


def test_the_face_detectors_input(warp_module, astronaut):
    frame = np.ascontiguousarray(astronaut[:300])
    canvas, scale = padded_input(frame, 320, None)
    inner = round(512 * scale[0]), round(300 * scale[1])
    matrices, samples = scaled_frame(frame.shape, inner)
    spec = InputSpec(320, "bgr", std=(1 / 255,) * 3)
    case = Case(FrameLayout("bgr", 512, 300, 1536), frame.reshape(300, 1536), matrices, samples,
                canvas.shape[2:], input=spec, black=True)
    got = run(warp_module, case).view(np.float32).reshape(canvas.shape)
    assert (got[..., inner[1]:, :] == 0).all() and (got[..., inner[0]:] == 0).all()
    assert got[..., inner[1] - 1, : inner[0]].any()
    assert np.abs(got - canvas).max() <= 1, "OpenCV scales in fixed point"


@every_format
def test_matrices_of_infinities_and_nans_read_nothing_outside(warp_module, pixels):
    layout, rows, chroma = frame_of(pixels, 8, 8)
    size = (8, 8)
    case = Case(layout, rows, turned((4, 4), 1, 0, size)[None], np.array([1]), size, chroma)
    for value in (np.nan, np.inf, -np.inf, 1e30):
        packed = case.packed()
        packed[HEADER.itemsize:].view(FACE)["offset"] = value
        case.packed = lambda packed=packed: packed
        assert np.isfinite(run(warp_module, case).view(np.float32)).all()


def test_leaving_frees_what_a_launch_took(warp_module, emulated_driver):
    before = emulated_driver.emulated_allocations()
    case = boxes_case("nv12", 20, 20, [[3, 3, 17, 15]], 8)
    run(warp_module, case)
    assert emulated_driver.emulated_allocations() == before


@pytest.mark.parametrize("error, said", [(1 / 255, "off by"), (3e-5, "not in whole levels")])
def test_a_wrong_value_is_noticed(warp_module, error, said):
    case = boxes_case("bgr", 20, 20, [[3, 3, 17, 15]], 8)
    crops = run(warp_module, case)
    crops.view(np.float32)[70] += error
    with pytest.raises(AssertionError, match=said):
        check(case, crops)


def test_a_captured_launch_serves_any_count_up_to_its_bucket(warp_module, emulated_driver):
    import pycuda.driver as driver

    first = boxes_case("bgr", 40, 30, [[3, 3, 17, 15]], 8, capacity=4)
    kernel = cuda.WarpFaces(warp_module, first.layout, first.input, first.size)
    frame, faces = driver.to_device(first.pixels), driver.to_device(first.packed())
    crops, stream = driver.mem_alloc(first.crops_bytes()), driver.Stream()
    handle, graph, ready = map(ctypes.c_void_p, (stream.handle, 0, 0))
    assert emulated_driver.cuStreamBeginCapture_v2(handle, 1) == 0
    kernel.launch(int(frame), int(faces), int(crops), first.max_faces, stream)
    assert emulated_driver.cuStreamEndCapture(handle, ctypes.byref(graph)) == 0
    assert emulated_driver.cuGraphInstantiateWithFlags(
        ctypes.byref(ready), graph, ctypes.c_ulonglong(0)) == 0
    for count in (0, 4, 1, 3):
        boxes = [[x, 2 * x, x + 9, 2 * x + 11] for x in range(count)]
        case = boxes_case("bgr", 40, 30, boxes, 8, capacity=4)
        made = np.full(case.crops_bytes(), UNTOUCHED, np.uint8)
        driver.memcpy_htod(faces, case.packed())
        driver.memcpy_htod(crops, made)
        assert emulated_driver.cuGraphLaunch(ready, handle) == 0
        driver.memcpy_dtoh(made, crops)
        check(case, made)
    assert emulated_driver.cuGraphExecDestroy(ready) == emulated_driver.cuGraphDestroy(graph) == 0
