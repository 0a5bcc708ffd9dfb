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
        scores: `accuracy`, its 95 % interval `interval_low` and `interval_high`, and `chance` (the share of the most
            frequent class), from 0 to 1.
        floors: plain feature -> the accuracy that it alone gives.

    >>> verdict({"accuracy": 0.86, "interval_low": 0.79, "interval_high": 0.93, "chance": 0.1}, {"mfcc": 0.78})[1]
    'Of 100 new clips recorded like these, about 86 (79 to 93) would be labelled right; MFCC alone would get 78.'
    """
    accuracy, low, high = (scores[name] for name in ("accuracy", "interval_low", "interval_high"))
    right = f"about {100 * accuracy:.0f} ({100 * low:.0f} to {100 * high:.0f}) would be labelled right"
    of_100 = f"Of 100 new clips recorded like these, {right}"
    if low <= scores["chance"]:
        always = f"always naming the most frequent class would get {100 * scores['chance']:.0f}"
        return Verdict("bad", f"Not distinguishable from chance: do not use. {of_100}; {always}.")
    if not floors:
        return Verdict("good", f"{of_100}.")
    best = max(floors, key=floors.__getitem__)
    alone = f"{IN_WORDS.get(best, best)} alone"
    that = f"{of_100}; {alone} would get {100 * floors[best]:.0f}"
    if accuracy <= floors[best]:
        return Verdict("bad", f"Not better than {alone}: do not use. {that}.")
    if low <= floors[best]:
        return Verdict("doubtful", f"{that}, which lies within the interval.")
    return Verdict("good", f"{that}.")
