"""The floors: the MFCC baseline of Choi et al. 2017, and statistics of a log-mel spectrogram. Without TensorFlow."""

from functools import partial
from itertools import chain

import numpy as np
from threadpoolctl import threadpool_limits

from keras_audio_transfer.audio.loading import as_heard, load_sound, or_reason, ordered_map
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.feature_tables.run import RowsOf
from keras_audio_transfer.feature_tables.table import FeatureTable, Row
from keras_audio_transfer.log_mel import log_mel

SAMPLE_RATE = 12000
SECONDS = 29.0
N_SAMPLES = round(SECONDS * SAMPLE_RATE)
COEFFICIENTS = 20
LOG_MEL = AudioConfig(
    sample_rate=16000, clip_seconds=1.0, n_fft=1024, hop_length=512, n_mels=64, mel_f_min=0.0, mel_f_max=8000.0
)
SHORTEST = 1024  # samples: three frames, so that second differences exist


def mfcc_features(waveform: np.ndarray) -> np.ndarray:
    """Statistics of mel-frequency cepstral coefficients, as published.

    librosa's defaults at 12 kHz with 20 coefficients, over the first 29 s; a waveform below 1,024 samples is padded
    with zeros, otherwise nothing is padded or repeated. (Choi et al. 2017, section 4.1, and the authors' code.)

    Args:
        waveform: float32 (samples,) at 12,000 Hz, in [-1, 1].

    Returns:
        float32 (120,): mean and standard deviation over time of the coefficients, of their first differences
        (x[t + 1] - x[t]) and of their second differences, 20 numbers each, in that order.
    """
    import librosa  # takes a second

    waveform = waveform[:N_SAMPLES]
    waveform = np.pad(waveform, (0, max(0, SHORTEST - len(waveform))))
    waveform = np.pad(waveform, 1024)  # as librosa does by default, but it would warn of less than 2,048 samples
    coefficients = librosa.feature.mfcc(y=waveform, sr=SAMPLE_RATE, n_mfcc=COEFFICIENTS, center=False)  # (20, frames)
    tracks = [coefficients, np.diff(coefficients), np.diff(coefficients, n=2)]
    statistics = [statistic for track in tracks for statistic in (track.mean(axis=1), track.std(axis=1))]
    return np.concatenate(statistics).astype(np.float32)


def log_mel_features(waveform: np.ndarray) -> np.ndarray:
    """The plainest summary of a spectrogram: mean and standard deviation over time of each band of `LOG_MEL`.

    Args:
        waveform: float32 (samples,) at 16,000 Hz, in [-1, 1]; all of it is heard.

    Returns:
        float32 (128,): 64 means, then 64 standard deviations.
    """
    decibels = log_mel(waveform, LOG_MEL)
    return np.concatenate([decibels.mean(axis=1), decibels.std(axis=1)]).astype(np.float32)


def extract_mfcc(
    clips: list[Clip], label_names: list[str], workers: int = 2, progress=iter
) -> tuple[FeatureTable, list[tuple[str, str]]]:
    """The MFCC baseline's features of clips, under the layer name `mfcc`.

    Args:
        clips: of any length and sample rate.
        label_names: the labels' names in the order wanted, or the targets'; empty for unlabelled clips.
        workers: clips worked on at the same time.
        progress: wraps the iterator of results, e.g. `tqdm`.

    Returns:
        The features of the clips that could be read, and (clip id, reason) of those that could not.
    """
    return _extract("mfcc", clips, label_names, workers, progress)


def extract_log_mel(
    clips: list[Clip], label_names: list[str], workers: int = 2, progress=iter
) -> tuple[FeatureTable, list[tuple[str, str]]]:
    """The log-mel floor's features of clips, under the layer name `log_mel`; otherwise as `extract_mfcc`."""
    return _extract("log_mel", clips, label_names, workers, progress)


FLOORS = {"mfcc": extract_mfcc, "log_mel": extract_log_mel}
# Layer -> its sample rate, the seconds that are heard (None: all), and what is computed of them.
_KINDS = {"mfcc": (SAMPLE_RATE, SECONDS, mfcc_features), "log_mel": (LOG_MEL.sample_rate, None, log_mel_features)}


def _extract(layer, clips, label_names, workers, progress):
    return FeatureTable.from_rows(chain.from_iterable(progress(floor_rows(layer, workers)(clips))), label_names)


def floor_rows(layer: str, workers: int = 2) -> RowsOf:
    """What computes the rows of `extract_mfcc` or `extract_log_mel`, for a run that keeps them as they come."""

    def rows_of(clips):
        # Products of matrices end in other digits by several threads, of which each machine has a number of its own.
        with threadpool_limits(limits=1):
            yield from ([row] for row in ordered_map(partial(_row, layer), clips, workers))

    return rows_of


def _row(layer: str, clip: Clip) -> Row:
    sample_rate, seconds, features_of = _KINDS[layer]
    sound = or_reason(lambda clip: load_sound(clip, sample_rate, seconds), clip)
    if isinstance(sound, str):
        return Row(clip, sound)
    heard = sound.waveform if seconds is None else sound.waveform[: round(seconds * sample_rate)]
    features = or_reason(lambda _: {layer: features_of(sound.waveform)}, clip)
    return Row(as_heard(clip, sound._replace(waveform=heard)), features)
