"""What scores over targets, seeds and folds allow to say: tests, intervals, correlations. Without TensorFlow.

Formulae in words, their sources and their limits: docs/study_statistics.md. Intervals are of 95 %, tests two-sided.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from keras_audio_transfer.config import number, shown
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.finetuning_results import first_crossing
from keras_audio_transfer.intervals import CONFIDENCE
from keras_audio_transfer.study.arrays import finite

DRAWS = 10_000
FEWEST_POINTS, _FEWEST_GROUPS = 5, 3  # of which a correlation says anything
_DECIMALS = 12  # what differs after these differs by rounding


class Mean(NamedTuple):
    """A mean difference.

    Attributes:
        mean: in the unit of the differences.
        low, high: its interval; NaN of a single difference.
    """

    mean: float
    low: float
    high: float


class CorrectedTest(NamedTuple):
    """A mean difference, and whether it may be none.

    Attributes:
        mean, low, high: as of `Mean`.
        t: the mean over its standard error.
        p: how probable a `t` as far from 0 is where there is no difference.
        n: differences. Of a single one, and where all are alike, nothing tells how far they are spread: all but `mean`
            is NaN.
    """

    mean: float
    low: float
    high: float
    t: float
    p: float
    n: int


def corrected_t_test(differences: ArrayLike, n_train: float, n_test: float) -> CorrectedTest:
    """The corrected resampled t-test: differences that share training clips say less than independent ones.

    The variance of the mean of n differences is taken for (1 / n + n_test / n_train) times theirs, with n - 1 degrees
    of freedom (Nadeau & Bengio 2003: Inference for the generalization error, Machine Learning 52; for repeated
    cross-validation Bouckaert & Frank 2004: Evaluating the replicability of significance tests).

    Args:
        differences: of the scores of two methods, (seeds and folds,), in any order.
        n_train, n_test: clips that each fold may fit on, and scores. Where it fits on a subset, those that the subset
            is drawn from: smaller subsets share no more clips, and with their size hardly any difference is found.

    Raises:
        InputError: no differences, NaN among them, or a number of clips that is not above 0.

    >>> test = corrected_t_test([0.02, 0.05, 0.03, 0.04, 0.01], n_train=320, n_test=80)
    >>> round(test.mean, 3), round(test.low, 3), round(test.high, 3), round(test.p, 3)
    (0.03, 0.001, 0.059, 0.047)
    """
    from scipy import stats  # takes a second to import

    values = finite("differences", differences, ["seeds and folds"])
    for name, clips in (("n_train", n_train), ("n_test", n_test)):
        if not 0 < number(clips) < np.inf:
            raise InputError(f"{name}: {shown(clips)} is not allowed; expected a number of clips above 0")
    n, mean = len(values), values.mean()
    if np.ptp(values.round(_DECIMALS)) == 0:
        return CorrectedTest(float(mean), np.nan, np.nan, np.nan, np.nan, n)
    error = float(np.std(values, ddof=1) * np.sqrt(1 / n + n_test / n_train))
    t = mean / error
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error
    return CorrectedTest(*map(float, (mean, mean - half, mean + half, t, 2 * stats.t.sf(abs(t), n - 1))), n)


def holm(p_values: ArrayLike) -> np.ndarray:
    """p-values corrected for their number (Holm 1979: A simple sequentially rejective multiple test procedure).

    Args:
        p_values: (tests,), of one family. NaN stands for a test that was not made, and stays.

    Raises:
        InputError: values outside of 0 to 1, or of another shape.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.array(p_values, np.float64)
    made = ~np.isnan(values)
    family = values[made]
    if values.ndim != 1 or not ((family >= 0) & (family <= 1)).all():
        raise InputError("p_values: have another shape, or values outside of 0 to 1; expected one a test")
    order = np.argsort(family)
    family[order] = np.maximum.accumulate(family[order] * np.arange(len(family), 0, -1)).clip(max=1)
    values[made] = family
    return values


