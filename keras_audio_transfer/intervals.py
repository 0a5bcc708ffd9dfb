"""Confidence intervals of scores: Student's t over folds or seeds, Wilson's over clips. Without TensorFlow."""

from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95


def t_half_width(values: Sequence[float]) -> float:
    """Half the width of the 95 % interval of the mean, by Student's t; NaN for one value.

    It takes the values for independent, which scores of cross-validation are not quite: they share training clips.

    >>> round(t_half_width([0.7, 0.8, 0.9]), 3)
    0.248
    """
    if len(values) < 2:
        return np.nan
    from scipy import stats  # takes a second to import

    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return float(quantile * np.std(values, ddof=1) / np.sqrt(len(values)))


def wilson(successes: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson 1927), within 0 to 1.

    >>> [round(end, 3) for end in wilson(8, 10)]
    [0.49, 0.943]
    """
    from scipy import stats

    return tuple(map(float, stats.binomtest(successes, total).proportion_ci(CONFIDENCE, "wilson")))
