"""Fit a network: early stopping, the best weights kept, every epoch saved so that an interrupted run can continue."""

import hashlib
import json
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.extractor import POOLINGS, pooling_name
from keras_audio_transfer.files import atomic_write
from keras_audio_transfer.model_folder import OF_HEAD, Card
from keras_audio_transfer.resume import STATE, difference
from keras_audio_transfer.training.distribution import SharedModel, check_agreement, shared, synchronise_normalisation
from keras_audio_transfer.training.heads import SCORES, compile_settings

_REMEDY = "remove it to start this training again"


def weights_hash(model: keras.Model) -> str:
    """SHA-256 of the weights, in the order of `model.weights`; equal weights, equal hash."""
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()


def check_described(model: keras.Model, card: Card, path: Path) -> None:
    """Refuse a Keras model that is not the one which the card beside its file describes.

    Raises:
        InputError: it has other weights or layers, or pools them in another way.
    """
    outputs = [name for name in model.output if name not in OF_HEAD]
    same = outputs == card.layer_names and card.weights_sha256 in (None, weights_hash(model))
    layers = {layer.name: layer for layer in model.layers}
    pools = {type(layers[name]) for name in map(pooling_name, outputs) if name in layers} & {*POOLINGS.values()}
    if not same or (card.pooling in POOLINGS and pools - {POOLINGS[card.pooling]}):
        raise InputError(f"{path}: is not the model that card.json beside it describes; export the model again")


