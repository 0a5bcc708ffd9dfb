"""What is computed in pieces gives the same outputs; what cannot be is left. Every network: see test_backbones.py."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import some_quick
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import CONFIG

from keras_audio_transfer.export import chunked_inference
from keras_audio_transfer.export.batchnorm_folding import folded
from keras_audio_transfer.export.chunked_inference import MicroBatched, PooledConvolution2D, tiled
from keras_audio_transfer.extractor import build_extractor
from keras_audio_transfer.layers import ClampedMaxPooling2D
from keras_audio_transfer.spectrogram import (
    ApplyFilterbank,
    PowerToRelativeDecibel,
    spectrogram_layers,
    waveform_to_spectrogram,
)

layers = keras.layers
numbers = np.random.default_rng(0)


@pytest.fixture
def small_slabs(monkeypatch):
    """A kibibyte: a handful of the rows that the small maps of these tests have."""
    monkeypatch.setattr(chunked_inference, "_SLAB_BYTES", 2**10)


@pytest.fixture
def pools(monkeypatch):
    """The shapes of what was pooled outside a graph."""
    shapes, call = [], ClampedMaxPooling2D.call

    def recorded(self, maps):
        shapes.append(tuple(maps.shape))
        return call(self, maps)

    monkeypatch.setattr(ClampedMaxPooling2D, "call", recorded)
    return shapes


def of_kind(model, kind):
    return [layer for layer in model.layers if type(layer) is kind]


def pooled_model(convolution, pool=(3, 2), bands=9, channels=1):
    """Maps -> a convolution -> a pool, with a bias that is not zero."""
    x = keras.Input((None, bands, channels))
    model = keras.Model(x, ClampedMaxPooling2D(pool)(convolution(x)))
    kernel, *bias = model.layers[1].get_weights()
    model.layers[1].set_weights([kernel, *(numbers.normal(size=one.shape) for one in bias)])
    return model


def applied(chain, x):
    for layer in chain:
        x = layer(x)
    return x


def random_maps(*shape):
    return numbers.normal(0, 1, shape).astype(np.float32)


def assert_same(outputs, expected):
    for values, others in zip(keras.tree.flatten(outputs), keras.tree.flatten(expected), strict=True):
        assert values.shape == others.shape
        np.testing.assert_allclose(values, others, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(
    batch=st.integers(1, 6),
    frames=st.integers(1, 70),
    kernel=st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 3])),
    pool=st.tuples(st.integers(1, 6), st.integers(1, 9)),
)
def test_a_pooled_convolution_is_a_convolution_and_a_pool(batch, frames, kernel, pool):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunked_inference, "_SLAB_BYTES", 2**10)
        model = pooled_model(layers.Conv2D(4, kernel, padding="same"), pool)
        result = tiled(model)
        assert of_kind(result, PooledConvolution2D)
        maps = random_maps(batch, frames, 9, 1)
        assert_same(result(maps), model(maps))


def test_slabs_are_pooled_one_after_the_other_where_maps_are_large(small_slabs, pools):
    # 33 rows of 3 x 9 x 4 numbers, 432 bytes each: two a slab, 17 slabs a clip, 51 in all, and 13 times four.
    result = tiled(pooled_model(layers.Conv2D(4, 3, padding="same")))
    pools.clear()
    result(random_maps(3, 100, 9, 1))
    assert pools == [(4, 6, 9, 4)] * 13


@pytest.mark.parametrize("frames", [2, 3, 6])
def test_small_maps_are_pooled_at_once(small_slabs, pools, frames):
    result = tiled(pooled_model(layers.Conv2D(4, 3, padding="same")))
    pools.clear()
    result(random_maps(4, frames, 9, 1))
    assert pools == [(4, frames, 9, 4)]


def test_maps_of_a_real_size(pools):
    model = pooled_model(layers.Conv2D(32, 3, padding="same", activation="relu"), (4, 2), bands=96)
    result = tiled(model)
    maps = random_maps(2, 1361, 96, 1)
    expected = model(maps)
    pools.clear()
    assert_same(result(maps), expected)
    assert pools == [(4, 80, 96, 32)] * 9


LEFT = {
    "strides": (layers.Conv2D(4, 3, padding="same", strides=2), 1),
    "dilation": (layers.Conv2D(4, 3, padding="same", dilation_rate=2), 1),
    "no padding": (layers.Conv2D(4, 3), 1),
    "even kernel": (layers.Conv2D(4, (3, 2), padding="same"), 1),
    "several channels": (layers.Conv2D(4, 3, padding="same"), 2),
    "depthwise": (layers.DepthwiseConv2D(3, padding="same"), 1),
}


@pytest.mark.parametrize(("convolution", "channels"), LEFT.values(), ids=LEFT)
def test_other_convolutions_are_left(convolution, channels):
    model = pooled_model(convolution, channels=channels)
    assert tiled(model) is model


def test_a_convolution_whose_maps_another_layer_takes_is_left():
    x = keras.Input((None, 9, 1))
    maps = layers.Conv2D(4, 3, padding="same")(x)
    model = keras.Model(x, [ClampedMaxPooling2D((3, 2))(maps), maps])
    assert tiled(model) is model


def test_unknown_numbers_of_bands_are_left():
    model = pooled_model(layers.Conv2D(4, 3, padding="same"), bands=None)
    assert tiled(model) is model


WINDOWS = replace(
    CONFIG,
    decibel_maximum="patch",
    frame_padding="tensorflow_valid",
    patch_frames=4,
    patch_hop=5,
    window_samples=128,
    window_hop=64,
)
FRONT_ENDS = {
    "decibel": (CONFIG, "power_to_decibel"),
    "standardised": (replace(CONFIG, standardise=True), "standardise"),
    "relative to each window": (WINDOWS, "power_to_decibel"),
    "relative to the batch": (replace(CONFIG, decibel_maximum="batch"), "power_to_mel"),
}


@pytest.mark.parametrize(("config", "last"), FRONT_ENDS.values(), ids=FRONT_ENDS)
@pytest.mark.parametrize("batch", some_quick([1, 2, 5], [5]))
def test_a_front_end_is_computed_for_some_clips_at_a_time(monkeypatch, config, last, batch):
    monkeypatch.setattr(chunked_inference, "_WAVEFORM_BYTES", 4 * 2 * 700)  # two clips
    waveform = keras.Input((None,))
    model = folded(keras.Model(waveform, waveform_to_spectrogram(waveform, config)))
    result = tiled(model)
    (layer,) = of_kind(result, MicroBatched)
    assert layer.name == last
    assert [layer.name for layer in layer.chain] == [
        layer.name for layer in model.layers[2 : model.layers.index(model.get_layer(last)) + 1]
    ]
    assert result.output.shape == model.output.shape
    waveforms = 0.1 * random_maps(batch, 700)
    expected = model(waveforms)
    shapes, call = [], ApplyFilterbank.call
    monkeypatch.setattr(ApplyFilterbank, "call", lambda self, x: shapes.append(x.shape[0]) or call(self, x))
    assert_same(result(waveforms), expected)
    assert shapes == {1: [1], 2: [2], 5: [2, 2, 2]}[batch]


def test_a_step_of_the_front_end_that_is_an_output_ends_a_chain():
    waveform = keras.Input((None,))
    whole = folded(keras.Model(waveform, waveform_to_spectrogram(waveform, CONFIG)))
    mel = whole.get_layer("power_to_mel").output
    model = keras.Model(whole.input, {"mel": mel, "decibel": whole.output})
    result = tiled(model)
    assert [layer.name for layer in of_kind(result, MicroBatched)] == ["power_to_mel", "power_to_decibel"]
    waveforms = 0.1 * random_maps(2, 700)
    assert_same(result(waveforms), model(waveforms))


def test_spectra_that_are_an_output_are_complex():
    waveform = keras.Input((None,))
    model = keras.Model(waveform, applied(spectrogram_layers(CONFIG)[:3], waveform))  # up to the STFT
    result = tiled(model)
    assert [layer.output.dtype for layer in of_kind(result, MicroBatched)] == ["complex64"]
    waveforms = 0.1 * random_maps(2, 700)
    assert_same(result(waveforms), model(waveforms))


def test_layers_keep_their_precision(small_slabs, monkeypatch):
    monkeypatch.setattr(chunked_inference, "_WAVEFORM_BYTES", 1)
    waveform = keras.Input((None,))
    in_half = {"dtype": "mixed_float16"}
    decibel, convolution = PowerToRelativeDecibel(**in_half), layers.Conv2D(4, 3, padding="same", **in_half)
    chain = [*spectrogram_layers(CONFIG)[:-1], decibel, convolution, ClampedMaxPooling2D((3, 2), **in_half)]
    model = keras.Model(waveform, applied(chain, waveform))
    result = tiled(model)
    assert [type(layer) for layer in result.layers if type(layer) in (MicroBatched, PooledConvolution2D)] == [
        MicroBatched,  # kapre's Magnitude ends a chain
        MicroBatched,
        PooledConvolution2D,
    ]
    waveforms = 1e-3 * random_maps(3, 1500)  # powers below what half precision holds
    np.testing.assert_allclose(result(waveforms), model(waveforms), rtol=1e-3, atol=0.1)
    assert result(waveforms).dtype == "float16"


def test_decibels_relative_to_the_batch_are_left():
    x = keras.Input((None, 8, 1))
    model = keras.Model(x, PowerToRelativeDecibel(maximum="batch")(layers.ReLU()(x)))
    assert tiled(model) is model


def test_gradients_are_those_of_the_model(small_slabs):
    model = folded(build_extractor(CONFIG, "convnet5"))
    result = tiled(model)
    waveforms = 0.1 * random_maps(3, CONFIG.n_samples)

    def gradients(of):
        with tf.GradientTape() as tape:
            loss = tf.add_n([tf.reduce_mean(tf.square(values)) for values in of(waveforms).values()])
        return tape.gradient(loss, of.trainable_variables)

    assert len(result.trainable_variables) == len(model.trainable_variables) == 10
    assert_same(gradients(result), gradients(model))


def test_the_model_is_left_as_it_is_and_frozen_layers_stay_frozen():
    model = folded(build_extractor(CONFIG, "convnet5"))
    before = [layer.name for layer in model.layers]
    model.get_layer("layer1_convolution").trainable = False
    result = tiled(model)
    assert [layer.name for layer in model.layers] == before
    assert len(result.trainable_variables) == 8
    assert len(result.variables) == 10
    result.get_layer("layer1_pool").convolution.bias.assign_add(np.ones(32, np.float32))
    np.testing.assert_array_equal(model.get_layer("layer1_convolution").bias, np.zeros(32))
