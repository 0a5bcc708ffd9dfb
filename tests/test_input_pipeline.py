"""One seed gives one sequence; every clip once an epoch; each augmentation does to a simple sound what it says.

Each clip's sound tells which clip it is, so that order, cuts and mixtures can be read from the waveforms.
"""

from dataclasses import replace

import numpy as np
import pytest

from keras_audio_transfer.audio.loading import WaveformStore
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.training.input_pipeline import (
    Augmentation,
    array_batches,
    evaluation_batches,
    targets,
    training_batches,
)

SMALL = AudioConfig(
    sample_rate=1000, clip_seconds=0.1, n_fft=32, hop_length=16, n_mels=4, mel_f_min=0.0, mel_f_max=500.0
)
N = SMALL.n_samples
NOTHING = Augmentation(random_crop=False)
EVERYTHING = Augmentation(random_crop=True, gain_decibel=6.0, shift_seconds=0.05, noise_probability=0.5, mixup=0.4)


def clips_of(sounds, sample_rate=SMALL.sample_rate):
    sounds = np.asarray(sounds, dtype=np.float32)
    return [
        Clip(str(i), None, (f"label{i}",), synthesise=lambda sound=sound: (sound, sample_rate))
        for i, sound in enumerate(sounds)
    ]


def constants(n_clips, n_samples=N):
    """Clip i holds the number i + 1."""
    return clips_of([np.full(n_samples, i + 1) for i in range(n_clips)])


def ramps(n_clips, n_samples):
    """Clip i counts from 1000 i on, so that a cut tells where it was made."""
    return clips_of([1000 * i + np.arange(n_samples) for i in range(n_clips)])


def clicks(n_clips):
    """Clip i is silent but for sample i, which is 1."""
    return clips_of(np.eye(N)[:n_clips])


def batches_of(clips, augmentation=NOTHING, batch_size=4, seed=0, epochs=range(1), config=SMALL, y=None):
    """[(x, y)] as arrays; the targets say which clip it is."""
    y = np.eye(len(clips), dtype=np.float32) if y is None else y
    store = WaveformStore(config, whole_clips=True)
    batches = training_batches(clips, y, store, config, batch_size, seed, epochs, augmentation)
    return [(x.numpy(), y.numpy()) for x, y in batches]


def one_epoch(*arguments, **options):
    """As one batch, in the order of the clips."""
    ((x, y),) = batches_of(*arguments, **options, batch_size=1000)
    order = np.argsort(y.argmax(axis=1))
    return x[order]


def assert_same(some, others):
    assert len(some) == len(others)
    for (x, y), (other_x, other_y) in zip(some, others, strict=True):
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(y, other_y)


def order_of(batches):
    return [int(i) for _, y in batches for i in y.argmax(axis=1)]


# ---- order


@pytest.mark.parametrize("augmentation", [NOTHING, EVERYTHING], ids=["nothing", "everything"])
def test_same_seed_same_batches(augmentation):
    clips = ramps(10, 150)
    some = batches_of(clips, augmentation, seed=3, epochs=range(2))
    assert_same(some, batches_of(clips, augmentation, seed=3, epochs=range(2)))


@pytest.mark.parametrize("augmentation", [NOTHING, EVERYTHING], ids=["nothing", "everything"])
def test_an_interrupted_run_continues_with_the_same_batches(augmentation):
    clips = ramps(10, 150)
    whole = batches_of(clips, augmentation, epochs=range(3))
    assert len(whole) == 9
    assert_same(whole[6:], batches_of(clips, augmentation, epochs=range(2, 3)))
    assert_same(whole[3:], batches_of(clips, augmentation, epochs=range(1, 3)))


def test_other_seed_or_epoch_other_order():
    clips = constants(20)
    first, second = (order_of(batches_of(clips, epochs=range(i, i + 1))) for i in range(2))
    other = order_of(batches_of(clips, seed=1))
    assert first != second
    assert first != other
    assert second != other
    assert first != [*range(20)]


def test_other_seed_or_epoch_other_augmentation():
    clips = ramps(4, 150)
    first, second = (one_epoch(clips, EVERYTHING, epochs=range(i, i + 1)) for i in range(2))
    other = one_epoch(clips, EVERYTHING, seed=1)
    assert not np.allclose(first, second)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("n_clips", [1, 4, 8, 9, 11])
