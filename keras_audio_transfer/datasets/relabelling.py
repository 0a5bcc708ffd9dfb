"""Labels that a person has filled into a table of `suggest`: other ones for clips, and clips that are new."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from keras_audio_transfer import remote
from keras_audio_transfer.datasets.clip import Clip, read_table, with_unique_ids
from keras_audio_transfer.datasets.walk import label_of, text_of
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import cell

FILE, LABEL = "file", "correct_label"


def relabelled(clips: Sequence[Clip], labelled: Path | None) -> list[Clip]:
    """The clips with the labels of a table, and behind them the files of the table that were not among them.

    Args:
        clips: of a folder or manifest, with one label each; one at least.
        labelled: a CSV file in UTF-8 with the columns `file` (absolute, from the table's folder on, or an address) and
            `correct_label`; rows in which that is empty, and other columns, are ignored. None changes nothing.

    Returns:
        Clips. New ones are in the split train where the others have splits.

    Raises:
        InputError: no such file or column, no label in it, two labels for a file, or a file that is cut into several
            clips.
    """
    if labelled is None:
        return [*clips]
    if not labelled.is_file():
        raise InputError(f"labelled: {labelled} is not a file; expected a table of `suggest` with the labels filled in")
    known = {cell(label): label for clip in clips for label in clip.labels}  # as `suggest` shows them
    given: dict[str, tuple[str, str]] = {}
    for where, row in read_table(labelled, [FILE, LABEL], over_lines=True):
        if not (label := label_of(known.get(row[LABEL], row[LABEL]))):
            continue
        if not row[FILE]:
            raise InputError(f"{where}: has a label but no file; name the file, or remove the row")
        path = os.path.realpath(remote.named_in(labelled, row[FILE]))
        if given.setdefault(path, (label, row[FILE]))[0] != label:
            raise InputError(f"{where}: {row[FILE]} has another label in an earlier row; remove one of the rows")
    if not given:
        raise InputError(f"{labelled}: no row has a {LABEL}; fill some in, or leave the table out")
    remote.fetch_files(map(Path, given))
    result, seen = [], set()
    for clip in clips:
        path = os.path.realpath(clip.path)
        if path in seen:
            raise InputError(f"{labelled}: {clip.path} is cut into several clips; correct them where they are listed")
        if path in given:
            seen.add(path)
            clip = replace(clip, labels=(given[path][0],))
        result.append(clip)
    split, dataset = "train" if any(clip.split for clip in clips) else "", clips[0].dataset
    for path, (label, name) in given.items():
        if path not in seen:
            result.append(Clip(text_of(name), Path(path), labels=(label,), split=split, dataset=dataset))
    return with_unique_ids(result)
