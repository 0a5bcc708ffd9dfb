"""The one walk over folders of audio: what is taken, what is left out, and what things are called."""

import logging
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePath

from keras_audio_transfer.errors import readable

# What libsndfile reads, and then what FFmpeg reads.
AUDIO_SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".opus", ".oga", ".caf", ".w64", ".rf64"),
    *(".m4a", ".aac", ".wma", ".webm"),
)
SUFFIXES_TEXT = f"{', '.join(AUDIO_SUFFIXES[:-1])} or {AUDIO_SUFFIXES[-1]}"

_log = logging.getLogger(__name__)


def is_audio(path: PurePath) -> bool:
    """Whether a file is taken for audio, by its name."""
    return path.suffix.lower() in AUDIO_SUFFIXES


def audio_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """What is in a folder, at any depth, sorted by name; hidden files and folders are left out.

    Links are followed.

    Returns:
        The audio files, and the other files. Among the audio are links that lead nowhere or to a folder that they are
        in, and folders that may not be read: who opens one is told so, as of any bad file.
    """
    audio, other = [], []
    for path in _walk(folder, ()):
        (audio if is_audio(path) or path.is_dir() else other).append(path)
    return sorted(audio), sorted(other)


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    within = os.path.join(os.path.realpath(folder.parent), "")
    if above and (real in above or within.startswith(os.path.join(real, ""))):  # a link to where it is
        yield folder
        return
    try:
        entries = [*os.scandir(folder)]
    except PermissionError:
        yield folder
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if _leads_to_folder(entry):
            yield from _walk(Path(entry.path), (*above, real))
        else:
            yield Path(entry.path)


def _leads_to_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted by name, hidden ones left out."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def audio_in(folder: Path) -> list[Path]:
    """The audio files in a folder, not below it, sorted by name; hidden ones left out."""
    return sorted(path for path in folder.iterdir() if is_audio(path) and not path.name.startswith("."))


def text_of(path: PurePath | str) -> str:
    """A path or name as an id or a label, the same on every machine.

    File systems differ in how they spell accents; and a name may be no UTF-8: then its bytes are written out.

    >>> text_of("cafe\u0301") == "caf\u00e9"
    True
    """
    text = path.as_posix() if isinstance(path, PurePath) else path
    return unicodedata.normalize("NFC", readable(text))


def label_of(name: str) -> str:
    """A class's name as a label: what prints alike is one class, whatever spaces and invisible characters are in it.

    >>> label_of(" dog\u200b\u00a0bark ")
    'dog bark'
    """
    visible = (character for character in text_of(name) if unicodedata.category(character) != "Cf")
    return " ".join("".join(visible).split())


def say_left_out(where: str, paths: list[Path], more: str = "") -> None:
    """Name what lies there and is not taken: it could have been meant to be."""
    if paths:
        what = f"{len(paths)} file{'s' * (len(paths) > 1)} that {'are' if len(paths) > 1 else 'is'} not"
        _log.warning("%s: left out: %s %s%s; the first: %s", where, what, SUFFIXES_TEXT, more, text_of(paths[0]))
