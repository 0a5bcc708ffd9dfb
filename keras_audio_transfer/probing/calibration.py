"""What SVMs decide of pairs of classes -> probabilities of classes. Without TensorFlow."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from keras_audio_transfer.class_pairs import first_and_second
from keras_audio_transfer.intervals import wilson

if TYPE_CHECKING:
    import pandas as pd

_BOUNDS = (-8.0, 8.0)  # of the logarithms of what is fitted


class PairValues(NamedTuple):
    """The decision values of SVMs, one for each pair of classes.

    Attributes:
        values: float64 (clips, pairs), above 0 for the first of a pair; the pairs in the order (0, 1), (0, 2), ...,
            (1, 2), ... of `classes`.
        classes: the labels that the SVMs were fitted on, ascending, (n_classes,); there may be more labels.
    """

    values: np.ndarray
    classes: np.ndarray

    def votes(self) -> np.ndarray:
        """How many pairs each class wins: int64 (clips, n_classes)."""
        first, second = first_and_second(len(self.classes))
        for_first = (self.values > 0).astype(np.int64)
        return for_first @ first.astype(np.int64) + (1 - for_first) @ second.astype(np.int64)

    def predicted(self) -> np.ndarray:
        """The class with the most votes, of equals the first, as libsvm has it: (clips,)."""
        return self.classes[self.votes().argmax(axis=1)]


class Calibration(NamedTuple):
    """How decision values become probabilities.

    Each value becomes the probability of the first class of its pair by a sigmoid with one slope for all pairs (Platt
    1999); a class's probability is in proportion to the product of those of its pairs, to the power of `exponent`: a
    temperature (Guo et al. 2017), as the pairs are not independent. scikit-learn's calibration of an SVC starts from
    its votes instead, which differ little from clip to clip.

    Attributes:
        slope: of the sigmoid, above 0.
        exponent: above 0.
        ahead: by which the class predicted is made the most probable, where it is not.

    Examples:
        >>> import numpy as np
        >>> pairs = [2.0, 1.0, -0.5]  # class 0 against 1, 0 against 2, 1 against 2
        >>> values = PairValues(np.array([pairs]), np.array([0, 1, 2]))
        >>> Calibration(slope=1.0, exponent=1.0).probabilities(values, 4).round(2).tolist()
        [[0.75, 0.05, 0.2, 0.0]]
    """

    slope: float
    exponent: float
    ahead: float = 1e-6

    def probabilities(self, values: PairValues, n_labels: int) -> np.ndarray:
        """Probabilities of all labels, float64 (clips, n_labels), with a sum of 1.

        The class predicted has the largest: where others have more, it and they get their mean, and it `ahead` more.
        Labels that the SVMs were not fitted on have 0.
        """
        coupled = _coupled(values.values, len(values.classes), self.slope, self.exponent)
        rows, predicted = np.arange(len(coupled)), values.votes().argmax(axis=1)
        at_least = coupled >= coupled[rows, predicted][:, np.newaxis]
        mean = (coupled * at_least).sum(axis=1) / at_least.sum(axis=1)
        result = np.zeros((len(coupled), n_labels))
        result[:, values.classes] = np.where(at_least, mean[:, np.newaxis], coupled)
        result[rows, values.classes[predicted]] += self.ahead
        return result / (1 + self.ahead)


def fit(held_out: Sequence[tuple[PairValues, np.ndarray]]) -> Calibration:
    """The calibration with the least log loss.

    As in Platt 1999, none is certain where none is mistaken: of n clips the true class counts as 1 - 1 / (n + 2), and
    the others share the rest.

    Args:
        held_out: decision values, and the labels (clips,), of clips that the SVMs were fitted without, part by part.
            Clips of labels that the SVMs were not fitted on are left out.
    """
    from scipy.optimize import minimize

    parts = []
    for values, labels in held_out:
        known = np.isin(labels, values.classes)
        columns = np.searchsorted(values.classes, labels[known])
        parts.append((values.values[known], len(values.classes), columns))

    doubt = 1 / (sum(len(columns) for *_, columns in parts) + 2)

    def log_loss(logarithms):
        losses = []
        for values, n_classes, columns in parts:
            logs = np.log(np.maximum(_coupled(values, n_classes, *np.exp(logarithms)), 1e-15))
            of_true = logs[np.arange(len(columns)), columns]
            losses.append(-(1 - doubt) * of_true - doubt * (logs.sum(axis=1) - of_true) / (n_classes - 1))
        return np.concatenate(losses).mean()

    n_classes = max(n_classes for _, n_classes, _ in parts)
    start = np.log([1.0, 2 / n_classes])  # the mean over pairs
    found = minimize(
        log_loss, start, method="Nelder-Mead", bounds=[_BOUNDS] * 2, options={"xatol": 1e-3, "fatol": 1e-6}
    )
    return Calibration(*map(float, np.exp(found.x)))


def reliability(probabilities: np.ndarray, right: np.ndarray, n_bins: int = 10) -> "pd.DataFrame":
    """How often what was said with a probability was right.

    Args:
        probabilities: of the class predicted, (clips,).
        right: whether it was the true one, bool (clips,).
        n_bins: groups of as many clips each as can be, by probability.

    Returns:
        A row a group: clips, probability (the mean), share_right, share_right_low, share_right_high (95 %, Wilson's).
    """
    import pandas as pd

    order = np.argsort(probabilities, kind="stable")
    rows = []
    for group in np.array_split(order, min(n_bins, len(order))):
        low, high = wilson(int(right[group].sum()), len(group))
        rows.append((len(group), probabilities[group].mean(), right[group].mean(), low, high))
    return pd.DataFrame(rows, columns=["clips", "probability", *("share_right", "share_right_low", "share_right_high")])


def expected_calibration_error(table: "pd.DataFrame") -> float:
    """The mean distance of probability and share of right clips over the groups of `reliability`, by their clips.

    Naeini et al. 2015, with groups of equal size. Of few clips it is above 0 by chance alone.
    """
    return float(np.average((table["probability"] - table["share_right"]).abs(), weights=table["clips"]))


def _coupled(values, n_classes, slope, exponent):
    first, second = first_and_second(n_classes)
    logits = -exponent * (np.logaddexp(0, -slope * values) @ first + np.logaddexp(0, slope * values) @ second)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)
