"""Decision values -> probabilities, and how much a clip is like those heard: what was planted comes out."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.svm import SVC

from keras_audio_transfer.probing import calibration, familiarity
from keras_audio_transfer.probing.calibration import Calibration, PairValues


def decided(n_clips=4000, n_classes=3, seed=0):
    """Labels that were drawn with the probabilities of a calibration, and its decision values."""
    rng = np.random.default_rng(seed)
    values = PairValues(rng.normal(0, 2, (n_clips, n_classes * (n_classes - 1) // 2)), np.arange(n_classes))
    probabilities = Calibration(0.8, 0.6, ahead=0).probabilities(values, n_classes)
    labels = (probabilities.cumsum(axis=1) > rng.uniform(size=(n_clips, 1))).argmax(axis=1)
    return values, probabilities, labels


def test_two_classes_are_a_sigmoid():
    values = PairValues(np.array([[-3.0], [0.1], [2.0]]), np.array([0, 1]))
    expected = expit(2.0 * values.values[:, 0])
    np.testing.assert_allclose(Calibration(4.0, 0.5, ahead=0).probabilities(values, 2)[:, 0], expected)


def test_the_class_predicted_is_the_most_probable():
    values, *_ = decided()
    probabilities = Calibration(0.8, 0.6).probabilities(values, 4)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities[:, 3] == 0).all()
    np.testing.assert_array_equal(probabilities.argmax(axis=1), values.predicted())
    best, second = np.sort(probabilities, axis=1)[:, :-3:-1].T
    assert (best - second > 5e-7).all()
    lifted = probabilities.argmax(axis=1) != Calibration(0.8, 0.6, ahead=0).probabilities(values, 3).argmax(axis=1)
    assert 0 < lifted.mean() < 0.2


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_planted_calibration_is_found(n_classes):
    values, probabilities, labels = decided(n_classes=n_classes)
    halves = [(PairValues(values.values[i::2], values.classes), labels[i::2]) for i in range(2)]
    found = calibration.fit(halves).probabilities(values, n_classes)
    assert np.abs(found - probabilities).mean() < 0.02
    table = calibration.reliability(found.max(axis=1), values.predicted() == labels)
    assert table["clips"].tolist() == [400] * 10
    assert table["probability"].is_monotonic_increasing
    assert table["share_right"].between(table["share_right_low"], table["share_right_high"]).all()
    assert calibration.expected_calibration_error(table) < 0.03
    boasting = Calibration(8.0, 2.0).probabilities(values, n_classes)
    table = calibration.reliability(boasting.max(axis=1), values.predicted() == labels)
    assert calibration.expected_calibration_error(table) > 0.1


def test_classes_that_a_part_was_not_fitted_on():
    """They have no probability there, and their clips do not count."""
    rng = np.random.default_rng(0)
    parts = [(PairValues(rng.normal(0, 1, (20, 1)), np.array([0, 2])), np.arange(20) % 3)]
    found = calibration.fit(parts)
    assert (found.probabilities(parts[0][0], 3)[:, 1] == 0).all()
    kept = np.arange(20) % 3 != 1
    alone = calibration.fit([(PairValues(parts[0][0].values[kept], np.array([0, 2])), (np.arange(20) % 3)[kept])])
    assert found == alone


@pytest.mark.parametrize("n_clips", [12, 1200])
def test_nothing_is_certain_where_nothing_is_mistaken(n_clips):
    labels = np.arange(n_clips) % 2
    values = PairValues(np.where(labels == 0, 1.0, -1.0)[:, np.newaxis], np.array([0, 1]))
    found = calibration.fit([(values, labels)]).probabilities(values, 2).max(axis=1)
    np.testing.assert_allclose(found, 1 - 1 / (n_clips + 2), atol=1e-3)


def test_votes_are_libsvms():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(0, 1, (80, 3)), np.arange(80) % 4
    svm = SVC(decision_function_shape="ovo").fit(x, labels)
    values = PairValues(svm.decision_function(x), svm.classes_)
    np.testing.assert_array_equal(values.predicted(), svm.predict(x))


def clusters(n_clips, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(n_clips) % 3
    return rng.normal(0, 1, (n_clips, 20)) * np.geomspace(3, 0.3, 20) + 10 * np.eye(3, 20)[labels], labels


def test_clips_like_those_heard_are_known_and_others_are_not():
    features, labels = clusters(300, 0)
    found = familiarity.fit(features, labels)
    found = found.with_distances(found.distance(clusters(300, 1)[0]))
    alike = found.known(clusters(2000, 2)[0])
    for share in (0.05, 0.2, 0.5, 0.9):
        assert (alike < share).mean() == pytest.approx(share, abs=0.06)
    far = found.known(np.full((2, 20), [[10.0], [1000.0]]))
    assert far[1] < far[0] < 0.005
    assert found.known(found.means).tolist() == [1.0] * 3


def test_the_distance_is_mahalanobis_where_all_components_are_kept():
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (40, 3)) @ rng.normal(0, 1, (3, 3))
    found = familiarity.fit(features, np.zeros(40, int))
    covariance = np.cov(features.T)
    beyond = features - features.mean(axis=0)
    expected = np.einsum("ij,jk,ik->i", beyond, np.linalg.inv(covariance), beyond)
    np.testing.assert_allclose(found.distance(features), expected, rtol=1e-6)  # two components, and the rest is one


def test_clips_that_are_all_alike():
    found = familiarity.fit(np.zeros((8, 5)), np.arange(8) % 2)
    found = found.with_distances(found.distance(np.zeros((4, 5))))
    assert found.known(np.zeros((1, 5)))[0] == pytest.approx(1 / 5)  # all four were as far, none farther
    assert found.known(np.ones((1, 5)))[0] < 1e-6
