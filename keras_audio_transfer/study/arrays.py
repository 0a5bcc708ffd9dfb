"""What the numbers have to be that the statistics and measures of a study are computed from. Without TensorFlow."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from keras_audio_transfer.errors import InputError


def finite(name: str, values: ArrayLike, axes: Sequence[str], fewest: int = 1) -> np.ndarray:
    """Numbers as a float64 array with these axes, at least `fewest` along each; `name` is for messages.

    Raises:
        InputError: another shape, no numbers, or NaN or infinity among them.

    >>> finite("x", [1, 2], ["clips"])
    array([1., 2.])
    """
    expected = f"expected finite numbers of shape ({', '.join(axes)}), at least {fewest} along each"
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:  # texts, or rows of several lengths
        raise InputError(f"{name}: is no array of numbers; {expected}") from error
    if array.ndim != len(axes) or min(array.shape, default=0) < fewest:
        raise InputError(f"{name}: has shape {array.shape}; {expected}")
    if not np.isfinite(array).all():
        raise InputError(f"{name}: holds NaN or infinity; {expected}; leave out what has no number")
    return array
