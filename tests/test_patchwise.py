"""Some patches at a time give what all of them at once give, for every pooling, batch and length."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from sounds import noise

from keras_audio_transfer.config import POOLINGS, AudioConfig
from keras_audio_transfer.export import patchwise as patchwise_module
from keras_audio_transfer.export.batchnorm_folding import folded
from keras_audio_transfer.export.chunked_inference import tiled
from keras_audio_transfer.export.patchwise import PatchwiseFeatures, patchwise
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


def small_maps(patches):
    x = layers.Conv2D(4, 3, padding="same", name="convolution")(patches)
    x = layers.ReLU(name="maps")(layers.BatchNormalization(name="normalisation")(x))
    vector = layers.GlobalAveragePooling2D(name="vector")(x)
    scores = layers.Dense(3, activation="sigmoid", name="scores_of_patches")(vector)
    return {"maps": x, "sequence": layers.Reshape((20, 80), name="sequence")(x), "vector": vector, "scores": scores}


def new_model(pooling="mean"):
    keras.utils.set_random_seed(0)
    return build(Source("small", CONFIG, small_maps, read=None, labels=("a", "b", "c")), pooling=pooling)


def kinds(model):
    return {type(layer) for layer in model.layers}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_features_are_those_of_all_patches_at_once(pooling):
    model = new_model(pooling)
    result = patchwise(tiled(folded(model)))
    assert PatchwiseFeatures in kinds(result)
    served = tf.function(result, input_signature=[tf.TensorSpec([None, None])], autograph=False)
    for shape in ((1, 300), (1, 8000), (3, 40_000), (40, 3000)):
        waveforms = 0.1 * noise(*shape)
        features = served(waveforms)
        assert list(features) == list(model.output)
        for name, values in model(waveforms, training=False).items():
            np.testing.assert_allclose(features[name], values, rtol=1e-4, atol=5e-5, err_msg=name)


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
