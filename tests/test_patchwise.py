"""Some patches at a time give what all of them at once give, for every pooling that allows it, batch and length."""

from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import some_quick
from keras import layers
from networks import randomise
from sounds import noise

from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.export import patchwise as patchwise_module
from keras_audio_transfer.export.batchnorm_folding import folded
from keras_audio_transfer.export.chunked_inference import tiled
from keras_audio_transfer.export.patchwise import ConvolvedFeatures, PatchwiseFeatures, patchwise
from keras_audio_transfer.export.tflite import write_tflite
from keras_audio_transfer.extractor import build_extractor
from keras_audio_transfer.pretrained.source import Source, build

CONFIG = AudioConfig(
    8000,
    0.2,
    n_fft=256,
    hop_length=80,
    n_mels=20,
    mel_f_min=60.0,
    mel_f_max=3800.0,
    compression="natural_log",
    log_offset=1e-3,
    patch_frames=20,
    patch_hop=8,
)

WINDOWS = replace(
    CONFIG,
    frame_padding="tensorflow_valid",
    compression="relative_decibel",
    decibel_maximum="patch",
    patch_hop=23,
    patch_rest="zero_pad",
    window_samples=1590,
    window_hop=700,
)


def small_maps(patches):
    x = layers.Conv2D(4, 3, padding="same", name="convolution")(patches)
    x = layers.ReLU(name="maps")(layers.BatchNormalization(name="normalisation")(x))
    vector = layers.GlobalAveragePooling2D(name="vector")(x)
    scores = layers.Dense(3, activation="sigmoid", name="scores_of_patches")(vector)
    return {"maps": x, "sequence": layers.Reshape((20, 80), name="sequence")(x), "vector": vector, "scores": scores}


def timeless_maps(patches, **changed):
    """Of a network that sees every moment alike: nothing is padded in time, and all steps divide the patches'."""
    x = layers.ZeroPadding2D((0, 1), name="padding")(patches)
    first = layers.Conv2D(4, 3, **{"activation": "relu", **changed}, name="first")(x)
    x = layers.BatchNormalization(name="normalisation")(first)
    x = layers.MaxPooling2D((2, 2), name="pool")(x)
    second = layers.Conv2D(5, (1, 3), padding="same", name="second")(x)
    x = layers.Maximum(name="maximum")([second, layers.Rescaling(0.5, name="half")(second)])
    return {"first": first, "second": second, "third": layers.Conv2D(6, (3, 1), strides=(2, 1), name="third")(x)}


def new_model(pooling="mean", maps=small_maps, config=CONFIG, **changed):
    keras.utils.set_random_seed(0)
    labels = ("a", "b", "c") if maps is small_maps else ()
    model = build(Source("small", config, partial(maps, **changed), read=None, labels=labels), pooling=pooling)
    randomise(model, seed=0, variances=(1, 2))
    return model


def kinds(model):
    return {type(layer) for layer in model.layers}


# A clip's features follow from those of its patches; by the first, what patches share can be computed once.
SHARED = ("mean", "max", "time_mean", "time_max")
JOINED = (*SHARED, "mean_deviation")


@pytest.mark.parametrize("maps", [pytest.param(small_maps, marks=pytest.mark.slow), timeless_maps])
@pytest.mark.parametrize("pooling", some_quick(JOINED, ["mean_deviation"]))
def test_features_are_those_of_all_patches_at_once(pooling, maps):
    model = new_model(pooling, maps)
    result = patchwise(tiled(folded(model)))
    shares = maps is timeless_maps and pooling in SHARED
    assert (ConvolvedFeatures if shares else PatchwiseFeatures) in kinds(result)
    served = tf.function(result, input_signature=[tf.TensorSpec([None, None])], autograph=False)
    for shape in ((1, 300), (1, 8000), (3, 40_000), (40, 3000)):
        waveforms = 0.1 * noise(*shape)
        features = served(waveforms)
        assert list(features) == list(model.output)
        for name, values in model(waveforms, training=False).items():
            np.testing.assert_allclose(features[name], values, rtol=1e-4, atol=5e-5, err_msg=name)


