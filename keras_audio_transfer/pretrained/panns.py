"""PANNs, 527 classes of AudioSet (Kong et al. 2019): Cnn14, and the small MobileNetV1.

They come as PyTorch checkpoints. The networks hear a clip as a whole, of any length; where their pools would find
nothing, it is filled with zeros. Dropout, which does nothing but in training, is left out.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import keras

from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.pretrained import pytorch, yamnet
from keras_audio_transfer.pretrained.audioset_labels import LABELS
from keras_audio_transfer.pretrained.catalogue import published
from keras_audio_transfer.pretrained.source import Source, Weights, check_arrays, published_file

CONFIG = AudioConfig(
    sample_rate=32000,
    clip_seconds=10.0,
    n_fft=1024,
    hop_length=320,
    n_mels=64,
    mel_f_min=50.0,
    mel_f_max=14000.0,
    frame_padding="centre_reflect",
    compression="decibel",
    decibel_range=1000.0,  # nothing is cut
    short_clips="zero_pad",
    long_clips="whole",
    least_frames=32,  # five pools of two
)
CNN14_BLOCKS = (64, 128, 256, 512, 1024, 2048)  # filters of the two convolutions of each
MOBILENET_BLOCKS = yamnet.BLOCKS  # (stride, filters), as of any MobileNet v1
KERNEL = 3
EPSILON = 1e-5
HEAD = "scores_of_clip"
_LARGEST = 2**29  # bytes, more than the larger file: of a larger one nothing is read


def cnn14_maps(spectrogram: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    """Fourteen layers (Kong et al. 2019, arXiv:1912.10211, table 1), with a tap behind every two convolutions.

    Args:
        spectrogram: (batch, frames, 64, 1), at least 32 frames.

    Returns:
        Behind their pools `block1` (batch, frames / 2, 32, 64) ... `block5` (batch, frames / 32, 2, 1024); `block6`
        (batch, frames / 32, 2, 2048), which has none; then `embedding` (batch, 2048) and `scores` (batch, 527) between
        0 and 1.
    """
    x, taps = _normalisation("input", axis=2)(spectrogram), {}
    for block, filters in enumerate(CNN14_BLOCKS, 1):
        name = f"block{block}"
        for number in (1, 2):
            x = _convolution(filters, KERNEL, f"{name}_convolution{number}")(x)
            x = _normalisation(f"{name}_{number}")(x)
            last = number == 2 and block == len(CNN14_BLOCKS)
            x = keras.layers.ReLU(name=name if last else f"{name}_activation{number}")(x)
        taps[name] = x = x if last else keras.layers.AveragePooling2D(2, name=name)(x)
    return {**taps, **_head(x)}


def mobilenet_maps(spectrogram: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    """MobileNet v1 (Howard et al. 2017, arXiv:1704.04861) whose strides are mean pools, with a tap behind every block.

    Args:
        spectrogram: (batch, frames, 64, 1), at least 32 frames.

    Returns:
        `layer1` (batch, frames / 2, 32, 32) ... `layer14` (batch, frames / 32, 2, 1024); then `embedding` (batch, 1024)
        and `scores` (batch, 527) between 0 and 1.
    """
    x, taps = _normalisation("input", axis=2)(spectrogram), {}
    for number, (stride, filters) in enumerate(MOBILENET_BLOCKS, 1):
        name = f"layer{number}"
        if number == 1:
            x = _pooled(_convolution(filters, KERNEL, f"{name}_convolution")(x), stride, name)
            x = _normalisation(name)(x)
        else:
            depthwise = keras.layers.DepthwiseConv2D(KERNEL, padding="same", use_bias=False, name=f"{name}_depthwise")
            x = _pooled(depthwise(x), stride, name)
            x = _normalisation(f"{name}_depthwise")(x)
            x = keras.layers.ReLU(name=f"{name}_depthwise_activation")(x)
            x = _normalisation(f"{name}_pointwise")(_convolution(filters, 1, f"{name}_pointwise")(x))
        taps[name] = x = keras.layers.ReLU(name=name)(x)
    return {**taps, **_head(x)}


def _convolution(filters, kernel, name):
    return keras.layers.Conv2D(filters, kernel, padding="same", use_bias=False, name=name)


def _normalisation(name, axis=-1):
    name = f"{name}_normalisation"
    return keras.layers.BatchNormalization(axis=axis, momentum=0.9, epsilon=EPSILON, name=name)


def _pooled(x, stride, name):
    return keras.layers.AveragePooling2D(stride, name=f"{name}_pool")(x) if stride > 1 else x


def _head(maps):
    """Mean over the bands, maximum and mean over time, and two dense layers."""
    x = keras.layers.AveragePooling2D((1, maps.shape[2]), name="mean_of_bands")(maps)
    pools = (keras.layers.GlobalMaxPooling2D(name="max_pool"), keras.layers.GlobalAveragePooling2D(name="mean_pool"))
    x = keras.layers.Add(name="pools")([pool(x) for pool in pools])
    embedding = keras.layers.Dense(maps.shape[-1], activation="relu", name="embedding")(x)
    return {
        "embedding": embedding,
        "scores": keras.layers.Dense(len(LABELS), activation="sigmoid", name=HEAD)(embedding),
    }


_Layers = Iterator[pytorch.Layer]


def _cnn14_layers() -> _Layers:
    channels = 1
    for block, filters in enumerate(CNN14_BLOCKS, 1):
        for number in (1, 2):
            shape = (KERNEL, KERNEL, channels, filters)
            yield f"block{block}_convolution{number}", f"conv_block{block}.conv{number}", shape
            yield f"block{block}_{number}_normalisation", f"conv_block{block}.bn{number}", (filters,)
            channels = filters
    yield from _outer_layers(channels)


def _mobilenet_layers() -> _Layers:
    channels = 1
    for number, (_, filters) in enumerate(MOBILENET_BLOCKS, 1):
        name, published_name = f"layer{number}", f"features.{number - 1}"
        if number == 1:
            yield f"{name}_convolution", f"{published_name}.0", (KERNEL, KERNEL, channels, filters)
            yield f"{name}_normalisation", f"{published_name}.2", (filters,)
        else:
            yield f"{name}_depthwise", f"{published_name}.0", (KERNEL, KERNEL, channels, 1)
            yield f"{name}_depthwise_normalisation", f"{published_name}.2", (channels,)
            yield f"{name}_pointwise", f"{published_name}.4", (1, 1, channels, filters)
            yield f"{name}_pointwise_normalisation", f"{published_name}.5", (filters,)
        channels = filters
    yield from _outer_layers(channels)


def _outer_layers(channels) -> _Layers:
    yield "input_normalisation", "bn0", (CONFIG.n_mels,)
    yield "embedding", "fc1", (channels, channels)
    yield HEAD, "fc_audioset", (channels, len(LABELS))


_LAYERS = {"panns_cnn14": _cnn14_layers, "panns_mobilenet": _mobilenet_layers}


def read(name: str, path: Path) -> Weights:
    """The weights of one of the networks, as Keras wants them; nothing of the file is run.

    Args:
        name: of the network.
        path: the published file, `Cnn14_mAP=0.431.pth` or `MobileNetV1_mAP=0.389.pth`, or a folder that holds it.

    Returns:
        Layer name -> its weights: 'input_normalisation' -> [gamma, beta, mean, variance], (64,) each,
        'block1_convolution1' -> [(3, 3, 1, 64)], ..., 'scores_of_clip' -> [(2048, 527), (527,)].

    Raises:
        InputError: not there, not this file, damaged, or another network; or the package `torch` is not installed.
    """
    entry = published(name)
    remedy = f"get it again from {entry.url}"
    expected = f"{entry.file}, or a folder that holds it"
    path = published_file(path, entry.names, expected, _LARGEST, remedy)
    layers = [*_LAYERS[name]()]
    weights = pytorch.read(path, layers, _LARGEST, remedy, part="model")
    shapes = pytorch.shapes_of(layers)
    shapes |= {layer: [*shapes[layer], shapes[layer][0][1:]] for layer in ("embedding", HEAD)}
    check_arrays(path, weights, shapes)
    return weights


SOURCES = {
    "panns_cnn14": Source("panns_cnn14", CONFIG, cnn14_maps, partial(read, "panns_cnn14"), LABELS),
    "panns_mobilenet": Source("panns_mobilenet", CONFIG, mobilenet_maps, partial(read, "panns_mobilenet"), LABELS),
}
