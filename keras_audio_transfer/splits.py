"""Which clips train, which decide when to stop, which are scored. A recording is never on two sides."""

import hashlib
import json
import math
from dataclasses import dataclass

import numpy as np

from keras_audio_transfer.datasets import DATASETS, hold_out
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError

FINGERPRINT = "clips_sha256"  # the setting of a run that holds the fingerprint of its clips


@dataclass(frozen=True)
class Splits:
    """The clips of one training run, and in words how they were divided."""

    train: list[Clip]
    validation: list[Clip]
    test: list[Clip]
    description: str

    def fingerprint(self) -> str:
        """A SHA-256 of which sounds, under which names and labels, are in which part."""
        parts = (self.train, self.validation, self.test)
        content = [[[clip.clip_id, clip.labels, clip.targets, clip.checksum] for clip in part] for part in parts]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def training_data(dataset: str, splits: Splits) -> dict:
    """What a card says of the data that a model was trained on, with its licence."""
    module = DATASETS[dataset]
    return {
        "dataset": dataset,
        "licence": module.LICENSE,
        "citation": module.CITATION,
        "division": splits.description,
        "clips": {"train": len(splits.train), "validation": len(splits.validation), "test": len(splits.test)},
    }


def divide(clips: list[Clip], test_fold: int | None, validation_fraction: float, seed: int) -> Splits:
    """Divide a data set the way its authors do.

    With official splits these are used. With folds, one fold is the test and the others train. With neither, a part
    of the recordings is held out as the test. Where there is no official validation split, a part of the training
    recordings is held out as validation.

    Args:
        clips: of one data set, each labelled.
        test_fold: the fold to score on; None for the highest. Only for data sets with folds.
        validation_fraction: fraction of the training clips held out, 0 to 0.5; 0 for no validation.
        seed: of the held-out recordings.

    Raises:
        InputError: no such fold, a clip without label, split or fold where others have one, or nothing to train on.
    """
    if not 0 <= validation_fraction <= 0.5:
        raise InputError(f"validation_fraction: {validation_fraction} is not allowed; expected 0 to 0.5")
    for clip in clips:
        if not clip.labels:
            raise InputError(f"{clip.clip_id}: has no label; training needs one for every clip")
    validation = []
    if any(clip.split for clip in clips):
        if test_fold is not None:
            raise InputError(f"test_fold: {test_fold} received, but the data set has splits, not folds; leave it out")
        by_split = {split: [c for c in clips if c.split == split] for split in ("train", "validation", "test")}
        unassigned = len(clips) - sum(map(len, by_split.values()))
        if unassigned:
            raise InputError(f"data set: {unassigned} of {len(clips)} clips have no split; give every clip one")
        train, validation, test = by_split.values()
        description = "official splits"
    elif any(clip.fold >= 0 for clip in clips):
        folds = sorted({clip.fold for clip in clips})
        if folds[0] < 0:
            raise InputError("data set: some clips have a fold and some have none; give every clip one")
        test_fold = folds[-1] if test_fold is None else test_fold
        if test_fold not in folds:
            raise InputError(f"test_fold: {test_fold} is not there; this data has folds {_listed(folds)}")
        train = [clip for clip in clips if clip.fold != test_fold]
        test = [clip for clip in clips if clip.fold == test_fold]
        description = f"fold {test_fold} scored, folds {_listed(f for f in folds if f != test_fold)} for training"
    else:
        if test_fold is not None:
            raise InputError(f"test_fold: {test_fold} received, but the data set has no folds; leave it out")
        train, test = hold_out(clips, 0.2, seed)
        description = f"no official folds or splits: 20% of the recordings scored (seed {seed})"
    if not train:
        raise InputError("data set: no clips are left for training; it needs a second fold or a split named train")
    if not validation and validation_fraction:
        train, validation = hold_out(train, validation_fraction, seed, "validation_fraction")
        held_out = len(validation) / (len(train) + len(validation))
        description += f"; {held_out:.0%} of the training recordings for validation (seed {seed})"
    return Splits(train, validation, test, description)


def check_fraction(fraction: float) -> None:
    """Raise InputError for a fraction that is not above 0 and up to 1."""
    if not 0 < fraction <= 1:
        raise InputError(f"fractions: {fraction} is not allowed; expected more than 0 and at most 1")


def nested_subset(clips: list[Clip], fraction: float, seed: int) -> list[Clip]:
    """A fraction of the clips, the labels in proportion. Of one seed, a larger one contains every smaller one.

    Args:
        clips: each with one label.
        fraction: above 0, up to 1.
        seed: which clips.

    Returns:
        For each label the fraction of its clips, rounded; in the order of `clips`.

    Raises:
        InputError: a fraction out of range, or one that leaves a label without clips.
    """
    check_fraction(fraction)
    by_label = {}
    for i, clip in enumerate(clips):
        by_label.setdefault(clip.labels[0], []).append(i)
    chosen = []
    for number, (label, rows) in enumerate(sorted(by_label.items())):
        wanted = round(fraction * len(rows))
        if not wanted:
            raise InputError(
                f"fractions: {fraction} leaves {label!r} without a clip of its {len(rows)} for training; "
                f"expected at least {math.ceil(1000 / len(rows)) / 1000:g}"
            )
        chosen += [*np.random.default_rng([seed, number]).permutation(rows)[:wanted]]
    return [clips[i] for i in sorted(chosen)]


def _listed(folds):
    return ", ".join(map(str, folds))
