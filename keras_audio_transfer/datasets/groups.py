"""Which clips are of one recording or speaker, as their names say."""

import re
from collections.abc import Sequence
from dataclasses import replace

from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError


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
