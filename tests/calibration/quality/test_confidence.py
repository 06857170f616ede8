"""The confidence model: known weights are found, and it is measured on faces that did not fit."""

import numpy as np

from feredge.calibration.quality.confidence import (
    choose_penalty,
    fit_logistic,
    held_out,
    log_loss,
    random_folds,
    weight_intervals,
)


def faces(count, weights, bias, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 1, (count, len(weights)))
    return features, rng.random(count) < 1 / (1 + np.exp(-(features @ weights + bias)))


def test_known_weights_are_found_within_their_intervals():
    features, right = faces(4000, np.array([1.0, -0.6, 0.0]), 0.4)
    model = fit_logistic(features, right, 1.0)
    np.testing.assert_allclose([*model.weights, model.bias], [1.0, -0.6, 0.0, 0.4], atol=0.12)
    low, high = weight_intervals(features, right, 1.0).T
    found = np.array([*model.weights, model.bias])
    assert ((low < found) & (found < high)).all() and low[0] > 0 > high[1]
    assert low[2] < 0 < high[2], "a feature without influence"


def test_a_scaled_feature_gives_the_same_confidence():
    features, right = faces(300, np.array([1.0, 0.5]), 0.0)
    scaled = features * [1, 1000] + [0, 7]
    np.testing.assert_allclose(fit_logistic(features, right, 10).predict(features),
                               fit_logistic(scaled, right, 10).predict(scaled), atol=1e-6)


def test_a_useless_feature_is_penalized_more_than_a_useful_one():
    useless, useful = (choose_penalty(*faces(400, np.array([1.0, weight]), 0.0),
                                      random_folds(400, 0)) for weight in (0.0, 2.0))
    assert useful < 10 < 30 < useless


def test_a_face_never_judges_a_model_that_it_fitted():
    features, _ = faces(120, np.zeros(2), 0.0)
    rng = np.random.default_rng(3)
    right = rng.random(120) < 0.5  # independent of the features: nothing can be learned
    confidence = held_out(features, right, random_folds(120, 0), None)
    assert log_loss(confidence, right) > 0.68
    changed = right.copy()
    changed[random_folds(120, 0) == 4] ^= True
    again = held_out(features, changed, random_folds(120, 0), 10.0)
    same = held_out(features, right, random_folds(120, 0), 10.0)
    inside = random_folds(120, 0) == 4
    np.testing.assert_array_equal(again[inside], same[inside])


def test_separable_faces_give_finite_weights():
    features = np.linspace(-1, 1, 200)[:, None]
    model = fit_logistic(features, features[:, 0] > 0, 1.0)
    assert np.isfinite(model.weights).all() and model.weights[0] > 1
