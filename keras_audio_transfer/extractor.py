"""The extractor: waveform -> a dict of features, every layer of the network in one pass."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_audio_transfer.backbones import backbone, check_weights
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError, unknown
from keras_audio_transfer.layers import (
    GlobalMeanStdPooling2D,
    MultiscaleDilatedConv2D,
    TimeMaxPooling2D,
    TimeMeanPooling2D,
)
from keras_audio_transfer.model_folder import OF_HEAD
from keras_audio_transfer.spectrogram import SPECTROGRAM_LAYERS, mask_spectrogram, waveform_to_spectrogram

POOLINGS = {
    "mean": keras.layers.GlobalAveragePooling2D,  # Choi et al. 2017
    "max": keras.layers.GlobalMaxPooling2D,
    "mean_deviation": GlobalMeanStdPooling2D,
    "time_mean": TimeMeanPooling2D,  # Niizumi et al. 2022
    "time_max": TimeMaxPooling2D,
}
_WITH_KERNEL = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


def pooling_name(layer_name: str) -> str:
    """The name of the Keras layer that pools a layer's feature maps; by it they are found again."""
    return f"{layer_name}_features"


def build_extractor(
    config: AudioConfig,
    network: str = "convnet5",
    pooling: str = "mean",
    spec_augment: int = 0,
    seed: int = 0,
    dilations: Sequence[int] = (),
    weights: str | None = None,
) -> keras.Model:
    """A flat functional model from waveforms to the features of every layer.

    Args:
        config: the front end.
        network: a name in `backbones.BACKBONES`.
        pooling: how maps become features: 'mean' over time and frequency (Choi et al. 2017), 'max', or
            'mean_deviation' (both, twice as many numbers); or over time only, with the bands kept: 'time_mean',
            'time_max' (Niizumi et al. 2022; channels times bands).
        spec_augment: in training, mask the spectrogram with this number of masks of frames, and as many of bands.
        seed: of the masks.
        dilations: those of a `MultiscaleDilatedConv2D` between spectrogram and network, such as (1, 2, 3, 4) of McMahan
            and Rao 2018; none for the spectrogram alone.
        weights: the network's initial ones. None: random. 'imagenet': for the networks of `backbones.applications`.

    Returns:
        Model with input `waveform`, float32 (batch, samples) at `config.sample_rate`, any batch and length, and a dict
        of outputs, layer name -> float32 (batch, channels), in order of depth.

    Raises:
        InputError: unknown network, pooling or weights; weights that this network or number of channels does not have,
            or that cannot be downloaded.
    """
    module = backbone(network)
    if pooling not in POOLINGS:
        raise unknown("pooling", pooling, POOLINGS)
    if weights is not None:
        check_weights(weights, network, len(dilations) or 1)
    waveform = keras.Input((None,), dtype="float32", name="waveform")
    spectrogram = waveform_to_spectrogram(waveform, config)
    if spec_augment:
        spectrogram = mask_spectrogram(spectrogram, config, spec_augment, seed)
    if dilations:
        spectrogram = MultiscaleDilatedConv2D(dilations=dilations, name="multiscale")(spectrogram)
    initial = {} if weights is None else {"weights": weights}
    maps = module.feature_maps(spectrogram, config, **initial)
    features = {name: POOLINGS[pooling](name=pooling_name(name))(x) for name, x in maps.items()}
    return keras.Model(waveform, features, name=network)


def select_layers(model: keras.Model, names: Sequence[str]) -> keras.Model:
    """The sub-model that returns only those outputs; it shares the weights and computes nothing it need not.

    Raises:
        InputError: a name that is not among the model's outputs.
    """
    for name in names:
        if name not in model.output:
            raise unknown("layer", name, model.output)
    return keras.Model(model.input, {name: model.output[name] for name in names}, name=model.name)


