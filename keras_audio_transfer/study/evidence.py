"""What an answer of a study is made of: the rows of its table by what they are of, and words for numbers.

Without TensorFlow.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from keras_audio_transfer.mfcc import FLOORS
from keras_audio_transfer.study.cells import LAYER, LAYERS
from keras_audio_transfer.study.comparisons import DIFFERENCES, SCORES, by_target, clips_order, over_targets
from keras_audio_transfer.study.study_file import MULTISCALE, TRAINED

EVERY, EVERY_TARGET = "(every trained network)", "(every target)"
_JOINED = ("all", "chosen", "last", "single")  # what stands for a network, the first that was run
_WORDS = {
    **{"last": "the last layer", "all": "all layers joined", "single": "the best single layer"},
    **{"chosen": "the chosen combination", "mfcc": "MFCC", "log_mel": "log-mel statistics"},
    **{"finetune": "fine-tuning", "scratch": "training from scratch", "head": "a new head on the frozen network"},
    **{"random": "a new head on random weights"},
}


class Finding(NamedTuple):
    """An answer.

    Attributes:
        name: of its pictures and its place on the page.
        question: what was asked.
        sentence: the answer in words and numbers; "Not run: ..." where the table has no rows for it.
        summary: the numbers behind the sentence; None where it was not run.
        details: what the summary is made of, target by target.
    """

    name: str
    question: str
    sentence: str
    summary: pd.DataFrame | None = None
    details: pd.DataFrame | None = None


class Cells(NamedTuple):
    """The rows that were scored; but for `every` and `trainings` those of a source's first classifier and pooling.

    Attributes:
        networks: of joined layers of networks, and of the best single one.
        floors: of plain features.
        layers: of each single layer.
        combinations: of several layers, but not of all.
        trainings: of networks that were trained on the targets, their strategies as `features`; and in a column more,
            `input`, whether that is 'plain' or 'multiscale'.
        every: with any classifier and pooling.
        features: which features stand for a network.
        most: the largest number of training clips a class.
    """

    networks: pd.DataFrame
    floors: pd.DataFrame
    layers: pd.DataFrame
    combinations: pd.DataFrame
    trainings: pd.DataFrame
    every: pd.DataFrame
    features: str
    most: str

    @classmethod
    def of(cls, results: pd.DataFrame) -> "Cells":
        """The rows of a study's table that were scored, fewest clips first."""
        done = results[results["status"] == "done"].sort_values("clips_a_class", key=clips_order, kind="stable")
        done = done.assign(n_pool=_clips_to_fit_on(done))
        is_training = done["classifier"] == TRAINED
        probes, trainings = done[~is_training], done[is_training]
        is_multiscale = trainings["features"].str.endswith(MULTISCALE)
        trainings = trainings.assign(
            features=trainings["features"].str.removesuffix(MULTISCALE),
            input=np.where(is_multiscale, "multiscale", "plain"),
        )
        first = probes.sort_index().groupby("source", sort=False)[["classifier", "pooling"]].first()
        main = probes[(probes[first.columns] == first.reindex(probes["source"]).to_numpy()).all(axis=1)]
        is_floor, is_layer = main["source"].isin(FLOORS), main["features"].eq(LAYER)
        are_layers = main["features"].eq(LAYERS)
        there = {*main.loc[~is_floor, "features"]}
        return cls(
            networks=main[~is_floor & ~is_layer & ~are_layers],
            floors=main[is_floor],
            layers=main[is_layer],
            combinations=main[are_layers],
            trainings=trainings,
            every=probes,
            features=next((name for name in _JOINED if name in there), _JOINED[0]),
            most=main["clips_a_class"].iloc[-1] if len(main) else "",
        )

    @property
    def whole(self) -> pd.DataFrame:
        """The rows that stand for the networks."""
        return self.networks[self.networks["features"] == self.features]

    @property
    def mfcc(self) -> pd.DataFrame:
        """The rows of MFCC alone."""
        return self.floors[self.floors["source"] == "mfcc"]

    def at_most(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Those with the largest number of training clips."""
        return rows[rows["clips_a_class"] == self.most]


def _clips_to_fit_on(rows):
    """How many clips a cell's subset is drawn from: as many as any cell fits on, or as the other folds score."""
    folds = rows.drop_duplicates(["target", "fold"]).groupby("target")["n_test"]
    return rows["target"].map(np.maximum(rows.groupby("target")["n_train"].max(), folds.sum() - folds.mean()))


def has_learnt(rows: pd.DataFrame) -> pd.Series:
    """Whether rows are of networks whose weights are not random."""
    return ~rows["source"].isin(FLOORS) & rows["source_kind"].ne("random")


def compared(comparisons: Mapping[str, pd.DataFrame], by=("source",)) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Summary and details of pairs of rows.

    Args:
        comparisons: what is compared -> `comparisons.pairs`.
        by: what the summary is by, beside the comparison and the number of clips.

    Returns:
        summary: first a row a comparison and number of clips over all networks that have learnt (`EVERY`) and all
        targets (`EVERY_TARGET`), then those by `by`.
        details: a row a comparison, source, target and number of clips.
    """
    rows = pd.concat([each.assign(comparison=name) for name, each in comparisons.items()])
    details = by_target(rows, ["comparison", "source", "source_kind", "target", "target_kind", "clips_a_class"])
    learnt, columns = rows[has_learnt(rows)], ["comparison", "clips_a_class"]
    all_of = {name: EVERY_TARGET if name.startswith("target") else EVERY for name in by}
    whole = over_targets(learnt, columns, details[has_learnt(details)]).assign(**all_of)
    each = over_targets(rows, [*by, *columns], details)
    return pd.concat([whole, each], ignore_index=True)[[*each]], details


def scores(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean scores with intervals; a test of their difference from 0 would say nothing."""
    return by_target(rows.assign(value=rows["score"]), by, SCORES).drop(columns=["p", "p_holm"])


def not_run(name: str, question: str, what: str) -> Finding:
    """The answer to a question for which the table has no rows of what is named."""
    return Finding(name, question, f"Not run: the table has no {what}.")


# ---- words


def in_words(features: str) -> str:
    """The features of a cell as a reader knows them.

    >>> in_words("all+mfcc")
    'all layers joined with MFCC'
    """
    return " with ".join(_WORDS.get(part, part) for part in features.split("+"))


def with_clips(clips_a_class: str) -> str:
    """How many clips were learnt from, in words.

    >>> with_clips("all"), with_clips("5")
    ('with all training clips', 'with 5 clips a class')
    """
    return "with all training clips" if clips_a_class == "all" else f"with {clips_a_class} clips a class"


def interval(row: Mapping, form: str = "+.3f") -> str:
    """The interval of a mean of scores or of their differences.

    >>> interval({"low": 0.01, "high": 0.034})
    '95 % interval +0.010 to +0.034'
    >>> interval({"low": -1.0, "high": 1.0})
    'too few for an interval'
    """
    low, high = row["low"], row["high"]
    if np.isnan(low):
        return "no interval: a single score"
    if (low, high) in (DIFFERENCES, SCORES):  # anything that can be
        return "too few for an interval"
    return f"95 % interval {rounded(low):{form}} to {rounded(high):{form}}"


def rounded(value: float, digits: int = 3) -> float:
    """As it is printed, without a minus before 0."""
    return round(float(value), digits) + 0.0


def sizes(row: Mapping) -> str:
    """Of how many sources, targets, folds and seeds a mean is, as far as a row says.

    >>> sizes({"sources": 1, "targets": 3, "folds": 5, "fewest_folds": 1, "seeds": 2})
    '1 source, 3 targets, 1 to 5 folds, 2 seeds'
    """
    names = [name for name in ("sources", "targets", "folds", "seeds") if name in row]
    texts = {name: counted(row[name], name[:-1]) for name in names}
    if "folds" in row and row["fewest_folds"] < row["folds"]:
        texts["folds"] = f"{row['fewest_folds']} to {texts['folds']}"
    return ", ".join(texts.values())


def counted(number: int, thing: str) -> str:
    """A number of things."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def of_every(summary: pd.DataFrame, words: Mapping[str, tuple[str, str]]) -> str:
    """How much higher one scored than the other, over all networks that have learnt, with the most training clips.

    Args:
        summary: of `compared`.
        words: comparison -> what the two are called; others are left out.
    """
    every = summary[summary.isin([EVERY]).any(axis=1) & summary["comparison"].isin(words)]
    most = every["clips_a_class"].loc[clips_order(every["clips_a_class"]).idxmax()]
    rows = every[every["clips_a_class"] == most].to_dict("records")
    of = [*dict.fromkeys(map(sizes, rows))]
    parts = []
    for row in rows:
        one, other = words[row["comparison"]]
        what = "higher" if row["mean"] >= 0 else "lower"
        about = [interval(row), *([sizes(row)] if len(of) > 1 else [])]
        if row["higher"] or row["lower"]:
            tests = counted(row["tests"], "test")
            about.append(f"significantly higher in {row['higher']} of {tests}, lower in {row['lower']}")
        parts.append(f"{one} scored {abs(row['mean']):.3f} {what} than {other} ({'; '.join(about)})")
    where = f" ({of[0]})" if len(of) == 1 else ""
    return f"{capital(with_clips(most))}{where}, {'; '.join(parts)}.{_alone(rows)}"


def _alone(rows):
    """A sentence where no test of a single network and target has found anything."""
    if any(row["higher"] or row["lower"] for row in rows):
        return ""
    if not any(row["tests"] for row in rows):
        return " No test can be made of a single network and target."
    return " Of a single network and target no difference is significant."


def listed(names: Iterable[str]) -> str:
    """Names in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def capital(text: str) -> str:
    """A sentence's beginning."""
    return text[:1].upper() + text[1:]
