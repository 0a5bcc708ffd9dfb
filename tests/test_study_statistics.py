"""What scores over targets, seeds and folds allow to say, against published examples and independent formulae."""

import numpy as np
import pytest
from conftest import assert_refused
from scipy import stats

from keras_audio_transfer.study import statistics
from keras_audio_transfer.study.statistics import (
    bootstrap_mean,
    clips_to_match,
    corrected_t_test,
    friedman,
    holm,
    leave_one_out_correlation,
)

# Demsar 2006, table 6: AUC of C4.5, with m, with cf, with both, on 14 data sets. On the last
# but one the third ranks before the fourth, by digits that the table does not print.
DEMSAR = [
    *([0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967]),
    *([0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931]),
    *([0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875]),
    *([1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669]),
    *([0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970]),
]


# ---- the corrected t-test


def test_the_corrected_t_test_is_that_of_scikit_learns_example():
    """Ten times ten folds: t = 2.611 without and 0.750 with the correction, then one-sided p = 0.227."""
    values = np.random.default_rng(0).normal(size=(10, 10))
    values = (values - values.mean()) / values.std(ddof=1) + 0.2611
    assert stats.ttest_1samp(values.ravel(), 0).statistic == pytest.approx(2.611)
    test = corrected_t_test(values.ravel(), n_train=90, n_test=10)
    assert (test.n, test.mean) == (100, pytest.approx(0.2611))
    assert (test.t, test.p / 2) == (pytest.approx(0.750, abs=5e-4), pytest.approx(0.227, abs=5e-4))
    half = stats.t.ppf(0.975, 99) * np.sqrt((0.01 + 1 / 9) * values.var(ddof=1))
    assert (test.low, test.high) == pytest.approx((0.2611 - half, 0.2611 + half))


def test_without_shared_clips_it_is_students():
    values = np.random.default_rng(1).normal(0.1, 1, 12)
    expected = stats.ttest_1samp(values, 0)
    test = corrected_t_test(values, n_train=1e12, n_test=1)
    assert (test.t, test.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert (test.low, test.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_equal_methods_are_seldom_told_apart():
    """Two sets of features of the same 400 clips, alike but for noise; 5 clips a class are fitted on, three times."""
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(10), 40)

    def difference(methods, folds, fold):
        test, right = folds == fold, []
        fit = [rng.choice(np.flatnonzero(~test & (labels == label)), 5, replace=False) for label in range(10)]
        for features in methods:
            distances = np.square(features[test][:, None] - features[fit].mean(axis=1)).sum(axis=-1)
            right.append(np.mean(distances.argmin(axis=1) == labels[test]))
        return right[0] - right[1]

    found = []
    for _ in range(120):
        means = rng.normal(0, 0.6, (10, 20))[labels]
        methods = means + rng.normal(size=(2, 400, 20))
        folds = rng.permuted(np.tile(np.arange(40) % 5, (10, 1)), axis=1).ravel()
        differences = [difference(methods, folds, fold) for _ in range(3) for fold in range(5)]
        corrected = corrected_t_test(differences, n_train=320, n_test=80)
        found.append((corrected.p < 0.05, stats.ttest_1samp(differences, 0).pvalue < 0.05))
    of_corrected, of_students = np.mean(found, axis=0)
    assert of_corrected <= 0.05
    assert of_students > 0.1


def test_a_corrected_t_test_of_what_does_not_vary():
    """Whether by chance or not cannot be told: there is nothing to tell it by, but for what rounding leaves."""
    for differences in ([0.0] * 5, [-0.1] * 5, [0.3], [0.36 - 0.37, 0.41 - 0.42, 0.30 - 0.31]):
        mean, *unknown = corrected_t_test(differences, 80, 20)[:5]
        assert mean == pytest.approx(differences[0])
        assert np.isnan(unknown).all()


# ---- ranks and many tests


def test_friedman_is_demsars_example():
    ranks = friedman(DEMSAR)
    assert ranks.mean_ranks.round(3).tolist() == [3.143, 2.0, 2.893, 1.964]
    assert (round(ranks.chi2, 2), round(ranks.f, 2)) == (9.28, 3.69)
    assert ranks.p == pytest.approx(stats.f.sf(3.69, 3, 39), abs=1e-4)
    assert round(ranks.critical_difference, 2) == 1.25
    assert ranks.groups == [(3, 1, 2, 0)]  # "not powerful enough to detect any significant differences"


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])  # Demsar's table 5
def test_critical_differences(k, q):
    apart = friedman(np.random.default_rng(0).normal(size=(9, k))).critical_difference
    assert apart / np.sqrt(k * (k + 1) / (6 * 9)) == pytest.approx(q, abs=1e-3)


