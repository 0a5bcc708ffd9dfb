"""The spectrogram equals librosa's; the decibel scale and the masks do what they say; every layer survives saving."""

import keras
import librosa
import numpy as np
import pytest
from sounds import noise

from keras_audio_transfer.config import PRESETS, AudioConfig
from keras_audio_transfer.spectrogram import (
    PowerToRelativeDecibel,
    SeededSpecAugment,
    mask_spectrogram,
    spectrogram_layers,
    waveform_to_spectrogram,
)

TINY = AudioConfig(2000, 0.25, n_fft=64, hop_length=32, n_mels=8, mel_f_min=0.0, mel_f_max=1000.0)
CONFIGS = {
    **PRESETS,
    "tiny": TINY,
    "hop is n_fft": AudioConfig(8000, 1.0, n_fft=256, hop_length=256, n_mels=20, mel_f_min=0.0, mel_f_max=4000.0),
    "odd hop": AudioConfig(22050, 1.0, n_fft=1024, hop_length=441, n_mels=33, mel_f_min=50.0, mel_f_max=9999.0),
    "not a power of two": AudioConfig(16000, 1.0, n_fft=400, hop_length=160, n_mels=40, mel_f_min=20.0, mel_f_max=7600),
    "long window": AudioConfig(44100, 1.0, n_fft=2048, hop_length=512, n_mels=128, mel_f_min=0.0, mel_f_max=22050.0),
    "one band": AudioConfig(4000, 1.0, n_fft=32, hop_length=7, n_mels=1, mel_f_min=100.0, mel_f_max=2000.0),
}
# In windows: shorter than one, exactly one, and several with something left over.
LENGTHS = {"one sample": 0.0, "a third of a window": 0.33, "one window": 1.0, "many windows": 17.3}


def sine(n_samples, cycles_a_sample=0.05):
    return (0.5 * np.sin(2 * np.pi * cycles_a_sample * np.arange(n_samples))).astype(np.float32)


def click(n_samples):
    sound = np.zeros(n_samples, np.float32)
    sound[n_samples // 2] = 1.0
    return sound


SOUNDS = {
    "noise": noise,
    "sine in noise": lambda n: 0.5 * sine(n) + noise(n),
    "click in noise": lambda n: click(n) + 0.1 * noise(n),
}


def librosa_power(waveform, config):
    """Power mel spectrogram in double precision, (frames, mels)."""
    return librosa.feature.melspectrogram(
        y=waveform.astype(np.float64),
        sr=config.sample_rate,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        n_mels=config.n_mels,
        fmin=config.mel_f_min,
        fmax=config.mel_f_max,
        center=True,
        pad_mode="constant",
        power=2.0,
    ).T


def librosa_decibel(waveform, config):
    decibel = 10 * np.log10(np.maximum(librosa_power(waveform, config), 1e-10))
    return np.maximum(decibel - decibel.max(), -80.0)


@pytest.fixture(scope="module", params=CONFIGS.values(), ids=CONFIGS.keys())
def front_end(request):
    """A config, and the model that returns its power and its decibels."""
    config = request.param
    waveform = keras.Input((None,), name="waveform")
    decibel = waveform_to_spectrogram(waveform, config)
    whole = keras.Model(waveform, decibel)
    return config, keras.Model(waveform, {"power": whole.get_layer("power_to_mel").output, "decibel": decibel})


def run(front_end, waveforms):
    """{'power': (batch, frames, mels), 'decibel': ...}."""
    return {name: values.numpy()[..., 0] for name, values in front_end[1](waveforms, training=False).items()}


@pytest.mark.filterwarnings("ignore:n_fft=")  # librosa, of waveforms shorter than a window
@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS.keys())
@pytest.mark.parametrize("sound", SOUNDS.values(), ids=SOUNDS.keys())
def test_equals_librosa(front_end, sound, length):
    config = front_end[0]
    waveform = sound(max(1, round(length * config.n_fft)))
    got = run(front_end, waveform[np.newaxis])
    np.testing.assert_allclose(got["power"][0], librosa_power(waveform, config), rtol=1e-4, atol=1e-12)
    np.testing.assert_allclose(got["decibel"][0], librosa_decibel(waveform, config), rtol=0, atol=1e-2)


@pytest.mark.parametrize("sound", [sine, click], ids=["sine", "click"])
def test_pure_sounds_equal_librosa_in_decibels(front_end, sound):
    config = front_end[0]
    waveform = sound(20 * config.n_fft)
    # Between the partials of a pure sound there is nothing but rounding errors; they lie below the floor of -80 dB.
    got = run(front_end, waveform[np.newaxis])["decibel"][0]
    np.testing.assert_allclose(got, librosa_decibel(waveform, config), rtol=0, atol=1e-2)


def test_frames_are_as_many_as_the_config_says(front_end):
    config = front_end[0]
    hop = config.hop_length
    for n_samples in (1, hop - 1, hop, hop + 1, config.n_fft, 5 * hop - 1, 5 * hop):
        n_samples = max(1, n_samples)
        power = run(front_end, np.zeros((1, n_samples), np.float32))["power"]
        assert power.shape == (1, config.frames_of(n_samples), config.n_mels)


