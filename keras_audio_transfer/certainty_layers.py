"""What the decision values of a fitted probe say of clips, as Keras layers: scores, and how sure it is."""

import keras
from keras import ops

from keras_audio_transfer.class_pairs import first_and_second

_register = keras.saving.register_keras_serializable(package="keras_audio_transfer")


@_register
class PairScores(keras.layers.Layer):
    """Decision values of pairs of labels -> what `SupportVectorClassifier` calls scores.

    Args:
        n_labels: at least two.

    Shapes: (batch, pairs), see `SupportVectorClassifier.decision_values` -> float32 (batch, n_labels).
    """

    def __init__(self, n_labels, dtype="float32", **kwargs):
        super().__init__(dtype=dtype, autocast=False, **kwargs)
        self.n_labels = n_labels

    def call(self, values):
        """Return the scores."""
        return ops.cast(scores_of_pairs(values, self.n_labels), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return (batch, n_labels)."""
        return (input_shape[0], self.n_labels)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "n_labels": self.n_labels}


@_register
class PairProbabilities(PairScores):
    """Decision values of pairs of labels -> probabilities of the labels: `probing.calibration.Calibration`.

    Args:
        n_labels: at least two.
        slope, exponent, ahead: of the calibration.

    Shapes: (batch, pairs), see `SupportVectorClassifier.decision_values` -> float32 (batch, n_labels), whose sum is 1.
    """

    def __init__(self, n_labels, slope, exponent, ahead=1e-6, dtype="float32", **kwargs):
        super().__init__(n_labels, dtype=dtype, **kwargs)
        self.slope, self.exponent, self.ahead = slope, exponent, ahead

    def call(self, values):
        """Return the probabilities."""
        is_first, is_second = first_and_second(self.n_labels, values.dtype.name)
        beyond = ops.log(1 + ops.exp(-self.slope * ops.abs(values)))  # as logaddexp, with what TensorFlow Lite has
        of_first = ops.matmul(ops.maximum(-self.slope * values, 0) + beyond, is_first)
        of_second = ops.matmul(ops.maximum(self.slope * values, 0) + beyond, is_second)
        logits = -self.exponent * (of_first + of_second)
        odds = ops.exp(logits - ops.max(logits, axis=1, keepdims=True))
        coupled = odds / ops.sum(odds, axis=1, keepdims=True)
        scores = scores_of_pairs(values, self.n_labels)
        is_predicted = ops.cast(scores == ops.max(scores, axis=1, keepdims=True), values.dtype)
        least = ops.sum(coupled * is_predicted, axis=1, keepdims=True)
        at_least = ops.cast(coupled >= least, values.dtype)
        mean = ops.sum(coupled * at_least, axis=1, keepdims=True) / ops.sum(at_least, axis=1, keepdims=True)
        lifted = coupled + at_least * (mean - coupled) + self.ahead * is_predicted
        return ops.cast(lifted / (1 + self.ahead), self.compute_dtype)

    def get_config(self):
        """Return the constructor's arguments."""
        return {**super().get_config(), "slope": self.slope, "exponent": self.exponent, "ahead": self.ahead}


@_register
class Familiarity(keras.layers.Layer):
    """How much features are like those of the classes: `probing.familiarity.Familiarity.known`.

    Args:
        n_classes, n_components, n_clips: the sizes of `means`, `components` and `distances`.

    Shapes: scaled features, (batch, channels) -> float32 (batch,), in [0, 1].
    """

    def __init__(self, n_classes, n_components, n_clips, dtype="float32", **kwargs):
        super().__init__(dtype=dtype, autocast=False, **kwargs)
        self.n_classes, self.n_components, self.n_clips = n_classes, n_components, n_clips

    def build(self, input_shape):
        """Make the weights, named as `probing.familiarity.Familiarity` names them; `rest` is (1,)."""
        channels = input_shape[-1]
        self.means = fixed_weight(self, "means", (self.n_classes, channels))
        self.components = fixed_weight(self, "components", (self.n_components, channels))
        self.variances = fixed_weight(self, "variances", (self.n_components,), "ones")
        self.rest = fixed_weight(self, "rest", (1,), "ones")
        self.distances = fixed_weight(self, "distances", (self.n_clips,), "ones")

    def call(self, features):
        """Return the share of held-out clips that were at least as far."""
        weights = (self.means, self.components, self.variances, self.rest, self.distances)
        means, components, variances, rest, distances = (ops.cast(weight, features.dtype) for weight in weights)
        turned = ops.transpose(components)
        along = ops.matmul(features, turned)[:, None] - ops.matmul(means, turned)  # (batch, classes, components)
        lengths = ops.sum(ops.square(features), axis=1, keepdims=True) + ops.sum(ops.square(means), axis=1)
        squares = lengths - 2 * ops.matmul(features, ops.transpose(means))  # of what lies beyond the means
        distances_to = squares / rest + ops.sum(ops.square(along) * (1 / variances - 1 / rest), axis=2)
        nearest = ops.min(distances_to, axis=1)
        # Interpolated: of each gap between distances, from 0 on, how much of it lies below.
        ends = ops.concatenate([ops.zeros_like(distances[:1]), distances], axis=0)
        gaps = ends[1:] - ends[:-1]
        inside = ops.clip((nearest[:, None] - ends[:-1]) / ops.where(gaps > 0, gaps, 1), 0, 1)
        inside = ops.where(gaps > 0, inside, ops.cast(nearest[:, None] >= ends[1:], features.dtype))
        share = 1 - ops.sum(inside, axis=1) / (self.n_clips + 1)
        is_beyond = nearest > distances[-1]
        beyond = ops.where(is_beyond, distances[-1] / ops.where(is_beyond, nearest, 1), 1)
        return ops.cast(share * beyond, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return (batch,)."""
        return (input_shape[0],)

    def get_config(self):
        """Return the constructor's arguments."""
        config = {"n_classes": self.n_classes, "n_components": self.n_components, "n_clips": self.n_clips}
        return {**super().get_config(), **config}


@_register
class LabelProbabilities(keras.layers.Layer):
    """Decision values -> probabilities, label by label: `probing.label_thresholds.LabelCalibration`.

    Shapes: (batch, labels) -> float32 (batch, labels), in [0, 1], which have no sum; whatever the global policy.
    """

    def __init__(self, dtype="float32", **kwargs):
        super().__init__(dtype=dtype, autocast=False, **kwargs)

    def build(self, input_shape):
        """Make the weights, `slopes` and `intercepts`, (labels,) each."""
        self.slopes = fixed_weight(self, "slopes", (input_shape[-1],))
        self.intercepts = fixed_weight(self, "intercepts", (input_shape[-1],))

    def call(self, values):
        """Return the probabilities."""
        logits = self.slopes * ops.cast(values, "float64") + self.intercepts
        return ops.cast(ops.sigmoid(logits), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Return the input's shape."""
        return input_shape


def scores_of_pairs(values, n_labels):
    """The scores that `PairScores` describes, of the type of `values`."""
    is_first, is_second = first_and_second(n_labels, values.dtype.name)
    for_first = ops.cast(values > 0, values.dtype)
    votes = ops.matmul(for_first, is_first) + ops.matmul(1 - for_first, is_second)
    sums = ops.matmul(values, is_first - is_second)
    scores = votes + sums / (3 * (ops.abs(sums) + 1))
    has_most = ops.cast(votes == ops.max(votes, axis=1, keepdims=True), values.dtype)
    is_tied = ops.cast(ops.sum(has_most, axis=1, keepdims=True) > 1, values.dtype)
    is_predicted = has_most * ops.cast(ops.cumsum(has_most, axis=1) == 1, values.dtype)
    return scores + 2 / 3 * is_tied * is_predicted


def fixed_weight(layer: keras.layers.Layer, name: str, shape: tuple[int, ...], initializer: str = "zeros"):
    """A float64 weight of a layer that is found without training."""
    return layer.add_weight(name=name, shape=shape, initializer=initializer, dtype="float64", trainable=False)
