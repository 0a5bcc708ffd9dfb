"""A mel spectrogram in decibels, to look at and to describe; those of networks are in `spectrogram`. No TensorFlow."""

import math

import numpy as np

from keras_audio_transfer.config import AudioConfig

_FRAMES = 4096  # that are computed at a time


def log_mel(waveform: np.ndarray, config: AudioConfig, columns: int | None = None) -> np.ndarray:
    """The power in mel bands over time, in decibels, by librosa.

    Args:
        waveform: float32 (samples,) at `config.sample_rate`; padded with half a frame of zeros on each side.
        config: frames, hop and mel bands are those of the front end.
        columns: at most so many, each the maximum of as many frames as needed; None for a column a frame.

    Returns:
        (mels, columns): decibels re 1; a power below 1e-10 counts as that.
    """
    import librosa  # takes a second

    hop, n_fft = config.hop_length, config.n_fft
    n_frames = 1 + len(waveform) // hop
    per_column = math.ceil(n_frames / (columns or n_frames))
    block = per_column * math.ceil(_FRAMES / per_column)
    padded = np.pad(waveform, (n_fft // 2, n_fft - n_fft // 2))
    parts = []
    for first in range(0, n_frames, block):
        power = librosa.feature.melspectrogram(
            y=padded[first * hop : (first + block - 1) * hop + n_fft],
            sr=config.sample_rate,
            n_fft=n_fft,
            hop_length=hop,
            n_mels=config.n_mels,
            fmin=config.mel_f_min,
            fmax=config.mel_f_max,
            htk=config.mel_scale == "htk",
            center=False,
        )
        parts.append(np.maximum.reduceat(power, range(0, power.shape[1], per_column), axis=1))
    return 10 * np.log10(np.maximum(np.concatenate(parts, axis=1), 1e-10))
