"""Synthetic sounds, computed when they are needed: 500 clips of 1 s at 16 kHz in 5 classes; `data_dir` is ignored.

Each class is heard under ten recording conditions, ten clips per class and condition. The conditions are the groups
and make the splits: six for training, two for validation, two for testing, so that a network is tested on microphones
and rooms that it has never heard, as it is with real data. There are no folds.

The classes overlap on purpose: vibrato is between harmonic and swept, dense clicks between impulsive and noisy, and a
tone or a noise that trembles between modulated and the rest. Noise hides part of every clip. For scale: an RBF SVM on
the mean and standard deviation of log-mel bands scores 0.74 on the test conditions, ConvNet-5 as `train` trains it by
default 0.83 (seed 0).
"""

from functools import partial
from pathlib import Path

import numpy as np

from keras_audio_transfer.datasets.clip import Clip

CITATION = "Computed by keras_audio_transfer; nothing to cite."
LICENSE = "MIT"
REMOTES = {}
LABELS = ("harmonic", "noisy", "impulsive", "swept", "modulated")

SEED = 2017
SAMPLE_RATE = 16_000  # Hz
SECONDS = 1.0
CLIPS_PER_CONDITION = 10  # of each class

# condition: split, signal-to-noise ratio in dB, slope of the noise in dB per octave, band in Hz from and to, seconds
# until the echo is down to -60 dB (0: none), clipping level relative to the peak (1: none)
_CONDITIONS = {
    "studio": ("train", 30, 0, 50, 8000, 0.0, 1.0),
    "telephone": ("train", 20, 0, 300, 3400, 0.0, 1.0),
    "hall": ("train", 25, -3, 50, 7000, 0.5, 1.0),
    "street": ("train", 12, -6, 80, 8000, 0.2, 1.0),
    "hiss": ("train", 15, 3, 50, 8000, 0.0, 1.0),
    "overload": ("train", 20, 0, 100, 6000, 0.0, 0.5),
    "room": ("validation", 20, -3, 100, 7500, 0.3, 1.0),
    "radio": ("validation", 15, 0, 200, 5000, 0.0, 0.7),
    "stairwell": ("test", 18, -3, 80, 6500, 0.4, 1.0),
    "intercom": ("test", 15, 0, 250, 4500, 0.1, 0.7),
}


def clips(data_dir: Path | None = None) -> list[Clip]:
    """Return the 500 clips in the order of their `clip_id`, LABEL/CONDITION-NUMBER; nothing is read or computed yet."""
    found = [
        Clip(
            clip_id=f"{label}/{condition}-{number}",
            path=None,
            labels=(label,),
            split=row[0],
            group=condition,
            synthesise=partial(synthesise, label, condition, number),
        )
        for label in LABELS
        for condition, row in _CONDITIONS.items()
        for number in range(CLIPS_PER_CONDITION)
    ]
    return sorted(found, key=lambda clip: clip.clip_id)


def synthesise(label: str, condition: str, number: int) -> tuple[np.ndarray, int]:
    """Compute one clip.

    Args:
        label: one of `LABELS`.
        condition: the recording condition.
        number: which of the clips of this class and condition, from 0 up.

    Returns:
        Samples float32 (16000,) in [-1, 1], the same in every process (and on every machine but for rounding), and the
        sample rate in Hz.
    """
    # RandomState: unlike those of default_rng, the numbers it draws are the same in every version of NumPy (NEP 19).
    random = np.random.RandomState([SEED, LABELS.index(label), list(_CONDITIONS).index(condition), number])
    source = _SOURCES[label](random)
    return _record(source, random, condition).astype(np.float32), SAMPLE_RATE


_TIME = np.arange(int(SAMPLE_RATE * SECONDS)) / SAMPLE_RATE  # s
_FREQUENCY = np.fft.rfftfreq(_TIME.size, 1 / SAMPLE_RATE)  # Hz


def _harmonic(random: np.random.RandomState) -> np.ndarray:
    """A tone with overtones, some with vibrato or tremolo, as voices and instruments have."""
    vibrato = random.uniform(0, 0.04) * np.sin(2 * np.pi * (random.uniform(3, 7) * _TIME + random.uniform()))
    tremolo = 1 + random.uniform(0, 0.5) * np.sin(2 * np.pi * (random.uniform(2, 6) * _TIME + random.uniform()))
    return tremolo * _tone(random, _log_uniform(random, 100, 800) * (1 + vibrato))


