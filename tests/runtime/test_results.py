import numpy as np
import pytest

from feredge.runtime import Faces


def three():
    boxes, landmarks = np.arange(12).reshape(3, 4), np.zeros((3, 5, 2))
    return Faces.from_detections(boxes, landmarks, np.array([0.9, 0.8, 0.7]))


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
    with pytest.raises(ValueError, match="every array needs one row per face"):
        Faces(np.zeros((2, 4)), np.zeros((1, 5, 2)), *[np.zeros(1)] * 2, np.zeros((1, 0)),
              np.zeros(1))


def test_faces_wholly_outside_a_frame_are_left_out():
    boxes = np.array([
        [-5, 2, 1, 8], [-5, 2, 0, 8], [19, 9, 30, 30], [20, 0, 25, 5], [0, 10, 5, 12]])
    faces = Faces.from_detections(boxes, np.zeros((5, 5, 2)), np.arange(5))
    assert faces.within((10, 20, 3)).scores.tolist() == [0, 2]


def test_the_best_class_is_shown_and_no_faces_have_none():
    faces = three().with_probabilities(np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]], np.float32))
    assert faces.label_ids.tolist() == [1, 0, 0]
    assert Faces.empty().with_probabilities(np.zeros((0, 8), np.float32)).label_ids.shape == (0,)


def test_faces_of_several_are_joined_in_order():
    joined = Faces.concatenate([three()[2:], three()[:1]])
    assert np.allclose(joined.scores, [0.7, 0.9]) and joined.track_ids.dtype == np.int64
    assert len(Faces.concatenate([])) == 0