class Ranks(NamedTuple):
    """How methods rank over targets.

    Attributes:
        mean_ranks: (methods,); 1 is the best, ties share their mean.
        chi2: Friedman's statistic, without a correction for ties, which makes it no larger.
        f, p: Iman and Davenport's statistic of it, and how probable one as large is where all methods are alike; never
            less than the chance that all targets rank the methods alike, which few targets soon reach.
        critical_difference: how far two mean ranks have to lie apart, by Nemenyi's test.
        groups: columns, best first, none of which differs significantly from another of its group; those alone are
            left out.
    """

    mean_ranks: np.ndarray
    chi2: float
    f: float
    p: float
    critical_difference: float
    groups: list[tuple[int, ...]]


def friedman(scores: ArrayLike) -> Ranks:
    """Friedman's test of methods over targets, and Nemenyi's critical difference at 5 %.

    After Demsar 2006 (Statistical comparisons of classifiers over multiple data sets, JMLR 7, section 3.2).

    Args:
        scores: (targets, methods), the higher the better; at least two of each. Those that differ by rounding only tie.

    Raises:
        InputError: another shape, or NaN: leave out the targets that lack a method.

    >>> ranks = friedman([[0.9, 0.8, 0.7], [0.8, 0.7, 0.6], [0.7, 0.6, 0.5], [0.9, 0.5, 0.7]])
    >>> ranks.mean_ranks.tolist(), round(ranks.critical_difference, 2), ranks.groups
    ([1.0, 2.25, 2.75], 1.66, [(0, 1), (1, 2)])
    """
    from scipy import stats

    table = finite("scores", scores, ["targets", "methods"], fewest=2)
    n, k = table.shape
    ranks = stats.rankdata(-table.round(_DECIMALS), axis=1).mean(axis=0)
    chi2 = float(12 * n / (k * (k + 1)) * ((ranks - (k + 1) / 2) ** 2).sum())
    rest = n * (k - 1) - chi2
    f = (n - 1) * chi2 / rest if rest > 1e-9 else np.inf
    all_alike = np.exp((1 - n) * math.lgamma(k + 1))
    p = float(max(stats.f.sf(f, k - 1, (k - 1) * (n - 1)), all_alike))
    apart = stats.studentized_range.ppf(CONFIDENCE, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n))
    order, groups, covered = np.argsort(ranks, kind="stable"), [], 0
    for first in range(k):
        end = int(np.searchsorted(ranks[order], ranks[order[first]] + apart, side="right"))
        if end > max(covered, first + 1):
            groups.append(tuple(order[first:end].tolist()))
            covered = end
    return Ranks(ranks, chi2, float(f), p, float(apart), groups)


def bootstrap_mean(differences: Sequence[ArrayLike], seed: int = 0) -> Mean:
    """The mean difference over targets, each of which counts alike, with a hierarchical bootstrap interval.

    Targets are drawn, and within each its seeds and its folds, each with replacement: a fold has the same test clips
    under all seeds, so both are crossed (Owen 2007: The pigeonhole bootstrap, Annals of Applied Statistics 1). As few
    units give too narrow an interval, the draws are spread around the mean, by as much as makes an interval of a normal
    distribution Student's (compare Hesterberg 2015: What teachers should know about the bootstrap); the
    units are the targets; of a single target its seeds or folds, whichever are more.

    Args:
        differences: of two methods, a table (seeds, folds) a target.
        seed: of the draws.

    Raises:
        InputError: no target, a seed that lacks a fold, or NaN.

    >>> estimate = bootstrap_mean([[[0.02, 0.03], [0.04, 0.02]], [[0.01, 0.02]], [[0.05, 0.03], [0.04, 0.06]]])
    >>> round(estimate.mean, 4), estimate.low < estimate.mean < estimate.high
    (0.0292, True)
    """
    tables = [finite(f"differences[{i}]", table, ["seeds", "folds"])[..., None] for i, table in enumerate(differences)]
    if not tables:
        raise InputError("differences: are of no target; expected at least one")
    (mean,), draws = _drawn_means(tables, seed)
    return Mean(float(mean), *_interval(draws[:, 0]))


