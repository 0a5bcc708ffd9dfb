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
    paths = [tmp_path / "1.csv", tmp_path / "0.csv"]
    for path, rows in zip(paths, (FACTORIAL[:3], FACTORIAL[3:]), strict=True):
        rows.to_csv(path, index=False)
    table = results.read(paths)
    pd.testing.assert_frame_equal(table.reset_index(drop=True), FACTORIAL)
    assert [*table.index] == paths[:1] * 3 + paths[1:] * (len(FACTORIAL) - 3)


def test_read_refuses_what_is_no_table(tmp_path):
    path = tmp_path / "results.csv"
    with pytest.raises(InputError, match=r"results.csv: no such file; expected"):
        results.read([path])
    path.write_text("layers,score\nlayer1,0.5\n")
    with pytest.raises(InputError, match=r"is not a table of `transfer`; expected rows of source, target"):
        results.read([path])
    FACTORIAL[:0].to_csv(path, index=False)
    with pytest.raises(InputError, match=r"is not a table"):
        results.read([path])
    FACTORIAL.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"csv, line 2: is a second row of one cell \(source a, .*seed 0\); leave"):
        results.read([path, path])


TRAINED = "a,b,net,False,finetune,0.5,0,10,0.75,0.5,0.25,0.5,4,60.5"
PROBE = "a,b,net,True,probe,1.0,0,20,0.75,0.5,,,,60.5"


def written(path, *rows, end="\n"):
    path.write_text("\n".join([",".join(results.COLUMNS), *rows]) + end)
    return path


def test_a_table_as_transfer_writes_it(tmp_path):
    table = results.read([written(tmp_path / "results.csv", TRAINED, PROBE)])
    assert table.iloc[0].to_list() == ["a", "b", "net", False, "finetune", 0.5, 0, 10, 0.75, 0.5, 0.25, 0.5, 4, 60.5]
    assert table.iloc[1][["loss", "validation_accuracy", "epochs"]].isna().all()
    assert [table[name].dtype for name in ("multiscale", "seed", "loss", "epochs")] == [bool, int, float, float]
    exact = ["0.30000000000000004", "1e-05"]
    rows = [TRAINED.replace(",0.5,0,", f",{fraction},0,") for fraction in exact]
    assert results.read([written(tmp_path / "results.csv", *rows)])["fraction"].map(repr).tolist() == exact
    only_probes = results.read([written(tmp_path / "results.csv", PROBE)])
    assert results.means(only_probes)["epochs"].isna().all()


NOT_ITS_VALUES = {
    "source": ["", "a name"],
    "network": ["", "a name"],
    "multiscale": ["no", "'False'", "5", "true", "1", "", "True or False"],
    "strategy": ["bogus", "", "Finetune", "one of finetune, scratch, head, probe, random"],
    "fraction": ["5", "0", "-1", "inf", "nan", "", "half", "1e999", "a number above 0, up to 1"],
    "seed": ["1.5", "-1", "", "1e3", "9223372036854775808", "9" * 5000, "a whole number of 0 to 2^63 - 1"],
    "train_clips": ["6.5", "-6", "many", "", "a whole number of 0 to 2^63 - 1"],
    "accuracy": ["7", "-3", "inf", "nan", "good", "0.7.5", "", "0_1", " 1", "0x1", "a number of 0 to 1"],
    "f1_macro": ["7", "-0.1", "zzz", "", "a number of 0 to 1"],
    "loss": ["zzz", "inf", "-1", "", "a number of 0 or more"],
    "validation_accuracy": ["1.1", "zzz", "", "a number of 0 to 1"],
    "epochs": ["1.5", "many", "", "99999999999999999999", "a whole number of 0 to 2^63 - 1"],
    "seconds": ["inf", "long", "", "a number of 0 or more"],
}


@pytest.mark.parametrize("column", NOT_ITS_VALUES)
def test_values_that_transfer_does_not_write(column, tmp_path):
    *values, expected = NOT_ITS_VALUES[column]
    for value in values:
        fields = dict(zip(results.COLUMNS, TRAINED.split(","), strict=True)) | {column: value}
        path = written(tmp_path / "results.csv", TRAINED.replace(",0,10,", ",1,10,"), ",".join(fields.values()))
        with pytest.raises(InputError) as error:
            results.read([path])
        remedy = "put the row back as it was, or remove it"
        assert str(error.value) == f"{path}, line 3: {column} is {value[:60]!r}; expected {expected}; {remedy}"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-2], "is not the whole table, its last line does not end; put it back as it was, or rem"),
        (lambda text: text[:-10], "is not the whole table, its last line does not end"),
        (lambda text: text[:-1] + ",7\n", ", line 3: has 15 fields; expected 14, source, target, "),
        (lambda text: text.replace("60.5\n", "60.5,7\n"), ", line 2: has 15 fields; expected 14"),
        (lambda text: text.replace(",60.5\n", "\n"), ", line 2: has 13 fields; expected 14"),
        (lambda text: text + "\n", ", line 4: has 0 fields; expected 14"),
        (lambda text: "", "is not a table of `transfer`"),
        (lambda text: text.replace(",loss", ""), "is not a table of `transfer`"),
        (lambda text: text.replace("a,b", '"a,b'), "is not a table of `transfer`"),
        (lambda text: text.replace("a,b", "\0,\udcff"), "is not a table of `transfer`"),
    ],
)
def test_a_table_that_is_not_whole(damage, message, tmp_path):
    path = written(tmp_path / "results.csv", TRAINED, PROBE)
    path.write_bytes(damage(path.read_text()).encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as error:
        results.read([path])
    assert str(error.value).startswith(f"{path}{message if message.startswith(',') else f': {message}'}")
    assert "\n" not in str(error.value)


def test_seeds_of_a_cell_have_as_many_clips(tmp_path):
    path = written(tmp_path / "results.csv", TRAINED, TRAINED.replace(",0,10,", ",1,9,"))
    with pytest.raises(InputError, match=r"line 3: has 9 train_clips, where another seed .*0\.5\) has 10; expected as"):
        results.read([path])


def test_fractions_that_differ_little_are_told_apart():
    (row,) = results.tables(table_of({("n", False, "head", f): [f] for f in (0.25, 0.2499999)}))["accuracy"].to_dict(
        "records"
    )
    assert [row["0.25"], row["0.2499999"]] == ["0.250 (1)", "0.250 (1)"]
