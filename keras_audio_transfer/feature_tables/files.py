"""What a features file (`.npz`) or a folder of shards holds, of all its layers or of some. Without TensorFlow."""

from pathlib import Path

import numpy as np

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.arrays import SOURCE, TEXTS, Array, check_array
from keras_audio_transfer.feature_tables.shards import UNFINISHED, Choose, read_folder
from keras_audio_transfer.files import beside


def read_arrays(path: Path, choose: Choose) -> dict[str, Array]:
    """The arrays of a features file or folder; of the layers those that are chosen of their names."""
    return read_folder(path, choose) if path.is_dir() else _read_file(path, choose)


def layer_names_in(path: Path) -> list[str]:
    """The names of the layers in a features file or folder, whose features are not read.

    Raises:
        InputError: see `FeatureTable.load`.
    """
    found: list[str] = []

    def choose(names):
        found[:] = names
        return []

    check_array(read_arrays(path, choose), "layer_names", *TEXTS, path)
    return found


def _read_file(path: Path, choose: Choose) -> dict[str, Array]:
    if not path.is_file():
        what = "is not finished" if beside(path, UNFINISHED).is_dir() else "does not exist"
        remedy = "run the same command again, which goes on" if what == "is not finished" else "make one with `extract`"
        raise InputError(f"{path}: {what}; expected a features file; {remedy}")
    try:
        with np.load(path, allow_pickle=False) as file:
            layers = [*map(str, np.ravel(file["layer_names"]))] if "layer_names" in file.files else []
            chosen = choose(layers)
            content = {name: file[name] for name in file.files if name in chosen or name not in layers}
            for name in ("layer_names", "weights_sha256") if chosen != layers else ():
                if len(content.get(name, ())) == len(layers):
                    content[name] = content[name][[layers.index(layer) for layer in chosen]]
    except (PermissionError, InputError):
        raise
    except Exception as error:  # there are as many kinds as ways to damage a file
        raise InputError(f"{path}: not a features file (.npz), or damaged; {SOURCE}") from error
    return content
