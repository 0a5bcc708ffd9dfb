"""What is folded gives the same outputs; what cannot be folded is left. Every network: see test_backbones.py."""

import keras
import numpy as np
import pytest

from keras_audio_transfer.export.batchnorm_folding import ScaleAndOffset, folded
from keras_audio_transfer.layers import BatchStatisticsNormalization, MultiscaleDilatedConv2D

layers = keras.layers
maps = np.random.default_rng(0).normal(0, 1, (2, 7, 6, 4)).astype(np.float32)


def new_model(build):
    """A model of (batch, 7, 6, 4) with statistics as after training."""
    x = keras.Input((7, 6, 4))
    model = keras.Model(x, build(x))
    rng = np.random.default_rng(1)
    for layer in model.layers:
        for weight in layer.weights:
            positive = weight.name == "moving_variance"
            weight.assign(rng.uniform(1, 2, weight.shape) if positive else rng.normal(0.5, 0.5, weight.shape))
    return model


def assert_same(values, expected):
    """Within 1e-5, relative to 1 or, where larger, to the value."""
    values, expected = np.asarray(values), np.asarray(expected)
    assert (np.abs(values - expected) / np.maximum(1, np.abs(expected))).max() <= 1e-5


def kinds(model):
    return {type(layer) for layer in model.layers}


FOLDABLE = {
    "no bias": lambda x: layers.BatchNormalization()(layers.Conv2D(5, 3, use_bias=False)(x)),
    "bias, strides, padding": lambda x: layers.BatchNormalization()(layers.Conv2D(5, 3, strides=2, padding="same")(x)),
    "dilation": lambda x: layers.BatchNormalization()(layers.Conv2D(5, 3, dilation_rate=2)(x)),
    "groups": lambda x: layers.BatchNormalization()(layers.Conv2D(6, 3, groups=2)(x)),
    "depthwise": lambda x: layers.BatchNormalization()(layers.DepthwiseConv2D(3, depth_multiplier=3)(x)),
    "one dimension": lambda x: layers.BatchNormalization()(layers.Conv1D(5, 3)(layers.Reshape((42, 4))(x))),
    "no scale": lambda x: layers.BatchNormalization(scale=False)(layers.Conv2D(5, 3)(x)),
    "no centre": lambda x: layers.BatchNormalization(center=False)(layers.Conv2D(5, 3)(x)),
}


@pytest.mark.parametrize("build", FOLDABLE.values(), ids=FOLDABLE)
def test_a_normalisation_becomes_part_of_the_convolution(build):
    model = new_model(build)
    result = folded(model)
    assert not kinds(result) & {layers.BatchNormalization, ScaleAndOffset}
    assert_same(result(maps), model(maps, training=False))


def used_twice(x):
    convolved = layers.Conv2D(4, 3, padding="same")(x)
    return layers.Add()([convolved, layers.BatchNormalization()(convolved)])


def an_output_itself(x):
    convolved = layers.Conv2D(4, 3, padding="same")(x)
    return [convolved, layers.BatchNormalization()(convolved)]


def called_twice(x):
    convolution = layers.Conv2D(4, 3, padding="same")
    return layers.Add()([layers.BatchNormalization()(convolution(x)), convolution(x)])


BEHIND_OTHERS = {
    "used twice": used_twice,
    "an output itself": an_output_itself,
    "convolution called twice": called_twice,
    "activation": lambda x: layers.BatchNormalization()(layers.Conv2D(4, 3, activation="relu")(x)),
    "concatenation": lambda x: layers.BatchNormalization()(layers.Concatenate()([x, layers.Conv2D(4, 1)(x)])),
    "multiscale": lambda x: layers.BatchNormalization()(MultiscaleDilatedConv2D(2)(x)),
}


@pytest.mark.parametrize("build", BEHIND_OTHERS.values(), ids=BEHIND_OTHERS)
def test_a_normalisation_behind_something_else_becomes_a_scale_and_an_offset(build):
    model = new_model(build)
    result = folded(model)
    assert ScaleAndOffset in kinds(result)
    assert layers.BatchNormalization not in kinds(result)
    for values, expected in zip(
        keras.tree.flatten(result(maps)), keras.tree.flatten(model(maps, training=False)), strict=True
    ):
        assert_same(values, expected)


LEFT = {
    "statistics of the batch": lambda x: BatchStatisticsNormalization()(layers.Conv2D(4, 3)(x)),
    "another axis": lambda x: layers.BatchNormalization(axis=1)(layers.Conv2D(4, 3)(x)),
    "called twice": lambda x: (lambda norm: norm(norm(x)))(layers.BatchNormalization()),
}


@pytest.mark.parametrize("build", LEFT.values(), ids=LEFT)
def test_what_cannot_be_folded_is_left(build):
    model = new_model(build)
    assert folded(model) is model


def test_the_model_is_left_as_it_is():
    model = new_model(FOLDABLE["no bias"])
    before, outputs = model.get_weights(), model(maps, training=False)
    folded(model).layers[1].kernel.assign_add(np.ones((3, 3, 4, 5)))
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    np.testing.assert_array_equal(model(maps, training=False), outputs)


def test_frozen_layers_stay_frozen():
    model = new_model(lambda x: layers.BatchNormalization()(layers.ReLU()(layers.Conv2D(4, 3)(x))))
    assert len(folded(model).trainable_variables) == 4
    model.trainable = False
    assert folded(model).trainable_variables == []
