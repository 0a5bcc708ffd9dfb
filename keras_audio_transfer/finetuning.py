"""Transfer of a trained network to another data set: five strategies, compared on nested subsets of its clips.

The target's clips become spectrograms once; what a strategy leaves frozen is computed once, too, and only the rest is
trained.
"""

import math
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from sklearn.metrics import log_loss

from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.export import saved_model
from keras_audio_transfer.export.signatures import layer_names
from keras_audio_transfer.extractor import (
    calibrate,
    feature_maps_of,
    load_model,
    scale_to_unit_variance,
    select_layers,
    spectrogram_of,
)
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.files import atomic_write
from keras_audio_transfer.finetuning_config import FinetuningConfig, Trial
from keras_audio_transfer.layers import JoinedPatches
from keras_audio_transfer.model_folder import Card, keras_file
from keras_audio_transfer.probing.layer_selection import parse_combinations
from keras_audio_transfer.probing.predictions import HeldOut, table
from keras_audio_transfer.probing.prober import Prober
from keras_audio_transfer.spectrogram import mask_spectrogram, waveform_to_spectrogram
from keras_audio_transfer.splits import FINGERPRINT, Splits, nested_subset, training_data
from keras_audio_transfer.training import fitting
from keras_audio_transfer.training import plots as training_plots
from keras_audio_transfer.training.heads import SCORES, add_head
from keras_audio_transfer.training.input_pipeline import array_batches, targets

_CALIBRATION_CLIPS = 512


@dataclass(frozen=True)
class Task:
    """The target: its clips as spectrograms in a file, and who of them trains, validates and tests.

    Attributes:
        dataset: its name in `datasets.DATASETS`.
        splits: the division; the rows of the file are its train, validation and test clips, one after the other.
        label_names: of all of them.
        config: the front end: the source's, with the target's clip length.
        spectrograms: path of the `.npy` file, float32 (clips, frames, mels, 1).
    """

    dataset: str
    splits: Splits
    label_names: list[str]
    config: AudioConfig
    spectrograms: Path

    @property
    def clips(self) -> list:
        """All clips, in the order of the file."""
        return [*self.splits.train, *self.splits.validation, *self.splits.test]

    def rows(self, part: str) -> np.ndarray:
        """The rows of a part: 'train', 'validation' or 'test'."""
        ends = np.cumsum([len(self.splits.train), len(self.splits.validation), len(self.splits.test)])
        return np.split(np.arange(ends[-1]), ends[:-1])[("train", "validation", "test").index(part)]

    def subset(self, trial: Trial) -> np.ndarray:
        """The rows that train in a trial."""
        chosen = {clip.clip_id for clip in nested_subset(self.splits.train, trial.fraction, trial.seed)}
        return np.array([row for row, clip in enumerate(self.splits.train) if clip.clip_id in chosen])

    def trained_on(self, rows: np.ndarray) -> Splits:
        """The division with these rows alone for training."""
        return replace(self.splits, train=[self.clips[row] for row in rows])


def write_spectrograms(task: Task, waveforms: tf.data.Dataset) -> None:
    """Compute the spectrograms of a task's clips.

    Args:
        task: names the file and the front end.
        waveforms: batches of (waveforms, targets) of `task.clips` in order.
    """
    waveform = keras.Input((None,), dtype="float32")
    front_end = keras.Model(waveform, waveform_to_spectrogram(waveform, task.config))
    compute = tf.function(lambda x: front_end(x, training=False), autograph=False)
    shape = (len(task.clips), task.config.n_frames, task.config.n_mels, 1)
    with atomic_write(task.spectrograms) as partial:
        file = np.lib.format.open_memmap(partial, "w+", np.float32, shape)
        if hasattr(os, "posix_fallocate"):  # else a full disk ends the process without a word, at some later write
            with open(partial, "r+b") as reserved:
                os.posix_fallocate(reserved.fileno(), 0, partial.stat().st_size)
        start = 0
        for batch, _ in waveforms:
            file[start : start + len(batch)] = compute(batch).numpy()
            start += len(batch)
        file.flush()


def load_network(model_dir: Path) -> keras.Model:
    """The network of a model folder, without its head. Raises InputError where it is not what its card describes."""
    card, path = Card.read(model_dir), keras_file(model_dir)
    model = load_model(path)
    fitting.check_described(model, card, path)
    return select_layers(model, layer_names(model))


