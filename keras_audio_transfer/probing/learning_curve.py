"""Would more clips help? The score of a probe against the number of clips it is fitted on. Without TensorFlow."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_table import FeatureTable
from keras_audio_transfer.intervals import CONFIDENCE, t_half_width, wilson
from keras_audio_transfer.probing.cross_validation import NESTED, Rows
from keras_audio_transfer.probing.grid_search import GridSearch
from keras_audio_transfer.probing.prober import Prober, one_thread

if TYPE_CHECKING:
    import pandas as pd

FRACTIONS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
FEWEST_SIZES = 4  # for a law of three numbers
EXPONENTS = np.arange(0.05, 1.01, 0.05)
RESAMPLED = 200
MATTERS = 0.01  # a gain in accuracy for which one would label clips


class LearningCurve(NamedTuple):
    """The score against the number of clips.

    Attributes:
        sizes: a row a size, the smallest first: clips and clips_a_class that are fitted on (means over the folds), and
            score, deviation, interval_low and interval_high as in `Prober.rows`. The last row is the probe's own.
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
    import pandas as pd

    if prober.protocol != NESTED or prober.features.is_regression:
        raise InputError("prober: predicts numbers, or is not nested; a learning curve needs classes, nested")
    n_classes, rows = len(np.unique(prober.features.labels)), []
    subsets = _subsets(prober)
    scores = _scores(prober, row, subsets, progress)
    for of_size, values in zip(subsets, scores, strict=True):
        clips = np.mean([len(fit) for folds in of_size for fit in folds])
        rows.append({"clips": round(clips), "clips_a_class": clips / n_classes, **_summary(values, prober)})
    sizes = pd.DataFrame(rows)
    return LearningCurve(sizes, *_extrapolated(sizes, scores, prober.seed))


def nested_places(features: FeatureTable, rows: Rows, seed: int, number: int = 0) -> np.ndarray:
    """A place in (0, 1) for each clip, the same for all clips of a group; those up to a fraction are a subset.

    Args:
        features: with one label a clip.
        rows: the clips to choose from.
        seed, number: which of the possible orders.

    Returns:
        float64 (rows,). The subset has that fraction of each class, rounded; of groups as near as they allow.
    """
    labels, groups = features.labels[rows], features.groups
    names = [f"\0{row}" if groups is None or not groups[row] else str(groups[row]) for row in rows]
    _, unit = np.unique(names, return_inverse=True)
    order = np.random.default_rng([seed, number]).permutation(unit.max() + 1)[unit]
    places = np.empty(len(rows))
    for label in np.unique(labels):
        of_label = np.flatnonzero(labels == label)
        of_label = of_label[np.argsort(order[of_label], kind="stable")]
        places[of_label] = (np.arange(len(of_label)) + 0.5) / len(of_label)
    return (np.bincount(unit, places) / np.bincount(unit))[unit]


def _subsets(prober):
    """The clips to fit on, [size][subset][fold], the smallest size first; sizes that leave a class without are none."""
    labels, fits = prober.features.labels, [fold.outer.fit for fold in prober.outer_folds]
    sizes = {}
    for fraction in FRACTIONS:
        of_size = [
            [fit[nested_places(prober.features, fit, prober.seed, number) <= fraction] for fit in fits]
            for number in range(math.ceil(1 / fraction))
        ]
        pairs = [pair for folds in of_size for pair in zip(folds, fits, strict=True)]
        if all(len(np.unique(labels[some])) == len(np.unique(labels[fit])) for some, fit in pairs):
            sizes[np.mean([len(some) for some, _ in pairs])] = of_size
    return [*sizes.values()]


def _scores(prober, row, subsets, progress):
    """Of each size (subsets, folds), accuracies; of a single fold (subsets, clips), whether each was right."""
    chosen, columns = prober.chosen(row), []
    search = GridSearch(prober.features, prober.scale, prober.layer_weights)
    for number, fold in enumerate(progress(prober.outer_folds)):
        expected, right = prober.features.labels[fold.outer.score], []
        for of_size in subsets:
            of_fold = []
            for folds in of_size:
                of_fold.append(search.predict(fold.outer._replace(fit=folds[number]), *chosen[number]) == expected)
                search.clear()
            right.append(np.array(of_fold))
        columns.append(right)
    if len(columns) == 1:
        return columns[0]
    return [np.stack([right.mean(axis=1) for right in of_size], axis=1) for of_size in zip(*columns, strict=True)]


def _summary(values, prober):
    """A size's columns, as `Prober.rows` has them."""
    score, folds = values.mean(axis=0).mean(), values.mean(axis=0)
    if len(prober.outer_folds) == 1:
        low, high = wilson(round(score * len(folds)), len(folds))
        deviation = np.nan
    else:
        half, deviation = t_half_width(folds), folds.std(ddof=1)
        low, high = max(score - half, 0.0), min(score + half, 1.0)
    return {"score": score, "deviation": deviation, "interval_low": low, "interval_high": high}


def _extrapolated(sizes, scores, seed):
    """What `LearningCurve` calls twice and sentence."""
    from scipy import stats

    n_units = scores[0].shape[1]
    if len(sizes) < FEWEST_SIZES or n_units == 1:
        return None, "too few clips to say whether more would help"
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
