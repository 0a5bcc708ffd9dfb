"""What the units of a layer tell classes apart by, and which clips excite them most. Without TensorFlow."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Units(NamedTuple):
    """What is said of each unit of a layer.

    Attributes:
        auc: (classes, units): how well a unit tells a class from the others, see `selectivity`.
        loudest: (clips shown, units): rows of the clips that excite a unit most, the most exciting one first.
        deviations: (clips shown, units): of these, how far above the unit's mean over all clips they are, in standard
            deviations.
        is_dead: (units,): whether a unit is the same for all clips; then the others say nothing of it.
    """

    auc: npt.NDArray[np.float64]
    loudest: npt.NDArray[np.intp]
    deviations: npt.NDArray[np.float64]
    is_dead: npt.NDArray[np.bool_]

    def best(self) -> list[tuple[int, int]]:
        """(class, unit): for each class the unit that tells it apart best, the best of them first."""
        auc = np.where(self.is_dead, 0.0, self.auc)
        pairs = enumerate(auc.argmax(axis=1).tolist())
        return [] if self.is_dead.all() else sorted(pairs, key=lambda pair: (-auc[pair], pair))


def units_of(features: np.ndarray, labels: np.ndarray, n_classes: int, n_shown: int) -> Units:
    """Describe the units of a layer.

    Args:
        features: (clips, units), as `extract` gives them.
        labels: (clips,), from 0 to `n_classes` - 1, each of them there.
        n_classes: at least two.
        n_shown: clips to name of each unit; all where there are fewer.

    Examples:
        >>> features = np.array([[0.0, 3.0], [1.0, 3.0], [5.0, 3.0], [9.0, 3.0]])
        >>> units = units_of(features, np.array([0, 0, 1, 1]), 2, n_shown=2)
        >>> units.loudest[:, 0], units.best(), units.is_dead
        (array([3, 2]), [(1, 0), (0, 0)], array([False,  True]))
    """
    features = np.asarray(features, dtype=np.float64)
    centred, scale = features - features.mean(axis=0), features.std(axis=0)
    is_dead = np.ptp(features, axis=0) == 0
    loudest = np.argsort(-features, axis=0, kind="stable")[:n_shown]
    deviations = np.take_along_axis(centred, loudest, axis=0) / np.where(is_dead, 1.0, scale)
    return Units(selectivity(features, labels, n_classes), loudest, deviations, is_dead)


def selectivity(features: np.ndarray, labels: np.ndarray, n_classes: int) -> npt.NDArray[np.float64]:
    """How well each unit by itself tells each class from all the others: the area under the ROC curve.

    It is the probability that a clip of the class excites the unit more than one of another class does, where equal
    values count half (Hanley and McNeil 1982; the Mann-Whitney statistic over its largest value).

    Args:
        features, labels, n_classes: see `units_of`.

    Returns:
        (classes, units): from 0 to 1; 0.5 tells nothing.
    """
    from scipy.stats import rankdata  # takes a second

    is_of = np.asarray(labels) == np.arange(n_classes)[:, np.newaxis]  # (classes, clips)
    n_of = is_of.sum(axis=1, keepdims=True)
    rank_sums = is_of @ rankdata(features, axis=0)  # (classes, units)
    return (rank_sums - n_of * (n_of + 1) / 2) / (n_of * (len(features) - n_of))
