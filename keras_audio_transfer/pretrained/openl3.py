"""OpenL3: 512 or 6144 numbers a second of sound, by a network that learnt which sound belongs to which picture.

Four networks of marl/openl3 (Cramer et al. 2019), as Keras 2 saved their weights: of 128 or 256 mel bands, trained on
videos of music or of the environment. A window of a second is heard by itself: its decibels are relative to its own
loudest cell, and the frames at its end are filled with zeros, so windows are no patches of a clip's spectrogram.
Windows are here half a second apart, and the first begins with the clip: the original's `hop_size=0.5, center=False`.
Its default is one every 0.1 s, the first after half a second of silence; five times the work for a clip's mean.
"""

import gzip
import io
import re
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import keras

from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.pretrained.source import (
    HDF5_ERRORS,
    Source,
    Weights,
    check_arrays,
    file_and_remedy,
    first_line,
    hdf5_arrays,
)

CONFIG = AudioConfig(
    sample_rate=48000,
    clip_seconds=1.0,
    n_fft=2048,
    hop_length=242,
    n_mels=256,
    mel_f_min=0.0,
    mel_f_max=24000.0,
    decibel_maximum="patch",
    frame_padding="tensorflow_valid",
    spectrum="magnitude",
    patch_frames=199,
    patch_hop=207,
    patch_rest="zero_pad",
    window_samples=48000,
    window_hop=24000,
    short_clips="zero_pad",
    long_clips="whole",
)
# Filters of the convolutions of each block; a pool is behind each block but the last.
BLOCKS = ((64, 64), (128, 128), (256, 256), (512, 512))
KERNEL = 3
FRAMES_OF_6144 = 8  # of its pool; over bands, what leaves four
_INPUT = "input_normalisation"
_LAST = "audio_embedding_layer"  # in the file
_LARGEST = 2**26  # bytes, three times the file: of a larger one nothing is read
_GZIP = b"\x1f\x8b"


