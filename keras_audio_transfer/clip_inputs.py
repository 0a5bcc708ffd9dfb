"""What a user gives as clips: paths, folders, arrays with their rates, `Clip`s -> `Clip`s. Without TensorFlow."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_audio_transfer.audio.arrays import Samples, Waveform, as_list, checked_rate, is_array, one_clip, to_float32
from keras_audio_transfer.config import number, shown
from keras_audio_transfer.datasets import DATASETS
from keras_audio_transfer.datasets import label_names as sorted_labels
from keras_audio_transfer.datasets.clip import Clip, with_unique_ids
from keras_audio_transfer.datasets.walk import SUFFIXES_TEXT, audio_below, say_left_out, text_of
from keras_audio_transfer.errors import InputError, unknown
from keras_audio_transfer.remote import checked_input

ClipInput: TypeAlias = str | PathLike[str] | Clip | tuple[npt.ArrayLike, int]
ClipInputs: TypeAlias = ClipInput | Iterable[ClipInput]
Label: TypeAlias = str | int | float | Sequence[str] | Sequence[float]

_EXPECTED = "expected a path, a Clip, or a pair (audio, sample_rate)"
_LABEL = "expected a text or whole number for a class, names of tags as texts, or floats to predict"

_log = logging.getLogger(__name__)


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


def clip_of(entry: ClipInput, name: str, model_rate: int, place: int = 0) -> Clip:
    """One clip: a file, a `Clip` as it is, or an array with its sample rate.

    Args:
        entry: a path of a file; a `Clip`; or (audio, sample rate in Hz), where audio of two dimensions has its channels
            on the shorter one.
        name: what errors call it.
        model_rate: of the model that will hear it, for errors.
        place: of the clip among others, which gives an array its clip id.

    Raises:
        InputError: anything else, or a `Clip` that is none. What an array holds is checked when its waveform is asked
            for.
    """
    if isinstance(entry, Clip):
        _check_clip(entry)
        return entry
    if isinstance(entry, str | PathLike):
        path = checked_input(name, entry, "the path of an audio file")
        return Clip(text_of(path), path)
    pair: Any = entry
    if _is_row(pair):
        raise InputError(f"{name}: is a row of {len(pair)} columns; expected one column of paths; take that one")
    if not _is_pair(pair):
        what = "an array without its sample rate" if is_array(pair) else f"of type {type(pair).__name__}"
        raise InputError(f"{name}: is {what}; {_EXPECTED}")
    audio, sample_rate = pair
    if isinstance(audio, Real) and is_array(sample_rate):
        raise InputError(f"{name}: is a pair (sample_rate, audio); {_EXPECTED}; swap the two")
    rate = checked_rate(sample_rate, model_rate, f"{name}: sample_rate")
    return Clip(f"clip{place}", None, synthesise=partial(_samples, one_clip(audio, name), rate, name))


def clips_of(inputs: ClipInputs, model_rate: int, name: str = "files_or_clips", folders: bool = True) -> list[Clip]:
    """The clips in what a user gives as one or several.

    Args:
        inputs: one of what `clip_of` takes, or a list, array, Series or other iterable of them. A folder stands for
            the audio files in it, at any depth.
        model_rate, name: see `clip_of`.
        folders: whether folders are taken. Otherwise there is a clip an entry.

    Returns:
        Clips; those of arrays are called clip0, clip1 ... by their place among the inputs. What is there twice comes
        twice: see `each_once`.

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
    for place, entry in enumerate(entries):
        name_of_one = name if is_single else f"{name}[{place}]"
        if folders and isinstance(entry, str | PathLike):
            path = checked_input(name_of_one, entry, "the path of an audio file or a folder")
            if path.is_dir():
                clips += clips_below([path])
                continue
        clips.append(clip_of(entry, name_of_one, model_rate, place))
    if not clips:
        raise InputError(f"{name}: is empty; {_EXPECTED}, or several of them")
    return clips


def each_once(clips: Sequence[Clip], name: str = "files_or_clips") -> tuple[list[Clip], list[Clip]]:
    """The clips in their order, each once, and those that are there again, of which it warns; `name` is for messages.

    Raises:
        InputError: two different clips have one id.
    """
    of_id: dict[str, Clip] = {}
    again = []
    for clip in clips:
        if clip.clip_id not in of_id:
            of_id[clip.clip_id] = clip
        elif of_id[clip.clip_id] == clip:
            again.append(clip)
        else:
            raise InputError(f"{name}: two clips are called {clip.clip_id}; expected each name once")
    if again:
        counts = len(again), len(clips)
        _log.warning("%s: left out: %d of %d clips, there already; the first: %s", name, *counts, again[0].clip_id)
    return [*of_id.values()], again


