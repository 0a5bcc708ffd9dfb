"""A person's own sounds as clips: which can be read, of which class, of which recording."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from keras_audio_transfer import datasets
from keras_audio_transfer.answers import NONE_OF_THESE
from keras_audio_transfer.clip_inputs import clips_below
from keras_audio_transfer.commands import cli
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.copies import keep_copies_together
from keras_audio_transfer.datasets import folder, groups
from keras_audio_transfer.datasets.clip import Clip, with_unique_ids
from keras_audio_transfer.datasets.relabelling import relabelled
from keras_audio_transfer.errors import InputError, readable
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.files import write_failures
from keras_audio_transfer.model_folder import LONGEST

BACKGROUND = ("_background", "_background_noise_")  # classes of such a name, in any case, hold sounds of no class
OF_ONE_LABEL = ("labelled", "unknown", "precision", "coverage")


class OwnSounds(NamedTuple):
    """What was found.

    Attributes:
        clips: those that can be read.
        names: of their labels.
        failures: (clip id, reason) of those that cannot.
        config: the front end for their length.
        warnings: of `health`.
        groups_without_names: the group of each clip, str (clips,), were what their names say ignored; None where they
            say nothing.
    """

    clips: list[Clip]
    names: list[str]
    failures: list[tuple[str, str]]
    config: AudioConfig
    warnings: list[str]
    groups_without_names: np.ndarray | None


def found(options):
    """The clips of a folder or a manifest, those of none of its classes (of `BACKGROUND` and of --unknown), and whether
    some have several labels, separated by '|'.
    """
    clips = datasets.load_own(options.folder)
    several = any(len(clip.labels) > 1 for clip in clips)
    if several:
        check_several_labels(options, clips)
    if clips[0].dataset == "folder" and options.group_by is None:
        check_folders(options.folder, clips)
    clips = relabelled(clips, options.labelled)
    foreign = [replace(clip, labels=()) for clip in clips if is_background(clip.labels[0])]
    clips = [clip for clip in clips if not is_background(clip.labels[0])]
    if not clips:
        raise InputError(f"{options.folder}: has unknown sounds ({BACKGROUND[0]}) only; add a folder for each class")
    if foreign:
        cli.say(options, f"{len(foreign)} unknown sounds: those of {' and '.join(BACKGROUND)}, which are no classes")
    if options.unknown is not None:
        there = {clip.path.resolve() for clip in foreign}
        others = [clip for clip in clips_below([options.unknown]) if clip.path.resolve() not in there]
        foreign = with_unique_ids(foreign + others)
    return clips, foreign, several


def is_background(label):
    return label.lower() in BACKGROUND


def check_several_labels(options, clips):
    """Refuse what is of clips with one label."""
    for name in OF_ONE_LABEL:
        if getattr(options, name) is not None:
            raise InputError(
                f"{name}: is of clips with one label; {options.folder} has some with several; leave it out"
            )
    for name in datasets.label_names(clips):
        if is_background(name):
            what = f"the label {name!r} is of clips with one label, and some have several"
            raise InputError(f"{options.folder}: {what}; leave its rows out")


def training_data(options, clips, division, labels, label_names):
    """What the card says of the sounds; `labels`: 0 or 1, (clips, labels)."""
    counts = labels.sum(axis=0)
    return {
        "dataset": "manifest" if options.folder.is_file() else "folder",
        "licence": folder.LICENSE,
        "citation": folder.CITATION,
        "division": f"{division}; then chosen once more and fitted on all clips",
        "clips": {"all": len(labels)},
        LONGEST: max(round(clip.recorded.seconds, 3) for clip in clips),
        "clips_by_label": {name: int(count) for name, count in zip(label_names, counts, strict=True)},
    }


def settings(options, name, candidates, n_foreign=0):
    """What the card says of the run: which of the models was built on, the flags, and the unknown sounds heard."""
    return {
        "model": name,
        "candidates": [*candidates],
        "clip_seconds": options.clip_seconds,
        "layer_weights": options.layer_weights,
        "group_by": options.group_by,
        "unknown": options.unknown and readable(options.unknown.name),
        "unknown_clips": n_foreign or None,
        "labelled": options.labelled and readable(options.labelled.name),
        "keep_examples": options.keep_examples,
    }


def load(options, clips, config, phases):
    """The sounds that `found` has found, for a front end, decoded once."""
    pattern = options.group_by or groups.found(clips)
    clips = groups.grouped(clips, pattern)
    names = datasets.label_names(clips)
    if NONE_OF_THESE in names:
        raise InputError(f"{options.folder}: no class can be called {NONE_OF_THESE!r}; rename it")
    check_enough(options, clips, names)
    clips, failures, _, config = cli.decode_clips(
        options, str(options.folder), clips, config, options.output_dir, phases
    )
    without = None
    if pattern is not None:  # copies stay together
        without = keep_copies_together([replace(clip, group="") for clip in clips], options.allow_duplicates)
    if pattern != options.group_by and not groups.are_enough(clips):
        clips, without = without, None
    elif pattern != options.group_by:
        kept = "no division cuts one of them; --group-by '.+' takes every clip for a recording of its own"
        cli.say(options, f"{groups.in_words(clips)}; {kept}")
    try:
        check_enough(options, clips, names)
    except InputError as error:
        unread = f"; {len(failures)} files cannot be read, the first: {failures[0][1]}" if failures else ""
        raise InputError(f"{error}{unread}") from error
    from keras_audio_transfer import health

    warnings = health.warnings(clips, names, config.sample_rate, options.seed)
    for line in warnings:
        cli.show(f"warning: {line}")
    ignored = None if without is None else np.array([clip.group for clip in without])
    return OwnSounds(clips, names, failures, config, warnings, ignored)


def readable_foreign(options, clips, own, config, phases):
    """The unknown sounds that can be read, and (clip id, reason) of those that cannot."""
    from keras_audio_transfer.audio.loading import WaveformStore, readable_clips

    store = WaveformStore(config.with_clip_seconds(options.clip_seconds))
    clips, failures, _ = readable_clips(clips, store, phases.bar("decoding unknown sounds", len(clips)))
    write_failures(options.output_dir, own.failures + failures)
    where = options.folder if options.unknown is None else "unknown"
    if not clips:
        raise InputError(f"{where}: none of the {len(failures)} unknown sounds can be read; {failures[0][1]}")
    of_classes = {clip.checksum: clip for clip in own.clips if clip.checksum}
    for clip in clips:
        if clip.checksum in of_classes:
            what = f"{clip.clip_id} sounds as {of_classes[clip.checksum].clip_id}, which is of a class"
            raise InputError(f"{where}: {what}; expected sounds of none of the classes; remove one of the two")
    return clips, failures


def check_folders(root, clips):
    """Every class folder has to hold audio itself, else its sub-folders may be what was meant as classes."""
    depth = 2 if clips[0].split else 1
    holds_audio = {}
    for clip in clips:
        parts = clip.path.relative_to(root).parts
        class_folder = root.joinpath(*parts[:depth])
        holds = len(parts) == depth + 1 or is_background(clip.labels[0])
        holds_audio[class_folder] = holds_audio.get(class_folder, False) or holds
    for class_folder, holds in holds_audio.items():
        if not holds:
            raise InputError(
                f"{class_folder}: has audio only in its sub-folders; expected the audio of one class in it; name the "
                "folder whose sub-folders are the classes, move the audio up, or, where they are recordings or "
                "speakers, pass --group-by '/([^/]+)/[^/]+$'"
            )


def check_enough(options, clips, names):
    """Every class has to have clips to fit on and to choose by."""
    from keras_audio_transfer.probing.cross_validation import outer_folds

    try:
        folds, _ = outer_folds(FeatureTable.of_clips({}, clips, names), options.seed, several_labels=True)
    except InputError as error:
        raise InputError(f"{options.folder}: {error}") from error
    has_folds = clips[0].fold >= 0
    for fold in folds if has_folds else folds[:1]:
        fitted = {label for i in fold.outer.fit for label in clips[i].labels}
        where = f" where {fold.name} is scored" if has_folds else ""
        for name in names:
            if name not in fitted:
                what = f"{name!r} has no clip for training{where}; add some, or leave the class out"
                raise InputError(f"{options.folder}: {what}")
