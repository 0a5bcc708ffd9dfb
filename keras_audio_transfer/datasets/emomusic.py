"""emoMusic (MediaEval 2013, "1000 songs"): how exciting and how pleasant 744 excerpts of 45 s were rated. Regression.

`data_dir` has `clips_45seconds/` and `annotations/` in it, as the two archives of the authors unpack; the annotations
may also lie in `data_dir` itself. The targets are the mean ratings divided by 9, as in Choi et al. 2017, so they are
from 1/9 to 1. The split is that of the task in 2013: 619 excerpts for development are 'train', 125 for evaluation are
'test'. Choi et al. do not use it, but plain 10-fold cross-validation. There are no groups: there is one excerpt of each
song.
"""

from pathlib import Path

from keras_audio_transfer.datasets.clip import Clip, read_number, read_table, require
from keras_audio_transfer.errors import InputError

CITATION = (
    "M. Soleymani, M. N. Caro, E. M. Schmidt, C.-Y. Sha, Y.-H. Yang. 1000 songs for emotional analysis of music. "
    "ACM International Workshop on Crowdsourcing for Multimedia 2013, 1-6."
)
LICENSE = "annotations: not stated; songs: Creative Commons, each its own"
REMOTES = {}
NO_DOWNLOAD = "the authors publish no checksums"
LABELS = ()
TARGETS = ("arousal", "valence")
_HIGHEST_RATING = 9
_SPLITS = {"development": "train", "evaluation": "test"}


def clips(data_dir: Path) -> list[Clip]:
    """Return the clips that static_annotations.csv lists, in the order of their `clip_id`.

    Raises:
        InputError: a table, a column or the file of a clip is missing; a rating that is no number from 1 to 9; a song
            without a set.
    """
    remedy = "get clips_45seconds and annotations from http://cvml.unige.ch/databases/emoMusic"
    folder = "annotations/" if (data_dir / "annotations").is_dir() else ""
    tables = [f"{folder}static_annotations.csv", f"{folder}songs_info.csv"]
    require(data_dir, tables, "emomusic", remedy)
    ratings, songs = tables
    set_of = {
        row["song_id"]: row["Mediaeval 2013 set"]
        for _, row in read_table(data_dir / songs, ["song_id", "Mediaeval 2013 set"])
    }
    found = []
    for where, row in read_table(data_dir / ratings, ["song_id", *(f"mean_{name}" for name in TARGETS)]):
        song = row["song_id"]
        split = _SPLITS.get(set_of.get(song))
        if split is None:
            raise InputError(f"{where}: song {song!r} is in no set of {songs}; expected {' or '.join(_SPLITS)}")
        means = [read_number(row[f"mean_{name}"], f"mean_{name}", where) for name in TARGETS]
        if not all(1 <= mean <= _HIGHEST_RATING for mean in means):
            raise InputError(f"{where}: the means are {means[0]:g} and {means[1]:g}; expected 1 to {_HIGHEST_RATING}")
        clip_id = f"clips_45seconds/{song}.mp3"
        targets = tuple(mean / _HIGHEST_RATING for mean in means)
        found.append(Clip(clip_id, data_dir / clip_id, split=split, targets=targets))
    require(data_dir, [clip.clip_id for clip in found], "emomusic", remedy)
    return sorted(found, key=lambda clip: clip.clip_id)
