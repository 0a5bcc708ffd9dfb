"""DenseNet-40 with growth 12 (Huang et al. 2017, section 3), behind the striding stem of the larger DenseNets.

The stem makes the maps sixteen times smaller than those of the published network, for small data and small machines.
"""

import keras

from keras_audio_transfer.backbones.blocks import batch_norm, conv2d
from keras_audio_transfer.config import AudioConfig

CITATION = (
    "G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger: Densely connected convolutional networks. "
    "CVPR 2017, arXiv:1608.06993"
)
GROWTH = 12
STAGES = ("stage1", "stage2", "stage3")
LAYERS_A_STAGE = 12


def feature_maps(spectrogram, config: AudioConfig) -> dict:
    """The maps of the stem and of every stage.

    Args:
        spectrogram: Keras tensor (batch, frames, mels, channels); any number of frames.
        config: the front end.

    Returns:
        {'stem': (batch, frames / 4, mels / 4, 24), 'stage1': (.., .., .., 168), 'stage2': half as many frames and mels,
        312, 'stage3': half again, 456}; sizes rounded up.
    """
    x = _activated(conv2d(spectrogram, 2 * GROWTH, 7, "stem_convolution", strides=2), "stem")
    taps = {"stem": keras.layers.MaxPooling2D(3, strides=2, padding="same", name="stem")(x)}
    x = taps["stem"]
    for stage in STAGES:
        if stage != STAGES[0]:
            name = f"{stage}_transition"
            x = conv2d(_activated(x, name), x.shape[-1], 1, f"{name}_convolution")
            x = keras.layers.AveragePooling2D(2, padding="same", name=f"{name}_pool")(x)
        for number in range(1, LAYERS_A_STAGE + 1):
            name = f"{stage}_layer{number}"
            new = conv2d(_activated(x, name), GROWTH, 3, f"{name}_convolution")
            last = number == LAYERS_A_STAGE and stage != STAGES[-1]
            x = keras.layers.Concatenate(name=stage if last else f"{name}_concatenation")([x, new])
        taps[stage] = x
    taps[stage] = keras.layers.ReLU(name=stage)(batch_norm(x, stage))
    return taps


def _activated(x, name):
    return keras.layers.ReLU(name=f"{name}_relu")(batch_norm(x, name))
