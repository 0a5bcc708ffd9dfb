"""What may explain transfer: how alike features are, how many dimensions they fill, how far apart classes lie.

Of features as they are, unscaled. Without TensorFlow. Formulae in words and their limits: docs/study_statistics.md.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.study.arrays import finite

_CLIPS = ["clips", "channels"]


def of_features(layers: Mapping[str, ArrayLike], labels: ArrayLike) -> list[dict]:
    """All measures of single layers, in the long format of the study's table.

    Args:
        layers: layer -> features (clips, channels).
        labels: (clips,), the class of each clip; negative for none.

    Returns:
        `layer`, `measure` and `value` each: for each layer `participation_ratio` and `rank_me` of all clips,
        `fisher_ratio` and `centroid_silhouette` of those with a class; `label_entropy` with '' for a layer.
        Where a measure is not defined, as for a layer whose features are all the same, its value is NaN.

    Raises:
        InputError: features or labels are not of that shape, not finite, or of fewer than two classes.

    >>> rows = of_features({"layer1": [[0, 1], [1, 0], [4, 5], [5, 4]]}, [0, 0, 1, 1])
    >>> [(row["measure"], round(row["value"], 2)) for row in rows][2:]
    [('fisher_ratio', 16.0), ('centroid_silhouette', 0.88), ('label_entropy', 1.0)]
    """
    labels = _checked_labels(labels)
    has_class, rows = labels >= 0, []
    for layer, values in layers.items():
        features = _checked(f"layers[{layer!r}]", values, len(labels))
        of_classes = features[has_class], labels[has_class]
        found = {
            "participation_ratio": participation_ratio(features),
            "rank_me": rank_me(features),
            "fisher_ratio": fisher_ratio(*of_classes),
            "centroid_silhouette": centroid_silhouette(*of_classes),
        }
        rows += [{"layer": layer, "measure": measure, "value": value} for measure, value in found.items()]
    return [*rows, {"layer": "", "measure": "label_entropy", "value": label_entropy(labels[has_class])}]


# ---- similarity


def linear_cka(x: ArrayLike, y: ArrayLike, debiased: bool = False) -> float:
    """Linear centred kernel alignment of two sets of features of the same clips.

    It does not change where either is rotated, shifted or multiplied by a number (Kornblith et al. 2019: Similarity of
    neural network representations revisited, ICML, section 3).

    Args:
        x, y: (clips, channels), of as many clips.
        debiased: by the unbiased estimate of HSIC (Song et al. 2012: Feature selection via dependence maximization,
            JMLR 13; as Nguyen et al. 2021: Do wide and deep networks learn the same things? ICLR). The
            other one is near 1 whatever the features are, where they have more channels than there are clips.

    Returns:
        0 (nothing in common) to 1 (the same); debiased, around 0 for nothing in common. NaN where the features of all
        clips are the same.

    Raises:
        InputError: other shapes, values that are not finite, or fewer than four clips.

    >>> x = np.random.default_rng(0).normal(size=(20, 100))
    >>> round(linear_cka(x, 2 * x + 1), 3)
    1.0
    >>> y = np.random.default_rng(1).normal(size=(20, 100))
    >>> round(linear_cka(x, y), 2), round(linear_cka(x, y, debiased=True), 2)
    (0.84, 0.06)
    """
    x = finite("x", x, _CLIPS)
    y = _checked("y", y, len(x))
    if len(x) < 4:
        raise InputError(f"x: has {len(x)} clips; expected four or more, to compare features on")
    x, y = _centred(x), _centred(y)
    alignment = _unbiased_hsic if debiased else _squared_norm
    scale = alignment(x, x) * alignment(y, y)
    return float(alignment(x, y) / np.sqrt(scale)) if scale > 0 else np.nan


def _squared_norm(x, y):
    """The sum over all pairs of clips of the product of both kernels, by the smaller of two ways."""
    if x.shape[1] * y.shape[1] <= len(x) ** 2:
        return np.square(x.T @ y).sum()
    return ((x @ x.T) * (y @ y.T)).sum()


def _unbiased_hsic(x, y):
    """The unbiased estimate times a number of n alone; of centred features, whose kernels' rows sum to 0."""
    n, of_x, of_y = len(x), np.square(x).sum(axis=1), np.square(y).sum(axis=1)
    return _squared_norm(x, y) - n / (n - 2) * (of_x @ of_y) + of_x.sum() * of_y.sum() / ((n - 1) * (n - 2))


# ---- dimension


def participation_ratio(features: ArrayLike) -> float:
    """How many dimensions the features fill: (the sum of the covariance's eigenvalues)^2 / the sum of their squares.

    As many as channels where all vary alike and independently, 1 where they are multiples of one (Gao et al. 2017: A
    theory of multineuronal dimensionality, dynamics and measurement, bioRxiv 214262).

    Args:
        features: (clips, channels).

    Returns:
        1 to the number of channels; NaN where all clips are the same.

    >>> participation_ratio([[1, 0], [-1, 0], [0, 1], [0, -1]])
    2.0
    """
    x = _centred(finite("features", features, _CLIPS))
    squares = _squared_norm(x, x)
    return float(np.square(x).sum() ** 2 / squares) if squares > 0 else np.nan


