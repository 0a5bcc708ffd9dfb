"""Linear SVMs by an interior-point method. Without TensorFlow.

libsvm takes hours for a linear kernel on features that are not scaled. With few channels the optimum that it
approaches is a small quadratic programme: S. Fine and K. Scheinberg, Efficient SVM training using low-rank kernel
representations, JMLR 2, 2001; steps by Mehrotra's predictor and corrector.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from keras_audio_transfer.probing.calibration import PairValues

EPSILON = 0.1  # of regression, as SVR's
_MOST_STEPS = 60
_AIM, _ENOUGH = 1e-8, 1e-5  # relative gap between the primal and the dual objective; libsvm is content with more
_STEP = 0.995  # of the way to the nearest bound


def predict(fit: np.ndarray, labels: np.ndarray, score: np.ndarray, c: float) -> np.ndarray:
    """What SVR, for labels that are floats, or SVC predicts with a linear kernel, at the optimum.

    Args:
        fit: clips to fit on, float64 (n_fit, channels).
        labels: theirs, (n_fit,); int64 classes or float64 numbers.
        score: clips to predict, float64 (n_score, channels).
        c: penalty, above 0.

    Returns:
        (n_score,) of the kind of `labels`. Several classes one against one; of equal votes the first class, as libsvm.

    Raises:
        ArithmeticError: the optimum was not found.
    """
    if labels.dtype.kind == "f":
        signs = np.repeat([1.0, -1.0], len(fit))
        w, b = optimum(np.vstack([fit, fit]), signs, signs * np.tile(labels, 2) - EPSILON, c)
        return score @ w + b
    return pair_values(fit, labels, score, c).predicted()


def pair_values(fit: np.ndarray, labels: np.ndarray, score: np.ndarray, c: float) -> PairValues:
    """The decision values of SVC with a linear kernel, at the optimum; see `predict`, for classes."""
    classes = np.unique(labels)
    values = []
    for first, second in combinations(classes, 2):
        of_both = np.isin(labels, (first, second))
        signs = np.where(labels[of_both] == first, 1.0, -1.0)
        w, b = optimum(fit[of_both], signs, np.ones(len(signs)), c)
        values.append(score @ w + b)
    return PairValues(np.stack(values, axis=1), classes)


def optimum(x: np.ndarray, signs: np.ndarray, margins: np.ndarray, c: float) -> tuple[np.ndarray, float]:
    """Minimise |w|^2 / 2 + c * sum(max(0, margins - signs * (x @ w + b))).

    Args:
        x: float64 (n, channels).
        signs: 1 or -1, (n,).
        margins: (n,).
        c: above 0.

    Returns:
        w (channels,), b.

    Raises:
        ArithmeticError: not found.
    """
    # Dual: minimise |z'a|^2 / 2 - margins'a with 0 <= a <= c and signs'a = 0.
    # With v = (w, b) and z = signs * (x, 1) each step solves a system of channels + 1 equations. It is solved for
    # channels of mean 0 and standard deviation 1, and w times that: the same problem, in numbers of one size.
    mean, std = x.mean(axis=0), x.std(axis=0)
    std[std == 0] = 1
    z = np.column_stack([(x - mean) / std, np.ones(len(x))]) * signs[:, np.newaxis]
    lengths = np.append(std**-2, 0.0)  # b is not penalised
    at = _Iterate(
        np.full(len(x), c / 2), np.full(len(x), c / 2), np.ones(len(x)), np.ones(len(x)), np.zeros_like(lengths)
    )
    least, best = np.inf, None
    for _ in range(_MOST_STEPS):
        scores, sums = z @ at.v, z.T @ at.a
        slack = margins - scores
        dual = at.a @ margins - sums[:-1] @ (sums[:-1] / lengths[:-1]) / 2
        gap = at.v @ (lengths * at.v) / 2 + c * np.maximum(slack, 0).sum() - dual
        relative = (abs(gap) + abs(at.v[-1] * sums[-1])) / (1 + abs(dual))
        if relative < least:
            least, best = relative, at.v
        if relative < _AIM:
            break
        try:
            newton = _Newton(at, z, lengths, slack + at.low - at.high, sums - lengths * at.v)
        except (np.linalg.LinAlgError, ValueError):  # singular; not finite
            break
        step = newton.step(-at.a * at.low, -at.room * at.high)
        then = at.moved(step, _length(at, step))
        price, hoped = at.a @ at.low + at.room @ at.high, then.a @ then.low + then.room @ then.high
        aim = (hoped / price) ** 3 * price / (2 * len(x))
        step = newton.step(aim - at.a * at.low - step.a * step.low, aim - at.room * at.high - step.room * step.high)
        at = at.moved(step, _STEP * _length(at, step))
    if least > _ENOUGH:
        raise ArithmeticError(f"no optimum of a linear SVM with C={c:g} on {len(x)} clips: relative gap {least:.1e}")
    w = best[:-1] / std
    return w, best[-1] - w @ mean


def features_of(fit: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features with these inner products, for which a linear SVM says the same: no more channels than clips.

    Args:
        fit: inner products of the clips to fit on, float64 (n_fit, n_fit).
        score: those of the clips to score with these, float64 (n_score, n_fit).

    Returns:
        (n_fit, channels), (n_score, channels). What the clips to score have beside the clips to fit on is left out: no
        SVM looks at it.
    """
    squares, vectors = np.linalg.eigh(fit)
    kept = squares > 1e-12 * squares[-1]
    sizes = np.sqrt(squares[kept])
    return vectors[:, kept] * sizes, score @ vectors[:, kept] / sizes


class _Iterate(NamedTuple):
    """Multipliers, their distance to c (apart, as it comes closer to 0 than c is precise), the bounds' prices, (w, b).

    Also a change of all these.
    """

    a: np.ndarray
    room: np.ndarray
    low: np.ndarray
    high: np.ndarray
    v: np.ndarray

    def moved(self, step: "_Iterate", t: float) -> "_Iterate":
        return _Iterate(*(value + t * change for value, change in zip(self, step, strict=True)))


class _Newton:
    """The linear system of one iterate.

    Args:
        at: the iterate.
        z, lengths: of the problem.
        rest_a, rest_v: by how much the iterate misses the conditions of a and of v.
    """

    def __init__(self, at, z, lengths, rest_a, rest_v):
        self._at, self._z, self._rest_a, self._rest_v = at, z, rest_a, rest_v
        self._weights = at.low / at.a + at.high / at.room
        system = (z / self._weights[:, np.newaxis]).T @ z
        diagonal = np.diag_indices_from(system)
        system[diagonal] += lengths
        self._size = np.sqrt(system[diagonal])
        system /= self._size * self._size[:, np.newaxis]
        system[diagonal] += 1e-14
        self._factor = cho_factor(system, overwrite_a=True)

    def step(self, to_low: np.ndarray, to_high: np.ndarray) -> _Iterate:
        """The change by which low * a and high * room change, to first order, by so much."""
        at, z = self._at, self._z
        r = self._rest_a + to_low / at.a - to_high / at.room
        v = cho_solve(self._factor, (z.T @ (r / self._weights) + self._rest_v) / self._size) / self._size
        a = (r - z @ v) / self._weights
        return _Iterate(a, -a, (to_low - at.low * a) / at.a, (to_high + at.high * a) / at.room, v)


def _length(at, step):
    """How far along `step`, at most 1, until a multiplier, its distance to c or a price is 0."""
    pairs = [*zip(at, step, strict=True)][:-1]
    return min(1.0, *((-value[change < 0] / change[change < 0]).min(initial=np.inf) for value, change in pairs))
