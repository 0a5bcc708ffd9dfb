"""Scores over time -> segments: where in a long recording which label is heard. Without TensorFlow.

The scores of windows can be smoothed; they are divided by a threshold with hysteresis, the "double threshold" of Dinkel
and Yu 2020.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from keras_audio_transfer.errors import InputError


class Segment(NamedTuple):
    """Where a label is heard.

    Attributes:
        start, end: in seconds from the recording's start.
        label: its name.
        score: the mean of its smoothed scores there.
    """

    start: float
    end: float
    label: str
    score: float


@dataclass(frozen=True)
class SegmentRule:
    """How scores over time become segments.

    Attributes:
        threshold: a segment has a smoothed score of at least this somewhere; None where scores are no probabilities:
            then a segment is where the smoothed score of one label is the highest. A number for each label, or one.
        lower_threshold: and of at least this throughout; likewise.
        smooth: an odd number of windows; a window's smoothed score is the mean over so many around it, at the ends of a
            recording over those that are there.
        shortest_seconds: shorter segments are left out.

    Raises:
        InputError: thresholds that are not above 0 and below 1 or not in order, an even number of windows, a negative
            length.

    Examples:
        >>> import numpy as np
        >>> scores = np.array([[0.1], [0.3], [0.8], [0.4], [0.1]])
        >>> rule = SegmentRule(threshold=0.5, lower_threshold=0.25, smooth=1)
        >>> [(segment.start, segment.end) for segment in rule.segments(scores, 1.0, ["owl"])]
        [(0.5, 3.5)]
    """

    threshold: float | Sequence[float] | None = 0.5
    lower_threshold: float | Sequence[float] = 0.25
    smooth: int = 1
    shortest_seconds: float = 0.0

    def __post_init__(self):
        pairs = () if self.threshold is None else np.broadcast(self.threshold, self.lower_threshold)
        for threshold, lower in pairs:
            if not 0 < threshold < 1:
                raise InputError(f"threshold: {threshold:g} is not allowed; expected more than 0 and less than 1")
            if not 0 < lower <= threshold:
                most = f"expected more than 0 and at most `threshold`, {threshold:g}"
                raise InputError(f"lower_threshold: {lower:g} is not allowed; {most}")
        if self.smooth < 1 or self.smooth % 2 == 0:
            raise InputError(f"smooth: {self.smooth} is not allowed; expected an odd number of windows, 1 for none")
        if not 0 <= self.shortest_seconds < np.inf:
            raise InputError(f"shortest_seconds: {self.shortest_seconds:g} is not allowed; expected 0 or more")

    def smoothed(self, scores: np.ndarray) -> np.ndarray:
        """The mean over `smooth` windows around each: (windows, labels) -> float64 (windows, labels)."""
        half, n_windows = self.smooth // 2, len(scores)
        sums = np.concatenate([np.zeros((1, scores.shape[1])), np.cumsum(scores, axis=0, dtype=np.float64)])
        first = np.maximum(np.arange(n_windows) - half, 0)
        last = np.minimum(np.arange(n_windows) + half + 1, n_windows)
        return (sums[last] - sums[first]) / (last - first)[:, np.newaxis]

    def segments(self, scores: np.ndarray, hop_seconds: float, labels: Sequence[str]) -> list[Segment]:
        """The segments of a recording, by their start, then in the order of the labels.

        Args:
            scores: (windows, labels), of the windows around every multiple of `hop_seconds`: each stands for the time
                up to half a hop before and behind it.
            hop_seconds: above 0.
            labels: the names of the columns.
        """
        scores = self.smoothed(scores)
        found = []
        for column, label in enumerate(labels):
            for first, last in self._runs(scores, column):
                start, end = max(first - 0.5, 0) * hop_seconds, (last + 0.5) * hop_seconds
                if end - start >= self.shortest_seconds:
                    found.append(Segment(start, end, label, float(scores[first : last + 1, column].mean())))
        return sorted(found, key=lambda segment: segment.start)

    def _runs(self, scores, column) -> Iterator[tuple[int, int]]:
        """The first and the last window of each segment of a label."""
        if self.threshold is None:
            inside = scores.argmax(axis=1) == column
            decided = inside
        else:
            least = (np.broadcast_to(of, scores.shape[1])[column] for of in (self.lower_threshold, self.threshold))
            inside, decided = (scores[:, column] >= of_label for of_label in least)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(np.int8)))
        for first, behind in edges.reshape(-1, 2):
            if decided[first:behind].any():
                yield int(first), int(behind) - 1


def seconds_inside(segments: Sequence[Segment]) -> float:
    """How long at least one of a recording's segments lasts, which are sorted by their start; labels may overlap.

    >>> seconds_inside([Segment(0, 2, "owl", 0.9), Segment(1, 3, "rain", 0.8), Segment(5, 6, "owl", 0.7)])
    4.0
    """
    total = until = 0.0
    for start, end, *_ in segments:
        total += max(end - max(start, until), 0.0)
        until = max(until, end)
    return total


def as_audacity(segments: Sequence[Segment]) -> str:
    """A label track of Audacity: start, end and label, divided by tabs."""
    return "".join(f"{start:.3f}\t{end:.3f}\t{_one_line(label)}\n" for start, end, label, _ in segments)


def as_raven(segments: Sequence[Segment], highest_frequency: float) -> str:
    """A selection table of Raven; a selection reaches over all frequencies.

    Args:
        segments: of one recording.
        highest_frequency: that the model hears, in Hz.
    """
    names = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)")
    lines = ["\t".join((*names, "Label", "Score"))]
    for number, (start, end, label, score) in enumerate(segments, 1):
        times = f"{start:.3f}\t{end:.3f}\t0\t{highest_frequency:g}"
        lines.append(f"{number}\tSpectrogram 1\t1\t{times}\t{_one_line(label)}\t{score:.4f}")
    return "\n".join(lines) + "\n"


def _one_line(label):
    return " ".join(label.split())