def rank_me(features: ArrayLike) -> float:
    """RankMe: the exponential of the entropy of the singular values, which are divided by their sum.

    Of features that are not centred (Garrido et al. 2023: RankMe: assessing the downstream performance of pretrained
    self-supervised representations by their rank, ICML).

    Args:
        features: (clips, channels).

    Returns:
        1 to the smaller of the numbers of clips and channels; NaN where all are 0.

    >>> round(rank_me(np.eye(4)), 3)
    4.0
    """
    from scipy.special import entr  # takes a second to import

    x = finite("features", features, _CLIPS)
    gram = x.T @ x if x.shape[1] <= len(x) else x @ x.T
    singular = np.sqrt(np.linalg.eigvalsh(gram).clip(min=0))
    return float(np.exp(entr(singular / singular.sum()).sum())) if singular.sum() > 0 else np.nan


# ---- classes


def fisher_ratio(features: ArrayLike, labels: ArrayLike) -> float:
    """How far classes lie apart: the trace of the scatter between them over the trace of that within them.

    Args:
        features: (clips, channels).
        labels: (clips,), the class of each.

    Returns:
        0 or more, without an upper limit; NaN where all clips are the same.

    Raises:
        InputError: other shapes, values that are not finite, or fewer than two classes.

    >>> fisher_ratio([[0.0], [2.0], [10.0], [12.0]], [0, 0, 1, 1])
    25.0
    """
    x, classes, centroids = _of_classes(features, labels)
    within = np.square(x - centroids[classes]).sum()
    between = np.square(centroids[classes]).sum()
    return float(between / within) if within > 0 else np.inf if between > 0 else np.nan


def centroid_silhouette(features: ArrayLike, labels: ArrayLike) -> float:
    """The mean over clips of how much nearer their own class's centroid is than the nearest other one.

    The simplified silhouette (Hruschka et al. 2006: Evolving clusters in gene-expression data, Information Sciences
    176): (b - a) / max(a, b), with the distances a to the own and b to the other centroid.

    Args:
        features: (clips, channels).
        labels: (clips,), the class of each.

    Returns:
        -1 to 1; NaN where all clips are the same.

    Raises:
        InputError: other shapes, values that are not finite, or fewer than two classes.

    >>> round(centroid_silhouette([[0.0], [2.0], [10.0], [12.0]], [0, 0, 1, 1]), 3)
    0.899
    """
    from scipy.spatial.distance import cdist

    x, classes, centroids = _of_classes(features, labels)
    distances = cdist(x, centroids)
    clips = np.arange(len(x))
    own = distances[clips, classes]
    distances[clips, classes] = np.inf
    other = distances.min(axis=1)
    farther = np.maximum(own, other)
    return float(((other - own) / np.where(farther > 0, farther, 1)).mean()) if farther.any() else np.nan


def label_entropy(labels: ArrayLike) -> float:
    """The entropy of the classes, in bits: the logarithm of their number where all have as many clips.

    Raises:
        InputError: labels are not of shape (clips,), or of fewer than two classes.

    >>> label_entropy([0, 0, 1, 1, 2, 2, 3, 3])
    2.0
    """
    from scipy.stats import entropy

    return float(entropy(_class_numbers(_checked_labels(labels))[1], base=2))


def label_overlap(learnt: Iterable[str], classes: Collection[str]) -> float:
    """The share of the classes of a target that have a word in common with what a network has learnt to tell apart.

    A word counts without its case and its ending ('s', 'e', 'es', 'ing'), and two that follow each other also as one:
    'gun_shot' and 'Gunshot, gunfire' have one in common. What is meant by the words does not count.

    Args:
        learnt: the labels of the network.
        classes: of the target.

    Returns:
        0 to 1; NaN where the network has no labels.

    >>> label_overlap(["Dog", "Engine", "Gunshot, gunfire"], ["dogs", "engine_idling", "gun_shot", "siren"])
    0.75
    """
    known = {word for label in learnt for word in _words(label)}
    found = [not known.isdisjoint(_words(name)) for name in classes]
    return sum(found) / len(found) if known else np.nan


def _words(label):
    words = re.findall(r"[^\W_]+", label.casefold())
    return {re.sub(r"(?<=\w{3})(ing|es|e|s)$", "", word) for word in [*words, *map("".join, pairwise(words))]}


def _of_classes(features, labels):
    """Centred features, the class of each clip as 0, 1, ..., and the centroids (classes, channels)."""
    labels = _checked_labels(labels)
    x = _centred(_checked("features", features, len(labels)))
    classes, counts = _class_numbers(labels)
    return x, classes, np.eye(len(counts))[classes].T @ x / counts[:, None]


def _centred(x):
    """Channels that do not vary are exactly 0, whatever rounding makes of their mean."""
    return np.where(np.ptp(x, axis=0) > 0, x - x.mean(axis=0), 0.0)


def _class_numbers(labels):
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise InputError(f"labels: are of {len(counts)} classes; expected two or more")
    return classes, counts


def _checked_labels(labels):
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InputError(f"labels: are {labels.dtype} of shape {labels.shape}; expected a whole number a clip")
    return labels


def _checked(name, features, n_clips):
    features = finite(name, features, _CLIPS)
    if len(features) != n_clips:
        raise InputError(f"{name}: has {len(features)} clips; expected {n_clips}, as many as the other argument")
    return features
