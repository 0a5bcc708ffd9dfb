"""The published music taggers of musicnn (Pons and Serra 2019): two networks, each trained on two data sets.

They come as TensorFlow 1 checkpoints in the wheel `musicnn-0.1.0-py3-none-any.whl`, whose code is neither installed nor
imported. `MTT_musicnn` and `MSD_musicnn` have convolutions as tall as timbres and as long as rhythms (Pons et al. 2018,
arXiv:1711.02520); `MTT_vgg` and `MSD_vgg` are plain stacks of 3 x 3 convolutions, with the same front end. The order is
everywhere convolution, ReLU, normalisation. Dropout, which does nothing but in training, is left out.

The original program rounds powers to 16 bits, a saving of memory, before it takes their logarithm; here they are not.
"""

import os
import tempfile
import zipfile
import zlib
from functools import cache, partial
from pathlib import Path

import keras
import numpy as np

from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.pretrained import choi2017
from keras_audio_transfer.pretrained.catalogue import unpacked
from keras_audio_transfer.pretrained.source import ZIP_ERRORS, Source, Weights, check_arrays, read_checkpoint

WHEEL = "musicnn-0.1.0-py3-none-any.whl"
CHECKPOINT = (".index", ".data-00000-of-00001")  # the prefix is empty
CONFIG = AudioConfig(
    16000,
    3.0,
    n_fft=512,
    hop_length=256,
    n_mels=96,
    mel_f_min=0.0,
    mel_f_max=8000.0,
    frame_padding="centre_reflect",
    compression="log10",
    log_scale=10000.0,
    log_offset=1.0,
    patch_frames=187,
    patch_hop=187,
    long_clips="whole",
)
# fmt: off
# The 50 most frequent tags of MagnaTagATune, in the order of the scores.
MTT_TAGS = [
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient",
    "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing", "vocals", "no vocals",
    "harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop", "soft", "sitar", "solo", "man",
    "classic", "choir", "voice", "new age", "dance", "male voice", "female vocal", "beats", "harp", "cello", "no voice",
    "weird", "country", "metal", "female voice", "choral",
]
# fmt: on
MSD_TAGS = choi2017.TAGS  # the same tags of the same data set, in the same order
# The scores' layer tells what a network was trained on: CRC-32 of its biases as published.
_BIASES = {
    "MTT_musicnn": 0xC9F5BE7A,
    "MSD_musicnn": 0xB230823E,
    "MTT_vgg": 0xAAA675CD,
    "MSD_vgg": 0xE6544448,
}
TAGS = {name: MTT_TAGS if name.startswith("MTT") else MSD_TAGS for name in _BIASES}
_SCORES = "scores_of_patches"
_LARGEST = 2**25  # bytes, three times the largest file of a checkpoint: of a larger one nothing is read
_REMEDY = "get it again: pip download --no-deps musicnn==0.1.0"
# Branches of musicnn's front end: name, filters, kernel (frames, mels). The temporal ones see 2, 1 and 0.5 seconds.
_TIMBRAL = (("timbral38", 204, (7, 38)), ("timbral67", 204, (7, 67)))
_TEMPORAL = (("temporal128", 51, (128, 1)), ("temporal64", 51, (64, 1)), ("temporal32", 51, (32, 1)))
# Of vgg's blocks: the pool's size and strides, in frames and mels.
_POOLS = (((4, 1), (2, 2)), ((2, 2), (2, 2)), ((2, 2), (2, 2)), ((2, 2), (2, 2)), ((4, 4), (4, 4)))


def _normalised(x, name):
    """Batch normalisation; momentum as in our other networks, because a small data set has few batches."""
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}_normalisation")(x)


def _block(x, name, convolution, filters, kernel, padding="same"):
    x = convolution(filters, kernel, padding=padding, activation="relu", name=f"{name}_convolution")(x)
    return _normalised(x, name)


def _branch(x, name, filters, kernel, padding):
    """Convolution and normalisation, and the maximum over all mels: a sequence (batch, frames, filters)."""
    x = _block(x, name, keras.layers.Conv2D, filters, kernel, padding)
    x = keras.layers.MaxPooling2D((1, x.shape[2]), name=f"{name}_maximum")(x)
    return keras.layers.Reshape((-1, filters), name=f"{name}_sequence")(x)


