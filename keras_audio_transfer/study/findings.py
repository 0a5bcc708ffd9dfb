"""The table of a study's cells -> its answers: a sentence with an interval each, and the tables behind it.

Every number is computed from the table; what has no rows for an answer is said to be not run. Without TensorFlow.
"""

from collections import Counter

import numpy as np
import pandas as pd

from keras_audio_transfer.mfcc import FLOORS
from keras_audio_transfer.study import statistics
from keras_audio_transfer.study.cells import LAYER, LAYERS
from keras_audio_transfer.study.comparisons import SCORES, SIGNIFICANT, over_targets, pairs, patterns
from keras_audio_transfer.study.evidence import (
    EVERY,
    Cells,
    Finding,
    capital,
    compared,
    counted,
    has_learnt,
    in_words,
    interval,
    listed,
    not_run,
    of_every,
    scores,
    sizes,
    with_clips,
)
from keras_audio_transfer.study.layer_findings import chosen_layers, contributions, depth
from keras_audio_transfer.study.study_file import TWIN

OVER_MFCC, OVER_RANDOM, OVER_SCRATCH = "over MFCC", "over random weights", "over training from scratch"
_SAID = 4  # comparisons in a sentence; the others are in the table
_TRAININGS = "networks that were fine-tuned and trained from scratch"
_LAYER_PAIRS = [("all", "last"), ("all", "single"), ("chosen", "all"), ("single", "last"), ("chosen", "last")]


def answers(results: pd.DataFrame, measures: pd.DataFrame) -> list[Finding]:
    """The answers of a study.

    Args:
        results: the table of cells, a row a cell and fold: docs/studies.md has the columns.
        measures: source, target, layer, measure, value.

    Returns:
        in the order in which they are to be read.
    """
    cells = Cells.of(results)
    transferred = transfer(cells)
    return [
        *(ranks(cells), layers(cells), transferred, reverse(transferred), clips_to_match(cells), floors(cells)),
        *(depth(cells), chosen_layers(cells), contributions(cells), classifiers(cells), poolings(cells)),
        *(finetuning(cells), reverse_of_finetuning(cells), clips_enough(cells), multiscale(cells)),
        explanations(transferred, measures),
    ]


# ---- sources and layers


def ranks(cells: Cells) -> Finding:
    """Mean ranks over all targets, of the sources that were scored on each."""
    name, question = "sources", "Which source is best over all targets?"
    rows = pd.concat([cells.whole, cells.floors])
    rows = rows.assign(value=rows["score"])
    details = scores(rows, ["source", "source_kind", "target", "target_kind", "clips_a_class"])
    table = rank_table(cells.at_most(details))
    if len(table) < 2 or table.shape[1] < 3:
        return not_run(name, question, "three sources that were scored on all of two targets or more")
    rows = cells.at_most(rows)
    left_out = [source for source in rows["source"].unique() if source not in table]
    summary = over_targets(rows[rows["source"].isin(table)], ["source", "source_kind"], within=SCORES)
    test = statistics.friedman(table.to_numpy())
    summary.insert(2, "mean_rank", summary["source"].map(dict(zip(table, test.mean_ranks, strict=True))))
    summary = summary.sort_values("mean_rank", kind="stable", ignore_index=True)
    best, reach = summary.iloc[0], summary["mean_rank"].iloc[0] + test.critical_difference
    alike = summary["source"].iloc[1:][summary["mean_rank"].iloc[1:] <= reach]
    sentence = (
        f"Over {counted(len(table), 'target')} {with_clips(cells.most)}, {best['source']} ranks best: "
        f"{best['mean_rank']:.1f} of {table.shape[1]} on average, score {best['mean']:.3f} ({interval(best, '.3f')}; "
        f"{sizes(best)}). Friedman's test of all sources has p = {test.p:.2g}. Not told from the best, with ranks "
        f"up to {test.critical_difference:.1f} apart (Nemenyi): {listed(alike) if len(alike) else 'none'}."
        f"{f' Not ranked, for they have no score on some target: {listed(left_out)}.' if left_out else ''}"
    )
    return Finding(name, question, sentence, summary, details)


