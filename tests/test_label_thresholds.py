"""Sigmoids equal scikit-learn's calibration; thresholds have the largest F1 there is."""

import numpy as np
import pytest
from conftest import some_quick
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import f1_score

from keras_audio_transfer.probing import label_thresholds


class Given(ClassifierMixin, BaseEstimator):
    """Its decision values are what it is given."""

    classes_ = np.array([0, 1])

    def __sklearn_is_fitted__(self):
        return True

    def fit(self, x, y):
        return self

    def decision_function(self, x):
        return x[:, 0]

    def predict(self, x):
        return x[:, 0] > 0


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_probabilities_are_those_of_scikit_learn(share):
    rng = np.random.default_rng(0)
    labels = (rng.random((300, 2)) < share).astype(int)
    values = labels * 2 - 1 + rng.normal(0, [0.5, 3.0], (300, 2))
    found = label_thresholds.fit(values, labels).probabilities(values)
    for column, of_label in enumerate(labels.T):
        x = values[:, [column]]
        calibrated = CalibratedClassifierCV(FrozenEstimator(Given()), method="sigmoid", ensemble=False, cv=2)
        expected = calibrated.fit(x, of_label).predict_proba(x)[:, 1]
        np.testing.assert_allclose(found[:, column], expected, atol=1e-3)


def test_separable_values_keep_away_from_0_and_1():
    values, labels = np.array([[-1.0], [-1.0], [1.0], [1.0]]), np.array([[0], [0], [1], [1]])
    found = label_thresholds.fit(values, labels).probabilities(values).ravel()
    np.testing.assert_allclose(found, [0.25, 0.25, 0.75, 0.75], atol=1e-4)  # Platt's targets


@pytest.mark.parametrize("seed", some_quick(range(4), [0]))
def test_no_threshold_has_a_larger_f1(seed):
    rng = np.random.default_rng(seed)
    labels = (rng.random((80, 3)) < [0.1, 0.4, 0.7]).astype(int)
    fitted = label_thresholds.fit(values := labels + rng.normal(0, 1, labels.shape), labels)
    probabilities = fitted.probabilities(values)
    for of_label, found, threshold in zip(labels.T, probabilities.T, fitted.thresholds, strict=True):
        best = max(f1_score(of_label, found >= other) for other in found)
        assert f1_score(of_label, found >= threshold) == best
        assert 0 < threshold < 1
        assert np.abs(found - threshold).min() > 0  # between two clips, not on one
