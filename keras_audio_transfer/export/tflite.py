"""Model -> its TensorFlow Lite twin: one clip of a fixed length, built-in operations only. Checked as `export` does."""

import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export import verification
from keras_audio_transfer.export.batchnorm_folding import folded
from keras_audio_transfer.export.signatures import serving_outputs
from keras_audio_transfer.extraction import native_messages_discarded
from keras_audio_transfer.one_vs_rest_layers import LabelProbabilities, OneVsRestSVM
from keras_audio_transfer.svm_layers import ChannelScaling, SupportVectorClassifier

LARGEST_DIFFERENCE = 1e-3


class ScalingInSinglePrecision(keras.layers.Layer):
    """What a `ChannelScaling` computes, in float32."""

    def __init__(self, of: ChannelScaling):
        super().__init__(name=of.name)
        self.mean, self.scale = (np.float32(weight) for weight in (of.mean, of.scale))

    def call(self, features):
        """Return the scaled features."""
        return (features - self.mean) / self.scale


class ClassifierInSinglePrecision(SupportVectorClassifier):
    """What a `SupportVectorClassifier` computes, in float32.

    A squared distance is the sum of squared differences here, not the small difference of large numbers: every term is
    as exact as float32 is, and so is their sum.
    """

    def __init__(self, of: SupportVectorClassifier):
        super().__init__(of.n_support, of.kernel, of.gamma, of.answer, name=of.name)
        self.of = [np.float32(weight) for weight in of.get_weights()]

    def build(self, input_shape):
        """Make no weights: they are constants of the graph."""

    def decision_values(self, features):
        """One number a pair of labels: float32 (batch, pairs)."""
        if self.kernel == "linear":
            coefficients, intercepts = self.of
            return ops.matmul(features, coefficients.T) + intercepts
        support_vectors, dual_coefficients, intercepts = self.of
        return self._pair_values(_rbf(features, support_vectors, self.gamma), dual_coefficients) + intercepts


class LabelsInSinglePrecision(OneVsRestSVM):
    """What a `OneVsRestSVM` computes, in float32; see `ClassifierInSinglePrecision`."""

    def __init__(self, of: OneVsRestSVM):
        super().__init__(of.n_labels, of.n_vectors, of.kernel, of.gamma, name=of.name)
        self.of = [np.float32(weight) for weight in of.get_weights()]

    def build(self, input_shape):
        """Make no weights: they are constants of the graph."""

    def call(self, features):
        """Return the decision values."""
        coefficients, intercepts, *support_vectors = self.of
        x = _rbf(features, *support_vectors, self.gamma) if support_vectors else features
        return ops.matmul(x, coefficients.T) + intercepts


class LabelProbabilitiesInSinglePrecision(keras.layers.Layer):
    """What a `LabelProbabilities` computes, in float32."""

    def __init__(self, of: LabelProbabilities):
        super().__init__(name=of.name)
        self.slopes, self.intercepts = (np.float32(weight) for weight in (of.slopes, of.intercepts))

    def call(self, values):
        """Return the probabilities."""
        return ops.sigmoid(self.slopes * values + self.intercepts)


def _rbf(features, support_vectors, gamma):
    """(batch, support vectors)."""
    return ops.exp(-gamma * ops.sum(ops.square(features[:, None] - support_vectors), axis=2))


_IN_SINGLE_PRECISION = {
    ChannelScaling: ScalingInSinglePrecision,
    SupportVectorClassifier: ClassifierInSinglePrecision,
    OneVsRestSVM: LabelsInSinglePrecision,
    LabelProbabilities: LabelProbabilitiesInSinglePrecision,
}


