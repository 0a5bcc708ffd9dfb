"""Resampling in the graph against soxr, an independent implementation."""

import numpy as np
import pytest
import soxr
import tensorflow as tf

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.resampling import SincResampling, resample

RATES = [(44100, 16000), (48000, 16000), (8000, 16000), (22050, 12000), (11025, 16000), (16000, 44100), (44101, 16000)]
at_any_rate = tf.function(
    resample, input_signature=[tf.TensorSpec([None, None]), *[tf.TensorSpec([], tf.int32)] * 2], reduce_retracing=True
)


def band_limited(source, target, seconds=0.5):
    """Sines up to 0.8 of the lower Nyquist frequency, faded in and out: (2, samples)."""
    rng = np.random.default_rng(0)
    time = np.arange(round(seconds * source)) / source
    hertz, phases = rng.uniform(20, 0.4 * min(source, target), (2, 20, 1)), rng.uniform(0, 6, (2, 20, 1))
    waves = np.sin(2 * np.pi * hertz * time + phases).mean(axis=1)
    return (waves * np.hanning(len(time))).astype(np.float32)


@pytest.mark.parametrize(("source", "target"), RATES)
def test_as_soxr(source, target):
    waveform = band_limited(source, target)
    expected = soxr.resample(waveform.T, source, target).T
    resampled = at_any_rate(waveform, source, target).numpy()
    assert resampled.shape[1] == -(-waveform.shape[1] * target // source)
    n = min(resampled.shape[1], expected.shape[1])
    np.testing.assert_allclose(resampled[:, :n], expected[:, :n], atol=1e-4)


def test_what_lies_above_the_lower_nyquist_frequency_is_gone():
    time = np.arange(16000) / 16000
    waveform = (np.sin(2 * np.pi * 5000 * time) * np.hanning(16000)).astype(np.float32)[None]
    assert np.abs(at_any_rate(waveform, 16000, 8000)).max() < 1e-4


def test_equal_rates_change_nothing():
    waveform = band_limited(16000, 16000)
    np.testing.assert_array_equal(at_any_rate(waveform, 16000, 16000), waveform)


@pytest.mark.parametrize("n_samples", [1, 2, 3, 200])
def test_any_length(n_samples):
    waveform = np.ones((1, n_samples), np.float32)
    resampled = at_any_rate(waveform, 44100, 12000).numpy()
    assert resampled.shape == (1, -(-n_samples * 12000 // 44100))
    assert np.isfinite(resampled).all()


def test_layer():
    waveform = band_limited(44100, 12000)
    np.testing.assert_array_equal(SincResampling(44100, 12000)(waveform), at_any_rate(waveform, 44100, 12000))


def test_the_layer_rounds_its_result_only():
    waveform = band_limited(44100, 12000)
    got = SincResampling(44100, 12000, dtype="mixed_float16")(waveform)
    np.testing.assert_array_equal(got, tf.cast(SincResampling(44100, 12000)(waveform), tf.float16))


@pytest.mark.parametrize("rates", [(0, 16000), (16000, -1), (22050.5, 16000), (16000, float("nan"))])
def test_rates_that_cannot_be(rates):
    with pytest.raises(
        InputError, match=r"^(source|target)_rate: \S+ Hz is not allowed; expected a whole number from 1"
    ):
        SincResampling(*rates)
