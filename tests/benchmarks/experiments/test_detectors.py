import numpy as np
import pytest

from feredge.benchmarks.experiments.detectors import Group, box_agreement, match, score_groups
from feredge.benchmarks.experiments.tiles import halves, is_uncut, measure_tiles
from feredge.runtime.detect.weights import BUNDLED

TRUTH = np.array([[0, 0, 40, 40], [100, 0, 110, 20], [200, 0, 230, 30]], float)


def group(sure):
    return Group(np.zeros((320, 320, 3), np.uint8), TRUTH, np.array(sure))


def test_boxes_are_paired_one_to_one_by_overlap():
    found = np.array([[0, 0, 40, 36], [0, 0, 40, 40], [300, 0, 310, 10]], float)
    overlap, used = match(TRUTH, found)
    assert overlap.tolist() == [1, 0, 0] and used.tolist() == [False, True, False]


def test_recall_is_by_the_size_on_the_canvas_and_doubtful_faces_do_not_count():
    found = np.array([[0, 0, 40, 40], [200, 0, 230, 30], [300, 0, 310, 10]], float)
    score = score_groups([group([True, True, False])], [found], 320)
    assert score["faces"] == {"20 px and more": 2, "12 to 20 px": 0, "under 12 px": 0}
    assert score["recall"]["20 px and more"] == 0.5 and score["recall"]["12 to 20 px"] is None
    assert score["false_boxes_per_picture"] == 1 and score["mean_iou"] == 1
    smaller = score_groups([group([True, True, False])], [found], 160)
    assert smaller["faces"] == {"20 px and more": 1, "12 to 20 px": 0, "under 12 px": 1}


def test_agreement_is_the_share_of_the_references_boxes():
    found = [TRUTH[:2] + np.array([0, 0, 0, 2])]
    agreed = box_agreement([TRUTH], found)
    assert agreed["share"] == pytest.approx(2 / 3)
    assert agreed["mean_iou"] == pytest.approx((40 / 42 + 20 / 22) / 2)


def test_a_picture_without_a_found_face_is_scored():
    score = score_groups([group([True] * 3)], [np.zeros((0, 4))], 320)
    assert score["recall"]["20 px and more"] == 0 and score["false_boxes_per_picture"] == 0


def test_a_box_that_a_tile_cuts_is_left_to_its_neighbor():
    boxes = np.array([[0, 0, 20, 20], [40, 0, 57, 20], [40, 0, 50, 20]], float)
    rows, columns = halves(100)
    assert (rows, columns) == (slice(0, 57), slice(43, 100))
    assert is_uncut(boxes, (rows, rows), (100, 100)).tolist() == [True, False, True]
    assert is_uncut(boxes, (rows, columns), (100, 100)).tolist() == [False, False, False]


def test_tiles_find_the_same_face_once(astronaut):
    found = measure_tiles([astronaut], BUNDLED)
    assert len(found["whole"].boxes[0]) == len(found["tiles"].boxes[0]) == 1
