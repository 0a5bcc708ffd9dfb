"""How far the sounds of two data sets lie apart, in their spectra and in how these move. Without TensorFlow.

The modulation spectrum says how fast the envelope of each mel band goes up and down, as speech does at the rate of its
syllables, around 4 Hz (Singh & Theunissen 2003: Modulation spectra of natural sounds and ethological theories of
auditory processing, JASA 114).
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from keras_audio_transfer.audio.loading import crop_or_pad
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.log_mel import log_mel
from keras_audio_transfer.study.arrays import finite

# 100 frames a second; the window of 32 ms passes modulations up to about 30 Hz.
CONFIG = AudioConfig(
    sample_rate=16000, clip_seconds=1.0, n_fft=512, hop_length=160, n_mels=40, mel_f_min=0.0, mel_f_max=8000.0
)
MODULATIONS = (2.0, 4.0, 8.0, 16.0)  # Hz, the centres of octaves
_SEGMENT, _BINS = 100, 512  # frames of which modulations are measured, whatever a clip's length; points of the FFT
_LEAST = 1e-6  # of the envelope's squared mean: less modulation counts as that


class Spectra(NamedTuple):
    """The mean spectra of a set of clips.

    Attributes:
        log_mel: (mels,), the mean over clips and time, in decibels.
        modulation: (mels, modulations), the power of the envelope in octaves around `MODULATIONS`, in decibels re the
            envelope's squared mean; the mean over clips of the power.
        clips: how many are not silent; only these count.
    """

    log_mel: np.ndarray
    modulation: np.ndarray
    clips: int


class Distance(NamedTuple):
    """How far two sets of clips lie apart; 0 for the same spectra, and the same in both directions.

    Attributes:
        log_mel_distance: root mean square over mel bands of the difference in decibels, after its mean over the bands
            is subtracted: how loud the clips are does not count.
        modulation_distance: the same over mel bands and modulations, of which nothing is subtracted.
    """

    log_mel_distance: float
    modulation_distance: float


def spectra(waveforms: Iterable[ArrayLike]) -> Spectra:
    """The mean log-mel spectrum and modulation spectrum of clips, each of which counts alike.

    A clip below a second is repeated up to that, as networks hear it. One clip at a time is in memory.

    Args:
        waveforms: (samples,) each, at `CONFIG.sample_rate` (16,000 Hz), in [-1, 1].

    Raises:
        InputError: a waveform of another shape, empty or not finite, or none that is not silent.

    >>> sine = 0.1 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    >>> found = spectra([sine])
    >>> found.log_mel.shape, found.modulation.shape, int(found.log_mel.argmax())
    ((40,), (40, 4), 5)
    """
    clips, spectrum, power = 0, np.zeros(CONFIG.n_mels), np.zeros((CONFIG.n_mels, len(MODULATIONS)))
    for number, values in enumerate(waveforms):
        waveform = finite(f"waveforms[{number}]", values, ["samples"])
        if not waveform.any():
            continue
        decibels = log_mel(crop_or_pad(waveform.astype(np.float32), CONFIG.n_samples, "repeat", "whole"), CONFIG)
        clips, spectrum, power = clips + 1, spectrum + decibels.mean(axis=1), power + _modulation_power(decibels)
    if not clips:
        raise InputError("waveforms: hold no clip that is not silent; expected one or more")
    return Spectra(spectrum / clips, 10 * np.log10(np.maximum(power / clips, _LEAST)), clips)


def _modulation_power(decibels):
    """Of the envelope of each mel band over its mean, the power in each octave (mels, modulations)."""
    from scipy.signal import welch  # takes a second to import

    envelope = 10 ** (decibels / 20)
    envelope /= envelope.mean(axis=1, keepdims=True)
    rates, density = welch(envelope, 1 / CONFIG.hop_seconds, nperseg=_SEGMENT, nfft=_BINS, axis=1)
    octaves = [(rates >= centre / 2**0.5) & (rates < centre * 2**0.5) for centre in MODULATIONS]
    return np.stack([density[:, octave].sum(axis=1) * rates[1] for octave in octaves], axis=1)


def distance(one: Spectra, other: Spectra) -> Distance:
    """How far two sets of clips lie apart.

    >>> rng = np.random.default_rng(0)
    >>> noise = rng.normal(0, 0.1, (3, 16000))
    >>> distance(spectra(noise), spectra(2 * noise)).log_mel_distance < 1e-6
    True
    """
    of_spectra = one.log_mel - other.log_mel
    differences = of_spectra - of_spectra.mean(), one.modulation - other.modulation
    return Distance(*(float(np.sqrt(np.square(difference).mean())) for difference in differences))
