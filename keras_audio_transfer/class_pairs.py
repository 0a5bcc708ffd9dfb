"""The pairs of classes of SVMs that are fitted one against one."""

from itertools import combinations

import numpy as np


def first_and_second(n_classes: int, dtype: str = "float64") -> np.ndarray:
    """Which class is the first, and which the second of each pair, (0, 1), (0, 2), ..., (1, 2), ..., as in libsvm.

    Returns:
        (2, pairs, n_classes), of 0 and 1.

    Examples:
        >>> first_and_second(3)[0].tolist()
        [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    return np.eye(n_classes, dtype=dtype)[np.array([*combinations(range(n_classes), 2)]).T]
