"""How the calibration method is chosen."""

import numpy as np
import onnx_ir as ir
import pytest

from feredge.calibration.face_folder import FaceFolder
from feredge.calibration.graphs.placement import quantized_convs
from feredge.calibration.measure import sweep
from feredge.calibration.measure.methods import METHODS
from feredge.calibration.measure.sweep import (
    best_method,
    choose_method,
    leading_methods,
    measure,
    method_quality,
)
from feredge.calibration.ranges import Ranges
from feredge.runtime.spec import CropSpec, InputSpec

KEEP_FLOAT = ("*.cbam.*",)
NOBODYS = Ranges("ab" * 32, 0, "", {}, {})


@pytest.fixture(scope="module")
def fp32(exported):
    return ir.load(exported / "manet.onnx")


@pytest.fixture(scope="module")
def batches(faces_48px):
    faces = FaceFolder(faces_48px, InputSpec(96), CropSpec())
    faces.files = faces.files[::50]
    return list(faces.labeled_batches(("neutral", "happiness")))


@pytest.fixture(scope="module")
def measured(fp32, batches):
    convs = quantized_convs(fp32.graph, KEEP_FLOAT)
    return measure(fp32, convs, batches, sum(len(crops) for crops, _ in batches))


def test_every_fourth_face_is_held_out_with_its_class(measured, batches):
    crops, classes = map(np.concatenate, zip(*batches))
    assert measured.faces == len(crops)
    assert (measured.crops == crops[3::4]).all() and (measured.classes == classes[3::4]).all()


def test_large_sets_hold_out_about_256(fp32, batches):
    convs = quantized_convs(fp32.graph, KEEP_FLOAT)
    few = measure(fp32, convs, batches[:4], 256 * 10)  # thirty-two faces
    assert len(few.crops) == 3


@pytest.mark.slow
def test_the_final_ranges_are_those_of_all_faces(
    measured, batches, fp32, measured_ranges
):
    convs = quantized_convs(fp32.graph, KEEP_FLOAT)
    values, count = measured_ranges(fp32, convs, [crops for crops, _ in batches])
    found = measured.bounds()
    assert count == measured.faces
    for key, methods in values.items():
        for method, pair in methods.items():
            assert found[key][method] == pytest.approx(pair, rel=0.02), (key, method)


@pytest.mark.slow
def test_the_sweep_reports_the_methods_and_keeps_one_that_none_beats(
    measured, fp32, monkeypatch
):
    tried = ("max", "percentile-99.9")
    monkeypatch.setattr(sweep, "METHODS", {name: METHODS[name] for name in tried})
    ranges = choose_method(fp32, KEEP_FLOAT, measured, NOBODYS)
    rows = {row["method"]: row for row in ranges.sweep}
    assert tuple(rows) == tried
    for row in rows.values():
        assert row["faces"] == len(measured.crops)
        for graph in ("tensorrt", "cpu-7bit"):
            assert row["top1"][graph] > 0.8 and 0 < row["mean_kl"][graph] < 0.01
            assert 0.3 < row["accuracy"][graph] <= 1
    assert ranges.method == "max", "99.9 clips too much: its divergence is six times as large"
    assert Ranges.from_json(ranges.to_json()) == ranges


def test_without_labels_there_is_no_accuracy():
    answers = np.tile([0.4, 0.6], (20, 1))
    assert method_quality(answers, {"cpu": answers}, np.full(20, -1)) == {
        "top1": {"cpu": 1.0}, "mean_kl": {"cpu": 0.0}, "accuracy": None}
    labeled = np.array([0, 1, 1, -1] * 5)
    assert method_quality(answers, {"cpu": answers}, labeled)["accuracy"] == {"cpu": 10 / 15}


@pytest.mark.parametrize("faces", [1, 3])
def test_too_few_faces_to_compare_take_the_extremes_with_a_warning(faces, fp32, batches):
    convs = quantized_convs(fp32.graph, KEEP_FLOAT)
    few = measure(fp32, convs, [(batches[0][0][:faces], batches[0][1][:faces])], faces)
    with pytest.warns(UserWarning, match="500 faces or more are recommended"):
        ranges = choose_method(fp32, KEEP_FLOAT, few, NOBODYS)
    assert ranges.method == "max" and not ranges.sweep


def losses(**means):
    rng = np.random.default_rng(0)
    common = rng.exponential(1, 200)
    return {name: common + mean + rng.normal(0, 0.1, 200) for name, mean in means.items()}


def test_the_simplest_of_those_within_noise_is_first():
    found = leading_methods(losses(a=0.5, b=0.001, c=0))
    assert found[0] == "b", "the faces' own spread is no noise"
    assert leading_methods(losses(a=0, b=0.5)) == ["a"]
    same = np.ones(5)
    assert leading_methods({"a": same, "b": same}) == ["a", "b"]


def test_labels_rule_out_what_is_often_wrong_and_agreement_decides_the_rest():
    rng = np.random.default_rng(0)
    classes = np.zeros(200, np.int64)
    expected = np.tile([0.45, 0.55], (200, 1))  # FP32 is wrong everywhere
    right, close = np.tile([0.6, 0.4], (200, 1)), np.tile([0.46, 0.54], (200, 1))
    jitter = rng.normal(0, 0.001, (200, 1)) * [1, -1]
    trials = {"a": {"cpu": right + jitter}, "b": {"cpu": close + jitter}}
    assert best_method(expected, trials, classes) == "a"
    assert best_method(expected, trials, np.full(200, -1)) == "b"
