"""A network of patches for inference: some patches at a time, so that memory does not follow a recording's length."""

from collections.abc import Mapping
from functools import partial

import keras
import tensorflow as tf

from keras_audio_transfer.export.batchnorm_folding import ScaleAndOffset
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


class _FeaturesOfPatches(keras.layers.Layer):
    """Spectrogram -> the features of a clip, from those of its patches, some patches at a time.

    A subclass has `at_once`, how many patches these are, and `features_of(spectrogram, first, size, n_patches)`: of
    `size` patches from the patch `first` on, a dict of (batch, size, channels). What stands for patches that are not
    there does not matter.

    Args:
        patches: how the spectrogram is cut.
        of_patch: name -> the features of a patch, as a Keras tensor.
        reducers: name -> function from (batch, patches, channels) to (batch, channels).

    Shapes: (batch, frames, bands, channels) -> a dict of (batch, channels).
    """

    def __init__(self, patches: Patches, of_patch: Mapping, reducers: Mapping, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.frames, self.hop, self.reducers = patches.frames, patches.hop, reducers
        self.specs = {name: tf.TensorSpec([None, None, x.shape[-1]], x.dtype) for name, x in of_patch.items()}

    def call(self, spectrogram):
        """Return the features."""
        batch = tf.shape(spectrogram)[0]
        n_patches = 1 + (tf.shape(spectrogram)[1] - self.frames) // self.hop
        n_groups = -(-n_patches // tf.maximum(self.at_once // tf.maximum(batch, 1), 1))
        size = -(-n_patches // n_groups)
        in_groups = tf.map_fn(
            lambda group: self.features_of(spectrogram, group * size, size, n_patches),
            tf.range(n_groups),
            fn_output_signature=dict(self.specs),
        )
        result = {}
        for name, groups in in_groups.items():
            channels = self.specs[name].shape[-1]
            of_patches = tf.reshape(tf.transpose(groups, [1, 0, 2, 3]), [batch, n_groups * size, channels])
            result[name] = tf.ensure_shape(self.reducers[name](of_patches[:, :n_patches]), [None, channels])
        return result

    def compute_output_spec(self, spectrogram):
        """Return the features' shapes and types."""
        return {
            name: keras.KerasTensor((spectrogram.shape[0], spec.shape[-1]), dtype=spec.dtype.name)
            for name, spec in self.specs.items()
        }


class PatchwiseFeatures(_FeaturesOfPatches):
    """The features of a clip by a network of patches.

    Args:
        patches, reducers: see `_FeaturesOfPatches`.
        network: patches -> features of each patch, by name.
    """

    def __init__(self, patches: Patches, network: keras.Model, reducers: Mapping, **kwargs):
        super().__init__(patches, network.output, reducers, **kwargs)
        self.network = network

    @property
    def at_once(self) -> int:
        """How many patches are computed at once."""
        return _PATCHES_AT_ONCE

    def features_of(self, spectrogram, first, size, n_patches):
        """The features of `size` patches, each computed by itself."""
        numbers = tf.minimum(first + tf.range(size), n_patches - 1)
        places = numbers[:, tf.newaxis] * self.hop + tf.range(self.frames)
        patches = tf.reshape(tf.gather(spectrogram, places, axis=1), [-1, self.frames, *spectrogram.shape[2:]])
        features = self.network(patches, training=False)
        return {name: tf.reshape(x, [-1, size, x.shape[-1]]) for name, x in features.items()}


class ConvolvedFeatures(_FeaturesOfPatches):
    """The same for a network that sees every moment alike: what patches have in common is computed once.

    Args:
        patches, of_patch, reducers: see `_FeaturesOfPatches`.
        maps: spectrogram of any length -> the maps that are pooled, by name.
        windows: name -> function from these maps to (batch, patches, channels), the features of each patch.
    """

    def __init__(self, patches, of_patch, reducers, maps: keras.Model, windows: Mapping, **kwargs):
        super().__init__(patches, of_patch, reducers, **kwargs)
        self.maps, self.windows = maps, windows

    @property
    def at_once(self) -> int:
        """As many as have the frames of so many patches side by side."""
        return _PATCHES_AT_ONCE * self.frames // self.hop

    def features_of(self, spectrogram, first, size, n_patches):
        """The features of `size` patches, from the maps of all their frames."""
        begin, n_frames = first * self.hop, (size - 1) * self.hop + self.frames
        frames = spectrogram[:, begin : begin + n_frames]
        missing = n_frames - tf.shape(frames)[1]
        maps = self.maps(tf.pad(frames, [[0, 0], [0, missing], [0, 0], [0, 0]]), training=False)
        return {name: self.windows[name](x)[:, :size] for name, x in maps.items()}


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
    maps_model = keras.Model(cut[0].output, of_patches)
    maps = maps_model(patches)
    of_patch = {name: copied(layer)(JoinedPatches()([maps[name], patches])) for name, layer in pools.items()}
    reducers = {name: _REDUCERS[type(layer)] for name, layer in pools.items()}
    windows = _windows(maps_model, pools, cut[0].hop)
    if windows is None:
        layer = PatchwiseFeatures(cut[0], keras.Model(patches, of_patch), reducers)
    else:
        layer = ConvolvedFeatures(cut[0], of_patch, reducers, _of_any_length(maps_model), windows)
    features = layer(cut[0].input)
    places = {id(layer.output): name for name, layer in pools.items()}
    outputs = {name: features.get(places.get(id(output))) for name, output in model.output.items()}
    behind = {name: model.output[name] for name, output in outputs.items() if output is None}
    if behind:  # such as a classifier of the features
        taken = {id(tensor) for layer in model.layers for tensor in keras.tree.flatten(layer.input)}
        needed = [name for name, layer in pools.items() if id(layer.output) in taken]
        computed = keras.Model([pools[name].output for name in needed], behind)
        outputs |= computed([features[name] for name in needed])
    return keras.Model(model.input, outputs, name=model.name)


# ---- networks that see every moment alike

_EACH_CELL = (
    *(keras.layers.InputLayer, keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.Activation),
    *(keras.layers.Rescaling, keras.layers.Maximum, keras.layers.Add, keras.layers.BatchNormalization, ScaleAndOffset),
)
_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
_POOLS = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)


def _step_of(layer):
    """Frames from one frame that comes out to the next; None where what is beside a patch, or its edge, has a part."""
    if type(layer) in _EACH_CELL:
        return 1
    if type(layer) is keras.layers.ZeroPadding2D:
        return 1 if layer.padding[0] == (0, 0) else None
    size = {_CONVOLUTIONS: "kernel_size", _POOLS: "pool_size"}
    for kinds, name in size.items():
        if type(layer) in kinds:
            return layer.strides[0] if layer.padding == "valid" or getattr(layer, name)[0] == 1 else None
    return None


def _windows(maps_model, pools, hop):
    """Name -> function from the maps of many frames to the features of each patch; None if there is none."""
    steps = {id(maps_model.input): 1}
    nodes = [
        node for depth in sorted(maps_model._nodes_by_depth, reverse=True) for node in maps_model._nodes_by_depth[depth]
    ]
    for node in nodes:
        step = _step_of(node.operation)
        before = {steps.get(id(tensor)) for tensor in node.input_tensors}
        if node.is_input:
            continue
        if step is None or None in before or len(before) != 1:
            return None
        steps.update((id(tensor), step * before.copy().pop()) for tensor in node.output_tensors)
    windows = {}
    for name, pool in pools.items():
        maps = maps_model.output[name]
        step = steps[id(maps)]
        if hop % step or len(maps.shape) != 4 or type(pool) not in _POOLED_IN_WINDOWS:
            return None
        windows[name] = partial(_POOLED_IN_WINDOWS[type(pool)], frames=maps.shape[1], step=hop // step)
    return windows


def _in_windows(pool, over_bands):
    def pooled(maps, frames, step):
        of_patches = pool(maps, (frames, 1), (step, 1), "VALID")  # (batch, patches, bands, channels)
        if over_bands:
            return over_bands(of_patches, axis=2)
        return tf.reshape(of_patches, [*tf.unstack(tf.shape(of_patches)[:2]), maps.shape[2] * maps.shape[3]])

    return pooled


_POOLED_IN_WINDOWS = {
    keras.layers.GlobalAveragePooling2D: _in_windows(tf.nn.avg_pool2d, tf.reduce_mean),
    keras.layers.GlobalMaxPooling2D: _in_windows(tf.nn.max_pool2d, tf.reduce_max),
    TimeMeanPooling2D: _in_windows(tf.nn.avg_pool2d, None),
    TimeMaxPooling2D: _in_windows(tf.nn.max_pool2d, None),
}


def _of_any_length(maps_model):
    frames = keras.Input((None, *maps_model.input.shape[2:]))
    result = keras.models.clone_model(maps_model, input_tensors=frames)
    result.set_weights(maps_model.get_weights())
    return result