def rank_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores (targets, sources) of the sources that have one on each target."""
    return scores.pivot(index="target", columns="source", values="mean")[scores["source"].unique()].dropna(axis=1)


def layers(cells: Cells) -> Finding:
    """All layers joined, the last one, the best single one and the chosen ones against each other."""
    of = dict([*cells.networks.groupby("features", sort=False)])
    return _joined("layers", "Does joining all layers help?", of, _LAYER_PAIRS)


def floors(cells: Cells) -> Finding:
    """MFCC alone against layers, and layers with plain features against those without."""
    of = dict([*cells.networks.groupby("features", sort=False)])
    both = [(f"{layers}+{floor}", layers) for floor in FLOORS for layers in ("last", "all")]
    alone = [(layers, "mfcc") for layers in ("last", "all")]
    return _joined("mfcc", "Do MFCC still matter?", {**of, "mfcc": cells.mfcc}, [*alone, *both])


def _joined(name, question, of, which):
    """Features against features, `of` whose name there are rows."""
    words = {f"{one} - {other}": (one, other) for one, other in which if one in of and other in of}
    there = {
        what: pairs(of[one], of[other], [] if other == "mfcc" else ["source"]) for what, (one, other) in words.items()
    }
    there = {what: rows for what, rows in there.items() if has_learnt(rows).any()}
    if not there:
        return not_run(name, question, "cells of " + " or ".join(f"{one} and {other}" for one, other in which))
    summary, details = compared(there)
    said = {what: [*map(in_words, words[what])] for what in [*there][:_SAID]}
    return Finding(name, question, of_every(summary, said), summary, details)


# ---- transfer


def transfer(cells: Cells) -> Finding:
    """Gains over MFCC, and over the same network with random weights, by kinds of sources and targets."""
    name, question = "transfer", "What transfers to what?"
    whole = cells.whole
    twins = whole[whole["source"].str.endswith(TWIN)]
    twins = twins.assign(source=twins["source"].str.removesuffix(TWIN))
    there = {OVER_MFCC: pairs(whole, cells.mfcc), OVER_RANDOM: pairs(whole, twins, ["source"])}
    there = {what: rows for what, rows in there.items() if has_learnt(rows).any()}
    if not there:
        return not_run(name, question, "networks beside MFCC or beside random weights")
    summary, details = compared(there, ["source_kind", "target_kind"])
    words = {OVER_MFCC: "MFCC alone", OVER_RANDOM: "the same network with random weights"}
    one = f"trained networks ({in_words(cells.features)})"
    sentence = of_every(summary, {what: (one, words[what]) for what in there})
    first = next(iter(there))
    kinds = cells.at_most(summary[(summary["comparison"] == first) & ~summary["source_kind"].isin([EVERY, "random"])])
    if len(kinds) > 1:
        most, least = (kinds.loc[place] for place in (kinds["mean"].idxmax(), kinds["mean"].idxmin()))
        gains = [
            f"from {row['source_kind']} to {row['target_kind']}, {row['mean']:+.3f} ({interval(row)}; {sizes(row)})"
            for row in (most, least)
        ]
        sentence += f" {capital(first)}, most is gained {gains[0]}, and least {gains[1]}."
    worse = cells.at_most(details[has_learnt(details) & details["p_holm"].lt(SIGNIFICANT) & details["mean"].lt(0)])
    for what, rows in worse.groupby("comparison", sort=False):
        harmed = listed(f"{row.source} on {row.target}" for row in rows.itertuples())
        sentence += f" Transfer was negative, significantly below {words[what]}, of {harmed}."
    return Finding(name, question, sentence, summary, details)


def reverse(transferred: Finding) -> Finding:
    """Gains from one kind to another beside those the other way round, of `transfer`'s first comparison."""
    name, question = "reverse", "Does it transfer the other way round as well?"
    if transferred.summary is None:
        return not_run(name, question, "gains of networks")
    return _reverse(name, question, transferred.summary)


