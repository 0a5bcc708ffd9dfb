"""ResNet-18 (He et al. 2016, section 4.1, table 1): four stages of two basic blocks."""

import keras

from keras_audio_transfer.backbones.blocks import batch_norm, conv2d
from keras_audio_transfer.config import AudioConfig

CITATION = "K. He, X. Zhang, S. Ren, J. Sun: Deep residual learning for image recognition. CVPR 2016, arXiv:1512.03385"
# One row a stage: name, filters, stride of its first block.
STAGES = (("stage1", 64, 1), ("stage2", 128, 2), ("stage3", 256, 2), ("stage4", 512, 2))
BLOCKS_A_STAGE = 2


def feature_maps(spectrogram, config: AudioConfig) -> dict:
    """The maps of the stem and of every stage.

    Args:
        spectrogram: Keras tensor (batch, frames, mels, channels); any number of frames.
        config: the front end.

    Returns:
        {'stem': (batch, frames / 4, mels / 4, 64), 'stage1': the same, 'stage2': half as many frames and mels, 128,
        'stage3': half again, 256, 'stage4': half again, 512}; sizes rounded up.
    """
    x = keras.layers.ReLU(name="stem_relu")(_conv_bn(spectrogram, 64, 7, 2, "stem_convolution"))
    taps = {"stem": keras.layers.MaxPooling2D(3, strides=2, padding="same", name="stem")(x)}
    x = taps["stem"]
    for stage, filters, stride in STAGES:
        for number in range(1, BLOCKS_A_STAGE + 1):
            block, first = f"{stage}_block{number}", number == 1
            shortcut = x
            if first and (stride > 1 or x.shape[-1] != filters):
                shortcut = _conv_bn(x, filters, 1, stride, f"{block}_shortcut")
            x = _conv_bn(x, filters, 3, stride if first else 1, f"{block}_conv1")
            x = _conv_bn(keras.layers.ReLU(name=f"{block}_conv1_relu")(x), filters, 3, 1, f"{block}_conv2")
            x = keras.layers.Add(name=f"{block}_sum")([shortcut, x])
            x = keras.layers.ReLU(name=stage if number == BLOCKS_A_STAGE else f"{block}_relu")(x)
        taps[stage] = x
    return taps


def _conv_bn(x, filters, size, strides, name):
    return batch_norm(conv2d(x, filters, size, name, strides), name)
