from dataclasses import replace

import cv2
import numpy as np
import pytest

from feredge.runtime import Faces
from feredge.runtime.outputs.annotator import Annotator, blur_faces
from feredge.runtime.outputs.layers import MOSAIC, BarsLayer, LabelLayer
from feredge.runtime.outputs.layout import (
    Layout,
    least_line_px,
    line_px,
    overlap,
    text_scale,
)
from feredge.runtime.palette import LABEL_COLORS_BGR

LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")


def one_face(box, best=1):
    probabilities = np.full((1, 8), 0.02, np.float32)
    probabilities[0, best] = 0.86
    faces = Faces.from_detections(np.array([box]), np.zeros((1, 5, 2)), np.array([0.9]))
    return faces.with_probabilities(probabilities)


def faces_at(boxes, best=1):
    probabilities = np.full((len(boxes), 8), 0.02, np.float32)
    probabilities[:, best] = 0.86
    faces = Faces.from_detections(np.array(boxes), np.zeros((len(boxes), 5, 2)),
                                  np.ones(len(boxes)))
    return faces.with_probabilities(probabilities)


@pytest.mark.parametrize("shape", [(240, 320), (1080, 1920), (2160, 3840)])
def test_text_and_bars_grow_with_the_frame(shape):
    frame = np.full((*shape, 3), 60, np.uint8)
    height, width = shape
    box = [width * 0.3, height * 0.3, width * 0.45, height * 0.75]
    drawn = Annotator(LABELS, bars="on").draw(frame, one_face(box))
    assert (frame == 60).all(), "the frame itself must stay as it is"
    least = least_line_px(frame.shape)
    line = line_px(frame.shape, tuple(round(edge) for edge in box))
    assert line >= least >= 15 and least >= width / 81
    color = np.array(LABEL_COLORS_BGR[1])
    colored = (drawn == color).all(axis=2)
    bar = colored[round(box[1]) + line // 4 :, round(box[2]) + line // 4 :]
    rows = np.flatnonzero(bar.any(axis=1))
    assert 0.4 * least <= len(rows) <= line, "the best class's bar is one line high"
    assert bar.any(axis=0).sum() >= 0.86 * 3.75 * least
    caption = colored[round(box[1]) - line : round(box[1]) - 2, round(box[0]) : round(box[2])]
    assert caption.mean() > 0.2


def test_text_is_at_least_10_px_high_also_where_a_4k_picture_is_shown_1200_px_wide():
    for shape in ((240, 320), (1080, 1920), (2160, 3840)):
        line = least_line_px(shape)
        (_, capitals), _ = cv2.getTextSize("H", cv2.FONT_HERSHEY_SIMPLEX, text_scale(line), 1)
        assert capitals * min(1200 / shape[1], 1) >= 10 - 1


def grid(columns, rows, shape, share=0.55):
    height, width = shape
    side = share * width / columns
    return [[(c + 0.2) * width / columns, (r + 0.25) * height / rows,
             (c + 0.2) * width / columns + side,
             min((r + 0.25) * height / rows + 1.25 * side, height)]
            for r in range(rows) for c in range(columns)]


SCENES = {1: (1, 1, 0.3), 3: (3, 1, 0.4), 12: (4, 3, 0.55), 40: (8, 5, 0.55)}


@pytest.mark.parametrize("shape", [(240, 320), (1080, 1920), (2160, 3840)])
@pytest.mark.parametrize("count", SCENES)
def test_no_label_or_panel_covers_another_face_or_panel(shape, count):
    columns, rows, share = SCENES[count]
    faces = faces_at(grid(columns, rows, shape, share))
    faces.track_ids[:] = np.arange(1, count + 1)
    canvas = np.zeros((*shape, 3), np.uint8)
    layout = Layout.of(canvas, faces.boxes_xyxy)
    LabelLayer(LABELS).draw(canvas, faces, layout)
    labels = len(layout.panels)
    assert labels == count, "every face has a label"
    BarsLayer(LABELS).draw(canvas, faces, layout)
    assert len(layout.panels) > labels or (count, shape) != (1, (1080, 1920)), "room for bars"
    for k, place in enumerate(layout.panels):
        assert 0 <= place[0] < place[2] <= shape[1] and 0 <= place[1] < place[3] <= shape[0]
        assert not any(overlap(place, other) for other in layout.panels[k + 1 :])
        covered = sum(overlap(place, box) for box in layout.boxes)
        assert covered <= (1 if k < labels else 0), "bars cover no face, a label at most its own"


def test_bars_are_drawn_only_where_they_are_wanted_and_fit():
    frame = np.zeros((240, 320, 3), np.uint8)
    wide, small = one_face((5, 30, 310, 230)), one_face((5, 60, 55, 120))
    panels = {}
    for bars in ("auto", "on", "off"):
        for name, faces in (("wide", wide), ("small", small)):
            layout = Layout.of(frame, faces.boxes_xyxy)
            BarsLayer(LABELS, bars).draw(frame.copy(), faces, layout)
            panels[bars, name] = len(layout.panels)
    assert panels == {("auto", "wide"): 0, ("auto", "small"): 1, ("on", "wide"): 1,
                      ("on", "small"): 1, ("off", "wide"): 0, ("off", "small"): 0}


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
    plain, kept = (Annotator(LABELS, bars="off").draw(frame, faces) for faces in (face, steady))
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