def spectrogram_of(model: keras.Model) -> keras.KerasTensor:
    """What the network in a model sees: the end of its front end, (batch, frames, mels, 1).

    Raises:
        InputError: it is not a model of `build_extractor`.
    """
    names = [name for name in SPECTROGRAM_LAYERS if name in {layer.name for layer in model.layers}]
    if not names:
        wanted = ", ".join(SPECTROGRAM_LAYERS)
        raise InputError(f"{model.name}: has none of the layers {wanted}; build it with build_extractor")
    return model.get_layer(names[-1]).output


def feature_maps_of(model: keras.Model, name: str) -> keras.KerasTensor:
    """The maps that a layer's features are pooled from, (batch, frames, bands, channels)."""
    return model.get_layer(pooling_name(name)).input


def load_model(path: Path) -> keras.Model:
    """A saved model with layers by name. Raises InputError for a file that is none."""
    try:
        model = keras.models.load_model(path, compile=False)
    except (OSError, TypeError, ValueError, KeyError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: cannot be loaded ({reason}); save or export it again") from error
    if not isinstance(model.output, dict) or not set(model.output) - {*OF_HEAD}:
        raise InputError(
            f"{path}: has no outputs by name; expected a dict of layers, as in keras.Model(extractor.input, "
            "{**extractor.output, 'scores': ...})"
        )
    return model


def calibrate(model: keras.Model, inputs: Iterable[np.ndarray], start: keras.KerasTensor | None = None) -> None:
    """Collect the statistics of every batch normalisation over a set of clips, and freeze them in the model.

    They are what one batch of all the clips would have had: layer by layer, each with those before it already frozen.

    Args:
        model: with ordinary batch normalisation layers, in order of depth.
        inputs: float32 arrays, batches; iterated over once per layer.
        start: where they enter the model; None for its input.
    """
    for layer in _normalisations(model):
        moments = _moments(keras.Model(model.input if start is None else start, layer.input), inputs)
        layer.moving_mean.assign(moments[0])
        layer.moving_variance.assign(moments[1])


def scale_to_unit_variance(
    model: keras.Model, inputs: Sequence[np.ndarray], start: keras.KerasTensor | None = None
) -> None:
    """Scale the kernels of layers that no batch normalisation follows, so that what each gives has a variance of one.

    Random weights need that in deep networks without normalisation, or whose normalisations were made part of the
    convolutions: the signal is lost on its way, and nothing is learnt (Mishkin and Matas 2016, arXiv:1511.06422,
    section 3). A network that ends in a normalisation is left as it is.

    Args:
        model: layers in order of depth; in each biases are zero. The statistics of its normalisations become those of
            the inputs where there is anything to scale.
        inputs: float32 arrays, batches; iterated over once per layer.
        start: where they enter the model; None for its input.
    """
    start = model.input if start is None else start
    normalised = [layer.input for layer in _normalisations(model)]
    above = keras.Model(model.input, normalised).layers if normalised else []
    scaled = [layer for layer in model.layers if isinstance(layer, _WITH_KERNEL) and layer not in above]
    if scaled:
        calibrate(model, inputs, start)
    for layer in scaled:
        mean, variance = _moments(keras.Model(start, layer.output), inputs)
        deviation = np.sqrt(np.mean(variance) + np.var(mean))
        if deviation > 0:  # else all inputs are the same
            layer.kernel.assign(layer.kernel / deviation)


def _normalisations(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def _moments(maps_model, inputs):
    """Mean and biased variance over clips, frames and bands: float64 (channels,) each."""

    @tf.function(input_signature=[tf.TensorSpec(maps_model.input.shape, tf.float32)], autograph=False)
    def sums(x):
        maps = tf.reshape(tf.cast(maps_model(x, training=False), tf.float64), [-1, maps_model.output.shape[-1]])
        return tf.reduce_sum(maps, 0), tf.reduce_sum(tf.square(maps), 0), tf.shape(maps)[0]

    total, squares, count = 0.0, 0.0, 0
    for batch in inputs:
        first, second, number = sums(batch)
        total, squares, count = total + first.numpy(), squares + second.numpy(), count + int(number)
    mean = total / count
    return mean, squares / count - mean**2