def reverse_of_finetuning(cells: Cells) -> Finding:
    """The same of what fine-tuning gains over training from scratch."""
    name, question = "reverse_finetuning", "Does fine-tuning transfer the other way round as well?"
    gains = pairs(_trained(cells, "finetune"), _trained(cells, "scratch"), ["source", "input"])
    if gains.empty:
        return not_run(name, question, _TRAININGS)
    return _reverse(name, question, compared({OVER_SCRATCH: gains}, ["source_kind", "target_kind"])[0])


def _reverse(name, question, summary):
    """Of a summary by kinds of sources and targets, its first comparison."""
    rows = summary[summary["comparison"] == summary["comparison"].iloc[0]]
    rows = rows[rows["clips_a_class"] == rows["clips_a_class"].iloc[-1]].set_index(["source_kind", "target_kind"])
    made, parts = [], []
    for one, other in rows.index:
        if one < other and (other, one) in rows.index:
            forth, back = rows.loc[(one, other)], rows.loc[(other, one)]
            made += [{"from": a, "to": b, **row.to_dict()} for a, b, row in ((one, other, forth), (other, one, back))]
            apart = forth["low"] > back["high"] or back["low"] > forth["high"]
            parts.append(
                f"from {one} to {other} {forth['mean']:+.3f} ({interval(forth)}; {sizes(forth)}), from {other} to "
                f"{one} {back['mean']:+.3f} ({interval(back)}; {sizes(back)}): "
                f"{'the intervals do not overlap' if apart else 'no difference is shown'}"
            )
    if not made:
        return not_run(name, question, "two kinds that are both sources and targets")
    clips, comparison = rows["clips_a_class"].iloc[0], rows["comparison"].iloc[0]
    return Finding(name, question, f"Gains {comparison} {with_clips(clips)}: {'; '.join(parts)}.", pd.DataFrame(made))


def clips_to_match(cells: Cells) -> Finding:
    """How many training clips a class a network needs for what MFCC reach with the most."""
    name, question = "clips", "How many clips does a network need for what MFCC reach with the most?"
    goals = cells.at_most(cells.mfcc)
    if (found := _clips_needed(cells.whole, lambda source, target: goals[goals["target"] == target])) is None:
        return not_run(name, question, "networks and MFCC with several numbers of training clips")
    return Finding(name, question, *found)


def clips_enough(cells: Cells) -> Finding:
    """How many training clips a class fine-tuning needs for what training from scratch reaches with the most."""
    name = "enough"
    question = "How many clips does fine-tuning need for what training from scratch reaches with the most?"
    tuned, scratch = (_with_input(_trained(cells, strategy)) for strategy in ("finetune", "scratch"))
    goals = scratch[scratch["clips_a_class"].isin(scratch["clips_a_class"].iloc[-1:])]

    def goal(source, target):
        return goals[goals["source"].eq(source) & goals["target"].eq(target)]

    if (found := _clips_needed(tuned, goal)) is None:
        return not_run(name, question, f"{_TRAININGS} with several numbers of training clips")
    return Finding(name, question, *found)


def _with_input(trainings):
    """Trainings with a multiscale input as those of sources of their own."""
    return trainings.assign(source=trainings["source"] + np.where(trainings["input"] == "plain", "", ", multiscale"))


