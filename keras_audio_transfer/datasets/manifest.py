"""Your own audio in a table: `data_dir` is a CSV file in UTF-8 with one row per clip.

    path          the audio file, absolute or relative to the CSV's folder
    label         the class; for tagging several, separated by '|'
    split         optional: train, validation or test
    fold          optional: a whole number from 0 up, for cross-validation
    group         optional: the recording or speaker; clips of one group never stand on both sides of a split

Other columns are ignored; an optional one may be left empty. Whether the audio files exist shows when they are decoded,
where one bad file among good ones is reported.
"""

import os
from pathlib import Path

from keras_audio_transfer.datasets.clip import SPLITS, Clip, read_fold, read_table
from keras_audio_transfer.errors import InputError

CITATION = "Your own data: cite their source."
LICENSE = "Your own data: their licence."
REMOTES = {}
LABELS = ()


def clips(data_dir: Path) -> list[Clip]:
    """Return the clips that the CSV file `data_dir` lists, in the order of their `clip_id`.

    Raises:
        InputError: no such file or column; a row without a path or label, with a split or fold that is none, with the
            path of an earlier row, or with a group that is in another split or fold.
    """
    if not data_dir.is_file():
        raise InputError(f"manifest: {data_dir} is not a file; pass a CSV file with the columns path and label")
    folder = Path(os.path.abspath(data_dir.parent))
    found, place_of_group = {}, {}
    for where, row in read_table(data_dir, ["path", "label"]):
        if not row["path"]:
            raise InputError(f"{where}: no path; name an audio file or remove the row")
        path = Path(os.path.abspath(folder / row["path"]))
        clip_id = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
        if clip_id in found:
            raise InputError(f"{where}: {row['path']} is in the table twice; remove one of the rows")
        # dict.fromkeys: each label once, in the order they were written
        labels = tuple(dict.fromkeys(label.strip() for label in row["label"].split("|") if label.strip()))
        if not labels:
            raise InputError(f"{where}: {row['path']} has no label; name one or remove the row")
        split, group, fold = row.get("split", ""), row.get("group", ""), row.get("fold", "")
        if split not in ("", *SPLITS):
            raise InputError(f"{where}: split is {split!r}; expected {', '.join(SPLITS)} or nothing")
        fold = read_fold(fold, where) if fold else -1
        for what, place in (("split", split), ("fold", fold)):
            if group and place_of_group.setdefault((what, group), place) != place:
                other = place_of_group[what, group]
                raise InputError(f"{where}: group {group!r} is in the {what}s {place!r} and {other!r}; put it in one")
        found[clip_id] = Clip(clip_id, path, labels=labels, fold=fold, split=split, group=group)
    return [found[clip_id] for clip_id in sorted(found)]
