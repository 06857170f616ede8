"""Quality of faces, the confidence of their labels, and faces that are unsure."""

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from feredge.runtime import Annotator, Faces, open_detector
from feredge.runtime.fer_run import main
from feredge.runtime.quality import mark_unsure, measure_quality, predict_confidence
from feredge.runtime.spec import ConfidenceSpec
from feredge.runtime.track.smoothing import Smoother


@pytest.fixture
def portrait_face(astronaut, detector_path):
    with open_detector(detector_path) as detector:
        faces = detector.detect(astronaut)
    rows = np.array([[0.2, 0.7, 0.1]] * len(faces), np.float32)
    return faces.with_probabilities(rows, ("sadness", "happiness", "anger"))


def test_quality_is_that_of_the_face(astronaut, portrait_face):
    quality = measure_quality(astronaut, portrait_face)
    assert quality.scores[0] > 0.8 and 80 < quality.sizes_px[0] < 200
    assert abs(quality.roll_deg[0]) < 15 and abs(quality.yaw[0]) < 0.3
    blurred = measure_quality(cv2.GaussianBlur(astronaut, (0, 0), 4), portrait_face)
    assert blurred.sharpness[0] < 0.5 * quality.sharpness[0]
    darker = measure_quality((astronaut * 0.6).astype(np.uint8), portrait_face)
    assert darker.sharpness[0] == pytest.approx(quality.sharpness[0], rel=0.15)
    assert len(measure_quality(astronaut, portrait_face[:0]).sharpness) == 0


def test_a_turned_face_has_its_roll(astronaut, portrait_face):
    turned = replace(portrait_face, landmarks=cv2.transform(
        portrait_face.landmarks, cv2.getRotationMatrix2D((256, 256), -30, 1)).astype(np.float32))
    before = measure_quality(astronaut, portrait_face)
    after = measure_quality(astronaut, turned)
    assert after.roll_deg[0] - before.roll_deg[0] == pytest.approx(30, abs=0.1)
    assert after.yaw[0] == pytest.approx(before.yaw[0], abs=1e-3)


def test_the_confidence_is_the_models_or_the_probability(astronaut, portrait_face):
    assert predict_confidence(astronaut, portrait_face, None) == pytest.approx([0.7])
    model = ConfidenceSpec({"log_odds": 2.0, "score": 0.0}, -1.0)
    expected = 1 / (1 + np.exp(1 - 2 * np.log(0.7 / 0.3)))
    found = predict_confidence(astronaut, portrait_face, model)
    assert found == pytest.approx([expected], abs=1e-4)
    assert predict_confidence(astronaut, portrait_face[:0], model).shape == (0,)
    sharp = ConfidenceSpec({"log_sharpness": 1.0}, 0.0)
    blurred = cv2.GaussianBlur(astronaut, (0, 0), 4)
    assert (predict_confidence(blurred, portrait_face, sharp)
            < predict_confidence(astronaut, portrait_face, sharp))


def test_a_face_below_the_minimum_has_no_label_but_its_probabilities(astronaut, portrait_face):
    unsure = mark_unsure(astronaut, portrait_face, None, 0.71)
    assert unsure.label is None and unsure.probability("happiness") == pytest.approx(0.7)
    assert mark_unsure(astronaut, portrait_face, None, 0.7 - 1e-6).label == "happiness"


def test_unsure_predictions_have_no_vote_in_the_smoothing():
    def faces(first, label):
        face = Faces.from_detections(np.zeros((1, 4)), np.zeros((1, 5, 2)), np.ones(1))
        face = face.with_probabilities(np.array([[first, 1 - first]], np.float32))
        return replace(face, track_ids=np.array([1]), label_ids=np.array([label]))

    smoother = Smoother()
    for k in range(5):
        smoother.update(faces(0.9, 0), k / 25)
    before = smoother.tracks[1].probabilities
    for k in range(5, 15):
        assert smoother.update(faces(0.1, -1), k / 25).label_ids.tolist() == [-1]
    np.testing.assert_array_equal(smoother.tracks[1].probabilities, before)
    assert smoother.update(faces(0.9, 0), 15 / 25).label_ids.tolist() == [0]


def test_fer_run_marks_unsure_faces_in_every_output(
    exported, detector_path, astronaut, write_clip, tmp_path, capfd
):
    clip = write_clip([cv2.resize(astronaut, (320, 320))] * 12)
    outputs = {name: tmp_path / name for name in ("o.mp4", "o.jsonl", "o.csv", "o.json")}
    for minimum, label in (("1", None), ("0.05", "happiness")):
        assert main(["--engine", str(exported / "manet.int8.onnx"), "--detector",
                     str(detector_path), "--source", str(clip), "--min-confidence", minimum,
                     "--json", "--output", str(outputs["o.mp4"]),
                     "--jsonl", str(outputs["o.jsonl"]), "--csv", str(outputs["o.csv"]),
                     "--summary", str(outputs["o.json"])]) == 0
        total = json.loads(capfd.readouterr().out)
        assert total["unsure"] == (total["faces"] if label is None else 0)
        faces = [face for line in outputs["o.jsonl"].read_text().splitlines()
                 for face in json.loads(line)["faces"]]
        assert len(faces) >= 10 and all(face["label"] == label for face in faces)
        assert all(0 <= face["confidence"] <= 1 for face in faces)
        assert all(sum(face["probabilities"].values()) > 0.99 for face in faces)
        rows = list(csv.DictReader(outputs["o.csv"].open()))
        assert {row["label"] for row in rows} == {label or ""}
        (track,) = json.loads(outputs["o.json"].read_text())["tracks"]
        assert track["label"] == label and (track.get("unsure_share") == 1) == (label is None)


def test_an_unsure_face_is_drawn_in_gray(astronaut, portrait_face):
    annotator = Annotator(("sadness", "happiness", "anger"))
    drawn = annotator.draw(astronaut, mark_unsure(astronaut, portrait_face, None, 1.0))
    changed = drawn[(drawn != astronaut).any(axis=2)].reshape(-1, 3).astype(int)
    assert (np.abs(changed - [150, 150, 150]).max(axis=1) < 3).mean() > 0.1
