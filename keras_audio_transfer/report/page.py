"""One HTML file with all that is known of a classifier; it fetches nothing. Without TensorFlow."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_audio_transfer.audio.loading import or_reason, ordered_map
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.files import atomic_write, cell
from keras_audio_transfer.mfcc import FLOORS
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.probing.label_results import JOINS
from keras_audio_transfer.probing.predictions import by_class
from keras_audio_transfer.report.players import SECONDS, Player, data_uri, player_of
from keras_audio_transfer.report.self_contained import self_contained
from keras_audio_transfer.report.verdict import IN_WORDS, verdict

if TYPE_CHECKING:
    import pandas as pd

MOST_MISTAKES, UNSURE, GUESSES = 1000, 12, 3
_TEMPLATE = Path(__file__).resolve().parent / "page.html.jinja"


@dataclass(frozen=True)
class Report:
    """What the page says; what is None or empty is left out.

    Attributes:
        title: the classifier's name.
        card: of its model folder: `scores` (of the part that was scored, with the floors), `training_data`, `probe`
            and what else stands there.
        predictions: as `predictions.table` returns them, of several labels a clip `label_results.table`; with
            `probability_LABEL` columns, guesses are shown.
        clips: to hear the scored ones.
        chosen: the layers chosen, fold by fold.
        learning_curve: `clips`, `score`, `interval_low`, `interval_high`: a row a number of clips to learn from.
        more_clips: what follows from it.
        calibration: `probability`, `share_right`, `clips`: a row a bin of probabilities.
        calibration_error: the expected calibration error, from 0 to 1.
        kept: what is kept at which limits, as `rejection.table` returns it.
        kept_picture: the PNG file of `plots.kept`.
        named_right: which share of the clips gets the right label with the limits that `predict` uses.
        n_unknown: sounds of none of the classes that `kept` says something of.
        health: a row a class, any columns.
        warnings: what the clips may have against the estimate.
        failures: (clip, reason) of the files that could not be read.
        by_label: of several labels a clip: as `label_results.by_label` returns it, with the average precision of each
            floor as a column of its name.
    """

    title: str
    card: Card
    predictions: "pd.DataFrame"
    clips: Sequence[Clip] = ()
    chosen: str = ""
    learning_curve: "pd.DataFrame | None" = None
    more_clips: str = ""
    calibration: "pd.DataFrame | None" = None
    calibration_error: float | None = None
    kept: "pd.DataFrame | None" = None
    kept_picture: Path | None = None
    named_right: float | None = None
    n_unknown: int = 0
    health: "pd.DataFrame | None" = None
    warnings: Sequence[str] = ()
    failures: Sequence[tuple[str, str]] = ()
    by_label: "pd.DataFrame | None" = None


class Example(NamedTuple):
    """A scored clip on the page.

    Attributes:
        clip: its id.
        true, predicted: its labels; of one label a clip one each.
        notes: what was found when it was read.
        wrong: how wrong the probabilities are. Of one label: that of the predicted label where it is wrong, else what
            it lacks to 1; of several: the log loss over all labels. 0 where there are none.
        guesses: the labels with the highest probabilities, and these; of several labels also the true and predicted.
        player: a text says why there is none.
    """

    clip: str
    true: Sequence[str]
    predicted: Sequence[str]
    notes: str
    wrong: float = 0.0
    guesses: Sequence[tuple[str, float]] = ()
    player: Player | str = ""

    @property
    def is_right(self) -> bool:
        """Whether the labels predicted are the true ones."""
        return self.true == self.predicted


def write(path: Path, report: Report, megabytes: float = 20.0, workers: int = 2) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        report: what it says.
        megabytes: about the size of the page from which on clips are listed without players.
        workers: clips read at the same time.
    """
    content = _content(report)
    room = megabytes * 1e6 - len(_page(content))
    n_mistakes = len(content["mistakes"])
    examples, left_out = _with_players([*content["mistakes"], *content["unsure"]], report.clips, room, workers)
    content |= {"mistakes": examples[:n_mistakes], "unsure": examples[n_mistakes:], "left_out": left_out}
    with atomic_write(path) as partial_file:
        partial_file.write_bytes(_page(content))


def _content(report: Report) -> dict[str, Any]:
    """What the template is given."""
    (part, scores), *_ = report.card.scores.items()
    floors = {name: scores[name] for name in FLOORS if name in scores}
    several = report.by_label is not None
    examples = [*_examples(report, several)]
    frequency = Counter((example.true, example.predicted) for example in examples)
    mistakes = [example for example in examples if not example.is_right]
    mistakes.sort(key=lambda e: (-e.wrong, -frequency[e.true, e.predicted], e.true, e.predicted))
    right = [example for example in examples if example.is_right and example.guesses]
    return {
        "report": report,
        "several": several,
        "part": part,
        "scores": scores,
        "score": scores["mean_average_precision" if several else "accuracy"],
        "interval": [scores.get(f"interval_{end}", np.nan) for end in ("low", "high")],
        "floors": floors,
        "in_words": IN_WORDS,
        "verdict": verdict(scores, floors),
        "names": report.card.labels,
        **({} if several else _class_by_class(examples, report.card.labels)),
        "n_scored": len(examples),
        "n_wrong": len(mistakes),
        "mistakes": mistakes[:MOST_MISTAKES],
        "unsure": sorted(right, key=lambda example: -example.wrong)[:UNSURE],
        "kept_picture": report.kept_picture and data_uri("image/png", report.kept_picture.read_bytes()),
        "left_out": 0,
        "player_seconds": SECONDS,
        "nan": np.nan,
        "citations": citations(report.card),
    }