def _drawn_means(tables, seed):
    """Of tables (seeds, folds, values), one a target, the means (values,), and draws of them (draws, values)."""
    from scipy import stats

    rng, n = np.random.default_rng(seed), len(tables)
    mean = np.mean([table.mean(axis=(0, 1)) for table in tables], axis=0)
    chosen = rng.integers(n, size=(DRAWS, n))
    draws = np.empty((DRAWS, n, len(mean)))
    for number_of_table, table in enumerate(tables):
        here = chosen == number_of_table
        seeds, folds = (rng.multinomial(size, np.full(size, 1 / size), here.sum()) / size for size in table.shape[:2])
        draws[here] = np.einsum("dfv,df->dv", np.tensordot(seeds, table, 1), folds)
    units = n if n > 1 else max(tables[0].shape[:2])
    if units == 1:
        return mean, np.full((DRAWS, len(mean)), np.nan)
    middle = (1 + CONFIDENCE) / 2
    factor = np.sqrt(units / (units - 1)) * stats.t.ppf(middle, units - 1) / stats.norm.ppf(middle)
    return mean, mean + factor * (draws.mean(axis=1) - mean)


def _interval(draws):
    tail = (1 - CONFIDENCE) / 2
    return (float(end) for end in np.quantile(draws, [tail, 1 - tail], method="inverted_cdf"))


class ClipsToMatch(NamedTuple):
    """How many training clips one method needs for the score of another.

    Attributes:
        clips: a class; infinite where the curve does not get there within its range; the smallest of the curve where it
            is there already, and fewer may be enough.
        low, high: the interval, with the same two meanings; NaN where there are one seed and one fold.
        sentence: the same in words.
    """

    clips: float
    low: float
    high: float
    sentence: str


def clips_to_match(curve: Mapping[float, ArrayLike], goal: ArrayLike, seed: int = 0) -> ClipsToMatch:
    """The number of clips at which a learning curve reaches a goal, interpolated over the logarithm of the clips.

    The interval is of curves and goals that are drawn as in `bootstrap_mean`, seeds and folds the same for both.

    Args:
        curve: clips a class -> scores (seeds, folds).
        goal: scores (seeds, folds) of the other method at the number of clips that is asked about. Where there is one
            seed, it stands for all of the others' seeds.
        seed: of the draws.

    Raises:
        InputError: no clips, a number of them that is not above 0, NaN, or seeds or folds that differ.

    >>> clips_to_match({5: [[0.5, 0.52]], 20: [[0.7, 0.72]], 80: [[0.8, 0.82]]}, [[0.65, 0.67]]).sentence
    'matched with 14.1 clips a class (14.1 to 14.1)'
    """
    for clips in curve:
        if not 0 < number(clips) < np.inf:
            raise InputError(f"curve: is of {shown(clips)} clips; expected numbers above 0")
    sizes = sorted(curve)
    if not sizes:
        raise InputError("curve: has no scores; expected those of at least one number of clips")
    scores = [finite(f"curve[{size:g}]", curve[size], ["seeds", "folds"]) for size in sizes]
    scores.append(finite("goal", goal, ["seeds", "folds"]))
    shapes = {values.shape for values in scores}
    n_seeds = {seeds for seeds, _ in shapes} - {1}
    if len(n_seeds) > 1 or len({folds for _, folds in shapes}) > 1:
        raise InputError(f"curve: and goal have the shapes {sorted(shapes)}; expected the same seeds and folds for all")
    table = np.stack(np.broadcast_arrays(*scores), axis=-1)
    mean, draws = _drawn_means([table], seed)
    places = np.log(np.array(sizes, np.float64))
    (found,) = np.exp(first_crossing(places, mean[None, :-1], mean[-1:])).round(6)
    low, high = _interval(np.exp(first_crossing(places, draws[:, :-1], draws[:, -1])).round(6))
    if np.isnan(draws[0, 0]):
        low = high = np.nan

    def words(clips):
        if np.isinf(clips):
            return f"more than {sizes[-1]:.3g}"
        return f"at most {sizes[0]:.3g}" if clips <= round(sizes[0], 6) else f"{clips:.3g}"

    within = "" if np.isnan(low) else f" ({words(low)} to {words(high)})"
    is_found = f"not matched with {sizes[-1]:.3g}" if np.isinf(found) else f"matched with {words(found)}"
    return ClipsToMatch(float(found), low, high, f"{is_found} clips a class{within}")


