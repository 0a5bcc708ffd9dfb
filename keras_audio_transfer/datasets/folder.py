"""Your own audio in folders: one sub-folder per class, named after it.

Either `CLASS/...` or, where every sub-folder at the top is named train, validation or test, `SPLIT/CLASS/...`, which
sets the splits. Audio is searched for at any depth below the class; hidden files and folders are ignored. There are
no folds and no groups: with several clips of one recording or speaker, write a table for the data set `manifest`
instead, and name the groups.
"""

import unicodedata
from pathlib import Path

from keras_audio_transfer.datasets.clip import AUDIO_SUFFIXES, SPLITS, Clip
from keras_audio_transfer.errors import InputError

CITATION = "Your own data: cite their source."
LICENSE = "Your own data: their licence."
REMOTES = {}
LABELS = ()


def clips(data_dir: Path) -> list[Clip]:
    """Return every audio file below the class folders in `data_dir`, in the order of their `clip_id`.

    Raises:
        InputError: `data_dir` is no folder, has no sub-folders, or one of its class folders has no audio.
    """
    if not data_dir.is_dir():
        raise InputError(f"folder: {data_dir} is not a folder; expected one sub-folder per class (for a CSV: manifest)")
    folders = _subfolders(data_dir)
    has_splits = folders and {folder.name for folder in folders} <= set(SPLITS)
    found = []
    for split, parent in [(folder.name, folder) for folder in folders] if has_splits else [("", data_dir)]:
        class_folders = _subfolders(parent)
        if not class_folders:
            raise InputError(f"folder: {parent} has no class folders; put the audio of each class in a sub-folder")
        for class_folder in class_folders:
            paths = [path for path in class_folder.rglob("*") if _is_audio(path, class_folder)]
            if not paths:
                raise InputError(
                    f"folder: {class_folder} has no audio ({', '.join(AUDIO_SUFFIXES)}); add some or remove the folder"
                )
            # File systems differ in how they spell accents: labels and ids have to be the same on all of them.
            label = unicodedata.normalize("NFC", class_folder.name)
            for path in paths:
                clip_id = unicodedata.normalize("NFC", path.relative_to(data_dir).as_posix())
                found.append(Clip(clip_id, path, labels=(label,), split=split))
    return sorted(found, key=lambda clip: clip.clip_id)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _is_audio(path: Path, class_folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(class_folder).parts)
    return path.suffix.lower() in AUDIO_SUFFIXES and not hidden and path.is_file()
