"""Reuse of predictions: which faces are classified again."""

import numpy as np
import pytest

from feredge.runtime import open_engine
from feredge.runtime.track.reuse import PredictionReuse, thumbnail

BOX = np.array([[180, 60, 300, 200]], np.float32)  # of the portrait's face


@pytest.fixture
def engine(exported):
    with open_engine(exported / "manet.int8.onnx") as opened:
        yield opened


@pytest.fixture
def classify(engine):
    """Classify faces with reuse, as the pipeline does."""

    def call(reuse, frame_bgr, boxes_xyxy):
        rows = reuse.select(frame_bgr, boxes_xyxy)
        return reuse.complete(engine.classify(frame_bgr, boxes_xyxy[rows]))

    return call


def test_the_same_face_is_classified_once_and_a_changed_one_again(classify, engine, astronaut):
    reuse = PredictionReuse(4.0)
    first = classify(reuse, astronaut, BOX)
    np.testing.assert_array_equal(classify(reuse, astronaut, BOX), first)
    assert (reuse.total, reuse.reused) == (2, 1)
    changed = astronaut.copy()
    changed[130:200, 180:300] = 0
    again = classify(reuse, changed, BOX)
    assert reuse.reused == 1
    np.testing.assert_allclose(again, engine.classify(changed, BOX), atol=1e-6)


def test_a_face_that_moves_with_its_box_is_reused(classify, astronaut):
    reuse = PredictionReuse(4.0)
    for k in range(10):
        moved = np.roll(astronaut, 3 * k, axis=1)
        classify(reuse, moved, BOX + np.array([3 * k, 0, 3 * k, 0], np.float32))
    assert (reuse.total, reuse.reused) == (10, 9)


def test_a_slow_change_adds_up(classify, astronaut):
    reuse = PredictionReuse(4.0)
    for k in range(20):
        classify(reuse, (astronaut * (1 - 0.02 * k)).astype(np.uint8), BOX)
    assert 2 <= reuse.total - reuse.reused < 19


def test_another_face_elsewhere_is_new_and_faces_that_left_are_forgotten(
    classify, engine, astronaut
):
    both = np.hstack([astronaut, astronaut])
    boxes = np.concatenate([BOX, BOX + np.array([512, 0, 512, 0], np.float32)])
    reuse = PredictionReuse(4.0)
    classify(reuse, both, boxes[:1])
    predictions = classify(reuse, both, boxes[::-1])
    assert reuse.reused == 1
    np.testing.assert_allclose(predictions, engine.classify(both, boxes[::-1]), atol=1e-5)
    assert classify(reuse, both, boxes[:0]).shape == (0, 8)
    classify(reuse, both, boxes)
    assert reuse.reused == 1


@pytest.mark.parametrize("box", [(-20, -20, 10, 10), (500, 500, 600, 600), (5, 5, 5.2, 5.2)],
                         ids=["over the top left", "over the bottom right", "less than a pixel"])
def test_boxes_at_the_edge_have_a_thumbnail(astronaut, box):
    small = thumbnail(astronaut, np.array(box, np.float32))
    assert small.shape == (16, 16) and np.isfinite(small).all()
