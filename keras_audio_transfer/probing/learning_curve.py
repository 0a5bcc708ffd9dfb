"""Would more clips help? The score of a probe against the number of clips it is fitted on. Without TensorFlow."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.intervals import CONFIDENCE, t_half_width, wilson
from keras_audio_transfer.probing.cross_validation import NESTED, Part, Rows, groups_of
from keras_audio_transfer.probing.grid_search import GridSearch
from keras_audio_transfer.probing.iterative_stratification import iterative_places
from keras_audio_transfer.probing.multi_label import HeldOutLabels, MultiLabelProber, average_precisions
from keras_audio_transfer.probing.prober import Prober, one_thread

if TYPE_CHECKING:
    import pandas as pd

FRACTIONS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
FEWEST_SIZES = 4  # for a law of three numbers
EXPONENTS = np.arange(0.05, 1.01, 0.05)
RESAMPLED = 200
MATTERS = 0.01  # a gain for which one would label clips


class LearningCurve(NamedTuple):
    """The score against the number of clips.

    Attributes:
        sizes: a row a size, the smallest first: clips and clips_a_class that are fitted on (means over the folds), and
            score, deviation, interval_low and interval_high as in `Prober.rows`. The last row is the probe's own. The
            intervals of several labels are NaN where there is one fold.
        twice: clips, clips_a_class, score, interval_low and interval_high with twice the clips of the last row; None
            where that cannot be said.
        sentence: what follows, in words.
    """

    sizes: "pd.DataFrame"
    twice: Mapping[str, float] | None
    sentence: str


@one_thread
def learning_curve(prober: Prober, row: Mapping, progress=iter) -> LearningCurve:
    """Fit the probe of a row on fractions of the clips, and score it on the clips that it is always scored on.

    Each fold keeps the layers and parameters that were chosen for it with all its clips: with fewer clips others may be
    better, so that the curve rather begins too low. Subsets are nested and divide no group; of a small fraction there
    are as many as hold all the clips together.

    The error is taken for an inverse power law, a + b * clips ** -c with c up to 1 (Cortes et al. 1994: Learning
    curves: asymptotic values and rate of convergence, NIPS 6); each size counts in proportion to its clips. What it
    gains with twice as many clips, 0 at least, is added to the row's own score. The interval is Student's t times the
    standard deviation of that sum over resampled subsets and folds (of a single fold: its clips). It does not know
    whether the law holds, nor whether new clips will be like these.

    Args:
        prober: of classes, with the nested protocol.
        row: of `prober.rows`.
        progress: wraps the iterator of the folds, e.g. `tqdm`.

    Raises:
        InputError: another protocol, or numbers to predict.
    """

    if prober.protocol != NESTED or prober.features.is_regression:
        raise InputError("prober: predicts numbers, or is not nested; a learning curve needs classes, nested")
    chosen, search = prober.chosen(row), GridSearch(prober.features, prober.scale, prober.layer_weights)

    def right(number, part):
        """Whether each clip is, which of several folds the mean is of."""
        search.clear()
        found = search.predict(part, *chosen[number]) == prober.features.labels[part.score]
        return found.mean(keepdims=True) if len(chosen) > 1 else found

    return _curve(prober.features, [fold.outer for fold in prober.outer_folds], prober.seed, right, progress)


@one_thread
def learning_curve_of_labels(prober: MultiLabelProber, held_out: HeldOutLabels, progress=iter) -> LearningCurve:
    """As `learning_curve`, of clips with several labels: the score is the mean average precision.

    Args:
        prober, held_out: of the clips.
        progress: see `learning_curve`.
    """
    chosen, labels = [*held_out.chosen.values()], prober.features.labels

    def precision(number, part):
        values = prober.values_of(part, *chosen[number])
        return np.nanmean(average_precisions(labels[part.score], values), keepdims=True)

    return _curve(prober.features, [fold.outer for fold in prober.folds], prober.seed, precision, progress)


def _curve(features, parts: list[Part], seed, score: Callable[[int, Part], np.ndarray], progress):
    """The curve of a score of (the fold's number, the part)."""
    import pandas as pd

    subsets, columns, rows = _subsets(features, [part.fit for part in parts], seed), [], []
    for number, part in enumerate(progress(parts)):
        named = [[part._replace(fit=folds[number]) for folds in of_size] for of_size in subsets]
        columns.append([np.array([score(number, some) for some in of_size]) for of_size in named])
    scores = [np.concatenate(of_size, axis=1) for of_size in zip(*columns, strict=True)]
    for of_size, values in zip(subsets, scores, strict=True):
        clips = np.mean([len(fit) for folds in of_size for fit in folds])
        row = {"clips": round(clips), "clips_a_class": clips / len(features.label_names)}
        rows.append({**row, **_summary(values)})
    sizes = pd.DataFrame(rows)
    return LearningCurve(sizes, *_extrapolated(sizes, scores, seed))


def nested_places(features: FeatureTable, rows: Rows, seed: int, number: int = 0) -> np.ndarray:
    """A place in (0, 1) for each clip, the same for all clips of a group; those up to a fraction are a subset.

    Args:
        features: with labels of classes; of several labels a clip see `iterative_places`.
        rows: the clips to choose from.
        seed, number: which of the possible orders.

    Returns:
        float64 (rows,). The subset has that fraction of each class, rounded; of groups as near as they allow.
    """
    labels, unit = features.labels[rows], groups_of(features, rows)
    if labels.ndim == 2:
        return iterative_places(labels, unit, [seed, number])
    order = np.random.default_rng([seed, number]).permutation(unit.max() + 1)[unit]
    places = np.empty(len(rows))
    for label in np.unique(labels):
        of_label = np.flatnonzero(labels == label)
        of_label = of_label[np.argsort(order[of_label], kind="stable")]
        places[of_label] = (np.arange(len(of_label)) + 0.5) / len(of_label)
    return (np.bincount(unit, places) / np.bincount(unit))[unit]


def _subsets(features, fits, seed):
    """The clips to fit on, [size][subset][fold], the smallest size first; all have some with and without each label."""
    labels = features.labels if features.labels.ndim == 2 else np.eye(len(features.label_names))[features.labels]
    sizes = {}
    for fraction in FRACTIONS:
        of_size = [
            [fit[nested_places(features, fit, seed, number) <= fraction] for fit in fits]
            for number in range(math.ceil(1 / fraction))
        ]
        pairs = [pair for folds in of_size for pair in zip(folds, fits, strict=True)]
        if all((_has_both(labels[some]) == _has_both(labels[fit])).all() for some, fit in pairs):
            sizes[np.mean([len(some) for some, _ in pairs])] = of_size
    return [*sizes.values()]


def _has_both(labels):
    return labels.any(axis=0) & ~labels.all(axis=0)


def _summary(values):
    """A size's columns, as `Prober.rows` has them.

    Args:
        values: scores of (subsets, folds); or of a single fold, whether its clips were right, bool (subsets, clips).
    """
    folds = values.mean(axis=0)
    score = folds.mean()
    if values.dtype == bool:
        low, high = wilson(round(score * len(folds)), len(folds))
        deviation = np.nan
    else:
        half, deviation = t_half_width(folds), folds.std(ddof=1) if len(folds) > 1 else np.nan
        low, high = np.maximum(score - half, 0.0), np.minimum(score + half, 1.0)
    return {"score": score, "deviation": deviation, "interval_low": low, "interval_high": high}


def _extrapolated(sizes, scores, seed):
    """What `LearningCurve` calls twice and sentence."""
    from scipy import stats

    n_units = scores[0].shape[1]
    if len(sizes) < FEWEST_SIZES:
        return None, "too few clips to say whether more would help"
    if n_units == 1:
        return None, "no gain from more clips can be foretold: there is one score, of one test split"
    now, clips, rng = sizes.iloc[-1], sizes["clips"].to_numpy(), np.random.default_rng(seed)
    clips = clips / clips[-1]
    resampled = np.empty((RESAMPLED, 2))  # the score with twice as many clips, the gain
    for number in range(RESAMPLED):
        units = rng.integers(n_units, size=n_units)
        means = [values[rng.integers(len(values), size=len(values))][:, units].mean() for values in scores]
        gain = _gain_of_twice(clips, means)
        resampled[number] = means[-1] + gain, gain
    gain = _gain_of_twice(clips, sizes["score"].to_numpy())
    twice = now["score"] + gain
    # A standard deviation over resampled folds is that of n, not of n - 1.
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, n_units - 1) * np.sqrt(n_units / (n_units - 1))
    half, half_gain = quantile * resampled.std(axis=0)
    if not gain:
        why = "is as good with fewer clips" if now["score"] < 1 else "cannot be better"
        return None, f"no gain from more clips can be foretold: the score {why}"
    if gain >= MATTERS and gain > half_gain:
        verdict = "is likely to help"
    elif gain + half_gain < 2 * MATTERS:
        verdict = "is not likely to help much"
    else:
        why = "the scored clips are too few" if np.isnan(now["deviation"]) else "the folds differ too much"
        return None, f"no gain from more clips can be foretold: {why}"
    low, high = max(twice - half, 0.0), min(twice + half, 1.0)
    row = {"clips": 2 * now["clips"], "clips_a_class": 2 * now["clips_a_class"], "score": twice}
    said = f"twice as many clips: {twice:.3f} ({low:.3f} to {high:.3f}) instead of {now['score']:.3f}"
    return {**row, "interval_low": low, "interval_high": high}, f"{said}; adding clips {verdict}"


def _gain_of_twice(clips, scores):
    """What the law gains with twice as many clips, up to a score of 1; `clips` are fractions of all."""
    from scipy.optimize import nnls

    weights, best = np.sqrt(clips), (np.inf,)
    for exponent in EXPONENTS:
        terms = np.stack([np.ones_like(clips), clips**-exponent], axis=1)
        (_, b), residual = nnls(terms * weights[:, np.newaxis], (1 - np.asarray(scores)) * weights)
        best = min(best, (residual, b * (1 - 2**-exponent)))
    return min(best[1], 1 - scores[-1])
