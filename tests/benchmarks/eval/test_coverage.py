"""Risk-coverage curves: their values on predictions whose curve is known."""

import numpy as np
import pytest

from feredge.benchmarks.eval.coverage import risk_curve, selective_scores

LABELS = ("a", "b")


def predictions(confidences, right):
    """Return probabilities for class a or b with these confidences, and the true classes."""
    probabilities = np.array([[value, 1 - value] for value in confidences])
    return probabilities, np.where(right, 0, 1)


def test_the_risk_is_the_share_of_wrong_labels_among_the_most_confident():
    risks = risk_curve(np.array([True, False, True, False]))
    assert risks == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])


def test_confidence_that_ranks_perfectly_reaches_full_accuracy_at_lower_coverage():
    probabilities, truth = predictions(np.linspace(0.99, 0.6, 10), np.arange(10) < 7)
    selective = selective_scores(probabilities, truth, LABELS)
    at_90, at_80, at_70 = selective.points
    assert at_90.accuracy.value == pytest.approx(7 / 9)
    assert at_80.accuracy.value == pytest.approx(7 / 8)
    assert at_70.accuracy.value == 1 and at_70.min_confidence == pytest.approx(0.73)
    assert selective.area.value == pytest.approx((1 / 8 + 2 / 9 + 3 / 10) / 10)
    assert selective.curve[0] == (0.1, 0) and selective.curve[-1] == pytest.approx((1, 0.3))


def test_confidence_that_says_nothing_leaves_the_risk_as_it_is():
    rng = np.random.default_rng(0)
    probabilities, truth = predictions(rng.uniform(0.6, 0.99, 4000), rng.random(4000) < 0.75)
    selective = selective_scores(probabilities, truth, LABELS)
    assert selective.area.value == pytest.approx(0.25, abs=0.03)
    for point in selective.points:
        assert point.accuracy.low < 0.75 < point.accuracy.high


def test_classes_and_groups_that_lose_their_labels_first_are_seen():
    probabilities, truth = predictions(np.linspace(0.99, 0.6, 10), np.arange(10) < 8)
    groups = np.array(["young"] * 5 + ["old"] * 5)
    point = selective_scores(probabilities, truth, LABELS, groups).points[-1]
    assert (point.groups["young"].faces, point.groups["young"].labeled) == (5, 5)
    assert (point.groups["old"].labeled, point.groups["old"].right) == (2, 2)
    assert (point.classes["b"].faces, point.classes["b"].labeled) == (2, 0)
    assert sum(part.right for part in point.classes.values()) == 7


def test_a_given_confidence_orders_the_faces_instead_of_the_probability():
    probabilities, truth = predictions(np.linspace(0.99, 0.6, 10), np.arange(10) >= 3)
    confidence = np.linspace(0.1, 0.8, 10)
    selective = selective_scores(probabilities, truth, LABELS, confidence=confidence)
    assert selective.points[-1].accuracy.value == 1
    assert selective.points[-1].min_confidence == pytest.approx(confidence[3])
    assert selective_scores(probabilities, truth, LABELS).points[-1].accuracy.value < 1


def test_one_face_is_enough():
    selective = selective_scores(*predictions([0.9], np.array([True])), LABELS)
    assert selective.area.value == 0 and selective.points[-1].accuracy.value == 1
