"""Model -> model folder: `model.keras`, a SavedModel, a card. Written aside, read back in a fresh process, renamed."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_audio_transfer import fresh_process
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.folding import folded
from keras_audio_transfer.heads import SCORES
from keras_audio_transfer.serving import layer_names, servable
from keras_audio_transfer.tiling import tiled
from keras_audio_transfer.training import weights_hash

LARGEST_DIFFERENCE = 1e-4
_VERSIONS_OF = ("tensorflow", "keras", "kapre", "tensorflow-io", "numpy", "scikit-learn", "soxr", "soundfile")


def package_versions() -> dict[str, str]:
    """Versions of what a result depends on, for cards."""
    return {
        "python": sys.version.split()[0],
        **{name: version(name) for name in ("keras_audio_transfer", *_VERSIONS_OF)},
    }


def card_of(model: keras.Model, card: dict) -> dict:
    """The card for a model that may have been trained on since: of other weights, what no longer holds is left out."""
    if card.get("weights_sha256") in (None, weights_hash(model)):
        return card
    changed = ("training_data", "scores", "scores_are", "probe", "settings", "seed")
    kept = {name: value for name, value in card.items() if name not in changed}
    return {**kept, "transferred_from": card.get("training_data") or card.get("transferred_from")}


def write_saved_model(model: keras.Model, path: Path, config: AudioConfig, card: dict) -> None:
    """Write a SavedModel with the signatures of `serving.servable`, of the folded and tiled model."""
    served, signatures = servable(tiled(folded(model)), config, card)
    tf.saved_model.save(served, str(path), signatures=signatures)


def largest_difference(model: keras.Model, config: AudioConfig, saved_model: Path, seed: int = 0) -> float:
    """Run the SavedModel in a fresh process without Keras, kapre or this package, and compare it with the model.

    Args:
        model: what was saved.
        config: its front end, for the clips' length.
        saved_model: the folder it was saved to.
        seed: of the random clips: a batch of two at the training length, and one of a quarter of it.

    Returns:
        See `fresh_process.largest_difference`.
    """
    rng = np.random.default_rng(seed)
    shapes = [(batch, max(n, config.n_fft)) for batch, n in ((2, config.n_samples), (1, config.n_samples // 4 + 1))]
    batches = [rng.normal(0, 0.1, shape).astype(np.float32) for shape in shapes]
    return fresh_process.largest_difference(saved_model, fresh_process.SAVED_MODEL, model, batches)


def write_model(folder: Path, model: keras.Model, config: AudioConfig, card: dict, number: int = 1) -> float:
    """Write `model.keras`, `<number>/` (the SavedModel) and `card.json` into an existing folder, and check them.

    Args:
        folder: to write into; give a temporary one and rename it (`files.written_whole`).
        model: with a dict of outputs.
        config: its front end.
        card: what else the card says, besides versions and a hash of the weights.
        number: the version, a positive integer (TF Serving skips anything else).

    Returns:
        The largest difference between the model and its SavedModel in a fresh process.

    Raises:
        InputError: the difference is above 1e-4, the version is no positive integer, or the card's labels are not as
            many as the model's scores.
    """
    if number < 1:
        raise InputError(f"--version: {number} is not allowed; expected a positive integer (TF Serving skips others)")
    labels, scores = card.get("labels"), model.output.get(SCORES)
    if labels and scores is not None and len(labels) != scores.shape[-1]:
        counts = f"card.json names {len(labels)}, and the model gives {scores.shape[-1]} scores"
        raise InputError(f"labels: {counts}; write its own labels there")
    model.save(folder / "model.keras")
    sizes = {name: int(model.output[name].shape[-1]) for name in layer_names(model)}
    content = {"audio": config.to_dict(), "layer_names": [*sizes], "layer_sizes": sizes, **card}
    content |= {"versions": package_versions(), "weights_sha256": weights_hash(model)}
    write_saved_model(model, folder / str(number), config, content)
    (folder / "card.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    difference = largest_difference(model, config, folder / str(number))
    if not difference <= LARGEST_DIFFERENCE:
        raise InputError(
            f"export: the reloaded SavedModel differs by {difference:.1e}; expected at most {LARGEST_DIFFERENCE:.0e}; "
            "nothing was exported"
        )
    return difference
