"""SVMs on any combination of layers, from inner products that are computed once a layer. Without TensorFlow.

The concatenation of layers has the kernels of its layers: its inner products are the sum of theirs, and so are its
squared distances, |x - x'|^2 = <x, x> + <x', x'> - 2 <x, x'>. So the inner products of each layer are all that is kept.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import sklearn
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

HELD_BYTES = 4e9  # inner products that are kept; beyond it they are computed again. Five layers of UrbanSound8K: 2.8e9


class Point(NamedTuple):
    """Parameters of an SVM; gamma 'auto' is 1 / n_features, None for the linear kernel."""

    kernel: str
    C: float
    gamma: float | str | None = None

    def __str__(self):
        return f"{self.kernel} C={self.C:g}" + ("" if self.gamma is None else f" gamma={self.gamma}")


class Part:
    """Clips to fit on and clips to score, and the inner products of their features.

    Args:
        layers: layer name -> (clips, channels).
        labels: (clips,); float for regression.
        fit: rows to fit on, (n_fit,).
        score: rows to score, (n_score,).
        scale: whether each channel is first brought to mean 0 and deviation 1 over the fitted rows.
    """

    def __init__(
        self, layers: Mapping[str, np.ndarray], labels: np.ndarray, fit: np.ndarray, score: np.ndarray, scale: bool
    ):
        self._layers, self._rows, self._scale = layers, (fit, score), scale
        self._labels, self._expected = labels[fit], labels[score]
        self._machine, self._metric = (SVR, r2_score) if labels.dtype.kind == "f" else (SVC, _accuracy)
        self._room = max(1, int(HELD_BYTES / (8 * len(fit) * (len(fit) + len(score)))))
        self._products = lru_cache(self._room)(self._layer_products)

    def hold(self, names: Iterable[str]) -> None:
        """Compute the inner products of these layers now, as many as may be kept."""
        for name in list(dict.fromkeys(names))[: self._room]:
            self._products(name)

    def _layer_products(self, name):
        """Inner products (n_fit, n_fit), (n_score, n_fit), and squared lengths (n_score,) of one layer, in float64."""
        fit, score = (self._layers[name][rows].astype(np.float64) for rows in self._rows)
        if self._scale:
            scaler = StandardScaler().fit(fit)
            fit, score = scaler.transform(fit), scaler.transform(score)
        return fit @ fit.T, score @ fit.T, np.einsum("ij,ij->i", score, score)

    def predictions(self, names: Sequence[str], points: Sequence[Point]) -> Iterator[tuple[int, np.ndarray]]:
        """Fit an SVM at each point on the concatenation of the layers.

        Yields:
            The number of a point and what its SVM says of the rows to score, (n_score,), in any order.
        """
        fit_fit, score_fit, score_lengths = self._products(names[0])
        for number, name in enumerate(names[1:]):
            new = self._products(name)
            if number == 0:  # the first sum is a new array, the others go into it
                fit_fit, score_fit, score_lengths = fit_fit + new[0], score_fit + new[1], score_lengths + new[2]
            else:
                for total, array in zip((fit_fit, score_fit, score_lengths), new, strict=True):
                    total += array
        by_gamma = {}
        for number, point in enumerate(points):
            gamma = 1 / sum(self._layers[name].shape[1] for name in names) if point.gamma == "auto" else point.gamma
            by_gamma.setdefault(gamma, {}).setdefault(point.C, []).append(number)
        yield from self._at_each_c(fit_fit, score_fit, by_gamma.pop(None, {}))
        if not by_gamma:
            return
        fit_lengths = fit_fit.diagonal().copy()
        if len(names) == 1:
            fit_fit, score_fit = fit_fit.copy(), score_fit.copy()
        for products, lengths in (
            (fit_fit, fit_lengths),
            (score_fit, score_lengths),
        ):  # products -> distances, in place
            products *= -2
            products += lengths[:, np.newaxis]
            products += fit_lengths
        fit_kernel, score_kernel = np.empty_like(fit_fit), np.empty_like(score_fit)
        for gamma, numbers in by_gamma.items():
            for distances, kernel in ((fit_fit, fit_kernel), (score_fit, score_kernel)):
                np.exp(np.multiply(distances, -gamma, out=kernel), out=kernel)
            yield from self._at_each_c(fit_kernel, score_kernel, numbers)

    def _at_each_c(self, fit_kernel, score_kernel, numbers):
        """The same kernel for each C of {C: numbers of points}."""
        largest, last_c = np.inf, 0.0  # of the last machine's coefficients, and its C
        for c in sorted(numbers):
            # A machine none of whose coefficients reaches its C is also the machine of every greater C.
            if largest >= last_c:
                with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):  # saves a tenth
                    machine = self._machine(kernel="precomputed", C=c).fit(fit_kernel, self._labels)
                    predicted = machine.predict(score_kernel)
                largest, last_c = np.abs(machine.dual_coef_).max(initial=0.0), c
            for number in numbers[c]:
                yield number, predicted

    def scores(self, names: Sequence[str], points: Sequence[Point]) -> np.ndarray:
        """Accuracy, or r2 for regression, of an SVM at each point on the concatenation of the layers, (points,)."""
        result = np.empty(len(points))
        for number, predicted in self.predictions(names, points):
            result[number] = self._metric(self._expected, predicted)
        return result


def _accuracy(expected, predicted):
    return np.mean(expected == predicted)
