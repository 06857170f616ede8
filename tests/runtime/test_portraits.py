"""The bundled networks on copies of one public-domain portrait, which every checkout has."""

import cv2
import numpy as np
import pytest

from feredge.runtime import RunOptions, open_detector, open_engine, run
from feredge.runtime.output_options import OutputOptions

SIDES_PX = (512, 384, 256, 192)  # of a copy; its face is a fifth of that wide


@pytest.fixture(scope="module")
def collage(astronaut):
    """Four copies of the portrait of different sizes in a row, and the middle of each face."""
    picture, middles, x = np.full((512, sum(SIDES_PX), 3), 90, np.uint8), [], 0
    for side in SIDES_PX:
        picture[:side, x : x + side] = cv2.resize(astronaut, (side, side),
                                                  interpolation=cv2.INTER_AREA)
        middles.append((x + 225 / 512 * side, 125 / 512 * side))
        x += side
    return picture, np.array(middles)


def test_every_face_of_a_collage_is_found_once_and_in_place(collage):
    picture, middles = collage
    with open_detector() as detector:
        boxes = detector.detect(picture).boxes_xyxy
    boxes = boxes[np.argsort(boxes[:, 0])]
    assert len(boxes) == len(middles)
    assert ((boxes[:, :2] < middles) & (middles < boxes[:, 2:4])).all()


def test_each_face_of_a_collage_has_the_label_of_the_portrait(collage):
    with open_detector() as detector, open_engine() as engine:
        faces = detector.detect(collage[0])
        probabilities = engine.classify(collage[0], faces.boxes_xyxy)
        labels = [engine.spec.labels[row.argmax()] for row in probabilities]
    assert labels == ["happiness"] * len(SIDES_PX)


def test_a_face_has_the_same_prediction_alone_and_in_a_batch(collage):
    with open_detector() as detector, open_engine() as engine:
        boxes = detector.detect(collage[0]).boxes_xyxy
        together = engine.classify(collage[0], boxes)
        alone = np.concatenate([engine.classify(collage[0], box[None]) for box in boxes])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_face_that_moves_is_one_track(astronaut, write_clip, tmp_path):
    frames = [np.roll(cv2.resize(astronaut, (320, 320)), 3 * k, axis=1) for k in range(25)]
    lines = tmp_path / "faces.csv"
    run(RunOptions(sources=[str(write_clip(frames))],
                   outputs=OutputOptions(csv=str(lines))))
    rows = [line.split(",") for line in lines.read_text().splitlines()]
    track, label = rows[0].index("track"), rows[0].index("label")
    assert len(rows) == 26
    assert {row[track] for row in rows[6:]} == {rows[6][track]} != {""}  # new tracks wait for proof
    assert {row[label] for row in rows[1:]} == {"happiness"}
