"""A clip: an audio file, a part of one or a synthesised sound; its labels; its place in the data set's evaluation."""

import csv
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_audio_transfer.datasets.walk import SUFFIXES_TEXT, audio_in, text_of
from keras_audio_transfer.errors import InputError

SPLITS = ("train", "validation", "test")
# Names of folders and values in tables, in any case.
_SPELLINGS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing", "eval", "evaluation"),
}


class Recorded(NamedTuple):
    """How a clip was recorded: the rate in Hz, the channels, and the seconds of it that were read."""

    sample_rate: int
    channels: int
    seconds: float


class Stored(NamedTuple):
    """Where in its file the samples of a clip lie that `prepare` has stored, and what was found when it read them.

    Attributes:
        offset: of the first sample, in bytes.
        samples: float32, little-endian, mono; at least one.
        sample_rate: of these, in Hz.
        sha256: of their bytes.
        recorded: how the clip was recorded.
        notes: what was found.
    """

    offset: int
    samples: int
    sample_rate: int
    sha256: str
    recorded: Recorded
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Clip:
    """One labelled sound.

    Attributes:
        clip_id: unique in its data set and the same on every machine: the file's path below the data set's folder, in
            POSIX form; for a part of a file followed by where it starts (`segment_id`).
        path: the audio file, or where the clip is `stored` the shard; None where `synthesise` makes the sound.
        labels: none (unlabelled, or `targets`), one (classification) or several (tagging) label names.
        fold: the data set's own fold number; -1 where it has no folds.
        split: 'train', 'validation' or 'test'; '' where the data set has no splits.
        group: the recording or speaker the clip was cut from. Clips of one group never stand on both sides of a split.
        synthesise: for sounds that are computed: returns (samples float32 (samples,) in [-1, 1], sample rate in Hz).
        start_seconds: where in the file the clip starts.
        duration_seconds: how long it is; None for up to the file's end.
        targets: for regression, a number for each of the data set's `TARGETS`; such a clip has no labels.
        dataset: the key of `DATASETS` that it was loaded by; '' for none.
        notes: what was found when it was read, such as 'digital silence'.
        recorded: how, as was seen when it was decoded; None of what was not, or came from a cache on the disk.
        checksum: SHA-256 of what was heard of it when it was read; '' of silence, and of what was not read.
        stored: for clips of a prepared data set, where in the shard their samples lie; None of audio files.
    """

    clip_id: str
    path: Path | None
    labels: tuple[str, ...] = ()
    fold: int = -1
    split: str = ""
    group: str = ""
    synthesise: Callable[[], tuple[np.ndarray, int]] | None = None
    start_seconds: float = 0.0
    duration_seconds: float | None = None
    targets: tuple[float, ...] = ()
    dataset: str = field(default="", compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    recorded: Recorded | None = field(default=None, compare=False)
    checksum: str = field(default="", compare=False)
    stored: Stored | None = None

    @property
    def is_segment(self) -> bool:
        """Whether the clip is a part of its file."""
        return self.start_seconds > 0 or self.duration_seconds is not None


def digest(clips: Collection[Clip]) -> str:
    """SHA-256 of what clips say of themselves, and of their files' sizes and dates: whether a run goes on with them."""
    result = hashlib.sha256()
    for clip in clips:
        about = clip.clip_id, clip.labels, clip.targets, clip.fold, clip.split, clip.group
        part = clip.start_seconds, clip.duration_seconds
        file = None if clip.path is None or not clip.path.exists() else clip.path.stat()
        result.update(repr((about, part, file and (file.st_size, file.st_mtime_ns))).encode("utf-8", "surrogateescape"))
    return result.hexdigest()


def with_unique_ids(clips: Collection[Clip]) -> list[Clip]:
    """The clips; of those with one id all but the first get a number behind it.

    Two names can be one in another spelling of their accents.
    """
    ids, result = {clip.clip_id for clip in clips}, []
    seen = set()
    for clip in clips:
        clip_id, number = clip.clip_id, 1
        while clip_id in seen or (number > 1 and clip_id in ids):
            number += 1
            clip_id = f"{clip.clip_id} ({number})"
        seen.add(clip_id)
        result.append(clip if number == 1 else replace(clip, clip_id=clip_id))
    return result


@dataclass(frozen=True)
class Remote:
    """An archive of a data set: its address, its checksum as `algorithm:hex`, and the folder inside it."""

    url: str
    checksum: str
    folder: str


def require(data_dir: Path, names: Sequence[str], data_set: str, remedy: str) -> None:
    """Raise an `InputError` unless every one of `names` exists below `data_dir`.

    Args:
        data_dir: the folder the user named.
        names: files or folders, relative to `data_dir`.
        data_set: the data set's name, for the message.
        remedy: where the data can be had, for the message.
    """
    if not data_dir.is_dir():
        raise InputError(f"{data_set}: {data_dir} is not a folder; {remedy}")
    missing = [name for name in names if not (data_dir / name).exists()]
    if missing:
        more = f" and {len(missing) - 1} more of {len(names)}" if len(missing) > 1 else ""
        raise InputError(f"{data_set}: {data_dir} has no {missing[0]}{more}; {remedy}")


def segment_id(file_id: str, start_seconds: float) -> str:
    """Return the `clip_id` of a part of a file: 'a.wav#00012.340' starts at 12.34 s. They sort by time."""
    return f"{file_id}#{start_seconds:09.3f}"


def split_of(name: str) -> str | None:
    """The one of `SPLITS` that a name means; None for a name that means none.

    >>> split_of("Training"), split_of("val_set"), split_of("dog")
    ('train', 'validation', None)
    """
    name = re.sub(r"[\s_-]*(set|data|split)$", "", name.strip().lower())
    return next((split for split, spellings in _SPELLINGS.items() if name in spellings), None)


def clips_of_folders(root: Path, label_of: dict[str, str], data_set: str, remedy: str) -> list[Clip]:
    """Return the clips of a data set that has one folder per label, in the order of their `clip_id`.

    Args:
        root: the folder that the `clip_id`s are below.
        label_of: {folder: label}.
        data_set: the data set's name, for messages.
        remedy: where the data can be had, for messages.

    Raises:
        InputError: one of the folders is missing or without audio.
    """
    require(root, list(label_of), data_set, remedy)
    found = []
    for name, label in label_of.items():
        paths = audio_in(root / name)
        if not paths:
            raise InputError(f"{data_set}: {root / name} has no audio ({SUFFIXES_TEXT}); {remedy}")
        found += [Clip(text_of(f"{name}/{path.name}"), path, labels=(label,)) for path in paths]
    return sorted(found, key=lambda clip: clip.clip_id)


def read_table(
    path: Path, columns: Sequence[str], delimiter: str = ",", over_lines: bool = False
) -> list[tuple[str, dict[str, str]]]:
    """Read a CSV file in UTF-8 whose first line names the columns.

    Args:
        path: the CSV file.
        columns: the columns that have to be there; others may be.
        delimiter: what stands between two values.
        over_lines: whether a value may go over several lines, as names of files can; else quotes were left open.

    Returns:
        For each row where it stands ('FILE, row 7'; the header is row 1), for error messages, and {column: text}, with
        white space around the text removed.

    Raises:
        InputError: a column is missing, a row is not as long as the header, or the file is not UTF-8.
    """
    rows = []
    try:
        # utf-8-sig: spreadsheet programs put a byte order mark in front.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            header = reader.fieldnames or []
            header = [name.strip() for name in header]
            reader.fieldnames = header
            twice = [column for column, count in Counter(header).items() if column and count > 1]
            if twice:
                raise InputError(f"{path}: the column {twice[0]!r} stands there twice; expected each once; remove one")
            missing = [column for column in columns if column not in header]
            if missing:
                found = f"found {', '.join(header) or 'none'}, separated by {delimiter!r}"
                raise InputError(f"{path}: no column {missing[0]!r}; {found}; add it, or save it as CSV in UTF-8")
            for row in reader:
                where = f"{path}, row {reader.line_num}"
                if None in row or None in row.values():
                    raise InputError(
                        f"{where}: not the {len(header)} values the header names; quote any commas in them"
                    )
                if any("\0" in text for text in row.values()):
                    raise InputError(f"{where}: holds a NUL character, which no name has; remove it")
                if not over_lines and any("\n" in text or "\r" in text for text in row.values()):
                    raise InputError(f"{where}: a value goes over several lines; close the quotes before it ends")
                rows.append((where, {column: text.strip() for column, text in row.items()}))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error}); save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{path}, row {reader.line_num + 1}: is no row of a CSV file ({error}); repair it") from error
    return rows


def read_fold(text: str, where: str) -> int:
    """Return the fold number in `text`, or raise an `InputError` that begins with `where` if it is no such number."""
    if not (text.isdecimal() and len(text) <= 9):
        raise InputError(f"{where}: fold is {text[:40]!r}; expected a whole number from 0 to 999999999")
    return int(text)


def read_number(text: str, what: str, where: str) -> float:
    """Return the number in `text`, or raise an `InputError` that begins with `where` if it is none or not finite."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{where}: {what} is {text!r}; expected a number")
    return number
