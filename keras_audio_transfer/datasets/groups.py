"""Which clips are of one recording or speaker, as their names say."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError

# How data sets name their files, and where such a name says what the clip was cut from or who is heard.
_KNOWN = (
    r"[1-5]-([0-9]+)-[A-Z]-[0-9]+",  # ESC-50: the recording's number at Freesound
    r"([0-9]+)-[0-9]-[0-9]{1,3}-[0-9]{1,3}",  # UrbanSound8K: likewise
    r"([0-9a-f]{8})_nohash_[0-9]+",  # Speech Commands: the speaker
    r"([0-9]{2})[ab][0-9]{2}[A-Z][a-z]",  # EmoDB: the speaker
    r"0[1-3]-0[12]-0[1-8](?:-0[12]){3}-([0-9]{2})",  # RAVDESS: the actor
    r"([0-9]{4})_[A-Z]{3}_[A-Z]{3}_[A-Z]{1,2}",  # CREMA-D: the actor
    r"[0-9]+__(.+?)__.*",  # what Freesound lets one download: who recorded it
)
_START, _SUFFIX, _BETWEEN = r"(?:^|/)", r"\.[^./]+$", "[ _.-]"
_FIELD = r"[^/ _.-]+?"
_SUB_FOLDER = r"^[^/]+/([^/]+)/"
_LETTER = r"[^\W\d_]"
_TAKE = rf"(?:{_BETWEEN}[^/]*|(?<={_LETTER}))[0-9]+\)?"  # the rest of a name, with a number at its end
_LEAST_GROUPS = 5  # of a class: as many as folds


def grouped(clips: Sequence[Clip], pattern: str | None) -> list[Clip]:
    """The clips with the groups that a pattern finds in their ids, which no division of the clips cuts.

    Args:
        clips: without groups.
        pattern: None changes nothing; or a regular expression, searched in each clip's id (of a file, its path). The
            group is what its first parentheses hold, or the whole match where it has none.

    Raises:
        InputError: no regular expression; a clip in which nothing is found; clips that have groups already; or a group
            that is in several splits or folds.

    Examples:
        >>> clips = [Clip(f"words/yes/{speaker}_{take}.wav", None) for speaker in ("ann", "bob") for take in (1, 2)]
        >>> [clip.group for clip in grouped(clips, r"([a-z]+)_[0-9]+.wav$")]
        ['ann', 'ann', 'bob', 'bob']
    """
    if pattern is None:
        return [*clips]
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        what = f"{pattern!r} is no regular expression ({error}); expected one such as '/([^/_]+)_'"
        raise InputError(f"group_by: {what}") from error
    result, firsts = [], {}
    for clip in clips:
        if clip.group:
            raise InputError(f"group_by: {clip.clip_id} is of the group {clip.group!r} already; leave the pattern out")
        found = compiled.search(clip.clip_id)
        group = found and found[1 if compiled.groups else 0]
        if not group:
            what = f"finds nothing in {clip.clip_id}; expected a group in every clip's path"
            raise InputError(f"group_by: {pattern!r} {what}")
        first = firsts.setdefault(group, clip)
        if (first.split, first.fold) != (clip.split, clip.fold):
            both = f"{first.clip_id} and {clip.clip_id} are in different splits or folds"
            raise InputError(f"group_by: the data set divides the group {group!r}: {both}; move one, or leave it out")
        result.append(replace(clip, group=group))
    return result


def found(clips: Sequence[Clip]) -> str | None:
    """A pattern for `grouped` that says which clips are of one recording or speaker, where their names do.

    Taken are, in this order: the names of data sets that are known (ESC-50, UrbanSound8K, Speech Commands, EmoDB,
    RAVDESS, CREMA-D, downloads from Freesound); the sub-folders of the classes' folders; and the beginnings of names
    that end in a number, such as `ann` of `ann_1.wav`, or `jackson` of `0_jackson_3.wav` where the class is 0: as few
    of their parts as will do, without those before it that are the same all over a class.

    Groups that are none make an estimate too low and cost nothing else; but they would also be taken for a check that
    there was none. So a beginning needs a letter, because numbers may count anything: clips, days, or statements. Every
    clip has to be of a group, every class of five, as many as folds, none of them with more than half of its clips. At
    least half of all clips have to be in a group with another of their class; of known names, two.

    Args:
        clips: with labels; of the data set `folder`, or others whose ids begin with a folder.

    Returns:
        None where the clips have groups, splits or folds, or nothing is found.

    Examples:
        >>> names = [f"{speaker}_{take}" for speaker in ("ann", "bob", "cem", "dan", "eve") for take in (1, 2)]
        >>> clips = [Clip(f"{word}/{name}.wav", None, (word,)) for word in ("yes", "no") for name in names]
        >>> [clip.group for clip in grouped(clips, found(clips))][:4]
        ['ann', 'ann', 'bob', 'bob']
    """
    if any(clip.group or clip.split or clip.fold >= 0 or not clip.labels for clip in clips):
        return None
    for name in _KNOWN:
        if groups := _groups(clips, pattern := _START + name + _SUFFIX):
            return pattern if _are_enough(clips, groups) and len({*groups}) < len(clips) else None
    for pattern in (_SUB_FOLDER, *_beginnings(clips)):
        if (groups := _groups(clips, pattern)) and _are_enough(clips, groups) and _are_shared(clips, groups):
            return pattern
    return None


def are_enough(clips: Sequence[Clip]) -> bool:
    """Whether groups that were found can still divide every class, after clips that cannot be read were left out."""
    return _are_enough(clips, [clip.group for clip in clips])


def in_words(clips: Sequence[Clip]) -> str:
    """How many groups there are of how many clips, for clips with the groups that `found` has found."""
    numbers = f"{len({clip.group for clip in clips})} recordings or speakers in {len(clips)} clips"
    return f"{numbers}, as the names of the files say"


def may_be_cut(clips: Sequence[Clip], remedy: str) -> str:
    """The same, that folds may cut them, and the option of a command or file that keeps each together."""
    return f"{in_words(clips)}; folds may cut them; {remedy} keeps each together"


def _groups(clips, pattern):
    """What a pattern finds in each clip's id; none where it finds nothing in one."""
    matches = [re.search(pattern, clip.clip_id) for clip in clips]
    return [match[1] for match in matches] if all(matches) else []


