"""What is found in the table of a study: known effects, tests as by hand, and what was not run."""

import re
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd
import pytest
import studies
from scipy import stats

from keras_audio_transfer.study import comparisons
from keras_audio_transfer.study.comparisons import by_target, over_targets, pairs, pattern
from keras_audio_transfer.study.evidence import EVERY, EVERY_TARGET, Cells
from keras_audio_transfer.study.findings import (
    answers,
    classifiers,
    clips_enough,
    clips_to_match,
    contributions,
    explanations,
    finetuning,
    layers,
    multiscale,
    ranks,
    reverse_of_finetuning,
)

NAMES = ["sources", "layers", "transfer", "reverse", "clips", "mfcc", "depth", "chosen", "contributions"]
NAMES += ["classifiers", "poolings", "finetuning", "reverse_finetuning", "enough", "multiscale", "why"]


@pytest.fixture(scope="module")
def results():
    return studies.table()


@pytest.fixture(scope="module")
def found(results):
    return {finding.name: finding for finding in answers(results, studies.measures())}


def of_every(finding, comparison, clips="all"):
    """The row of a comparison over all trained networks."""
    rows = finding.summary[finding.summary["comparison"].eq(comparison) & finding.summary["clips_a_class"].eq(clips)]
    (row,) = rows[rows.isin([EVERY, EVERY_TARGET]).any(axis=1)].to_dict("records")
    return row


def test_every_question_has_an_answer(found):
    assert [*found] == NAMES
    not_run = [name for name, finding in found.items() if finding.sentence.startswith("Not run: the table has no ")]
    assert not_run == [name for name, finding in found.items() if finding.summary is None]
    assert not_run == ["contributions", "poolings", "finetuning", "reverse_finetuning", "enough", "multiscale"]


@pytest.mark.parametrize(
    ("name", "comparison", "truth"),
    [
        ("layers", "all - last", 0.06),
        ("layers", "all - single", 0.03),
        ("layers", "chosen - all", 0.01),
        ("mfcc", "last+mfcc - last", 0.04),
        ("mfcc", "all+mfcc - all", 0.0),
        ("transfer", "over MFCC", (0.05 + 0.075 + 0.075) / 3),
        ("transfer", "over random weights", 0.1),  # of one source only
        ("depth", "best layer - last layer", 0.03),
        ("classifiers", "centroid - svm", studies.CENTROID),
    ],
)
def test_known_effects_are_found(name, comparison, truth, found):
    row = of_every(found[name], comparison)
    assert row["mean"] == pytest.approx(truth, abs=0.004)
    assert row["low"] <= truth <= row["high"]
    assert (row["targets"], row["seeds"]) == (3, 2)


def test_a_difference_is_tested_as_by_hand(results, found):
    """Nadeau and Bengio: a fold of three with 200 clips in each is fitted on 400 at most."""
    details = found["layers"].details
    row = details.query(
        "comparison == 'all - last' and source == 'loud' and target == 'words' and clips_a_class == '5'"
    )
    scores = results.set_index("cell")["score"]
    both = [scores.filter(like=f"loud|words|{features}|mean|svm|5|").to_numpy() for features in ("all", "last")]
    values = both[0] - both[1]
    error = np.std(values, ddof=1) * np.sqrt(1 / 6 + 200 / 400)
    half = stats.t.ppf(0.975, 5) * error
    expected = [np.mean(values), np.mean(values) - half, np.mean(values) + half]
    expected += [2 * stats.t.sf(abs(np.mean(values)) / error, 5)]
    np.testing.assert_allclose(row[["mean", "low", "high", "p"]].to_numpy(float)[0], expected)
    assert row["cells"].item() == ["loud|words|all|mean|svm|5|*", "loud|words|last|mean|svm|5|*"]
    smallest = details["p"].min()
    assert details.loc[details["p"].idxmin(), "p_holm"] == pytest.approx(smallest * len(details))


def test_a_mean_over_targets_is_of_the_cells_that_it_names(results, found):
    done = results[results["status"] == "done"]
    row = found["layers"].summary.query("source == 'talk' and comparison == 'all - single'").iloc[0]
    one, other = ([cell for cell in done["cell"] if fnmatchcase(cell, named)] for named in row["cells"])
    of = done.groupby("cell")["score"].mean()
    assert len(one) == len(other) == 3 * 2 * 3
    assert row["mean"] == pytest.approx(of[[*{*one}]].mean() - of[[*{*other}]].mean())