def run_trial(
    trial: Trial,
    source: Path,
    task: Task,
    config: FinetuningConfig,
    run_dir: Path,
    models: Path | None,
    predicted: Path,
) -> dict:
    """Train and test one trial. The same trial gives the same numbers, on any number of processes.

    Args:
        trial: which.
        source: the model folder to transfer from.
        task: the target.
        config: how.
        run_dir: an existing folder; a killed training continues from it.
        models: folder that gets the trained network as a model folder; None for none.
        predicted: the file that gets what is predicted for each test clip, see `predictions.table`.

    Returns:
        Its row of the table, without source, target, network and multiscale: strategy, fraction, seed, train_clips,
        accuracy, f1_macro and loss (cross-entropy) of the test clips, epochs (trained), seconds, and
        validation_accuracy of the best epoch. A probe does not use the validation clips and has no loss and epochs.

    Raises:
        InputError: the loss is no longer finite.
    """
    start = time.monotonic()
    keras.backend.clear_session()
    keras.utils.set_random_seed(trial.seed)
    tf.config.experimental.enable_op_determinism()
    network = load_network(source)
    spectrograms = np.load(task.spectrograms, mmap_mode="r")
    rows = task.subset(trial)
    if trial.strategy in ("scratch", "random"):
        network = keras.models.clone_model(network)  # draws new weights
        some = np.random.default_rng(trial.seed).permutation(rows)[:_CALIBRATION_CLIPS]
        batches = [spectrograms[some[i : i + config.batch_size]] for i in range(0, len(some), config.batch_size)]
        scale_to_unit_variance(network, batches, spectrogram_of(network))
        if trial.strategy == "random":
            calibrate(network, batches, spectrogram_of(network))
    row = {**asdict(trial), "train_clips": len(rows)}
    if trial.strategy == "probe":
        result, predictions = _probe(network, spectrograms, rows, task, config, trial.seed)
    else:
        result, predictions = _train(network, spectrograms, rows, task, config, trial, source, run_dir, models)
    predicted.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(predicted) as partial:
        predictions.to_csv(partial, index=False)
    return {**row, **result, "seconds": time.monotonic() - start}


def _probe(network, spectrograms, rows, task, config, seed):
    """A linear or RBF SVM on the features; its parameters chosen by cross-validation among the training clips.

    As `_train`: what the row says of it, and what was predicted for each test clip.
    """
    names = config.probed([*network.output])
    seen = np.concatenate([rows, task.rows("test")])
    features_of = keras.Model(spectrogram_of(network), {name: network.output[name] for name in names})
    outputs = _outputs(features_of, spectrograms, seen)
    features = FeatureTable.of_clips(outputs, [task.clips[i] for i in seen], task.label_names)
    features.splits = np.array(["train"] * len(rows) + ["test"] * len(task.rows("test")))
    prober = Prober(features, seed=seed)
    (result,) = prober.rows(parse_combinations("+".join(names), names))
    held_out = prober.held_out(result, probabilities=True)
    one_hot = np.eye(len(task.label_names), dtype=np.float32)
    expected, got = one_hot[features.labels[held_out.rows]], one_hot[held_out.predicted]
    return fitting.score(expected, got, multi_label=False), table(features, held_out)


def _train(network, spectrograms, rows, task, config, trial, source, run_dir, models):
    model = add_head(network, len(task.label_names), dropout=config.dropout)
    spectrogram, layers = spectrogram_of(model), [*network.output]
    features = model.output[layers[-1]]
    frozen_end, trained_from = spectrogram, {}
    if trial.strategy in ("head", "random"):
        frozen_end = features
    elif trial.strategy == "finetune":
        frozen_end, trained_from = layers_trained_from(model, layers, config)
    inputs = spectrograms
    if frozen_end is not spectrogram:
        inputs = _outputs(keras.Model(spectrogram, frozen_end), spectrograms, np.arange(len(spectrograms)))
    rest = keras.Model(frozen_end, {SCORES: model.output[SCORES]})
    if config.spec_augment and frozen_end is spectrogram:
        start = keras.Input(inputs.shape[1:])
        masked = mask_spectrogram(start, task.config, config.spec_augment, trial.seed)
        trained = keras.Model(start, rest(masked))
    else:
        trained = rest

    clip_targets = targets(task.clips, task.label_names)
    steps = max(config.min_steps, math.ceil(len(rows) / config.batch_size))

    def batches_of(epochs):
        numbers = range(epochs.start * steps, epochs.stop * steps)
        return array_batches(inputs, clip_targets, rows, config.batch_size, trial.seed, numbers)

    def part(name):
        return array_batches(inputs, clip_targets, task.rows(name), config.batch_size)

    history = fitting.fit(
        trained,
        batches_of,
        part("validation"),
        steps_per_epoch=steps,
        epochs=config.epochs,
        run_dir=run_dir,
        learning_rate=config.head_learning_rate if frozen_end is features else config.learning_rate,
        label_smoothing=config.label_smoothing,
        patience=config.patience,
        resume=True,
        backbone_learning_rate_factor=config.backbone_learning_rate_factor if trial.strategy == "finetune" else 1.0,
        trained_from=trained_from,
        identity=identity_of(trial, source, task, config),
    )
    expected, scores = fitting.predict(trained, part("test"))
    result = fitting.score(expected, scores, multi_label=False)
    result["loss"] = float(log_loss(expected.argmax(axis=1), scores, labels=range(len(task.label_names))))
    result |= {"epochs": len(history), "validation_accuracy": history["val_accuracy"][history["val_loss"].idxmin()]}
    if models is not None:
        _export(model, source, task, trial, config, rows, result, history, models / trial.file_name)
    tested = FeatureTable.of_clips({}, task.splits.test, task.label_names)
    everything = np.arange(len(scores))
    return result, table(tested, HeldOut(everything, scores.argmax(axis=1), np.full(len(scores), "test"), scores))


