"""The front ends of published networks: each setting against an independent computation, and patches of any length."""

from dataclasses import fields, replace

import keras
import librosa
import numpy as np
import pytest
from conftest import some_quick
from sounds import noise

from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.layers import JoinedPatches, Patches
from keras_audio_transfer.spectrogram import waveform_to_spectrogram

RATE = 8000
LINEAR = {"compression": "natural_log", "log_offset": 1e-30}  # whose exponential is what was compressed
PLAIN = AudioConfig(
    RATE, 1.0, n_fft=256, hop_length=80, n_mels=20, mel_f_min=60.0, mel_f_max=3800.0, win_length=200, **LINEAR
)
PATCHES = replace(PLAIN, patch_frames=20, patch_hop=8)


def front_end(config):
    """(batch, samples) -> (batch, frames, mels), by a model that was saved and loaded again."""
    waveform = keras.Input((None,))
    model = keras.Model(waveform, waveform_to_spectrogram(waveform, config))
    loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    return lambda waveforms: np.asarray(loaded(waveforms))[..., 0]


def spectrogram(config, waveforms):
    return front_end(config)(waveforms)


def window_of(config):
    n = config.window
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)


def by_numpy(waveform, config):
    """Magnitudes (frames, frequencies) of frames of `win_length` samples."""
    starts = range(0, len(waveform) - config.window + 1, config.hop_length)
    frames = np.stack([waveform[start : start + config.window] for start in starts]).astype(np.float64)
    return np.abs(np.fft.rfft(frames * window_of(config), config.n_fft))


def by_librosa(waveform, config, **how):
    spectrum = librosa.stft(
        waveform.astype(np.float64),
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        win_length=config.window,
        window="hann",
        **how,
    )
    return np.abs(spectrum).T


MAGNITUDES = {
    "centre": lambda waveform, config: by_librosa(waveform, config, center=True, pad_mode="constant"),
    "centre_reflect": lambda waveform, config: by_librosa(waveform, config, center=True, pad_mode="reflect"),
    "none": lambda waveform, config: by_librosa(waveform, config, center=False),
    "tensorflow_valid": by_numpy,
}


def slaney(config):
    how = {"sr": config.sample_rate, "n_fft": config.n_fft, "n_mels": config.n_mels}
    return librosa.filters.mel(**how, fmin=config.mel_f_min, fmax=config.mel_f_max).T


def htk(config):
    """Triangles between points that are equally far apart in mel, by the formula of HTK's book (section 5.4)."""

    def mel(frequency):
        return 2595 * np.log10(1 + np.asarray(frequency) / 700)

    points = np.linspace(*mel([config.mel_f_min, config.mel_f_max]), config.n_mels + 2)
    bins = mel(np.arange(config.n_frequencies) * config.sample_rate / config.n_fft)[:, None]
    rising, falling = (bins - points[:-2]) / np.diff(points)[:-1], (points[2:] - bins) / np.diff(points)[1:]
    matrix = np.maximum(0, np.minimum(rising, falling))
    matrix[0] = 0  # TensorFlow leaves out the mean of the samples
    return matrix


@pytest.mark.parametrize("spectrum", some_quick(["power", "magnitude"], ["power"]))
@pytest.mark.parametrize("frame_padding", MAGNITUDES)
@pytest.mark.parametrize("win_length", some_quick([200, 256], [200]))
def test_frames_and_spectra(frame_padding, spectrum, win_length):
    config = replace(PLAIN, frame_padding=frame_padding, spectrum=spectrum, win_length=win_length)
    computed = front_end(config)
    for n_samples in (300, 1000, 4321):
        waveform = 0.1 * noise(n_samples)
        magnitudes = MAGNITUDES[frame_padding](waveform, config)
        expected = (magnitudes if spectrum == "magnitude" else magnitudes**2) @ slaney(config)
        got = np.exp(computed(waveform[None])[0])
        assert got.shape == expected.shape == (config.frames_of(n_samples), config.n_mels)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * expected.max())


