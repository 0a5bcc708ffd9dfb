"""The features of a set of clips: the table, its file (`.npz`), and how rows become one. Without TensorFlow."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_audio_transfer.copies import keep_copies_together
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError, unknown
from keras_audio_transfer.feature_tables.arrays import (
    ABOUT_CLIPS,
    EXPECTED,
    LAYER,
    NOT_LAYERS,
    OPTIONAL,
    TEXTS,
    Array,
    check_array,
    check_arrays,
    check_labels,
    check_layer_names,
    check_rows,
    texts_of,
)
from keras_audio_transfer.feature_tables.files import read_arrays
from keras_audio_transfer.feature_tables.shards import SUFFIX, write_folder
from keras_audio_transfer.files import atomic_write
from keras_audio_transfer.layer_names import column_names, selected_layers
from keras_audio_transfer.remote import checked_input, checked_output

if TYPE_CHECKING:
    import pandas as pd


class Row(NamedTuple):
    """A clip, its features (layer name -> (channels,)) or the reason why it has none, and of a window its time."""

    clip: Clip
    features: Mapping[str, Array] | str
    time: float | None = None


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
        groups: str (clips,), the recording or speaker that a clip was cut from, which no fold divides; '' for a clip of
            its own. None where no clip has one.
        notes: str (clips,), what was found when a clip was read, such as 'digital silence'; None where nothing was.
        weights_sha256: layer name -> SHA-256 of the weights of the model that computed it, '' or nothing where unknown.
        failures: (clip id, reason) of clips that could not be read and have no row; not saved.

    Examples:
        >>> import numpy as np
        >>> from keras_audio_transfer.datasets import Clip
        >>> clips = [Clip("a.wav", None, ("dog",)), Clip("b.wav", None, ("cat",))]
        >>> table = FeatureTable.of_clips({"layer1": np.zeros((2, 3), np.float32)}, clips, ["cat", "dog"])
        >>> table
        <FeatureTable: 2 clips, 1 layer, 3 channels, 2 labels>
        >>> table.to_frame().columns.tolist(), table.to_numpy().shape
        (['layer1/0', 'layer1/1', 'layer1/2'], (2, 3))
    """

    layers: dict[str, Array]
    clip_ids: Array
    labels: Array
    label_names: list[str]
    folds: Array
    splits: Array
    times: Array | None = None
    groups: Array | None = None
    notes: Array | None = None
    weights_sha256: dict[str, str] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.clip_ids)

    def __repr__(self) -> str:
        n_channels = sum(values.shape[1] for values in self.layers.values())
        counts = {"clip": len(self), "layer": len(self.layers), "channel": n_channels}
        counts["target" if self.is_regression else "label"] = len(self.label_names)
        if self.failures:
            counts["failure"] = len(self.failures)
        return f"<FeatureTable: {', '.join(f'{n} {name}' + 's' * (n != 1) for name, n in counts.items())}>"

    @property
    def is_regression(self) -> bool:
        """Whether the labels are numbers to be predicted."""
        return self.labels.dtype.kind == "f"

    @classmethod
    def from_rows(
        cls, rows: Iterable[Row], label_names: list[str], is_tagged: bool | None = None, find_copies: bool = True
    ) -> tuple["FeatureTable", list[tuple[str, str]]]:
        """The table of clips that have features, copies in a group, and (clip id, reason) of those that have none.

        Args:
            rows: in the order wanted.
            label_names: the labels' names in the order wanted, or the targets'; empty for unlabelled clips.
            is_tagged: see `of_clips`.
            find_copies: whether copies become a group.
        """
        clips, columns, times, failures = [], dict[str, list[Array]](), [], []
        for clip, result, time in rows:
            if isinstance(result, str):
                failures.append((clip.clip_id, result))
                continue
            clips.append(clip)
            times.append(time)
            for name, values in result.items():
                columns.setdefault(name, []).append(values)
        layers = {name: np.stack(values) for name, values in columns.items()}
        if find_copies:
            clips = keep_copies_together(clips, allow=True)
        table = cls.of_clips(layers, clips, label_names, is_tagged)
        is_timed = any(time is not None for time in times)
        return replace(table, times=np.array(times, np.float64) if is_timed else None), failures

    @classmethod
    def of_clips(
        cls, layers: dict[str, Array], clips: list[Clip], label_names: list[str], is_tagged: bool | None = None
    ) -> "FeatureTable":
        """The features of those clips, row by row, with what the clips say of themselves.

        Args:
            layers: see the attributes.
            clips: a row each.
            label_names: see the attributes.
            is_tagged: whether clips can have several labels; None: where one has.
        """
        if is_tagged is None:
            is_tagged = any(len(clip.labels) > 1 for clip in clips)
        index = {name: i for i, name in enumerate(label_names)}
        if any(clip.targets for clip in clips):
            targets = np.array([clip.targets for clip in clips], dtype=np.float64)
            labels = targets[:, 0] if len(label_names) == 1 else targets
        elif is_tagged:
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
            groups=_texts_or_none([clip.group for clip in clips]),
            notes=_texts_or_none(["; ".join(clip.notes) for clip in clips]),
        )

    def column_names(self, layers: str | Iterable[str] | None = None) -> list[str]:
        """The channels' names, `layer/channel` with channels from 0, in the order of `to_numpy`."""
        return column_names({name: self.layers[name].shape[1] for name in selected_layers(layers, self.layers)})

    def to_numpy(self, layers: str | Iterable[str] | None = None) -> npt.NDArray[np.float32]:
        """The features of some layers beside one another.

        Args:
            layers: names in a list or array, or one, in the order wanted; None for all in theirs.

        Returns:
            float32 (clips, channels).

        Raises:
            InputError: no layer, an unknown one, one twice, or one that holds no real numbers.
        """
        names = selected_layers(layers, self.layers)
        for name in names:
            check_array(self.layers, name, *LAYER, "table")
        columns = [self.layers[name] for name in names]
        return np.concatenate(columns, axis=1).astype(np.float32, copy=False)

    def to_frame(self, layers: str | Iterable[str] | None = None, about_clips: bool = False) -> "pd.DataFrame":
        """The features as a data frame, a row a clip.

        Args:
            layers: see `to_numpy`.
            about_clips: whether columns come first that say what the table knows of each clip: `label` (its name, None
                without one; for tagging a tuple of names), or for regression a column of numbers for each of
                `label_names` ('target' where it has no name); `fold`, `split`, and `time` where there are times.

        Returns:
            Index `clip_id`; float32 columns `layer/channel`, channels from 0.

        Raises:
            InputError: see `to_numpy`; with `about_clips`, also what `load` refuses.
        """
        import pandas as pd

        index = pd.Index([*map(str, self.clip_ids)], name="clip_id")
        names = selected_layers(layers, self.layers)  # of what may be a generator
        frame = pd.DataFrame(self.to_numpy(names), index=index, columns=self.column_names(names))
        if not about_clips:
            return frame
        table = check_table(self, "table")
        about: dict[str, Any] = table._labels_by_column()
        about |= {"fold": table.folds, "split": [*map(str, table.splits)]}
        if table.times is not None:
            about["time"] = table.times
        return pd.concat([pd.DataFrame(about, index=index), frame], axis=1)

    def _labels_by_column(self) -> dict[str, Any]:
        if self.is_regression:
            numbers = self.labels.reshape(len(self), -1)
            return dict(zip(self.label_names or ["target"], numbers.T, strict=True))
        names = self.label_names
        if self.labels.ndim == 2:
            return {"label": [tuple(names[i] for i in np.flatnonzero(row)) for row in self.labels]}
        return {"label": np.array([names[i] if i >= 0 else None for i in self.labels], dtype=object)}

    def save(self, path: str | PathLike[str]) -> None:
        """Write a features file (`.npz`), or a folder of Parquet files (`.parquet`), also to an address (`s3://...`).

        It appears whole or not at all.

        Raises:
            InputError: it would not be read again, see `load`; a layer has the name of another array or column; or
                something else than features is where the folder is to be.
        """
        arrays: dict[str, Any] = check_table(self, "table").to_arrays()
        with checked_output("path", path, "the path of the features file to write") as place:
            if place.suffix == SUFFIX:
                write_folder(place, arrays)
                return
            with atomic_write(place) as partial, open(partial, "wb") as file:
                np.savez(file, **arrays)

    def to_arrays(self) -> dict[str, Array]:
        """The arrays of a features file, by their names there. Raises InputError where a layer has that of another."""
        check_layer_names(self.layers, (*NOT_LAYERS, *OPTIONAL, "weights_sha256", "file"), "table")
        arrays = {name: np.asarray(values, dtype=np.float32) for name, values in self.layers.items()}
        arrays |= {
            "layer_names": np.array([*self.layers], dtype=str),
            "clip_ids": self.clip_ids,
            "labels": np.asarray(self.labels, dtype=np.float64 if self.is_regression else np.int64),
            "label_names": np.array(self.label_names, dtype=str),
            "folds": np.asarray(self.folds, dtype=np.int64),
            "splits": self.splits,
        }
        optional = {name: getattr(self, name) for name in ("groups", "notes", "times")}
        arrays |= {name: values for name, values in optional.items() if values is not None}
        if any(self.weights_sha256.values()):
            arrays["weights_sha256"] = np.array([self.weights_sha256.get(name, "") for name in self.layers], dtype=str)
        return arrays

    @classmethod
    def load(cls, path: str | PathLike[str], layers: str | Iterable[str] | None = None) -> "FeatureTable":
        """Read a features file (`.npz`), or a folder of Parquet files that `save` or `extract` has written.

        Also from an address (`s3://...`).

        Args:
            path: of the file or folder.
            layers: names in a list or array, or one, in the order wanted; the others are not read. None for all.

        Raises:
            InputError: not there, not a features file, arrays of another kind or of different lengths, a clip or
                layer twice, values that are not finite, or labels that `label_names` does not name; of a folder also
                that it is not complete, or that a file of it is gone, damaged or of another table; or an unknown layer.
        """
        path = checked_input("path", path, "the path of a features file")
        layers = [*layers] if isinstance(layers, Iterator) else layers  # of each shard they are chosen anew
        content = read_arrays(path, list if layers is None else partial(selected_layers, layers))
        check_arrays(content, path)
        by_name = {name: content[name] for name in map(str, content["layer_names"])}
        about: dict[str, Any] = {name: content[name] for name in ABOUT_CLIPS}
        for name in OPTIONAL:
            if name in content and name not in by_name:
                check_array(content, name, *EXPECTED[name], path)
                about[name] = content[name]
        if "times" in about and "groups" not in about:  # as this package wrote it before it knew groups
            about["groups"] = np.array([str(clip).rpartition("#")[0] for clip in content["clip_ids"]], dtype=str)
        check_rows(by_name, about, path)
        about["weights_sha256"] = _weights_by_layer(content, path)
        result = cls(by_name, label_names=[*map(str, content["label_names"])], **about)
        check_labels(result.labels, result.label_names, path)
        return result

    def of_target(self, name: str | None) -> "FeatureTable":
        """These features with one target of several; any others, and a single target, as they are.

        Raises:
            InputError: a name that is not among the targets.
        """
        if name is None:
            return self
        if not self.is_regression:
            raise InputError(f"target: {name!r} received, but the labels are classes, not numbers; leave it out")
        if name not in self.label_names:
            raise unknown("target", name, self.label_names or ["none, the file names no targets"])
        labels = self.labels[:, self.label_names.index(name)] if self.labels.ndim == 2 else self.labels
        return replace(self, labels=labels, label_names=[name])

    def join(self, other: "FeatureTable", name: str) -> "FeatureTable":
        """These features with the layers and notes of `other`, of the same clips in any order; `name` is for messages.

        Raises:
            InputError: a clip is missing in `other` or stands there twice, a layer is in both, or they disagree on a
                clip's label, fold or split.
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
        self._check_same(other, order, name)
        layers = self.layers | {layer: values[order] for layer, values in other.layers.items()}
        notes = _united(self.notes, None if other.notes is None else np.asarray(other.notes)[order])
        return replace(self, layers=layers, notes=notes, weights_sha256=self.weights_sha256 | other.weights_sha256)

    def with_layer_names(self, names: Mapping[str, str]) -> "FeatureTable":
        """This table with other names for its layers; `names` has the new one of each."""
        layers = {names[layer]: values for layer, values in self.layers.items()}
        hashes = {names[layer]: value for layer, value in self.weights_sha256.items()}
        return replace(self, layers=layers, weights_sha256=hashes)

    def with_rows(self, rows: Array) -> "FeatureTable":
        """The table of some of these clips; `rows`: their numbers, in the order wanted."""
        columns = {name: getattr(self, name) for name in (*ABOUT_CLIPS, *OPTIONAL)}
        columns = {name: values[rows] for name, values in columns.items() if values is not None}
        return replace(self, layers={name: values[rows] for name, values in self.layers.items()}, **columns)

    def _check_same(self, other: "FeatureTable", order: list[int], name: str) -> None:
        """That the rows `order` of `other` say of the clips what these do, as far as they say anything."""
        labelled = len(other.label_names) > 0
        if labelled and (self.label_names != other.label_names or self.labels.shape[1:] != other.labels.shape[1:]):
            theirs, ours = (", ".join(names) or "none" for names in (other.label_names, self.label_names))
            raise InputError(f"{name}: its labels are {theirs[:60]}, not {ours[:60]}; extract it from the same clips")
        says = {"labels": labelled, "folds": (other.folds >= 0).any(), "splits": (other.splits != "").any()}
        for what in (name for name, something in says.items() if something):
            ours, theirs = getattr(self, what), getattr(other, what)[order]
            differs = (ours != theirs).reshape(len(ours), -1).any(axis=1)
            if differs.any():
                (clip, here, there), *_ = zip(self.clip_ids[differs], ours[differs], theirs[differs], strict=True)
                raise InputError(
                    f"{name}: {what} of {clip} are {there} there and {here} here ({differs.sum()} such clips); extract "
                    "it from the same clips"
                )


def _texts_or_none(texts: list[str]) -> Array | None:
    return np.array(texts, dtype=str) if any(texts) else None


def _united(*columns: Array | None) -> Array | None:
    """The notes of each clip in several columns of them, each note once."""
    rows = zip(*(column for column in columns if column is not None), strict=True)
    notes = [dict.fromkeys(note for text in row if text for note in str(text).split("; ")) for row in rows]
    return _texts_or_none(["; ".join(of_clip) for of_clip in notes])


def check_table(table: FeatureTable, where: str) -> FeatureTable:
    """Refuse in a table in memory what `FeatureTable.load` refuses in a file, and values that are masked.

    Args:
        table: texts may be in lists.
        where: begins the messages.

    Returns:
        The table, its texts in arrays.

    Raises:
        InputError: see `FeatureTable.load`.
    """
    for name, values in (("layers", "arrays"), ("weights_sha256", "texts")):
        if not isinstance(by_layer := getattr(table, name), Mapping):
            raise InputError(f"{where}: {name!r} is of type {type(by_layer).__name__}; expected a dict of {values}")
    about = {name: getattr(table, name) for name in (*ABOUT_CLIPS, *OPTIONAL) if getattr(table, name) is not None}
    given = {**about, "label_names": table.label_names, "layer_names": [*table.layers]}
    texts = {name: texts_of(values, name, where) for name, values in given.items() if EXPECTED[name] is TEXTS}
    content = {**table.layers, **about, **texts}
    for name, values in content.items():
        if not isinstance(values, np.ndarray):
            expected = EXPECTED.get(name, LAYER)[2]
            raise InputError(f"{where}: {name!r} is of type {type(values).__name__}; expected an array of {expected}")
    check_arrays(content, where)
    for name in [name for name in OPTIONAL if name in about]:
        check_array(content, name, *EXPECTED[name], where)
    of_clips = {name: content[name] for name in about}
    check_rows(table.layers, of_clips, where)
    check_labels(table.labels, [*map(str, table.label_names)], where)
    return replace(table, **of_clips, label_names=[*map(str, table.label_names)])


def _weights_by_layer(content: dict[str, Array], path: Path) -> dict[str, str]:
    """The array `weights_sha256`, which older files do not have."""
    names, weights = content["layer_names"], content.get("weights_sha256")
    if weights is None or "weights_sha256" in names:
        return {}
    check_array(content, "weights_sha256", *TEXTS, path)
    if len(weights) != len(names):
        raise InputError(f"{path}: 'weights_sha256' has {len(weights)} texts; expected {len(names)}, one a layer")
    return {str(name): str(of_layer) for name, of_layer in zip(names, weights, strict=True) if of_layer}
