"""Networks that Keras brings along, with every stage tapped: DenseNet and ResNet-50.

Stages are `stem`, `stage1` ... `stage4`; each is what the stage hands to the next.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras

from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError

IMAGENET = "imagenet"
IMAGENET_CHANNELS = 3
DENSENET_CITATION = (
    "G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger: Densely connected convolutional networks. "
    "CVPR 2017, arXiv:1608.06993"
)
RESNET_CITATION = (
    "K. He, X. Zhang, S. Ren, J. Sun: Deep residual learning for image recognition. CVPR 2016, arXiv:1512.03385"
)


@dataclass(frozen=True)
class Application:
    """A network of `keras.applications`.

    Attributes:
        build: Keras's function that makes it.
        taps: name of the last layer of a stage there -> name of the stage here, in order of depth.
        CITATION: its source.
    """

    build: Callable
    taps: Mapping[str, str]
    CITATION: str

    def maps(self, spectrogram, config: AudioConfig, weights: str | None = None) -> dict:
        """The maps of every stage.

        Args:
            spectrogram: Keras tensor (batch, frames, mels, channels); any number of frames.
            config: the front end.
            weights: None for random ones, 'imagenet' for Keras's (downloaded by Keras when they are asked for; one
                channel is repeated to three).

        Returns:
            {'stem': (batch, frames, mels, channels), 'stage1': ..., 'stage4'}.

        Raises:
            InputError: pre-trained weights for another number of channels.
        """
        channels = spectrogram.shape[-1]
        if weights == IMAGENET and channels == 1:
            spectrogram = keras.layers.Concatenate(name="three_channels")([spectrogram] * IMAGENET_CHANNELS)
            channels = IMAGENET_CHANNELS
        if weights == IMAGENET and channels != IMAGENET_CHANNELS:
            raise InputError(f"weights: {IMAGENET} takes 1 or {IMAGENET_CHANNELS} channels, not {channels}")
        network = self.build(include_top=False, weights=weights, input_shape=(None, None, channels))
        inner = keras.models.clone_model(network, input_tensors=spectrogram, clone_function=self._clone)
        if weights:
            inner.set_weights(network.get_weights())
        return {name: inner.get_layer(name).output for name in self.taps.values()}

    def _clone(self, layer):
        config = layer.get_config()
        config["name"] = self.taps.get(layer.name, layer.name)
        if isinstance(layer, keras.layers.AveragePooling2D):
            config["padding"] = "same"  # an odd last row counts, and short clips come through
        if isinstance(layer, keras.layers.BatchNormalization):
            config["momentum"] = 0.9  # a small data set has too few batches for 0.99
        return type(layer).from_config(config)


def _densenet(build, last_layers):
    taps = {"pool1": "stem"}
    taps |= {f"conv{stage + 1}_block{last}_concat": f"stage{stage}" for stage, last in enumerate(last_layers[:-1], 1)}
    return Application(build, {**taps, "relu": "stage4"}, DENSENET_CITATION)


DENSENET121 = _densenet(keras.applications.DenseNet121, (6, 12, 24, 16))
DENSENET169 = _densenet(keras.applications.DenseNet169, (6, 12, 32, 32))
DENSENET201 = _densenet(keras.applications.DenseNet201, (6, 12, 48, 32))
RESNET50 = Application(
    keras.applications.ResNet50,
    {
        "pool1_pool": "stem",
        "conv2_block3_out": "stage1",
        "conv3_block4_out": "stage2",
        "conv4_block6_out": "stage3",
        "conv5_block3_out": "stage4",
    },
    RESNET_CITATION,
)
