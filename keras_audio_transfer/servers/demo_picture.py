"""The picture of a recording: its mel spectrogram, and below it where which label is heard. Without TensorFlow."""

import io
from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.log_mel import log_mel
from keras_audio_transfer.plots import BLUE
from keras_audio_transfer.segments import Segment

COLUMNS = 1000  # of the picture, at most
MOST_LABELS = 10  # that segments are drawn of: those heard longest
_QUIET = -20.0  # dB: what is all below is dark as a whole, so that silence is black
_GREY = "#808080"  # is read on white and on black: the page has both


def below_loudest(waveform: np.ndarray, config: AudioConfig) -> np.ndarray:
    """A mel spectrogram, (mels, columns): decibels re the loudest cell, or re `_QUIET` where that is louder; at least
    -80. See `log_mel`; there are `COLUMNS` at most, also where the recording is long.
    """
    decibels = log_mel(waveform, config, COLUMNS)
    return np.maximum(decibels - max(decibels.max(), _QUIET), -80.0)


def picture(waveform: np.ndarray, config: AudioConfig, segments: Sequence[Segment]) -> bytes:
    """The mel spectrogram over time, and a bar for each segment, as a PNG with a transparent ground.

    Args:
        waveform, config: see `log_mel`.
        segments: of the recording; none are drawn of a clip.
    """
    seconds = Counter()
    for segment in segments:
        seconds[segment.label] += segment.end - segment.start
    labels = [label for label, _ in seconds.most_common(MOST_LABELS)]
    rows = 0.22 * len(labels)
    figure = Figure(figsize=(5, 2.2 + rows), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots(
        2 if labels else 1, sharex=True, squeeze=False, height_ratios=[1.8, rows] if labels else None
    )
    _draw_spectrogram(axes[0, 0], waveform, config)
    if labels:
        _draw_segments(axes[1, 0], segments, labels)
    for axis in axes.flat:
        axis.tick_params(colors=_GREY, labelsize=8)
        axis.spines[:].set_color(_GREY)
    axes[-1, 0].set_xlabel("seconds", color=_GREY, size=8)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()


def _draw_spectrogram(axis, waveform, config):
    import librosa

    end = len(waveform) / config.sample_rate
    values = below_loudest(waveform, config)
    axis.imshow(values, origin="lower", aspect="auto", cmap="magma", vmin=-80, vmax=0, extent=(0, end, 0, len(values)))
    centres = librosa.mel_frequencies(
        len(values) + 2, fmin=config.mel_f_min, fmax=config.mel_f_max, htk=config.mel_scale == "htk"
    )[1:-1]
    bands = np.linspace(0, len(values) - 1, 5).astype(int)
    axis.set_yticks(bands + 0.5, [f"{centres[band]:.0f}" for band in bands])
    axis.set_ylabel("Hz", color=_GREY, size=8)


def _draw_segments(axis, segments, labels):
    axis.patch.set_alpha(0)
    for row, label in enumerate(labels):
        bars = [(segment.start, segment.end - segment.start) for segment in segments if segment.label == label]
        axis.broken_barh(bars, (row - 0.35, 0.7), color=BLUE)
    axis.set_yticks(range(len(labels)), [label if len(label) <= 24 else f"{label[:23]}…" for label in labels])
    axis.set_ylim(len(labels) - 0.5, -0.5)