def _noisy(random: np.random.RandomState) -> np.ndarray:
    """Noise in a band, swelling slowly, as wind and water do."""
    swell = 1 + random.uniform(0, 0.5) * np.sin(2 * np.pi * (random.uniform(0.5, 3) * _TIME + random.uniform()))
    return swell * _band_noise(random)


def _impulsive(random: np.random.RandomState) -> np.ndarray:
    """Clicks that ring briefly, from a few a second to so many that they run together."""
    clicks = np.zeros(_TIME.size)
    count = int(_log_uniform(random, 3, 80))
    clicks[random.randint(0, _TIME.size, count)] = random.uniform(0.3, 1, count)
    ring = _band_noise(random) * np.exp(-_TIME / _log_uniform(random, 0.004, 0.04))
    return _convolve(clicks, ring)


def _swept(random: np.random.RandomState) -> np.ndarray:
    """A tone that glides up or down, some so little that it hardly moves."""
    octaves = _log_uniform(random, 0.3, 2.5) * random.choice([-1, 1])
    return _tone(random, _log_uniform(random, 150, 900) * 2 ** (octaves * (_TIME / SECONDS - 0.5)))


def _modulated(random: np.random.RandomState) -> np.ndarray:
    """A tone or a noise whose loudness trembles, as engines and alarms do."""
    carrier = _tone(random, np.full(_TIME.size, _log_uniform(random, 100, 800)))
    if random.uniform() < 0.5:
        carrier = _band_noise(random)
    tremor = np.sin(2 * np.pi * (_log_uniform(random, 3, 15) * _TIME + random.uniform()))
    return (1 + random.uniform(0.7, 1) * tremor) * carrier


_SOURCES = dict(zip(LABELS, (_harmonic, _noisy, _impulsive, _swept, _modulated), strict=True))


def _record(source: np.ndarray, random: np.random.RandomState, condition: str) -> np.ndarray:
    """What a microphone makes of the source: echo, noise, a limited band, clipping, and a level of its own."""
    _split, snr, slope, low, high, echo, clipping = _CONDITIONS[condition]
    if echo:
        tail = random.normal(size=_TIME.size) * 10 ** (-3 * _TIME / echo)
        tail[0] = 10  # the direct sound
        source = _convolve(source, tail)
    noise = _shape(random, (np.maximum(_FREQUENCY, 50) / 1000) ** (slope / 6.02))
    heard = source / _rms(source) + noise / _rms(noise) * 10 ** (-(snr + random.uniform(-4, 4)) / 20)
    heard = _band_pass(heard, low, high)
    heard = np.clip(heard / np.abs(heard).max(), -clipping, clipping) / clipping
    return heard * _log_uniform(random, 0.3, 0.9)


def _tone(random: np.random.RandomState, pitch: np.ndarray) -> np.ndarray:
    """Up to 12 partials of a pitch in Hz (samples,), each overtone weaker than the one below by a random slope."""
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    slope = random.uniform(0.3, 1.5)
    audible = range(1, 1 + min(12, int(SAMPLE_RATE / 2 / pitch.max())))
    return sum(np.sin(n * phase + random.uniform(0, 2 * np.pi)) / n**slope for n in audible)


def _band_noise(random: np.random.RandomState) -> np.ndarray:
    """Noise around a centre between 300 Hz and 4 kHz, with flanks as wide as an octave or several."""
    centre, width = _log_uniform(random, 300, 4000), random.uniform(0.3, 1.5)
    octaves = np.log2(np.maximum(_FREQUENCY, 1) / centre)
    return _shape(random, np.exp(-0.5 * (octaves / width) ** 2))


def _shape(random: np.random.RandomState, gain: np.ndarray) -> np.ndarray:
    return np.fft.irfft(np.fft.rfft(random.normal(size=_TIME.size)) * gain)


def _band_pass(sound: np.ndarray, low: float, high: float) -> np.ndarray:
    gain = 1 / np.sqrt((1 + (low / np.maximum(_FREQUENCY, 1)) ** 8) * (1 + (_FREQUENCY / high) ** 8))
    return np.fft.irfft(np.fft.rfft(sound) * gain)


def _convolve(sound: np.ndarray, response: np.ndarray) -> np.ndarray:
    """`sound` through a filter, cut to its length."""
    size = 2 * sound.size
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size))[: sound.size]


def _rms(sound: np.ndarray) -> float:
    return float(np.sqrt(np.mean(sound**2)))


def _log_uniform(random: np.random.RandomState, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(high))))