def _clips_needed(rows, goal_of):
    """How many clips rows need for a goal: a sentence and the table of sources and targets; None where it is empty."""
    rows, made, at_once = rows[has_learnt(rows)], [], 0
    for (source, target), of_pair in rows.groupby(["source", "target"], sort=False):
        goal, numbers = goal_of(source, target), _clips_a_class(of_pair)
        curve = {numbers[clips]: each for clips, each in of_pair.groupby("clips_a_class") if clips in numbers}
        if goal.empty or len(curve) < 2:
            continue
        *scores, reached = tables = _by_seed([*curve.values(), goal])
        if not all(each.size for each in tables):  # no seed is in all of them
            continue
        found = statistics.clips_to_match(dict(zip(curve, scores, strict=True)), reached)
        at_once += found.clips <= round(min(curve), 6)
        made.append(
            {
                **{"source": source, "target": target, "clips": found.clips, "low": found.low, "high": found.high},
                **{"of": max(curve), "said": found.sentence},
                **{"folds": of_pair["fold"].nunique(), "fewest_folds": of_pair["fold"].nunique()},
                **{"seeds": of_pair["seed"].nunique(), "cells": patterns(of_pair["cell"], goal["cell"])},
            }
        )
    if not made:
        return None
    summary = pd.DataFrame(made)
    reached = summary[np.isfinite(summary["clips"])]
    sentence = (
        f"{len(reached)} of {counted(len(summary), 'pair')} of a trained network and a target get there within the "
        "clips that there are"
    )
    if len(reached):
        parts = reached["clips"] / reached["of"]
        first = reached.loc[parts.idxmin()]
        if at_once:
            sentence += f", {at_once} of these with the fewest that were tried"
        sentence += (
            f"; in the median of them with {100 * parts.median():.0f} % of the clips; with the smallest part "
            f"{first['source']} on {first['target']}: {first['said']} of {first['of']:.3g} "
            f"(95 % interval; {sizes(first)})"
        )
    if never := Counter(summary["target"][np.isinf(summary["clips"])]):
        pairs_of = summary["target"].value_counts()
        sentence += f". Those that do not: {listed(f'{n} of {pairs_of[name]} on {name}' for name, n in never.items())}"
    return f"{sentence}. Between the numbers of clips that were tried, curves are interpolated.", summary


def _clips_a_class(rows):
    """Number of clips a class as the table has it -> as a number; of "all" the mean over the classes."""
    means = rows.groupby("clips_a_class")["n_train"].mean()
    numbers = pd.to_numeric(means.index.to_series(), errors="coerce")
    classes = (means / numbers).mean()
    return (means / classes).dropna().to_dict()


def _by_seed(tables):
    """Scores (seeds, folds) of each, of the seeds that all have; a single one stands for any."""
    scores = [rows.pivot(index="seed", columns="fold", values="score") for rows in tables]
    common = None
    for each in scores:
        if len(each) > 1:
            common = each.index if common is None else common.intersection(each.index)
    return [(each if len(each) == 1 else each.loc[common]).to_numpy() for each in scores]


# ---- classifiers, poolings, trainings


def classifiers(cells: Cells) -> Finding:
    """Every other classifier against the first, on the same features."""
    return _variants(
        "classifiers", "Does the classifier matter?", cells.every, "classifier", ["pooling"], cells.features
    )


def poolings(cells: Cells) -> Finding:
    """Every other pooling against the first, by the same classifier."""
    return _variants("poolings", "Does the pooling matter?", cells.every, "pooling", ["classifier"], cells.features)


def finetuning(cells: Cells) -> Finding:
    """Every strategy against training from scratch; and fine-tuning, of plain inputs, against the frozen network."""
    name, question = "finetuning", "Does fine-tuning help?"
    compare, words = {}, {}
    for heard, rows in cells.trainings.groupby("input", sort=False):
        of, which = dict([*rows.groupby("features", sort=False)]), "" if heard == "plain" else f", {heard}"
        for one in _others(of, "scratch"):
            what = f"{one} - scratch{which}"
            compare[what] = pairs(of[one], of["scratch"], ["source"])
            words[what] = [f"{in_words(each)}{which and f' with a {heard} input'}" for each in (one, "scratch")]
    plain = _trained(cells, "finetune").query("input == 'plain'")
    compare["finetune - frozen"] = pairs(plain, _for_each_seed(cells.whole, {*plain["seed"]}), ["source"])
    frozen = f"a classifier on {in_words(cells.features)} of the frozen network"
    words["finetune - frozen"] = in_words("finetune"), frozen
    compare = {what: rows for what, rows in compare.items() if has_learnt(rows).any()}
    if not compare:
        return not_run(name, question, f"{_TRAININGS}, or fine-tuning beside other cells")
    summary, details = compared(compare)
    return Finding(name, question, of_every(summary, words), summary, details)


