"""Crops that are turned by the roll of the eyes."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from feredge.calibration.labeled import pictures_of_csv
from feredge.runtime import Faces, open_detector, open_engine
from feredge.runtime.errors import SpecError
from feredge.runtime.pipeline import classify
from feredge.runtime.preprocess import reference
from feredge.runtime.preprocess.opencv import crop_faces
from feredge.runtime.sources.pictures import read_picture
from feredge.runtime.spec import CropSpec, InputSpec

INPUT, ROLL = InputSpec(64), CropSpec(1.1, 0.02, align="roll")
FACE = Faces.from_detections(
    np.array([[180, 60, 272, 190]]),
    np.array([[[200, 110], [245, 110], [222, 140], [205, 160], [240, 160]]], float),
    np.array([0.9]))


def turned(picture, faces, degrees):
    """Return a picture and its face turned clockwise about the center of the box."""
    x0, y0, x1, y1 = faces.boxes_xyxy[0]
    center = float(x0 + x1) / 2, float(y0 + y1) / 2
    matrix = cv2.getRotationMatrix2D((center[0] - 0.5, center[1] - 0.5), -degrees, 1)
    picture = cv2.warpAffine(picture, matrix, picture.shape[1::-1])
    angle = np.radians(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = (faces.landmarks[0] - center) @ rotation.T + center
    return picture, replace(faces, landmarks=landmarks[None].astype(np.float32))


@pytest.mark.parametrize("degrees", [-30, 0, 15, 90])
def test_the_crop_of_a_turned_face_is_that_of_the_upright_one(astronaut, degrees):
    upright = crop_faces(astronaut, FACE.oriented_boxes, INPUT, ROLL)
    picture, faces = turned(astronaut, FACE, degrees)
    assert np.degrees(faces.oriented_boxes[0, 4]) == pytest.approx(degrees, abs=1e-4)
    crop = crop_faces(picture, faces.oriented_boxes, INPUT, ROLL)
    assert np.abs(crop - upright).mean() < 0.02
    if degrees:
        plain = crop_faces(picture, faces.oriented_boxes, INPUT, replace(ROLL, align="none"))
        assert np.abs(plain - upright).mean() > 0.05


@pytest.mark.parametrize("degrees", [-40, 25])
def test_turned_crops_keep_to_the_reference(astronaut, degrees):
    picture, faces = turned(astronaut, FACE, degrees)
    expected = reference.crop_faces(picture, faces.oriented_boxes, INPUT, ROLL)
    got = crop_faces(picture, faces.oriented_boxes, INPUT, ROLL)
    assert np.abs(got - expected).max() <= 1.01 / 255
    assert (np.abs(got - expected) > 1e-6).mean() < 0.01


def test_boxes_without_roll_are_upright(astronaut):
    boxes = FACE.boxes_xyxy
    assert (crop_faces(astronaut, boxes, INPUT, ROLL)
            == crop_faces(astronaut, boxes, INPUT, replace(ROLL, align="none"))).all()


def test_another_alignment_is_refused():
    with pytest.raises(SpecError, match=r"crop\.align is 'yaw', expected none or roll"):
        CropSpec(align="yaw")


@pytest.mark.slow
def test_the_bundled_network_recognizes_more_turned_faces_with_upright_crops(exported, photos):
    data = pictures_of_csv(photos / "labels.csv")
    right = {"roll": 0, "none": 0}
    with open_engine(exported / "manet.int8.onnx") as engine, open_detector() as detector:
        assert engine.spec.crop.align == "roll"
        for file, truth in list(zip(data.files, data.truth(engine.spec.labels)))[::2]:
            picture = read_picture(file)
            height, width = picture.shape[:2]
            matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 30, 1)
            picture = cv2.warpAffine(picture, matrix, (width, height),
                                     borderMode=cv2.BORDER_REPLICATE)
            faces = classify(picture, detector, engine)[:1]
            right["roll"] += bool((faces.label_ids == truth).any())
            plain = engine.classify(picture, faces.boxes_xyxy).argmax(axis=1)
            right["none"] += bool((plain == truth).any())
    assert right["roll"] >= right["none"] + 5
