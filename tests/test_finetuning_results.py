"""Means, differences and the share that is enough are what they are said to be; wrong tables are refused."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from keras_audio_transfer import finetuning_results as results
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.intervals import t_half_width


def table_of(accuracies):
    """A table from (network, multiscale, strategy, fraction) -> accuracies by seed."""
    rows = [
        ["a", "b", network, multiscale, strategy, fraction, seed, 10, accuracy, accuracy / 2, 0.5, 0.5, 4, 60.0]
        for (network, multiscale, strategy, fraction), values in accuracies.items()
        for seed, accuracy in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=results.COLUMNS)


FACTORIAL = table_of(
    {
        ("small", False, "finetune", 0.5): [0.60, 0.64],
        ("small", False, "scratch", 0.5): [0.50, 0.52],
        ("small", True, "finetune", 0.5): [0.70, 0.71],
        ("small", True, "scratch", 0.5): [0.55, 0.51],
        ("small", False, "scratch", 1.0): [0.62, 0.63],
        ("large", False, "scratch", 0.5): [0.53],
        ("small", False, "probe", 1.0): [0.4],
    }
)


def test_means_and_intervals():
    summary = results.means(FACTORIAL).set_index(["network", "multiscale", "strategy", "fraction"])
    row = summary.loc[("small", False, "finetune", 0.5)]
    assert row["seeds"] == 2
    assert row["accuracy"] == pytest.approx(0.62)
    assert row["f1_macro"] == pytest.approx(0.31)
    low, high = stats.t.interval(0.95, 1, 0.62, np.std([0.60, 0.64], ddof=1) / np.sqrt(2))
    assert row["accuracy_interval"] == pytest.approx((high - low) / 2)
    assert np.isnan(summary.loc[("large", False, "scratch", 0.5), "accuracy_interval"])


def test_contrasts_pair_the_seeds():
    transfer = results.contrast(FACTORIAL, "strategy", "finetune", "scratch")
    plain = transfer[~transfer["multiscale"]].sort_values("seed")
    assert plain["accuracy"].tolist() == pytest.approx([0.10, 0.12])
    mean = results.mean_contrast(transfer).set_index("multiscale")
    assert mean.loc[True, "accuracy"] == pytest.approx((0.15 + 0.20) / 2)
    assert mean.loc[False, "accuracy_interval"] == pytest.approx(t_half_width([0.10, 0.12]))
    interaction = results.contrast(transfer, "multiscale", True, False).sort_values("seed")
    assert interaction["accuracy"].tolist() == pytest.approx([0.05, 0.08])


def test_tables_show_means_intervals_and_seeds():
    tables = results.tables(FACTORIAL)
    assert [*tables] == [
        "accuracy",
        "transfer",
        "multiscale",
        "interaction",
        "network",
        "against_all",
        "overall",
        "effort",
    ]
    assert tables["interaction"]["0.5"].tolist() == [f"+0.065 ± {t_half_width([0.05, 0.08]):.3f} (2)"]
    assert tables["network"]["0.5"].tolist() == ["+0.030 (1)"]
    assert tables["network"]["network"].tolist() == ["large - small"]
    accuracy = tables["accuracy"].set_index(["network", "input", "strategy"])
    assert accuracy.loc[("small", "plain", "probe")].tolist() == ["a", "b", "", "0.400 (1)"]


@pytest.mark.parametrize(
    ("curve", "goal", "share"),
    [
        ({0.1: 0.5, 0.4: 0.8, 1.0: 0.9}, 0.8, 0.4),
        ({0.1: 0.5, 0.4: 0.8, 1.0: 0.9}, 0.6, 0.2),
        ({0.1: 0.5, 0.4: 0.8, 1.0: 0.9}, 0.85, 0.7),
        ({0.1: 0.5, 0.4: 0.8, 1.0: 0.9}, 0.4, 0.1),
        ({0.1: 0.5, 0.4: 0.8, 1.0: 0.9}, 0.95, np.inf),
        ({0.1: 0.5, 0.4: 0.8, 1.0: 0.7}, 0.75, 0.35),  # the first of several
        ({0.1: 0.5, 0.4: 0.5, 1.0: 0.5}, 0.5, 0.1),
    ],
)
def test_matching_fraction(curve, goal, share):
    found, low, high = results.matching_fraction({key: [value] for key, value in curve.items()}, [goal])
    assert found == pytest.approx(share)
    assert np.isnan([low, high]).all()


def test_matching_fraction_is_uncertain_where_the_seeds_disagree():
    def widths(spread):
        around = [-spread, 0.0, spread]
        curve = {share: [mean + d for d in around] for share, mean in ((0.1, 0.5), (0.4, 0.7), (1.0, 0.9))}
        found, low, high = results.matching_fraction(curve, [0.8 + d for d in around])
        assert found == pytest.approx(0.7)
        assert low < found < high
        return high - low

    assert widths(0.001) < widths(0.01) < 0.7
    assert results.matching_fraction({0.1: [0.5, 0.5], 1.0: [0.7, 0.7]}, [0.6, 0.6])[1:] == pytest.approx((0.55, 0.55))


def test_matching_fraction_covers_the_truth():
    # Curves drawn with known means: the interval has to hold the true share about 95 times in 100.
    rng, inside = np.random.default_rng(0), 0
    for _ in range(200):
        curve = {share: rng.normal(mean, 0.02, 4) for share, mean in ((0.1, 0.5), (0.4, 0.7), (1.0, 0.9))}
        _, low, high = results.matching_fraction(curve, rng.normal(0.8, 0.02, 4))
        inside += low <= 0.7 <= high
    assert 180 <= inside <= 200


def test_matching_fractions_of_a_table():
    table = table_of(
        {
            ("net", True, "finetune", 0.2): [0.5],
            ("net", True, "finetune", 1.0): [0.9],
            ("net", True, "scratch", 1.0): [0.7],
            ("net", False, "finetune", 1.0): [0.9],
            ("net", False, "scratch", 1.0): [0.7],
        }
    )
    (row,) = results.matching_fractions(table).itertuples()
    assert (row.multiscale, row.scratch, row.fraction) == (True, 0.7, pytest.approx(0.6))
    assert results.tables(table)["enough"]["fraction that matches it"].tolist() == ["0.60"]


def test_fine_tuning_on_a_share_against_scratch_on_everything():
    table = table_of(
        {
            ("net", False, "finetune", 0.4): [0.6, 0.8],
            ("net", False, "finetune", 1.0): [0.8, 0.9],
            ("net", False, "scratch", 0.4): [0.1, 0.1],
            ("net", False, "scratch", 1.0): [0.7, 0.7],
        }
    )
    (row,) = results.tables(table)["against_all"].to_dict("records")
    assert row["0.4"] == f"+0.000 ± {t_half_width([-0.1, 0.1]):.3f} (2)"
    assert row["1"] == f"+0.150 ± {t_half_width([0.1, 0.2]):.3f} (2)"


def test_a_difference_over_all_cells_is_that_of_whole_seeds():
    table = table_of(
        {
            ("net", False, "finetune", 0.4): [0.6, 0.8, 0.9],
            ("net", False, "finetune", 1.0): [0.8, 0.9],
            ("net", False, "scratch", 0.4): [0.5, 0.5, 0.1],
            ("net", False, "scratch", 1.0): [0.7, 0.7],
            ("other", False, "finetune", 1.0): [0.8, 0.9],
            ("other", False, "scratch", 1.0): [0.7, 0.7],
        }
    )
    (row,) = results.tables(table)["overall"].to_dict("records")
    assert (row["network"], row["difference"]) == ("net", "transfer")
    assert row["mean"] == f"+0.175 ± {t_half_width([0.1, 0.25]):.3f} (2)"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.4, np.nan, np.nan), "0.40"),
        ((0.1, 0.1, 0.32), "at most 0.10 (at most 0.10 to 0.32)"),
        ((0.9, 0.5, np.inf), "0.90 (0.50 to never)"),
    ],
)
def test_fraction_text(values, text):
    assert results.fraction_text(*values, smallest=0.1) == text


def test_read_joins_tables(tmp_path):
    for number, rows in enumerate((FACTORIAL[:3], FACTORIAL[3:])):
        rows.to_csv(tmp_path / f"{number}.csv", index=False)
    pd.testing.assert_frame_equal(results.read([tmp_path / "0.csv", tmp_path / "1.csv"]), FACTORIAL)


def test_read_refuses_what_is_no_table(tmp_path):
    path = tmp_path / "results.csv"
    with pytest.raises(InputError, match=r"results.csv: no such file; expected"):
        results.read([path])
    path.write_text("layers,score\nlayer1,0.5\n")
    with pytest.raises(InputError, match=r"is not a table of `transfer`; expected rows of source, target"):
        results.read([path])
    FACTORIAL.assign(accuracy="good").to_csv(path, index=False)
    with pytest.raises(InputError, match=r"is not a table"):
        results.read([path])
    FACTORIAL[:0].to_csv(path, index=False)
    with pytest.raises(InputError, match=r"is not a table"):
        results.read([path])
    FACTORIAL.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"csv: has a second row of one cell \(source a, target b, .*seed 0\); leave"):
        results.read([path, path])
