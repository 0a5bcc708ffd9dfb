"""Heads: the trained end of a network, from features to a score per label."""

import keras

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.model_folder import SCORES


def add_head(extractor: keras.Model, n_labels: int, multi_label: bool = False, dropout: float = 0.0) -> keras.Model:
    """The extractor with a classifier on its last layer's features.

    Args:
        extractor: what `extractor.build_extractor` returned.
        n_labels: classes or tags, at least 2 (at least 1 if `multi_label`).
        multi_label: False: softmax, one label a clip. True: a sigmoid per label (Choi et al. 2017).
        dropout: fraction of the features dropped in training, 0 to below 1.

    Returns:
        Model with the extractor's outputs and `scores`, float32 (batch, n_labels) in [0, 1].

    Raises:
        InputError: too few labels.
    """
    fewest = 1 if multi_label else 2
    if n_labels < fewest:
        raise InputError(f"labels: {n_labels} found; expected at least {fewest}; add clips of another label")
    layers = dict(extractor.output)
    x = [*layers.values()][-1]
    if dropout:
        x = keras.layers.Dropout(dropout, name="head_dropout")(x)
    activation = "sigmoid" if multi_label else "softmax"
    scores = keras.layers.Dense(n_labels, activation=activation, name=SCORES)(x)
    return keras.Model(extractor.input, {**layers, SCORES: scores}, name=extractor.name)


def compile_settings(multi_label: bool, label_smoothing: float = 0.0) -> dict:
    """Loss and the metrics that are followed epoch by epoch, as keyword arguments of `Model.compile`; and no XLA.

    On CPUs, XLA takes long to compile a network, and computes it no faster and less exactly.

    Args:
        multi_label: binary cross-entropy, and areas under the ROC and the precision-recall curve, micro and macro;
            otherwise categorical cross-entropy and accuracy.
        label_smoothing: fraction of the target that is spread over all labels, where there is one label a clip.
    """
    if not multi_label:
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing)
        return {"loss": loss, "metrics": ["accuracy"], "jit_compile": False}
    metrics = [
        keras.metrics.AUC(curve=curve, multi_label=macro, name=f"{curve.lower()}_auc_{'macro' if macro else 'micro'}")
        for curve in ("ROC", "PR")
        for macro in (False, True)
    ]
    return {"loss": "binary_crossentropy", "metrics": metrics, "jit_compile": False}
