"""Which pictures an answer has. Without TensorFlow."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from keras_audio_transfer.study import pictures, statistics
from keras_audio_transfer.study.evidence import EVERY, Finding, with_clips
from keras_audio_transfer.study.findings import rank_table

_CLIPS = ("clips_a_class", "training clips a class")
_SCORE, _DIFFERENCE = ("mean", "score"), ("mean", "difference of scores")
Draw = Callable[[Path], None]


def of(finding: Finding) -> dict[str, Draw]:
    """Titles of pictures, and what draws each into a file, as `plots` does it; none of what was not run."""
    if finding.summary is None or finding.name not in _OF:
        return {}
    return _OF[finding.name](finding)


def _sources(finding):
    most = finding.details["clips_a_class"].iloc[-1]
    table = rank_table(_last(finding.details))
    test = statistics.friedman(table.to_numpy())
    ranks = pd.Series(test.mean_ranks, table.columns).sort_values(kind="stable")
    groups = [[table.columns[place] for place in group] for group in test.groups]
    title = f"Mean ranks over {len(table)} targets, {with_clips(most)}; bars join what is not told apart"
    return {
        title: partial(pictures.critical_difference, ranks, test.critical_difference, groups),
        "Scores": _curves(finding.details, "target", "source", _CLIPS, _SCORE),
    }


def _differences(title):
    """Differences by number of clips, a panel a source; no panel of all of them where there is one."""

    def drawn(finding):
        rows = finding.summary
        if rows["source"].nunique() == 2:
            rows = rows[rows["source"] != EVERY]
        return {title: _curves(rows, "source", "comparison", _CLIPS, _DIFFERENCE)}

    return drawn


def _transfer(finding):
    details, kinds = _last(finding.details), _last(finding.summary)
    clips = with_clips(details["clips_a_class"].iloc[0])
    names = kinds["source_kind"] + " to " + kinds["target_kind"]
    kinds = kinds.assign(kinds=names.where(kinds["source_kind"] != EVERY, "every trained network"))
    maps = {
        f"Gains {what} {clips}; bold: significant": partial(pictures.gains, rows)
        for what, rows in details.groupby("comparison", sort=False)
    }
    return {
        **maps,
        f"Gains by kinds {clips}": partial(
            pictures.forest, kinds, label="kinds", group="comparison", x_label=_DIFFERENCE[1]
        ),
    }


def _clips(what):
    """The fraction of the clips that is needed to reach what."""

    def drawn(finding):
        there = finding.summary[np.isfinite(finding.summary["clips"])]
        if there.empty:
            return {}
        needed = there[["clips", "low", "high"]].div(there["of"], axis=0).clip(upper=1)
        rows = needed.rename(columns={"clips": "mean"}).assign(source=there["source"], target=there["target"])
        title = f"The part of the clips with which a network reaches what {what} reaches with all; others do not"
        x_label = "part of the training clips"
        return {title: partial(pictures.forest, rows, label="target", group="source", x_label=x_label)}

    return drawn


def _depth(finding):
    depth = ("depth", "relative depth of a single layer; 1 is the last")
    return {"Scores of single layers": _curves(finding.details, "target", "source", depth, _SCORE)}


def _chosen(finding):
    rows = finding.summary.assign(mean=finding.summary["fraction"], low=np.nan, high=np.nan)
    rows = rows.sort_values("source", kind="stable").assign(label=lambda rows: rows["source"] + ": " + rows["layer"])
    title = "How often a layer is in the chosen combination"
    return {title: partial(pictures.forest, rows, label="label", group="source", x_label="fraction of the choices")}


def _contributions(finding):
    rows = finding.summary.assign(label=finding.summary["source"] + ": " + finding.summary["layer"])
    title = "What each layer brings to the score of all layers joined"
    return {title: partial(pictures.forest, rows, label="label", group="source", x_label="Shapley value")}


def _why(finding):
    return {"Gains against measures of sources and targets": partial(pictures.scatter, finding.details)}


def _curves(table, panel, line, x, y):
    return partial(pictures.curves, table, panel=panel, line=line, x=x, y=y)


def _last(rows):
    """Those with the most training clips."""
    return rows[rows["clips_a_class"] == rows["clips_a_class"].iloc[-1]]


_OF = {
    "sources": _sources,
    "layers": _differences("Differences between features"),
    "transfer": _transfer,
    "clips": _clips("the classifier on MFCC"),
    "mfcc": _differences("What MFCC are worth"),
    "depth": _depth,
    "chosen": _chosen,
    "contributions": _contributions,
    "classifiers": _differences("Classifiers"),
    "poolings": _differences("Poolings"),
    "finetuning": _differences("Strategies of training"),
    "enough": _clips("training from scratch"),
    "multiscale": _differences("With and without a multiscale input"),
    "why": _why,
}
