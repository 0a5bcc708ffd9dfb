"""Decision values of labels, each by itself -> probabilities, and from where on a clip has a label. No TensorFlow."""

from typing import NamedTuple

import numpy as np


class LabelCalibration(NamedTuple):
    """How decision values become probabilities and labels, label by label.

    Attributes:
        slopes, intercepts: of the sigmoids: probability = 1 / (1 + exp(-(slope * value + intercept))), (labels,).
        thresholds: the probabilities from which on clips have the labels, (labels,).
    """

    slopes: np.ndarray
    intercepts: np.ndarray
    thresholds: np.ndarray

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """Of decision values (clips, labels), in the same shape; they have no sum."""
        from scipy.special import expit

        return expit(self.slopes * values + self.intercepts)


def fit(values: np.ndarray, labels: np.ndarray) -> LabelCalibration:
    """The sigmoids of Platt 1999, and the thresholds with the largest F1.

    Args:
        values: decision values of clips that the SVMs were fitted without, (clips, labels).
        labels: 0 or 1, (clips, labels), some of both of each label.

    Examples:
        >>> values = np.array([[-2.0], [-1.0], [1.0], [2.0]])
        >>> fitted = fit(values, np.array([[0], [0], [1], [1]]))
        >>> fitted.probabilities(values).round(2).ravel().tolist(), fitted.thresholds.round(2).tolist()
        ([0.21, 0.34, 0.66, 0.79], [0.5])
    """
    sigmoids = np.array([_sigmoid(*columns) for columns in zip(values.T, labels.T, strict=True)])
    fitted = LabelCalibration(*sigmoids.T, np.zeros(len(sigmoids)))
    columns = zip(labels.T, fitted.probabilities(values).T, strict=True)
    return fitted._replace(thresholds=np.array([_threshold(*pair) for pair in columns]))


def _sigmoid(values, labels):
    """Slope and intercept with the least log loss against Platt's targets, which no 0 or 1 is."""
    from sklearn.linear_model import LogisticRegression

    n_with, n_without = labels.sum(), (1 - labels).sum()
    targets = np.where(labels, (n_with + 1) / (n_with + 2), 1 / (n_without + 2))
    twice, weights = np.concatenate([values, values]), np.concatenate([targets, 1 - targets])
    is_with = np.repeat([1, 0], len(values))  # each clip as both, with its target for a weight
    fitted = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(twice[:, np.newaxis], is_with, weights)
    return fitted.coef_[0, 0], fitted.intercept_[0]


def _threshold(labels, probabilities):
    """Halfway between the least probable clip that has to be taken for the largest F1, and the next below it."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(labels, probabilities)
    with np.errstate(invalid="ignore"):
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))[:-1]
    best = f1.argmax()
    return (thresholds[best] + (thresholds[best - 1] if best else 0.0)) / 2
