"""Resampling inside the graph, from any rate to any other."""

import keras
import numpy as np
import tensorflow as tf

from keras_audio_transfer.errors import InputError

_register = keras.saving.register_keras_serializable(package="keras_audio_transfer")

# A sinc with so many zeros on each side, under a Kaiser window: flat up to 0.9 of the lower Nyquist frequency, and what
# lies above it is about 100 dB down.
_ZEROS = 64
_CUTOFF = 0.95
_KAISER_BETA = 10.0
_BESSEL_I0_OF_BETA = float(np.i0(_KAISER_BETA))
_PHASES = 64  # output samples of a block that one product of matrices makes


def resample(waveform, source_rate, target_rate):
    """Resample by a windowed sinc (J. O. Smith, Digital Audio Resampling Home Page, 'Theory of Operation').

    Args:
        waveform: tensor (batch, samples), float32.
        source_rate, target_rate: in Hz; whole numbers, or tensors of one, above 0.

    Returns:
        Tensor (batch, ceil(samples * target_rate / source_rate)), float32. The first sample keeps its time; beyond its
        ends the waveform counts as silence. Of equal rates it is the waveform itself.
    """
    source, target = tf.cast(source_rate, tf.int64), tf.cast(target_rate, tf.int64)
    return tf.cond(tf.equal(source, target), lambda: tf.identity(waveform), lambda: _resample(waveform, source, target))


def _resample(waveform, source, target):
    divisor, _ = tf.while_loop(lambda a, b: b > 0, lambda a, b: (b, a % b), (source, target))
    factor = tf.maximum(_PHASES * divisor // target, 1)  # a block is not too small for a fast product of matrices
    up, down = factor * target // divisor, factor * source // divisor  # a block: `up` samples out for `down` samples in
    cutoff = _CUTOFF * tf.minimum(up / down, 1)  # of the source's Nyquist frequency, float64
    half = tf.cast(tf.math.ceil(_ZEROS / cutoff), tf.int64)  # of the window, in source samples
    n_phases = tf.minimum(up, _PHASES)
    width = (n_phases - 1) * down // up + 2 * half + 2

    n_samples = tf.shape(waveform, tf.int64)[1]
    n_out = -(-n_samples * up // down)
    n_blocks = -(-n_out // up)
    waveform = tf.pad(waveform, [[0, 0], [half, n_blocks * down + width - n_samples + half]])[:, :, None]

    def block_part(first_phase):
        """Output samples `first_phase` to `first_phase + n_phases` of every block: (n_phases, batch, blocks)."""
        start = first_phase * down // up  # the first kernel's centre, and where it begins in the padded waveform
        phases = first_phase + tf.range(n_phases)
        taps = start - half + tf.range(width)
        distance = (phases[None, :] * down - taps[:, None] * up) / up  # in source samples, float64
        inside = tf.maximum(1 - tf.square(distance / tf.cast(half, tf.float64)), 0)
        window = tf.math.bessel_i0(_KAISER_BETA * tf.sqrt(inside)) / _BESSEL_I0_OF_BETA
        window = tf.where(inside > 0, window, 0)
        kernel = tf.cast(cutoff * tf.experimental.numpy.sinc(cutoff * distance) * window, tf.float32)
        part = waveform[:, start : start + (n_blocks - 1) * down + width]
        frames = tf.signal.frame(part[:, :, 0], tf.cast(width, tf.int32), tf.cast(down, tf.int32))
        return tf.transpose(tf.matmul(frames, kernel), [2, 0, 1])

    first_phases = tf.range(0, up, n_phases)
    parts = tf.map_fn(block_part, first_phases, fn_output_signature=tf.float32)  # (parts, n_phases, batch, blocks)
    batch = tf.shape(waveform, tf.int64)[0]
    parts = tf.reshape(parts, [-1, batch, n_blocks])[:up]  # (up, batch, blocks)
    return tf.reshape(tf.transpose(parts, [1, 2, 0]), [batch, -1])[:, :n_out]


@_register
class SincResampling(keras.layers.Layer):
    """Resamples waveforms: `resample` with fixed rates, for the front of a model.

    Args:
        source_rate, target_rate: in Hz, whole numbers.

    Raises:
        InputError: a rate that is below 1 or no whole number.

    Shapes: (batch, samples) -> (batch, ceil(samples * target_rate / source_rate)).

    Takes the waveform as it comes and computes in float32; only the result is rounded to a half precision policy.
    """

    def __init__(self, source_rate, target_rate, **kwargs):
        super().__init__(autocast=False, **kwargs)
        for name, rate in (("source_rate", source_rate), ("target_rate", target_rate)):
            if not rate >= 1 or rate % 1 != 0:
                raise InputError(f"{name}: {rate} Hz is not allowed; expected a whole number from 1 up")
        self.source_rate, self.target_rate = int(source_rate), int(target_rate)

    def call(self, waveform):
        """Return the resampled waveform."""
        resampled = resample(tf.cast(waveform, tf.float32), self.source_rate, self.target_rate)
        return tf.cast(resampled, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return (batch, samples at the target rate)."""
        batch, samples = input_shape
        return (batch, None if samples is None else -(-samples * self.target_rate // self.source_rate))

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "source_rate": self.source_rate, "target_rate": self.target_rate}
