"""One recording under several names, found by the checksum of what was heard. Without TensorFlow."""

import logging
from dataclasses import replace

from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError

_log = logging.getLogger(__name__)
_OWN = ("folder", "manifest")  # the others are evaluated as their authors do


def copies_of(clips: list[Clip]) -> list[list[Clip]]:
    """The sets of clips that sound alike to the last bit; those without a checksum (silent, or not read) are none."""
    alike: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.checksum:
            alike.setdefault(clip.checksum, []).append(clip)
    return [several for several in alike.values() if len(several) > 1]


def keep_copies_together(clips: list[Clip], allow: bool = False) -> list[Clip]:
    """The clips; copies of one recording are a group, which no division cuts. Those that it made one are named once.

    In data of one's own, copies in several groups make them one.

    Args:
        clips: of one data set, with their checksums.
        allow: only name what would be refused.

    Raises:
        InputError: in data of one's own, copies that have several labels, or are in several splits or folds.
    """
    groups: dict[str, str] = {}
    merged: dict[str, str] = {}  # group -> the one that it is a part of
    wrong: dict[str, list[tuple[Clip, Clip]]] = {"labels": [], "splits or folds": []}
    for several in copies_of(clips):
        first, *others = several
        group = f"copies of {first.clip_id}"
        if all(clip.group == group for clip in several):
            continue
        for other in others:
            if {*other.labels} != {*first.labels} or other.targets != first.targets:
                wrong["labels"].append((first, other))
            if (other.split, other.fold) != (first.split, first.fold):
                wrong["splits or folds"].append((first, other))
        own = [_whole(clip.group, merged) for clip in several if clip.group]
        if not own:
            groups |= {clip.clip_id: group for clip in several}
        elif first.dataset in _OWN and len({(clip.split, clip.fold) for clip in several}) == 1:
            groups |= {clip.clip_id: own[0] for clip in several}
            merged |= {other: own[0] for other in own if other != own[0]}
    said = []
    for what, pairs in wrong.items():
        if pairs:
            first, other = pairs[0]
            more = f" ({len(pairs)} such copies)" if len(pairs) > 1 else ""
            said.append(f"{other.clip_id}: is a copy of {first.clip_id} with other {what}{more}")
    if said:
        if clips[0].dataset in _OWN and not allow:
            remedy = "expected each recording in one; remove the wrong ones, or `allow_duplicates`"
            raise InputError(f"{'; '.join(said)}; {remedy}")
        _log.warning("%s", "; ".join(said))
    return [replace(clip, group=_whole(groups.get(clip.clip_id, clip.group), merged)) for clip in clips]


def _whole(group, merged):
    while group in merged:
        group = merged[group]
    return group
