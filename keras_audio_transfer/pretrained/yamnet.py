"""YAMNet: 521 classes of AudioSet by a MobileNet v1.

Two networks are published under this name. That of the 8-bit TensorFlow Lite classifier, here `yamnet`, has ReLU6: each
of its convolutions says so, and with ReLU its features would be others. The original, tensorflow/models
`research/audioset/yamnet`, here `yamnet_float`, has ReLU, and its weights are the Keras file `yamnet.h5`. Layers and
front end are the same. The 8-bit file is read, not run: its weights become the numbers that the 8 bits stand for, and
activations are in float, so that the features are free of their 8-bit steps.
"""

import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import h5py
import keras
import numpy as np

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
from keras_audio_transfer.pretrained.yamnet_labels import LABELS

CONFIG = AudioConfig(
    sample_rate=16000,
    clip_seconds=0.975,
    n_fft=512,
    hop_length=160,
    n_mels=64,
    mel_f_min=125.0,
    mel_f_max=7500.0,
    frame_padding="tensorflow_valid",
    win_length=400,
    spectrum="magnitude",
    mel_scale="htk",
    compression="natural_log",
    log_offset=0.001,
    patch_frames=96,
    patch_hop=48,
    patch_rest="zero_pad",
    short_clips="zero_pad",
    long_clips="whole",
)
# (stride, filters) of the first convolution and of the thirteen separable blocks behind it.
BLOCKS = (
    (2, 32), (1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), *[(1, 512)] * 5, (2, 1024), (1, 1024)
)  # fmt: skip
KERNEL = 3
EPSILON = 1e-4
HEAD = "scores_of_patches"
_HDF5, _TFLITE = b"\x89HDF\r\n\x1a\n", b"TFL3"  # at the beginning, and behind the first four bytes
_LARGEST = 2**25  # bytes, twice the larger file: of a larger one nothing is read
# Of the TensorFlow Lite schema: kinds of operations and types of tensors.
_CONVOLUTION, _DEPTHWISE, _DENSE = 3, 4, 9
_TYPES = {2: np.int32, 9: np.int8}


def maps(patches: keras.KerasTensor, ceiling: float | None = None) -> dict[str, keras.KerasTensor]:
    """MobileNet v1 (Howard et al. 2017, arXiv:1704.04861, table 1) on one channel, with a tap behind every block.

    Args:
        patches: (batch, 96, 64, 1).
        ceiling: of the activations: None for ReLU, 6 for ReLU6.

    Returns:
        `layer1` (batch, 48, 32, 32) ... `layer14` (batch, 3, 2, 1024), and `scores` (batch, 521) between 0 and 1.
    """
    taps, x = {}, patches
    for name, stride, filters in _blocks():
        if name == "layer1":
            x = _convolution(filters, KERNEL, stride, f"{name}_convolution")(x)
            x = _normalisation(f"{name}_normalisation")(x)
        else:
            x = keras.layers.DepthwiseConv2D(
                KERNEL, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise"
            )(x)
            x = _normalisation(f"{name}_depthwise_normalisation")(x)
            x = keras.layers.ReLU(ceiling, name=f"{name}_depthwise_activation")(x)
            x = _convolution(filters, 1, 1, f"{name}_pointwise")(x)
            x = _normalisation(f"{name}_pointwise_normalisation")(x)
        taps[name] = x = keras.layers.ReLU(ceiling, name=name)(x)
    embedding = keras.layers.GlobalAveragePooling2D(name="embedding_of_patches")(x)
    return {**taps, "scores": keras.layers.Dense(len(LABELS), activation="sigmoid", name=HEAD)(embedding)}


def _blocks() -> Iterator[tuple[str, int, int]]:
    return ((f"layer{i}", *block) for i, block in enumerate(BLOCKS, 1))


def _convolution(filters, kernel, stride, name):
    return keras.layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False, name=name)


def _normalisation(name):
    return keras.layers.BatchNormalization(momentum=0.9, scale=False, epsilon=EPSILON, name=name)


def _layers() -> Iterator[tuple[str, str, str, tuple[int, ...]]]:
    """Of each convolution in order: our name, that of its normalisation, the published name, the kernel's shape."""
    channels = 1
    for name, _, filters in _blocks():
        if name == "layer1":
            shape = (KERNEL, KERNEL, channels, filters)
            yield f"{name}_convolution", f"{name}_normalisation", f"{name}/conv", shape
        else:
            ours = f"{name}_depthwise"
            yield ours, f"{ours}_normalisation", f"{name}/depthwise_conv", (KERNEL, KERNEL, channels, 1)
            ours = f"{name}_pointwise"
            yield ours, f"{ours}_normalisation", f"{name}/pointwise_conv", (1, 1, channels, filters)
        channels = filters


def _shapes() -> dict[str, list[tuple[int, ...]]]:
    shapes = {HEAD: [(BLOCKS[-1][1], len(LABELS)), (len(LABELS),)]}
    for convolution, normalisation, _, kernel in _layers():
        shapes[convolution] = [kernel]
        shapes[normalisation] = [(kernel[2] if kernel[3] == 1 else kernel[3],)] * 3
    return shapes


