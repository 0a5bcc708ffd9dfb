"""A recording and a model -> what the model says of it: labels, segments, notes. The model imports TensorFlow."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_audio_transfer.answers import KNOWN_AT_LEAST, Answers, segment_rule
from keras_audio_transfer.audio.files import open_audio
from keras_audio_transfer.audio.loading import load_sound
from keras_audio_transfer.audio.sliding_windows import windows
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.segments import Segment

if TYPE_CHECKING:
    import pandas as pd

    from keras_audio_transfer.examples import Example, Examples
    from keras_audio_transfer.model import Model

MOST_SAMPLES_A_SECOND = 8 * 48_000  # over all channels: a small file can claim so many that no memory holds them


@dataclass(frozen=True)
class Answer:
    """What a model says of a recording.

    Attributes:
        labels: columns `label` and `score`, the highest first; of a long recording the means over its windows.
        scores_are: what the scores mean, in words.
        are_probabilities: whether they are between 0 and 1.
        known: how much the recording is like what the model was trained on, 0 to 1; None where the model does not say.
        segments: of a long recording, by their start.
        n_windows: of a long recording; 0 where it was heard as one clip.
        notes: what was found when it was read, in words.
        waveform: what was heard, float32 (samples,) at the model's sample rate.
        nearest: the clips most like it, of a recording that was heard as one clip.
    """

    labels: "pd.DataFrame"
    scores_are: str
    are_probabilities: bool
    known: float | None
    segments: list[Segment]
    n_windows: int
    notes: tuple[str, ...]
    waveform: np.ndarray
    nearest: "list[Example]" = field(default_factory=list)


def answer(
    path: Path,
    model: "Model",
    max_seconds: float = 600.0,
    hop_seconds: float | None = None,
    known_at_least: float = KNOWN_AT_LEAST,
    probability_at_least: float = 0.0,
    examples: "Examples | None" = None,
) -> Answer:
    """Let a model hear an audio file: as one clip, or a long recording in windows.

    Long is a recording of more than two of the model's clips, and of more than 30 s. Its segments are those of
    `SegmentRule()`, where scores are probabilities, and otherwise where one label has the highest score.

    Args:
        path: see `audio.files.open_audio`.
        model: with labels; of those whose `predict` has the columns `probability` and `known`, too, they are used.
        max_seconds: what comes later is not heard, and a note says so.
        hop_seconds: from window to window; None for half a window.
        known_at_least: a window with a lower `known` lies in no segment, where scores are probabilities.
        probability_at_least: nor does one whose best label has less than that, of a model that says `known`.
        examples: clips of the model to compare with.

    Raises:
        InputError: see `audio.files.open_audio` and `Model.predict`; or more samples a second than any recording has.

    Examples:
        >>> import tempfile, numpy as np, soundfile, keras_audio_transfer as kat
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     soundfile.write(f"{folder}/a.wav", np.zeros(16000), 16000)
        ...     heard = answer(Path(folder, "a.wav"), kat.load_model())
        >>> len(heard.labels), heard.n_windows, heard.notes
        (10, 0, ('digital silence',))
    """
    config = model.card.audio
    waveform, notes = _heard(path, config, max_seconds)
    if len(waveform) > config.sample_rate * long_seconds(config):
        hop = hop_seconds or config.clip_seconds / 2
        return _in_windows(waveform, notes, model, hop, known_at_least, probability_at_least)
    if len(waveform) > config.n_samples and config.long_clips != "whole":
        part = "first" if config.long_clips == "start" else "middle"
        notes = (*notes, f"the model hears only its {part} {config.clip_seconds:g} s")
    table = model.predict(waveform, config.sample_rate)
    of_labels, known = _scores(table), None if "known" not in table else float(table["known"].iloc[0])
    nearest = [] if examples is None else examples.nearest(_features(waveform, model, examples.layers))
    return Answer(of_labels, *_meaning(table, model), known, [], 0, notes, waveform, nearest)


def long_seconds(config: AudioConfig) -> float:
    """Above how many seconds one answer says little: 30, if the model's clips are not as long themselves."""
    return max(30.0, 2 * config.clip_seconds)


def _features(waveform, model, layers):
    """As of a clip that the model was fitted on, which shorter ones are padded for: layer -> (1, channels)."""
    from keras_audio_transfer.extraction import extract

    clip = Clip("recording", None, synthesise=lambda: (waveform, model.sample_rate))
    table, failures = extract(model.saved_model, layers, [clip], [], model.card.audio)
    if failures:
        raise InputError(failures[0][1])
    return table.layers


def _heard(path: Path, config: AudioConfig, max_seconds: float) -> tuple[np.ndarray, tuple[str, ...]]:
    with open_audio(path) as file:
        channels = next(file.blocks(1)).shape[1]
        if channels * file.sample_rate > MOST_SAMPLES_A_SECOND:
            claims = f"has {channels} channels of {file.sample_rate} Hz"
            expected = f"expected at most {MOST_SAMPLES_A_SECOND} samples a second over all channels; convert it"
            raise InputError(f"{path}: {claims}; {expected}")
    waveform, notes, _ = load_sound(Clip(path.name, path), config.sample_rate, max_seconds)
    n_samples = round(max_seconds * config.sample_rate)
    if len(waveform) > n_samples:
        notes = (*notes, f"longer than {max_seconds:g} s: what comes later was not heard")
    return waveform[:n_samples], notes


def _in_windows(waveform, notes, model, hop_seconds, known_at_least, probability_at_least) -> Answer:
    """A long recording; what is kept of each window is its scores."""
    import pandas as pd

    tables = [*_tables_of_windows(waveform, model, hop_seconds)]
    answers = _answers_of(tables, model.labels)
    scores_are, are_probabilities = _meaning(tables[0], model)
    if answers.known is not None and (n := int((answers.known < known_at_least).sum())):
        notes = (*notes, f"{n} of {len(tables)} windows are unlike everything the model was trained on")
    heard = answers.heard(answers.accepted(known_at_least, probability_at_least))
    segments = segment_rule(model.card).segments(heard, hop_seconds, model.labels)
    means = _scores(pd.DataFrame({"label": model.labels, "score": answers.values.mean(axis=0)}))
    known = None if answers.known is None else float(answers.known.mean())
    return Answer(means, scores_are, are_probabilities, known, segments, len(tables), notes, waveform)


def _answers_of(tables, labels) -> Answers:
    """What the tables of windows, whose rows are in any order, say."""

    def of(column):
        if column in tables[0]:
            return np.stack([table.set_index("label")[column].loc[labels].to_numpy() for table in tables])
        return None

    known = of("known")
    return Answers(labels, of("score"), of("probability"), None if known is None else known[:, 0])


def _tables_of_windows(waveform, model, hop_seconds) -> Iterator["pd.DataFrame"]:
    config = model.card.audio
    clip = Clip("recording", None, synthesise=lambda: (waveform, config.sample_rate))
    for _, window in windows(clip, config, hop_seconds):
        yield model.predict(window, config.sample_rate)


def _scores(table):
    """Label and score, which is the probability where there is one; the highest first."""
    column = "probability" if "probability" in table else "score"
    found = table[["label", column]].rename(columns={column: "score"})
    return found.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def _meaning(table, model) -> tuple[str, bool]:
    """What the scores are, in words, and whether they are probabilities."""
    if "probability" in table:
        return "probabilities", True
    return table.attrs["scores_are"], model.card.scores_are is None
