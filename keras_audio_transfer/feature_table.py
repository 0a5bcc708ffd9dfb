"""The features of a set of clips: the table, its file (`.npz`), and how rows become one. Without TensorFlow."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import atomic_write

_ABOUT_CLIPS = ("clip_ids", "labels", "folds", "splits")
_NOT_LAYERS = (*_ABOUT_CLIPS, "layer_names", "label_names")

# What an array has to be: its numbers of dimensions, NumPy's kinds of values, and both in words.
_TEXTS = ((1,), "U", "texts in one dimension")
_EXPECTED = {
    "folds": ((1,), "iu", "whole numbers in one dimension"),
    "times": ((1,), "f", "seconds in one dimension"),
    "labels": ((1, 2), "iuf", "numbers, a row a clip"),
}
_EXPECTED |= dict.fromkeys(("layer_names", "label_names", "clip_ids", "splits"), _TEXTS)
_LAYER = ((2,), "fiu", "numbers of shape (clips, channels)")
_SOURCE = "expected what `extract` or `mfcc` writes"


# A clip, and its features (layer name -> (channels,)) or the reason why it has none.
Row = tuple[Clip, Mapping[str, np.ndarray] | str]


@dataclass
class FeatureTable:
    """The features of a set of clips, as they stand in a features file (`.npz`, nothing pickled).

    Attributes:
        layers: layer name -> float32 (clips, channels), in order of depth.
        clip_ids: str (clips,).
        labels: int64 (clips,), an index into `label_names` or -1 for none; for tagging, int64 0 or 1
            (clips, label_names); for regression, float64 (clips, label_names), or (clips,) where there is one target.
        label_names: the labels' names in order; for regression, the targets' names.
        folds: int64 (clips,), -1 where there are none.
        splits: str (clips,), 'train', 'validation', 'test', or '' where there are none.
        times: float64 (clips,), where the rows are windows of recordings: seconds to their centres. Else None.
    """

    layers: dict[str, np.ndarray]
    clip_ids: np.ndarray
    labels: np.ndarray
    label_names: list[str]
    folds: np.ndarray
    splits: np.ndarray
    times: np.ndarray | None = None

    @property
    def is_regression(self) -> bool:
        """Whether the labels are numbers to be predicted."""
        return self.labels.dtype.kind == "f"

    @classmethod
    def from_rows(cls, rows: Iterable[Row], label_names: list[str]) -> tuple["FeatureTable", list[tuple[str, str]]]:
        """The table of the clips that have features, and (clip id, reason) of those that have none.

        Args:
            rows: one a clip, in the order wanted.
            label_names: the labels' names in the order wanted, or the targets'; empty for unlabelled clips.
        """
        clips, columns, failures = [], {}, []
        for clip, result in rows:
            if isinstance(result, str):
                failures.append((clip.clip_id, result))
                continue
            clips.append(clip)
            for name, values in result.items():
                columns.setdefault(name, []).append(values)
        layers = {name: np.stack(values) for name, values in columns.items()}
        return cls.of_clips(layers, clips, label_names), failures

    @classmethod
    def of_clips(cls, layers: dict[str, np.ndarray], clips: list[Clip], label_names: list[str]) -> "FeatureTable":
        """The features of those clips, row by row, with what the clips say of themselves."""
        index = {name: i for i, name in enumerate(label_names)}
        if any(clip.targets for clip in clips):
            targets = np.array([clip.targets for clip in clips], dtype=np.float64)
            labels = targets[:, 0] if len(label_names) == 1 else targets
        elif any(len(clip.labels) > 1 for clip in clips):
            labels = np.zeros((len(clips), len(label_names)), dtype=np.int64)
            for row, clip in zip(labels, clips, strict=True):
                row[[index[label] for label in clip.labels]] = 1
        else:
            labels = np.array([index[clip.labels[0]] if clip.labels else -1 for clip in clips], dtype=np.int64)
        return cls(
            layers,
            clip_ids=np.array([clip.clip_id for clip in clips], dtype=str),
            labels=labels,
            label_names=label_names,
            folds=np.array([clip.fold for clip in clips], dtype=np.int64),
            splits=np.array([clip.split for clip in clips], dtype=str),
        )

    def save(self, path: Path) -> None:
        """Write the file; it appears whole or not at all."""
        about = {
            "layer_names": np.array([*self.layers], dtype=str),
            "clip_ids": np.array(self.clip_ids, dtype=str),
            "labels": np.asarray(self.labels, dtype=np.float64 if self.is_regression else np.int64),
            "label_names": np.array(self.label_names, dtype=str),
            "folds": np.asarray(self.folds, dtype=np.int64),
            "splits": np.array(self.splits, dtype=str),
        }
        if self.times is not None:
            about["times"] = np.asarray(self.times, dtype=np.float64)
        layers = {name: np.asarray(values, dtype=np.float32) for name, values in self.layers.items()}
        with atomic_write(path) as partial, open(partial, "wb") as file:
            np.savez(file, **layers, **about)

    @classmethod
    def load(cls, path: Path) -> "FeatureTable":
        """Read a features file.

        Raises:
            InputError: not there, not a features file, arrays of another kind or of different lengths, a clip or
                layer twice, or values that are not finite.
        """
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise InputError(f"{path}: {what}; expected a features file; make one with `extract`")
        try:
            with np.load(path, allow_pickle=False) as file:
                content = {name: file[name] for name in file.files}
        except PermissionError:
            raise
        except Exception as error:  # there are as many kinds as ways to damage a file
            raise InputError(f"{path}: not a features file (.npz), or damaged; {_SOURCE}") from error
        _check_arrays(content, path)
        layers = {name: content[name] for name in map(str, content["layer_names"])}
        n_clips = len(content["clip_ids"])
        about = {name: content[name] for name in _ABOUT_CLIPS}
        if "times" in content and "times" not in layers:
            _check_array(content, "times", *_EXPECTED["times"], path)
            about["times"] = content["times"]
        for name, values in {**layers, **about}.items():
            if len(values) != n_clips:
                raise InputError(f"{path}: {name!r} has {len(values)} rows; expected {n_clips}, one a clip")
        for name, values in layers.items():
            if not np.isfinite(values).all():
                clip = content["clip_ids"][~np.isfinite(values).all(axis=1)][0]
                raise InputError(f"{path}: {name!r} holds NaN or infinite values, first for {clip}; extract it again")
        result = cls(layers, label_names=[*map(str, content["label_names"])], **about)
        _check_labels(result, path)
        return result

    def of_target(self, name: str | None) -> "FeatureTable":
        """These features with one target of several; any others, and a single target, as they are.

        Raises:
            InputError: a name that is not among the targets.
        """
        if name is None:
            return self
        if not self.is_regression or name not in self.label_names:
            targets = ", ".join(self.label_names) if self.is_regression else "none, but classes"
            raise InputError(f"target: {name!r} is not among the targets of the features file: {targets}")
        labels = self.labels[:, self.label_names.index(name)] if self.labels.ndim == 2 else self.labels
        return replace(self, labels=labels, label_names=[name])

    def join(self, other: "FeatureTable", name: str) -> "FeatureTable":
        """These features with the layers of `other`, which has the same clips in any order; `name` is for messages.

        Raises:
            InputError: a clip is missing in `other` or stands there twice, or a layer is in both.
        """
        for layer in other.layers:
            if layer in self.layers:
                raise InputError(f"{name}: layer {layer!r} is in both features files; rename one")
        row = {clip: i for i, clip in enumerate(map(str, other.clip_ids))}
        missing = [clip for clip in map(str, self.clip_ids) if clip not in row]
        if missing or len(row) < len(other.clip_ids):
            what = f"has no features of {missing[0]} ({len(missing)} missing)" if missing else "has clips twice"
            raise InputError(f"{name}: {what}; extract it from the same clips")
        order = [row[clip] for clip in map(str, self.clip_ids)]
        return replace(self, layers=self.layers | {layer: values[order] for layer, values in other.layers.items()})


def _check_arrays(content, path):
    for name in _NOT_LAYERS:
        _check_array(content, name, *_EXPECTED[name], path)
    for name in map(str, content["layer_names"]):
        _check_array(content, name, *_LAYER, path)
        if not content[name].shape[1]:
            raise InputError(f"{path}: {name!r} has no channels; expected at least one")
    for name in ("layer_names", "clip_ids"):
        values, counts = np.unique(content[name], return_counts=True)
        if (counts > 1).any():
            raise InputError(f"{path}: {name!r} names {values[counts > 1][0]} twice; expected each once")
    if not len(content["layer_names"]):
        raise InputError(f"{path}: 'layer_names' names no layer; expected at least one; {_SOURCE}")


def _check_array(content, name, dimensions, kinds, expected, path):
    if name not in content:
        raise InputError(f"{path}: has no array {name!r}; {_SOURCE}")
    values = content[name]
    if not isinstance(values, np.ndarray):  # a zip file's other members
        raise InputError(f"{path}: {name!r} is no array; {_SOURCE}")
    if values.ndim not in dimensions or values.dtype.kind not in kinds:
        raise InputError(f"{path}: {name!r} is {values.dtype} of shape {values.shape}; expected {expected}")


def _check_labels(features, path):
    labels, names = features.labels, features.label_names
    if features.is_regression:
        per_clip = labels.shape[1] if labels.ndim == 2 else 1
        if labels.ndim not in (1, 2) or ((names or labels.ndim == 2) and len(names) != per_clip):
            raise InputError(
                f"{path}: 'labels' are numbers, {per_clip} a clip, with {len(names)} names; expected one each"
            )
        if not np.isfinite(labels).all():
            raise InputError(f"{path}: 'labels' are numbers with NaN or infinity among them; expected finite ones")
    elif labels.ndim == 1 and len(labels) and (labels.max() >= len(names) or labels.min() < -1):
        wrong = labels[(labels >= len(names)) | (labels < -1)][0]
        raise InputError(f"{path}: 'labels' has {wrong}, but there are {len(names)} label_names; make the file again")
