"""Spectra and modulation spectra of sounds whose answer is known, and how far they lie apart."""

import librosa
import numpy as np
import pytest
from conftest import assert_refused
from scipy.signal import lfilter
from sounds import noise

from keras_audio_transfer.log_mel import log_mel
from keras_audio_transfer.study.spectral_distance import CONFIG, MODULATIONS, distance, spectra

RATE = CONFIG.sample_rate


def modulated(rate, seconds=4, depth=0.5, hertz=1000):
    """A tone whose amplitude goes up and down so many times a second."""
    time = np.arange(seconds * RATE) / RATE
    return 0.1 * np.sin(2 * np.pi * hertz * time) * (1 + depth * np.cos(2 * np.pi * rate * time))


@pytest.mark.parametrize("seconds", [1, 3])
@pytest.mark.parametrize("rate", [4.0, 8.0, 16.0])
def test_a_modulation_is_found_in_its_octave_with_its_power(rate, seconds):
    found = spectra([modulated(rate, seconds)])
    of_band = found.modulation[found.log_mel.argmax()]
    assert MODULATIONS[of_band.argmax()] == rate
    assert of_band.max() == pytest.approx(10 * np.log10(0.5**2 / 2), abs=1.5)  # of the envelope's squared mean
    assert spectra([modulated(rate, seconds, depth=0.05)]).modulation[found.log_mel.argmax()].max() == pytest.approx(
        of_band.max() - 20, abs=0.5
    )


def test_the_spectrum_is_the_mean_over_clips_whatever_their_lengths():
    long, short = noise(3 * RATE), 0.1 * noise(RATE, seed=1)
    found = spectra([long, np.zeros(RATE), short])
    assert found.clips == 2
    expected = (log_mel(long, CONFIG).mean(axis=1) + log_mel(short, CONFIG).mean(axis=1)) / 2
    np.testing.assert_allclose(found.log_mel, expected, atol=1e-3)
    one, other = (10 ** (spectra([clip]).modulation / 10) for clip in (long, short))
    np.testing.assert_allclose(found.modulation, 10 * np.log10((one + other) / 2), atol=1e-3)


def test_a_filter_is_as_many_decibels_away_as_it_changes_the_spectrum():
    sounds = [noise(4 * RATE, seed=seed) for seed in range(4)]
    filtered = [lfilter([1, -1], 1, sound) for sound in sounds]
    centres = librosa.mel_frequencies(CONFIG.n_mels + 2, fmin=0, fmax=RATE / 2)[1:-1]
    gain = 10 * np.log10(4 * np.sin(np.pi * centres / RATE) ** 2)
    there, back = distance(spectra(sounds), spectra(filtered)), distance(spectra(filtered), spectra(sounds))
    assert there == back
    assert there.log_mel_distance == pytest.approx(gain.std(), rel=0.05)
    assert there.modulation_distance < 1


def test_how_loud_sounds_are_does_not_count_and_how_they_move_does():
    steady = [noise(2 * RATE, seed=seed) for seed in range(4)]
    time = np.arange(2 * RATE) / RATE
    moving = [sound * (1 + 0.9 * np.cos(2 * np.pi * 4 * time)) for sound in steady]
    assert distance(spectra(steady), spectra([0.01 * sound for sound in steady])) == pytest.approx((0, 0), abs=1e-3)
    apart = distance(spectra(steady), spectra(moving))
    assert apart.log_mel_distance < 0.5
    assert apart.modulation_distance > 3


def test_a_short_clip_is_repeated_and_clips_come_one_by_one():
    click = modulated(4.0)[: RATE // 4]
    np.testing.assert_array_equal(spectra([click]).modulation, spectra([np.tile(click, 4)]).modulation)
    taken = []

    def one_by_one():
        for seed in range(3):
            taken.append(seed)
            yield noise(500, seed=seed)

    assert spectra(one_by_one()).clips == len(taken) == 3
    assert np.isfinite(spectra([[0.5]]).modulation).all()


@pytest.mark.parametrize(
    ("waveforms", "message"),
    [
        ([np.zeros(100)], "waveforms: hold no clip that is not silent; expected one or more"),
        ([noise(10), noise(10, 2)], "waveforms[1]: has shape (10, 2); expected finite numbers of shape (samples), at "),
        ([noise(10), [np.nan]], "waveforms[1]: holds NaN or infinity; "),
        ([[]], "waveforms[0]: has shape (0,); "),
    ],
)
def test_what_cannot_be_is_said_in_one_line(waveforms, message):
    assert_refused(message, lambda: spectra(waveforms))
