"""Folds and subsets of clips with several labels: the shares of the labels, and groups that stay whole."""

import numpy as np
import pytest

from keras_audio_transfer.probing.iterative_stratification import iterative_folds, iterative_places


def tags(n=200, shares=(0.5, 0.3, 0.1, 0.05), seed=0):
    labels = (np.random.default_rng(seed).random((n, len(shares))) < shares).astype(np.int64)
    labels[labels.sum(axis=1) == 0, 0] = 1
    return labels


@pytest.mark.parametrize("seed", range(5))
def test_every_fold_has_each_labels_share(seed):
    labels = tags(seed=seed)
    folds = iterative_folds(labels, np.arange(len(labels)), 5, seed)
    counts = np.array([labels[folds == fold].sum(axis=0) for fold in range(5)])
    assert np.abs(counts - labels.sum(axis=0) / 5).max() <= 1
    assert np.abs(np.bincount(folds, minlength=5) - 40).max() <= 4  # a tenth


def test_groups_stay_whole_and_labels_are_in_proportion():
    labels = np.repeat(tags(100), 3, axis=0)
    groups = np.repeat(np.random.default_rng(0).permutation(100), 3)
    folds = iterative_folds(labels, groups, 5)
    assert all(len(set(folds[groups == group])) == 1 for group in range(100))
    counts = np.array([labels[folds == fold].sum(axis=0) for fold in range(5)])
    assert np.abs(counts - labels.sum(axis=0) / 5).max() <= 3  # a group


def test_the_seed_decides_and_nothing_else():
    labels = tags()
    of_seeds = [iterative_folds(labels, np.arange(len(labels)), 5, seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(of_seeds[0], of_seeds[1])
    assert (of_seeds[0] != of_seeds[2]).any()


@pytest.mark.parametrize("size", [1, 3])
def test_subsets_are_nested_keep_shares_and_divide_no_group(size):
    labels = np.repeat(tags(), size, axis=0)
    groups = np.repeat(np.random.default_rng(0).permutation(200), size)
    places = iterative_places(labels, groups, 3)
    assert ((places > 0) & (places < 1)).all()
    assert all(np.ptp(places[groups == group]) == 0 for group in range(200))
    for fraction in (0.1, 0.2, 0.4, 0.6, 0.8):
        chosen = places <= fraction
        assert np.mean(chosen) == pytest.approx(fraction, abs=0.01)
        assert np.abs(labels[chosen].sum(axis=0) - fraction * labels.sum(axis=0)).max() <= 2.5 * size
    assert (iterative_places(labels, groups, [3, 1]) != places).any()
