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
              *[np.zeros(1)] * 3)


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


def classified():
    rows = np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]], np.float32)
    return three().with_probabilities(rows, ("sadness", "happiness"))


def test_an_index_and_iteration_give_single_faces_with_label_and_probability():
    faces = classified()
    assert [face.label for face in faces] == ["happiness", "sadness", "sadness"]
    assert len(faces[0]) == len(faces[-1]) == len(faces[np.int64(1)]) == 1
    assert faces[-1].scores[0] == np.float32(0.7)
    assert faces[0].probability() == pytest.approx(0.9)
    assert faces[0].probability("sadness") == pytest.approx(0.1)
    assert three()[0].label is None
    with pytest.raises(IndexError, match="face 3 of 3"):
        faces[3]
    with pytest.raises(ValueError, match="single face, got 3"):
        faces.label  # noqa: B018
    with pytest.raises(ValueError, match="no class 'joy'; the classes are sadness, happiness"):
        faces[0].probability("joy")


def test_a_crop_is_the_part_of_the_box_inside_the_frame():
    frame = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    boxes = np.array([[-3, 2, 4, 20], [8, 8, 30, 30], [12, 2, 14, 4]])
    faces = Faces.from_detections(boxes, np.zeros((3, 5, 2)), np.ones(3))
    np.testing.assert_array_equal(faces[0].crop(frame), frame[2:10, 0:4])
    assert faces[1].crop(frame).shape == (2, 2, 3)
    with pytest.raises(ValueError, match="no pixel in a frame of 10x10"):
        faces[2].crop(frame)


def test_faces_become_a_table_and_detections():
    pytest.importorskip("pandas")
    table = classified().to_pandas()
    assert list(table.columns) == ["track_id", "x0", "y0", "x1", "y1", "score", "label", "sadness",
                                   "happiness"]
    assert table.label.tolist() == ["happiness", "sadness", "sadness"] and table.x1[1] == 6
    assert len(Faces.empty().to_pandas()) == 0
    pytest.importorskip("supervision")
    found = classified().to_supervision()
    assert len(found) == 3 and found.xyxy.shape == (3, 4)
    assert found.data["class_name"].tolist() == ["happiness", "sadness", "sadness"]
    assert found.data["probability"] == pytest.approx([0.9, 0.8, 0.5])
    assert len(Faces.empty().to_supervision()) == 0
