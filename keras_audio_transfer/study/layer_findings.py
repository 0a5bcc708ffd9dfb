"""The table of a study's cells -> what it says of single layers. Without TensorFlow."""

from itertools import chain

import numpy as np
import pandas as pd

from keras_audio_transfer.study import shapley
from keras_audio_transfer.study.comparisons import over_targets, pairs, pattern, patterns
from keras_audio_transfer.study.evidence import (
    EVERY_TARGET,
    Cells,
    Finding,
    capital,
    compared,
    counted,
    has_learnt,
    interval,
    not_run,
    scores,
    sizes,
    with_clips,
)
from keras_audio_transfer.study.study_file import ALL


def depth(cells: Cells) -> Finding:
    """The score of each single layer by its relative depth; where the best one lies."""
    name, question = "depth", "At which depth is what transfers?"
    rows = cells.at_most(cells.layers)
    if not has_learnt(rows).any():
        return not_run(name, question, "single layers of networks")
    of_layer = ["source", "source_kind", "target", "target_kind", "layers", "depth"]
    details = scores(rows, of_layer)
    means = rows.groupby([*of_layer, "clips_a_class", "seed"], sort=False, as_index=False).agg(
        {"score": "mean", "n_pool": "mean", "n_test": "mean", "cell": "first"}
    )
    means, place = means[has_learnt(means)], ["source", "target", "seed"]
    best = means.loc[means.groupby(place, sort=False)["score"].idxmax()].assign(fold="")
    last = means.loc[means.groupby(place, sort=False)["depth"].idxmax()].assign(fold="")
    both_layers = pairs(best, last, ["source"])
    comparisons = {
        "depth of the best layer": both_layers.assign(value=both_layers["depth"]),
        "best layer - last layer": both_layers,
    }
    summary, _ = compared(comparisons, ["target_kind"])
    summary = summary.drop(columns=["tests", "higher", "lower", "folds", "fewest_folds"])
    is_depth = summary["comparison"] == "depth of the best layer"
    summary.loc[is_depth, ["low", "high"]] = summary.loc[is_depth, ["low", "high"]].clip(0, 1)  # what can be
    where, gain = summary[summary["target_kind"] == EVERY_TARGET].to_dict("records")
    sentence = (
        f"{capital(with_clips(cells.most))} ({sizes(where)}), the best single layer of a trained network lies at a "
        f"relative depth of {where['mean']:.2f} on average ({interval(where, '.2f')}; 1 is the last layer), and scored "
        f"{gain['mean']:.3f} more than the last one ({interval(gain)}). It was picked by the scored clips: this "
        "describes, and is no estimate."
    )
    return Finding(name, question, sentence, summary, details)


def chosen_layers(cells: Cells) -> Finding:
    """Which layers the combinations hold that were chosen inside the training clips."""
    name, question = "chosen", "Which layers do chosen combinations take?"
    rows = cells.at_most(cells.networks[cells.networks["features"] == "chosen"])
    rows = rows[has_learnt(rows)]
    if rows.empty:
        return not_run(name, question, "chosen combinations")
    rows = rows.assign(layer=rows["layers"].str.split("+"))
    rows = rows.assign(value=rows["layer"].str.len())
    number = over_targets(rows, ["features"], within=(0.0, np.inf)).iloc[0]
    choices = rows.groupby("source", sort=False).size()
    taken = rows.explode("layer")
    summary = taken.groupby(["source", "layer"], sort=False).agg(taken=("cell", "size"), cells=("cell", patterns))
    summary = summary.reset_index()
    summary.insert(3, "choices", summary["source"].map(choices))
    summary.insert(4, "fraction", summary["taken"] / summary["choices"])
    summary = summary.sort_values("fraction", ascending=False, kind="stable", ignore_index=True)
    top = summary.iloc[0]
    sentence = (
        f"{capital(with_clips(cells.most))}, {number['mean']:.1f} layers are taken on average "
        f"({interval(number, '.1f')}; {sizes(number)}); most often {top['layer']} of {top['source']}, in "
        f"{top['taken']} of {counted(top['choices'], 'choice')}."
    )
    return Finding(name, question, sentence, summary)


def contributions(cells: Cells) -> Finding:
    """What each layer brings to the score of all layers joined: its Shapley value, of each fold and seed."""
    name, question = "contributions", "What does each layer bring to all layers joined?"
    joined = cells.networks[cells.networks["features"] == ALL]
    rows = cells.at_most(pd.concat([cells.layers, cells.combinations, joined]))
    same = ["source", "source_kind", "target", "seed", "fold"]
    values = [*chain.from_iterable(_brought(group) for _, group in rows.groupby(same, sort=False))]
    found = pd.DataFrame(values, columns=[*rows, "layer", "value"])
    if not has_learnt(found).any():
        return not_run(name, question, "trained networks with all combinations of their layers")
    summary = over_targets(found, ["source", "source_kind", "layer"])
    learnt = summary[has_learnt(summary)]
    most = learnt.loc[learnt.groupby("source", sort=False)["mean"].idxmax()].to_dict("records")
    parts = [f"in {row['source']} {row['layer']}, {row['mean']:+.3f} ({interval(row)}; {sizes(row)})" for row in most]
    sentence = (
        f"Of what all layers joined score above chance {with_clips(cells.most)}, one layer of each network brings the "
        f"most: {'; '.join(parts)}. These are Shapley values: means over all orders in which the layers may be joined."
    )
    return Finding(name, question, sentence, summary)


def _brought(rows):
    """A row a layer, with its value; of the rows of one fold, if they are of all combinations of two layers or more."""
    score_of = {tuple(layers.split("+")): score for layers, score in zip(rows["layers"], rows["score"], strict=True)}
    n_layers = len({*chain.from_iterable(score_of)})
    if n_layers < 2 or len(score_of) < 2**n_layers - 1:
        return
    about = rows.iloc[0].to_dict() | {"cell": pattern(rows["cell"])}
    for layer, value in shapley.exact(score_of, about["chance"]).items():
        yield about | {"layer": layer, "value": value}