def musicnn_maps(patches: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    """The taps of MTT_musicnn and MSD_musicnn.

    Args:
        patches: (batch, 187, 96, 1).

    Returns:
        Sequences (batch, 187, channels): `timbral` (408 channels), `temporal` (153), `cnn1`, `cnn2`, `cnn3` (64); then
        vectors (batch, channels): `mean_pool` and `max_pool` over time of all of them (753), `penultimate` (200) and
        `scores` (50).
    """
    x = _normalised(patches, "input")
    padded = keras.layers.ZeroPadding2D((3, 0), name="timbral_padding")(x)  # 'same' in time, 'valid' over mels
    timbral = [_branch(padded, *branch, padding="valid") for branch in _TIMBRAL]
    temporal = [_branch(x, *branch, padding="same") for branch in _TEMPORAL]
    taps = {
        "timbral": keras.layers.Concatenate(name="timbral")(timbral),
        "temporal": keras.layers.Concatenate(name="temporal")(temporal),
    }
    x = keras.layers.Concatenate(name="front_end")([*taps.values()])
    # A convolution as wide as all channels is one over time.
    x = _block(x, "cnn1", keras.layers.Conv1D, 64, 7)
    x = taps["cnn1"] = keras.layers.Activation("linear", name="cnn1")(x)
    for name in ("cnn2", "cnn3"):
        x = taps[name] = keras.layers.Add(name=name)([_block(x, name, keras.layers.Conv1D, 64, 7), x])
    x = keras.layers.Concatenate(name="all_sequences")([*taps.values()])
    taps["mean_pool"] = keras.layers.GlobalAveragePooling1D(name="mean_pool")(x)
    taps["max_pool"] = keras.layers.GlobalMaxPooling1D(name="max_pool")(x)
    x = keras.layers.Concatenate(name="pools")([taps["max_pool"], taps["mean_pool"]])
    x = keras.layers.Dense(200, activation="relu", name="penultimate_dense")(_normalised(x, "pools"))
    x = taps["penultimate"] = keras.layers.Activation("linear", name="penultimate")(_normalised(x, "penultimate"))
    return {**taps, "scores": keras.layers.Dense(50, activation="sigmoid", name=_SCORES)(x)}


def vgg_maps(patches: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    """The taps of MTT_vgg and MSD_vgg.

    Args:
        patches: (batch, 187, 96, 1).

    Returns:
        Maps (batch, frames, bands, 128), `pool1` (92, 48), `pool2` (46, 24), `pool3` (23, 12), `pool4` (11, 6) and
        `pool5` (2, 1); then `scores` (batch, 50).
    """
    x, taps = _normalised(patches, "input"), {}
    for number, (size, strides) in enumerate(_POOLS, start=1):
        x = _block(x, f"block{number}", keras.layers.Conv2D, 128, 3)
        x = taps[f"pool{number}"] = keras.layers.MaxPooling2D(size, strides, name=f"pool{number}")(x)
    x = keras.layers.Flatten(name="flat")(x)
    return {**taps, "scores": keras.layers.Dense(50, activation="sigmoid", name=_SCORES)(x)}


def _numbered(scope, number):
    """As TensorFlow 1 numbers what has no name: the first has none."""
    return f"{scope}_{number}" if number else scope


def _musicnn_scopes():
    """Our layer -> its scope in the checkpoint, in the order in which the original program makes them."""
    convolved = [*(name for name, *_ in (*_TIMBRAL, *_TEMPORAL)), "cnn1", "cnn2", "cnn3"]
    normalised = ["input", *convolved, "pools", "penultimate"]
    return {
        **{f"{name}_convolution": _numbered("conv2d", i) for i, name in enumerate(convolved)},
        **{f"{name}_normalisation": _numbered("batch_normalization", i) for i, name in enumerate(normalised)},
        "penultimate_dense": "dense",
        _SCORES: "dense_1",
    }


def _vgg_scopes():
    blocks = range(1, 1 + len(_POOLS))
    return {
        "input_normalisation": "batch_normalization",
        **{f"block{i}_convolution": f"{i}CNN" for i in blocks},
        **{f"block{i}_normalisation": f"batch_normalization_{i}" for i in blocks},
        _SCORES: "dense",
    }


_MAPS = {"musicnn": musicnn_maps, "vgg": vgg_maps}
_SCOPES = {"musicnn": _musicnn_scopes(), "vgg": _vgg_scopes()}


def _variables(name):
    """Layer of a network -> the names of its weights in the checkpoint, in Keras's order."""
    normalisation, other = ("gamma", "beta", "moving_mean", "moving_variance"), ("kernel", "bias")
    return {
        layer: [f"{scope}/{kind}" for kind in (normalisation if layer.endswith("_normalisation") else other)]
        for layer, scope in _SCOPES[name[4:]].items()
    }


def read_weights(name: str, path: Path) -> Weights:
    """The weights of one of the networks.

    Args:
        name: of the network.
        path: the wheel; a folder that holds it; or, unpacked, the folder of the checkpoint or one above it.

    Returns:
        Layer -> its weights in Keras's order.

    Raises:
        InputError: no such file, not the wheel, not a checkpoint, a damaged one, or one of another network.
    """
    path = Path(path)
    if folder := unpacked(name, path):
        return _of_checkpoint(name, folder, folder)
    wheel = path / WHEEL if os.path.isdir(path) else path
    if not os.path.isfile(wheel):
        files = " and ".join(CHECKPOINT)
        raise InputError(f"{path}: has no {name}; expected {WHEEL}, or musicnn/{name}/ with {files}; {_REMEDY}")
    members = _members(name, wheel)
    with tempfile.TemporaryDirectory() as temporary:
        for file, content in members.items():
            Path(temporary, file).write_bytes(content)
        return _of_checkpoint(name, Path(temporary), wheel)


def _members(name, wheel):
    """The two files of a network in the wheel; nothing else of it is looked at."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            infos = {file: archive.getinfo(f"musicnn/{name}/{file}") for file in CHECKPOINT}
            if max(info.file_size for info in infos.values()) > _LARGEST:
                raise InputError(f"{wheel}: {name} is larger than as published; expected {WHEEL}; {_REMEDY}")
            return {file: archive.read(info) for file, info in infos.items()}
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{wheel}: has no {name} ({error.args[0]}); expected {WHEEL}; {_REMEDY}") from error
    except ZIP_ERRORS as error:
        raise InputError(f"{wheel}: is not a whole wheel ({error}); expected {WHEEL}; {_REMEDY}") from error


def _of_checkpoint(name, folder, where):
    stored = read_checkpoint(f"{folder}/", name, _variables(name), where, _REMEDY)
    try:
        stored = {layer: [_as_ours(layer, array) for array in arrays] for layer, arrays in stored.items()}
    except ValueError as error:
        raise InputError(f"{where}: is another network ({error}); expected {name}; {_REMEDY}") from error
    check_arrays(where, stored, _shapes(name))
    biases = zlib.crc32(stored[_SCORES][1].tobytes())
    other = next((other for other, published in _BIASES.items() if published == biases), name)
    if other != name:
        raise InputError(f"{where}: is {other}; expected {name}; give {WHEEL}, or its folder musicnn/{name}")
    return stored


def _as_ours(layer, array):
    """A weight of the checkpoint as our layer has it."""
    if layer.startswith("cnn") and array.ndim == 4:  # (7, channels, 1, filters)
        return np.squeeze(array, axis=2)
    if layer == "pools_normalisation" or (layer == "penultimate_dense" and array.ndim == 2):
        # There, maximum and mean of the first channel come first; here, the maxima of all channels.
        return array.reshape(-1, 2, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)
    return array


@cache  # it takes building the network
def _shapes(name):
    patches = keras.Input((CONFIG.patch_frames, CONFIG.n_mels, 1))
    layers = keras.Model(patches, _MAPS[name[4:]](patches)).layers
    return {layer.name: [tuple(weight.shape) for weight in layer.weights] for layer in layers if layer.weights}


SOURCES: dict[str, Source] = {
    name: Source(name, CONFIG, _MAPS[name[4:]], partial(read_weights, name), TAGS[name]) for name in _BIASES
}
