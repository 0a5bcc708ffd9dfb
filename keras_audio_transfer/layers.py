"""Every reusable Keras layer, in one place: those that work on maps, and by import those of the other files."""

import warnings

import keras
import tensorflow as tf
from keras import ops

from keras_audio_transfer.certainty_layers import Familiarity, LabelProbabilities, PairProbabilities, PairScores
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.one_vs_rest_layers import OneVsRestSVM
from keras_audio_transfer.resampling import SincResampling
from keras_audio_transfer.spectrogram import (
    ApplyHtkFilterbank,
    ClipStandardisation,
    FramePadding,
    Logarithm,
    MagnitudeToPower,
    PatchPadding,
    PowerToRelativeDecibel,
    SeededSpecAugment,
    SeparateWindows,
    widened,
)
from keras_audio_transfer.svm_layers import ChannelScaling, SupportVectorClassifier

__all__ = [
    "ApplyHtkFilterbank",
    "BatchStatisticsNormalization",
    "ChannelScaling",
    "ClampedMaxPooling2D",
    "ClipStandardisation",
    "Familiarity",
    "FramePadding",
    "GlobalMeanStdPooling2D",
    "JoinedPatches",
    "LabelProbabilities",
    "Logarithm",
    "MagnitudeToPower",
    "MultiscaleDilatedConv2D",
    "OneVsRestSVM",
    "PairProbabilities",
    "PairScores",
    "PatchPadding",
    "Patches",
    "PowerToRelativeDecibel",
    "SeededSpecAugment",
    "SeparateWindows",
    "SincResampling",
    "SupportVectorClassifier",
    "TimeMaxPooling2D",
    "TimeMeanPooling2D",
]

_register = keras.saving.register_keras_serializable(package="keras_audio_transfer")

_RENAMED = {"GlobalMeanAndDeviationPooling2D": "GlobalMeanStdPooling2D"}


def _also_registered_as(old_name):
    """A second name under which Keras finds a layer, for models that were saved before the layer was renamed."""
    return keras.saving.register_keras_serializable(package="keras_audio_transfer", name=old_name)


def __getattr__(name):
    if name in _RENAMED:
        warnings.warn(f"layers.{name} is now layers.{_RENAMED[name]}", DeprecationWarning, stacklevel=2)
        return globals()[_RENAMED[name]]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


DILATIONS = (1, 2, 3, 4)  # McMahan and Rao 2018, section 3