def test_ranks_and_who_is_not_told_apart(found):
    finding = found["sources"]
    assert finding.summary["source"].tolist()[:2] == ["loud", "talk"]
    assert finding.summary["mean_rank"].iloc[0] == pytest.approx(5 / 3)  # first of songs, second of the others
    assert "Over 3 targets with all training clips, loud ranks best: 1.7 of 4 on average" in finding.sentence
    assert "(Nemenyi): talk, " in finding.sentence


def test_a_source_without_a_target_is_not_ranked_and_the_targets_stay(results):
    there = ~(results["source"].eq("talk") & results["target"].eq("songs"))
    finding = ranks(Cells.of(results[there]))
    assert "Over 3 targets" in finding.sentence
    assert finding.sentence.endswith("Not ranked, for they have no score on some target: talk.")
    assert "talk" not in {*finding.summary["source"]}


def test_where_transfer_is_negative(found):
    sentence = found["transfer"].sentence
    assert re.search(r"Over MFCC, most is gained from music to music, \+0\.(19|20)", sentence)
    assert re.search(r"least from speech to music, -0\.(09|10)", sentence)
    assert sentence.endswith("Transfer was negative, significantly below MFCC alone, of talk on songs.")
    assert re.search(r"from music to speech \+0\.0[45].*from speech to music -0\.(09|10)", found["reverse"].sentence)
    assert found["reverse"].sentence.endswith("the intervals do not overlap.")


def test_sentences_follow_the_numbers(results):
    worse = results.assign(score=results["score"] - 0.3 * results["features"].eq("all") * results["pooling"].eq("mean"))
    cells = Cells.of(worse[worse["clips_a_class"] != "5"])
    sentence = layers(cells).sentence
    assert re.search(r"all layers joined scored 0\.2(39|4)\d? lower than the last layer", sentence)
    assert "significantly higher in 0 of 6 tests, lower in 6" in sentence
    assert clips_to_match(cells).sentence.startswith("0 of 6 pairs of a trained network and a target get there")


def test_clips_to_match(found):
    summary = found["clips"].summary.set_index(["source", "target"])
    assert summary.loc[("loud", "songs"), "clips"] == 5
    assert np.isinf(summary.loc[("talk", "songs"), "clips"])
    # loud on words is 0.05 above MFCC, which is what 20 clips are below all 40.
    row = summary.loc[("loud", "words")]
    assert row["low"] <= 20 <= row["high"]
    sentence = found["clips"].sentence
    assert sentence.startswith(
        "5 of 6 pairs of a trained network and a target get there within the clips that there are"
    )
    assert ". Those that do not: 1 of 2 on songs. Between" in sentence
    of = summary[np.isfinite(summary["clips"])]
    assert f"in the median of them with {100 * (of['clips'] / of['of']).median():.0f} % of the clips" in sentence


def test_depth_and_chosen_layers(found):
    assert of_every(found["depth"], "depth of the best layer")["mean"] == 0.75
    profile = found["depth"].details.query("source == 'talk' and target == 'words'")
    assert profile["depth"].tolist() == [0.25, 0.5, 0.75, 1.0]
    taken = found["chosen"].summary
    assert {*taken["layer"]} == {"layer2", "layer3"}
    assert taken["fraction"].eq(1).all()
    assert "2.0 layers are taken on average" in found["chosen"].sentence


def test_what_each_layer_brings():
    """What two layers both know is divided between them, and the values add up to the score above chance."""
    results = studies.combinations()
    finding = contributions(Cells.of(results))
    rows = finding.summary.set_index("layer")
    half = studies.BOTH / 2
    for name, truth in {"layer1": 0.1 - half, "layer2": 0.2 - half, "layer3": 0.05}.items():
        assert rows.loc[name, "mean"] == pytest.approx(truth, abs=0.005)
        assert rows.loc[name, "low"] < rows.loc[name, "mean"] < rows.loc[name, "high"]
        assert (rows.loc[name, "targets"], rows.loc[name, "folds"]) == (2, 2)
        assert rows.loc[name, "cells"] == ["loud|*|*|mean|svm|all|0"]
    joined = results[results["features"] == "all"]
    assert rows["mean"].sum() == pytest.approx((joined["score"] - joined["chance"]).mean())
    assert re.search(
        r"with all training clips, one layer of each network brings the most: in loud layer2, \+0\.1[67]",
        finding.sentence,
    )
    lacking = results[results["layers"] != "layer1+layer3"]
    assert contributions(Cells.of(lacking)).summary is None
    assert contributions(Cells.of(results.assign(source_kind="random"))).summary is None


