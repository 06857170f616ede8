"""The labeled report: accuracy, classes, flips and confidence, before and after."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from feredge.calibration.quality.accuracy import (
    UNKNOWN,
    accuracy,
    cost,
    measure_quality,
    quality_text,
)
from feredge.runtime.errors import CalibrationError

LABELS = ("neutral", "happiness", "disgust")


class Session:
    """Answers what it was given, batch by batch."""

    def __init__(self, *answers):
        self.answers = iter(answers)

    def run(self, outputs, feed):
        return [next(self.answers)]


def sure_of(*classes, confidence=0.8):
    rows = np.full((len(classes), 3), (1 - confidence) / 2, np.float32)
    rows[np.arange(len(classes)), classes] = confidence
    return rows


def faces(*classes):
    return np.zeros((len(classes), 3, 2, 2), np.float32), np.array(classes)


def test_accuracy_recall_and_confusion_are_of_the_labelled_faces():
    found = accuracy(sure_of(0, 1, 1, 0), np.array([0, 0, 1, UNKNOWN]), LABELS)
    assert found.faces == 3 and found.accuracy == pytest.approx(2 / 3)
    assert found.recall == {"neutral": 0.5, "happiness": 1.0, "disgust": None}
    assert found.confusion == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert found.calibration_error == pytest.approx(0.8 - 2 / 3)


def test_the_cost_counts_flips_both_ways_and_agreement_over_all_faces():
    truth = np.array([0, 0, 1, 2, 2, UNKNOWN])
    found = cost(sure_of(0, 1, 1, 2, 0, 0), sure_of(0, 0, 1, 0, 1, 1), truth, LABELS)
    assert (found.right_to_wrong, found.wrong_to_right) == (1, 1)
    assert found.flip_rate == pytest.approx(3 / 5), "a face wrong both times may flip, too"
    assert found.accuracy_drop == 0
    assert found.recall_drop == {"neutral": -50, "happiness": 0, "disgust": 50}
    assert found.agreement.faces == 6 and found.agreement.top1 == pytest.approx(2 / 6)


def test_the_report_reads_the_faces_once_and_is_plain_json():
    batches = iter([faces(0, 0), faces(1)])
    found = measure_quality(Session(sure_of(0, 0), sure_of(1)),
                             {"int8": Session(sure_of(0, 1), sure_of(1))}, batches, LABELS)
    document = json.loads(json.dumps(asdict(found), allow_nan=False))
    assert document["fp32"]["accuracy"] == 1 and document["fp32"]["recall"]["disgust"] is None
    assert document["graphs"]["int8"]["accuracy"] == pytest.approx(2 / 3)
    assert document["costs"]["int8"]["recall_drop"] == {
        "neutral": 50, "happiness": 0, "disgust": None}
    assert document["costs"]["int8"]["agreement"]["kl"] > 0
    lines = quality_text(found).splitlines()
    assert "3 labeled faces" in lines[0] and "100.00%" in lines[1] and "66.67%" in lines[2]
    assert not any(line.startswith("disgust") for line in lines), "it has no face"


def test_one_face_is_enough_for_a_report():
    found = measure_quality(Session(sure_of(2)), {"int8": Session(sure_of(2))}, [faces(2)], LABELS)
    assert found.graphs["int8"].accuracy == 1 and found.costs["int8"].flip_rate == 0


def test_faces_without_any_label_are_refused_with_what_to_do():
    with pytest.raises(CalibrationError, match=r"none of the 2 faces.*folder a class.*neutral"):
        accuracy(sure_of(0, 1), np.array([UNKNOWN, UNKNOWN]), LABELS)


def test_answers_that_are_not_numbers_are_refused():
    broken = sure_of(0, 1)
    broken[1, 0] = np.nan
    with pytest.raises(CalibrationError, match=r"int8 predictions .* not finite on 1 of 2 faces"):
        measure_quality(Session(sure_of(0, 1)), {"int8": Session(broken)}, [faces(0, 1)], LABELS)
