"""What the arrays of a table of features have to be, in memory and in its file. Without TensorFlow."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_audio_transfer.config import shown
from keras_audio_transfer.errors import InputError

Array = npt.NDArray[Any]

ABOUT_CLIPS = ("clip_ids", "labels", "folds", "splits")
NOT_LAYERS = (*ABOUT_CLIPS, "layer_names", "label_names")

# What an array has to be: its numbers of dimensions, NumPy's kinds of values, and both in words.
TEXTS = ((1,), "U", "texts in one dimension")
EXPECTED = {
    "folds": ((1,), "iu", "whole numbers in one dimension"),
    "times": ((1,), "f", "seconds in one dimension"),
    "labels": ((1, 2), "iuf", "numbers, a row a clip"),
}
OPTIONAL = ("times", "groups", "notes")
EXPECTED |= dict.fromkeys(("layer_names", "label_names", "clip_ids", "splits", "groups", "notes"), TEXTS)
LAYER = ((2,), "fiu", "numbers of shape (clips, channels)")
SOURCE = "expected what `extract` or `mfcc` writes"


def texts_of(values: Any, name: str, where: str) -> Array:
    """Texts of a list or an array as an array; `name` and `where` are for messages.

    Raises:
        InputError: something else is among them, one is masked, or ends with a NUL, which the array would not have.
    """
    listed = [*values] if isinstance(values, list | tuple) else [*np.ravel(np.ma.asarray(values, dtype=object))]
    for value in listed:
        if not isinstance(value, str) or value.endswith("\0"):
            raise InputError(f"{where}: {name!r} holds {shown(value)}; expected texts, '' for none")
    return np.array(values, dtype=str)


def check_rows(layers: Mapping[str, Array], about: Mapping[str, Array], where: str | Path) -> None:
    """That all have a row a clip, and features are finite."""
    clip_ids = about["clip_ids"]
    for name, values in {**layers, **about}.items():
        if len(values) != len(clip_ids):
            raise InputError(f"{where}: {name!r} has {len(values)} rows; expected {len(clip_ids)}, one a clip")
    folds = about["folds"]
    if len(folds) and folds.max() > np.iinfo(np.int64).max:
        raise InputError(f"{where}: 'folds' has {folds.max()}; expected numbers of folds, or -1; make the file again")
    for name, values in layers.items():
        with np.errstate(over="ignore"):
            is_finite = np.isfinite(values.astype(np.float32, copy=False))
        if not is_finite.all():
            clip = clip_ids[~is_finite.all(axis=1)][0]
            raise InputError(f"{where}: {name!r} holds NaN or infinite values, first for {clip}; extract it again")


def check_arrays(content: Mapping[str, Array], path: str | Path) -> None:
    """That all are there that a table has, of the kinds that it has, and names are such that a file can have."""
    for name in NOT_LAYERS:
        check_array(content, name, *EXPECTED[name], path)
    layers = [*map(str, content["layer_names"])]
    check_layer_names(layers, NOT_LAYERS, path)
    for name in layers:
        check_array(content, name, *LAYER, path)
        if not content[name].shape[1]:
            raise InputError(f"{path}: {name!r} has no channels; expected at least one")
        if name.endswith(".npy"):  # NumPy takes it for the one without
            raise InputError(f"{path}: a layer is called {name!r}; expected a name that ends in no .npy; rename it")
    for name in ("layer_names", "label_names", "clip_ids"):
        values, counts = np.unique(content[name], return_counts=True)
        if (counts > 1).any():
            raise InputError(f"{path}: {name!r} names {values[counts > 1][0]} twice; expected each once")
    if not len(content["layer_names"]):
        raise InputError(f"{path}: 'layer_names' names no layer; expected at least one; {SOURCE}")


def check_layer_names(names: Iterable[str], taken: Collection[str], where: str | Path) -> None:
    """That no layer has the name of another array."""
    for name in names:
        if name in taken:
            raise InputError(f"{where}: a layer is called {name!r}, as another array of the file; rename it")


def check_array(
    content: Mapping[str, Array], name: str, dimensions: tuple[int, ...], kinds: str, expected: str, path: str | Path
) -> None:
    """That an array is there, of these dimensions and kinds, which `expected` has in words."""
    if name not in content:
        raise InputError(f"{path}: has no array {name!r}; {SOURCE}")
    values = content[name]
    if not isinstance(values, np.ndarray):  # a zip file's other members
        raise InputError(f"{path}: {name!r} is no array; {SOURCE}")
    if values.ndim not in dimensions or values.dtype.kind not in kinds:
        raise InputError(f"{path}: {name!r} is {values.dtype} of shape {values.shape}; expected {expected}")
    if np.ma.is_masked(values):
        raise InputError(f"{path}: {name!r} has masked values; expected all of them; fill them, or leave out clips")
    if values.dtype.kind == "U":
        try:
            if "\0" in (text := "".join(values.tolist())):
                raise ValueError("NUL")
            text.encode()
        except (ValueError, SystemError) as error:  # numbers of no characters
            raise InputError(f"{path}: {name!r} holds what is no text; {SOURCE}") from error


def check_labels(labels: Array, names: list[str], path: str | Path) -> None:
    """That label_names name what the labels are."""
    if labels.dtype.kind == "f":
        per_clip = labels.shape[1] if labels.ndim == 2 else 1
        if labels.ndim not in (1, 2) or ((names or labels.ndim == 2) and len(names) != per_clip):
            raise InputError(
                f"{path}: 'labels' are numbers, {per_clip} a clip, with {len(names)} names; expected one each"
            )
        if not np.isfinite(labels).all():
            raise InputError(f"{path}: 'labels' are numbers with NaN or infinity among them; expected finite ones")
    elif labels.ndim == 2 and labels.shape[1] != len(names):
        found = f"'labels' has {labels.shape[1]} columns, but there are {len(names)} label_names"
        raise InputError(f"{path}: {found}; make the file again")
    elif labels.ndim == 2 and not np.isin(labels, (0, 1)).all():
        wrong = labels[~np.isin(labels, (0, 1))][0]
        raise InputError(f"{path}: 'labels' has {wrong} for a tag; expected 0 or 1; make the file again")
    elif labels.ndim == 1 and len(labels) and (labels.max() >= len(names) or labels.min() < -1):
        wrong = labels[(labels >= len(names)) | (labels < -1)][0]
        raise InputError(f"{path}: 'labels' has {wrong}, but there are {len(names)} label_names; make the file again")
