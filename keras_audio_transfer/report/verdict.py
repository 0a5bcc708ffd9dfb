"""What an estimate says, in a sentence for those who decide. Without TensorFlow."""

from collections.abc import Mapping
from typing import NamedTuple

IN_WORDS = {"mfcc": "MFCC", "log_mel": "a log-mel spectrogram"}


class Verdict(NamedTuple):
    """A sentence, and how good its news is: 'good', 'doubtful' or 'bad'."""

    kind: str
    sentence: str


def verdict(scores: Mapping[str, float], floors: Mapping[str, float]) -> Verdict:
    """Whether a classifier is of use: better than chance, and than plain features without a network.

    Args:
        scores: `accuracy`, or of several labels a clip `mean_average_precision`; where it has one, its 95 % interval
            `interval_low` and `interval_high`; and `chance`: the fraction of the most frequent class, or the mean
            average precision of guesses. All from 0 to 1.
        floors: plain feature -> the score that it alone gives.

    >>> verdict({"accuracy": 0.86, "interval_low": 0.79, "interval_high": 0.93, "chance": 0.1}, {"mfcc": 0.78})[1]
    'Of 100 new clips recorded like these, about 86 (79 to 93) would be labelled right; MFCC alone would get 78.'
    >>> verdict({"mean_average_precision": 0.86, "chance": 0.3}, {"mfcc": 0.78})[1]
    'The mean average precision on new clips recorded like these would be about 86 %; MFCC alone would get 78 %.'
    """
    several = "mean_average_precision" in scores
    score = scores["mean_average_precision" if several else "accuracy"]
    low, unit = scores.get("interval_low", score), " %" if several else ""
    about = f"about {100 * score:.0f}{unit}"
    if "interval_low" in scores:
        about += f" ({100 * low:.0f} to {100 * scores['interval_high']:.0f})"
    said = f"Of 100 new clips recorded like these, {about} would be labelled right"
    guessing = "always naming the most frequent class"
    if several:
        said, guessing = f"The mean average precision on new clips recorded like these would be {about}", "guesses"
    if low <= scores["chance"]:
        by_chance = f"{guessing} would get {100 * scores['chance']:.0f}{unit}"
        return Verdict("bad", f"Not distinguishable from chance: do not use. {said}; {by_chance}.")
    if not floors:
        return Verdict("good", f"{said}.")
    best = max(floors, key=floors.__getitem__)
    alone = f"{IN_WORDS.get(best, best)} alone"
    that = f"{said}; {alone} would get {100 * floors[best]:.0f}{unit}"
    if score <= floors[best]:
        return Verdict("bad", f"Not better than {alone}: do not use. {that}.")
    if low <= floors[best]:
        return Verdict("doubtful", f"{that}, which lies within the interval.")
    return Verdict("good", f"{that}.")