class _KeepState(keras.callbacks.Callback):
    """Early stopping with the best weights, all of whose state is in one file, written anew after each epoch.

    Keras's own EarlyStopping forgets its count and its best weights when the process ends.

    The file holds every variable of the model (random generators included) and of the optimizer, the best weights so
    far, the history, and which training it is of: networks of two trainings have the same shapes. It replaces its
    predecessor in one step, so a run killed at any moment can continue.
    """

    def __init__(
        self,
        path: Path,
        monitor: str,
        patience: int,
        all_trained_from: int = 0,
        identity: Mapping | None = None,
        writes: bool = True,
    ):
        super().__init__()
        self.writes = writes  # of several processes that train together, one does
        self.path, self.monitor, self.patience, self.all_trained_from = path, monitor, patience, all_trained_from
        self.identity = json.loads(json.dumps(identity or {}))  # as it is read again
        self.history = []
        self.best_weights = None

    def _variables(self):
        return [*self.model.variables, *self.model.optimizer.variables]

    @property
    def best_epoch(self) -> int:
        """Index in `history` of the lowest monitored loss; -1 where there is none."""
        losses = [row.get(self.monitor, np.inf) for row in self.history]
        return int(np.argmin(losses)) if losses else -1

    def has_ended(self) -> bool:
        """Whether the loss has not fallen for `patience` epochs, counted once all layers are trained."""
        return len(self.history) - 1 - max(self.best_epoch, self.all_trained_from) >= self.patience

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._check("loss", logs["loss"], f"epoch {self.epoch + 1}, batch {batch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        values = {name: float(value) for name, value in logs.items()}
        self._check(self.monitor, values[self.monitor], f"epoch {epoch + 1}")
        self.history.append({"epoch": epoch + 1, **values})
        if self.best_epoch == len(self.history) - 1:
            self.best_weights = self.model.get_weights()
        self.save()
        self.model.stop_training = self.has_ended()

    def _check(self, name, value, where):
        if not np.isfinite(value):
            raise InputError(f"training: the {name} is {value} in {where}; lower `learning_rate`")

    def save(self):
        if not self.writes:
            return
        arrays = {f"variable_{i}": variable.numpy() for i, variable in enumerate(self._variables())}
        arrays |= {f"best_{i}": weight for i, weight in enumerate(self.best_weights)}
        with atomic_write(self.path) as partial, open(partial, "wb") as file:
            texts = {"history": self.history, "identity": self.identity}
            np.savez(file, **{name: np.array(json.dumps(value)) for name, value in texts.items()}, **arrays)

    def restore(self):
        """Continue from the file. Raises InputError where it is damaged, or of another training or network."""
        variables, weights = self._variables(), self.model.weights
        try:
            with np.load(self.path) as state:
                history = json.loads(str(state["history"]))
                # An older version did not write it.
                identity = json.loads(str(state["identity"])) if "identity" in state else self.identity
                values = [state[f"variable_{i}"] for i in range(len(variables))]
                best = [state[f"best_{i}"] for i in range(len(weights))]
        except MemoryError:
            raise
        except Exception:  # of zipfile, zlib, NumPy, json, and of what a file of another kind does not have
            history = None
        if not self._is_history(history) or not isinstance(identity, dict):
            raise InputError(f"{self.path}: is damaged; {_REMEDY}")
        if found := difference(identity, self.identity):
            raise InputError(f"{self.path}: is of another training ({found}); {_REMEDY}")
        for array, variable in zip([*values, *best], [*variables, *weights], strict=True):
            if array.shape != tuple(variable.shape) or array.dtype != variable.dtype:
                raise InputError(f"{self.path}: is of another network; {_REMEDY}")
        for array, variable in zip(values, variables, strict=True):
            variable.assign(array)
        self.history, self.best_weights = history, best

    @staticmethod
    def _is_history(history):
        if not isinstance(history, list) or not history or not all(isinstance(row, dict) for row in history):
            return False
        return all(
            row.get("epoch") == number and {*map(type, row.values())} <= {int, float}
            for number, row in enumerate(history, 1)
        )


class _TwoRatesAdam(keras.optimizers.Adam):
    """Adam with a rate of its own for the weights below the head.

    Args:
        learning_rate: of the head, as in Adam.
        backbone_factor: what the rate of the other weights is multiplied by.
        head: the head's weights.
    """

    def __init__(self, learning_rate, backbone_factor: float, head: list):
        super().__init__(learning_rate, name="two_rates_adam")  # that of a private class begins with no letter
        self.backbone_factor, self.head = backbone_factor, head

    def update_step(self, gradient, variable, learning_rate):
        """Update one weight."""
        in_head = self._get_variable_index(variable) in map(self._get_variable_index, self.head)
        super().update_step(gradient, variable, learning_rate * (1.0 if in_head else self.backbone_factor))


class EpochLine(keras.callbacks.Callback):
    """Prints one line an epoch on stderr, with the longest time that can be left; in a file, one every ten per cent."""

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self.start = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        """Print the line."""
        if not sys.stderr.isatty() and 10 * (epoch + 1) // self.epochs == 10 * epoch // self.epochs:
            return
        seconds = time.monotonic() - self.start
        values = ", ".join(f"{name} {value:.3f}" for name, value in logs.items())
        left = seconds * (self.epochs - epoch - 1)
        print(
            f"epoch {epoch + 1}/{self.epochs}: {values} ({seconds:.0f} s, at most {left:.0f} s left)", file=sys.stderr
        )


def fit(
    model: keras.Model,
    batches,
    validation: tf.data.Dataset | None,
    steps_per_epoch: int,
    epochs: int,
    run_dir: Path,
    multi_label: bool = False,
    learning_rate: float = 2e-3,
    label_smoothing: float = 0.0,
    patience: int = 15,
    resume: bool = False,
    callbacks: tuple = (),
    backbone_learning_rate_factor: float = 1.0,
    trained_from: Mapping[keras.layers.Layer, int] | None = None,
    identity: Mapping | None = None,
    strategy: tf.distribute.Strategy | None = None,
    writes: bool = True,
) -> pd.DataFrame:
    """Train with Adam and leave the best weights in the model.

    Args:
        model: with a `scores` output (`training.heads.add_head`).
        batches: function from `range` of epochs to a dataset of (inputs, targets), see `waveforms.training_batches`.
        validation: batches that decide which epoch was best and when to stop; None: the training loss decides.
        steps_per_epoch: batches in an epoch.
        epochs: maximum number of them; 0 leaves the weights as they are.
        run_dir: where the state of the run is kept. Must exist.
        multi_label: see `training.heads.add_head`.
        learning_rate: of Adam in the first step; it falls to zero along half a cosine over `epochs`.
        label_smoothing: see `training.heads.compile_settings`.
        patience: epochs without a lower loss after which the training stops.
        resume: continue from the state in `run_dir`, if there is one. Ends with the same weights as a run that was
            never interrupted.
        callbacks: further Keras callbacks.
        backbone_learning_rate_factor: what the learning rate of the weights below the head is multiplied by.
        trained_from: layers that are trained from that epoch on only (from 0; `epochs`: never). Until then their
            weights stay, and their batch normalisation works with its stored statistics and does not update them:
            statistics of a few clips of another data set would change what the frozen weights were trained with.
        identity: which training this is, and what its numbers depend on; JSON values. It is kept with the state, and a
            state of another one is not continued from.
        strategy: in whose scope the model was made, and on whose devices it is trained: each gets its part of every
            batch. Batch normalisation then takes its statistics from whole batches.
        writes: whether this process keeps the state in `run_dir`, which all read; of several, one does.

    Returns:
        One row per epoch: epoch (from 1), loss and metrics, on training data and (`val_...`) on validation data.

    Raises:
        InputError: the loss is no longer finite; or the state to continue from is damaged, or of another training or
            network.
    """
    trained = _model_of_scores(model, strategy)
    trained_from = trained_from or {}
    starts = sorted({0, *(epoch for epoch in trained_from.values() if epoch < epochs)})
    monitor = "loss" if validation is None else "val_loss"
    state = _KeepState(run_dir / STATE, monitor, patience, starts[-1], identity, writes)
    with strategy.scope() if strategy else nullcontext():
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, max(1, steps_per_epoch * epochs))
        optimizer = _optimizer(trained, schedule, backbone_learning_rate_factor)
        trained.compile(optimizer)
        state.set_model(trained)
        if resume and state.path.exists():
            state.restore()
        if strategy is not None:
            check_agreement(strategy, {"identity": identity, "epochs": len(state.history)})
        for start, stop in zip(starts, [*starts[1:], epochs], strict=True):
            done = len(state.history)
            if done >= stop or state.has_ended():
                continue
            for layer, epoch in trained_from.items():
                layer.trainable = epoch <= start
            trained.compile(optimizer, **compile_settings(multi_label, label_smoothing))
            _make_variables_of_metrics(trained)
            trained.fit(
                **_data(batches(range(done, stop)), validation, strategy),
                steps_per_epoch=steps_per_epoch,
                initial_epoch=done,
                epochs=stop,
                verbose=0,
                callbacks=[state, *callbacks],
            )
        for layer in trained_from:
            layer.trainable = True
        if state.best_weights is not None:
            trained.set_weights(state.best_weights)
    return pd.DataFrame(state.history or {"epoch": [], "loss": []})


