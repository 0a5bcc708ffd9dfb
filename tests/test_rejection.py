"""Thresholds for a precision or a coverage, and what they keep of clips by which they were not chosen."""

from types import SimpleNamespace

import numpy as np
import pytest

from keras_audio_transfer.commands.estimates import accepts
from keras_audio_transfer.probing.rejection import (
    COVERAGES,
    LEVELS,
    Decided,
    at_coverage,
    at_precision,
    estimated,
    table,
)


def decided(n=2000, n_foreign=0, seed=0):
    """Clips that are right as often as their probability says, in five folds; foreign ones are less sure and known."""
    rng = np.random.default_rng(seed)
    probabilities = rng.uniform(0.3, 1, n + n_foreign)
    is_foreign = np.arange(n + n_foreign) >= n
    probabilities[is_foreign] *= 0.6
    right = (rng.uniform(size=n + n_foreign) < probabilities) & ~is_foreign
    known = rng.uniform(0, np.where(is_foreign, 0.02, 1))
    return Decided(probabilities, known, right, is_foreign, np.arange(n + n_foreign) % 5)


def test_what_is_kept():
    of = Decided(
        *map(np.array, ([0.9, 0.8, 0.7, 0.6, 0.95], [1, 1, 0, 1, 1], [1, 0, 1, 1, 0], [0, 0, 0, 0, 1], [0] * 5))
    )
    of = of._replace(right=of.right.astype(bool), is_foreign=of.is_foreign.astype(bool))
    kept = of.at(known_at_least=0.5, probability_at_least=0.7)  # 0.9 right, 0.8 wrong, the foreign one
    assert (kept["kept"], kept["right"], kept["precision"], kept["false_alarms"]) == (2 / 4, 1 / 4, 1 / 3, 1.0)
    assert kept["precision_low"] < 1 / 3 < kept["precision_high"]
    nothing = of.at(0.5, 0.99)
    assert (nothing["kept"], nothing["false_alarms"]) == (0, 0)
    assert np.isnan(nothing["precision"])


def test_the_lowest_threshold_for_a_precision():
    of = decided()
    limit = at_precision(0.8)(of, 0.0)
    assert of.at(0.0, limit)["precision"] >= 0.8
    assert limit == pytest.approx(0.6, abs=0.05)  # above it the mean of 0.6 to 1
    lower = of.probabilities[of.probabilities < limit].max()
    assert all(of.at(0.0, at)["precision"] < 0.8 for at in np.linspace(0.3, lower, 20))
    assert at_precision(0.5)(of, 0.0) == 0.0
    assert np.isnan(at_precision(0.9)(of._replace(right=np.full(2000, False)), 0.0))


def test_foreign_clips_raise_the_threshold_for_a_precision():
    assert at_precision(0.7)(decided(n_foreign=800), 0.0) > at_precision(0.7)(decided(), 0.0) + 0.05


def test_the_threshold_for_a_coverage():
    of = decided(n_foreign=200)
    for share in (0.9, 0.5, 0.1):
        assert of.at(0.0, at_coverage(share)(of, 0.0))["kept"] == pytest.approx(share, abs=0.002)
    assert at_coverage(0.5)(of, 0.6) == 0.0  # 40 % are known well enough


def test_each_part_is_kept_by_a_threshold_of_the_others():
    """A fold whose right clips are the least sure ones: its own threshold would keep nothing else."""
    of = decided()
    odd = of.folds == 4
    of = of._replace(right=np.where(odd, of.probabilities < 0.4, of.right))
    honest = estimated(of, at_precision(0.85), 0.0)
    limits = {fold: at_precision(0.85)(Decided(*(v[of.folds != fold] for v in of)), 0.0) for fold in range(5)}
    kept = of.probabilities >= np.array([limits[fold] for fold in of.folds])
    assert honest["kept"] == kept.mean()
    assert honest["precision"] == of.right[kept].mean()
    assert honest["precision"] < 0.85


def test_a_row_a_coverage():
    both = table(decided(n_foreign=500), 0.01)
    levels, rows = both[: len(LEVELS)], both[len(LEVELS) :]
    assert levels["known_at_least"].tolist() == [*LEVELS]
    np.testing.assert_allclose(levels["kept"], 1 - levels["known_at_least"], atol=0.02)
    # they are known from 0 to 0.02
    np.testing.assert_allclose(levels["false_alarms"], np.maximum(1 - levels["known_at_least"] / 0.02, 0), atol=0.06)
    assert rows["coverage"].tolist() == [*COVERAGES]
    assert (rows["known_at_least"] == 0.01).all()
    assert rows["probability_at_least"].is_monotonic_increasing
    assert rows["kept"].is_monotonic_decreasing
    assert rows["precision"].iloc[-1] > rows["precision"].iloc[0] + 0.1


def test_the_limit_of_a_card_is_one_that_float32_can_tell():
    sure = decided()._replace(probabilities=np.full(2000, 1 - 1e-9))
    limits = accepts(SimpleNamespace(precision=None, coverage=0.5), sure)
    assert limits == {"known_at_least": 0.02, "probability_at_least": 0.999999, "coverage_wanted": 0.5}
    assert np.float32(1 - 1e-7) >= limits["probability_at_least"]
