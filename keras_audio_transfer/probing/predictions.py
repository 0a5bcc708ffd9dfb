"""What models say of clips that had no part in them: clip by clip, and class by class. Without TensorFlow."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.files import atomic_write, cell
from keras_audio_transfer.intervals import wilson

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("predictions.csv", "classes.csv")


class HeldOut(NamedTuple):
    """What was predicted for clips by models that were fitted and chosen without them.

    Attributes:
        rows: the clips' places in the table of features, (n_scored,).
        predicted: indices of labels, or numbers for a regression, (n_scored,).
        folds: the name of the part that scored each, (n_scored,).
        probabilities: of the labels, float64 (n_scored, labels), calibrated on clips of the parts that were fitted on;
            None where there are none.
        known: `Familiarity.known`, (n_scored,), by clips of the same parts; None where there is none.
    """

    rows: np.ndarray
    predicted: np.ndarray
    folds: np.ndarray
    probabilities: np.ndarray | None = None
    known: np.ndarray | None = None

    @property
    def confidence(self) -> np.ndarray:
        """The probability of the label predicted, (n_scored,)."""
        return self.probabilities[np.arange(len(self.predicted)), self.predicted]


def table(features: FeatureTable, held_out: HeldOut) -> "pd.DataFrame":
    """One row a scored clip: clip, true, predicted, fold, then probability_LABEL a label, known, notes.

    Texts that a spreadsheet would run are marked. What there is not is left out.
    """
    import pandas as pd

    rows, names = held_out.rows, features.label_names
    true = features.labels[rows]
    notes = np.full(len(rows), "") if features.notes is None else features.notes[rows]
    as_shown = (lambda values: values) if features.is_regression else (lambda values: [cell(names[i]) for i in values])
    columns = {
        "clip": [cell(str(clip)) for clip in features.clip_ids[rows]],
        "true": as_shown(true),
        "predicted": as_shown(held_out.predicted),
        "fold": held_out.folds,
    }
    if held_out.probabilities is not None:
        columns |= {f"probability_{name}": held_out.probabilities[:, i].round(6) for i, name in enumerate(names)}
    if held_out.known is not None:
        columns["known"] = held_out.known.round(6)
    return pd.DataFrame(columns | {"notes": [cell(str(note)) for note in notes]})


def confusion(features: FeatureTable, held_out: HeldOut) -> np.ndarray:
    """How often each class was predicted for each: int64 (classes, classes), by true (rows) and predicted (columns)."""
    counts = np.zeros((len(features.label_names),) * 2, dtype=np.int64)
    np.add.at(counts, (features.labels[held_out.rows], held_out.predicted), 1)
    return counts


def write(folder: Path, features: FeatureTable, held_out: HeldOut) -> np.ndarray | None:
    """Write `predictions.csv` and, of classes, `classes.csv` into a folder; return the confusion of classes."""
    counts = None if features.is_regression else confusion(features, held_out)
    tables = [table(features, held_out)] + ([] if counts is None else [by_class(counts, features.label_names)])
    for name, rows in zip(TABLES, tables, strict=False):
        with atomic_write(folder / name) as partial:
            rows.to_csv(partial, index=False)
    return counts


def by_class(counts: np.ndarray, label_names: Sequence[str]) -> "pd.DataFrame":
    """Precision, recall and F1 of each class, with 95 % intervals.

    Args:
        counts: as `confusion` returns them.
        label_names: of the classes.

    Returns:
        A row a class: label, clips, and precision, recall, f1, each with `_low` and `_high`. The intervals are Wilson's
        (1927) over clips, taken for independent, which several of one recording are not. That of F1 follows from the
        one of J, the share that was right of the clips that are of the class or were taken for it: F1 = 2 J / (1 + J).
        NaN where there are no such clips: of a class that was never predicted, or has none.
    """
    import pandas as pd

    right, predicted, true = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    columns = {"label": [*label_names], "clips": true}
    for name, totals in (("precision", predicted), ("recall", true), ("f1", predicted + true - right)):
        with np.errstate(invalid="ignore"):
            shares = right / totals
        ends = np.array(
            [wilson(int(n), int(of)) if of else (np.nan, np.nan) for n, of in zip(right, totals, strict=True)]
        )
        for end, values in (("", shares), ("_low", ends[:, 0]), ("_high", ends[:, 1])):
            columns[f"{name}{end}"] = 2 * values / (1 + values) if name == "f1" else values
    return pd.DataFrame(columns)


def top_confusions(counts: np.ndarray, label_names: Sequence[str], at_most: int = 5) -> list[tuple[str, str, int]]:
    """The pairs of classes most often taken for one another: (true, predicted, clips), the most frequent first."""
    wrong = counts - np.diag(counts.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:at_most]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(label_names[true], label_names[said], int(wrong[true, said])) for true, said in pairs if wrong[true, said]]