@pytest.mark.parametrize("maps", [pytest.param(small_maps, marks=pytest.mark.slow), timeless_maps])
def test_features_are_those_of_all_windows_at_once(maps):
    model = new_model(maps=maps, config=replace(WINDOWS, patch_hop=24, n_fft=400) if maps is timeless_maps else WINDOWS)
    result = patchwise(tiled(folded(model)))
    assert (ConvolvedFeatures if maps is timeless_maps else PatchwiseFeatures) in kinds(result)
    for shape in ((1, 300), (1, 20_000), (3, 3000)):
        for name, values in model(0.1 * noise(*shape), training=False).items():
            np.testing.assert_allclose(result(0.1 * noise(*shape))[name], values, rtol=1e-3, atol=1e-3, err_msg=name)


def test_no_more_patches_are_computed_at_once_than_said(monkeypatch):
    monkeypatch.setattr(patchwise_module, "_PATCHES_AT_ONCE", 8)
    result = patchwise(new_model())
    (layer,) = [layer for layer in result.layers if type(layer) is PatchwiseFeatures]
    sizes, called = [], type(layer.network).__call__

    def counted(self, patches, **how):
        if self is layer.network:
            sizes.append(len(patches))
        return called(self, patches, **how)

    monkeypatch.setattr(type(layer.network), "__call__", counted)
    result(noise(1, 40_000))
    assert sizes == [8] * -(-CONFIG.patches_of(40_000) // 8)
    sizes.clear()
    result(noise(3, 40_000))
    assert max(sizes) <= 8


# What makes a network see the moments of a patch differently.
TIMED = [{"padding": "same"}, {"strides": (3, 1)}, {"activation": "softmax"}]


@pytest.mark.parametrize("changed", some_quick(TIMED, TIMED[:1]))
def test_what_depends_on_the_place_in_a_patch_is_computed_for_each(changed):
    model = new_model(maps=timeless_maps, **changed)
    result = patchwise(model)
    assert (ConvolvedFeatures in kinds(result)) == ("activation" in changed)  # over channels, it sees one moment
    for name, values in model(noise(1, 9000)).items():
        np.testing.assert_allclose(result(noise(1, 9000))[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


def test_what_stands_behind_the_features_stays():
    model = new_model()
    joined = layers.Concatenate()([model.output["maps"], model.output["vector"]])
    probed = keras.Model(model.input, {**model.output, "probe": layers.Dense(2, name="probe")(joined)})
    result = patchwise(probed)
    assert PatchwiseFeatures in kinds(result)
    for name, values in probed(noise(2, 9000)).items():
        np.testing.assert_allclose(result(noise(2, 9000))[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


def test_networks_of_whole_clips_are_left():
    model = build_extractor(AudioConfig(2000, 1.0, 128, 64, 8, 0.0, 1000.0))
    assert patchwise(model) is model


def test_a_pooling_that_is_not_known_is_left():
    model = new_model()
    joined = model.get_layer("maps_joined").output
    other = layers.Lambda(lambda maps: tf.reduce_min(maps, axis=(1, 2)), output_shape=(4,))(joined)
    assert (left := keras.Model(model.input, {"least": other})) is patchwise(left)


TWINS = {
    "power": replace(CONFIG, mel_scale="htk", frame_padding="tensorflow_valid"),
    "magnitude": replace(CONFIG, mel_scale="htk", frame_padding="tensorflow_valid", spectrum="magnitude"),
    "windows": replace(WINDOWS, spectrum="magnitude"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", TWINS)
def test_a_tensorflow_lite_twin(tmp_path, kind):
    """TensorFlow Lite transposes no complex numbers, and cuts patches of a clip of fixed length."""
    config = replace(TWINS[kind], clip_seconds=0.5)
    keras.utils.set_random_seed(0)
    model = build(Source("small", config, small_maps, read=None, labels=("a", "b", "c")))
    assert write_tflite(tmp_path / "model.tflite", model, config) <= 1e-3