class Correlation(NamedTuple):
    """How two measures of the same points go together.

    Attributes:
        n: points.
        pearson, spearman: correlations of all points, -1 to 1.
        pearson_low, pearson_high, spearman_low, spearman_high: the lowest and highest with any one point, or group of
            points, left out.
        predictive_r2: of predicting what is left out by a straight line through the others: 1 is perfect, 0 or less no
            better than the mean of the others.
        sentence: the same in words. Where it says that the points are too few, or too much alike, the rest is NaN.
    """

    n: int
    pearson: float
    spearman: float
    pearson_low: float
    pearson_high: float
    spearman_low: float
    spearman_high: float
    predictive_r2: float
    sentence: str


def leave_one_out_correlation(
    x: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None, group: str = "group"
) -> Correlation:
    """Correlations, how much they depend on a single point or group, and whether they predict what was left out.

    Args:
        x, y: (points,), at least five.
        groups: (points,), what has points in common that are not independent, such as a target; at least three. They
            are left out as wholes. None: each point is one.
        group: what such a group is called in the sentence.

    Raises:
        InputError: of several lengths, or NaN among them.

    >>> found = leave_one_out_correlation([1, 2, 3, 4, 5, 6], [1, 3, 2, 5, 4, 6])
    >>> round(found.spearman, 3), round(found.spearman_low, 3), round(found.predictive_r2, 3)
    (0.886, 0.8, 0.73)
    >>> leave_one_out_correlation([1, 2, 3], [1, 2, 3]).sentence
    '3 points are too few to say more; expected 5 or more'
    """
    from scipy import stats

    x, y = finite("x", x, ["points"], fewest=0), finite("y", y, ["points"], fewest=0)
    n = len(x)
    if len(y) != n:
        raise InputError(f"x: has {n} points, y {len(y)}; expected as many of both")
    names, group = (np.arange(n), "point") if groups is None else (np.asarray(groups), group)
    if names.shape != (n,):
        raise InputError(f"groups: has shape {names.shape}; expected one of each of the {n} points")
    kept = [names != left_out for left_out in dict.fromkeys(names.tolist())]
    if n < FEWEST_POINTS:
        why = f"{n} point{' is' if n == 1 else 's are'} too few to say more; expected {FEWEST_POINTS} or more"
    elif len(kept) < _FEWEST_GROUPS:
        why = f"{n} points of too few {group}s ({len(kept)}) to say more; expected {_FEWEST_GROUPS} or more"
    elif any(np.ptp(values[rest]) == 0 for values in (x, y) for rest in kept):
        why = f"{n} points are too much alike to say more; expected them to differ, whichever {group} is left out"
    else:
        why = ""
    if why:
        return Correlation(n, *[np.nan] * 7, why)
    pearson, spearman = (float(of(x, y).statistic) for of in (stats.pearsonr, stats.spearmanr))
    left_out = np.array([[of(x[rest], y[rest])[0] for rest in kept] for of in (stats.pearsonr, stats.spearmanr)])
    errors, of_mean = y.copy(), y.copy()
    for rest in kept:
        line = stats.linregress(x[rest], y[rest])
        errors[~rest] -= line.intercept + line.slope * x[~rest]
        of_mean[~rest] -= y[rest].mean()
    r2 = float(1 - (errors**2).sum() / (of_mean**2).sum())
    (low, spearman_low), (high, spearman_high) = left_out.min(axis=1).tolist(), left_out.max(axis=1).tolist()
    sentence = (
        f"Spearman {spearman:.2f} over {n} points ({spearman_low:.2f} to {spearman_high:.2f} with any one {group} left "
        f"out), Pearson {pearson:.2f} ({low:.2f} to {high:.2f}); predictive R² of {group}s left out {r2:.2f}"
    )
    return Correlation(n, pearson, spearman, low, high, spearman_low, spearman_high, r2, sentence)
