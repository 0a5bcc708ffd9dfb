"""Clips -> tf.data of waveforms and targets: shuffle, cut, augment, batch, prefetch. One seed, one sequence."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.decoding import WaveformStore, fit_length
from keras_audio_transfer.errors import InputError

# One stream of random numbers for each thing that is drawn.
_CROP, _GAIN, _SHIFT, _NOISE_LEVEL, _NOISE, _MIXUP, _MIXUP_OTHER = range(7)


@dataclass(frozen=True)
class Augmentation:
    """What happens to waveforms in training, each clip drawn anew in each epoch. Zero switches a part off.

    Attributes:
        random_crop: cut longer clips at a random place (shorter ones are treated as ever).
        gain_decibel: louder or softer by up to this.
        shift_seconds: rotated by up to this, in either direction.
        noise_probability: the share of clips that get white noise, 5 to 40 dB below the clip's power.
        mixup: alpha of the Beta distribution that clips of a batch are mixed by (Zhang et al. 2018).
    """

    random_crop: bool = True
    gain_decibel: float = 0.0
    shift_seconds: float = 0.0
    noise_probability: float = 0.0
    mixup: float = 0.0

    def __post_init__(self):
        for name in ("gain_decibel", "shift_seconds", "mixup"):
            if not 0 <= getattr(self, name) < np.inf:
                raise InputError(f"{name}: {getattr(self, name)} is not allowed; expected 0 or more")
        if not 0 <= self.noise_probability <= 1:
            raise InputError(f"noise_probability: {self.noise_probability} is not allowed; expected 0 to 1")


def targets(clips: list[Clip], label_names: list[str]) -> np.ndarray:
    """float32 (clips, labels): 1 where a clip has the label, else 0."""
    index = {name: i for i, name in enumerate(label_names)}
    rows = np.zeros((len(clips), len(label_names)), dtype=np.float32)
    for row, clip in zip(rows, clips, strict=True):
        row[[index[label] for label in clip.labels]] = 1
    return rows


def evaluation_batches(
    clips: list[Clip], clip_targets: np.ndarray, store: WaveformStore, config: AudioConfig, batch_size: int
) -> tf.data.Dataset:
    """One pass over the clips in order: (waveforms float32 (batch, samples), targets float32 (batch, labels))."""

    def waveform(index):
        return fit_length(store.load(clips[index]), config.n_samples, config.short_clips, config.long_clips)

    dataset = tf.data.Dataset.range(len(clips))
    dataset = dataset.map(lambda i: _loaded(waveform, [i], config), num_parallel_calls=2, deterministic=True)
    dataset = tf.data.Dataset.zip(dataset, tf.data.Dataset.from_tensor_slices(clip_targets))
    return dataset.batch(batch_size).prefetch(2)


def training_batches(
    clips: list[Clip],
    clip_targets: np.ndarray,
    store: WaveformStore,
    config: AudioConfig,
    batch_size: int,
    seed: int,
    epochs: range,
    augmentation: Augmentation | None = None,
) -> tf.data.Dataset:
    """Shuffled, augmented batches of several epochs, one after the other.

    What an epoch holds depends on `seed` and the epoch's number alone, not on where `epochs` starts: an interrupted
    run continues with the batches it would have had.

    Args:
        clips: to train on.
        clip_targets: float32 (clips, labels).
        store: loads the waveforms; with `random_crop` it must keep whole clips.
        config: the front end, for the clips' length.
        batch_size: clips a batch; an epoch has `len(clips) / batch_size` batches, rounded up, the last one smaller.
        seed: of the order and of every random number.
        epochs: numbers of the epochs, e.g. `range(3, 10)` to continue after the third.
        augmentation: see there; None for none.

    Returns:
        Dataset of (waveforms float32 (batch, samples), targets float32 (batch, labels)).
    """
    augmentation = augmentation or Augmentation(random_crop=False)
    table = tf.constant(clip_targets)

    def order(epoch):
        permuted = np.random.default_rng([seed, int(epoch)]).permutation(len(clips))
        return np.stack([np.full(len(clips), epoch), permuted], axis=1).astype(np.int64)

    def waveform(epoch, index):
        crop = np.random.default_rng([seed, epoch, index, _CROP]).random() if augmentation.random_crop else None
        return fit_length(store.load(clips[index]), config.n_samples, config.short_clips, config.long_clips, crop)

    def clips_of(epoch):
        rows = tf.ensure_shape(tf.numpy_function(order, [epoch], tf.int64), (len(clips), 2))
        one_epoch = tf.data.Dataset.from_tensor_slices(rows)
        one_epoch = one_epoch.map(load, num_parallel_calls=2, deterministic=True).batch(batch_size)
        return one_epoch.enumerate().map(lambda number, batch: mix(epoch, number, *batch))

    def load(row):
        x = _loaded(waveform, [row[0], row[1]], config)
        return _augmented(x, augmentation, config, _seeds(seed, row[0], row[1])), table[row[1]]

    def mix(epoch, number, x, y):
        return _mixed(x, y, augmentation.mixup, _seeds(seed, epoch, number)) if augmentation.mixup else (x, y)

    numbers = tf.data.Dataset.range(epochs.start, epochs.stop)
    return numbers.flat_map(clips_of).prefetch(2)


def _loaded(waveform, arguments, config):
    return tf.ensure_shape(tf.numpy_function(waveform, arguments, tf.float32), (config.n_samples,))


def _seeds(seed, epoch, number):
    """A function that gives the seed of each stream of random numbers for one clip (or batch) in one epoch."""
    base = tf.random.fold_in(tf.random.fold_in(tf.constant([seed, 0], tf.int64), epoch), number)
    return lambda stream: tf.random.fold_in(base, stream)


def _augmented(x, augmentation, config, seed_of):
    """x: (samples,)."""
    if augmentation.shift_seconds:
        limit = round(augmentation.shift_seconds * config.sample_rate)
        shift = tf.random.stateless_uniform((), seed_of(_SHIFT), -limit, limit + 1, dtype=tf.int32)
        x = tf.roll(x, shift, axis=0)
    if augmentation.noise_probability:
        share, level = tf.unstack(tf.random.stateless_uniform((2,), seed_of(_NOISE_LEVEL)))
        noise_decibel = -40.0 + 35.0 * level
        deviation = tf.sqrt(tf.reduce_mean(tf.square(x))) * 10.0 ** (noise_decibel / 20.0)
        noise = deviation * tf.random.stateless_normal(tf.shape(x), seed_of(_NOISE))
        x = tf.where(share < augmentation.noise_probability, x + noise, x)
    if augmentation.gain_decibel:
        limit = augmentation.gain_decibel
        x *= 10.0 ** (tf.random.stateless_uniform((), seed_of(_GAIN), -limit, limit) / 20.0)
    return x


def _mixed(x, y, alpha, seed_of):
    """Mix each clip of a batch with the one opposite. x: (batch, samples), y: (batch, labels)."""
    shape = (tf.shape(x)[0], 1)
    draws = [tf.random.stateless_gamma(shape, seed_of(stream), alpha) for stream in (_MIXUP, _MIXUP_OTHER)]
    share = draws[0] / (draws[0] + draws[1])  # Beta(alpha, alpha)
    share = tf.maximum(share, 1.0 - share)
    return share * x + (1.0 - share) * x[::-1], share * y + (1.0 - share) * y[::-1]