def _trained(cells, strategy):
    return cells.trainings[cells.trainings["features"] == strategy]


def _for_each_seed(rows, seeds):
    """Rows once for each seed where, fitted on all clips of a target with folds of its own, one stands for all."""
    of_all = rows[rows["clips_a_class"] == "all"]
    is_one = rows.index.isin(of_all.index[of_all.groupby("target")["seed"].transform("nunique") == 1])
    return pd.concat([rows[~is_one], *(rows[is_one].assign(seed=seed) for seed in sorted(seeds))])


def multiscale(cells: Cells) -> Finding:
    """Trainings of networks with the multiscale input against those without."""
    question = "Does a multiscale input help?"
    return _variants("multiscale", question, cells.trainings, "input", [], "finetune", "plain")


def _variants(name, question, rows, column, same, main, first=None):
    """Every value of a column against the first one; of the main features first, of which the sentence is."""
    rows = rows[~rows["features"].isin([LAYER, LAYERS]) & ~rows["source"].isin(FLOORS)]
    first = first or next(iter(rows[column]), None)
    there, words = {}, {}
    for features in sorted({*rows["features"]}, key=lambda features: (features != main, features)):
        of = dict([*rows[rows["features"] == features].groupby(column, sort=False)])
        for one in _others(of, first):
            pair = pairs(of[one], of[first], ["source", *same])
            if has_learnt(pair).any():
                what = f"{one} - {first}" if features == main else f"{one} - {first}, {in_words(features)}"
                there[what], words[what] = pair, (f"{one} with {in_words(features)}", first)
    if not there:
        return not_run(name, question, f"trained networks with more than one {column}")
    summary, details = compared(there)
    return Finding(name, question, of_every(summary, dict([*words.items()][:_SAID])), summary, details)


def _others(of, first):
    """What can be compared with the first: all others, where it is there."""
    return [one for one in of if one != first] if first in of else []


# ---- why


def explanations(transferred: Finding, measures: pd.DataFrame) -> Finding:
    """Measures of sources and targets, averaged over a source's layers, against the gains of trained networks."""
    name, question = "why", "What goes with transfer?"
    gains = transferred.details
    if gains is None or measures.empty:
        return not_run(name, question, "measures beside gains")
    gains = gains[has_learnt(gains) & gains["comparison"].eq(gains["comparison"].iloc[0])]
    gains = gains[gains["clips_a_class"] == gains["clips_a_class"].iloc[-1]].rename(columns={"mean": "gain"})
    values = measures.groupby(["measure", "source", "target"], sort=False, as_index=False)["value"].mean().dropna()
    details = values.merge(gains[["source", "source_kind", "target", "gain", "cells"]], on=["source", "target"])
    found = {
        measure: statistics.leave_one_out_correlation(rows["value"], rows["gain"], rows["target"], "target")
        for measure, rows in details.groupby("measure", sort=False)
    }
    if not found:
        return not_run(name, question, "measures beside gains")
    summary = pd.DataFrame([{"measure": measure, **each._asdict()} for measure, each in found.items()])
    order = summary["spearman"].abs().sort_values(ascending=False, kind="stable").index
    summary = summary.loc[order].rename(columns={"sentence": "said"}).reset_index(drop=True)
    top = summary.iloc[0]
    sentence = f"Nothing can be said of {counted(len(summary), 'measure')}: {top['said']}."
    if top["spearman"] == top["spearman"]:
        sentence = (
            f"Of {counted(len(summary), 'measure')}, {top['measure'].replace('_', ' ')} goes most closely with the "
            f"gain {gains['comparison'].iloc[0]}: {top['said']}. It is the strongest of these correlations over few "
            "points, which share sources and targets: no cause is shown."
        )
    return Finding(name, question, sentence, summary, details)
