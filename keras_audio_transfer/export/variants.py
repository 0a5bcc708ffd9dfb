"""The same network otherwise: with random weights, or with another pooling of its maps; to extract features with."""

from dataclasses import replace
from pathlib import Path

import keras

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export.saved_model import write_saved_model
from keras_audio_transfer.extraction import SERVED
from keras_audio_transfer.extractor import POOLINGS, feature_maps_of, load_model, pooling_name
from keras_audio_transfer.model_folder import Card, keras_file


def write_random(model_dir: Path, saved_model: Path, seed: int) -> None:
    """Write the SavedModel of a network with the random weights that it would be trained from.

    Args:
        model_dir: a model folder.
        saved_model: the folder to write.
        seed: of the weights.

    Raises:
        InputError: the folder has no `model.keras`.
    """
    write_saved_model(_random(model_dir, seed), saved_model, Card.read(model_dir), SERVED)


def write_pooled(model_dir: Path, saved_model: Path, pooling: str, seed: int | None = None) -> None:
    """Write the SavedModel of a network's layers, without its head, with features that are pooled in another way.

    Args:
        model_dir: a model folder.
        saved_model: the folder to write.
        pooling: a key of `extractor.POOLINGS`.
        seed: of random weights; None for the network's own.

    Raises:
        InputError: the folder has no `model.keras`, or a layer of it has no maps.
    """
    model = load_model(keras_file(model_dir)) if seed is None else _random(model_dir, seed)
    card, outputs = Card.read(model_dir), {}
    for name in card.layer_names:
        try:
            maps = feature_maps_of(model, name)
        except ValueError as error:
            raise InputError(f"{model_dir}: {name} has no maps that could be pooled otherwise") from error
        outputs[name] = POOLINGS[pooling](name=pooling_name(name))(maps)
    pooled = keras.Model(model.input, outputs)
    sizes = {name: int(features.shape[-1]) for name, features in outputs.items()}
    write_saved_model(pooled, saved_model, replace(card.of_network(), pooling=pooling, layer_sizes=sizes), SERVED)


def _random(model_dir, seed):
    keras.utils.set_random_seed(seed)
    return keras.models.clone_model(load_model(keras_file(model_dir)))
