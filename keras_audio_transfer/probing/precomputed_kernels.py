"""SVMs on any combination of layers, from inner products that are computed once a layer. Without TensorFlow.

The concatenation of layers has the kernels of its layers: its inner products are the sum of theirs, each times the
layer's factor, and so are its squared distances, |x - x'|^2 = <x, x> + <x', x'> - 2 <x, x'>. So the inner products of
each layer are all that is kept.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, _libsvm

from keras_audio_transfer.probing import linear_svm
from keras_audio_transfer.probing.calibration import PairValues
from keras_audio_transfer.probing.layer_weights import CHANNELS, layer_factors

# Inner products that are kept; beyond it they are computed again, which takes little beside fitting: a choice among 20
# layers of 200 channels and 4,420 clips, 3,240 of them fitted on, two at a time, took 2.4 GB in all; with 4e9 3.6 GB,
# and no less time.
HELD_BYTES = 2e9
BLOCK_BYTES = 32e6  # of a layer's channels, in float64, that are worked on at a time
_ROWS = 64  # of inner products that are added up at a time
# Iterations times clips after which libsvm is not expected to find a linear SVM soon; for C below 1, more in
# proportion: there the published scores of Choi et al. 2017 are libsvm's own, short of the optimum.
LIBSVM_WORK = 1e9
PREDICT, PAIR_VALUES = "predict", "pair_values"
# As SVC and SVR call libsvm, with their defaults.
_SVC, _SVR = ({"svm_type": number, "kernel": "precomputed", "cache_size": 200.0} for number in (0, 3))
_libsvm.set_verbosity_wrap(0)


class SVMParams(NamedTuple):
    """Parameters of an SVM on joined layers.

    Attributes:
        kernel: 'linear' or 'rbf'.
        C: penalty, above 0.
        gamma: above 0, or 'auto': 1 / n_features, the number of channels, however the layers are weighted; None for
            the linear kernel.
        layer_weights: 'channels' or 'equal': see `layer_weights.layer_factors`.
    """

    kernel: str
    C: float
    gamma: float | str | None = None
    layer_weights: str = CHANNELS

    def of_svm(self) -> dict[str, float | str]:
        """The arguments of scikit-learn's SVM."""
        gamma = {} if self.gamma is None else {"gamma": self.gamma}
        return {"kernel": self.kernel, "C": self.C, **gamma}

    def __str__(self):
        gamma = "" if self.gamma is None else f" gamma={self.gamma}"
        weights = "" if self.layer_weights == CHANNELS else f" layer_weights={self.layer_weights}"
        return f"{self.kernel} C={self.C:g}{gamma}{weights}"


