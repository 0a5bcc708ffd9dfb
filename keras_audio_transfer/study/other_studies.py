"""What other studies have answered, for the report of one whose own table has no rows for it. Without TensorFlow."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import read_json

SUMMARY = "summary.json"  # in a study's folder


class Answer(NamedTuple):
    """An answer of another study: its question's name, the study's name, where its folder lies, and what it says."""

    name: str
    study: str
    folder: str
    sentence: str


def answered(folder: Path) -> dict[str, str]:
    """Name of a question -> the sentence that a study in this folder answers it with; what was not run is left out.

    Raises:
        InputError: no study has been run there, or its summary is damaged.
    """
    try:
        summary = read_json(folder / SUMMARY)
    except OSError as error:
        what = f"has no {SUMMARY} ({error.strerror}); expected a folder that `study` wrote; run that study first"
        raise InputError(f"{folder}: {what}") from error
    try:
        return {found["name"]: f"{found['sentence']}" for found in summary["answers"] if found["summary"] is not None}
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / SUMMARY}: is not what `study` writes; run that study again") from error


def answers_beside(folders: Iterable[Path], page_folder: Path) -> list[Answer]:
    """All answers of the studies in some folders, for a page in another folder; see `answered`."""
    return [
        Answer(name, folder.resolve().name, _from(page_folder, folder), sentence)
        for folder in folders
        for name, sentence in answered(folder).items()
    ]


def _from(page_folder: Path, folder: Path) -> str:
    """Where a folder lies, as links on a page have it."""
    try:
        return Path(os.path.relpath(folder.resolve(), page_folder.resolve())).as_posix()
    except ValueError:  # on another drive
        return folder.resolve().as_posix()
