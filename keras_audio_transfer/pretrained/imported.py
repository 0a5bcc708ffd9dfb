"""Names that stand for model folders: networks that were imported, and the one that comes with the package.

Without TensorFlow.
"""

import os
from pathlib import Path

import platformdirs

from keras_audio_transfer import remote
from keras_audio_transfer.errors import InputError, near_miss
from keras_audio_transfer.model_folder import default_model, why_no_model_folder
from keras_audio_transfer.pretrained.catalogue import CATALOGUE

ENVIRONMENT = "KERAS_AUDIO_TRANSFER_MODELS"
DEFAULT = "default"
_ALIKE = 0.75  # as names of folders are free, more than elsewhere: 'mine' is no 'yamnet'
BEST = "yamnet"  # the best start of those whose licence lets anyone fetch and use it: docs/sources.md


def models_dir() -> Path:
    """Where `import` writes where no folder is named: a folder of the user's data, or what the environment says."""
    given = os.environ.get(ENVIRONMENT)
    try:
        if given:
            return Path(given).expanduser()
        return platformdirs.user_data_path("keras_audio_transfer", False) / "models"
    except RuntimeError:  # the user has no home, as in a container: a place where nothing is, and nothing can be
        return Path(os.devnull) / "models"


def find(text: str) -> Path:
    """The model folder that a user means.

    Args:
        text: a path; an address, which is not fetched; 'default', the model that comes with the package; or the name of
            a published network that was imported to `models_dir`. What has that name in the current folder goes before
            both, an imported network only if it is a model folder.

    Raises:
        InputError: a published network that was not imported; what does not exist, and has nearly the name of one.
    """
    if remote.is_url(text):
        return remote.place_of(text)
    path = Path(text)
    if text == DEFAULT and not path.exists():
        return default_model()
    if text not in CATALOGUE or (path / "card.json").is_file():
        is_word = path.name == text and not path.exists()
        if is_word and (near := near_miss(text, [DEFAULT, *CATALOGUE], _ALIKE)):
            raise InputError(f"{text}: {why_no_model_folder(path)}; did you mean {near}?")
        return path
    folder = models_dir() / text
    if folder.exists():
        return folder
    if path.exists():
        return path
    raise InputError(
        f"{text} is a published network, not a model folder yet; first 'keras-audio-transfer import {text} ...'"
    )


def model_folder(argument: str, given: object, expected: str) -> Path:
    """The model folder that a function's argument means: as `find` takes it; what is at an address is fetched.

    Args:
        argument: its name, for errors.
        given: its value.
        expected: what it should be, for errors.

    Raises:
        InputError: see `find` and `remote.checked_input`.
    """
    path = remote.checked_input(argument, given, expected)
    return find(given) if isinstance(given, str) else path


def best() -> Path:
    """What to build on where nothing is named: YAMNet where it was imported, else what comes with the package."""
    folder = models_dir() / BEST
    return folder if folder.exists() else default_model()
