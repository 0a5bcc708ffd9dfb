"""SB-CNN: three convolutions, the baseline on UrbanSound8K when McMahan and Rao 2018 appeared."""

import keras

from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.layers import ClampedMaxPooling2D

CITATION = (
    "J. Salamon, J. P. Bello: Deep convolutional neural networks and data augmentation for environmental sound "
    "classification. IEEE Signal Processing Letters 24 (3), 2017, arXiv:1608.04363"
)
KERNEL = 5
# One row a layer: name, filters, pool over frames and mels (for 128 frames and 128 mels), or none.
LAYERS = (("layer1", 24, (4, 2)), ("layer2", 48, (4, 2)), ("layer3", 48, None))


def feature_maps(spectrogram, config: AudioConfig) -> dict:
    """The maps of every convolution, after its pool.

    The paper's dense layer of 64 after the flattened maps is left to the head: it would fix the clip's length.

    Args:
        spectrogram: Keras tensor (batch, frames, mels, channels); any number of frames.
        config: the front end.

    Returns:
        {'layer1': (batch, frames / 4, mels / 2, 24), 'layer2': (batch, frames / 16, mels / 4, 48), 'layer3': the same}.
    """
    taps, x = {}, spectrogram
    for name, filters, pool in LAYERS:
        x = keras.layers.Conv2D(
            filters, KERNEL, padding="same", kernel_initializer="he_normal", name=f"{name}_convolution"
        )(x)
        if pool:
            x = ClampedMaxPooling2D(pool, name=f"{name}_pool")(x)
        x = taps[name] = keras.layers.ReLU(name=name)(x)
    return taps
