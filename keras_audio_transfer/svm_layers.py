"""A fitted probe as Keras layers: features -> scores whose largest is the class that scikit-learn predicts.

All of it is computed in float64, as scikit-learn does: a squared distance is the small difference of large numbers.
"""

from collections.abc import Sequence
from itertools import combinations

import keras
import numpy as np
from keras import ops

from keras_audio_transfer.certainty_layers import (
    Familiarity,
    PairProbabilities,
    PairScores,
    fixed_weight,
    scores_of_pairs,
)
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.model_folder import KNOWN, PROBABILITIES, SCORES

KERNELS = ("linear", "rbf")
OUTPUTS = ("scores", "decision_values")
SCORES_ARE = (
    "votes of support vector machines, one against one, plus less than a third for the sum of their decision values, "
    "plus two thirds for the first of several labels with the most votes; the largest is the class; no probabilities: "
    "these are in the output `probabilities`"
)

_register = keras.saving.register_keras_serializable(package="keras_audio_transfer")


@_register
class ChannelScaling(keras.layers.Layer):
    """(features - mean) / scale, channel by channel, with a fixed mean and scale: scikit-learn's StandardScaler.

    Shapes: (batch, channels) of any float type -> float64 (batch, channels), whatever the global policy.
    """

    def __init__(self, dtype="float64", **kwargs):
        super().__init__(dtype=dtype, autocast=False, **kwargs)

    def build(self, input_shape):
        """Make the weights, `mean` and `scale`, (channels,) each."""
        self.mean = fixed_weight(self, "mean", (input_shape[-1],))
        self.scale = fixed_weight(self, "scale", (input_shape[-1],), "ones")

    def call(self, features):
        """Return the scaled features."""
        return ops.cast((ops.cast(features, "float64") - self.mean) / self.scale, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return the input's shape."""
        return input_shape


@_register
class SupportVectorClassifier(keras.layers.Layer):
    """Fitted support vector machines, one for each pair of labels: scikit-learn's SVC, which is libsvm's.

    Args:
        n_support: how many support vectors each label has, at least two labels; for the linear kernel, whose SVMs
            need none, zeros.
        kernel: 'linear', or 'rbf': exp(-gamma * |x - support vector|^2).
        gamma: of the RBF kernel, above 0.
        output: 'scores', or 'decision_values'.

    Raises:
        InputError: fewer than two labels, an unknown kernel or output, or a gamma that does not go with the kernel.

    Shapes: (batch, channels) of any float type -> scores, float32 (batch, labels), or see `decision_values`; whatever
    the global policy.

    Each of these SVMs votes for one label of its pair: the first if its decision value is above 0. A label's score is
    its votes plus s / (3 * (|s| + 1)), less than a third, where s is the sum of its decision values (those for the
    other label of a pair count negative). So far this is scikit-learn's `decision_function` of shape 'ovr', whose
    largest is not always the class that `predict` returns: of several labels with the most votes libsvm takes the
    first. That one therefore gets two thirds more, which puts it above the others, and the largest score is the class
    predicted.
    """

    def __init__(self, n_support, kernel="rbf", gamma=None, output="scores", dtype="float32", **kwargs):
        super().__init__(dtype=dtype, autocast=False, **kwargs)
        self.n_support, self.kernel, self.gamma, self.answer = [int(n) for n in n_support], kernel, gamma, output
        if len(self.n_support) < 2:
            raise InputError(f"n_support: {self.n_support} is of {len(self.n_support)} labels; expected two or more")
        if kernel not in KERNELS:
            raise InputError(f"kernel: {kernel!r} is unknown; choose from {', '.join(KERNELS)}")
        if output not in OUTPUTS:
            raise InputError(f"output: {output!r} is unknown; choose from {', '.join(OUTPUTS)}")
        if (kernel == "rbf") != (isinstance(gamma, int | float) and gamma > 0):
            raise InputError(f"gamma: {gamma!r} is not allowed; expected a number above 0 for rbf, None for linear")
        self.pairs = [*combinations(range(len(self.n_support)), 2)]

    def build(self, input_shape):
        """Make the weights.

        Linear: `coefficients` (pairs, channels). RBF: `support_vectors` (support vectors, channels), label by label,
        and `dual_coefficients` (labels - 1, support vectors), as libsvm has them. Both: `intercepts` (pairs,).
        """
        channels, n_labels = input_shape[-1], len(self.n_support)
        if self.kernel == "linear":
            self.coefficients = fixed_weight(self, "coefficients", (len(self.pairs), channels))
        else:
            self.support_vectors = fixed_weight(self, "support_vectors", (sum(self.n_support), channels))
            self.dual_coefficients = fixed_weight(self, "dual_coefficients", (n_labels - 1, sum(self.n_support)))
        self.intercepts = fixed_weight(self, "intercepts", (len(self.pairs),))

    def decision_values(self, features):
        """One number a pair of labels, above 0 for the first of the pair.

        Args:
            features: (batch, channels).

        Returns:
            float64 (batch, pairs), the pairs in the order (0, 1), (0, 2), ..., (1, 2), ...: those of scikit-learn's
            `decision_function` of shape 'ovo'; where there are only two labels, that has the opposite sign.
        """
        features = ops.cast(features, "float64")
        if self.kernel == "linear":
            return ops.matmul(features, ops.transpose(self.coefficients)) + self.intercepts
        products = ops.matmul(features, ops.transpose(self.support_vectors))  # (batch, support vectors)
        lengths = ops.sum(ops.square(features), axis=1, keepdims=True)  # (batch, 1)
        distances = lengths + ops.sum(ops.square(self.support_vectors), axis=1) - 2 * products
        kernel = ops.exp(-self.gamma * ops.maximum(distances, 0))
        return self._pair_values(kernel, self.dual_coefficients) + self.intercepts

    def _pair_values(self, kernel, dual_coefficients):
        # What the support vectors of each label say against each other label: a list of (batch, labels - 1).
        ends = [*np.cumsum(self.n_support)[:-1]]
        parts = zip(ops.split(kernel, ends, axis=1), ops.split(dual_coefficients, ends, axis=1), strict=True)
        against = [ops.matmul(of_label, ops.transpose(coefficients)) for of_label, coefficients in parts]
        values = [against[first][:, second - 1] + against[second][:, first] for first, second in self.pairs]
        return ops.stack(values, axis=1)

    def call(self, features):
        """Return the scores, or the decision values."""
        values = self.decision_values(features)
        if self.answer == "decision_values":
            return values
        return ops.cast(scores_of_pairs(values, len(self.n_support)), self.compute_dtype)

    def compute_output_spec(self, features):
        """Return (batch, labels), or float64 (batch, pairs)."""
        if self.answer == "decision_values":
            return keras.KerasTensor((features.shape[0], len(self.pairs)), "float64")
        return keras.KerasTensor((features.shape[0], len(self.n_support)), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return (batch, labels), or (batch, pairs)."""
        return (input_shape[0], len(self.pairs if self.answer == "decision_values" else self.n_support))

    def get_config(self):
        """Return the constructor's arguments."""
        config = {"n_support": self.n_support, "kernel": self.kernel, "gamma": self.gamma, "output": self.answer}
        return {**super().get_config(), **config}


def layers_of_probe(scaler, svm, output: str = "scores") -> tuple[ChannelScaling, SupportVectorClassifier]:
    """The layers that compute what scikit-learn does.

    Args:
        scaler: a fitted `StandardScaler`.
        svm: a `SVC` fitted on scaled features, with a linear kernel, or an RBF kernel and a number for gamma.
        output: of the second: 'scores' or 'decision_values'.

    Returns:
        Layers with their weights, for features of (batch, channels): the first's output is the second's input.

    Raises:
        InputError: another kernel, a gamma that is no number, or an SVM that breaks ties by confidence.
    """
    if svm.break_ties:
        raise InputError("svm: breaks ties by confidence; expected break_ties=False, SVC's default")
    n_channels, is_linear = scaler.n_features_in_, svm.kernel == "linear"
    n_support = [0] * len(svm.classes_) if is_linear else svm.n_support_
    gamma, name = None if is_linear else svm.gamma, SCORES if output == "scores" else f"{SCORES}_{output}"
    classifier = SupportVectorClassifier(n_support, svm.kernel, gamma, output, name=name)
    classifier.build((None, n_channels))
    sign = -1 if len(n_support) == 2 else 1  # scikit-learn turns libsvm's numbers round where there are two labels
    if is_linear:
        classifier.set_weights([sign * svm.coef_, sign * svm.intercept_])
    else:
        classifier.set_weights([svm.support_vectors_, sign * svm.dual_coef_, sign * svm.intercept_])
    return _scaling(scaler), classifier


def scaled_features(extractor: keras.Model, layer_names: Sequence[str], scaler) -> keras.KerasTensor:
    """Some of an extractor's layers, concatenated and scaled by a fitted `StandardScaler`: (batch, channels)."""
    features = [extractor.output[name] for name in layer_names]
    x = features[0] if len(features) == 1 else keras.layers.Concatenate(name=f"{SCORES}_features")(features)
    return _scaling(scaler)(x)


def _scaling(scaler):
    scaling = ChannelScaling(name=f"{SCORES}_scaling")
    scaling.build((None, scaler.n_features_in_))
    scaling.set_weights([scaler.mean_, scaler.scale_])
    return scaling


def add_probe(extractor: keras.Model, layer_names: Sequence[str], scaler, svm, certainty) -> keras.Model:
    """The extractor with a fitted probe on some of its layers.

    Args:
        extractor: with a dict of outputs, layer name -> (batch, channels), and no `scores`.
        layer_names: the layers that the probe was fitted on, in the order of their concatenation.
        scaler, svm: as for `layers_of_probe`.
        certainty: the `probing.prober.Certainty` of the SVM.

    Returns:
        Model with the extractor's outputs and, float32, `scores` (batch, labels), see `SupportVectorClassifier`;
        `probabilities` (batch, labels), see `PairProbabilities`; and `known` (batch,), see `Familiarity`.

    Raises:
        InputError: see `layers_of_probe`.
    """
    _, classifier = layers_of_probe(scaler, svm, "decision_values")
    scaled, n_labels = scaled_features(extractor, layer_names, scaler), len(svm.classes_)
    values = classifier(scaled)
    calibration, familiarity = certainty
    known = Familiarity(len(familiarity.means), len(familiarity.components), len(familiarity.distances), name=KNOWN)
    of_head = {
        SCORES: PairScores(n_labels, name=SCORES)(values),
        PROBABILITIES: PairProbabilities(n_labels, *calibration, name=PROBABILITIES)(values),
        KNOWN: known(scaled),
    }
    known.set_weights([np.reshape(getattr(familiarity, weight.name), weight.shape) for weight in known.weights])
    return keras.Model(extractor.input, {**extractor.output, **of_head}, name=extractor.name)