def read_lite(path: Path) -> Weights:
    """The weights of the 8-bit TensorFlow Lite classifier, as Keras wants them; nothing of the file is run.

    Args:
        path: `yamnet.tflite`, or a folder that holds it.

    Returns:
        Layer name -> its weights: 'layer1_convolution' -> [(3, 3, 1, 32)], 'layer1_normalisation' -> [beta, mean,
        variance], 'layer2_depthwise' -> [(3, 3, 32, 1)], ..., 'scores_of_patches' -> [(1024, 521), (521,)]. In the file
        the normalisations are part of the convolutions; here they pass values through and add the biases: mean 0, and
        a variance that is 1 together with epsilon.

    Raises:
        InputError: not there, not this file, damaged, or another network.
    """
    path, remedy = file_and_remedy("yamnet", path, _LARGEST)
    if _beginning(path, "a TensorFlow Lite file", remedy) == _HDF5:
        raise InputError(f"{path}: is a Keras file, another network than yamnet.tflite; import it as yamnet_float")
    try:
        operations = [*_operations(path.read_bytes())]
    except (OSError, struct.error, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: is not the published network ({first_line(error)}); {remedy}") from error
    expected = [_CONVOLUTION, *[_DEPTHWISE, _CONVOLUTION] * (len(BLOCKS) - 1), _DENSE]
    if [kind for kind, *_ in operations] != expected:
        raise InputError(f"{path}: is another network (its 8-bit layers are not YAMNet's); {remedy}")
    weights = {}
    for (_, kernel, bias), (convolution, normalisation, *_) in zip(operations[:-1], _layers(), strict=True):
        # (filters, height, width, channels), and of a depthwise convolution (1, height, width, channels)
        weights[convolution] = [kernel.transpose(1, 2, 3, 0)]
        zeros = np.zeros_like(bias)
        weights[normalisation] = [bias, zeros, zeros + (np.float32(1) - np.float32(EPSILON))]
    _, kernel, bias = operations[-1]
    weights[HEAD] = [kernel.T, bias]
    check_arrays(path, weights, _shapes())
    return weights


def _operations(data):
    """Of each operation with an 8-bit kernel in a TensorFlow Lite file: its kind, kernel and bias in float32."""
    from tensorflow.lite.python import schema_py_generated as schema  # the interpreter would set up the whole network

    model = schema.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    for i in range(graph.OperatorsLength()):
        operation = graph.Operators(i)
        code = model.OperatorCodes(operation.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # the second is that of old files
        if kind in (_CONVOLUTION, _DEPTHWISE, _DENSE):
            kernel, bias = (graph.Tensors(operation.Inputs(j)) for j in (1, 2))
            if _TYPES.get(kernel.Type()) is np.int8:  # not of the front end, which is in float32
                axis = 3 if kind == _DEPTHWISE else 0
                yield kind, _dequantised(model, kernel, axis), _dequantised(model, bias, 0)


def _dequantised(model, tensor, axis):
    """A tensor's numbers; it has one scale, or one for each index of an axis. Raises ValueError for other forms."""
    shape, quantisation = tensor.ShapeAsNumpy(), tensor.Quantization()
    numbers = np.frombuffer(bytes(model.Buffers(tensor.Buffer()).DataAsNumpy()), _TYPES.get(tensor.Type(), np.int8))
    scales = np.asarray(quantisation.ScaleAsNumpy(), np.float32)
    if np.any(quantisation.ZeroPointAsNumpy()) or scales.size not in (1, shape[axis]):
        raise ValueError("8-bit numbers of another form")
    by_axis = [1] * len(shape)
    by_axis[axis] = scales.size
    with np.errstate(all="ignore"):  # what is not finite is refused later
        return numbers.reshape(shape).astype(np.float32) * scales.reshape(by_axis)


def read_float(path: Path) -> Weights:
    """The weights of the original, as Keras wants them today.

    Args:
        path: `yamnet.h5`, or a folder that holds it: weights saved by Keras 2, whose names are `layer1/conv/kernel:0`,
            `layer1/conv/bn/beta:0`, `layer2/depthwise_conv/depthwise_kernel:0` ... with or without groups around them.
            The dense layer has no name in the original program, so it is what is left over.

    Returns:
        As `read_lite`.

    Raises:
        InputError: not there, not this file, damaged, or another network.
    """
    path, remedy = file_and_remedy("yamnet_float", path, _LARGEST)
    if _beginning(path, "an HDF5 file", remedy)[4:] == _TFLITE:
        raise InputError(f"{path}: is a TensorFlow Lite file, another network than yamnet.h5; import it as yamnet")
    try:
        with h5py.File(path) as file:
            stored = hdf5_arrays(file.get("model_weights", file), _LARGEST)
        weights = {}
        for convolution, normalisation, published, kernel in _layers():
            kind = "depthwise_kernel" if kernel[3] == 1 else "kernel"
            weights[convolution] = [_taken(stored, f"{published}/{kind}")]
            kinds = ("beta", "moving_mean", "moving_variance")
            weights[normalisation] = [_taken(stored, f"{published}/bn/{kind}") for kind in kinds]
        weights[HEAD] = [_taken(stored, kind) for kind in ("kernel", "bias")]
    except HDF5_ERRORS as error:
        raise InputError(f"{path}: is not the published network ({first_line(error)}); {remedy}") from error
    check_arrays(path, weights, _shapes())
    return weights


def _taken(stored, name):
    """The one array whose path ends in that name, taken out. Raises KeyError unless there is just one."""
    paths = [path for path in stored if path.endswith(f"/{name}")]
    if len(paths) != 1:
        raise KeyError(f"{len(paths)} arrays are named {name}")
    return stored.pop(paths[0])


def _beginning(path, kind, remedy):
    """The first eight bytes. Raises InputError where they are neither HDF5's nor TensorFlow Lite's."""
    try:
        with path.open("rb") as file:
            beginning = file.read(8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if beginning != _HDF5 and beginning[4:] != _TFLITE:
        raise InputError(f"{path}: is not {kind}; {remedy}")
    return beginning


SOURCES = {
    "yamnet": Source("yamnet", CONFIG, partial(maps, ceiling=6.0), read_lite, LABELS),
    "yamnet_float": Source("yamnet_float", CONFIG, maps, read_float, LABELS),
}
