"""A model for inference, computed in pieces: what lies between two layers then stays in the processor's cache."""

import keras
import tensorflow as tf

from keras_audio_transfer.export.batchnorm_folding import StftToMagnitude, StftToPower
from keras_audio_transfer.export.graph_rewriting import copied, layers_before, rebuilt
from keras_audio_transfer.layers import ClampedMaxPooling2D
from keras_audio_transfer.spectrogram import (
    SCALINGS,
    STFT,
    ApplyFilterbank,
    ApplyHtkFilterbank,
    ClipStandardisation,
    FramePadding,
    Logarithm,
    Magnitude,
    MagnitudeToDecibel,
    PatchPadding,
    PowerToRelativeDecibel,
    SeparateWindows,
)

_WAVEFORM_BYTES = 2**21  # at once: their frames and spectra, several times as large, fit a third-level cache
_SLAB_BYTES = 2**20  # of a convolution's maps: what second-level caches hold
_FRONT_END = (
    *(PatchPadding, SeparateWindows, FramePadding, STFT, StftToPower, StftToMagnitude, Magnitude, ApplyFilterbank),
    *(ApplyHtkFilterbank, PowerToRelativeDecibel, MagnitudeToDecibel, Logarithm, ClipStandardisation),
)
_SLABS_AT_ONCE = 4  # a convolution divides its work among cores by the slab


