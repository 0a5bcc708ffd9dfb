"""Folds and subsets of clips with several labels: each label's share in each, no group divided. Without TensorFlow."""

import numpy as np


def iterative_folds(labels: np.ndarray, groups: np.ndarray, n_folds: int, seed: int = 0) -> np.ndarray:
    """Divide clips by iterative stratification (Sechidis et al. 2011, algorithm 1), whole groups at a time.

    The label with the fewest clips left is divided first, because it leaves the least choice. Each of its groups, the
    one with the most such clips first, goes to the fold that lacks most clips of the label; of equals to the one that
    lacks most clips; of equals to one by chance. scikit-learn has nothing for several labels.

    Args:
        labels: 0 or 1, (clips, labels), at least one a clip.
        groups: the number of each clip's group, from 0, (clips,).
        n_folds: how many.
        seed: which of the possible divisions.

    Returns:
        Each clip's fold, 0 to n_folds - 1, int64 (clips,).

    Examples:
        >>> labels = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [1, 1], [1, 1]])
        >>> folds = iterative_folds(labels, np.arange(6), 2)
        >>> [labels[folds == fold].sum(axis=0).tolist() for fold in (0, 1)]
        [[2, 2], [2, 2]]
    """
    rng = np.random.default_rng(seed)
    n_groups, n_labels = groups.max() + 1, labels.shape[1]
    counts, sizes = np.zeros((n_groups, n_labels)), np.bincount(groups)
    np.add.at(counts, groups, labels)
    lacking, room = np.tile(counts.sum(axis=0) / n_folds, (n_folds, 1)), np.full(n_folds, len(labels) / n_folds)
    fold_of, shuffled = np.full(n_groups, -1), rng.permutation(n_groups)
    while (fold_of < 0).any():
        left = counts[fold_of < 0].sum(axis=0)
        label = np.where(left > 0, left, np.inf).argmin()
        with_label = [group for group in shuffled if fold_of[group] < 0 and counts[group, label]]
        for group in sorted(with_label, key=lambda group: -counts[group, label]):
            fold = np.lexsort((rng.random(n_folds), -room, -lacking[:, label]))[0]
            fold_of[group] = fold
            lacking[fold] -= counts[group]
            room[fold] -= sizes[group]
    return fold_of[groups]


def iterative_places(labels: np.ndarray, groups: np.ndarray, seed: int | list[int] = 0) -> np.ndarray:
    """A place in (0, 1) for each clip, the same for all clips of a group; those up to a fraction are a subset.

    As `iterative_folds`, but nested: what comes next is always a group, by chance, of the label of which the smallest
    share has come.

    Args:
        labels, groups: see `iterative_folds`.
        seed: which of the possible orders.

    Returns:
        float64 (clips,). The subset has that fraction of each label as near as the clips allow.

    Examples:
        >>> labels = np.repeat([[1, 0], [0, 1]], [4, 8], axis=0)
        >>> places = iterative_places(labels, np.arange(12))
        >>> [labels[places <= fraction].sum(axis=0).tolist() for fraction in (0.25, 0.5)]
        [[1, 2], [2, 4]]
    """
    counts = np.zeros((groups.max() + 1, labels.shape[1]))
    np.add.at(counts, groups, labels)
    shuffled = np.random.default_rng(seed).permutation(len(counts))
    waiting = [iter(shuffled[of_label > 0]) for of_label in counts[shuffled].T]
    came, totals, order = np.zeros(labels.shape[1]), counts.sum(axis=0), {}
    while len(order) < len(counts):
        label = np.where(came < totals, (came + 0.5) / np.maximum(totals, 1), np.inf).argmin()
        group = next(group for group in waiting[label] if group not in order)
        order[group] = None
        came += counts[group]
    order = np.array([*order])
    sizes, places = np.bincount(groups)[order], np.empty(len(order))
    places[order] = (np.cumsum(sizes) - sizes / 2) / len(groups)
    return places[groups]
