"""Comparing predictions: divergence, and predictions that cannot be compared."""

import subprocess
import sys

import numpy as np
import pytest

from feredge.calibration.quality.agreement import agreement, agreements, predictions
from feredge.runtime.errors import CalibrationError


class Session:
    """Answers each face with the probabilities that stand in its first pixels."""

    def __init__(self, change=0.0):
        self.change = change

    def run(self, outputs, feed):
        first = feed["faces"][:, 0, 0, :1]
        return [np.concatenate([first + self.change, 1 - first - self.change], axis=1)]


def crops(*probabilities):
    faces = np.zeros((len(probabilities), 3, 2, 2), np.float32)
    faces[:, 0, 0, 0] = probabilities
    return faces


def test_agreement_is_of_labels_probabilities_and_divergence():
    expected = np.array([[0.6, 0.4], [0.9, 0.1]], np.float32)
    got = np.array([[0.4, 0.6], [0.9, 0.1]], np.float32)
    found = agreement(expected, got)
    assert (found.faces, found.top1) == (2, 0.5)
    assert found.mean_change == pytest.approx(0.1) and found.largest_change == pytest.approx(0.2)
    assert found.kl == pytest.approx((0.6 * np.log(0.6 / 0.4) + 0.4 * np.log(0.4 / 0.6)) / 2)


def test_a_probability_of_zero_has_a_finite_divergence():
    found = agreement(np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 1.0]], np.float32))
    assert np.isfinite(found.kl) and found.kl > 20


def test_all_graphs_see_the_faces_in_one_pass():
    passes = iter([crops(0.7, 0.2), crops(0.45)])
    found = agreements(Session(), {"same": Session(), "higher": Session(0.1)}, passes)
    assert (found["same"].top1, found["same"].kl) == (1, 0)
    assert found["higher"].faces == 3 and found["higher"].top1 == pytest.approx(2 / 3)


def test_no_face_at_all_is_refused():
    with pytest.raises(CalibrationError, match="no face"):
        agreements(Session(), {"int8": Session()}, [])


def test_probabilities_that_are_not_numbers_are_refused():
    with pytest.raises(CalibrationError, match=r"int8 predictions .* not finite on 1 of 3 faces"):
        predictions({"int8": Session()}, [crops(0.5, np.nan, 0.1)])


def test_comparing_answers_needs_no_onnx():
    code = ("import sys; import feredge.calibration.quality.agreement; "
            "print({'onnx', 'onnx_ir', 'onnxruntime'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
