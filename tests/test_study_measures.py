"""Measures of features, against other ways to compute them and cases whose answer is known."""

import numpy as np
import pytest
from conftest import assert_refused
from scipy.stats import ortho_group
from sklearn.metrics import calinski_harabasz_score

from keras_audio_transfer.study.measures import (
    centroid_silhouette,
    fisher_ratio,
    label_entropy,
    label_overlap,
    linear_cka,
    of_features,
    participation_ratio,
    rank_me,
)

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 8)) * np.arange(1, 9), RNG.normal(size=(30, 50)) + 3
Y[:, :4] += 2 * X[:, :4]
LABELS = np.arange(30) % 3


def hsic_of_kernels(k, l, debiased):  # noqa: E741
    """As Kornblith et al. 2019 and Song et al. 2012 write it down, with kernels (clips, clips)."""
    n, ones = len(k), np.ones(len(k))
    if not debiased:
        centring = np.eye(n) - 1 / n
        return np.trace(k @ centring @ l @ centring) / (n - 1) ** 2
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    sums = (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
    return (np.trace(k @ l) + sums - 2 / (n - 2) * (ones @ k @ l @ ones)) / (n * (n - 3))


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize(("x", "y"), [(X, Y), (Y, X), (X, X[:, :3] + 1), (Y, Y**2)])
def test_cka_is_that_of_kernels(x, y, debiased):
    k, l = x @ x.T, y @ y.T  # noqa: E741
    hsic = {
        pair: hsic_of_kernels(*pair_of, debiased) for pair, pair_of in {"kl": (k, l), "k": (k, k), "l": (l, l)}.items()
    }
    assert linear_cka(x, y, debiased) == pytest.approx(hsic["kl"] / np.sqrt(hsic["k"] * hsic["l"]))


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_does_not_change_with_rotation_scale_and_shift(debiased):
    rotation = ortho_group(8, seed=1).rvs()
    assert linear_cka(X, 5 * X @ rotation - 2, debiased) == pytest.approx(1)
    assert linear_cka(3 * X @ rotation + 1, Y, debiased) == pytest.approx(linear_cka(X, Y, debiased))


def test_debiased_cka_is_around_0_for_features_with_nothing_in_common():
    pairs = [RNG.normal(size=(2, 20, 200)) for _ in range(200)]
    assert abs(np.mean([linear_cka(x, y, debiased=True) for x, y in pairs])) < 0.01
    assert min(linear_cka(x, y) for x, y in pairs) > 0.8


def test_dimensions_of_known_spectra():
    rotation = ortho_group(40, seed=2).rvs()
    scales = np.array([4.0, 2.0, 1.0, 0.5])
    centred = np.concatenate([np.diag(scales), -np.diag(scales)])  # eigenvalues of the covariance as scales squared
    x = np.pad(centred, ((0, 0), (0, 36))) @ rotation
    expected = (scales**2).sum() ** 2 / (scales**4).sum()
    assert participation_ratio(x + 7) == pytest.approx(expected)
    assert participation_ratio(x[:, :1]) == pytest.approx(1)
    shares = scales / scales.sum()
    assert rank_me(x) == pytest.approx(np.prod(shares**-shares))
    assert rank_me(np.ones((5, 3))) == pytest.approx(1, abs=1e-6)  # not centred
    singular = np.linalg.svd(Y, compute_uv=False)
    assert rank_me(Y) == pytest.approx(np.prod((singular / singular.sum()) ** -(singular / singular.sum())))


def test_separation_of_classes():
    n, k = len(X), 3
    assert fisher_ratio(X, LABELS) == pytest.approx(calinski_harabasz_score(X, LABELS) * (k - 1) / (n - k))
    of_clips, labels = [], LABELS.tolist()
    centroids = [X[first::3].mean(axis=0) for first in range(3)]
    for x, label in zip(X, labels, strict=True):
        own, *others = np.roll([np.linalg.norm(x - centroid) for centroid in centroids], -label)
        of_clips.append((min(others) - own) / max(own, min(others)))
    assert centroid_silhouette(X, LABELS) == pytest.approx(np.mean(of_clips))
    apart = X + 1000 * LABELS[:, None]
    assert fisher_ratio(apart, 7 - LABELS) > 1000
    assert centroid_silhouette(apart, 7 - LABELS) > 0.95


def test_label_entropy():
    assert label_entropy([5, 5, 5, 9]) == pytest.approx(0.25 * 2 + 0.75 * np.log2(4 / 3))


def test_all_measures_of_all_layers():
    labels = np.where(np.arange(30) < 6, -1, LABELS)
    dead = np.full((30, 4), 0.1)
    rows = of_features({"conv": X.astype(np.float32), "dead": dead}, labels)
    values = {(row["layer"], row["measure"]): row["value"] for row in rows}
    assert list(values) == [
        *[("conv", name) for name in ("participation_ratio", "rank_me", "fisher_ratio", "centroid_silhouette")],
        *[("dead", name) for name in ("participation_ratio", "rank_me", "fisher_ratio", "centroid_silhouette")],
        ("", "label_entropy"),
    ]
    assert values["conv", "participation_ratio"] == pytest.approx(participation_ratio(X))
    assert values["conv", "fisher_ratio"] == pytest.approx(fisher_ratio(X[6:], LABELS[6:]))
    assert values["", "label_entropy"] == pytest.approx(np.log2(3))
    assert np.isnan(
        [values["dead", name] for name in ("participation_ratio", "fisher_ratio", "centroid_silhouette")]
    ).all()
    assert np.isnan(linear_cka(dead, X))
    assert np.isnan(rank_me(0 * X))


BAD = {
    "layers['a']: has 2 clips; expected 3, as many as the other argument": (
        lambda: of_features({"a": [[1.0], [2.0]]}, [0, 0, 1])
    ),
    "layers['a']: holds NaN or infinity; ": lambda: of_features({"a": [[1.0], [np.nan]]}, [0, 1]),
    "labels: are float64 of shape (30,); expected a whole number a clip": lambda: of_features({"a": X}, LABELS / 2),
    "labels: are of 1 classes; expected two or more": lambda: fisher_ratio(X, 0 * LABELS),
    "y: has 29 clips; expected 30": lambda: linear_cka(X, Y[1:]),
    "x: has 3 clips; expected four or more, to compare features on": lambda: linear_cka(X[:3], Y[:3]),
    "features: has shape (30,); expected finite numbers of shape (clips, channels)": lambda: rank_me(X[:, 0]),
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_is_said_in_one_line(message):
    assert_refused(message, BAD[message])


def test_classes_that_a_network_knows_by_name():
    classes = ["crying_baby", "sneezing", "Sea waves", "sirens", "gun_shot", "hiphop", "sad", "é"]
    learnt = {"Baby cry, infant cry": 1, "Sneeze": 1, "Ocean wave": 1, "SIREN": 1, "Gunshot": 1, "Hip hop music": 1}
    for label in learnt:
        assert label_overlap([label], classes) == 1 / 8, label
    assert label_overlap(learnt, classes) == 6 / 8
    assert label_overlap(["Angry music", "sadness"], classes) == 0
    assert np.isnan(label_overlap([], classes))
