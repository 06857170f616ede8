import warnings

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import balanced_accuracy_score

from feredge.benchmarks.eval.scores import compare, mean_interval, score, score_groups
from feredge.calibration.class_folders import canonical_name
from feredge.calibration.labeled import pictures_of_csv


def test_the_interval_is_that_of_a_proportion():
    right = np.arange(1000) < 820
    interval = mean_interval(right)
    low, high = beta.ppf([0.025, 0.975], 820, 180)
    assert interval.value == 0.82
    assert interval.low == pytest.approx(low, abs=0.005)
    assert interval.high == pytest.approx(high, abs=0.005)
    assert interval == mean_interval(right)


def test_a_class_never_said_has_no_precision_and_none_without_faces_a_recall():
    probabilities = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]], np.float32)
    scores = score(probabilities, np.array([0, 1]), ("a", "b", "c"))
    assert scores.right == 1 and scores.balanced_accuracy.value == 0.5
    assert scores.classes["b"].precision is None and scores.classes["b"].recall == 0
    assert scores.classes["c"].recall is None and scores.classes["c"].support == 0
    assert scores.confusion == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_balanced_accuracy_is_scikit_learns():
    rng = np.random.default_rng(0)
    probabilities, truth = rng.uniform(size=(200, 4)), rng.integers(0, 3, 200)
    scores = score(probabilities, truth, ("a", "b", "c", "never there"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class that is said but never there
        expected = balanced_accuracy_score(truth, probabilities.argmax(axis=1))
    assert scores.balanced_accuracy.value == pytest.approx(expected)


@pytest.mark.parametrize("lost, won, p", [(0, 0, 1.0), (3, 0, 0.25), (8, 2, 0.109375)],
                         ids=["no flips", "three lost", "eight against two"])
def test_flips_are_counted_both_ways_and_tested(lost, won, p):
    truth = np.zeros(20, int)
    before, after = np.zeros(20, int), np.zeros(20, int)
    after[:lost] = 1
    before[lost : lost + won] = 2
    before[-1], after[-1] = 1, 2
    names = [str(row) for row in range(20)]
    comparison = compare(np.eye(3)[before], np.eye(3)[after], truth, names, ("a", "b", "c"))
    assert (comparison.right_to_wrong, comparison.wrong_to_right) == (lost, won)
    assert comparison.wrong_to_wrong == 1 and comparison.mcnemar_p == pytest.approx(p)
    assert comparison.accuracy_change.value == pytest.approx((won - lost) / 20)
    assert len(comparison.flips) == lost + won + 1 and comparison.flips[-1].picture == "19"


def test_a_real_gap_between_groups_keeps_its_interval_from_zero():
    groups = np.array(["old", "young"] * 200)
    wide = score_groups(np.where(groups == "old", np.arange(400) % 4 < 2, True), groups)
    assert (wide.best, wide.worst) == ("young", "old") and wide.gap.low > 0.3
    assert wide.groups["old"].faces == 200
    none = score_groups(np.arange(400) % 8 < 4, groups)
    assert none.gap.low <= 0 <= none.gap.high


@pytest.mark.parametrize("name, label", [
    ("0_neutral", "neutral"), ("Happy", "happiness"), ("4-angry", "anger"), ("7", "7"),
    (" Surprised ", "surprise"),
])
def test_classes_are_known_under_their_usual_names(name, label):
    assert canonical_name(name) == label


def test_a_csv_is_read_with_a_byte_order_mark_and_short_rows(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("\ufefffilename, Expression ,expression,age\na.png,x,sad\n", encoding="utf-8")
    data = pictures_of_csv(path)
    assert data.files == (tmp_path / "a.png",) and data.classes == ("sad",)
    assert data.column("age") == ("",)


def test_numbers_are_sorted_as_numbers_before_they_are_named(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("image,label\n" + "".join(f"{k}.png,{k}\n" for k in (10, 2, 1)))
    assert pictures_of_csv(path).rename(("one", "two", "ten")).classes == ("ten", "two", "one")
