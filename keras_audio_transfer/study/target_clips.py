"""The clips of a study's target, checked before any work is done. Without TensorFlow."""

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from keras_audio_transfer import datasets
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.datasets.groups import found, grouped, may_be_cut
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.probing.cross_validation import outer_folds
from keras_audio_transfer.study.study_file import Study, Target

_FILLED = {"repeat": "repeated up to that", "zero_pad": "filled with zeros up to that"}
_ROUNDING = 1e-3  # seconds


def load(study: Study, say: Callable[[str], None] = lambda text: None) -> dict[str, list[Clip]]:
    """The clips of each target.

    Args:
        study: whose targets they are.
        say: is told of each target whose folds may cut recordings or speakers, as the names of its files say, and of
            clips that are shorter than what a network hears.

    Raises:
        InputError: names the file and the target: what `datasets.load` and `outer_folds` refuse, or a clip without
            exactly one label.
    """
    return {name: _load(study, target, say) for name, target in study.targets.items()}


def _load(study, target, say):
    where = f"{study.path}: targets.{target.name}"
    try:
        every = grouped(datasets.load(target.dataset, target.data_dir), target.group_by)
        clips = limited(every, target)
        for clip in clips:
            if len(clip.labels) != 1:
                kinds = "numbers" if clip.targets else f"{len(clip.labels)} labels"
                raise InputError(f"{clip.clip_id} has {kinds}; a study compares data sets with one label a clip")
        for seed in study.seeds:
            outer_folds(FeatureTable.of_clips({}, clips, label_names(clips)), seed)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if target.group_by is None and (pattern := found(every)):  # of all clips, which the key has to suit
        together = grouped(clips, pattern)
        if len({clip.group for clip in together}) < len(clips):
            key = f"group_by = '{pattern}'"
            say(f"{where}: {may_be_cut(together, key)}")
    if filled := _filled(study, clips):
        say(f"{where}: clips shorter than what a network hears at once are {filled}")
    return clips


def _filled(study, clips):
    """What is done to clips too short for a network, with how many of them for which; '' where there are none."""
    networks = [source for source in study.sources.values() if source.card is not None and not source.is_random]
    lengths = [seconds for clip in clips if networks and (seconds := _seconds(clip)) is not None]
    of_kind = defaultdict(list)
    for source in networks:
        audio = source.card.audio
        seconds = audio.least_samples / audio.sample_rate
        if n_short := sum(length < seconds - _ROUNDING for length in lengths):
            of_kind[audio.short_clips].append(f"{source.name} {seconds:.3g} s: {n_short} of {len(clips)}")
    return "; ".join(f"{_FILLED[kind]} ({', '.join(of)})" for kind, of in of_kind.items())


def _seconds(clip):
    """How long a clip is, as far as its file's header tells; None where it does not, or that is nothing to read."""
    import soundfile  # takes a moment to import

    if clip.duration_seconds is not None or clip.path is None:
        return clip.duration_seconds
    with suppress(OSError, soundfile.SoundFileError):
        return soundfile.info(clip.path).duration - clip.start_seconds
    return None


def limited(clips: list[Clip], target: Target) -> list[Clip]:
    """At most `target.limit` clips of each class, fold and split, drawn once for all; in their order."""
    if not target.limit:
        return clips
    places = defaultdict(list)
    for place, clip in enumerate(clips):
        places[clip.labels, clip.fold, clip.split].append(place)
    rng = np.random.default_rng(0)
    kept = [place for of_part in places.values() for place in rng.permutation(of_part)[: target.limit]]
    return [clips[place] for place in sorted(kept)]


def label_names(clips: list[Clip]) -> list[str]:
    """The classes of a target's clips, in the data set's order."""
    return datasets.label_names(clips, datasets.DATASETS[clips[0].dataset].LABELS)


def is_divided(clips: list[Clip]) -> bool:
    """Whether the data set has folds or splits of its own."""
    return any(clip.fold >= 0 or clip.split for clip in clips)
