"""Model -> model folder: `model.keras`, a SavedModel, a card. Written aside, read back in a fresh process, renamed."""

import sys
from collections.abc import Collection
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_audio_transfer import tensor_float_32
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export import verification
from keras_audio_transfer.export.batchnorm_folding import folded
from keras_audio_transfer.export.chunked_inference import tiled
from keras_audio_transfer.export.patchwise import patchwise
from keras_audio_transfer.export.signatures import build_signatures, layer_names
from keras_audio_transfer.files import temporary_files_beside
from keras_audio_transfer.model_folder import SCORES, Card
from keras_audio_transfer.training.fitting import weights_hash

LARGEST_DIFFERENCE = 1e-4
_VERSIONS_OF = ("tensorflow", "keras", "kapre", "tensorflow-io", "numpy", "scikit-learn", "soxr", "soundfile")


def package_versions() -> dict[str, str]:
    """Versions of what a result depends on, for cards; of what is installed."""
    versions = {"python": sys.version.split()[0]}
    for name in ("keras_audio_transfer", *_VERSIONS_OF):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # tensorflow-io is an extra
            continue
    return versions


def write_saved_model(model: keras.Model, path: Path, card: Card, only: Collection[str] | None = None) -> None:
    """Write a SavedModel with the signatures of `signatures.build_signatures`, of the model as inference wants it."""
    served, signatures = build_signatures(patchwise(tiled(folded(model))), card, only)
    tf.saved_model.save(served, str(path), signatures=signatures)


def largest_difference(model: keras.Model, config: AudioConfig, saved_model: Path, seed: int = 0) -> float:
    """Run the SavedModel in a fresh process without Keras, kapre or this package, and compare it with the model.

    Args:
        model: what was saved.
        config: its front end, for the clips' length.
        saved_model: the folder it was saved to.
        seed: of the random clips: a batch of two at the training length, and one of a quarter of it.

    Returns:
        See `verification.largest_difference`.
    """
    rng = np.random.default_rng(seed)
    shapes = [(batch, max(n, config.n_fft)) for batch, n in ((2, config.n_samples), (1, config.n_samples // 4 + 1))]
    batches = [rng.normal(0, 0.1, shape).astype(np.float32) for shape in shapes]
    return verification.largest_difference(saved_model, verification.SAVED_MODEL, model, batches)


def write_model(folder: Path, model: keras.Model, card: Card, number: int = 1) -> float:
    """Write `model.keras`, `<number>/` (the SavedModel) and `card.json` into an existing folder, and check them.

    Args:
        folder: to write into; give a temporary one and rename it (`files.atomic_write`).
        model: with a dict of outputs.
        card: its front end, and what else is known of it; layers and versions are filled in, and the hash of the
            weights where it says none.
        number: the version, a positive integer (TF Serving skips anything else).

    Returns:
        The largest difference between the model and its SavedModel in a fresh process.

    Raises:
        InputError: the difference is above 1e-4, the version is no positive integer, or the card's labels are not as
            many as the model's scores.
    """
    if number < 1:
        raise InputError(f"version: {number} is not allowed; expected a positive integer (TF Serving skips others)")
    scores = model.output.get(SCORES)
    if card.labels and scores is not None and len(card.labels) != scores.shape[-1]:
        counts = f"card.json names {len(card.labels)}, and the model gives {scores.shape[-1]} scores"
        raise InputError(f"labels: {counts}; write its own labels there")
    card = replace(
        card,
        layer_sizes={name: int(model.output[name].shape[-1]) for name in layer_names(model)},
        versions=package_versions(),
        weights_sha256=card.weights_sha256 or weights_hash(model),
    )
    with temporary_files_beside(folder / str(number)):
        model.save(folder / "model.keras")
        write_saved_model(model, folder / str(number), card)
        card.write(folder)
        difference = largest_difference(model, card.audio, folder / str(number))
    if not difference <= LARGEST_DIFFERENCE:
        raise InputError(
            f"export: the reloaded SavedModel differs by {difference:.1e}; expected at most {LARGEST_DIFFERENCE:.0e}; "
            f"nothing was exported{f'; {tensor_float_32.ADVICE}' if tensor_float_32.is_on() else ''}"
        )
    return difference