def test_what_goes_with_gains(found):
    summary = found["why"].summary
    assert summary["measure"].tolist() == ["fisher_separation", "effective_dimension"]
    assert summary["pearson"].iloc[0] > 0.99
    assert "over 6 points" in found["why"].sentence
    few = explanations(found["transfer"], studies.measures().query("target == 'songs'"))
    assert few.sentence == "Nothing can be said of 2 measures: 2 points are too few to say more; expected 5 or more."


def test_features_are_not_mixed_where_classifiers_differ(results):
    last = results[results["features"].eq("last") & results["classifier"].eq("svm")]
    cells = last["cell"].str.replace("|svm|", "|centroid|")
    last = last.assign(classifier="centroid", score=last["score"] + 0.1, cell=cells)
    finding = classifiers(Cells.of(pd.concat([results, last])))
    assert of_every(finding, "centroid - svm")["mean"] == pytest.approx(studies.CENTROID, abs=0.005)
    assert of_every(finding, "centroid - svm, the last layer")["mean"] == pytest.approx(0.1)
    assert "centroid with all layers joined scored 0.0" in finding.sentence
    assert "centroid with the last layer scored 0.100 higher than svm" in finding.sentence


@pytest.mark.parametrize(
    ("answer", "comparison", "truth"),
    [
        (finetuning, "finetune - scratch", 0.06),
        (finetuning, "head - scratch", 0.05),
        (multiscale, "multiscale - plain", 0.04),
    ],
)
def test_known_effects_of_trainings_are_found(answer, comparison, truth):
    finding = answer(Cells.of(studies.trainings()))
    row = of_every(finding, comparison)
    assert row["mean"] == pytest.approx(truth, abs=0.005)
    assert row["low"] <= truth <= row["high"]
    assert finding.sentence.startswith("With all training clips (2 sources, 2 targets, 1 fold, 2 seeds), ")


def test_finetuning_beside_the_frozen_network(results):
    """Of a target with folds of its own, what is fitted on all clips is the same for every seed."""
    trained = studies.trainings().query("source == 'loud' and features == 'finetune'").assign(fold="fold_2")
    probes = results.query("source == 'loud' and not (clips_a_class == 'all' and seed == 1)")
    finding = finetuning(Cells.of(pd.concat([probes, trained])))
    assert finding.summary["comparison"].unique().tolist() == ["finetune - frozen"]
    assert "fine-tuning scored" in finding.sentence
    row = finding.details.query("clips_a_class == 'all'").iloc[0]
    frozen = probes.query("cell == 'loud|words|all|mean|svm|all|0' and fold == 'fold_2'")["score"].item()
    expected = trained.query("clips_a_class == 'all'")["score"].mean() - frozen
    assert (row["mean"], row["seeds"], row["folds"]) == (pytest.approx(expected), 2, 1)


def test_the_reverse_of_finetuning():
    finding = reverse_of_finetuning(Cells.of(studies.trainings()))
    gains = finding.summary.set_index(["from", "to"])["mean"]
    assert gains["music", "speech"] == pytest.approx(0.1, abs=0.005)
    assert gains["speech", "music"] == pytest.approx(0.02, abs=0.005)
    assert finding.sentence.startswith(
        "Gains over training from scratch with all training clips: from music to speech +0"
    )
    assert finding.sentence.endswith("the intervals do not overlap.")


def test_how_many_clips_are_enough():
    finding = clips_enough(Cells.of(studies.trainings()))
    needed = finding.summary.set_index(["source", "target"])
    assert {*needed.index} == {
        ("loud", "words"),
        ("loud, multiscale", "words"),
        ("talk", "songs"),
        ("talk, multiscale", "songs"),
    }
    # Linear over the logarithm of the clips: 0.02 of the 0.07 between 5 and 20, 0.03 of the 0.05 between 20 and 40.
    for source, target, truth in (("loud", "words", 5 * 4 ** (2 / 7)), ("talk", "songs", 20 * 2 ** (3 / 5))):
        row = needed.loc[(source, target)]
        assert row["clips"] == pytest.approx(truth, rel=0.1)
        assert row["low"] <= row["clips"] <= row["high"]
    assert finding.sentence.startswith("4 of 4 pairs of a trained network and a target get there")


