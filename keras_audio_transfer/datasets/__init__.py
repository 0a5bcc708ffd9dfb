"""Data sets: each one a module that turns a folder into a list of clips.

To add one, write a module with the same parts in the same order as its neighbours (`fsdd` is a short one):

    docstring           what it is, how its folds and splits work, what a group is
    CITATION, LICENSE   str
    REMOTES             {name: Remote}: the archives it can be downloaded as; empty where there are none. With several,
                        the folder to download to has to be named like one of them
    NO_DOWNLOAD         only where others might look for them in vain: why there are none
    LABELS              its label names in canonical order; () where the data define them, or where there are TARGETS
    TARGETS             only for regression: the names of the numbers to predict
    clips(data_dir)     its clips, in the order of their `clip_id` (a manifest's: of its rows); or an `InputError` that
                        says what is missing and where the data can be had

and a line in `DATASETS`; the contract test in `tests/test_datasets.py` then covers it. Nothing here imports TensorFlow.

    >>> clips = load("synthetic")
    >>> len(clips), clips[0].clip_id, clips[0].split
    (500, 'harmonic/hall-0', 'train')
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import ModuleType

import numpy as np

from keras_audio_transfer.config import checked_path
from keras_audio_transfer.datasets import (
    emomusic,
    esc10,
    esc50,
    extended_ballroom,
    folder,
    fsdd,
    gtzan_genre,
    gtzan_music_speech,
    jamendo_vocals,
    magnatagatune,
    manifest,
    msd_lastfm50,
    prepared,
    speech_commands,
    synthetic,
    urbansound8k,
)
from keras_audio_transfer.datasets.clip import SPLITS, Clip, Remote, with_unique_ids
from keras_audio_transfer.download import fetch, unpack
from keras_audio_transfer.errors import InputError, unknown
from keras_audio_transfer.files import beside, scratch_folder
from keras_audio_transfer.remote import checked_input, url_of

__all__ = ["DATASETS", "SPLITS", "Clip", "Remote", "download", "hold_out", "label_names", "load", "target_names"]

DATASETS = {
    "synthetic": synthetic,
    "esc10": esc10,
    "esc50": esc50,
    "urbansound8k": urbansound8k,
    "speech_commands": speech_commands,
    "fsdd": fsdd,
    "gtzan_genre": gtzan_genre,
    "gtzan_music_speech": gtzan_music_speech,
    "extended_ballroom": extended_ballroom,
    "emomusic": emomusic,
    "jamendo_vocals": jamendo_vocals,
    "magnatagatune": magnatagatune,
    "msd_lastfm50": msd_lastfm50,
    "folder": folder,
    "manifest": manifest,
    "prepared": prepared,
}
_DATA_DIR = "the path of the folder that the data are in, or of a manifest"


def load(name: str, data_dir: str | Path | None = None) -> list[Clip]:
    """Return the clips of a data set, in the order of their `clip_id`, or of a manifest's rows.

    Args:
        name: a key of `DATASETS`.
        data_dir: the folder its authors publish, or the CSV file of a manifest, also its address (`s3://...`); not
            needed for 'synthetic'.

    Raises:
        InputError: no such data set; no `data_dir` where one is needed, or a wrong, incomplete or empty one.
    """
    module = _module(name)
    folder = None if data_dir is None else checked_input("data_dir", data_dir, _DATA_DIR)
    if data_dir is None and module is not synthetic:
        raise InputError(f"{name}: no folder given; pass `data_dir`, the folder the data are in")
    clips = module.clips(folder)
    if not clips:
        raise InputError(f"{name}: {data_dir} lists no clips; expected one at least, check that the data are complete")
    # A prepared one's clips know which data set they are of.
    return with_unique_ids([replace(clip, dataset=clip.dataset or name) for clip in clips])


def load_own(place: Path) -> list[Clip]:
    """Return the clips of one's own data: of a folder of classes, or, where `place` is a file, of a manifest.

    Raises:
        InputError: see `load`.
    """
    return load("manifest" if place.is_file() else "folder", place)


def label_names(clips: Iterable[Clip], canonical: Sequence[str] = ()) -> list[str]:
    """Return the labels that the clips have: first those in `canonical` in its order, then any others sorted."""
    present = {label for clip in clips for label in clip.labels}
    return [label for label in canonical if label in present] + sorted(present.difference(canonical))


def target_names(name: str) -> list[str]:
    """Return the names of the numbers that a data set for regression wants predicted; [] for the other data sets."""
    return [*getattr(_module(name), "TARGETS", ())]


def download(name: str, data_dir: str | Path, *, progress: object = True) -> None:
    """Download a data set, check it against its checksum, and unpack it as the folder `data_dir`.

    Nothing is left behind unless all of it worked, but for what has come of a download that broke off: the next call
    goes on from there. About twice the size of the data is needed on the disk meanwhile.

    Args:
        name: a key of `DATASETS`.
        data_dir: the folder to make; it must not exist or be empty. Where the data set has several `REMOTES`, its name
            says which one.
        progress: whether to show a progress bar on stderr; or a bar of one's own, as pooch takes it.

    Raises:
        InputError: no such data set, nothing to download, a folder that is in use, no network, a wrong checksum,
            or an archive that `download.unpack` refuses.
    """
    data_dir = checked_path("data_dir", data_dir, "the path of the folder to make")
    if url_of(data_dir) is not None:
        raise InputError(f"data_dir: {data_dir} is elsewhere; download to a folder here, and copy that")
    remotes = _module(name).REMOTES
    if not remotes:
        why = getattr(_module(name), "NO_DOWNLOAD", "there is nothing to download")
        raise InputError(f"{name}: cannot be downloaded: {why}; leave `download` out")
    remote = remotes.get(data_dir.name) if len(remotes) > 1 else next(iter(remotes.values()))
    if remote is None:
        raise InputError(f"{name}: which one is {data_dir}? Name the folder {' or '.join(remotes)}")
    if data_dir.exists() and not (data_dir.is_dir() and not any(data_dir.iterdir())):
        raise InputError(f"{name}: {data_dir} exists and is not an empty folder; leave `download` out or name another")

    # Beside the data, so that the last step is a rename on one disk: all of it or nothing.
    with scratch_folder(data_dir) as temporary:
        archive = temporary / PurePosixPath(remote.url).name
        fetch(name, remote.url, remote.checksum, archive, progress, beside(data_dir, ".part"))
        unpack(f"{name}: {remote.url}", archive, temporary / "unpacked")
        if data_dir.exists():
            data_dir.rmdir()
        (temporary / "unpacked" / remote.folder).rename(data_dir)


def hold_out(
    clips: Sequence[Clip], fraction: float, seed: int, name: str = "fraction"
) -> tuple[list[Clip], list[Clip]]:
    """Set a fraction of the clips aside, for validation: whole groups, with the labels in proportion.

    A clip without a group is a group of its own. A clip with several labels counts for its first one.

    Args:
        clips: the clips to divide.
        fraction: how much to set aside, above 0 and up to 0.5; rounded to one half, third, fourth, ...
        seed: which of the possible divisions.
        name: what the caller calls the fraction, for errors.

    Returns:
        (kept, held out), both in the order of `clips`.

    Raises:
        InputError: a fraction out of range, or too few groups or clips for it.
    """
    if not 0 < fraction <= 0.5:
        raise InputError(f"{name}: {fraction} is not allowed; expected more than 0 and at most 0.5")
    splits = round(1 / fraction)
    groups = [("group", clip.group) if clip.group else ("clip", clip.clip_id) for clip in clips]
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    if len(numbers) < splits:
        raise InputError(
            f"{name}: 1/{splits} of the clips needs {splits} groups to choose from, there are {len(numbers)}; "
            "add clips, or hold more out"
        )
    labels = [clip.labels[0] if clip.labels else "" for clip in clips]
    label, count = Counter(labels).most_common(1)[0]
    if count < splits:
        raise InputError(
            f"{name}: 1/{splits} of the clips needs {splits} of a label, the most there are is {count} ({label!r}); "
            "add clips, or hold more out"
        )
    kept, held_out = next(stratified_group_folds(labels, [numbers[group] for group in groups], splits, seed))
    return [clips[i] for i in kept], [clips[i] for i in held_out]


def stratified_group_folds(
    labels: Sequence, groups: Sequence[int], n_folds: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Folds that divide no group, with each label's share in each: (clips kept, clips held out), their numbers.

    Those of scikit-learn 1.9's `StratifiedGroupKFold(shuffle=True)`, whatever its version: up to 1.7, shuffling loses
    the shares. Groups that are numbered in another order need none.

    Args:
        labels: of each clip.
        groups: the number of each clip's group, from 0.
        n_folds: how many.
        seed: which of the possible divisions.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    order = np.arange(max(groups) + 1)
    np.random.RandomState(seed).shuffle(order)
    numbered = np.argsort(order)[np.asarray(groups)]
    return StratifiedGroupKFold(n_folds).split(labels, labels, numbered)


def _module(name: str) -> ModuleType:
    if not isinstance(name, str) or name not in DATASETS:
        raise unknown("dataset", name, DATASETS)
    return DATASETS[name]
