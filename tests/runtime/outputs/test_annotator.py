from dataclasses import replace

import numpy as np
import pytest

from feredge.runtime import Faces
from feredge.runtime.outputs.annotator import MOSAIC, Annotator, blur_faces, line_px
from feredge.runtime.palette import LABEL_COLORS_BGR

LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")


def one_face(box, best=1):
    probabilities = np.full((1, 8), 0.02, np.float32)
    probabilities[0, best] = 0.86
    faces = Faces.from_detections(np.array([box]), np.zeros((1, 5, 2)), np.array([0.9]))
    return faces.with_probabilities(probabilities)


@pytest.mark.parametrize("shape", [(240, 320), (1080, 1920), (2160, 3840)])
def test_text_and_bars_grow_with_the_frame(shape):
    frame = np.full((*shape, 3), 60, np.uint8)
    height, width = shape
    box = [width * 0.3, height * 0.3, width * 0.5, height * 0.7]
    drawn = Annotator(LABELS).draw(frame, one_face(box))
    assert (frame == 60).all(), "the frame itself must stay as it is"
    line = line_px(frame)
    assert line >= 12 and line >= height / 28
    colour = np.array(LABEL_COLORS_BGR[1])
    coloured = (drawn == colour).all(axis=2)
    bar = coloured[round(box[1]) + line // 4 :, round(width * 0.5) + line // 4 :]
    rows = np.flatnonzero(bar.any(axis=1))
    assert 0.4 * line <= len(rows) <= line, "the best class's bar is one line high"
    assert bar.any(axis=0).sum() == pytest.approx(0.86 * 4.75 * line, rel=0.1)
    caption = coloured[round(box[1]) - line : round(box[1]) - 2, round(box[0]) : round(box[2])]
    assert caption.mean() > 0.2


@pytest.mark.parametrize(
    "box",
    [(-50, -50, 30, 30), (300, 220, 400, 300), (0, 0, 320, 240), (100, 100, 100.4, 100.4)],
    ids=["over the top left", "over the bottom right", "the whole frame", "less than a pixel"],
)
def test_faces_at_the_edge_are_drawn_inside_the_frame(box):
    frame = np.zeros((240, 320, 3), np.uint8)
    drawn = Annotator(LABELS).draw(frame, one_face(box))
    assert drawn.shape == frame.shape and drawn.any()


def test_a_frame_of_one_pixel_and_no_faces():
    annotator = Annotator(LABELS)
    assert annotator.draw(np.zeros((1, 1, 3), np.uint8), one_face((0, 0, 1, 1))).shape == (1, 1, 3)
    frame = np.full((5, 5, 3), 9, np.uint8)
    assert (annotator.draw(frame, Faces.empty()) == frame).all()


def test_the_label_that_is_shown_is_drawn_with_its_track_not_the_most_probable_one():
    frame, face = np.zeros((240, 320, 3), np.uint8), one_face((50, 80, 150, 200))
    steady = replace(face, label_ids=np.array([4]), track_ids=np.array([12]))
    plain, kept = (Annotator(LABELS, bars=False).draw(frame, faces) for faces in (face, steady))
    assert (kept == np.array(LABEL_COLORS_BGR[4])).all(axis=2).sum() > 200
    assert not (kept == np.array(LABEL_COLORS_BGR[1])).all(axis=2).any()
    assert (plain == np.array(LABEL_COLORS_BGR[1])).all(axis=2).sum() > 200


@pytest.mark.parametrize(
    "box",
    [(60, 50, 160, 200), (-50, -50, 30, 30), (300, 220, 400, 300), (0, 0, 320, 240),
     (100, 100, 101, 101), (400, 10, 500, 90), (-90, 10, -40, 90)],
    ids=["inside", "over the top left", "over the bottom right", "the whole frame", "one pixel",
         "right of the frame", "left of the frame"],
)
def test_a_blurred_box_is_a_few_flat_cells_and_the_rest_stays(box):
    frame = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    before = frame.copy()
    hidden = blur_faces(frame, np.array([box], np.float32))
    assert (frame == before).all(), "the frame itself must stay as it is"
    x0, y0, x1, y1 = (max(edge, 0) for edge in box)
    inside = hidden[y0:y1, x0:x1].reshape(-1, 3)
    if len(inside):
        assert len(np.unique(inside, axis=0)) <= MOSAIC**2
    across, down = (x1 - x0) // 3 + 30, (y1 - y0) // 3 + 30
    changed = np.argwhere((hidden != frame).any(axis=2))
    if len(changed):
        assert (changed.min(axis=0) >= (y0 - down, x0 - across)).all()
        assert (changed.max(axis=0) <= (y1 + down, x1 + across)).all()
