import warnings

import cv2
import numpy as np
import pytest

from feredge.runtime.detect import DetectorOptions, open_detector
from feredge.runtime.detect.sizes import SETTLE, DetectionSize

FULL_HD = (1080, 1920, 3)


@pytest.mark.parametrize("shape, min_face_px, expected", [
    (FULL_HD, 40, 960), (FULL_HD, 16, 2400), (FULL_HD, 200, 320), ((350, 300, 3), 40, 320),
    ((2160, 3840, 3), 40, 1920), ((2160, 3840, 3), 10, 4096),
])
@pytest.mark.filterwarnings("ignore:detection runs at 4096")
def test_the_size_is_what_the_smallest_face_needs(shape, min_face_px, expected):
    assert DetectionSize(DetectorOptions(min_face_px=min_face_px)).of(shape) == expected


def test_a_size_that_cannot_see_the_smallest_face_is_warned_about_once():
    size = DetectionSize(DetectorOptions(size_px=320))
    with pytest.warns(UserWarning, match=r"at 320 px, where faces under 120 px .*"
                                         r"faces of 40 px need `size_px` 960") as warned:
        assert size.of(FULL_HD) == size.of(FULL_HD) == 320
    assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DetectionSize(DetectorOptions(size_px=320, min_face_px=120)).of(FULL_HD)
        DetectionSize(DetectorOptions()).of(FULL_HD)


def run_live(ns_per_pixel, frames_per_s, detections=300):
    """Return the size after many detections that take this long per pixel of a 16:9 canvas."""
    size = DetectionSize(DetectorOptions(), frames_per_s=frames_per_s)
    for _ in range(detections):
        size_px = size.of(FULL_HD)
        canvas_px = size_px * (size_px * 9 // 16)
        size.record(ns_per_pixel * 1e-9 * canvas_px, canvas_px)
    return size.of(FULL_HD)


def test_a_live_source_gets_the_size_that_its_frame_rate_allows():
    with pytest.warns(UserWarning, match="to keep the frame rate"):
        slow = run_live(80, frames_per_s=30)
    assert 320 < slow < 960
    seconds = 80e-9 * slow * slow * 9 / 16
    assert 0.6 * 0.5 / 30 < seconds <= 1.25 * 0.5 / 30
    assert run_live(1, frames_per_s=30) == 960, "never larger than what the smallest face needs"
    with pytest.warns(UserWarning, match="at 320 px to keep the frame rate"):
        assert run_live(10_000, frames_per_s=30) == 320


def test_a_live_source_starts_small_and_does_not_flicker():
    size = DetectionSize(DetectorOptions(), frames_per_s=30)
    random = np.random.default_rng(0)
    sizes = []
    for _ in range(40 * SETTLE):
        sizes.append(size.of(FULL_HD))
        canvas_px = sizes[-1] ** 2 * 9 // 16
        size.record(30e-9 * canvas_px * random.uniform(0.8, 1.2), canvas_px)
    assert sizes[0] == 320
    assert len(set(sizes[10 * SETTLE:])) == 1


@pytest.fixture(scope="module")
def eight_faces(astronaut):
    """A 1920x1080 frame with eight faces of 40 to 300 px on a plain background."""
    frame = np.full(FULL_HD, 128, np.uint8)
    head, face_px = astronaut[10:220, 140:320], 125  # the face's box is 125 px high
    left = top = height = 20
    for side_px in (300, 220, 160, 120, 90, 70, 52, 40):
        small = cv2.resize(head, None, fx=side_px / face_px, fy=side_px / face_px,
                           interpolation=cv2.INTER_AREA)
        if left + small.shape[1] > 1900:
            left, top = 20, top + height + 20
        frame[top : top + len(small), left : left + small.shape[1]] = small
        height = max(height, len(small))
        left += small.shape[1] + 20
    return frame


def test_eight_faces_of_40_to_300_px_are_all_found_in_full_hd(eight_faces):
    with open_detector() as detector:
        faces = detector.detect(eight_faces)
    sides = np.sort((faces.boxes_xyxy[:, 2:] - faces.boxes_xyxy[:, :2]).max(axis=1))
    assert len(faces) == 8
    assert 30 < sides[0] < 50 and 270 < sides[-1] < 340


def test_a_face_that_fills_a_large_picture_is_found_as_in_a_small_one(astronaut):
    face = astronaut[40:230, 150:310]
    large = cv2.resize(face, None, fx=12, fy=12, interpolation=cv2.INTER_CUBIC)
    with open_detector() as detector:
        (expected,) = detector.detect(face).boxes_xyxy * 12
        (found,) = detector.detect(large).boxes_xyxy
    assert np.abs(found - expected).max() < 0.08 * len(large)
