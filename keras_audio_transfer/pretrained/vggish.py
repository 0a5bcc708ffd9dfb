"""VGGish: 128 numbers every 0.96 s, by a VGG that was trained on the tags of videos.

Published with AudioSet, tensorflow/models `research/audioset/vggish`, as a TensorFlow 1 checkpoint in one file, of
which only the weights are read. The 128 numbers are those in front of any activation. What the data set AudioSet has is
made of them by a projection and a rounding to 8 bits, which are not part of the network.
"""

from dataclasses import replace
from pathlib import Path

import keras

from keras_audio_transfer.pretrained import yamnet
from keras_audio_transfer.pretrained.source import Source, Weights, check_arrays, file_and_remedy, read_checkpoint

CONFIG = replace(yamnet.CONFIG, log_offset=0.01, patch_hop=96, patch_rest="drop")  # of which YAMNet's was made
# Filters of the convolutions of each block; a pool is behind each block.
BLOCKS = ((64,), (128,), (256, 256), (512, 512))
KERNEL = 3
DENSE = (4096, 4096)
EMBEDDING = 128
_LARGEST = 2**29  # bytes, twice the file: of a larger one nothing is read


def maps(patches: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    """Configuration A of VGG (Simonyan and Zisserman 2014, arXiv:1409.1556, table 1) without its last block.

    Args:
        patches: (batch, 96, 64, 1).

    Returns:
        Behind each block `pool1` (batch, 48, 32, 64), `pool2` (batch, 24, 16, 128), `pool3` (batch, 12, 8, 256) and
        `pool4` (batch, 6, 4, 512); then vectors, `fc1_1` and `fc1_2` (batch, 4096) and `embedding` (batch, 128), which
        alone has no activation.
    """
    taps, x = {}, patches
    for number, filters in enumerate(BLOCKS, 1):
        for name, width in zip(_names(f"conv{number}", filters), filters, strict=True):
            x = keras.layers.Conv2D(width, KERNEL, padding="same", activation="relu", name=name)(x)
        x = taps[f"pool{number}"] = keras.layers.MaxPooling2D(name=f"pool{number}")(x)
    x = keras.layers.Flatten(name="flat")(x)
    for name, width in zip(_names("fc1", DENSE), DENSE, strict=True):
        x = taps[name] = keras.layers.Dense(width, activation="relu", name=name)(x)
    return {**taps, "embedding": keras.layers.Dense(EMBEDDING, name="embedding")(x)}


def _names(scope, widths):
    """Of the layers of a block, as in the original program."""
    return [f"{scope}_{i}" for i in range(1, 1 + len(widths))] if len(widths) > 1 else [scope]


def _layers():
    """Of each layer with weights in order: its name, its scope in the checkpoint, and its kernel's shape."""
    channels, cells = 1, CONFIG.patch_frames * CONFIG.n_mels
    for number, filters in enumerate(BLOCKS, 1):
        for name, width in zip(_names(f"conv{number}", filters), filters, strict=True):
            yield name, name if len(filters) == 1 else f"conv{number}/{name}", (KERNEL, KERNEL, channels, width)
            channels = width
        cells //= 4
    channels *= cells
    for name, width in zip(_names("fc1", DENSE), DENSE, strict=True):
        yield name, f"fc1/{name}", (channels, width)
        channels = width
    yield "embedding", "fc2", (channels, EMBEDDING)


def read(path: Path) -> Weights:
    """The weights, as Keras wants them.

    Args:
        path: `vggish_model.ckpt`, or a folder that holds it.

    Returns:
        Layer name -> its weights: 'conv1' -> [(3, 3, 1, 64), (64,)], 'conv2' -> ..., 'conv3_1', 'conv3_2', 'conv4_1',
        'conv4_2', 'fc1_1' -> [(12288, 4096), (4096,)], 'fc1_2', 'embedding' -> [(4096, 128), (128,)].

    Raises:
        InputError: not there, not this file, damaged, or another network.
    """
    path, remedy = file_and_remedy("vggish", path, _LARGEST)
    variables = {name: [f"vggish/{scope}/{kind}" for kind in ("weights", "biases")] for name, scope, _ in _layers()}
    weights = read_checkpoint(str(path), "vggish", variables, path, remedy)
    check_arrays(path, weights, {name: [shape, shape[-1:]] for name, _, shape in _layers()})
    return weights


SOURCES = {"vggish": Source("vggish", CONFIG, maps, read)}