def test_friedman_without_ties_is_scipys():
    scores = np.random.default_rng(2).normal(size=(8, 5))
    assert friedman(scores).chi2 == pytest.approx(stats.friedmanchisquare(*scores.T).statistic)


def test_groups_of_ranks_are_the_widest_and_leave_out_who_stands_alone():
    always = friedman(np.tile([[0.1, 0.9, 0.5, 0.7]], (12, 1)))
    assert always.mean_ranks.tolist() == [4, 1, 3, 2]
    assert always.groups == [(1, 3), (3, 2), (2, 0)]  # of neighbours: two ranks are further apart than 1.35
    assert (always.f, always.p) == (np.inf, pytest.approx(1 / 24**11))
    assert friedman(np.tile([[0.1, 0.9, 0.5]], (40, 1))).groups == []
    assert friedman(np.ones((6, 3))).groups == [(0, 1, 2)]


def test_that_two_targets_agree_happens_by_chance():
    """Of the 6 ways in which the second can rank three methods, one is the first's."""
    assert friedman([[0.9, 0.8, 0.7], [0.8, 0.7, 0.6]]).p == pytest.approx(1 / 6)


def test_ranks_tie_where_scores_differ_by_rounding():
    one, other = np.mean([0.95, 0.9, 0.9, 0.95, 0.9]), np.mean([0.95, 0.95, 0.85, 0.9, 0.95])
    assert one != other
    assert friedman([[one, other, 0.5], [0.9, 0.8, 0.5]]).mean_ranks.tolist() == [1.25, 1.75, 3]


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])  # R's p.adjust
    np.testing.assert_allclose(holm([0.9, np.nan, 0.02, 0.6]), [1, np.nan, 0.06, 1])
    assert holm([]).tolist() == []


# ---- the bootstrap


def test_the_bootstrap_of_one_score_a_target_is_students_interval():
    values = np.random.default_rng(3).normal(0.05, 0.02, 12)
    estimate, expected = bootstrap_mean(values[:, None, None]), stats.ttest_1samp(values, 0).confidence_interval()
    assert estimate.mean == pytest.approx(values.mean())
    width = expected.high - expected.low
    assert (estimate.low, estimate.high) == pytest.approx(tuple(expected), abs=0.06 * width)
    assert bootstrap_mean(values[:, None, None]) == estimate


def test_targets_count_alike_whatever_their_seeds_and_folds():
    assert bootstrap_mean([np.full((3, 10), 0.2), np.full((1, 5), 0.4)]).mean == pytest.approx(0.3)


def test_of_a_single_target_the_folds_are_drawn_and_of_a_single_score_nothing():
    values = np.array([[0.1, 0.2, 0.3, 0.2, 0.2]])
    _, low, high = bootstrap_mean([values])
    expected = stats.ttest_1samp(values[0], 0).confidence_interval()
    assert (low, high) == pytest.approx(tuple(expected), abs=0.1 * (expected.high - expected.low))
    assert np.isnan(bootstrap_mean([[[0.1]]])[1:]).all()


def test_folds_that_differ_under_all_seeds_alike_are_no_independent_scores():
    folds = np.random.default_rng(4).normal(0, 0.05, 5)
    of_one, of_many = bootstrap_mean([[folds]]), bootstrap_mean([np.tile(folds, (5, 1))])
    assert of_many.high - of_many.low == pytest.approx(of_one.high - of_one.low, rel=0.05)