@pytest.mark.parametrize("limits", [(0.0, 4000.0), (60.0, 3800.0), (125.0, 3500.0)])
def test_mel_bands_of_htk(limits):
    config = replace(PLAIN, mel_scale="htk", mel_f_min=limits[0], mel_f_max=limits[1], frame_padding="tensorflow_valid")
    waveform = 0.1 * noise(2000)
    expected = by_numpy(waveform, config) ** 2 @ htk(config)
    np.testing.assert_allclose(np.exp(spectrogram(config, waveform[None])[0]), expected, rtol=1e-4, atol=1e-5)


def relative(x, floor=1e-10):
    decibels = 10 * np.log10(np.maximum(x, floor))
    return np.maximum(decibels - decibels.max(), -80)


COMPRESSIONS = {
    "natural logarithm": ({"compression": "natural_log", "log_offset": 1e-3}, lambda x: np.log(x + 1e-3)),
    "decimal logarithm": (
        {"compression": "log10", "log_scale": 1e4, "log_offset": 1.0},
        lambda x: np.log10(1e4 * x + 1),
    ),
    "decibels": (
        {"compression": "decibel", "spectrogram_scale": 0.1, "spectrogram_offset": 2.0},
        lambda x: (relative(x) + 10 * np.log10(x.max())) / 10 + 2,
    ),
    "relative decibels": ({"compression": "relative_decibel"}, relative),
    "standardised logarithm": (
        {"compression": "natural_log", "log_offset": 1e-3, "standardise": True},
        lambda x: (np.log(x + 1e-3) - np.log(x + 1e-3).mean()) / np.log(x + 1e-3).std(),
    ),
}


