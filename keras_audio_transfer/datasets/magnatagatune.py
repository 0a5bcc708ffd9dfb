"""MagnaTagATune: excerpts of 29 s at 16 kHz, tagged by players of a game; the 50 most frequent of 188 tags.

The usual split is by folder: 0-9, a and b for training, c for validation, d-f for test; there are no folds. Excerpts
without any of the 50 tags are left out, and so are the three whose published mp3 files are empty or broken. Of 25,863
excerpts that leaves 15,244 for training, 1,529 for validation and 4,332 for test. `group` is the song.

`data_dir` has the authors' `annotations_final.csv` in it and the folders `0` to `f` that their `mp3.zip` holds, or
`mp3/` with these. `annotations_final.csv` decides which clips there are. Tags that mean the same ("vocal", "vocals")
are kept apart, as in published results.
"""

import re
from pathlib import Path, PurePosixPath

from keras_audio_transfer.datasets.clip import Clip, read_table, require
from keras_audio_transfer.errors import InputError

CITATION = (
    "E. Law, K. West, M. Mandel, M. Bay, J. S. Downie. Evaluation of algorithms using games: the case of music "
    "tagging. ISMIR 2009, 387-392."
)
LICENSE = "annotations: not stated; audio: CC BY-NC-SA (Magnatune)"
REMOTES = {}
NO_DOWNLOAD = "the authors publish the archive in three parts, without checksums"
LABELS = (  # most frequent first
    *("guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient"),
    *("beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing", "vocals", "no vocals"),
    *("harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop", "soft", "sitar", "solo"),
    *("man", "classic", "choir", "voice", "new age", "dance", "male voice", "female vocal", "beats", "harp", "cello"),
    *("no voice", "weird", "country", "metal", "female voice", "choral"),
)
_SPLITS = {**dict.fromkeys("0123456789ab", "train"), "c": "validation", **dict.fromkeys("def", "test")}
_BROKEN = (
    "6/norine_braun-now_and_zen-08-gently-117-146.mp3",
    "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233.mp3",
    "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-le_petit_rien_xiveme_ordre_couperin-88-117.mp3",
)


def clips(data_dir: Path) -> list[Clip]:
    """Return the tagged clips of `data_dir`/annotations_final.csv, in the order of their `clip_id`.

    Raises:
        InputError: the table, one of its columns or a file it lists is missing, or a file is in none of the folders.
    """
    remedy = "get annotations_final.csv and mp3.zip from https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset"
    require(data_dir, ["annotations_final.csv"], "magnatagatune", remedy)
    root = data_dir / "mp3" if (data_dir / "mp3").is_dir() else data_dir
    found = []
    for where, row in read_table(data_dir / "annotations_final.csv", ["mp3_path", *LABELS], delimiter="\t"):
        clip_id = row["mp3_path"]
        tags = tuple(tag for tag in LABELS if row[tag] == "1")
        if not tags or clip_id in _BROKEN:
            continue
        split = _SPLITS.get(PurePosixPath(clip_id).parts[0]) if clip_id else None
        if split is None:
            raise InputError(f"{where}: mp3_path is {clip_id!r}; expected a file in one of the folders 0-9 and a-f")
        song = re.sub(r"-\d+-\d+\.mp3$", "", clip_id)  # without the seconds that the excerpt is from
        found.append(Clip(clip_id, root / clip_id, labels=tags, split=split, group=song))
    require(root, [clip.clip_id for clip in found], "magnatagatune", remedy)
    return sorted(found, key=lambda clip: clip.clip_id)