@pytest.mark.parametrize("n_targets", [3, 8])
def test_the_bootstrap_covers_the_truth(n_targets, monkeypatch):
    monkeypatch.setattr(statistics, "DRAWS", 1000)
    rng, inside = np.random.default_rng(5), 0
    for _ in range(200):
        of_target = rng.normal(0.03, 0.04, (n_targets, 1, 1)) + rng.normal(0, 0.03, (n_targets, 1, 5))
        _, low, high = bootstrap_mean(of_target + rng.normal(0, 0.02, (n_targets, 3, 5)))
        inside += low <= 0.03 <= high
    assert 185 <= inside <= 200


# ---- clips needed


@pytest.mark.parametrize(
    ("goal", "clips", "words"),
    [
        (0.6, 10, "matched with 10 clips a class (10 to 10)"),
        (0.7, 20, "matched with 20 clips a class (20 to 20)"),
        (0.65, 10 * 2**0.5, "matched with 14.1 clips a class (14.1 to 14.1)"),
        (0.4, 5, "matched with at most 5 clips a class (at most 5 to at most 5)"),
        (0.9, np.inf, "not matched with 20 clips a class (more than 20 to more than 20)"),
    ],
)
def test_clips_to_match(goal, clips, words):
    curve = {20: np.full((2, 3), 0.7), 5: np.full((2, 3), 0.5), 10: np.full((2, 3), 0.6)}
    found = clips_to_match(curve, np.full((2, 3), goal))
    assert found[:3] == pytest.approx((clips,) * 3, rel=1e-6)
    assert found.sentence == words


def test_what_curve_and_goal_have_in_common_is_not_uncertain():
    """Where a fold is hard for both, it takes as many clips."""
    hard = np.random.default_rng(6).normal(0, 0.1, (3, 5))
    paired = clips_to_match({5: 0.5 + hard, 20: 0.7 + hard}, 0.6 + hard)
    assert paired[:3] == pytest.approx((10, 10, 10), rel=1e-6)
    low, high = clips_to_match({5: 0.5 + hard, 20: 0.7 + hard}, 0.6 + hard[::-1, ::-1])[1:3]
    assert low < 10 < high


def test_a_goal_of_one_seed_stands_for_all_and_one_score_has_no_interval():
    noise = np.random.default_rng(7).normal(0, 0.01, (3, 5))
    found = clips_to_match({5: 0.5 + noise, 20: 0.7 + noise}, [[0.6] * 5])
    assert found.low < found.clips < found.high
    alone = clips_to_match({5: [[0.5]], 20: [[0.7]]}, [[0.6]])
    assert alone[0] == pytest.approx(10)
    assert np.isnan(alone[1:3]).all()
    assert alone.sentence == "matched with 10 clips a class"


# ---- correlations


def test_a_correlation_is_honest_about_its_points():
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=9), rng.normal(size=9)
    found = leave_one_out_correlation(x, y)
    assert found.pearson == pytest.approx(np.corrcoef(x, y)[0, 1])
    of_ranks = [np.argsort(np.argsort(values)) for values in (x, y)]
    assert found.spearman == pytest.approx(np.corrcoef(*of_ranks)[0, 1])
    without = [np.corrcoef(np.delete(x, i), np.delete(y, i))[0, 1] for i in range(9)]
    assert (found.pearson_low, found.pearson_high) == pytest.approx((min(without), max(without)))
    # Of a straight line the errors of points left out are e / (1 - h).
    design = np.stack([np.ones(9), x], axis=1)
    hat = design @ np.linalg.pinv(design)
    errors = (y - hat @ y) / (1 - np.diag(hat))
    of_mean = (y - y.mean()) * 9 / 8
    assert found.predictive_r2 == pytest.approx(1 - (errors**2).sum() / (of_mean**2).sum())
    assert f"over 9 points ({found.spearman_low:.2f} to " in found.sentence


