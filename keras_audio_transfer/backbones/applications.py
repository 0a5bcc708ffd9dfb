"""DenseNet-121, -169, -201 (Huang et al. 2017, table 1) and ResNet-50 (He et al. 2016, table 1) of keras.applications.

Two things differ there from Keras's own: the normalisations have the momentum of `blocks.batch_norm`, and the
average pools keep an odd last row, so that no clip is too short.
"""

from dataclasses import dataclass

import keras

from keras_audio_transfer.backbones import check_channels, densenet40, resnet18
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError

TAPS = ("stem", "stage1", "stage2", "stage3", "stage4")


@dataclass(frozen=True)
class Application:
    """A network of keras.applications without its classifier.

    Attributes:
        constructor: its name in `keras.applications`.
        last_layers: for each of `TAPS`, the last layer's name there.
        largest: with ImageNet's weights, the input lies in [-largest, largest]; roughly the range they were trained on.
        CITATION: its source.
    """

    constructor: str
    last_layers: tuple[str, ...]
    largest: float
    CITATION: str

    def feature_maps(self, spectrogram, config: AudioConfig, weights: str | None = None) -> dict:
        """The maps of the stem and of every stage.

        Args:
            spectrogram: Keras tensor (batch, frames, mels, channels); any number of frames.
            config: the front end.
            weights: None: random. 'imagenet': those that Keras publishes, downloaded once. They take 3 channels, so a
                single one is repeated; and pixels, so decibels are brought to their range. The scale is ours.

        Returns:
            {'stem': (batch, frames / 4, mels / 4, 64), 'stage1': the same, 256, 'stage2': half as many frames and mels,
            512, 'stage3': half again, 1024 (DenseNet-169: 1280, -201: 1792), 'stage4': half again, 2048 (DenseNet-121:
            1024, -169: 1664, -201: 1920)}; sizes rounded up.

        Raises:
            InputError: ImageNet's weights, and neither 1 nor 3 channels; or they cannot be downloaded.
        """
        if weights is not None:
            spectrogram = self._pixels(spectrogram, config)
        network = self._network(weights)
        names = dict(zip(self.last_layers, TAPS, strict=True))

        def adapted(layer):
            settings = {**layer.get_config(), "name": names.get(layer.name, layer.name)}
            if isinstance(layer, keras.layers.BatchNormalization):
                settings["momentum"] = 0.9
            if isinstance(layer, keras.layers.AveragePooling2D):
                settings["padding"] = "same"
            return type(layer).from_config(settings)

        clone = keras.models.clone_model(network, input_tensors=spectrogram, clone_function=adapted)
        if weights is not None:
            clone.set_weights(network.get_weights())
        return {name: clone.get_layer(name).output for name in TAPS}

    def _pixels(self, spectrogram, config):
        """The spectrogram as the pictures of ImageNet were: three channels, values in [-largest, largest]."""
        channels = spectrogram.shape[-1]
        check_channels(channels)
        if config.standardise:  # two deviations reach the limits
            scale, offset = self.largest / 2, 0.0
        else:
            scale, offset = 2 * self.largest / config.decibel_range, self.largest
        pixels = keras.layers.Rescaling(scale, offset, name="decibel_to_pixel")(spectrogram)
        return keras.layers.Concatenate(name="repeat_channel")([pixels] * 3) if channels == 1 else pixels

    def _network(self, weights):
        """Keras's own for 3 channels. Of random weights only the shapes matter, and its clone takes any channels."""
        constructor = getattr(keras.applications, self.constructor)
        settings = {"include_top": False, "input_shape": (None, None, 3)}
        if weights is None:
            return constructor(weights=None, **settings)
        try:
            return constructor(weights=weights, **settings)
        except Exception as error:  # Keras raises no narrower class when a download fails
            why = " ".join(str(error).split())
            raise InputError(
                f"weights: {weights} of {self.constructor} could not be downloaded ({why}); check the network, or "
                "leave weights out"
            ) from error


def _densenet(depth, *layers_a_stage):
    last = [f"conv{number}_block{layers}_concat" for number, layers in enumerate(layers_a_stage, 2)]
    return Application(f"DenseNet{depth}", ("pool1", *last, "relu"), 2.0, densenet40.CITATION)


APPLICATIONS = {
    "densenet121": _densenet(121, 6, 12, 24),
    "densenet169": _densenet(169, 6, 12, 32),
    "densenet201": _densenet(201, 6, 12, 48),
    "resnet50": Application(
        "ResNet50",
        ("pool1_pool", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"),
        128.0,
        resnet18.CITATION,
    ),
}