def maps(patches: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    """The audio half of the L3 network (Cramer et al. 2019, section 2.1), with a tap behind every layer.

    Args:
        patches: (batch, 199, bands, 1).

    Returns:
        Behind the activation of each convolution `conv1_1` and `conv1_2` (batch, 199, bands, 64), behind each pool
        `pool1` (batch, 99, bands / 2, 64), and so on up to `pool3` (batch, 24, bands / 8, 256), `conv4_1` and, which
        has neither normalisation nor activation, `conv4_2` (batch, 24, bands / 8, 512); then the two embeddings that
        are published, its largest numbers: `embedding_6144` (batch, 6144) in three thirds of a second and four bands,
        and `embedding` (batch, 512).
    """
    taps, last = {}, _layers()[-1][0]
    x = keras.layers.BatchNormalization(name=_INPUT)(patches)
    for block, widths in enumerate(BLOCKS, 1):
        for number, width in enumerate(widths, 1):
            name = f"conv{block}_{number}"
            if name == last:
                x = taps[name] = keras.layers.Conv2D(width, KERNEL, padding="same", name=name)(x)
                continue
            x = keras.layers.Conv2D(width, KERNEL, padding="same", name=f"{name}_convolution")(x)
            x = keras.layers.BatchNormalization(name=f"{name}_normalisation")(x)
            x = taps[name] = keras.layers.ReLU(name=name)(x)
        if block < len(BLOCKS):
            x = taps[f"pool{block}"] = keras.layers.MaxPooling2D(name=f"pool{block}")(x)
    cells = keras.layers.MaxPooling2D((FRAMES_OF_6144, x.shape[2] // 4), name="thirds_and_bands")(x)
    cells = keras.layers.Permute((2, 1, 3), name="bands_first")(cells)  # as the original has them
    taps["embedding_6144"] = keras.layers.Flatten(name="embedding_6144")(cells)
    taps["embedding"] = keras.layers.GlobalMaxPooling2D(name="embedding")(x)
    return taps


def _layers():
    """Of each convolution in order: its name, that of the normalisation behind it, and the kernel's shape."""
    names = [(f"conv{block}_{i}", w) for block, widths in enumerate(BLOCKS, 1) for i, w in enumerate(widths, 1)]
    found, channels = [], 1
    for name, width in names:
        shape = (KERNEL, KERNEL, channels, width)
        last = name == names[-1][0]
        found.append((name if last else f"{name}_convolution", None if last else f"{name}_normalisation", shape))
        channels = width
    return found


def read(source: str, path: Path) -> Weights:
    """The weights, as Keras wants them today.

    Args:
        source: name of the network.
        path: its published file, as it was published or unpacked, or a folder that holds it. Each layer has a group
            there, `batch_normalization` eight times and `conv2d` seven times, numbered from anywhere on, and
            `audio_embedding_layer`. Nothing in it says which of the four networks it is, so that its name, as the
            original program does, is relied upon.

    Returns:
        Layer name -> its weights: 'input_normalisation' -> [gamma, beta, mean, variance] (1,) each,
        'conv1_1_convolution' -> [(3, 3, 1, 64), (64,)], 'conv1_1_normalisation' -> four of (64,), ...,
        'conv4_2' -> [(3, 3, 512, 512), (512,)]. Kernels are over frames and bands: those of the file are over bands
        and frames.

    Raises:
        InputError: not there, not this file, damaged, or another network.
    """
    path, remedy = file_and_remedy(source, path, _LARGEST)
    stem = source.replace("openl3", "openl3_audio")  # how the published file's name begins
    named = re.match("openl3_[a-z]+_[a-z0-9]+_[a-z]+", path.name)
    if named and named[0] != stem:
        raise InputError(f"{path}: is by its name another network than {source}, {stem}; {remedy}")
    try:
        data = path.read_bytes()
        if data[:2] == _GZIP:
            with gzip.open(io.BytesIO(data)) as packed:
                data = packed.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise InputError(f"{path}: is too large for this network; {remedy}")
        with h5py.File(io.BytesIO(data)) as file:
            stored = hdf5_arrays(file.get("model_weights", file), _LARGEST)
        weights = _named(stored)
    except InputError:
        raise
    except (*HDF5_ERRORS, EOFError, zlib.error) as error:
        raise InputError(f"{path}: is not the published network ({first_line(error)}); {remedy}") from error
    shapes = {_INPUT: [(1,)] * 4}
    for convolution, normalisation, kernel in _layers():
        shapes[convolution] = [kernel, kernel[-1:]]
        if normalisation:
            shapes[normalisation] = [kernel[-1:]] * 4
    check_arrays(path, weights, shapes)
    kernels = {layer: [weights[layer][0].transpose(1, 0, 2, 3), weights[layer][1]] for layer, _, _ in _layers()}
    return {**weights, **kernels}


def _named(stored):
    """Our names -> the weights. Raises ValueError where there are other layers, or a layer lacks one."""
    groups = {}
    for path, array in stored.items():
        _, group, *_, kind = path.split("/")
        groups.setdefault(group, {})[kind] = array
    convolutions, normalisations = _numbered(groups, "conv2d"), _numbered(groups, "batch_normalization")
    layers = _layers()
    ours = [_INPUT, *[normalisation for _, normalisation, _ in layers if normalisation]]
    if len(convolutions) != len(layers) - 1 or len(normalisations) != len(ours) or _LAST not in groups:
        found = f"{len(convolutions)} convolutions, {len(normalisations)} normalisations"
        raise ValueError(f"{found} and {'an' if _LAST in groups else 'no'} {_LAST}")
    weights = {}
    for name, theirs in zip(ours, normalisations, strict=True):
        weights[name] = _arrays(groups, theirs, "gamma", "beta", "moving_mean", "moving_variance")
    for (name, _, _), theirs in zip(layers, [*convolutions, _LAST], strict=True):
        weights[name] = _arrays(groups, theirs, "kernel", "bias")
    return weights


def _numbered(groups, kind):
    """The groups `kind`, `kind_1`, `kind_2` ... by their numbers, of which the first can be any."""
    numbers = {name: re.fullmatch(rf"{kind}(?:_(\d+))?", name) for name in groups}
    found = {name: int(match[1] or 0) for name, match in numbers.items() if match}
    return sorted(found, key=lambda name: found[name])


def _arrays(groups, layer, *kinds):
    """Of a layer's group. Raises ValueError where one is missing."""
    missing = [kind for kind in kinds if kind not in groups[layer]]
    if missing:
        raise ValueError(f"{layer}/{missing[0]} is missing")
    return [groups[layer][kind] for kind in kinds]


SOURCES = {
    f"openl3_mel{n_mels}_{content}": Source(
        f"openl3_mel{n_mels}_{content}",
        replace(CONFIG, n_mels=n_mels),
        maps,
        partial(read, f"openl3_mel{n_mels}_{content}"),
    )
    for n_mels in (256, 128)
    for content in ("music", "env")
}