def test_points_of_a_group_are_left_out_together():
    rng, groups = np.random.default_rng(9), np.repeat(["a", "b", "c"], 3)
    x, y = rng.normal(size=(2, 9))
    found = leave_one_out_correlation(x, y, groups, "target")
    kept = [groups != name for name in "abc"]
    without = [np.corrcoef(x[rest], y[rest])[0, 1] for rest in kept]
    assert (found.pearson_low, found.pearson_high) == pytest.approx((min(without), max(without)))
    lines = [np.polyfit(x[rest], y[rest], 1) for rest in kept]
    errors = sum(((y[~rest] - np.polyval(line, x[~rest])) ** 2).sum() for rest, line in zip(kept, lines, strict=True))
    of_mean = sum(((y[~rest] - y[rest].mean()) ** 2).sum() for rest in kept)
    assert found.predictive_r2 == pytest.approx(1 - errors / of_mean)
    assert "with any one target left out)" in found.sentence
    assert "predictive R² of targets left out" in found.sentence
    few = leave_one_out_correlation(x, y, ["a"] * 5 + ["b"] * 4, "target")
    assert few.sentence == "9 points of too few targets (2) to say more; expected 3 or more"


def test_one_point_that_makes_a_correlation_is_seen():
    found = leave_one_out_correlation([0, 0.1, -0.1, 0.05, 0, 10], [0.1, 0, 0, -0.1, 0.1, 10])
    assert found.pearson > 0.99
    assert found.pearson_low < 0
    assert found.predictive_r2 < 0


@pytest.mark.parametrize(
    ("x", "y", "why"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], "4 points are too few to say more; expected 5 or more"),
        ([1], [2], "1 point is too few to say more; expected 5 or more"),
        ([], [], "0 points are too few to say more; expected 5 or more"),
        ([1, 1, 1, 1, 2], range(5), "5 points are too much alike to say more; expected them to differ, whichever "),
    ],
)
def test_a_correlation_of_too_little_is_not_said(x, y, why):
    found = leave_one_out_correlation(x, y)
    assert found.sentence.startswith(why)
    assert found.n == len(x)
    assert np.isnan(found[1:-1]).all()


# ---- bad input

BAD = {
    "differences: holds NaN or infinity; expected finite numbers of shape (seeds and folds), at least 1 along each; "
    "leave out what has no number": lambda: corrected_t_test([0.1, np.nan], 80, 20),
    "differences: has shape (0,); ": lambda: corrected_t_test([], 80, 20),
    "differences: is no array of numbers; ": lambda: corrected_t_test(["high"], 80, 20),
    "n_test: 0 is not allowed; expected a number of clips above 0": lambda: corrected_t_test([0.1, 0.2], 80, 0),
    "p_values: have another shape, or values outside of 0 to 1; expected one a test": lambda: holm([0.5, 1.5]),
    "scores: has shape (3, 1); expected finite numbers of shape (targets, methods), at least 2 along each": (
        lambda: friedman([[1], [2], [3]])
    ),
    "differences: are of no target; expected at least one": lambda: bootstrap_mean([]),
    "differences[1]: is no array of numbers; ": lambda: bootstrap_mean([[[0.1]], [[0.1, 0.2], [0.3]]]),
    "curve: has no scores; expected those of at least one number of clips": lambda: clips_to_match({}, [[0.5]]),
    "curve: is of 'all' clips; expected numbers above 0": lambda: clips_to_match({"all": [[0.5]]}, [[0.5]]),
    "curve: and goal have the shapes [(1, 2), (1, 3)]; expected the same seeds and folds for all": (
        lambda: clips_to_match({5: [[0.5, 0.6]]}, [[0.5, 0.5, 0.5]])
    ),
    "x: has 2 points, y 1; expected as many of both": lambda: leave_one_out_correlation([1, 2], [1]),
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_is_said_in_one_line(message):
    assert_refused(message, BAD[message])
