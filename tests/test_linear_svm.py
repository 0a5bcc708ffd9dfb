"""The optimum is libsvm's, where libsvm gets there; on other data its conditions are checked."""

import numpy as np
import pytest
from sklearn.svm import SVC, SVR

from keras_audio_transfer.probing import linear_svm

SCALES = {"plain": np.ones(6), "unscaled": np.array([300.0, 40.0, 1.0, 1.0, 0.01, 1e-4])}


def data(n, n_classes, seed=0):
    """Overlapping classes, (n, 6)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    return rng.normal(size=(n, 6)) + 0.7 * np.eye(n_classes, 6)[labels], labels


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("c", [0.1, 32.0])
def test_classes_are_those_of_svc(n_classes, c):
    x, labels = data(300, n_classes)
    expected = SVC(kernel="linear", C=c, tol=1e-8).fit(x[:200], labels[:200]).predict(x[200:])
    said = linear_svm.predict(x[:200], labels[:200], x[200:], c)
    assert said.dtype == labels.dtype
    np.testing.assert_array_equal(said, expected)
    assert 1 / n_classes < np.mean(said == labels[200:]) < 1


@pytest.mark.parametrize("c", [0.1, 32.0])
def test_numbers_are_those_of_svr(c):
    x, labels = data(300, 5)
    y = labels / 5 + x[:, 5]
    expected = SVR(kernel="linear", C=c, tol=1e-8).fit(x[:200], y[:200]).predict(x[200:])
    np.testing.assert_allclose(linear_svm.predict(x[:200], y[:200], x[200:], c), expected, atol=1e-4)


def test_votes_follow_the_names_of_the_classes_not_their_order():
    x, labels = data(300, 5)
    names = np.array([7, 3, 20, 4, 11])[labels]
    expected = SVC(kernel="linear", C=2.0, tol=1e-8).fit(x[:200], names[:200]).predict(x[200:])
    np.testing.assert_array_equal(linear_svm.predict(x[:200], names[:200], x[200:], 2.0), expected)


def objective(w, b, x, signs, c):
    return w @ w / 2 + c * np.maximum(0, 1 - signs * (x @ w + b)).sum()


@pytest.mark.parametrize("scales", SCALES.values(), ids=SCALES.keys())
@pytest.mark.parametrize("shift", [0.0, 1000.0])
@pytest.mark.parametrize("c", [1e-3, 0.1, 32.0, 1e4])
def test_nothing_near_the_optimum_is_lower(scales, shift, c):
    x, labels = data(150, 2)
    x, signs = (x + shift) * scales, labels * 2.0 - 1
    w, b = linear_svm.optimum(x, signs, np.ones(len(x)), c)
    lowest = objective(w, b, x, signs, c)
    rng = np.random.default_rng(1)
    for size in (1e-1, 1e-2, 1e-3):
        for _ in range(50):
            other_w = w + size * rng.normal(size=6) / x.std(axis=0)
            other_b = b - (other_w - w) @ x.mean(axis=0) + size * rng.normal()
            assert objective(other_w, other_b, x, signs, c) >= lowest * (1 - 2e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: np.column_stack([x, np.full(len(x), 3.0)]),  # a channel that is silent
        lambda x: np.column_stack([x, x]),  # channels twice
        lambda x: np.vstack([x[:1].repeat(20, axis=0), x[20:]]),  # clips twice, of both classes
        lambda x: np.column_stack([x, np.random.default_rng(2).normal(size=(len(x), 100))]),  # more channels than clips
    ],
    ids=["constant", "copies of channels", "copies of clips", "wide"],
)
def test_awkward_features(make):
    x, labels = data(80, 2)
    x = make(x)
    expected = SVC(kernel="linear", C=2.0, tol=1e-8).fit(x[:60], labels[:60])
    np.testing.assert_array_equal(linear_svm.predict(x[:60], labels[:60], x[60:], 2.0), expected.predict(x[60:]))


def test_what_has_no_optimum_says_so():
    x, labels = data(20, 2)
    x[3, 2] = np.nan
    with pytest.raises(ArithmeticError, match="no optimum of a linear SVM with C=2 on 20 clips"):
        linear_svm.optimum(x, labels * 2.0 - 1, np.ones(20), 2.0)
