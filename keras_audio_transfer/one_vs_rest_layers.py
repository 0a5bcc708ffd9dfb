"""A fitted probe of clips with several labels as Keras layers: features -> decision values and probabilities."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_audio_transfer.certainty_layers import LabelProbabilities, fixed_weight
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.model_folder import PROBABILITIES, SCORES
from keras_audio_transfer.svm_layers import KERNELS, scaled_features

SCORES_ARE = (
    "decision values of support vector machines, one for each label against the rest, above 0 for the label; "
    "probabilities are in the output `probabilities`, and a clip has the labels that reach the card's thresholds"
)

_register = keras.saving.register_keras_serializable(package="keras_audio_transfer")


@_register
class OneVsRestSVM(keras.layers.Layer):
    """Fitted support vector machines, one for each label against the rest: scikit-learn's SVC, with two classes each.

    Args:
        n_labels: how many SVMs.
        n_vectors: support vectors of all of them together, each once; 0 for the linear kernel, which needs none.
        kernel: 'linear', or 'rbf': exp(-gamma * |x - support vector|^2).
        gamma: of the RBF kernel, above 0.

    Raises:
        InputError: an unknown kernel, or a gamma that does not go with the kernel.

    Shapes: (batch, channels) of any float type -> `decision_function` of each SVM, float32 (batch, n_labels), computed
    in float64; whatever the global policy.
    """

    def __init__(self, n_labels, n_vectors=0, kernel="rbf", gamma=None, dtype="float32", **kwargs):
        super().__init__(dtype=dtype, autocast=False, **kwargs)
        self.n_labels, self.n_vectors, self.kernel, self.gamma = n_labels, n_vectors, kernel, gamma
        if kernel not in KERNELS:
            raise InputError(f"kernel: {kernel!r} is unknown; choose from {', '.join(KERNELS)}")
        if (kernel == "rbf") != (isinstance(gamma, int | float) and gamma > 0):
            raise InputError(f"gamma: {gamma!r} is not allowed; expected a number above 0 for rbf, None for linear")

    def build(self, input_shape):
        """Make the weights.

        `coefficients`, (labels, channels) for the linear kernel, else (labels, vectors); `intercepts`, (labels,); and
        for RBF `support_vectors`, (vectors, channels).
        """
        n_columns = input_shape[-1] if self.kernel == "linear" else self.n_vectors
        self.coefficients = fixed_weight(self, "coefficients", (self.n_labels, n_columns))
        self.intercepts = fixed_weight(self, "intercepts", (self.n_labels,))
        if self.kernel == "rbf":
            self.support_vectors = fixed_weight(self, "support_vectors", (self.n_vectors, input_shape[-1]))

    def call(self, features):
        """Return the decision values."""
        x = ops.cast(features, "float64")
        if self.kernel == "rbf":
            products = ops.matmul(x, ops.transpose(self.support_vectors))  # (batch, vectors)
            lengths = ops.sum(ops.square(x), axis=1, keepdims=True) + ops.sum(ops.square(self.support_vectors), axis=1)
            x = ops.exp(-self.gamma * ops.maximum(lengths - 2 * products, 0))
        values = ops.matmul(x, ops.transpose(self.coefficients)) + self.intercepts
        return ops.cast(values, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return (batch, labels)."""
        return (input_shape[0], self.n_labels)

    def get_config(self):
        """Return the constructor's arguments."""
        names = ("n_labels", "n_vectors", "kernel", "gamma")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def layer_of_svms(svms: Sequence) -> OneVsRestSVM:
    """The layer that computes the `decision_function` of each of some SVMs.

    Args:
        svms: `SVC`s of two classes, fitted on the same features with the same kernel and gamma, which is a number.
    """
    kernel, intercepts = svms[0].kernel, np.concatenate([svm.intercept_ for svm in svms])
    if kernel == "linear":
        layer = OneVsRestSVM(len(svms), kernel=kernel, name=SCORES)
        layer.build((None, svms[0].n_features_in_))
        layer.set_weights([np.concatenate([svm.coef_ for svm in svms]), intercepts])
        return layer
    used = np.unique(np.concatenate([svm.support_ for svm in svms]))  # places of clips
    vectors, coefficients = np.empty((len(used), svms[0].n_features_in_)), np.zeros((len(svms), len(used)))
    for of_label, svm in zip(coefficients, svms, strict=True):
        places = np.searchsorted(used, svm.support_)
        vectors[places], of_label[places] = svm.support_vectors_, svm.dual_coef_[0]
    layer = OneVsRestSVM(len(svms), len(used), kernel, svms[0].gamma, name=SCORES)
    layer.build((None, vectors.shape[1]))
    layer.set_weights([coefficients, intercepts, vectors])
    return layer


def add_label_probe(extractor: keras.Model, layer_names: Sequence[str], probe) -> keras.Model:
    """The extractor with fitted SVMs, one a label, on some of its layers.

    Args:
        extractor: with a dict of outputs, layer name -> (batch, channels), and no `scores`.
        layer_names: the extractor's names of the layers that the probe was fitted on, in its order.
        probe: a `probing.multi_label.LabelProbe`.

    Returns:
        Model with the extractor's outputs and, float32 (batch, labels), `scores`, see `OneVsRestSVM`, and
        `probabilities`, see `LabelProbabilities`.
    """
    values = layer_of_svms(probe.svms)(scaled_features(extractor, layer_names, probe.scaler))
    calibrated = LabelProbabilities(name=PROBABILITIES)
    of_head = {SCORES: values, PROBABILITIES: calibrated(values)}
    calibrated.set_weights([probe.calibration.slopes, probe.calibration.intercepts])
    return keras.Model(extractor.input, {**extractor.output, **of_head}, name=extractor.name)
