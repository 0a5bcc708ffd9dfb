"""A model for inference alone: what follows a convolution or a transform linearly becomes part of it."""

from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from keras_audio_transfer.export.graph_rewriting import copied, layers_before, rebuilt
from keras_audio_transfer.spectrogram import STFT, Magnitude, MagnitudeToPower

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)


class ScaleAndOffset(keras.layers.Layer):
    """Multiplies each channel, the last axis, by a weight and adds another."""

    def build(self, input_shape):
        """Make the weights, `scale` and `offset`, (channels,) each."""
        self.scale = self.add_weight(name="scale", shape=(input_shape[-1],), initializer="ones")
        self.offset = self.add_weight(name="offset", shape=(input_shape[-1],), initializer="zeros")

    def call(self, maps):
        """Return the maps, of the same shape."""
        return maps * self.scale + self.offset

    def compute_output_spec(self, maps):
        """Return the maps' shape and type, which Keras would otherwise find by tracing `call`."""
        return keras.KerasTensor(maps.shape, dtype=self.compute_dtype)


class StftToPower(keras.layers.Layer):
    """Squared magnitude without the root that a magnitude takes.

    Shapes: complex (batch, channels, frames, frequencies) -> real (batch, frames, frequencies, channels).
    """

    def call(self, stft):
        """Return the power."""
        power = tf.square(tf.math.real(stft)) + tf.square(tf.math.imag(stft))
        return tf.transpose(power, [0, 2, 3, 1])

    def compute_output_spec(self, stft):
        """Return the power's shape and type."""
        batch, channels, frames, frequencies = stft.shape
        return keras.KerasTensor((batch, frames, frequencies, channels), dtype=self.compute_dtype)


class StftToMagnitude(StftToPower):
    """The magnitude, in the same order of axes: TensorFlow Lite transposes no complex numbers.

    Shapes: complex (batch, channels, frames, frequencies) -> real (batch, frames, frequencies, channels).
    """

    def call(self, stft):
        """Return the magnitude."""
        return tf.transpose(tf.abs(stft), [0, 2, 3, 1])


def folded(model: keras.Model, others: Mapping[type, Callable] | None = None) -> keras.Model:
    """The same model for inference, with fewer operations.

    By its stored statistics a batch normalisation multiplies each channel by a number and adds another. Where it
    directly follows a convolution whose output nothing else uses, a convolution with another kernel and bias does both;
    elsewhere, such as behind a concatenation, a `ScaleAndOffset` takes its place. The numbers are computed in float64.
    kapre's STFT, magnitude, and our power of it become an STFT and a power; without a power, an STFT and a magnitude.

    Args:
        model: functional. It is left as it is.
        others: type of layer -> function from each of its layers to one without weights that takes its place.

    Returns:
        A copy with its own weights and, but for rounding, the same outputs; the model itself where nothing can be
        folded.
    """
    replaced, left_out, weights = {}, set(), {}
    before = layers_before(model)
    squared = {previous for layer, previous in before.items() if type(layer) is MagnitudeToPower}
    for layer, previous in before.items():
        if others and type(layer) in others:
            replaced[layer], weights[layer] = others[type(layer)](layer), []
        elif type(layer) is MagnitudeToPower and type(previous) is Magnitude and type(before.get(previous)) is STFT:
            stft = before[previous]
            if stft.output_data_format == "channels_last":
                replaced[stft] = copied(stft, output_data_format="channels_first")
                replaced[layer] = StftToPower(name=layer.name, dtype=layer.dtype_policy.name)
                left_out.add(previous)
        elif type(layer) is Magnitude and type(previous) is STFT and layer not in squared:
            if previous.output_data_format == "channels_last":
                replaced[previous] = copied(previous, output_data_format="channels_first")
                replaced[layer] = StftToMagnitude(name=layer.name, dtype=layer.dtype_policy.name)
        elif _has_stored_statistics(layer) and _takes_in_scales(previous):
            replaced[previous] = copied(previous, use_bias=True)
            weights[previous] = _weights_with(previous, *_scale_and_offset(layer))
            left_out.add(layer)
        elif _has_stored_statistics(layer):
            replaced[layer] = ScaleAndOffset(name=layer.name, trainable=layer.trainable, dtype=layer.dtype_policy.name)
            weights[layer] = _scale_and_offset(layer)
    return rebuilt(model, replaced, left_out, weights)


def _has_stored_statistics(layer):
    # Of a subclass it is not known what it computes: BatchStatisticsNormalization takes the batch's own statistics.
    is_normalisation = type(layer) is keras.layers.BatchNormalization
    return is_normalisation and layer.axis in (-1, layer.input_spec.ndim - 1)


def _takes_in_scales(layer):
    is_linear = type(layer) in _CONVOLUTIONS and layer.activation is keras.activations.linear
    return is_linear and layer.data_format == "channels_last"


def _scale_and_offset(norm):
    """What a batch normalisation multiplies each channel by, and what it adds: float64 (channels,) each."""
    mean, variance = (np.float64(weight) for weight in (norm.moving_mean, norm.moving_variance))
    gamma = np.float64(norm.gamma) if norm.scale else 1.0
    beta = np.float64(norm.beta) if norm.center else 0.0
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return scale, beta - mean * scale


def _weights_with(convolution, scale, offset):
    """Kernel and bias of a convolution whose channels are then scaled and offset."""
    kernel, *bias = (np.float64(weights) for weights in convolution.get_weights())
    # The last axes of a depthwise kernel, channels and multiplier, together are the channels that come out.
    kernel = (kernel.reshape(-1, scale.size) * scale).reshape(kernel.shape)
    return kernel, (bias[0] if bias else 0.0) * scale + offset