def _beginnings(clips) -> Iterator[str]:
    """Patterns for ever longer beginnings of names, behind the parts that are the same all over a class."""
    skipped, length = 0, 1
    while _is_of_class(clips, groups := _groups(clips, _beginning(skipped, 1))):
        skipped += 1
    while groups and all(re.search(_LETTER, group) for group in groups):
        yield _beginning(skipped, length)
        length += 1
        groups = _groups(clips, _beginning(skipped, length))


def _beginning(skipped, length):
    between = f"{_BETWEEN}+"
    return f"{_START}{(_FIELD + between) * skipped}({between.join([_FIELD] * length)}){_TAKE}{_SUFFIX}"


def _is_of_class(clips, groups):
    """Whether all clips of a class have one group."""
    labels = [clip.labels for clip in clips]
    return bool(groups) and len({*zip(labels, groups, strict=True)}) == len({*labels})


def _are_enough(clips, groups):
    """Whether every class has five groups, none of them with more than half of its clips."""
    pairs = _sizes(clips, groups)
    for label in {label for label, _ in pairs}:
        sizes = [size for (of, _), size in pairs.items() if of == label]
        if len(sizes) < _LEAST_GROUPS or 2 * max(sizes) > sum(sizes):
            return False
    return True


def _are_shared(clips, groups):
    """Whether at least half of the clips are in a group with another of their class."""
    sizes = _sizes(clips, groups)
    shared = (any(sizes[label, group] > 1 for label in clip.labels) for clip, group in zip(clips, groups, strict=True))
    return 2 * sum(shared) >= len(clips)


def _sizes(clips, groups):
    """How many clips there are of each label and group."""
    pairs = zip(clips, groups, strict=True)
    return Counter((label, group) for clip, group in pairs for label in clip.labels)
