"""Rows of a study's table in pairs that differ in one thing, and what their differences say. Without TensorFlow.

A pair is of the same target, seed and fold: both were fitted on the same clips and scored on the same clips.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from keras_audio_transfer.study import statistics

DIFFERENCES, SCORES = (-1.0, 1.0), (0.0, 1.0)  # of accuracies
SIGNIFICANT = 0.05
_SIZES = ("folds", "fewest_folds", "seeds", "cells")
SAME_CLIPS = ["target", "clips_a_class", "seed", "fold"]


def clips_order(clips_a_class: pd.Series) -> pd.Series:
    """Numbers to sort by: "all" stands last."""
    return pd.to_numeric(clips_a_class, errors="coerce").fillna(np.inf)


def pairs(one: pd.DataFrame, other: pd.DataFrame, same: Sequence[str] = ()) -> pd.DataFrame:
    """Rows of two tables side by side that agree in the clips and in `same`.

    Args:
        one, other: rows of the table of cells.
        same: columns beside `SAME_CLIPS`.

    Returns:
        the columns of `one`, of the other score and cell too (`score_other`, `cell_other`), and `value`, how much
        higher the score of `one` is.
    """
    keys = [*SAME_CLIPS, *same]
    joined = one.merge(other[[*keys, "score", "cell"]], on=keys, suffixes=("", "_other"))
    return joined.assign(value=joined["score"] - joined["score_other"])


def by_target(rows: pd.DataFrame, by: Sequence[str], within: tuple[float, float] = DIFFERENCES) -> pd.DataFrame:
    """The mean of `value` over folds and seeds, by the corrected t-test for scores that share training clips.

    Of several rows of one seed and fold the mean is one value.

    Args:
        rows: of `pairs`, or of cells with a column `value`; in `n_pool`, how many clips a fold may fit on.
        by: columns that name what is averaged; the target is one of them.
        within: what `value` can be, and therefore its mean: intervals end there.

    Returns:
        `by`, `mean`, `low` and `high` (95 % interval), `p` and `p_holm` (all rows are one family; NaN, as the interval,
        of a single value and of values that are all alike), `folds`, `fewest_folds`, `seeds`, and `cells`, which the
        mean is of.
    """
    made = []
    for key, group in rows.groupby([*by], sort=False):
        values = [value for seeds in _tables(group).values() for folds in seeds.values() for value in folds.values()]
        test = statistics.corrected_t_test(values, group["n_pool"].mean(), group["n_test"].mean())
        about = {name: getattr(test, name) for name in ("mean", "low", "high", "p")}
        made.append(dict(zip(by, key, strict=True)) | about | _sizes(group))
    table = pd.DataFrame(made, columns=[*by, "mean", "low", "high", "p", *_SIZES])
    table.insert(len(by) + 4, "p_holm", statistics.holm(table["p"].to_numpy()) if len(table) else [])
    return _possible(table, within)


def over_targets(
    rows: pd.DataFrame,
    by: Sequence[str],
    tests: pd.DataFrame | None = None,
    within: tuple[float, float] = DIFFERENCES,
) -> pd.DataFrame:
    """The mean of `value` over targets, each with the same weight; sources are averaged first, and taken for fixed.

    Args:
        rows: as for `by_target`.
        by: columns that name what is averaged.
        tests: `by_target`'s, of the same rows.
        within: as for `by_target`.

    Returns:
        `by`, `mean`, `low`, `high` (95 % bootstrap interval over targets, seeds and folds), `sources`, `targets`; with
        `tests` the number of those that could be made, and how many are significantly `higher` and `lower`; `folds` and
        `fewest_folds` (the most and the fewest that a target has), `seeds`, and `cells`, patterns that hold those which
        the mean is of.
    """
    tested = {} if tests is None else dict([*tests.groupby([*by], sort=False)])
    made = []
    for key, group in rows.groupby([*by], sort=False):
        estimate = statistics.bootstrap_mean([*map(_whole_seeds, _tables(group).values())])
        row = dict(zip(by, key, strict=True)) | estimate._asdict()
        row |= {"sources": group["source"].nunique(), "targets": group["target"].nunique()}
        if tested:
            sure = tested[key][tested[key]["p_holm"] < SIGNIFICANT]["mean"]
            row |= {"tests": tested[key]["p"].count(), "higher": (sure > 0).sum(), "lower": (sure < 0).sum()}
        made.append(row | _sizes(group))
    return _possible(pd.DataFrame(made), within)


def _possible(table, within):
    """Cut the intervals to what a mean can be."""
    if len(table):
        table[["low", "high"]] = table[["low", "high"]].clip(*within)
    return table


def pattern(cells: Iterable[str]) -> str:
    """What `study --only` takes for some cells: the parts in which they differ are a star.

    >>> pattern(["yamnet|esc10|all|svm|5|0", "yamnet|esc10|all|svm|5|1"])
    'yamnet|esc10|all|svm|5|*'
    """
    parts = zip(*(cell.split("|") for cell in dict.fromkeys(cells)), strict=True)
    return "|".join(part[0] if len({*part}) == 1 else "*" for part in parts)


def patterns(*cells: Iterable[str]) -> list[str]:
    """Those of several groups of cells, each once."""
    return [*dict.fromkeys(map(pattern, cells))]


def _tables(rows):
    """Target -> seed -> fold -> the mean of the values."""
    found: dict = {}
    for target, seed, fold, value in rows[["target", "seed", "fold", "value"]].itertuples(index=False):
        found.setdefault(target, {}).setdefault(seed, {}).setdefault(fold, []).append(value)
    return {
        target: {
            seed: {fold: float(np.mean(values)) for fold, values in folds.items()} for seed, folds in seeds.items()
        }
        for target, seeds in found.items()
    }


def _whole_seeds(seeds):
    """Values (seeds, folds) of the seeds that have as many folds as any."""
    most = max(seeds.values(), key=len)
    return [[folds[fold] for fold in most] for folds in seeds.values() if folds.keys() == most.keys()]


def _sizes(rows):
    """Of how many folds and seeds, and of which cells."""
    folds = Counter(target for target, _ in {*zip(rows["target"], rows["fold"], strict=True)})
    cells = [rows[name] for name in ("cell", "cell_other") if name in rows]
    sizes = max(folds.values()), min(folds.values()), len({*rows["seed"]}), patterns(*cells)
    return dict(zip(_SIZES, sizes, strict=True))
