"""A network of patches for inference: some patches at a time, so that memory does not follow a recording's length."""

from collections.abc import Mapping

import keras
import tensorflow as tf

from keras_audio_transfer.export.graph_rewriting import copied
from keras_audio_transfer.layers import (
    GlobalMeanStdPooling2D,
    JoinedPatches,
    Patches,
    TimeMaxPooling2D,
    TimeMeanPooling2D,
)

_PATCHES_AT_ONCE = 8  # a patch of musicnn has maps of 50 MB


def _mean(of_patches):
    return tf.reduce_mean(of_patches, axis=1)


def _max(of_patches):
    return tf.reduce_max(of_patches, axis=1)


def _mean_std(of_patches):
    """Those of all patches together from those of each; see `GlobalMeanStdPooling2D`."""
    means, deviations = tf.split(of_patches, 2, axis=-1)
    mean = _mean(means)
    variance = _mean(tf.square(deviations) + tf.square(means - mean[:, tf.newaxis]))  # it has 1e-6 already
    return tf.concat([mean, tf.sqrt(variance)], axis=-1)


# How the features of a clip follow from those of its patches, which are all of one size.
_REDUCERS = {
    keras.layers.GlobalAveragePooling2D: _mean,
    keras.layers.GlobalMaxPooling2D: _max,
    GlobalMeanStdPooling2D: _mean_std,
    TimeMeanPooling2D: _mean,
    TimeMaxPooling2D: _max,
}


class PatchwiseFeatures(keras.layers.Layer):
    """Spectrogram -> the features of a clip, by a network of patches.

    Args:
        patches: how the spectrogram is cut.
        network: patches -> features of each patch, by name.
        reducers: name -> function from (batch, patches, channels) to (batch, channels).

    Shapes: (batch, frames, bands, channels) -> a dict of (batch, channels).
    """

    def __init__(self, patches: Patches, network: keras.Model, reducers: Mapping, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.frames, self.hop, self.network, self.reducers = patches.frames, patches.hop, network, reducers

    def call(self, spectrogram):
        """Return the features."""
        batch = tf.shape(spectrogram)[0]
        n_patches = 1 + (tf.shape(spectrogram)[1] - self.frames) // self.hop
        n_groups = -(-n_patches // tf.maximum(_PATCHES_AT_ONCE // tf.maximum(batch, 1), 1))
        size = -(-n_patches // n_groups)

        def features_of(group):
            numbers = tf.minimum(group * size + tf.range(size), n_patches - 1)  # the last stands for what is missing
            places = numbers[:, tf.newaxis] * self.hop + tf.range(self.frames)
            patches = tf.gather(spectrogram, places, axis=1)
            patches = tf.reshape(patches, [batch * size, self.frames, *spectrogram.shape[2:]])
            features = self.network(patches, training=False)
            return {name: tf.reshape(x, [batch, size, x.shape[-1]]) for name, x in features.items()}

        specs = {name: tf.TensorSpec([None, None, x.shape[-1]], x.dtype) for name, x in self.network.output.items()}
        in_groups = tf.map_fn(features_of, tf.range(n_groups), fn_output_signature=specs)
        result = {}
        for name, groups in in_groups.items():
            channels = specs[name].shape[-1]
            of_patches = tf.reshape(tf.transpose(groups, [1, 0, 2, 3]), [batch, n_groups * size, channels])
            result[name] = tf.ensure_shape(self.reducers[name](of_patches[:, :n_patches]), [None, channels])
        return result

    def compute_output_spec(self, spectrogram):
        """Return the features' shapes and types."""
        return {
            name: keras.KerasTensor((spectrogram.shape[0], x.shape[-1]), dtype=x.dtype)
            for name, x in self.network.output.items()
        }


def patchwise(model: keras.Model) -> keras.Model:
    """The same model for inference, computed for some patches at a time.

    Args:
        model: functional, as `folding.folded` returns it. It is left as it is.

    Returns:
        A model with the same weights and, but for rounding, the same outputs; the model itself where it has no
        `Patches`, or pools them in a way that is not known here.
    """
    cut = [layer for layer in model.layers if type(layer) is Patches]
    joined = {id(layer.output): layer for layer in model.layers if type(layer) is JoinedPatches}
    pools = {layer.name: layer for layer in model.layers if id(layer.input) in joined}
    if len(cut) != 1 or not pools or any(type(layer) not in _REDUCERS for layer in pools.values()):
        return model
    of_patches = {name: joined[id(layer.input)].input[0] for name, layer in pools.items()}
    patches = keras.Input(cut[0].output.shape[1:])
    maps = keras.Model(cut[0].output, of_patches)(patches)
    of_patch = {name: copied(layer)(JoinedPatches()([maps[name], patches])) for name, layer in pools.items()}
    reducers = {name: _REDUCERS[type(layer)] for name, layer in pools.items()}
    features = PatchwiseFeatures(cut[0], keras.Model(patches, of_patch), reducers)(cut[0].input)
    places = {id(layer.output): name for name, layer in pools.items()}
    outputs = {name: features.get(places.get(id(output))) for name, output in model.output.items()}
    behind = {name: model.output[name] for name, output in outputs.items() if output is None}
    if behind:  # such as a classifier of the features
        taken = {id(tensor) for layer in model.layers for tensor in keras.tree.flatten(layer.input)}
        needed = [name for name, layer in pools.items() if id(layer.output) in taken]
        computed = keras.Model([pools[name].output for name in needed], behind)
        outputs |= computed([features[name] for name in needed])
    return keras.Model(model.input, outputs, name=model.name)
