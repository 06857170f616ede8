import numpy as np
import pytest

from feredge.runtime import Faces


def three():
    boxes, landmarks = np.arange(12).reshape(3, 4), np.zeros((3, 5, 2))
    return Faces.detected(boxes, landmarks, np.array([0.9, 0.8, 0.7]))


def test_empty_faces_have_the_right_shapes():
    faces = Faces.empty()
    assert len(faces) == 0
    assert faces.boxes_xyxy.shape == (0, 4) and faces.landmarks.shape == (0, 5, 2)
    assert faces.probabilities.shape == (0, 0) and faces.track_ids.dtype == np.int64


def test_faces_are_selected_by_mask_slice_and_index():
    faces = three()
    assert np.allclose(faces[faces.scores > 0.75].scores, [0.9, 0.8])
    assert len(faces[:1]) == 1 and len(faces[:None]) == 3
    assert np.allclose(faces[np.array([2, 0])].boxes_xyxy[:, 0], [8, 0])


def test_rows_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="one row a face"):
        Faces(*[np.zeros((2, 4)), np.zeros((1, 5, 2)), np.zeros(1), np.zeros(1), np.zeros((1, 0))])


def test_faces_wholly_outside_a_frame_are_left_out():
    boxes = np.array([
        [-5, 2, 1, 8], [-5, 2, 0, 8], [19, 9, 30, 30], [20, 0, 25, 5], [0, 10, 5, 12]])
    faces = Faces.detected(boxes, np.zeros((5, 5, 2)), np.arange(5))
    assert faces.within((10, 20, 3)).scores.tolist() == [0, 2]