def test_every_clip_once_an_epoch_and_a_smaller_batch_at_the_end(n_clips):
    batches = batches_of(constants(n_clips), epochs=range(3))
    per_epoch = -(-n_clips // 4)
    assert len(batches) == 3 * per_epoch
    for epoch in range(3):
        own = batches[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert [len(x) for x, _ in own] == [4] * (n_clips // 4) + [n_clips % 4] * (n_clips % 4 > 0)
        assert sorted(order_of(own)) == [*range(n_clips)]


def test_a_waveform_keeps_its_target():
    for x, y in batches_of(constants(11), epochs=range(2)):
        assert x.dtype == y.dtype == np.float32
        assert x.shape == (len(y), N)
        np.testing.assert_array_equal(x, np.repeat(y.argmax(axis=1)[:, np.newaxis] + 1, N, axis=1))


def test_no_augmentation_at_all_if_none_is_named():
    clips = ramps(3, N)
    y = np.eye(3, dtype=np.float32)
    batches = training_batches(clips, y, WaveformStore(SMALL), SMALL, 3, seed=0, epochs=range(1))
    for x, y in batches:
        np.testing.assert_array_equal(x, 1000 * y.numpy().argmax(axis=1)[:, np.newaxis] + np.arange(N))


def test_no_epochs_no_batches():
    assert batches_of(constants(3), epochs=range(2, 2)) == []


def test_an_error_in_a_clip_is_not_swallowed():
    def fail():
        raise InputError("3.wav: truncated; copy the file again")

    clips = [*constants(3), Clip("3", None, ("label3",), synthesise=fail)]
    with pytest.raises(Exception, match=r"3\.wav: truncated; copy the file again"):
        batches_of(clips)


# ---- cuts


def test_random_crop_cuts_anywhere():
    clips = ramps(30, 250)
    starts = []
    for epoch in range(3):
        x = one_epoch(clips, Augmentation(random_crop=True), epochs=range(epoch, epoch + 1))
        start = x[:, 0] - 1000 * np.arange(30)
        np.testing.assert_array_equal(x, x[:, :1] + np.arange(N))  # one piece
        starts.append(start)
    starts = np.array(starts)
    assert starts.min() >= 0
    assert starts.max() <= 250 - N
    assert starts.min() < 15
    assert starts.max() > 135
    assert len(np.unique(starts)) > 50
    assert (starts[0] != starts[1]).mean() > 0.9  # drawn anew in each epoch


@pytest.mark.parametrize(("long_clips", "start"), [("start", 0), ("centre", 75)])
def test_without_random_crop_the_configured_part_is_taken(long_clips, start):
    x = one_epoch(ramps(5, 250), NOTHING, config=replace(SMALL, long_clips=long_clips))
    np.testing.assert_array_equal(x, 1000 * np.arange(5)[:, np.newaxis] + np.arange(start, start + N))


@pytest.mark.parametrize("short_clips", ["repeat", "zero_pad"])
def test_shorter_clips_are_not_cut_at_random(short_clips):
    x = one_epoch(ramps(5, 40), Augmentation(random_crop=True), config=replace(SMALL, short_clips=short_clips))
    start = 1000 * np.arange(5)[:, np.newaxis]
    np.testing.assert_array_equal(x[:, :40], start + np.arange(40))
    rest = start + np.arange(40, N) % 40 if short_clips == "repeat" else np.zeros((5, N - 40))
    np.testing.assert_array_equal(x[:, 40:], rest)


# ---- augmentation


def test_gain_scales_each_clip_by_up_to_its_limit():
    sound = np.sin(np.arange(N))
    x = one_epoch(clips_of([sound] * 60), Augmentation(random_crop=False, gain_decibel=6.0))
    gains = x @ sound / (sound @ sound)
    np.testing.assert_allclose(x, gains[:, np.newaxis] * sound, rtol=0, atol=1e-5)
    decibel = 20 * np.log10(gains)
    assert np.abs(decibel).max() <= 6.0001
    assert decibel.min() < -4
    assert decibel.max() > 4
    assert abs(decibel.mean()) < 1.5
    assert len(np.unique(decibel.round(3))) > 50


def test_shift_is_a_rotation_in_either_direction():
    x = one_epoch(ramps(80, N), Augmentation(random_crop=False, shift_seconds=0.02))
    ramp = 1000 * np.arange(80)[:, np.newaxis] + np.arange(N)
    shifts = (N - (x[:, 0] - ramp[:, 0]).astype(int)) % N
    shifts = np.where(shifts > N // 2, shifts - N, shifts)
    for row, original, shift in zip(x, ramp, shifts, strict=True):
        np.testing.assert_array_equal(row, np.roll(original, shift))
    assert shifts.min() >= -20
    assert shifts.max() <= 20
    assert shifts.min() < -12
    assert shifts.max() > 12
    assert len(np.unique(shifts)) > 20


LONG = SMALL.with_clip_seconds(2.0)  # noise levels need many samples to be measured


def noises_of(sounds, probability):
    x = one_epoch(clips_of(sounds), Augmentation(random_crop=False, noise_probability=probability), config=LONG)
    return x - np.float32(sounds)


@pytest.mark.parametrize("amplitude", [0.9, 0.001])
def test_noise_is_white_and_5_to_40_db_below_the_clip(amplitude):
    sound = amplitude * np.sin(np.arange(LONG.n_samples) / 5)
    noise = noises_of([sound] * 60, 1.0)
    decibel = 10 * np.log10(np.mean(sound**2) / np.mean(noise**2, axis=1))
    assert decibel.min() > 4.5
    assert decibel.max() < 40.5
    assert decibel.min() < 10
    assert decibel.max() > 35
    white = noise / noise.std(axis=1, keepdims=True)
    assert np.abs(white.mean(axis=1)).max() < 0.12
    assert np.abs((white[:, 1:] * white[:, :-1]).mean(axis=1)).max() < 0.12
    between = np.corrcoef(white) - np.eye(60)
    assert np.abs(between).max() < 0.15  # each clip its own


def test_noise_reaches_the_wanted_share_of_clips():
    sounds = [np.sin(np.arange(LONG.n_samples) / 5)] * 100
    noisy = (noises_of(sounds, 0.3) != 0).any(axis=1)
    assert 0.18 < noisy.mean() < 0.42
    assert (noises_of(sounds, 1.0) != 0).any(axis=1).all()


def test_silence_stays_silent():
    x = one_epoch(clips_of([np.zeros(N)] * 8), replace(EVERYTHING, noise_probability=1.0))
    np.testing.assert_array_equal(x, np.zeros((8, N)))


@pytest.mark.parametrize("batch_size", [6, 7])
def test_mixup_mixes_targets_as_it_mixes_sounds(batch_size):
    clips = clicks(20)
    plain = batches_of(clips, NOTHING, batch_size)
    mixed = batches_of(clips, Augmentation(random_crop=False, mixup=0.5), batch_size)
    assert len(plain) == len(mixed) == -(-20 // batch_size)
    shares = []
    for (_, own), (x, y) in zip(plain, mixed, strict=True):
        np.testing.assert_array_equal(x[:, :20], y)  # clip i is a click at sample i
        assert not x[:, 20:].any()
        np.testing.assert_allclose(y.sum(axis=1), 1.0, rtol=0, atol=1e-6)
        share = (y * own).sum(axis=1)[:, np.newaxis]
        assert share.min() >= 0.5  # each clip stays mostly itself
        alone = (own == own[::-1]).all(axis=1)  # in the middle of an odd batch
        np.testing.assert_allclose(y[alone], own[alone], rtol=0, atol=1e-6)
        expected = share * own + (1 - share) * own[::-1]
        np.testing.assert_allclose(y[~alone], expected[~alone], rtol=0, atol=1e-6)
        shares.extend(share[:, 0])
    assert len(np.unique(np.round(shares, 4))) > 10


@pytest.mark.parametrize(("alpha", "low", "high"), [(0.05, 0.9, 1.0), (0.4, 0.7, 0.9), (200.0, 0.5, 0.6)])
def test_alpha_says_how_much_is_mixed(alpha, low, high):
    clips = clicks(80)
    ((_, y),) = batches_of(clips, Augmentation(random_crop=False, mixup=alpha), batch_size=80)
    assert low <= y.max(axis=1).mean() <= high


def test_mixup_keeps_several_tags():
    y = np.float32([[1, 1, 0], [0, 1, 1]])
    ((_, mixed),) = batches_of(constants(2), Augmentation(random_crop=False, mixup=1.0), y=y)
    np.testing.assert_allclose(mixed[:, 1], 1.0, rtol=0, atol=1e-6)  # both clips have it
    np.testing.assert_allclose(mixed[:, 0] + mixed[:, 2], 1.0, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["gain_decibel", "shift_seconds", "mixup"])
def test_negative_augmentation(name):
    with pytest.raises(InputError, match=rf"^{name}: -0\.5 is not allowed; expected 0 or more$"):
        Augmentation(**{name: -0.5})


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_noise_probability_that_is_none(value):
    with pytest.raises(InputError, match=rf"^noise_probability: {value} is not allowed; expected 0 to 1$"):
        Augmentation(noise_probability=value)


@pytest.mark.parametrize("name", ["gain_decibel", "shift_seconds", "mixup"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_augmentation_has_to_be_finite(name, value):
    with pytest.raises(InputError, match=rf"^{name}: {value} is not allowed"):
        Augmentation(**{name: value})


# ---- evaluation and targets


def evaluated(clips, config=SMALL, batch_size=4):
    y = np.eye(len(clips), dtype=np.float32)
    return [(x.numpy(), y.numpy()) for x, y in evaluation_batches(clips, y, WaveformStore(config), config, batch_size)]


def test_evaluation_keeps_the_order():
    batches = evaluated(constants(11))
    assert [x.shape for x, _ in batches] == [(4, N), (4, N), (3, N)]
    assert order_of(batches) == [*range(11)]
    np.testing.assert_array_equal(np.concatenate([x[:, 0] for x, _ in batches]), np.arange(1, 12))
    assert {array.dtype for batch in batches for array in batch} == {np.dtype("f4")}


@pytest.mark.parametrize(("long_clips", "start"), [("start", 0), ("centre", 75)])
def test_evaluation_cuts_long_clips(long_clips, start):
    ((x, _),) = evaluated(ramps(2, 250), replace(SMALL, long_clips=long_clips))
    np.testing.assert_array_equal(x, 1000 * np.arange(2)[:, np.newaxis] + np.arange(start, start + N))


@pytest.mark.parametrize("short_clips", ["repeat", "zero_pad"])
def test_evaluation_fills_short_clips(short_clips):
    ((x, _),) = evaluated(ramps(1, 40), replace(SMALL, short_clips=short_clips))
    rest = np.arange(40, N) % 40 if short_clips == "repeat" else np.zeros(N - 40)
    np.testing.assert_array_equal(x[0], np.concatenate([np.arange(40), rest]))


def test_evaluation_resamples():
    tone = np.sin(2 * np.pi * 50 * np.arange(800) / 4000)
    ((x, _),) = evaluated(clips_of([tone], sample_rate=4000))
    np.testing.assert_allclose(x[0, 40:], np.sin(2 * np.pi * 50 * np.arange(40, N) / 1000), rtol=0, atol=1e-3)


def test_evaluation_twice_is_the_same():
    clips = ramps(5, 250)
    assert_same(evaluated(clips), evaluated(clips))


def test_targets_of_one_label_of_tags_and_of_none():
    clips = [Clip("1", None, ("dog",)), Clip("2", None, ("cat", "dog")), Clip("3", None), Clip("4", None, ("cow",))]
    y = targets(clips, ["cow", "cat", "dog"])
    assert y.dtype == np.float32
    assert y.tolist() == [[0, 0, 1], [0, 1, 1], [0, 0, 0], [1, 0, 0]]


# ---- arrays


ARRAYS = np.arange(10 * 3, dtype=np.float32).reshape(10, 3)
ROWS = np.array([9, 2, 4, 5, 7])


def rows_of(**options):
    """The rows in each batch; targets and arrays have to be of the same row."""
    result = []
    for x, y in array_batches(ARRAYS, np.eye(10, dtype=np.float32), ROWS, 2, **options):
        rows = y.numpy().argmax(axis=1)
        np.testing.assert_array_equal(x, ARRAYS[rows])
        result.append(rows.tolist())
    return result


def test_arrays_in_order_once():
    assert rows_of() == [[9, 2], [4, 5], [7]]


def test_arrays_shuffled_anew_in_each_pass():
    batches = rows_of(shuffle_seed=0, numbers=range(6))
    passes = [[row for batch in part for row in batch] for part in (batches[:3], batches[3:])]
    assert [sorted(rows) for rows in passes] == [sorted(ROWS)] * 2
    assert passes[0] != passes[1]
    assert batches != rows_of(shuffle_seed=1, numbers=range(6))


def test_arrays_continue_with_the_same_batches():
    assert rows_of(shuffle_seed=0, numbers=range(4, 8)) == rows_of(shuffle_seed=0, numbers=range(8))[4:]