def label_clips(clips: list[Clip], labels: Iterable[Label], again: Sequence[Clip] = ()) -> list[Clip]:
    """The clips with a label each.

    Args:
        clips: without labels of their own.
        labels: one a clip. A text or whole number names its class, a list of texts its tags; a float, or a list of
            them, is what a regression is to predict.
        again: clips that are there twice and were left out, for the error.

    Raises:
        InputError: not one a clip, no labels or of different kinds, or clips that have some.
    """
    listed = as_list(labels, "labels")
    is_one = isinstance(listed, str | bytes | Real)
    if not is_one and (isinstance(listed, Mapping | set | frozenset) or not isinstance(listed, Iterable)):
        raise InputError(f"labels: is of type {type(labels).__name__}; expected a list, one a clip, in their order")
    values: list[Any] = [listed] if is_one else [*listed]
    if any(clip.labels or clip.targets for clip in clips):
        raise InputError("labels: the clips have labels of their own; expected none beside them; leave `labels` out")
    if len(values) != len(clips):
        twice = f", without {len(again)} that are there twice, the first {again[0].clip_id}" if again else ""
        raise InputError(f"labels: {len(values)} for {len(clips)} clips{twice}; expected one a clip, in their order")
    fields = [_label_fields(value, f"labels[{place}]") for place, value in enumerate(values)]
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
        InputError: no list of names, one twice, a clip that has a label that is not among them, or not a target for
            each of them.

    Examples:
        >>> label_names_of(label_clips([Clip("a.wav", None), Clip("b.wav", None)], ["dog", "cat"]), None)
        ['cat', 'dog']
    """
    names = None if wanted is None else _names(wanted)
    datasets = {clip.dataset for clip in clips}
    module = DATASETS.get(datasets.pop()) if len(datasets) == 1 else None
    with_targets = [clip for clip in clips if clip.targets]
    if with_targets:
        numbered = [f"target{place}" for place in range(len(with_targets[0].targets))]
        names = names or [*getattr(module, "TARGETS", ())] or numbered
        for clip in clips:
            if (found := len(clip.targets)) != len(names):
                what = f"{found} number{'s' * (found != 1)} for {clip.clip_id}"
                raise InputError(f"labels: {what}; expected {len(names)} for every clip: {', '.join(names)}")
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


def _is_row(value: object) -> bool:
    """Whether it is a row of a table, and no pair with audio in it."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "OUT" or value.ndim != 1:
        return False
    return not (_is_pair(value) and any(map(is_array, value)))


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
    value = as_list(value, name)
    of_class = _name(value, name)
    if of_class is not None:
        return {"labels": (of_class,)}
    if isinstance(value, Real):
        items: list[Any] = [value]
    elif isinstance(value, set | frozenset):
        items = sorted(value, key=str)
    else:
        items = [*value] if isinstance(value, Iterable) and not isinstance(value, Mapping) else [None]
    targets = [*map(number, items)]
    if any(not isinstance(item, Integral) for item in items) and all(map(math.isfinite, targets)):
        return {"targets": tuple(targets)}
    if all(isinstance(item, str | bytes) for item in items):
        return {"labels": tuple(str(_name(item, name)) for item in items)}
    raise InputError(f"{name}: {shown(value)} is no label; {_LABEL}")


def _name(value: object, argument: str) -> str | None:
    """The name that a text or whole number is; None for what is no name."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{argument}: {shown(value)} is no text in UTF-8; expected one; decode it") from error
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, str) and not value.strip():
        raise InputError(f"{argument}: {shown(value)} is empty; expected a name; leave out the clips that have none")
    return str(value).strip() if isinstance(value, str) else None


def _names(wanted: object) -> list[str]:
    listed = as_list(wanted, "label_names")
    if isinstance(listed, str | bytes | Mapping | set | frozenset) or not isinstance(listed, Iterable):
        raise InputError(f"label_names: {shown(wanted)} is not allowed; expected a list of names, in order")
    names: list[str] = []
    for value in listed:
        name = _name(value, "label_names")
        if name is None:
            raise InputError(f"label_names: {shown(value)} is no name; expected texts or whole numbers")
        if name in names:
            raise InputError(f"label_names: {name!r} is there twice; expected each name once")
        names.append(name)
    if not names:
        raise InputError("label_names: is empty; expected the names in order, or None")
    return names


def _check_clip(clip: Clip) -> None:
    """Refuse what the type of a `Clip`'s fields rules out, and goes wrong only later."""
    path: object = clip.path
    if path is None and clip.synthesise is None:
        raise InputError(f"{clip.clip_id}: has neither a path nor a sound; expected a Clip with one of them")
    if not isinstance(path, Path | None):
        kind = type(path).__name__
        raise InputError(f"{clip.clip_id}: its path is of type {kind}; expected a pathlib.Path, as Path('a.wav')")
    labels: object = clip.labels
    if not isinstance(labels, tuple | list) or not all(isinstance(label, str) for label in labels):
        raise InputError(f"{clip.clip_id}: its labels are {shown(labels)}; expected a tuple of texts, as ('dog',)")
    targets: object = clip.targets
    if not isinstance(targets, tuple | list) or not all(map(math.isfinite, map(number, targets))):
        raise InputError(f"{clip.clip_id}: its targets are {shown(targets)}; expected a tuple of numbers, as (0.5,)")