def _class_by_class(examples, names):
    """Of one label a clip: which class was taken for which, and each one's measures."""
    from sklearn.metrics import confusion_matrix  # takes a second

    true, predicted = zip(*((*example.true, *example.predicted) for example in examples), strict=True)
    counts = confusion_matrix(true, predicted, labels=[*names])
    return {"counts": counts, "by_class": by_class(counts, names)}


def _examples(report, several):
    """Every scored clip, with names as they are: those of the table are marked where a spreadsheet would run them."""
    rows, names = report.predictions, report.card.labels
    clip_of = {cell(clip.clip_id): clip.clip_id for clip in report.clips}
    columns = {name: f"probability_{name}" for name in names if f"probability_{name}" in rows}
    for row in rows.to_dict("records"):
        true, predicted = (_labels_in(row[which], names, several) for which in ("true", "predicted"))
        example = Example(clip_of.get(row["clip"], row["clip"]), true, predicted, row["notes"])
        if columns:
            guesses = [(name, row[column]) for name, column in columns.items()]
            guesses.sort(key=lambda guess: (-guess[1], guess[0] not in predicted))
            shown = [*true, *predicted] if several else []
            example = example._replace(
                wrong=_log_loss(guesses, true) if several else _surprise(example, row[columns[predicted[0]]]),
                guesses=[guess for place, guess in enumerate(guesses) if place < GUESSES or guess[0] in shown],
            )
        yield example


def _labels_in(text, names, several):
    """The labels that a cell holds."""
    for said in (text, text[1:]):
        labels = tuple(filter(None, said.split(JOINS))) if several else (said,)
        if {*labels} <= {*names}:
            return labels
    raise ValueError(f"{text!r} holds no labels")


def _surprise(example, probability):
    return 1 - probability if example.is_right else probability


def _log_loss(probabilities, true):
    """Of the labels of a clip, each by itself: minus the mean logarithm of what was said of what is the case."""
    said = [value if name in true else 1 - value for name, value in probabilities]
    return -np.log(np.maximum(said, 1e-9)).mean()


def _with_players(examples, clips, room, workers):
    """The examples, the first ones with players, as many as `room` bytes hold; and how many players are left out."""
    clip_of = {clip.clip_id: clip for clip in clips}
    here = [place for place, example in enumerate(examples) if example.clip in clip_of]
    made = ordered_map(partial(or_reason, player_of), (clip_of[examples[place].clip] for place in here), workers)
    for done, (place, player) in enumerate(zip(here, made, strict=True)):
        room -= sum(map(len, player[:2])) + 1000 if isinstance(player, Player) else len(player)
        if room < 0:
            return examples, len(here) - done
        examples[place] = examples[place]._replace(player=player)
    return examples, 0


def citations(card: Card) -> list[str]:
    """Of the network, and of all that it has learnt from, each once."""
    found, data = [card.network_citation], card.lineage()
    while isinstance(data, Mapping):
        found.append(data.get("citation"))
        data = data.get("transferred_from")
    return [*dict.fromkeys(map(str, filter(None, found)))]


def _page(content):
    filters = {"share": _share, "text": _text, "listed": _listed, "level": _level}
    return self_contained(_TEMPLATE, content, filters)


def _share(value, low=np.nan, high=np.nan):
    """A share and its interval in percent; – for what is not known."""
    if np.isnan(value):
        return "–"
    interval = "" if np.isnan(low + high) else f" ({100 * low:.0f}_to_{100 * high:.0f})"
    return f"{100 * value:.0f}_%{interval}".replace("_", "\N{NO-BREAK SPACE}")


def _text(value):
    """A cell of a table with any columns."""
    is_number = isinstance(value, float | np.floating)
    return "–" if is_number and np.isnan(value) else f"{value:.4g}" if is_number else str(value)


def _listed(value):
    """A setting: a value, or some, which may have names."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_listed(of_name)}" for name, of_name in value.items())
    return (
        ", ".join(map(_listed, value)) if isinstance(value, Sequence) and not isinstance(value, str) else _text(value)
    )


def _level(count, total):
    """The shade of a cell, from 0 to 5."""
    return -(-5 * int(count) // max(1, int(total)))
