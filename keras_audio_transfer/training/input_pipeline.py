"""Clips -> tf.data of waveforms and targets: shuffle, cut, augment, batch, prefetch. One seed, one sequence.

Where nothing is augmented, what was computed from the waveforms once is batched instead (`array_batches`).
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_audio_transfer.audio.loading import WaveformStore, crop_or_pad
from keras_audio_transfer.config import LONG_CLIPS, AudioConfig
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError


@dataclass(frozen=True)
class Augmentation:
    """What happens to waveforms in training, each clip drawn anew in each epoch. Zero switches a part off.

    Attributes:
        random_crop: cut longer clips at a random place (shorter ones are treated as ever).
        gain_decibel: louder or softer by up to this.
        shift_seconds: rotated by up to this, in either direction.
        noise_probability: the fraction of clips that get white noise, 5 to 40 dB below the clip's power.
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

    def batch(number):
        rows = slice(number * batch_size, (number + 1) * batch_size)
        waveforms = [
            crop_or_pad(store.load(clip), config.n_samples, config.short_clips, crop=LONG_CLIPS[config.long_clips])
            for clip in clips[rows]
        ]
        return np.stack(waveforms), clip_targets[rows]

    return _dataset(batch, range(-(-len(clips) // batch_size)), (config.n_samples,), clip_targets)


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

    What a batch holds depends on `seed`, its epoch and its place in it alone, not on where `epochs` starts: an
    interrupted run continues with the batches it would have had.

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
    n_batches = -(-len(clips) // batch_size)
    # Drawing normal numbers for every clip would cost a tenth of the network's time: clips get excerpts of one noise.
    noise = np.random.default_rng(seed).standard_normal(config.n_samples + 2**20, dtype=np.float32)

    def batch(number):
        epoch, place = divmod(number, n_batches)
        order = np.random.default_rng([seed, epoch]).permutation(len(clips))
        rows = order[place * batch_size : (place + 1) * batch_size]
        rng = np.random.default_rng([seed, epoch, place])
        x, y = np.empty((len(rows), config.n_samples), dtype=np.float32), clip_targets[rows]
        for clip_x, row in zip(x, rows, strict=True):
            crop = rng.random() if augmentation.random_crop else LONG_CLIPS[config.long_clips]
            waveform = store.load(clips[row])
            clip_x[:] = crop_or_pad(waveform, config.n_samples, config.short_clips, crop=crop)
            _augment(clip_x, augmentation, config, noise, rng)
        return _mixed(x, y, augmentation.mixup, rng) if augmentation.mixup else (x, y)

    return _dataset(batch, range(epochs.start * n_batches, epochs.stop * n_batches), (config.n_samples,), clip_targets)


def array_batches(
    arrays: np.ndarray,
    clip_targets: np.ndarray,
    rows: np.ndarray,
    batch_size: int,
    shuffle_seed: int | None = None,
    numbers: range | None = None,
) -> tf.data.Dataset:
    """Batches of what was computed from the waveforms before: spectrograms, maps or features.

    Args:
        arrays: (clips, ...), in memory or mapped from a file.
        clip_targets: float32 (clips, labels).
        rows: the clips to take.
        batch_size: clips a batch; the last one of a pass over the rows is smaller.
        shuffle_seed: None: in order. Otherwise each pass is shuffled anew; a batch depends on the seed and its number.
        numbers: of the batches; they run on from pass to pass. None: one pass.

    Returns:
        Dataset of (float32 (batch, ...), targets float32 (batch, labels)).
    """
    n_batches = -(-len(rows) // batch_size)

    def batch(number):
        epoch, place = divmod(number, n_batches)
        order = rows if shuffle_seed is None else np.random.default_rng([shuffle_seed, epoch]).permutation(rows)
        chosen = order[place * batch_size : (place + 1) * batch_size]
        return arrays[chosen], clip_targets[chosen]

    return _dataset(batch, numbers or range(n_batches), arrays.shape[1:], clip_targets)


def _dataset(batch, numbers, shape, clip_targets):
    """`batch(number)` for each of the numbers, in order, made while the network works."""

    def tensors(number):
        x, y = tf.numpy_function(batch, [number], (tf.float32, tf.float32))
        return tf.ensure_shape(x, (None, *shape)), tf.ensure_shape(y, (None, clip_targets.shape[1]))

    dataset = tf.data.Dataset.range(numbers.start, numbers.stop)
    return dataset.map(tensors, num_parallel_calls=2, deterministic=True).prefetch(2)


def _augment(x, augmentation, config, noise, rng):
    """Change a clip's waveform (samples,) in place."""
    if augmentation.shift_seconds:
        limit = round(augmentation.shift_seconds * config.sample_rate)
        x[:] = np.roll(x, rng.integers(-limit, limit + 1))
    if rng.random() < augmentation.noise_probability:
        decibel = rng.uniform(-40.0, -5.0)  # relative to the clip's power
        deviation = np.sqrt(np.dot(x, x) / len(x)) * 10.0 ** (decibel / 20.0)
        start = rng.integers(len(noise) - len(x) + 1)
        x += np.float32(deviation) * noise[start : start + len(x)]
    if augmentation.gain_decibel:
        limit = augmentation.gain_decibel
        x *= np.float32(10.0 ** (rng.uniform(-limit, limit) / 20.0))


def _mixed(x, y, alpha, rng):
    """Mix each clip of a batch with the one opposite. x: (batch, samples), y: (batch, labels)."""
    weight = rng.beta(alpha, alpha, (len(x), 1)).astype(np.float32)
    weight = np.maximum(weight, 1.0 - weight)
    mixed = (1.0 - weight) * x[::-1]
    x *= weight
    x += mixed
    return x, weight * y + (1.0 - weight) * y[::-1]
