"""The crop: the reference against first principles, OpenCV's path against the reference."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feredge.runtime.errors import BoxError
from feredge.runtime.preprocess import opencv, reference
from feredge.runtime.preprocess.geometry import crop_matrices, whole_picture
from feredge.runtime.spec import CropSpec, InputSpec

# One level, where a sum falls between two; OpenCV 4 rounds the weights of its warp to 1/32 px.
TOLERANCE = (1 if cv2.__version__ >= "5" else 8) * 1.001 / 255
PATHS = pytest.mark.parametrize("crop_faces", [reference.crop_faces, opencv.crop_faces],
                                ids=["reference", "opencv"])


def ramp(height, width):
    """A frame whose value grows by 2 a pixel to the right and by 1 downwards."""
    y, x = np.mgrid[:height, :width]
    return np.repeat((2 * x + y)[..., None], 3, axis=2).astype(np.uint8)


@PATHS
def test_a_crop_of_its_own_size_is_the_picture_itself(crop_faces):
    frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    box, whole = whole_picture(frame.shape)
    crop = crop_faces(frame, box, InputSpec(32), whole)[0]
    assert np.allclose(crop, frame[..., ::-1].transpose(2, 0, 1) / 255, atol=1e-6)


@PATHS
def test_shrinking_by_two_averages_four_pixels(crop_faces):
    frame = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    box, whole = whole_picture(frame.shape)
    crop = crop_faces(frame, box, InputSpec(16, channels="bgr"), whole)[0]
    expected = frame.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1) / 255
    assert np.allclose(crop, expected, atol=TOLERANCE)


@PATHS
def test_a_ramp_keeps_its_slope_and_its_half_pixels(crop_faces):
    crop = crop_faces(ramp(64, 64), np.array([[10, 20, 30, 40]]), InputSpec(10), CropSpec())[0]
    # Output pixel (i, j) covers 2x2 px from (10 + 2j, 20 + 2i): its mean is that of the centre.
    j, i = np.meshgrid(np.arange(10), np.arange(10))
    centre_x, centre_y = 10 + 2 * j + 1 - 0.5, 20 + 2 * i + 1 - 0.5
    assert np.allclose(crop[0] * 255, 2 * centre_x + centre_y, atol=255 * TOLERANCE)


@PATHS
def test_the_border_goes_on_instead_of_extrapolating(crop_faces):
    frame = np.full((8, 8, 3), 100, np.uint8)
    frame[:, 0] = 200
    crop = crop_faces(frame, np.array([[-8, 0, 8, 16]]), InputSpec(64), CropSpec())[0] * 255
    assert np.allclose(crop[:, :, :30], 200, atol=1.01)
    assert crop.max() < 201.1 and crop.min() > 98.9


@PATHS
def test_scale_and_shift_move_the_square(crop_faces):
    frame = ramp(100, 100)
    moved = crop_faces(frame, np.array([[40, 40, 50, 60]]), InputSpec(20), CropSpec(1.5, 0.1))
    same = crop_faces(frame, np.array([[30, 38, 60, 68]]), InputSpec(20), CropSpec())
    assert np.allclose(moved, same, atol=1e-6)


@PATHS
def test_channels_mean_and_std(crop_faces):
    frame = np.zeros((4, 4, 3), np.uint8)
    frame[:] = (51, 102, 204)
    box, whole = whole_picture(frame.shape)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    for channels, values in (("bgr", (0.2, 0.4, 0.8)), ("rgb", (0.8, 0.4, 0.2))):
        crop = crop_faces(frame, box, InputSpec(3, channels, mean, std), whole)[0]
        expected = (np.array(values) - mean) / std
        assert np.allclose(crop, expected[:, None, None], atol=1e-5)
        assert crop.dtype == np.float32


@PATHS
def test_no_faces_make_an_empty_batch(crop_faces):
    frame = np.zeros((4, 4, 3), np.uint8)
    assert crop_faces(frame, np.zeros((0, 4)), InputSpec(8), CropSpec()).shape == (0, 3, 8, 8)


@PATHS
def test_a_frame_of_one_pixel_fills_the_crop(crop_faces):
    frame = np.full((1, 1, 3), 77, np.uint8)
    crop = crop_faces(frame, np.array([[0.2, 0.2, 0.7, 0.8]]), InputSpec(8), CropSpec(2.0))
    assert np.allclose(crop, 77 / 255, atol=1e-6)


@PATHS
@pytest.mark.parametrize(
    "box, said",
    [
        ([np.nan, 0, 1, 1], "not finite"),
        ([0, 0, np.inf, 1], "not finite"),
        ([5, 5, 5, 9], "no area"),
        ([9, 5, 5, 9], "no area"),
        ([-9, 0, -1, 5], "outside the 20x10 frame"),
        ([0, 10, 5, 12], "outside the 20x10 frame"),
        ([20, 0, 25, 5], "outside the 20x10 frame"),
    ],
)
def test_a_box_without_a_crop_is_refused(crop_faces, box, said):
    frame = np.zeros((10, 20, 3), np.uint8)
    boxes = np.array([[0, 0, 5, 5], box])
    with pytest.raises(BoxError, match=f"box 1, .*{said}"):
        crop_faces(frame, boxes, InputSpec(8), CropSpec())


def test_antialiasing_takes_as_many_samples_as_the_crop_shrinks_and_no_more_than_eight():
    boxes = np.array([[0, 0, s, s] for s in (5, 10, 10.0000001, 11, 20, 35, 500)])
    _, samples = crop_matrices(boxes, CropSpec(), 10)
    assert samples.tolist() == [1, 1, 1, 2, 2, 4, 8]
    _, samples = crop_matrices(boxes, CropSpec(antialias=False), 10)
    assert set(samples.tolist()) == {1}


@settings(max_examples=300, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)), side=st.integers(1, 32),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)), ratio=st.floats(0.05, 20),
    aspect=st.floats(0.5, 2), crop=st.builds(CropSpec, st.floats(0.5, 2), st.floats(-0.3, 0.3),
                                             st.booleans()),
    seed=st.integers(0, 2**32 - 1),
)
def test_opencv_follows_the_reference(size, side, place, ratio, aspect, crop, seed):
    frame = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    x, y = place[0] * size[1], place[1] * size[0]
    half = ratio * side / 2
    boxes = np.array([[x - half, y - half * aspect, x + half, y + half * aspect]])
    spec = InputSpec(side)
    expected = reference.crop_faces(frame, boxes, spec, crop)
    assert np.abs(opencv.crop_faces(frame, boxes, spec, crop) - expected).max() <= TOLERANCE


@PATHS
@pytest.mark.parametrize("side", [24, 150], ids=["shrunk", "enlarged"])
def test_a_crop_saved_as_a_picture_is_the_same_crop(crop_faces, side, astronaut):
    spec = InputSpec(side)
    crop = crop_faces(astronaut, np.array([[170.3, 60.2, 262.1, 190.9]]), spec, CropSpec(1.1))
    picture = np.rint(255 * crop[0].transpose(1, 2, 0)[..., ::-1]).astype(np.uint8)
    box, whole = whole_picture(picture.shape)
    again = crop_faces(np.ascontiguousarray(picture), box, spec, whole)
    np.testing.assert_allclose(again, crop, atol=1e-6)


@pytest.mark.parametrize("ratio", [0.2371, 0.9013, 3.7129])
def test_opencv_and_the_reference_hardly_ever_round_otherwise(ratio, astronaut):
    if cv2.__version__ < "5":
        pytest.skip("OpenCV 4 rounds the weights of its warp to 1/32 px")
    half = ratio * 48
    boxes = np.array([[220.3 - half, 130.9 - half, 220.3 + half, 130.9 + half]])
    expected = reference.crop_faces(astronaut, boxes, InputSpec(96), CropSpec())
    got = opencv.crop_faces(astronaut, boxes, InputSpec(96), CropSpec())
    assert (np.abs(got - expected) > 1e-6).mean() < 0.005


def test_a_very_large_face_is_exact_to_a_level(astronaut):
    frame = cv2.resize(astronaut, (1800, 1800), interpolation=cv2.INTER_CUBIC)
    assert frame.size > opencv.MOST_VALUES
    boxes = np.array([[10.0, -20.0, 1790.0, 1810.0]])
    expected = reference.crop_faces(frame, boxes, InputSpec(48), CropSpec())
    got = opencv.crop_faces(frame, boxes, InputSpec(48), CropSpec())
    assert np.abs(got - expected).max() <= TOLERANCE


def test_a_small_face_on_a_4k_frame(astronaut):
    frame = np.zeros((2160, 3840, 3), np.uint8)
    frame[1600:2112, 3300:3812] = astronaut
    boxes = np.array([[3480.3, 1660.7, 3560.9, 1770.2]])
    expected = reference.crop_faces(frame, boxes, InputSpec(96), CropSpec())
    assert expected.std() > 0.05
    got = opencv.crop_faces(frame, boxes, InputSpec(96), CropSpec())
    assert np.abs(got - expected).max() <= TOLERANCE