def test_a_seed_that_failed_leaves_the_others(results):
    failed = results["cell"].isin(["loud|words|all|mean|svm|5|1", "mfcc|words|all|-|svm|all|0"])
    cells = Cells.of(results[~failed & results["source"].isin(["loud", "mfcc"])])
    row = layers(cells).details.query("comparison == 'all - last' and clips_a_class == '5' and target == 'words'")
    assert row["seeds"].tolist() == [1]
    assert len(clips_to_match(cells).summary) == 3


@pytest.mark.parametrize(
    "what",
    ["status == 'failed'", "source == 'mfcc'", "source == 'loud'", "features == 'layer'", "source_kind == 'random'"],
)
def test_little_is_no_error(what, results):
    found = answers(results.query(what), studies.measures().iloc[:0])
    assert [finding.name for finding in found] == NAMES
    assert all(finding.sentence for finding in found)


def test_one_fold_and_seed_have_no_interval():
    sentence = layers(Cells.of(studies.table(seeds=(0,), folds=1).query("target == 'words'"))).sentence
    assert "(no interval: a single score)" in sentence
    assert sentence.endswith(" No test can be made of a single network and target.")


def test_that_no_test_is_significant_is_said_once():
    sentence = layers(Cells.of(studies.table(noise=0.3))).sentence
    assert sentence.endswith(" Of a single network and target no difference is significant.")
    assert sentence.count("significant") == 1


def test_what_cannot_be_tested_is_no_test(results):
    """Of a target with one fold and one seed."""
    once = results["target"].ne("words") | (results["seed"].eq(0) & results["fold"].eq("fold_0"))
    finding = layers(Cells.of(results[once]))
    assert "3 targets, 1 to 3 folds, " in finding.sentence
    row = of_every(finding, "all - last")
    made = finding.details.query("comparison == 'all - last' and clips_a_class == 'all' and source_kind != 'random'")
    assert row["tests"] == made["p"].notna().sum() == len(made) - 2


def test_a_comparison_that_lacks_the_most_clips_is_told_with_those_that_it_has(results):
    fewer = results[~(results["features"].eq("last") & results["clips_a_class"].eq("all"))]
    sentence = layers(Cells.of(fewer.query("features in ['all', 'last']"))).sentence
    assert sentence.startswith(
        "With 20 clips a class (2 sources, 3 targets, 3 folds, 2 seeds), all layers joined scored 0"
    )


def test_pairs_are_of_the_same_clips(results):
    cells = Cells.of(results)
    both = pairs(cells.whole, cells.mfcc)
    assert len(both) == len(cells.whole) == 3 * 3 * 3 * 2 * 3
    np.testing.assert_allclose(both["value"], both["score"] - both["score_other"])
    one = by_target(both, ["source", "target"])
    mean = over_targets(both, ["source"]).set_index("source")["mean"]
    np.testing.assert_allclose(one.groupby("source")["mean"].mean()[mean.index], mean)


def test_a_pattern_names_its_cells():
    cells = ["a|x|all|mean|svm|5|0", "a|y|all|mean|svm|5|1"]
    assert pattern(cells) == "a|*|all|mean|svm|5|*"
    assert all(fnmatchcase(cell, pattern(cells)) for cell in cells)


def test_intervals_end_where_scores_do():
    few = pd.DataFrame(
        [
            {"cell": f"a|{target}", "source": "a", "target": target, "seed": 0, "fold": fold, "value": value}
            | {"n_pool": 4, "n_test": 2}
            for target, of_folds in {"x": (0.5, 1.0), "y": (0.0, 1.0)}.items()
            for fold, value in enumerate(of_folds)
        ]
    )
    for table in (
        by_target(few, ["source", "target"], comparisons.SCORES),
        over_targets(few, ["source"], within=comparisons.SCORES),
    ):
        assert (table["low"] >= 0).all()
        assert (table["high"] <= 1).all()
        assert (table["high"] == 1).any()
    assert by_target(few, ["source", "target"])["low"].min() == -1