def test_a_click_stands_in_the_middle_of_its_frame(front_end):
    config = front_end[0]
    waveform = np.zeros((1, 12 * config.n_fft), np.float32)
    frame = 5 * config.n_fft // config.hop_length
    waveform[0, frame * config.hop_length] = 1.0
    loudness = run(front_end, waveform)["power"][0].sum(axis=1)
    assert loudness.argmax() == frame
    near = config.n_fft // (2 * config.hop_length)  # frames whose window reaches the click
    assert loudness[: frame - near].max() == 0
    assert loudness[frame + near + 1 :].max() == 0


def test_silence_is_zero_decibels_everywhere(front_end):
    config = front_end[0]
    decibel = run(front_end, np.zeros((2, 3 * config.n_fft), np.float32))["decibel"]
    np.testing.assert_array_equal(decibel, np.zeros_like(decibel))


def test_loudness_does_not_matter(front_end):
    waveform = noise(4 * front_end[0].n_fft)[np.newaxis]
    quiet, loud = (run(front_end, gain * waveform)["decibel"] for gain in (0.25, 8.0))
    np.testing.assert_allclose(quiet, loud, rtol=0, atol=1e-2)


def test_a_spectrogram_does_not_depend_on_its_neighbours(front_end):
    n_samples = 6 * front_end[0].n_fft + 5
    sounds = [noise(n_samples), np.zeros(n_samples, np.float32), 100 * sine(n_samples), 1e-3 * click(n_samples)]
    together = run(front_end, np.stack(sounds))["decibel"]
    for sound, beside_others in zip(sounds, together, strict=True):
        alone = run(front_end, sound[np.newaxis])["decibel"][0]
        np.testing.assert_allclose(beside_others, alone, rtol=0, atol=1e-3)


def test_decibels_by_hand():
    power = np.array([[100.0, 10.0, 1.0], [1e-6, 1e-7, 0.0]], np.float32).reshape(1, 2, 3, 1)
    got = PowerToRelativeDecibel()(power).numpy()
    expected = np.reshape([0.0, -10.0, -20.0, -80.0, -80.0, -80.0], (1, 2, 3, 1))
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_decibels_of_a_quiet_clip_end_at_the_floor():
    # The floor of 1e-10 is -100 dB; a maximum of 1e-8 is -80 dB, so that nothing lies more than 20 dB below it.
    power = np.reshape([1e-8, 1e-9, 1e-10, 1e-15, 0.0], (1, 1, 5, 1)).astype(np.float32)
    got = PowerToRelativeDecibel()(power).numpy().ravel()
    np.testing.assert_allclose(got, [0.0, -10.0, -20.0, -20.0, -20.0], atol=1e-3)


def test_decibel_floor_and_range_are_settings():
    power = np.reshape([1.0, 1e-2, 1e-4, 1e-9], (1, 4, 1, 1)).astype(np.float32)
    got = PowerToRelativeDecibel(decibel_floor=1e-3, decibel_range=100.0)(power).numpy().ravel()
    np.testing.assert_allclose(got, [0.0, -20.0, -30.0, -30.0], atol=1e-4)
    got = PowerToRelativeDecibel(decibel_floor=1e-12, decibel_range=15.0)(power).numpy().ravel()
    np.testing.assert_allclose(got, [0.0, -15.0, -15.0, -15.0], atol=1e-4)


def test_decibel_maximum_is_each_clips_own():
    power = np.stack([np.full((3, 2, 1), 1e-4), np.full((3, 2, 1), 1e4)]).astype(np.float32)
    power[:, 0, 0, 0] *= 0.1
    got = PowerToRelativeDecibel()(power).numpy()
    np.testing.assert_allclose(got[0], got[1], atol=1e-4)
    np.testing.assert_allclose(got[0, 0, 0, 0], -10.0, atol=1e-4)


def test_the_configs_decibel_settings_reach_the_graph():
    config = AudioConfig(2000, 0.25, 64, 32, 8, 0.0, 1000.0, decibel_range=30.0)
    waveform = keras.Input((None,), name="waveform")
    model = keras.Model(waveform, waveform_to_spectrogram(waveform, config))
    assert model(sine(500)[np.newaxis]).numpy().min() == -30.0


MASK = -1.0


def spec_augment(seed=7, **settings):
    settings = {"freq_mask_param": 5, "time_mask_param": 9, "n_freq_masks": 1, "n_time_masks": 1, **settings}
    return SeededSpecAugment(**settings, mask_value=MASK, data_format="channels_last", seed=seed)


def masked_frames_and_bands(masked):
    """Which whole frames (batch, frames) and bands (batch, bands) hold the mask value, and nothing else does."""
    cells = masked[..., 0] == MASK  # (batch, frames, bands)
    frames, bands = cells.all(axis=2), cells.all(axis=1)
    np.testing.assert_array_equal(cells, frames[:, :, None] | bands[:, None, :])
    return frames, bands


def longest_run(flags):
    longest = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        longest = max(longest, run)
    return longest