def write_tflite(path: Path, model: keras.Model, config: AudioConfig) -> float:
    """Write the twin of a model, and check it.

    Its signature `serving_default` takes `waveform`, float32 (1, `config.n_samples`), and returns every layer's
    features by name, `features`, and `scores` where there are any: float32 (1, channels) each. Even a probe is computed
    in float32; its class is the same unless one of its SVMs is undecided to the last digits.

    Args:
        path: the file to write; give a temporary one and rename it (`files.atomic_write`).
        model: with a dict of outputs.
        config: its front end; `clip_seconds` is the twin's length.

    Returns:
        The largest difference of any output, relative to 1 or, where larger, to that output's size, between the model
        and its twin in a fresh process; on `sounds`.

    Raises:
        InputError: TensorFlow Lite cannot compute this model by itself, or the difference is above 1e-3.
    """
    if config.n_fft & (config.n_fft - 1):
        raise InputError(f"n_fft: {config.n_fft} is no power of two, and TensorFlow Lite transforms no other window")
    path.write_bytes(_converted(model, config))
    clips = [waveform[np.newaxis] for waveform in sounds(config)]
    difference = verification.largest_difference(path, verification.TFLITE, model, clips)
    if not difference <= LARGEST_DIFFERENCE:
        raise InputError(
            f"export: the TensorFlow Lite model differs by {difference:.1e}; expected at most "
            f"{LARGEST_DIFFERENCE:.0e}; nothing was exported"
        )
    return difference


def sounds(config: AudioConfig) -> np.ndarray:
    """Two noises, a decaying chord, a chirp, a click, silence: float32 (clips, samples). Twins are compared on them.

    Where decibels are of magnitudes, of which 80 are 160 of power, the chirp has a noise below it too: beside a pure
    tone, most cells are then the rounding of the transform, which no two programs have in common.
    """
    rng, time = np.random.default_rng(0), np.arange(config.n_samples) / config.sample_rate
    noise = rng.normal(0, 1, (3, config.n_samples))
    partials = [
        np.sin(2 * np.pi * f * config.sample_rate * time) / n for n, f in enumerate((0.02, 0.04, 0.09, 0.21), 1)
    ]
    chord = sum(partials) * np.exp(-2 * time / config.clip_seconds)
    chirp = np.sin(np.pi * 0.4 * config.sample_rate * time**2 / config.clip_seconds)
    if config.spectrum == "magnitude" and config.compression in ("relative_decibel", "decibel"):
        chirp = chirp + 2e-3 * noise[2]
    click = np.zeros(config.n_samples)
    click[config.n_samples // 3] = 1.0
    clips = [0.1 * noise[0], 1e-4 * noise[1], 0.2 * chord + 1e-3 * noise[2], 0.5 * chirp, click, np.zeros_like(click)]
    return np.float32(clips)


def _converted(model, config):
    twin = folded(model, _IN_SINGLE_PRECISION)
    spec = tf.TensorSpec([1, config.n_samples], tf.float32, name="waveform")
    return converted(twin, partial(serving_outputs, twin), spec)


def converted(
    model: keras.Model, function: Callable, spec: tf.TensorSpec, examples: Iterable[np.ndarray] | None = None
) -> bytes:
    """A function as a TensorFlow Lite file, of built-in operations only.

    Args:
        model: whose weights the function uses.
        function: tensor -> dict of tensors.
        spec: of the tensor, with a name: what the signature `serving_default` takes.
        examples: some of what it will take; weights and activations are then of 8 bits, in ranges found on these.

    Raises:
        InputError: TensorFlow Lite cannot compute this by itself.
    """
    served = tf.train.Checkpoint(variables=[variable.value for variable in model.variables])
    signature = tf.function(lambda x: function(x), input_signature=[spec], autograph=False)
    with tempfile.TemporaryDirectory() as folder, native_messages_discarded():
        tf.saved_model.save(served, folder, signatures={"serving_default": signature})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if examples is not None:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ({spec.name: example} for example in examples)
        try:
            return converter.convert()
        except Exception as error:  # the converter's own class is not public
            lines = str(error).splitlines()
            missing = [line for line in lines if line.startswith(("TF Select ops:", "Custom ops:"))] or lines
            raise InputError(f"export: TensorFlow Lite cannot compute this model by itself ({missing[0]})") from error
