import numpy as np
import pytest

from feredge.calibration.quality.reliability import expected_calibration_error, reliability


def answers(confidence, right):
    """Two classes: the first is always said, with the given confidence."""
    probabilities = np.stack([confidence, 1 - np.asarray(confidence)], axis=1)
    return probabilities.astype(np.float32), np.where(right, 0, 1)


@pytest.mark.parametrize("confidence, right, error", [
    ([0.75] * 4, [1, 1, 1, 0], 0.0),
    ([0.75] * 4, [0, 0, 0, 0], 0.75),
    ([1.0] * 2 + [0.6] * 2, [1, 1, 0, 0], 0.3),
], ids=["calibrated", "always wrong", "weighted by faces"])
def test_the_error_is_the_distance_of_confidence_from_accuracy(confidence, right, error):
    assert expected_calibration_error(*answers(confidence, right)) == pytest.approx(error, abs=1e-6)


def test_the_bins_agree_with_scikit_learn():
    from sklearn.calibration import calibration_curve

    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 500)
    right = rng.uniform(size=500) < confidence**2
    bins = reliability(*answers(confidence, right), bins=10)
    accuracy, mean_confidence = calibration_curve(right, confidence, n_bins=10)
    filled = bins.faces > 0
    np.testing.assert_allclose(bins.accuracy[filled], accuracy, atol=1e-6)
    np.testing.assert_allclose(bins.confidence[filled], mean_confidence, atol=1e-6)
    assert bins.faces.sum() == 500
