"""The published weights of Choi et al. 2017 -> our ConvNet-5.

The authors' repository, keunwoochoi/transfer_learning_music, holds two sets. Version 1 is the paper's: Keras 1.2.2 on
Theano, whose batch normalisation takes the statistics of the current batch, in prediction too, and whose decibels refer
to the loudest cell of the batch; the published features were computed in batches of 256 clips. Version 2 is the
author's repair of December 2017: stored statistics, each clip standardised, features taken before the pools.
"""

from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np

from keras_audio_transfer.backbones import convnet5
from keras_audio_transfer.config import PRESETS
from keras_audio_transfer.download import fetch
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.extractor import pooling_name
from keras_audio_transfer.layers import BatchStatisticsNormalization, ClampedMaxPooling2D
from keras_audio_transfer.pretrained.source import HDF5_ERRORS, first_line
from keras_audio_transfer.spectrogram import waveform_to_spectrogram
from keras_audio_transfer.training.heads import SCORES

CITATION = convnet5.CITATION
TRAINING_DATA = {
    "dataset": "Million Song Dataset: previews, 50 most frequent last.fm tags",
    "licence": "not stated; weights as published in keunwoochoi/transfer_learning_music",
    "citation": CITATION,
}
PUBLISHED_BATCH = 256
FILES = {"v1": "weights_transfer/weights_theano.hdf5", "v2": "keras2_model/model_best.hdf5"}
_URL = "https://raw.githubusercontent.com/keunwoochoi/transfer_learning_music/master"
_CHECKSUMS = {
    "v1": "sha256:caf89f811415691fbb245be7eef394b9cebd787d7e3f78e29695972141cf2a08",
    "v2": "sha256:b5042bd44de1fdd9d757b764d9246e6934f47c8bdc5c15bf13566495f3439d48",
}
# fmt: off
# The 50 most frequent last.fm tags of the Million Song Dataset, in the order of the scores.
TAGS = [
    "rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s", "alternative rock",
    "jazz", "beautiful", "metal", "chillout", "male vocalists", "classic rock", "soul", "indie rock", "Mellow",
    "electronica", "80s", "folk", "90s", "chill", "instrumental", "punk", "oldies", "blues", "hard rock", "ambient",
    "acoustic", "experimental", "female vocalist", "guitar", "Hip-Hop", "70s", "party", "country", "easy listening",
    "sexy", "catchy", "funk", "electro", "heavy metal", "Progressive rock", "60s", "rnb", "indie pop", "sad",
    "House", "happy",
]
# fmt: on

CONFIGS = {
    "v1": replace(PRESETS["choi2017"], frame_padding="theano_half"),
    "v1_published": replace(PRESETS["choi2017"], frame_padding="theano_half", decibel_maximum="batch"),
    "v2": replace(PRESETS["choi2017"], frame_padding="tensorflow_same", standardise=True),
}


def download_weights(repository: Path, version: str, progress: object = True) -> None:
    """Fetch the weights file of one version into a folder of the repository's layout.

    Raises:
        InputError: no network, or another checksum.
    """
    path = repository / FILES[version]
    fetch("weights", f"{_URL}/{FILES[version]}", _CHECKSUMS[version], path, progress)


def read_weights(repository: Path, version: str) -> dict[str, list[np.ndarray]]:
    """The arrays of one version, as Keras wants them today.

    Args:
        repository: folder of the authors' repository.
        version: 'v1' or 'v2'.

    Returns:
        Layer name in our ConvNet-5 -> its weights in Keras's order: 'layer1_convolution' -> [(3, 3, in, 32), (32,)],
        'layer1_normalisation' -> [gamma, beta, mean, variance], ..., 'scores' -> [(32, 50), (50,)].

    Raises:
        InputError: the file is not there, not HDF5, or damaged, or holds another network.
    """
    path, remedy = repository / FILES[version], f"copy the file again from {_URL}/{FILES[version]}"
    if not path.is_file():
        raise InputError(f"{path}: does not exist; expected a copy of keunwoochoi/transfer_learning_music")
    names = _names_v1() if version == "v1" else _names_v2()
    try:
        with h5py.File(path) as file:
            stored = {layer: [np.array(file[name], np.float32) for name in names[layer]] for layer in names}
        for layer, arrays in stored.items():
            if layer.endswith("_convolution") and version == "v1":
                # Theano convolves where TensorFlow correlates, and has frequency x time where we have time x frequency.
                arrays[0] = arrays[0][:, :, ::-1, ::-1].transpose(3, 2, 1, 0)
            elif layer.endswith("_convolution"):
                arrays[0] = arrays[0].transpose(1, 0, 2, 3)
    except HDF5_ERRORS as error:
        raise InputError(f"{path}: is not the published network ({first_line(error)}); {remedy}") from error
    for layer, arrays in stored.items():
        expected, received = _shapes(layer), [array.shape for array in arrays]
        if expected != received:
            raise InputError(f"{path}: is another network ({layer} is {received}; expected {expected}); {remedy}")
        if not all(np.isfinite(array).all() for array in arrays):
            raise InputError(f"{path}: {layer} holds NaN or infinite values; {remedy}")
    return stored