class GramMatrices:
    """The inner products of clips' features, layer by layer, each computed when it is first asked for and then kept.

    Args:
        layers: layer name -> (clips, channels).
        scale: whether each channel is first brought to mean 0 and standard deviation 1 over the clips
            that are fitted on.
    """

    def __init__(self, layers: Mapping[str, np.ndarray], scale: bool):
        self._layers, self._rows = layers, {}
        n_clips = max(len(values) for values in layers.values())
        self._room = max(1, int(HELD_BYTES / (8 * n_clips**2)))
        # Functions that do not know this object: a circle of references would keep gigabytes until it is looked for.
        self._blocks = partial(_blocks, layers, scale, self._rows)
        self._products = lru_cache(self._room)(partial(_inner_products, self._blocks, self._rows))

    def hold(self, part: str, fit: np.ndarray, score: np.ndarray, names: Iterable[str]) -> None:
        """Compute those of the clips to fit on and to score, under the name `part`, as many as may be kept."""
        self._rows[part] = fit, score
        for name in list(dict.fromkeys(names))[: self._room]:
            self._products(part, name)

    def clear(self) -> None:
        """Keep nothing."""
        self._products.cache_clear()
        self._rows.clear()

    def n_features(self, names: Sequence[str]) -> int:
        """How many channels the concatenation has."""
        return sum(self._layers[name].shape[1] for name in names)

    def factors(self, names: Sequence[str], layer_weights: str) -> tuple[float, ...]:
        """See `layer_weights.layer_factors`."""
        return layer_factors([self._layers[name].shape[1] for name in names], layer_weights)

    def features(self, part: str, names: Sequence[str], factors: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """The concatenation itself, scaled if asked for: (n_fit, channels), (n_score, channels); float64.

        Each layer's inner products are multiplied by its factor, its features by the square root.
        """
        blocks = [
            [np.sqrt(factor) * array for array in block]
            for name, factor in zip(names, factors, strict=True)
            for block in self._blocks(part, name)
        ]
        return tuple(np.concatenate(arrays, axis=1) for arrays in zip(*blocks, strict=True))

    def sums(
        self, part: str, names: Sequence[str], factors: Sequence[float]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the concatenation: (n_fit, n_fit), (n_score, n_fit), squared lengths (n_score,); float64, new arrays.

        Each layer's inner products are multiplied by its factor.
        """
        totals = tuple(factors[0] * array for array in self._products(part, names[0]))
        for name, factor in zip(names[1:], factors[1:], strict=True):
            for total, array in zip(totals, self._products(part, name), strict=True):
                for start in range(0, len(total), _ROWS):
                    total[start : start + _ROWS] += factor * array[start : start + _ROWS]
        return totals


def _blocks(layers, scale, rows, part, name):
    """Some of a layer's channels after the others: float64 of the clips to fit on and to score."""
    layer = layers[name]
    step = max(1, int(BLOCK_BYTES / (8 * len(layer))))
    for start in range(0, layer.shape[1], step):
        fit, score = (layer[of, start : start + step].astype(np.float64) for of in rows[part])
        if scale:
            scaler = StandardScaler().fit(fit)
            fit, score = scaler.transform(fit), scaler.transform(score)
        yield fit, score


def _inner_products(blocks, rows, part, name):
    n_fit, n_score = map(len, rows[part])
    products = np.zeros((n_fit, n_fit)), np.zeros((n_score, n_fit)), np.zeros(n_score)
    for fit, score in blocks(part, name):
        products[0][...] += fit @ fit.T
        products[1][...] += score @ fit.T
        products[2][...] += np.einsum("ij,ij->i", score, score)
    return products


def predictions(
    products: tuple[np.ndarray, np.ndarray, np.ndarray],
    features: Callable[[], tuple[np.ndarray, np.ndarray]],
    n_features: int,
    labels: np.ndarray,
    params: Sequence[SVMParams],
    wanted: str = PREDICT,
) -> Iterator[tuple[int, np.ndarray | PairValues]]:
    """Fit an SVM with each of the parameters.

    Args:
        products: as `GramMatrices.sums` returns them; they are overwritten.
        features: returns those of the same layers, as `GramMatrices.features` does. Called only where libsvm gives up
            on a linear kernel of fewer channels than clips.
        n_features: channels of the same layers.
        labels: of the clips to fit on, (n_fit,); float for regression.
        params: parameters of each SVM.
        wanted: 'predict', or 'pair_values': the decision values of classes.

    Yields:
        The number of the parameters and what their SVM predicts for the clips to score, (n_score,), or its
        `PairValues`, in any order.
    """
    by_gamma = {}
    for number, point in enumerate(params):
        gamma = 1 / n_features if point.gamma == "auto" else point.gamma
        by_gamma.setdefault(gamma, {}).setdefault(point.C, []).append(number)
    fit_fit, score_fit, score_lengths = products
    if n_features >= len(labels):
        features = partial(linear_svm.features_of, fit_fit, score_fit)
    yield from _at_each_c(fit_fit, score_fit, labels, by_gamma.pop(None, {}), wanted, features)
    if not by_gamma:
        return
    fit_lengths = fit_fit.diagonal().copy()
    for array, lengths in ((fit_fit, fit_lengths), (score_fit, score_lengths)):  # products -> squared distances
        array *= -2
        array += lengths[:, np.newaxis]
        array += fit_lengths
    fit_kernel, score_kernel, last = np.empty_like(fit_fit), np.empty_like(score_fit), None
    for gamma in sorted(by_gamma):
        for distances, kernel in ((fit_fit, fit_kernel), (score_fit, score_kernel)):
            if last is not None and gamma == 4 * last:  # exp(-4 gamma d) = exp(-gamma d)^4, a quarter of the time
                np.square(np.square(kernel, out=kernel), out=kernel)
            else:
                np.exp(np.multiply(distances, -gamma, out=kernel), out=kernel)
        last = gamma
        yield from _at_each_c(fit_kernel, score_kernel, labels, by_gamma[gamma], wanted)


def _at_each_c(fit_kernel, score_kernel, labels, numbers, wanted, features=None):
    """The same kernel for each C of {C: numbers of params}; with `features`, the linear kernel of what they return."""
    largest, last_c, gave_up = np.inf, 0.0, False  # of the last SVM: coefficients, C, whether it was not found
    for c in sorted(numbers):
        # An SVM none of whose coefficients reaches its C is also the SVM of every greater C.
        if largest >= last_c and not gave_up:
            most = -1 if features is None else min(int(LIBSVM_WORK / (len(labels) * min(c, 1))), 2**31 - 1)
            predicted, largest, gave_up = _by_libsvm(fit_kernel, score_kernel, labels, c, most, wanted)
            last_c = c
        if gave_up:  # greater C are harder still
            of_fit, of_score = features()
            predicted = getattr(linear_svm, wanted)(of_fit, labels, of_score, c)
        for number in numbers[c]:
            yield number, predicted


def _by_libsvm(fit_kernel, score_kernel, labels, c, most, wanted):
    """What is wanted, the largest coefficient, and whether libsvm gave up after `most` iterations.

    Not by SVC and SVR themselves: with a few hundred clips they take as long again to check what they are given.
    """
    is_regression = labels.dtype.kind == "f"
    classes, targets = (None, labels) if is_regression else np.unique(labels, return_inverse=True)
    how = _SVR if is_regression else _SVC
    *svm, status, _ = _libsvm.fit(fit_kernel, targets.astype(np.float64), C=c, max_iter=most, **how)
    largest, gave_up = np.abs(svm[3]).max(initial=0.0), status != 0
    if wanted == PAIR_VALUES:
        return PairValues(_libsvm.decision_function(score_kernel, *svm, **how), classes), largest, gave_up
    predicted = _libsvm.predict(score_kernel, *svm, **how)
    return predicted if is_regression else classes[predicted.astype(np.intp)], largest, gave_up


def pair_values(svm: SVC, x: np.ndarray) -> PairValues:
    """The decision values of a fitted SVM for features, or kernels, as it was fitted on them."""
    svm.decision_function_shape = "ovo"
    values = svm.decision_function(x)
    # scikit-learn turns libsvm's numbers round where there are two classes
    return PairValues(-values[:, np.newaxis] if values.ndim == 1 else values, svm.classes_)


def score(expected: np.ndarray, predicted: np.ndarray) -> float:
    """Accuracy; r2 of numbers. Neither can be more than 1."""
    return r2_score(expected, predicted) if expected.dtype.kind == "f" else np.mean(expected == predicted)