@_register
class ClampedMaxPooling2D(keras.layers.MaxPooling2D):
    """Max-pooling whose window never exceeds its input.

    Where the input is at least as large as the window this is `MaxPooling2D` ('valid', stride = window). A smaller
    input is pooled to one cell instead of none, so that a clip of any length comes through.

    Args:
        pool_size: (frames, bands).

    Shapes: (batch, frames, bands, channels) -> (batch, max(frames // pool, 1), max(bands // pool, 1), channels).
    """

    def __init__(self, pool_size, **kwargs):
        super().__init__(pool_size, padding="valid", data_format="channels_last", **kwargs)

    def call(self, maps):
        """Return the pooled maps."""
        missing = tf.maximum(tf.constant(self.pool_size) - tf.shape(maps)[1:3], 0)
        paddings = tf.stack([tf.zeros_like(missing), missing], axis=1)  # (2, 2): before, after
        padded = tf.pad(maps, tf.pad(paddings, [[1, 1], [0, 0]]), constant_values=maps.dtype.min)
        # tf.pad forgets the static shape, and without channels Keras would compile the next convolution with XLA.
        padded.set_shape((*maps.shape[:1], None, None, maps.shape[3]))
        return super().call(padded)

    def compute_output_shape(self, input_shape):
        """Return the static shape; None stays None."""
        sizes = zip(input_shape[1:3], self.pool_size, strict=True)
        pooled = [None if size is None else max(size // pool, 1) for size, pool in sizes]
        return (input_shape[0], *pooled, input_shape[3])

    def get_config(self):
        """Return the constructor's arguments."""
        config = super().get_config()
        return {name: value for name, value in config.items() if name not in ("strides", "padding", "data_format")}


@_register
class BatchStatisticsNormalization(keras.layers.BatchNormalization):
    """Batch normalisation by the current batch's own mean and biased variance, in prediction too.

    What Keras 1 called mode 2. A clip's features then depend on the batch it is in; only the published weights of Choi
    et al. 2017 (version 1) need it.

    Shapes: (batch, frames, bands, channels) -> the same. Computes in float32 at least.
    """

    def call(self, maps, training=None, mask=None):
        """Return the normalised maps."""
        x = widened(maps)
        # Clip by clip: in one go, float32 sums lose two digits, and the maps of 256 clips of 29 s are gigabytes.
        signature = (x.dtype, x.dtype)
        means, variances = tf.map_fn(lambda clip: tf.nn.moments(clip, axes=(0, 1)), x, fn_output_signature=signature)
        means, variances = tf.cast(means, tf.float64), tf.cast(variances, tf.float64)  # (batch, channels)
        mean = tf.reduce_mean(means, axis=0)
        variance = tf.reduce_mean(variances + tf.square(means - mean), axis=0)
        slope = tf.math.rsqrt(variance + self.epsilon)
        if self.scale:
            slope *= tf.cast(self.gamma, tf.float64)
        # Not TensorFlow's fused operation: given a mean and a variance, it passes no gradient to them.
        normalised = (x - tf.cast(mean, x.dtype)) * tf.cast(slope, x.dtype)
        if self.center:
            normalised += tf.cast(self.beta, x.dtype)
        return tf.cast(normalised, self.compute_dtype)


@_register
@_also_registered_as("GlobalMeanAndDeviationPooling2D")
class GlobalMeanStdPooling2D(keras.layers.Layer):
    """Mean and standard deviation over frames and bands, side by side.

    Shapes: (batch, frames, bands, channels) -> (batch, 2 * channels): all means, then all standard
    deviations. A variance of 1e-6 is added under the root, because the root has no slope at zero. Computes in float32
    at least.
    """

    def call(self, maps):
        """Return the pooled features."""
        mean, variance = ops.moments(widened(maps), axes=(1, 2))
        return ops.cast(ops.concatenate([mean, ops.sqrt(variance + 1e-6)], axis=-1), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return (batch, 2 * channels)."""
        return (input_shape[0], 2 * input_shape[-1])


class _TimePooling2D(keras.layers.Layer):
    """What pools over frames only has in common: (batch, frames, bands, channels) -> (batch, bands * channels)."""

    def build(self, input_shape):
        """Keep the number of features: within a graph, the maps may have forgotten it."""
        self._n_features = input_shape[2] * input_shape[3]

    def call(self, maps):
        """Return the pooled features, all channels of the first band first."""
        return ops.reshape(self._pooled(maps), (-1, self._n_features))

    def compute_output_shape(self, input_shape):
        """Return (batch, bands * channels)."""
        batch, _, bands, channels = input_shape
        return (batch, bands * channels)


@_register
class TimeMeanPooling2D(_TimePooling2D):
    """Mean over frames, of every band and channel (Niizumi et al. 2022, arXiv:2205.08138, section 3).

    Shapes: (batch, frames, bands, channels) -> (batch, bands * channels). Computes in float32 at least.
    """

    def _pooled(self, maps):
        return ops.cast(ops.mean(widened(maps), axis=1), self.compute_dtype)


@_register
class TimeMaxPooling2D(_TimePooling2D):
    """Maximum over frames, of every band and channel (Niizumi et al. 2022, arXiv:2205.08138, section 3).

    Shapes: (batch, frames, bands, channels) -> (batch, bands * channels).
    """

    def _pooled(self, maps):
        return ops.max(maps, axis=1)


@_register
class Patches(keras.layers.Layer):
    """Cuts a spectrogram into patches, which become clips of a larger batch.

    Args:
        frames: of a patch.
        hop: frames from the start of one patch to the next. What fills no patch at the end is left out.

    Shapes: (batch, frames, bands, channels) -> (batch * patches, patch frames, bands, channels), the patches of the
    first clip first.
    """

    def __init__(self, frames, hop, **kwargs):
        super().__init__(**kwargs)
        self.frames, self.hop = frames, hop

    def call(self, spectrogram):
        """Return the patches."""
        patches = tf.signal.frame(spectrogram, self.frames, self.hop, axis=1)
        return tf.reshape(patches, [-1, self.frames, *spectrogram.shape[2:]])

    def compute_output_shape(self, input_shape):
        """Return (None, patch frames, bands, channels)."""
        return (None, self.frames, *input_shape[2:])

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "frames": self.frames, "hop": self.hop}


@_register
class JoinedPatches(keras.layers.Layer):
    """Puts the maps of a clip's patches one after the other in time, so that a clip has maps again.

    Called with the maps of the patches and the spectrogram that they were cut from by `Patches`.

    Shapes: [(batch * patches, frames, bands, channels), (batch, ...)] -> (batch, patches * frames, bands, channels).
    Sequences, (batch * patches, frames, channels), have one band then, and vectors, (batch * patches, channels), also
    one frame a patch.
    """

    def call(self, inputs):
        """Return the joined maps."""
        maps, spectrogram = inputs
        bands = maps.shape[2] if len(maps.shape) == 4 else 1
        return tf.reshape(maps, [tf.shape(spectrogram)[0], -1, bands, maps.shape[-1]])

    def compute_output_shape(self, input_shape):
        """Return (batch, None, bands, channels)."""
        maps, spectrogram = input_shape
        return (spectrogram[0], None, maps[2] if len(maps) == 4 else 1, maps[-1])


@_register
class MultiscaleDilatedConv2D(keras.layers.Layer):
    """Parallel convolutions of growing dilation over one input, their outputs stacked as channels.

    The multiscale input of McMahan and Rao 2018 (arXiv:1710.08377, section 3): the same small kernel size looks at
    neighbourhoods of several sizes. The paper gives four dilations and padding that keeps the size; kernel size,
    filters and activation are not given there, so the defaults of these are ours.

    Args:
        filters: maps of each dilation.
        kernel_size: of every kernel, in frames and bands; odd.
        dilations: a kernel for each.
        activation: after the convolutions.

    Raises:
        InputError: a number that is too small, or an even kernel size.

    Shapes: (batch, frames, bands, channels) -> (batch, frames, bands, len(dilations) * filters), the maps of the first
    dilation first. Beyond its edges the input counts as zero.
    """

    def __init__(self, filters=1, kernel_size=3, dilations=DILATIONS, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.dilations = filters, kernel_size, tuple(dilations)
        if filters < 1:
            raise InputError(f"filters: {filters} is not allowed; expected a whole number from 1 up")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise InputError(f"kernel_size: {kernel_size} is not allowed; expected an odd number from 1 up")
        if not self.dilations or min(self.dilations) < 1:
            raise InputError(
                f"dilations: {self.dilations} is not allowed; expected one or more whole numbers from 1 up"
            )
        self.activation = keras.activations.get(activation)
        inherited = {"dtype": self.dtype_policy, "trainable": self.trainable}  # Keras hands down neither
        self.convolutions = [
            keras.layers.Conv2D(filters, kernel_size, padding="same", dilation_rate=d, name=f"dilation{d}", **inherited)
            for d in self.dilations
        ]

    def build(self, input_shape):
        """Make the weights."""
        for convolution in self.convolutions:
            convolution.build(input_shape)
        self.built = True

    def call(self, maps):
        """Return the stacked maps."""
        return self.activation(ops.concatenate([convolution(maps) for convolution in self.convolutions], axis=-1))

    def compute_output_shape(self, input_shape):
        """Return (batch, frames, bands, len(dilations) * filters)."""
        return (*input_shape[:-1], len(self.dilations) * self.filters)

    def get_config(self):
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "dilations": self.dilations,
            "activation": keras.activations.serialize(self.activation),
        }
