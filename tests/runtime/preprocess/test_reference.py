"""What the reference says of NV12, a black border and turned crops, from first principles."""

import cv2
import numpy as np
import pytest

from feredge.runtime.gpu.color import color_of
from feredge.runtime.preprocess.reference import warp, warp_nv12

IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])


def test_bt601_and_bt709_have_the_coefficients_of_the_standards():
    # As ITU-R BT.601 and BT.709 give them, rounded.
    limited = (16, 1.1644, 1.5960, -0.3918, -0.8130, 2.0172)
    assert color_of("bt601", full_range=False) == pytest.approx(limited, abs=1e-4)
    full = (0, 1, 1.5748, -0.1873, -0.4681, 1.8556)
    assert color_of("bt709", full_range=True) == pytest.approx(full, abs=1e-4)


def test_nv12_of_even_color_is_what_opencv_makes_of_it():
    colors = np.array([[[16, 128, 128]], [[235, 128, 128]], [[81, 90, 240]], [[150, 60, 50]]])
    for y, u, v in colors[:, 0]:
        luma, chroma = np.full((4, 6), y, np.uint8), np.full((2, 3, 2), (u, v), np.uint8)
        planes = np.concatenate([luma, chroma.reshape(2, 6)])
        expected = cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_NV12)
        got = warp_nv12((luma, chroma), IDENTITY, 1, (4, 6), color_of("bt601", False))
        assert np.abs(got - expected).max() <= 1


def test_chroma_lies_amid_two_by_two_of_luma():
    luma, chroma = np.full((2, 4), 100, np.uint8), np.zeros((1, 2, 2), np.uint8)
    chroma[...] = 128
    chroma[0, :, 1] = 128, 168
    red = warp_nv12((luma, chroma), IDENTITY, 1, (2, 4), color_of("bt601", True))[0, :, 0]
    # Luma pixels 0 to 3 lie at -1/4, 1/4, 3/4 and 5/4 of the way between the chroma pixels.
    assert np.allclose(red, 100 + 1.402 * 40 * np.array([0, 0.25, 0.75, 1]))


@pytest.mark.parametrize("full_range", [False, True])
def test_a_black_border_is_black_in_nv12_too(full_range):
    luma, chroma = np.full((2, 2), 235, np.uint8), np.full((1, 1, 2), 128, np.uint8)
    color = color_of("bt709", full_range)
    got = warp_nv12((luma, chroma), IDENTITY, 1, (3, 3), color, black=True)
    white = color.luma * (235 - color.black)
    assert np.allclose(got[:2, :2], white)
    assert (got[2] == 0).all() and (got[:, 2] == 0).all()


def test_a_black_border_begins_at_the_frames_edge():
    frame = np.full((2, 2), 100, np.uint8)
    shifted = np.array([[1.0, 0, -0.5], [0, 1, 0]])
    assert np.allclose(warp(frame, shifted, 2, (2, 3), black=True), [[50, 100, 50]] * 2)
    assert np.allclose(warp(frame, shifted, 2, (2, 3)), 100)


def test_a_quarter_turn_is_numpys():
    frame = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    quarter = np.array([[0.0, -1, 8], [1, 0, 0]])
    assert np.allclose(warp(frame, quarter, 1, 8), np.rot90(frame))


def test_one_channel_is_sampled_as_three_are():
    frame = np.random.default_rng(1).integers(0, 256, (9, 7), dtype=np.uint8)
    matrix = np.array([[0.3, 0.2, 1], [-0.1, 0.6, 2]])
    three = warp(np.repeat(frame[..., None], 3, axis=2), matrix, 3, (5, 6))
    assert np.allclose(warp(frame, matrix, 3, (5, 6))[..., None], three)