def _shapes(layer):
    n = convnet5.FILTERS
    if layer == SCORES:
        return [(n, len(TAGS)), (len(TAGS),)]
    if layer.endswith("_normalisation"):
        return [(n,)] * 4
    return [(convnet5.KERNEL, convnet5.KERNEL, 1 if layer == "layer1_convolution" else n, n), (n,)]


def _names_v1():
    names = {}
    for i in range(1, 6):
        prefix = "ConvBNEluDr"
        names[f"layer{i}_convolution"] = [f"{prefix}/convolution2d_{i}_{kind}" for kind in ("W", "b")]
        kinds = ("gamma", "beta", "running_mean", "running_std")
        names[f"layer{i}_normalisation"] = [f"{prefix}/batchnormalization_{i}_{kind}" for kind in kinds]
    return {**names, SCORES: ["dense_1/dense_1_W", "dense_1/dense_1_b"]}


def _names_v2():
    names = {}
    for i in range(1, 6):
        convolution, normalisation = f"conv2d_{i}", f"batch_normalization_{i}"
        prefix = f"model_weights/{convolution}/{convolution}"
        names[f"layer{i}_convolution"] = [f"{prefix}/{kind}:0" for kind in ("kernel", "bias")]
        prefix, kinds = f"model_weights/{normalisation}/{normalisation}", ("gamma", "beta", "moving_mean")
        names[f"layer{i}_normalisation"] = [f"{prefix}/{kind}:0" for kind in (*kinds, "moving_variance")]
    return {**names, SCORES: [f"model_weights/dense_1/dense_1/{kind}:0" for kind in ("kernel", "bias")]}


def build(form: str, weights: dict[str, list[np.ndarray]]) -> keras.Model:
    """ConvNet-5 with published weights.

    Args:
        form: 'v1_published': the paper's, to be called with the paper's batches; a clip's features depend on its batch.
            'v1': the same with ordinary batch normalisation, whose statistics have still to be collected
            (`extractor.calibrate`). 'v2': the repaired version.
        weights: from `read_weights`; empty for random ones.

    Returns:
        Model with input `waveform` (batch, samples) at 12,000 Hz, outputs `layer1` ... `layer5`, each (batch, 32), and
        `scores` (batch, 50) for `TAGS`.
    """
    config, version_2 = CONFIGS[form], form == "v2"
    waveform = keras.Input((None,), dtype="float32", name="waveform")
    spectrogram = waveform_to_spectrogram(waveform, config)
    normalisation = BatchStatisticsNormalization if form == "v1_published" else keras.layers.BatchNormalization
    tap = "activation" if version_2 else "pool"
    maps = convnet5.feature_maps(spectrogram, config, tap=tap, normalisation=normalisation)
    layers = {name: keras.layers.GlobalAveragePooling2D(name=pooling_name(name))(x) for name, x in maps.items()}
    head = layers["layer5"]  # version 1: one cell, after the last pool
    if version_2:
        _, *last_pool = convnet5.BLOCKS[-1]
        head = ClampedMaxPooling2D(last_pool, name="head_pool")(maps["layer5"])
        head = keras.layers.GlobalMaxPooling2D(name="head_maximum")(head)
    scores = keras.layers.Dense(len(TAGS), activation="sigmoid", name=SCORES)(head)
    model = keras.Model(waveform, {**layers, SCORES: scores}, name="convnet5")
    for name, arrays in weights.items():
        model.get_layer(name).set_weights(arrays)
    return model
