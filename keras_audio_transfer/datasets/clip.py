"""A clip: one audio file (or a synthesised sound), its labels, and where it belongs in the data set's own evaluation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_audio_transfer.errors import InputError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Clip:
    """One labelled sound.

    Attributes:
        clip_id: unique in its data set and the same on every machine: the file's path below the data set's folder, in
            POSIX form.
        path: the audio file; None where `synthesise` makes the sound.
        labels: none (unlabelled), one (classification) or several (tagging) label names.
        fold: the data set's own fold number; -1 where it has no folds.
        split: 'train', 'validation' or 'test'; '' where the data set has no splits.
        group: the recording or speaker the clip was cut from. Clips of one group never stand on both sides of a split.
        synthesise: for sounds that are computed: returns (samples float32 (samples,) in [-1, 1], sample rate in Hz).
    """

    clip_id: str
    path: Path | None
    labels: tuple[str, ...] = ()
    fold: int = -1
    split: str = ""
    group: str = ""
    synthesise: Callable[[], tuple[np.ndarray, int]] | None = None


@dataclass(frozen=True)
class Remote:
    """An archive that a data set can be downloaded as: its address, `algorithm:hex` checksum, and the folder inside it."""

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