def test_masks_only_in_training():
    x = np.random.default_rng(0).uniform(1, 2, (4, 40, 16, 1)).astype(np.float32)
    layer = spec_augment()
    np.testing.assert_array_equal(layer(x).numpy(), x)
    np.testing.assert_array_equal(layer(x, training=False).numpy(), x)
    assert (layer(x, training=True).numpy() != x).any()


def test_masks_keep_to_the_widths_and_leave_the_rest():
    x = np.random.default_rng(0).uniform(1, 2, (200, 40, 16, 1)).astype(np.float32)
    masked = spec_augment()(x, training=True).numpy()
    np.testing.assert_array_equal(masked[masked != MASK], x[masked != MASK])
    frames, bands = masked_frames_and_bands(masked)
    for flags, width in ((frames, 9), (bands, 5)):
        counts = flags.sum(axis=1)
        # One mask: its cells stand together. All widths below the parameter occur (Park et al. 2019).
        np.testing.assert_array_equal(counts, [longest_run(row) for row in flags])
        assert counts.max() <= width
        assert set(counts) >= set(range(width))
        assert flags.any(axis=0).all(), "some cell is never masked"
        assert not flags.all(axis=1).any()


def test_masks_are_as_many_as_asked_for():
    x = np.ones((300, 60, 40, 1), np.float32)
    frames, bands = masked_frames_and_bands(spec_augment(n_time_masks=3, n_freq_masks=2)(x, training=True).numpy())
    assert 9 < frames.sum(axis=1).max() <= 27
    assert 5 < bands.sum(axis=1).max() <= 10


def test_masks_differ_from_clip_to_clip_and_from_call_to_call():
    x = np.ones((32, 40, 16, 1), np.float32)
    layer = spec_augment()
    first, second = (layer(x, training=True).numpy() for _ in range(2))
    assert (first != second).any()
    assert len({clip.tobytes() for clip in first}) > 16


def test_masks_follow_the_seed():
    x = np.ones((8, 40, 16, 1), np.float32)
    calls = {}
    for name, seed in {"same": 3, "again": 3, "other": 4}.items():
        layer = spec_augment(seed)
        calls[name] = np.stack([layer(x, training=True).numpy() for _ in range(3)])
    np.testing.assert_array_equal(calls["same"], calls["again"])
    assert (calls["same"] != calls["other"]).any()


def test_masks_wider_than_the_clip_do_no_harm():
    x = np.ones((64, 3, 2, 1), np.float32)
    masked = spec_augment(time_mask_param=100, freq_mask_param=100)(x, training=True).numpy()
    assert set(np.unique(masked)) == {MASK, 1.0}


@pytest.mark.parametrize("n_masks", [1, 3])
def test_mask_spectrogram_masks_up_to_an_eighth_with_the_lowest_value(n_masks):
    config = AudioConfig(8000, 1.0, 128, 64, 32, 0.0, 4000.0, decibel_range=50.0)  # 126 frames, 32 bands
    spectrogram = keras.Input((None, config.n_mels, 1))
    model = keras.Model(spectrogram, mask_spectrogram(spectrogram, config, n_masks, seed=0))
    x = np.zeros((300, config.n_frames, config.n_mels, 1), np.float32)
    np.testing.assert_array_equal(model(x, training=False).numpy(), x)
    masked = model(x, training=True).numpy()
    assert set(np.unique(masked)) == {-50.0, 0.0}
    cells = masked[..., 0] < 0
    for flags, size in ((cells.all(axis=2), config.n_frames), (cells.all(axis=1), config.n_mels)):
        most = flags.sum(axis=1).max()
        assert (n_masks - 1) * (size // 8) < most <= n_masks * (size // 8)


def test_the_layers_in_a_sequential_model_of_a_fixed_length(tmp_path):
    """The shapes are declared, so that a dense layer can follow; saved and loaded, all is the same."""
    model = keras.Sequential([keras.Input((1000,)), *spectrogram_layers(TINY), keras.layers.Flatten()])
    assert model.layers[-2].output.shape == (None, TINY.frames_of(1000), 8, 1)
    model.add(keras.layers.Dense(3))
    waveform = keras.Input((None,), name="waveform")
    spectrogram = keras.Model(waveform, waveform_to_spectrogram(waveform, TINY))
    assert [layer.name for layer in spectrogram.layers[1:]] == [layer.name for layer in model.layers[:-2]]
    x = noise(1000)[np.newaxis]
    model.layers[-1].set_weights([np.eye(model.layers[-1].kernel.shape[0], 3), np.zeros(3)])
    np.testing.assert_allclose(model(x)[0], spectrogram(x)[0, 0, :3, 0], atol=1e-4)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(x), model(x))


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_the_front_end_keeps_its_precision_under_any_policy(policy):
    x = noise(1000)[np.newaxis]
    expected = keras.Sequential([keras.Input((None,)), *spectrogram_layers(TINY)])(x)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        got = keras.Sequential([keras.Input((None,), dtype="float32"), *spectrogram_layers(TINY)])(x)
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_array_equal(got, expected)
