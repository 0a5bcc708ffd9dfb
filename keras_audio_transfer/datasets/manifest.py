"""Your own audio in a table: `data_dir` is a CSV file in UTF-8 with one row per clip.

    path          the audio file, absolute or relative to the CSV's folder; or its address (s3://...)
    label         the class; for tagging several, separated by '|'
    split         optional: train, validation or test; val, dev, training and the like are understood
    fold          optional: a whole number from 0 up, for cross-validation
    group         optional: the recording or speaker; clips of one group never stand on both sides of a split
    start         optional: where in the file the clip starts, in seconds
    duration      optional: how long it is, in seconds; if not given, it goes on to the file's end

Other columns are ignored; an optional one may be left empty. The clips keep the order of the rows. A file may be in
several rows, with different starts; where the table has starts or durations, the clips of a file are one group unless
it names groups. Whether the audio files exist shows when they are decoded, where one bad file among good ones is
reported.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from keras_audio_transfer import remote
from keras_audio_transfer.datasets.clip import (
    SPLITS,
    Clip,
    read_fold,
    read_number,
    read_table,
    segment_id,
    split_of,
)
from keras_audio_transfer.datasets.walk import label_of, text_of
from keras_audio_transfer.errors import InputError

CITATION = "Your own data: cite their source."
LICENSE = "that of your own sounds"
REMOTES = {}
_OPTIONAL = ("split", "fold", "group", "start", "duration")
_LONGEST_SECONDS = 366 * 24 * 3600
LABELS = ()


def clips(data_dir: Path) -> list[Clip]:
    """Return the clips that the CSV file `data_dir` lists, in the order of its rows.

    Raises:
        InputError: no such file or column; a row without a path or label, with a split, fold, start or duration that
            is none, with the clip of an earlier row, or with a group that is in another split or fold.
    """
    if not data_dir.is_file():
        raise InputError(f"manifest: {data_dir} is not a file; pass a CSV file with the columns path and label")
    folder = Path(os.path.abspath(data_dir.parent))
    found, place_of_group = {}, {}
    rows = read_table(data_dir, ["path", "label"])
    _check_columns(data_dir, rows[0][1] if rows else ())
    for where, row in rows:
        if not row["path"]:
            raise InputError(f"{where}: no path; name an audio file or remove the row")
        path = Path(os.path.abspath(remote.named_in(data_dir, row["path"])))
        clip_id = text_of(path.relative_to(folder) if path.is_relative_to(folder) else path)
        in_parts = "start" in row or "duration" in row
        group = row.get("group", "") or (clip_id if in_parts else "")
        start, duration = _seconds(row, "start", where), _seconds(row, "duration", where)
        if start is not None or duration is not None:
            clip_id = segment_id(clip_id, start or 0.0)
        if clip_id in found:
            raise InputError(f"{where}: {row['path']} is in the table twice; remove one of the rows")
        # dict.fromkeys: each label once, in the order they were written
        labels = tuple(dict.fromkeys(label for name in row["label"].split("|") if (label := label_of(name))))
        if not labels:
            raise InputError(f"{where}: {row['path']} has no label; name one or remove the row")
        split, fold = row.get("split", ""), row.get("fold", "")
        if split and split_of(split) is None:
            raise InputError(f"{where}: split is {split!r}; expected {', '.join(SPLITS)} or nothing")
        split = split_of(split) or ""
        fold = read_fold(fold, where) if fold else -1
        for what, place in (("split", split), ("fold", fold)):
            if group and place_of_group.setdefault((what, group), place) != place:
                other = place_of_group[what, group]
                raise InputError(f"{where}: group {group!r} is in the {what}s {place!r} and {other!r}; put it in one")
        found[clip_id] = Clip(
            clip_id,
            path,
            labels=labels,
            fold=fold,
            split=split,
            group=group,
            start_seconds=start or 0.0,
            duration_seconds=duration,
        )
    remote.fetch_files(clip.path for clip in found.values())
    return [*found.values()]


def _check_columns(path: Path, columns: Iterable[str]) -> None:
    """Refuse a column that only nearly has the name of an optional one, and would be ignored."""
    for column in columns:
        meant = column.lower().removesuffix("s")
        if column not in _OPTIONAL and meant in _OPTIONAL:
            raise InputError(f"{path}: the column {column!r} is no column of a manifest; write {meant!r}, or rename it")


def _seconds(row: dict[str, str], column: str, where: str) -> float | None:
    """The number in an optional column, or None where there is none."""
    if not row.get(column):
        return None
    seconds = read_number(row[column], column, where)
    if not 0 <= seconds <= _LONGEST_SECONDS or (column == "duration" and seconds == 0):
        rule = "above 0" if column == "duration" else "from 0 up"
        raise InputError(f"{where}: {column} is {row[column]!r}; expected seconds {rule}, at most a year's")
    return seconds
