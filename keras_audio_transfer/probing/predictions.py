"""What models say of clips that had no part in them: clip by clip, and class by class. Without TensorFlow."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from keras_audio_transfer.feature_table import FeatureTable
from keras_audio_transfer.files import cell
from keras_audio_transfer.intervals import CONFIDENCE, wilson

if TYPE_CHECKING:
    import pandas as pd

_DRAWS = 2000  # of the bootstrap: its ends then vary by about a twentieth of the interval


class HeldOut(NamedTuple):
    """What was predicted for clips by models that were fitted and chosen without them.

    Attributes:
        rows: the clips' places in the table of features, (n_scored,).
        predicted: indices of labels, or numbers for a regression, (n_scored,).
        folds: the name of the part that scored each, (n_scored,).
    """

    rows: np.ndarray
    predicted: np.ndarray
    folds: np.ndarray


def table(features: FeatureTable, held_out: HeldOut) -> "pd.DataFrame":
    """One row a scored clip: clip, true, predicted, fold, notes; texts that a spreadsheet would run are marked."""
    import pandas as pd

    rows, names = held_out.rows, features.label_names
    true = features.labels[rows]
    notes = np.full(len(rows), "") if features.notes is None else features.notes[rows]
    as_shown = (lambda values: values) if features.is_regression else (lambda values: [cell(names[i]) for i in values])
    return pd.DataFrame(
        {
            "clip": [cell(str(clip)) for clip in features.clip_ids[rows]],
            "true": as_shown(true),
            "predicted": as_shown(held_out.predicted),
            "fold": held_out.folds,
            "notes": [cell(str(note)) for note in notes],
        }
    )


def confusion(features: FeatureTable, held_out: HeldOut) -> np.ndarray:
    """How often each class was predicted for each: int64 (classes, classes), by true (rows) and predicted (columns)."""
    counts = np.zeros((len(features.label_names),) * 2, dtype=np.int64)
    np.add.at(counts, (features.labels[held_out.rows], held_out.predicted), 1)
    return counts


def by_class(counts: np.ndarray, label_names: Sequence[str]) -> "pd.DataFrame":
    """Precision, recall and F1 of each class, with 95 % intervals.

    Args:
        counts: as `confusion` returns them.
        label_names: of the classes.

    Returns:
        A row a class: label, clips, and precision, recall, f1, each with `_low` and `_high`. The intervals of precision
        and recall are Wilson's (1927) over the clips, those of F1 the percentiles of a bootstrap over the clips; both
        take clips for independent, which several of one recording are not. NaN where a class was never predicted, or
        has no clips.
    """
    import pandas as pd

    right = counts.diagonal()
    measures = {"precision": counts.sum(axis=0), "recall": counts.sum(axis=1)}
    columns = {"label": [*label_names], "clips": counts.sum(axis=1)}
    for name, totals in measures.items():
        with np.errstate(invalid="ignore"):
            columns[name] = right / totals
        ends = [wilson(int(n), int(of)) if of else (np.nan, np.nan) for n, of in zip(right, totals, strict=True)]
        columns[f"{name}_low"], columns[f"{name}_high"] = map(list, zip(*ends, strict=True))
    columns["f1"] = _f1(counts[np.newaxis])[0]
    columns["f1_low"], columns["f1_high"] = _bootstrapped_f1(counts)
    return pd.DataFrame(columns)


def _f1(counts):
    """Of confusions (draws, classes, classes): (draws, classes); NaN of a class that is neither there nor predicted."""
    right = counts.diagonal(axis1=1, axis2=2)
    with np.errstate(invalid="ignore"):
        return 2 * right / (counts.sum(axis=1) + counts.sum(axis=2))


def _bootstrapped_f1(counts):
    n_clips = counts.sum()
    draws = np.random.default_rng(0).multinomial(n_clips, counts.ravel() / n_clips, size=_DRAWS)
    of_draws = _f1(draws.reshape(-1, *counts.shape))
    ends = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    low, high = np.full((2, len(counts)), np.nan)
    there = ~np.isnan(of_draws).all(axis=0)
    low[there], high[there] = np.nanquantile(of_draws[:, there], ends, axis=0)
    return low, high


def top_confusions(counts: np.ndarray, label_names: Sequence[str], at_most: int = 5) -> list[tuple[str, str, int]]:
    """The pairs of classes most often taken for one another: (true, predicted, clips), the most frequent first."""
    wrong = counts - np.diag(counts.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:at_most]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(label_names[true], label_names[said], int(wrong[true, said])) for true, said in pairs if wrong[true, said]]
