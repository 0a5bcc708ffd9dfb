"""DenseNet-40 with growth 12 (Huang et al. 2017, section 3), behind the striding stem of the larger DenseNets.

The stem makes the maps sixteen times smaller than those of the published network, for small data and small machines.
"""

import keras

from keras_audio_transfer.config import AudioConfig

CITATION = (
    "G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger: Densely connected convolutional networks. "
    "CVPR 2017, arXiv:1608.06993"
)
GROWTH = 12
STAGES = ("stage1", "stage2", "stage3")
LAYERS_A_STAGE = 12


def maps(spectrogram, config: AudioConfig) -> dict:
    """The maps of the stem and of every stage.

    Args:
        spectrogram: Keras tensor (batch, frames, mels, channels); any number of frames.
        config: the front end.

    Returns:
        {'stem': (batch, frames / 4, mels / 4, 24), 'stage1': (.., .., .., 168), 'stage2': half as many frames and mels,
        312, 'stage3': half again, 456}; sizes rounded up.
    """
    x = _convolution(2 * GROWTH, 7, "stem", strides=2)(spectrogram)
    x = _normalised(x, "stem")
    taps = {"stem": keras.layers.MaxPooling2D(3, strides=2, padding="same", name="stem")(x)}
    x = taps["stem"]
    for stage in STAGES:
        if stage != STAGES[0]:
            x = _convolution(x.shape[-1], 1, f"{stage}_transition")(_normalised(x, f"{stage}_transition"))
            x = keras.layers.AveragePooling2D(2, padding="same", name=f"{stage}_transition_pool")(x)
        for number in range(1, LAYERS_A_STAGE + 1):
            name = f"{stage}_layer{number}"
            new = _convolution(GROWTH, 3, name)(_normalised(x, name))
            last = number == LAYERS_A_STAGE and stage != STAGES[-1]
            x = keras.layers.Concatenate(name=stage if last else f"{name}_concatenation")([x, new])
        taps[stage] = x
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{stage}_normalisation")(x)
    taps[stage] = keras.layers.ReLU(name=stage)(x)
    return taps


def _convolution(filters, size, name, strides=1):
    return keras.layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_convolution",
    )


def _normalised(x, name):
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_normalisation")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
