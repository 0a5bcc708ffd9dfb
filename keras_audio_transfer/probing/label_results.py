"""What was said of held-out clips with several labels: clip by clip, label by label, and in sum. No TensorFlow."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.files import atomic_write, cell
from keras_audio_transfer.intervals import t_half_width
from keras_audio_transfer.probing import calibration
from keras_audio_transfer.probing.multi_label import HeldOutLabels, average_precisions
from keras_audio_transfer.probing.predictions import TABLES, by_class

if TYPE_CHECKING:
    import pandas as pd

JOINS = "|"  # the labels of a clip, as in manifests


def summary(features: FeatureTable, held_out: HeldOutLabels) -> dict[str, float]:
    """`mean_average_precision`, `chance`, and where there are several folds `interval_low` and `interval_high`.

    The first is the mean over the folds of the mean over the labels that clips of the fold have; the interval is
    Student's t over the folds, 95 %. Chance is the mean share of clips that have a label: the average precision of
    scores that know nothing.
    """
    scores = np.nanmean(_by_fold(features, held_out), axis=1)
    shares = [features.labels[rows].mean(axis=0) for rows in _rows_by_fold(held_out)]
    chance = np.mean([share[share > 0].mean() for share in shares])
    low, high = _interval(scores)
    result = {"mean_average_precision": scores.mean(), "chance": chance, "interval_low": low, "interval_high": high}
    return {name: float(value) for name, value in result.items() if not np.isnan(value)}


def by_label(features: FeatureTable, held_out: HeldOutLabels, thresholds: np.ndarray | float) -> "pd.DataFrame":
    """One row a label.

    Args:
        features: with labels 0 or 1, (clips, labels).
        held_out: of them.
        thresholds: of the probabilities, (labels,); those of the SVMs for use, NaN where there are none.

    Returns:
        label; clips, how many have it; average_precision and auc (of the ROC curve), means over the folds, with `_low`
        and `_high`, Student's t over them, NaN where there is one; threshold; and precision, recall and f1 with their
        intervals, as `predictions.by_class` has them.
    """
    import pandas as pd
    from sklearn.metrics import multilabel_confusion_matrix

    counts = multilabel_confusion_matrix(features.labels[held_out.rows], held_out.predicted)
    names = features.label_names
    rows = pd.concat([by_class(of_label, ("", name))[1:] for of_label, name in zip(counts, names, strict=True)])
    columns = {"label": rows.pop("label"), "clips": rows.pop("clips")}
    for measure, score in (("average_precision", average_precisions), ("auc", _areas)):
        of_folds = [of_label[~np.isnan(of_label)] for of_label in _by_fold(features, held_out, score).T]
        columns[measure] = [of_label.mean() if len(of_label) else np.nan for of_label in of_folds]
        columns[f"{measure}_low"], columns[f"{measure}_high"] = zip(*map(_interval, of_folds), strict=True)
    return pd.DataFrame({**columns, "threshold": thresholds, **rows}).reset_index(drop=True)


def reliability(features: FeatureTable, held_out: HeldOutLabels) -> "pd.DataFrame":
    """How often clips had a label that was given a probability, of all labels: see `calibration.reliability`."""
    return calibration.reliability(held_out.probabilities.ravel(), features.labels[held_out.rows].ravel() == 1)


def table(features: FeatureTable, held_out: HeldOutLabels) -> "pd.DataFrame":
    """One row a scored clip: clip, true, predicted (labels joined by '|'), fold, probability_LABEL a label, notes."""
    import pandas as pd

    rows, names = held_out.rows, np.array(features.label_names, dtype=object)
    notes = np.full(len(rows), "") if features.notes is None else features.notes[rows]
    of_labels = {f"probability_{name}": held_out.probabilities[:, i].round(6) for i, name in enumerate(names)}
    return pd.DataFrame(
        {
            "clip": [cell(str(clip)) for clip in features.clip_ids[rows]],
            "true": [cell(JOINS.join(names[row == 1])) for row in features.labels[rows]],
            "predicted": [cell(JOINS.join(names[row == 1])) for row in held_out.predicted],
            "fold": held_out.folds,
            **of_labels,
            "notes": [cell(str(note)) for note in notes],
        }
    )


def write(folder: Path, features: FeatureTable, held_out: HeldOutLabels, labels: "pd.DataFrame") -> None:
    """Write `predictions.csv` and `classes.csv`, the rows of `by_label`, into a folder."""
    rows = labels.assign(label=labels["label"].map(cell))
    for name, content in zip(TABLES, (table(features, held_out), rows), strict=True):
        with atomic_write(folder / name) as partial:
            content.to_csv(partial, index=False)


def _rows_by_fold(held_out):
    return [held_out.rows[held_out.folds == fold] for fold in held_out.chosen]


def _by_fold(features, held_out, score=average_precisions):
    """Each label's score in each fold, (folds, labels)."""
    rows, folds, values, *_ = held_out
    return np.array([score(features.labels[rows[folds == fold]], values[folds == fold]) for fold in held_out.chosen])


def _areas(labels, values):
    """Each label's area under the ROC curve; NaN where no clip has it, or all have."""
    from sklearn.metrics import roc_auc_score

    return np.array(
        [
            roc_auc_score(expected, found) if np.ptp(expected) else np.nan
            for expected, found in zip(labels.T, values.T, strict=True)
        ]
    )


def _interval(scores):
    """Around the mean of scores of folds, within 0 to 1."""
    half = t_half_width(scores)
    return (np.nan, np.nan) if np.isnan(half) else (max(scores.mean() - half, 0.0), min(scores.mean() + half, 1.0))
