"""What was predicted for held-out clips, clip by clip and class by class."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.intervals import wilson
from keras_audio_transfer.probing import predictions
from keras_audio_transfer.probing.predictions import HeldOut

NAMES = ["dog", "=cat", "owl"]


def table_of(labels, notes=None):
    n = len(labels)
    ids = np.array([f"{i}.wav" for i in range(n)])
    table = FeatureTable(
        {"a": np.zeros((n, 1), np.float32)}, ids, np.array(labels), NAMES, np.full(n, -1), np.full(n, "")
    )
    table.notes = notes
    return table


def drawn(n_clips, seed, right=0.7):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n_clips)
    predicted = np.where(rng.random(n_clips) < right, labels, rng.integers(0, 3, n_clips))
    return labels, HeldOut(rng.permutation(n_clips), predicted, np.full(n_clips, "fold_1"))


def test_a_row_a_scored_clip():
    labels, notes = [0, 1, 2, 1], np.array(["", "clipped", "", "=x"])
    held_out = HeldOut(np.array([3, 0, 1]), np.array([1, 2, 1]), np.array(["fold_1", "fold_1", "fold_2"]))
    rows = predictions.table(table_of(labels, notes), held_out)
    assert rows.to_dict("list") == {
        "clip": ["3.wav", "0.wav", "1.wav"],
        "true": ["'=cat", "dog", "'=cat"],
        "predicted": ["'=cat", "owl", "'=cat"],
        "fold": ["fold_1", "fold_1", "fold_2"],
        "notes": ["'=x", "", "clipped"],
    }


def test_a_regression_has_numbers():
    held_out = HeldOut(np.arange(2), np.array([0.5, -1.0]), np.full(2, "test"))
    rows = predictions.table(table_of([0.25, 1.5]), held_out)
    assert rows["true"].tolist() == [0.25, 1.5]
    assert rows["predicted"].tolist() == [0.5, -1.0]


@pytest.mark.parametrize("seed", range(3))
def test_measures_are_scikit_learns(seed):
    labels, held_out = drawn(200, seed)
    counts = predictions.confusion(table_of(labels), held_out)
    true = labels[held_out.rows]
    np.testing.assert_array_equal(counts, confusion_matrix(true, held_out.predicted))
    precision, recall, f1, clips = precision_recall_fscore_support(true, held_out.predicted)
    rows = predictions.by_class(counts, NAMES)
    assert rows["label"].tolist() == NAMES
    for name, expected in (("precision", precision), ("recall", recall), ("f1", f1), ("clips", clips)):
        np.testing.assert_allclose(rows[name], expected)
    for name in ("precision", "recall", "f1"):
        assert (rows[f"{name}_low"] < rows[name]).all()
        assert (rows[name] < rows[f"{name}_high"]).all()
    assert (rows["recall_low"][0], rows["recall_high"][0]) == wilson(counts[0, 0], counts[0].sum())


def test_the_interval_of_f1_holds_the_truth_as_often_as_it_says():
    """Of 200 drawn sets of 150 clips; 95 % of them, and within three deviations of that."""
    cells = np.array([[40, 6, 4], [8, 35, 7], [2, 10, 38]]) / 150
    truth = 2 * cells.diagonal() / (cells.sum(axis=0) + cells.sum(axis=1))
    rng, inside = np.random.default_rng(5), 0
    for _ in range(200):
        rows = predictions.by_class(rng.multinomial(150, cells.ravel()).reshape(3, 3), NAMES)
        inside += ((rows["f1_low"] <= truth) & (truth <= rows["f1_high"])).sum()
    assert 0.91 < inside / 600 < 0.98


def test_a_class_that_is_never_predicted_or_not_there():
    rows = predictions.by_class(np.array([[3, 1, 0], [0, 0, 0], [2, 0, 0]]), NAMES)
    assert np.isnan(rows["precision"][2])
    assert rows["recall"][2] == 0
    assert rows["f1"][2] == 0
    assert np.isnan(rows["recall"][1])
    assert rows["precision"][1] == 0
    nothing = predictions.by_class(np.array([[3, 0, 0], [0, 2, 0], [0, 0, 0]]), NAMES)
    assert nothing.loc[2, "precision":].isna().all()
    assert nothing.loc[0, ["precision", "recall", "f1"]].tolist() == [1, 1, 1]


def test_the_most_frequent_confusions():
    counts = np.array([[3, 1, 4], [2, 9, 0], [4, 0, 5]])
    expected = [("dog", "owl", 4), ("owl", "dog", 4), ("=cat", "dog", 2), ("dog", "=cat", 1)]
    assert predictions.top_confusions(counts, NAMES) == expected
    assert predictions.top_confusions(counts, NAMES, 1) == expected[:1]
    assert predictions.top_confusions(np.eye(3, dtype=int), NAMES) == []
