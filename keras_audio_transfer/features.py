"""The extractor: waveform -> a dict of features, every layer of the network in one pass."""

from collections.abc import Sequence

import keras

from keras_audio_transfer.backbones import backbone
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.layers import GlobalMeanAndDeviationPooling2D, MultiscaleDilatedConv2D
from keras_audio_transfer.spectrogram import mask_spectrogram, waveform_to_spectrogram

POOLINGS = {
    "mean": keras.layers.GlobalAveragePooling2D,  # Choi et al. 2017
    "max": keras.layers.GlobalMaxPooling2D,
    "mean_deviation": GlobalMeanAndDeviationPooling2D,
}


def build_extractor(
    config: AudioConfig,
    network: str = "convnet5",
    pooling: str = "mean",
    spec_augment: int = 0,
    seed: int = 0,
    dilations: Sequence[int] = (),
) -> keras.Model:
    """A flat functional model from waveforms to the features of every layer.

    Args:
        config: the front end.
        network: a name in `backbones.BACKBONES`.
        pooling: how maps become features: 'mean' over time and frequency (Choi et al. 2017), 'max', or
            'mean_deviation' (both, twice as many numbers).
        spec_augment: in training, mask the spectrogram with so many masks of frames and as many of bands.
        seed: of the masks.
        dilations: those of a `MultiscaleDilatedConv2D` between spectrogram and network, such as (1, 2, 3, 4) of McMahan
            and Rao 2018; none for the spectrogram alone.

    Returns:
        Model with input `waveform`, float32 (batch, samples) at `config.sample_rate`, any batch and length, and a dict
        of outputs, layer name -> float32 (batch, channels), in order of depth. Weights are random.

    Raises:
        InputError: unknown network or pooling.
    """
    module = backbone(network)
    if pooling not in POOLINGS:
        raise InputError(f"pooling: {pooling!r} is unknown; choose from {', '.join(POOLINGS)}")
    waveform = keras.Input((None,), dtype="float32", name="waveform")
    spectrogram = waveform_to_spectrogram(waveform, config)
    if spec_augment:
        spectrogram = mask_spectrogram(spectrogram, config, spec_augment, seed)
    if dilations:
        spectrogram = MultiscaleDilatedConv2D(dilations=dilations, name="multiscale")(spectrogram)
    maps = module.maps(spectrogram, config)
    features = {name: POOLINGS[pooling](name=f"{name}_features")(x) for name, x in maps.items()}
    return keras.Model(waveform, features, name=network)


def select_layers(model: keras.Model, names: Sequence[str]) -> keras.Model:
    """The sub-model that returns only those outputs; it shares the weights and computes nothing it need not.

    Raises:
        InputError: a name that is not among the model's outputs.
    """
    for name in names:
        if name not in model.output:
            raise InputError(f"layer: {name!r} is unknown; this network has {', '.join(model.output)}")
    return keras.Model(model.input, {name: model.output[name] for name in names}, name=model.name)
