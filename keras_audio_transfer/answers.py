"""What the outputs of a classifier say of clips: their labels, the best first, or none of them. Without TensorFlow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.model_folder import KNOWN, PROBABILITIES, SCORES, Card
from keras_audio_transfer.segments import SegmentRule

NONE_OF_THESE = "(none of these)"
KNOWN_AT_LEAST = 0.02  # of clips like those heard one in fifty is less; docs/classify.md has what other limits give


def limits_of(card: Card) -> dict[str, float]:
    """What a clip has to reach to be of one of the labels, as `Answers.accepted` takes it: the card's own limits.

    Raises:
        InputError: the card's are no numbers from 0 to 1.
    """
    limits = {"known_at_least": KNOWN_AT_LEAST, "probability_at_least": 0.0}
    said = (card.probe or {}).get("accepts", {})
    try:
        limits = {name: float(said.get(name, value)) for name, value in limits.items()}
        if all(0 <= value <= 1 for value in limits.values()):
            return limits
    except (AttributeError, TypeError, ValueError):
        pass
    raise InputError(f"card.json: probe.accepts is {said!r}; expected numbers from 0 to 1; export the model again")


def thresholds_of(card: Card) -> npt.NDArray[np.float64] | None:
    """The probability from which on a clip has a label, (labels,); None where clips have one label.

    Raises:
        InputError: the card's are no numbers, or not one a label.
    """
    said = (card.probe or {}).get("thresholds")
    if said is None:
        return None
    try:
        return np.array([float(said[label]) for label in card.labels])
    except (KeyError, TypeError, ValueError):
        what = f"probe.thresholds is {str(said)[:60]}; expected a number for each label"
        raise InputError(f"card.json: {what}; export the model again") from None


def segment_rule(card: Card, **given) -> SegmentRule:
    """How the scores of windows become segments: see `Answers.values`.

    Where a label has a threshold of its own, a segment of it has that somewhere; where scores are no probabilities,
    segments have no threshold. `lower_threshold` is half of `threshold` where it is not given.

    Args:
        card: of the model.
        given: attributes of the rule.

    Raises:
        InputError: see `SegmentRule` and `thresholds_of`.
    """
    if card.scores_are is not None and not card.has_probabilities:
        return SegmentRule(**given | {"threshold": None})
    thresholds = thresholds_of(card)
    if thresholds is not None:
        given = {"threshold": thresholds.tolist()} | given
    if "threshold" in given:
        given = {"lower_threshold": np.divide(given["threshold"], 2).tolist()} | given
    return SegmentRule(**given)


@dataclass(frozen=True)
class Answers:
    """The outputs of a classifier for some clips.

    Attributes:
        labels: of the scores.
        scores: (clips, labels).
        probabilities: (clips, labels), and known, (clips,): see `PairProbabilities` and `Familiarity`; None for a model
            that has none. Of one whose clips have several labels, `LabelProbabilities`, and no `known`.
    """

    labels: Sequence[str]
    scores: npt.NDArray[np.floating]
    probabilities: npt.NDArray[np.floating] | None = None
    known: npt.NDArray[np.floating] | None = None

    @classmethod
    def of(cls, outputs: Mapping[str, npt.NDArray[np.floating]], labels: Sequence[str]) -> "Answers":
        """Of rows of outputs by name, (clips, channels) each."""
        known = outputs[KNOWN].ravel() if KNOWN in outputs else None
        return cls(labels, outputs[SCORES], outputs.get(PROBABILITIES), known)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of what `rows` holds."""
        optional = {"probability": self.probabilities, "known": self.known}
        return ("label", "score", *(name for name, values in optional.items() if values is not None))

    @property
    def values(self) -> npt.NDArray[np.floating]:
        """The probabilities, or the scores of a model that has none: (clips, labels)."""
        return self.scores if self.probabilities is None else self.probabilities

    def order(self) -> npt.NDArray[np.int64]:
        """The numbers of the labels, the best first: by probability, then by score, then as they stand."""
        return np.lexsort((-self.scores, -self.values), axis=1)

    def heard(self, accepted: npt.NDArray[np.bool_]) -> npt.NDArray[np.floating]:
        """`values` for segments: a clip, here a window, that is not `accepted` has none of the labels."""
        return self.values * accepted[:, np.newaxis]

    def accepted(
        self, known_at_least: float = KNOWN_AT_LEAST, probability_at_least: float = 0.0
    ) -> npt.NDArray[np.bool_]:
        """Which clips are of one of the labels: like those heard, and of a label that is probable enough."""
        if self.known is None:
            return np.full(len(self.scores), True)
        return (self.known >= known_at_least) & (self.values.max(axis=1) >= probability_at_least)

    def rows(self, top: int, accepted: npt.NDArray[np.bool_] | None = None) -> list[list[tuple]]:
        """For each clip its `top` best labels, as `columns` has them; `NONE_OF_THESE` first where not accepted."""
        result = []
        for number, order in enumerate(self.order()):
            of_clip = [self._row(number, label) for label in order[:top]]
            if accepted is not None and not accepted[number]:
                nothing = (NONE_OF_THESE, np.nan, np.nan, self._row(number, order[0])[-1])
                of_clip = [nothing, *of_clip[: top - 1]]
            result.append(of_clip)
        return result

    def above(self, thresholds: npt.NDArray[np.float64], top: int | None = None) -> list[list[tuple]]:
        """For each clip the labels as probable as their thresholds, at most `top`, or `NONE_OF_THESE`.

        Args:
            thresholds: see `thresholds_of`; of a model with probabilities.
            top: None for no limit.
        """
        nothing = (NONE_OF_THESE, *[np.nan] * (len(self.columns) - 1))
        reached = np.asarray(self.probabilities) >= thresholds
        return [
            [self._row(number, label) for label in order if reached[number, label]][:top] or [nothing]
            for number, order in enumerate(self.order())
        ]

    def _row(self, number, label):
        values = [self.scores[number, label]]
        if self.probabilities is not None:
            values.append(self.probabilities[number, label])
        if self.known is not None:
            values.append(self.known[number])
        return self.labels[label], *(round(float(value), 6) for value in values)
