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
_WORTH_A_KERNEL = 50  # output samples, about, for which a kernel of its own is no more work than polynomials
_TOGETHER = 1 << 15  # output samples of all clips that polynomials make at a time, which bounds their memory

# Chebyshev nodes between 0 and 1, and for each a row of Chebyshev coefficients: of the polynomial that is 1 there and 0
# at the others. With ten of them what float32 rounds is the larger error.
_DEGREES = np.arange(10)
_ANGLES = np.pi * (_DEGREES + 0.5) / len(_DEGREES)
_NODES = (np.cos(_ANGLES) + 1) / 2
_POLYNOMIALS = np.cos(_ANGLES[:, None] * _DEGREES) * np.where(_DEGREES, 2, 1) / len(_DEGREES)


def resample(waveform, source_rate, target_rate):
    """Resample by a windowed sinc (J. O. Smith, Digital Audio Resampling Home Page, 'Theory of Operation').

    Args:
        waveform: tensor (batch, samples), float32.
        source_rate, target_rate: in Hz; whole numbers, or tensors of one, above 0.

    Returns:
        Tensor (batch, ceil(samples * target_rate / source_rate)), float32. The first sample keeps its time; beyond its
        ends the waveform counts as silence. Of equal rates it is the waveform itself. Time and memory grow with the
        longer of the waveform and the result, whatever the rates.
    """
    source, target = tf.cast(source_rate, tf.int64), tf.cast(target_rate, tf.int64)
    return tf.cond(tf.equal(source, target), lambda: tf.identity(waveform), lambda: _resample(waveform, source, target))


def _resample(waveform, source, target):
    divisor, _ = tf.while_loop(lambda a, b: b > 0, lambda a, b: (b, a % b), (source, target))
    up, down = target // divisor, source // divisor  # output sample `up` lies where input sample `down` does
    cutoff = _CUTOFF * tf.minimum(up / down, 1)  # of the source's Nyquist frequency, float64
    half = tf.cast(tf.math.ceil(_ZEROS / cutoff), tf.int64)  # of the window, in source samples

    def kernel(distance):
        """The filter at distances from its centre, in source samples."""
        inside = tf.maximum(1 - tf.square(distance / tf.cast(half, tf.float64)), 0)
        window = tf.math.bessel_i0(_KAISER_BETA * tf.sqrt(inside)) / _BESSEL_I0_OF_BETA
        window = tf.where(inside > 0, window, 0)
        return tf.cast(cutoff * tf.experimental.numpy.sinc(cutoff * distance) * window, tf.float32)

    n_out = -(-tf.shape(waveform, tf.int64)[1] * up // down)
    # Blocks have `up` kernels: from 767,999 to 16,000 Hz 16,000, which a short waveform is not worth.
    return tf.cond(
        n_out < up * _WORTH_A_KERNEL,
        lambda: _by_polynomials(waveform, up, down, half, kernel, n_out),
        lambda: _by_blocks(waveform, up, down, half, kernel, n_out),
    )


def _by_blocks(waveform, up, down, half, kernel, n_out):
    """Blocks of `up` output samples for `down` input samples, each output sample of a block by a kernel of its own."""
    factor = tf.maximum(_PHASES // up, 1)  # a block is not too small for a fast product of matrices
    up, down = factor * up, factor * down
    n_phases = tf.minimum(up, _PHASES)
    width = (n_phases - 1) * down // up + 2 * half + 2
    n_samples = tf.shape(waveform, tf.int64)[1]
    n_blocks = -(-n_out // up)
    waveform = tf.pad(waveform, [[0, 0], [half, n_blocks * down + width - n_samples + half]])

    def block_part(first_phase):
        """Output samples `first_phase` to `first_phase + n_phases` of every block: (n_phases, batch, blocks)."""
        start = first_phase * down // up  # the first kernel's centre, and where it begins in the padded waveform
        phases = first_phase + tf.range(n_phases)
        taps = start - half + tf.range(width)
        part = waveform[:, start : start + (n_blocks - 1) * down + width]
        frames = tf.signal.frame(part, tf.cast(width, tf.int32), tf.cast(down, tf.int32))
        return tf.transpose(tf.matmul(frames, kernel((phases[None, :] * down - taps[:, None] * up) / up)), [2, 0, 1])

    first_phases = tf.range(0, up, n_phases)
    parts = tf.map_fn(block_part, first_phases, fn_output_signature=tf.float32)  # (parts, n_phases, batch, blocks)
    batch = tf.shape(waveform, tf.int64)[0]
    parts = tf.reshape(parts, [-1, batch, n_blocks])[:up]  # (up, batch, blocks)
    return tf.reshape(tf.transpose(parts, [1, 2, 0]), [batch, -1])[:, :n_out]


def _by_polynomials(waveform, up, down, half, kernel, n_out):
    """Every output sample from a polynomial of the time, with the same work however many kernels there would be.

    The result is band-limited: from one time to another `step` source samples later, which is no longer than an output
    sample, it is the polynomial through its values at Chebyshev nodes. These have the same kernels everywhere, so that
    they are a convolution of the waveform, cut into rows of `step` samples.
    """
    batch, n_samples = tf.unstack(tf.shape(waveform, tf.int64))
    step = tf.maximum(down // up, 1)
    length = -(-2 * half // step) + 1  # of the kernels, in rows
    taps = half - tf.range(length * step)
    kernels = kernel(_NODES * tf.cast(step, tf.float64) + tf.cast(taps[:, None], tf.float64))
    kernels = tf.reshape(kernels, [length, step, _NODES.size])

    at_least_one = tf.maximum(n_out, 1)
    n_together = tf.minimum(tf.maximum(_TOGETHER // tf.maximum(batch, 1), 1024), at_least_one)
    firsts = tf.range(0, at_least_one, n_together)
    n_rows = n_together * down // (up * step) + 1 + length
    total = firsts[-1] * down // (up * step) + n_rows
    rows = tf.pad(waveform, [[0, 0], [half, total * step - half - n_samples]])
    rows = tf.reshape(rows, [batch, total, step])

    def part(first):
        """Output samples `first` to `first + n_together`: (batch, n_together)."""
        places = (first + tf.range(n_together)) * down
        row, first_row = places // (up * step), first * down // (up * step)
        at_nodes = tf.nn.conv1d(rows[:, first_row : first_row + n_rows], kernels, 1, "VALID")
        angles = tf.acos(2 * (places % (up * step)) / (up * step) - 1)[:, None]
        weights = tf.cast(tf.matmul(tf.cos(angles * _DEGREES), _POLYNOMIALS.T), tf.float32)  # (n_together, nodes)
        return tf.reduce_sum(tf.gather(at_nodes, row - first_row, axis=1) * weights, axis=2)

    parts = tf.map_fn(part, firsts, fn_output_signature=tf.float32)  # (parts, batch, n_together)
    return tf.reshape(tf.transpose(parts, [1, 0, 2]), [batch, -1])[:, :n_out]


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
        self.supports_jit = False  # XLA has no Bessel function; on a GPU, Keras compiles by it unless a layer says so

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
