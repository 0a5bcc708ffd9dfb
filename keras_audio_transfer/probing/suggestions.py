"""Which clips a person should listen to: those to label next, and those whose label looks wrong. Without TensorFlow."""

import math

import numpy as np
from sklearn.metrics import euclidean_distances
from sklearn.preprocessing import StandardScaler

UNCERTAIN, DIFFERENT = "uncertain", "different"
SHARE_UNCERTAIN = 0.25


def to_label(scores: np.ndarray, features: np.ndarray, at_most: int) -> list[tuple[int, str]]:
    """The clips to label next, the most useful first.

    A quarter of the clips, those with the smallest margin between their two best scores, are uncertain. First comes the
    most uncertain one; then in turn the one of the others, and the one of the uncertain, that is farthest from all
    that were taken before it (farthest-first traversal, Gonzalez 1985; for labelling Sener and Savarese 2018,
    arXiv:1708.00489).

    Args:
        scores: (clips, labels), probabilities or others.
        features: (clips, channels); distances are Euclidean between standardised ones.
        at_most: how many to take.

    Returns:
        [(number of the clip, 'uncertain' or 'different')].

    Examples:
        >>> scores = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.7, 0.3]])
        >>> to_label(scores, np.array([[0.0], [1.0], [1.1], [9.0]]), at_most=3)
        [(1, 'uncertain'), (3, 'different'), (2, 'different')]
    """
    second, best = np.sort(scores, axis=1)[:, -2:].T
    order = np.argsort(best - second, kind="stable")
    is_uncertain = np.isin(np.arange(len(order)), order[: math.ceil(SHARE_UNCERTAIN * len(order))])
    standardised = StandardScaler().fit_transform(features.astype(np.float64))
    distances, taken, result = np.full(len(order), np.inf), np.zeros(len(order), bool), []
    for number in range(min(at_most, len(order))):
        wanted = ~taken & (is_uncertain == (number % 2 == 0))
        pool = np.flatnonzero(wanted if wanted.any() else ~taken)
        index = int(pool[distances[pool].argmax()] if number else order[0])
        taken[index] = True
        distances = np.minimum(distances, euclidean_distances(standardised, standardised[[index]])[:, 0])
        result.append((index, UNCERTAIN if is_uncertain[index] else DIFFERENT))
    return result


def label_errors(
    true: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None
) -> list[tuple[int, int, float | None]]:
    """The clips whose label is probably wrong, by what models say that were fitted without them.

    With probabilities, by confident learning (Northcutt et al. 2021, section 3.1, arXiv:1911.00068): each label has a
    threshold, its mean probability over its own clips. Of the labels that reach theirs for a clip, the most probable
    one is meant. Where that is not the clip's own, the clip is in doubt; those come first for which the probabilities
    of the two differ most. Without probabilities, all clips whose prediction is another come in their order.

    Args:
        true, predicted: indices of labels, (clips,).
        probabilities: (clips, labels), or None.

    Returns:
        [(number of the clip, index of the label that it probably has, its probability or None)].
    """
    clips = np.arange(len(true))
    if probabilities is None:
        return [(int(clip), int(predicted[clip]), None) for clip in clips[true != predicted]]
    own = probabilities[clips, true]
    least = [own[true == label].mean() if (true == label).any() else np.inf for label in range(probabilities.shape[1])]
    confident = np.where(probabilities >= least, probabilities, -np.inf)
    meant = confident.argmax(axis=1)
    doubtful = clips[np.isfinite(confident.max(axis=1)) & (meant != true)]
    highest = probabilities[clips, meant]
    order = np.argsort((own - highest)[doubtful], kind="stable")
    return [(int(clip), int(meant[clip]), float(highest[clip])) for clip in doubtful[order]]
