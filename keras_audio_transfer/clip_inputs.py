"""What a user gives as clips: paths, folders, arrays with their rates, `Clip`s -> `Clip`s. Without TensorFlow."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_audio_transfer.array_audio import (
    INTEGER,
    NUMBER,
    Samples,
    Waveform,
    checked_rate,
    is_array,
    one_clip,
    shown,
    to_float32,
)
from keras_audio_transfer.datasets import DATASETS
from keras_audio_transfer.datasets import label_names as sorted_labels
from keras_audio_transfer.datasets.clip import Clip, with_unique_ids
from keras_audio_transfer.datasets.walk import SUFFIXES_TEXT, audio_below, say_left_out, text_of
from keras_audio_transfer.errors import InputError, unknown

ClipInput: TypeAlias = str | PathLike[str] | Clip | tuple[npt.ArrayLike, int]
ClipInputs: TypeAlias = ClipInput | Iterable[ClipInput]
Label: TypeAlias = str | int | float | Sequence[str] | Sequence[float]

_EXPECTED = "expected a path, a Clip, or a pair (audio, sample_rate)"


def clips_below(inputs: Iterable[Path]) -> list[Clip]:
    """One unlabelled clip per audio file, each once; folders are searched to any depth. Clip ids: the paths as given.

    Raises:
        InputError: a folder without audio.
    """
    clips = []
    for path in inputs:
        if path.is_dir():
            found, other = audio_below(path)
            if not found:
                raise InputError(f"{path}: holds no audio; expected {SUFFIXES_TEXT} files; check the path")
            say_left_out(str(path), other)
            clips += [Clip(text_of(p), p) for p in found]
        else:
            clips.append(Clip(text_of(path), path))
    return with_unique_ids({clip.path: clip for clip in clips}.values())


def clip_of(entry: ClipInput, name: str, model_rate: int, number: int = 0) -> Clip:
    """One clip: a file, a `Clip` as it is, or an array with its sample rate.

    Args:
        entry: a path of a file; a `Clip`; or (audio, sample rate in Hz), where audio of two dimensions has its channels
            on the shorter one.
        name: what errors call it.
        model_rate: of the model that will hear it, for errors.
        number: of the clip, which gives an array its clip id.

    Raises:
        InputError: anything else. What an array holds is checked when its waveform is asked for.
    """
    if isinstance(entry, Clip):
        return entry
    if isinstance(entry, str | PathLike):
        return Clip(text_of(Path(entry)), Path(entry))
    pair: Any = entry
    if not _is_pair(pair):
        what = "an array without its sample rate" if is_array(pair) else f"of type {type(pair).__name__}"
        raise InputError(f"{name}: is {what}; {_EXPECTED}")
    audio, sample_rate = pair
    if isinstance(audio, NUMBER) and is_array(sample_rate):
        raise InputError(f"{name}: is a pair (sample_rate, audio); {_EXPECTED}; swap the two")
    rate = checked_rate(sample_rate, model_rate, f"{name}: sample_rate")
    return Clip(f"clip{number}", None, synthesise=partial(_samples, one_clip(audio, name), rate, name))


def clips_of(inputs: ClipInputs, model_rate: int, name: str = "files_or_clips", folders: bool = True) -> list[Clip]:
    """The clips in what a user gives as one or several.

    Args:
        inputs: one of what `clip_of` takes, or a list, array, Series or other iterable of them. A folder stands for
            the audio files in it, at any depth.
        model_rate, name: see `clip_of`.
        folders: whether folders are taken, and what is there twice is left out. Otherwise there is a clip an entry.

    Returns:
        Clips; those of arrays are called clip0, clip1 ... by their place among the inputs.

    Raises:
        InputError: none, or what `clip_of` refuses.

    Examples:
        >>> import numpy as np
        >>> [clip.clip_id for clip in clips_of(["a.wav", (np.zeros(100), 44100)], model_rate=16000)]
        ['a.wav', 'clip1']
    """
    is_single = isinstance(inputs, str | PathLike | Clip) or _is_one_pair(inputs)
    entries: list[Any] = [inputs] if is_single else _entries(inputs, name)
    clips: list[Clip] = []
    for number, entry in enumerate(entries):
        if folders and isinstance(entry, str | PathLike) and Path(entry).is_dir():
            clips += clips_below([Path(entry)])
        else:
            clips.append(clip_of(entry, name if is_single else f"{name}[{number}]", model_rate, number))
    if not clips:
        raise InputError(f"{name}: is empty; {_EXPECTED}, or several of them")
    if not folders:
        return clips
    of_id: dict[str, Clip] = {}
    for clip in clips:
        if of_id.setdefault(clip.clip_id, clip) != clip:
            raise InputError(f"{name}: two clips are called {clip.clip_id}; expected each name once")
    return [*of_id.values()]


def label_clips(clips: list[Clip], labels: Iterable[Label]) -> list[Clip]:
    """The clips with a label each.

    Args:
        clips: without labels of their own.
        labels: one a clip. A text or whole number names its class, a list of texts its tags; a float, or a list of
            them, is what a regression is to predict.

    Raises:
        InputError: not one a clip, no labels or of different kinds, or clips that have some.
    """
    values = [labels] if isinstance(labels, str | NUMBER) else [*labels]
    if any(clip.labels or clip.targets for clip in clips):
        raise InputError("labels: the clips have labels of their own; expected none beside them; leave `labels` out")
    if len(values) != len(clips):
        raise InputError(f"labels: {len(values)} for {len(clips)} clips; expected one a clip, in their order")
    fields = [_label_fields(value, f"labels[{number}]") for number, value in enumerate(values)]
    if len({field for of_clip in fields for field in of_clip}) > 1:
        raise InputError("labels: some are numbers to predict and some are names; expected one kind for all clips")
    return [replace(clip, **field) for clip, field in zip(clips, fields, strict=True)]


def label_names_of(clips: Sequence[Clip], wanted: Iterable[str] | None) -> list[str]:
    """The names of the clips' labels in order, or of their targets.

    Args:
        clips: with or without labels.
        wanted: the names in order. None: those of the clips' data set in its order, otherwise sorted, whole numbers by
            size.

    Raises:
        InputError: a clip has a label that is not among those wanted, or not a target for each of them.

    Examples:
        >>> label_names_of(label_clips([Clip("a.wav", None), Clip("b.wav", None)], ["dog", "cat"]), None)
        ['cat', 'dog']
    """
    names = None if wanted is None else [*map(str, wanted)]
    datasets = {clip.dataset for clip in clips}
    module = DATASETS.get(datasets.pop()) if len(datasets) == 1 else None
    n_targets = {len(clip.targets) for clip in clips}
    if n_targets != {0}:
        numbered = [f"target{number}" for number in range(len(clips[0].targets))]
        names = names or [*getattr(module, "TARGETS", ())] or numbered
        if n_targets != {len(names)}:
            wrong = max(n_targets - {len(names)})
            raise InputError(f"labels: {wrong} numbers for a clip; expected {len(names)}: {', '.join(names)}")
        return names
    present = sorted_labels(clips, getattr(module, "LABELS", ()))
    if names is None:
        return sorted(present, key=int) if all(map(str.isdecimal, present)) and module is None else present
    for label in present:
        if label not in names:
            raise unknown("label_names", label, names)
    return names


def _samples(samples: Samples, sample_rate: int, name: str) -> tuple[Waveform, int]:
    return to_float32(samples, name), sample_rate


def _is_pair(value: object) -> bool:
    is_row = isinstance(value, np.ndarray) and value.dtype == object and value.shape == (2,)
    return is_row or (isinstance(value, tuple | list) and len(value) == 2)


def _is_one_pair(value: Any) -> bool:
    """Whether it is a pair, and not two clips."""
    if not _is_pair(value) or not is_array(value[0]):
        return False
    return not is_array(value[1]) and not isinstance(value[1], Clip | tuple | list)


def _entries(inputs: Any, name: str) -> list[Any]:
    if is_array(inputs):
        array = np.asarray(inputs)
        if array.dtype.kind not in "OUT" or array.ndim == 0:
            raise InputError(f"{name}: is an array without its sample rate; {_EXPECTED}, or several of them")
        is_column = array.ndim == 2 and array.shape[1] == 1  # as ColumnTransformer gives it
        return [*(array[:, 0] if is_column else array)]
    if isinstance(inputs, Mapping | bytes) or not isinstance(inputs, Iterable):
        raise InputError(f"{name}: is of type {type(inputs).__name__}; {_EXPECTED}, or several of them")
    return [*inputs]


def _label_fields(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, str):
        return {"labels": (str(value),)}
    if isinstance(value, INTEGER):
        return {"labels": (str(int(value)),)}
    items = [value] if isinstance(value, NUMBER) else [*value] if isinstance(value, Iterable) else []
    if items and all(isinstance(item, NUMBER) and np.isfinite(item) for item in items):
        return {"targets": tuple(map(float, items))}
    if all(isinstance(item, str) for item in items) and isinstance(value, Iterable):
        return {"labels": tuple(map(str, items))}
    raise InputError(f"{name}: {shown(value)} is no label; expected a text, a list of texts, or numbers")
