"""Your own audio in folders: one sub-folder per class, named after it.

Either `CLASS/...` or, where every sub-folder at the top is named train, validation or test, `SPLIT/CLASS/...`, which
sets the splits; Training, val, dev and the like are understood. Audio is searched for at any depth below the class,
links are followed, hidden files and folders are ignored. There are
no folds and no groups: with several clips of one recording or speaker, name a pattern (`--group-by`,
`datasets.groups.grouped`), or write a table for the data set `manifest`, and name the groups.
"""

from collections.abc import Iterator
from pathlib import Path

from keras_audio_transfer.datasets.clip import Clip, split_of
from keras_audio_transfer.datasets.walk import SUFFIXES_TEXT, audio_below, label_of, say_left_out, subfolders, text_of
from keras_audio_transfer.errors import InputError

CITATION = "Your own data: cite their source."
LICENSE = "that of your own sounds"
REMOTES = {}
LABELS = ()


def clips(data_dir: Path) -> list[Clip]:
    """Return every audio file below the class folders in `data_dir`, in the order of their `clip_id`.

    What else lies there is named in a warning.

    Raises:
        InputError: `data_dir` is no folder, has no sub-folders, or one of its class folders has no audio.
    """
    if not data_dir.is_dir():
        raise InputError(f"folder: {data_dir} is not a folder; expected one sub-folder per class (for a CSV: manifest)")
    split_of_class = dict(class_folders(data_dir))
    paths_of_class: dict[Path, list[Path]] = {folder: [] for folder in split_of_class}
    audio, left_out = audio_below(data_dir)
    for path in audio:
        class_folder = next((folder for folder in (path, *path.parents) if folder in paths_of_class), None)
        (left_out if class_folder is None else paths_of_class[class_folder]).append(path)
    found = []
    for class_folder, paths in paths_of_class.items():
        if not paths:
            raise InputError(f"folder: {class_folder} has no audio ({SUFFIXES_TEXT}); add some or remove the folder")
        label, split = (label_of(class_folder.name),), split_of_class[class_folder]
        found += [Clip(text_of(path.relative_to(data_dir)), path, labels=label, split=split) for path in paths]
    say_left_out("folder", sorted(left_out), " or lie in no class folder")
    return sorted(found, key=lambda clip: clip.clip_id)


def class_folders(data_dir: Path) -> Iterator[tuple[Path, str]]:
    """Each class folder, and the split that it is in ('' where there are none)."""
    folders = subfolders(data_dir)
    splits = [folder.name for folder in folders if split_of(folder.name)]
    has_splits = folders and len(splits) == len(folders)
    if not has_splits and len({*map(split_of, splits)}) > 1:  # one may be a class of its own, such as trains
        others = ", ".join(text_of(folder.name) for folder in folders if folder.name not in splits)
        what = f"has splits ({', '.join(splits)}) beside other folders ({others[:200]})"
        raise InputError(f"folder: {data_dir} {what}; expected splits only, or classes only; move the others away")
    for parent, split in [(folder, split_of(folder.name)) for folder in folders] if has_splits else [(data_dir, "")]:
        classes = subfolders(parent)
        if not classes:
            raise InputError(f"folder: {parent} has no class folders; put the audio of each class in a sub-folder")
        for folder in classes:
            yield folder, split