@pytest.mark.parametrize("scale", [1.0, 32768.0])
@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_compressions(kind, scale):
    settings, formula = COMPRESSIONS[kind]
    config = replace(PLAIN, **settings, sample_scale=scale)
    waveform = np.concatenate([0.1 * noise(1000), 1e-6 * noise(1000)])
    power = MAGNITUDES["centre"](scale * waveform, config) ** 2 @ slaney(config)
    got = spectrogram(config, np.stack([waveform, 0.01 * waveform]))[0]
    np.testing.assert_allclose(got, formula(power), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_the_lowest_value_is_that_of_silence_beside_sound(kind):
    settings, _ = COMPRESSIONS[kind]
    config = replace(PLAIN, **{**settings, "standardise": False})
    waveform = np.concatenate([noise(1000), np.zeros(2000, np.float32)])
    got = spectrogram(config, waveform[None])
    assert got.min() >= config.lowest_value - 1e-4
    if kind != "decibels":  # they end below the loudest cell
        assert got.min() == pytest.approx(config.lowest_value, abs=1e-4)


# ---- patches


@pytest.mark.parametrize("frame_padding", some_quick(MAGNITUDES, ["centre_reflect"]))
@pytest.mark.parametrize("rest", ["drop", "zero_pad"])
def test_patches_of_any_length(frame_padding, rest):
    config = replace(PATCHES, frame_padding=frame_padding, patch_rest=rest)
    padded, unpadded = front_end(config), front_end(replace(config, patch_frames=0, patch_hop=0))
    for n_samples in (300, 1720, 1721, 1776, 1777, 2400, 9999):
        waveform = noise(n_samples)
        whole = padded(waveform[None])
        assert whole.shape[1] == config.frames_of(n_samples)
        patches = np.asarray(Patches(20, 8)(whole[..., None]))[..., 0]
        assert len(patches) == config.patches_of(n_samples) >= 1
        for number, patch in enumerate(patches):
            np.testing.assert_array_equal(patch, whole[0, 8 * number : 8 * number + 20])
        left_over = config.frames_of(n_samples) - 20 - 8 * (len(patches) - 1)
        assert 0 <= left_over < 8
        if rest == "zero_pad":
            assert left_over == 0
            assert config.zeros_behind(n_samples) < max(8 * 80, config.patch_samples)
        zeros = np.zeros(config.zeros_behind(n_samples), np.float32)
        np.testing.assert_array_equal(whole, unpadded(np.concatenate([waveform, zeros])[None]))


def test_a_patch_needs_as_many_samples_as_are_said():
    assert replace(PATCHES, frame_padding="tensorflow_valid").patch_samples == 200 + 19 * 80
    assert replace(PATCHES, frame_padding="none").patch_samples == 256 + 19 * 80
    assert PATCHES.patch_samples == 1 + 19 * 80
    assert (PLAIN.patch_samples, PLAIN.patches_of(12345), PLAIN.zeros_behind(12345)) == (0, 1, 0)


@pytest.mark.parametrize("frame_padding", MAGNITUDES)
def test_the_least_frames(frame_padding):
    config = replace(PLAIN, frame_padding=frame_padding, least_frames=20)
    filled, plain = front_end(config), front_end(replace(config, least_frames=0))
    needed = max(config._unpadded, 1) + 19 * 80
    for n_samples, zeros in ((1, needed - 1), (300, needed - 300), (needed, 0), (needed + 500, 0)):
        waveform = noise(n_samples)
        assert config.zeros_behind(n_samples) == zeros
        got = filled(waveform[None])
        assert got.shape[1] == config.frames_of(n_samples) >= 20
        np.testing.assert_array_equal(got, plain(np.pad(waveform, (0, zeros))[None]))
    assert config.least_samples == config.n_samples
    whole = replace(config, long_clips="whole")
    assert whole.least_samples == max(needed, config.n_fft) < config.n_samples
    assert whole.with_clip_seconds(0.5).least_samples == round(0.5 * config.sample_rate)
    with pytest.raises(InputError, match=r"^least_frames: -1 is not allowed; expected 0 or more frames$"):
        replace(config, least_frames=-1)


WINDOWS = replace(
    PLAIN,
    frame_padding="tensorflow_valid",
    compression="relative_decibel",
    decibel_maximum="patch",
    patch_frames=13,
    patch_hop=15,
    window_samples=1000,
    window_hop=450,
)


@pytest.mark.parametrize("rest", ["drop", "zero_pad"])
def test_windows_are_heard_by_themselves(rest):
    """Each has the frames that begin in it, with zeros behind it, in decibels below its own loudest cell."""
    config = replace(WINDOWS, patch_rest=rest)
    computed = front_end(config)
    counts = {1: (1, 1), 1000: (1, 1), 1449: (1, 2), 1450: (2, 2), 1451: (2, 3), 5000: (9, 10)}
    for n_samples, (dropped, filled) in counts.items():
        waveforms = np.stack([noise(n_samples), np.linspace(1e-4, 1, n_samples) * noise(n_samples, seed=1)])
        whole = computed(waveforms.astype(np.float32))
        n_windows = dropped if rest == "drop" else filled
        assert config.patches_of(n_samples) == n_windows
        assert whole.shape == (2, config.frames_of(n_samples), 20)
        assert whole.min() >= -80
        assert whole.max() == 0
        zeros = config.zeros_behind(n_samples)
        assert (n_samples + zeros - 1000) // 450 == n_windows - 1
        patches = np.asarray(Patches(13, 15)(whole[..., None]))[..., 0].reshape(2, n_windows, 13, 20)
        for waveform, of_clip in zip(waveforms, patches, strict=True):
            padded = np.pad(waveform, (0, zeros))
            for number, patch in enumerate(of_clip):
                window = np.pad(padded[450 * number : 450 * number + 1000], (0, 12 * 80 + 200 - 1000))
                expected = relative(by_numpy(window, config) ** 2 @ slaney(config))
                np.testing.assert_allclose(patch, expected, rtol=0, atol=1e-2)


def test_decibels_below_each_patch_of_a_spectrogram():
    config = replace(WINDOWS, window_samples=0, window_hop=0, patch_hop=13)
    waveform = np.linspace(1e-3, 1, 4000).astype(np.float32) * noise(4000)
    power = by_numpy(waveform, config) ** 2 @ slaney(config)  # 48 frames: the last 9 are in no patch
    got = spectrogram(config, waveform[None])[0]
    for start in range(0, 48, 13):
        np.testing.assert_allclose(got[start : start + 13], relative(power[start : start + 13]), rtol=0, atol=1e-2)


def test_windows_that_cannot_be():
    for changed, message in (
        ({"patch_hop": 14}, "^patch_hop: 14 is not allowed; expected 15 frames, which keep windows apart$"),
        ({"window_hop": 0}, r"^window_hop: 0 is not allowed; expected 1 to window_samples \(1000\)$"),
        ({"window_samples": 1201}, r"^window_samples: 1201 is not allowed; .* 1 to patch_hop \(15\) times hop_length"),
        ({"hop_length": 0}, "^hop_length: 0 is not allowed"),
        ({"frame_padding": "none"}, "^window_samples: 1000 is not allowed; expected 0, or with frame_padding tensorf"),
    ):
        with pytest.raises(InputError, match=message):
            replace(WINDOWS, **changed)
    with pytest.raises(InputError, match=r"^decibel_maximum: 'patch' is not allowed; .* that do not overlap$"):
        replace(PATCHES, decibel_maximum="patch")


def test_the_maps_of_patches_are_joined_by_the_clip():
    clips = noise(2, 36, 5, 3)
    patches = Patches(20, 8)(clips)
    assert patches.shape == (6, 20, 5, 3)
    joined = np.asarray(JoinedPatches()([patches, clips]))
    assert joined.shape == (2, 60, 5, 3)
    for clip, of_clip in zip(clips, joined, strict=True):
        np.testing.assert_array_equal(of_clip, np.concatenate([clip[start : start + 20] for start in (0, 8, 16)]))
    assert JoinedPatches()([patches[:, 0, 0], clips]).shape == (2, 3, 1, 3)
    assert JoinedPatches()([patches[:, :, 0], clips]).shape == (2, 60, 1, 3)


REFUSED = {
    "win_length": (300, "even, 2 to n_fft"),
    "sample_scale": (0.0, "above 0"),
    "spectrum": ("energy", "one of power, magnitude"),
    "mel_scale": ("bark", "one of slaney, htk"),
    "compression": ("cube root", "one of relative_decibel"),
    "log_scale": (0.0, "above 0"),
    "log_offset": (-1.0, "above 0"),
    "spectrogram_scale": (0.0, "not 0"),
    "spectrogram_offset": (10**400, "finite"),
    "patch_frames": (-1, "0 or more"),
    "patch_hop": (21, r"1 to patch_frames \(20\)"),
    "patch_rest": ("repeat", "one of drop, zero_pad"),
    "least_frames": (1, "0 with patch_frames"),
    "window_samples": (100, r"0, or with frame_padding tensorflow_valid 1 to patch_hop \(8\) times hop_length"),
    "window_hop": (5, "0 without window_samples"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_cannot_be(name):
    value, expected = REFUSED[name]
    with pytest.raises(InputError, match=rf"^{name}: .* is not allowed; expected .*{expected}"):
        replace(PATCHES, **{name: value})


def test_every_setting_has_its_rule_tested():
    """Those of our own networks in test_config.py."""
    settings = [field.name for field in fields(AudioConfig)]
    assert [*REFUSED] == settings[settings.index("win_length") :]


def test_a_hop_without_patches():
    with pytest.raises(InputError, match=r"^patch_hop: 8 is not allowed; expected 0 without patch_frames$"):
        replace(PLAIN, patch_hop=8)


def test_a_config_is_the_one_that_was_written():
    for config in (PATCHES, WINDOWS):
        assert AudioConfig.from_dict(config.to_dict()) == config