def identity_of(trial: Trial, source: Path, task: Task, config: FinetuningConfig) -> dict:
    """What the numbers of a trial depend on: the state of its training is of these values, and of no others."""
    return {
        **asdict(trial),
        FINGERPRINT: task.trained_on(task.subset(trial)).fingerprint(),
        "source": Card.read(source).fingerprint(),
        "audio": task.config.to_dict(),
        **asdict(config),
    }


def layers_trained_from(model, layers, config):
    """Where the part begins that is trained or masked, and from which epoch on each layer above it is trained.

    Args:
        model: with a head.
        layers: its network's, in order of depth.
        config: how it is fine-tuned.

    Returns:
        The tensor where the part begins, and the epoch (from 0) of each layer that is not trained from the first on.
    """
    spectrogram = spectrogram_of(model)
    lowest = 0 if config.finetune_from is None else layers.index(config.finetune_from)
    below = [{layer.name for layer in keras.Model(model.input, feature_maps_of(model, name)).layers} for name in layers]
    never = below[lowest - 1] if lowest else set()
    trained_from, known = {}, set(never)
    for place in range(len(layers)):
        for layer_name in sorted(below[place] - known):
            trained_from[layer_name] = (len(layers) - place) * config.unfreeze_epochs
        known |= below[place]
    # The masks come before the frozen layers; and joined maps need the spectrogram, too.
    from_spectrogram = config.spec_augment or any(isinstance(layer, JoinedPatches) for layer in model.layers)
    if from_spectrogram:
        trained_from |= dict.fromkeys(sorted(never), config.epochs)
    cut = feature_maps_of(model, layers[lowest - 1]) if lowest and not from_spectrogram else spectrogram
    inside = {layer.name for layer in keras.Model(cut, model.output[SCORES]).layers}
    return cut, {model.get_layer(name): epoch for name, epoch in trained_from.items() if epoch and name in inside}


def _outputs(model, arrays, rows, batch_size=64):
    """What the model makes of these rows: an array, or a dict of arrays."""
    compute = tf.function(lambda x: model(x, training=False), autograph=False)
    splits = [compute(arrays[rows[i : i + batch_size]]) for i in range(0, len(rows), batch_size)]
    return tf.nest.map_structure(lambda *values: np.concatenate(values), *splits)


def _export(model, source, task, trial, config, rows, result, history, folder):
    """Write a model folder whose card names both data sets, with their licences."""
    source_card = Card.read(source)
    from_scratch = trial.strategy in ("scratch", "random")
    card = replace(
        source_card.of_network(),
        audio=task.config,
        labels=task.label_names,
        training_data=training_data(task.dataset, task.trained_on(rows)),
        transferred_from=None if from_scratch else source_card.training_data,
        epochs_trained=result["epochs"],
        scores={"test": {name: result[name] for name in ("accuracy", "f1_macro", "loss")}},
        settings={**asdict(trial), **asdict(config)},
        seed=trial.seed,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as partial:
        partial.mkdir()
        saved_model.write_model(partial, model, card)
        history.to_csv(partial / "history.csv", index=False)
        training_plots.learning_curves(history, partial / "training.png", f"{trial}: {training_plots.of_card(card)}")