def _model_of_scores(model, strategy):
    if strategy is None:
        return keras.Model(model.input, model.output[SCORES])
    synchronise_normalisation(model)
    return SharedModel(model.input, model.output[SCORES])


def _optimizer(model, learning_rate, backbone_factor):
    head = [variable for variable in model.trainable_variables if _layer_of(variable) == SCORES]
    optimizer = _TwoRatesAdam(learning_rate, backbone_factor, head)
    optimizer.build(model.trainable_variables)
    return optimizer


def _data(batches, validation, strategy):
    """What Keras trains on and measures."""
    if strategy is None:
        return {"x": batches, "validation_data": validation}
    data = {"x": shared(batches, strategy)}
    if validation is not None:  # of shared batches Keras cannot know the number, and would warn at their end
        steps = int(validation.cardinality())
        data |= {"validation_data": shared(validation.repeat(), strategy), "validation_steps": steps}
    return data


def _make_variables_of_metrics(model):
    """Metrics have variables from their first use on; within the training step, that would have it traced twice."""
    nothing = np.zeros((1, *model.output_shape[1:]), np.float32)
    model.compute_metrics(None, nothing, nothing)  # `fit` resets them


def _layer_of(variable):
    """The name of the layer that a weight belongs to, also in a model inside the model: what precedes its own name."""
    return variable.path.split("/")[-2]


def score(targets: np.ndarray, scores: np.ndarray, multi_label: bool) -> dict[str, float]:
    """How good the scores are.

    Args:
        targets: 0 or 1 (clips, labels).
        scores: float (clips, labels).
        multi_label: see Returns.

    Returns:
        For one label a clip: accuracy, macro F1. For tags: area under the ROC and the precision-recall curve, micro
        (all decisions together) and macro (mean over the labels that have both kinds of clips).
    """
    if not multi_label:
        expected, got = targets.argmax(axis=1), scores.argmax(axis=1)
        present = np.unique(expected)
        f1 = f1_score(expected, got, average="macro", labels=present, zero_division=0)
        return {"accuracy": float(accuracy_score(expected, got)), "f1_macro": float(f1)}
    mixed = (targets.min(axis=0) == 0) & (targets.max(axis=0) == 1)
    if not mixed.any():
        raise InputError("scores: no label has both clips that carry it and clips that do not; add test clips")
    targets, scores = targets[:, mixed], scores[:, mixed]
    return {
        f"{name}_{average}": float(function(targets, scores, average=average))
        for name, function in (("roc_auc", roc_auc_score), ("pr_auc", average_precision_score))
        for average in ("micro", "macro")
    }


def predict(model: keras.Model, batches: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Targets and the model's `scores`, float32 (clips, labels) each, of batches of (inputs, targets)."""
    scorer = keras.Model(model.input, model.output[SCORES])
    signature = [tf.TensorSpec(model.input.shape, tf.float32)]
    scores_of = tf.function(lambda x: scorer(x, training=False), input_signature=signature, autograph=False)
    pairs = [(y.numpy(), scores_of(x).numpy()) for x, y in batches]
    return tuple(map(np.concatenate, zip(*pairs, strict=True)))


def evaluate(model: keras.Model, batches: tf.data.Dataset, multi_label: bool) -> dict[str, float]:
    """`score` of the model's `scores` on batches of (inputs, targets)."""
    return score(*predict(model, batches), multi_label)