class MicroBatched(keras.layers.Layer):
    """A chain of layers that treat every clip alone, computed for as many clips at once as the caches hold.

    Args:
        chain: the layers, in order.
        output: what they return, as a Keras tensor.

    Shapes: as those of the chain.
    """

    def __init__(self, chain: list[keras.layers.Layer], output: keras.KerasTensor, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.chain, self.of_one = chain, tf.TensorSpec(output.shape[1:], output.dtype)

    def call(self, batch):
        """Return what the chain returns for the whole batch."""

        def chained(x):
            for layer in self.chain:
                x = layer(x)
            return x

        bytes_of_one = tf.reduce_prod(tf.shape(batch)[1:]) * batch.dtype.size
        return _in_groups(chained, batch, tf.maximum(_WAVEFORM_BYTES // bytes_of_one, 1), self.of_one)

    def compute_output_spec(self, batch):
        """Return the output's shape and type."""
        return keras.KerasTensor((batch.shape[0], *self.of_one.shape), dtype=self.of_one.dtype.name)


class PooledConvolution2D(keras.layers.Layer):
    """A convolution and the max-pooling behind it, computed together for a slab of frames at a time.

    Args:
        convolution: a `Conv2D` of odd kernel sizes, with padding 'same', strides and dilations of 1.
        pool: what follows it.

    Shapes: as those of the two layers.
    """

    def __init__(self, convolution: keras.layers.Conv2D, pool: ClampedMaxPooling2D, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.convolution, self.pool = copied(convolution, padding="valid"), copied(pool)

    def build(self, input_shape):
        """Make the convolution's weights."""
        self.convolution.build(input_shape)

    def call(self, maps):
        """Return the pooled maps."""
        batch, frames, (bands, channels) = tf.shape(maps)[0], tf.shape(maps)[1], maps.shape[2:]
        shape = self.compute_output_shape(maps.shape)
        frame_pool = self.pool.pool_size[0]
        rows = tf.maximum(frames // frame_pool, 1)  # that come out
        n_slabs = -(-rows // max(1, _SLAB_BYTES // (frame_pool * bands * shape[3] * maps.dtype.size)))
        rows_of_a_slab = -(-rows // n_slabs)
        step = tf.minimum(rows_of_a_slab * frame_pool, frames)
        # Zeros around the maps, as padding 'same' adds them; then slabs that overlap by what the kernel sees beyond.
        before, beside = (size // 2 for size in self.convolution.kernel_size)
        after = before + tf.maximum(n_slabs * step - frames, 0)
        padded = tf.pad(maps, [[0, 0], [before, after], [beside, beside], [0, 0]])
        slabs = tf.signal.frame(padded, step + 2 * before, step, axis=1)
        slabs = tf.reshape(slabs, [batch * n_slabs, step + 2 * before, bands + 2 * beside, channels])
        of_one = tf.TensorSpec([None, *shape[2:]], self.compute_dtype)
        pooled = _in_groups(lambda some: self.pool(self.convolution(some)), slabs, _SLABS_AT_ONCE, of_one)
        return tf.reshape(pooled, [batch, n_slabs * rows_of_a_slab, *shape[2:]])[:, :rows]

    def compute_output_shape(self, input_shape):
        """Return the static shape; None stays None."""
        batch, frames, bands, _ = input_shape
        return self.pool.compute_output_shape((batch, frames, bands, self.convolution.filters))


def _in_groups(function, items, most, of_one):
    """`function(items)`, of at most this number of items at a time; `of_one` specifies what comes out for one."""
    n_items = tf.shape(items)[0]
    n_groups = -(-n_items // most)
    size = -(-n_items // n_groups)

    def in_turn():
        missing = [[0, n_groups * size - n_items], *[[0, 0]] * (items.shape.rank - 1)]
        padded = tf.pad(items, missing)

        def of_group(start):  # a slice of the first dimension is no copy; elements of what map_fn takes are
            return function(tf.ensure_shape(padded[start : start + size], [None, *items.shape[1:]]))

        several = tf.TensorSpec([None, *of_one.shape], of_one.dtype)
        results = tf.map_fn(of_group, tf.range(n_groups) * size, fn_output_signature=several)
        return tf.reshape(results, tf.concat([[n_groups * size], tf.shape(results)[2:]], 0))[:n_items]

    result = tf.cond(n_groups > 1, in_turn, lambda: function(items))
    return tf.ensure_shape(result, [None, *of_one.shape])


def tiled(model: keras.Model) -> keras.Model:
    """The same model for inference, computed in smaller pieces.

    What turns a waveform into a spectrogram, up to decibels or standardisation, is computed for a few clips at a time,
    unless the decibels are relative to the batch. A convolution of one-channel maps, whose maps are many times as large
    as what it takes, is computed together with a max-pooling that directly follows, for some slabs of frames at a time.

    Args:
        model: functional, as `folding.folded` returns it. It is left as it is.

    Returns:
        A copy with its own weights and, but for rounding, the same outputs; the model itself where nothing changes.
    """
    replaced, left_out, weights = {}, set(), {}
    before = layers_before(model)
    for layer, previous in before.items():
        if type(layer) is ClampedMaxPooling2D and _makes_large_maps(previous):
            replaced[layer] = PooledConvolution2D(previous, layer, name=layer.name, dtype=layer.dtype_policy)
            weights[layer] = previous.get_weights()
            left_out.add(previous)
    ends = [layer for layer in before if _treats_clips_alone(layer)]
    for layer in set(ends) - {before[layer] for layer in ends}:
        chain = [layer]
        while _treats_clips_alone(before.get(chain[0])):
            chain.insert(0, before[chain[0]])
        copies = [copied(one) for one in chain]
        replaced[layer] = MicroBatched(copies, layer.output, name=layer.name, dtype=layer.dtype_policy)
        left_out.update(chain[:-1])
    return rebuilt(model, replaced, left_out, weights)


def _treats_clips_alone(layer):
    is_relative_to_batch = type(layer) is PowerToRelativeDecibel and layer.maximum == "batch"
    is_scaling = type(layer) is keras.layers.Rescaling and layer.name in SCALINGS  # others scale maps
    return (type(layer) in _FRONT_END or is_scaling) and not is_relative_to_batch


def _makes_large_maps(layer):
    return (
        type(layer) is keras.layers.Conv2D
        and layer.data_format == "channels_last"
        and layer.padding == "same"
        and layer.strides == layer.dilation_rate == (1, 1)
        and all(size % 2 for size in layer.kernel_size)
        and layer.input.shape[-1] == 1
        and None not in layer.input.shape[2:]
    )
