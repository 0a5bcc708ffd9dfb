"""The MFCC baseline's 120 numbers, in the published order."""

import librosa
import numpy as np
import pytest
import soundfile
from sounds import noise
from threadpoolctl import threadpool_info, threadpool_limits

from keras_audio_transfer import datasets, mfcc
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.mfcc import LOG_MEL, SAMPLE_RATE, log_mel_features, mfcc_features


@pytest.mark.parametrize("seconds", [0.2, 5.0, 31.0])
def test_the_published_statistics(seconds):
    waveform = noise(round(seconds * SAMPLE_RATE))
    coefficients = librosa.feature.mfcc(y=waveform[: 29 * 12000], sr=12000, n_mfcc=20)
    first = coefficients[:, 1:] - coefficients[:, :-1]
    second = first[:, 1:] - first[:, :-1]
    expected = [f(track) for track in (coefficients, first, second) for f in (lambda x: x.mean(1), lambda x: x.std(1))]
    got = mfcc_features(waveform)
    assert got.shape == (120,)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.concatenate(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_samples", [1, 500, 1023])
def test_a_short_waveform_is_padded_with_zeros_to_1024_samples(n_samples, recwarn):
    waveform = noise(n_samples)
    got = mfcc_features(waveform)
    assert not recwarn.list
    np.testing.assert_array_equal(got, mfcc_features(np.pad(waveform, (0, 1024 - n_samples))))
    assert np.isfinite(got).all()


@pytest.mark.parametrize("n_samples", [1, 1023, 16000])
def test_statistics_of_a_log_mel_spectrogram(n_samples, recwarn):
    waveform = 0.1 * noise(n_samples)
    got = log_mel_features(waveform)
    assert not recwarn.list
    padded = np.pad(waveform, 512)
    frames = [padded[start : start + 1024] for start in range(0, n_samples + 1, 512)]
    spectra = np.abs(np.fft.rfft(np.array(frames) * np.hanning(1025)[:-1])) ** 2
    power = spectra @ librosa.filters.mel(sr=LOG_MEL.sample_rate, n_fft=1024, n_mels=64).T
    decibels = 10 * np.log10(np.maximum(power, 1e-10))
    np.testing.assert_allclose(got, [*decibels.mean(axis=0), *decibels.std(axis=0)], rtol=1e-4, atol=1e-4)


def test_what_comes_after_29_seconds_does_not_count():
    waveform = noise(30 * SAMPLE_RATE)
    changed = waveform.copy()
    changed[29 * SAMPLE_RATE :] = 0
    np.testing.assert_array_equal(mfcc_features(waveform), mfcc_features(changed))


def test_silence_is_finite():
    assert np.isfinite(mfcc_features(np.zeros(12000, np.float32))).all()


@pytest.mark.parametrize("layer", mfcc.FLOORS)
def test_each_clip_is_computed_by_one_thread(layer, monkeypatch):
    """Whatever the machine has: by several, the last digits are others."""
    rate, seconds, features_of = mfcc._KINDS[layer]
    threads = []

    def counted(waveform):
        threads.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
        return features_of(waveform)

    monkeypatch.setitem(mfcc._KINDS, layer, (rate, seconds, counted))
    features_of(noise(rate))  # what librosa needs is loaded then
    with threadpool_limits(limits=2):
        rows = [*mfcc.floor_rows(layer)(datasets.load("synthetic")[::100])]
    assert len(rows) == 5
    assert {*threads} == {1}


def test_script(run_script, tmp_path):
    for number in range(2):
        soundfile.write(tmp_path / f"{number}.wav", noise(12000, seed=number), 12000, subtype="FLOAT")
    files = [tmp_path / f"{number}.wav" for number in range(3)]
    run = run_script("mfcc", *files, "--output", tmp_path / "m.npz")
    assert run.returncode == 1  # there is no third
    assert "2.wav: does not exist" in run.stderr
    features = FeatureTable.load(tmp_path / "m.npz")
    assert [*features.layers] == ["mfcc"]
    np.testing.assert_allclose(features.layers["mfcc"][1], mfcc_features(noise(12000, seed=1)), rtol=1e-5, atol=1e-5)
    run = run_script("mfcc", *files, "--output", tmp_path / "m.parquet")
    assert run.stdout == f"written: {tmp_path / 'm.parquet'} (2 clips, 1 layers)\n"
    again = FeatureTable.load(tmp_path / "m.parquet")
    assert again.clip_ids.tolist() == features.clip_ids.tolist()
    np.testing.assert_array_equal(again.layers["mfcc"], features.layers["mfcc"])
