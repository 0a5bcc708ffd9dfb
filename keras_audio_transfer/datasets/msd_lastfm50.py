"""Million Song Dataset with the 50 most frequent last.fm tags: what the network of Choi et al. 2017 was trained on.

`data_dir` has the author's lists (https://github.com/keunwoochoi/MSD_split_for_tagging) in it: for each of train,
valid and test `{split}_x_filename.txt`, a line such as `3/6/36122424.npy` per clip, and `{split}_y.npy`, a row of 50
zeros and ones per clip. The audio is 29 s previews from 7digital in the folders the lists name: `3/6/36122424.clip.mp3`
as they were first passed on, or with the ending of another audio format. Clips without any of the tags are left out;
201,680, 12,634 and 28,540 are listed. There are no folds and no groups: songs of one artist are in several splits.

The lists of J. Lee that others use (`filtered_list_train.cP`) leave out the clips below 29.1 s; they are pickles, which
can run code and are not read.
"""

from pathlib import Path

import numpy as np

from keras_audio_transfer.datasets.clip import Clip, require
from keras_audio_transfer.datasets.walk import AUDIO_SUFFIXES
from keras_audio_transfer.errors import InputError

CITATION = (
    "T. Bertin-Mahieux, D. P. W. Ellis, B. Whitman, P. Lamere. The Million Song Dataset. ISMIR 2011, 591-596. Split: "
    "K. Choi, G. Fazekas, M. Sandler. Automatic tagging using deep convolutional neural networks. ISMIR 2016, 805-811."
)
LICENSE = "tags: research only (last.fm); audio: all rights reserved"
REMOTES = {}
NO_DOWNLOAD = "all rights to the audio are reserved, and the previews are not published"
LABELS = (  # as in the author's tags.py
    *("rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s", "alternative rock"),
    *("jazz", "beautiful", "metal", "chillout", "male vocalists", "classic rock", "soul", "indie rock", "Mellow"),
    *("electronica", "80s", "folk", "90s", "chill", "instrumental", "punk", "oldies", "blues", "hard rock", "ambient"),
    *("acoustic", "experimental", "female vocalist", "guitar", "Hip-Hop", "70s", "party", "country", "easy listening"),
    *("sexy", "catchy", "funk", "electro", "heavy metal", "Progressive rock", "60s", "rnb", "indie pop", "sad"),
    *("House", "happy"),
)
_SPLITS = {"train": "train", "valid": "validation", "test": "test"}


def clips(data_dir: Path) -> list[Clip]:
    """Return the tagged clips of the three lists, in the order of their `clip_id`.

    Raises:
        InputError: a list or the audio of a clip is missing, or the tags do not fit the list.
    """
    remedy = "get the lists from https://github.com/keunwoochoi/MSD_split_for_tagging; the audio is not published"
    lists = {split: (f"{name}_x_filename.txt", f"{name}_y.npy") for name, split in _SPLITS.items()}
    require(data_dir, [name for pair in lists.values() for name in pair], "msd_lastfm50", remedy)
    found = []
    for split, (files, tags) in lists.items():
        names = (data_dir / files).read_text(encoding="utf-8").split()
        for name, row in zip(names, _read_tags(data_dir / tags, len(names)), strict=True):
            if row.any():
                clip_id = _audio_file(data_dir, name.removesuffix(".npy"))
                labels = tuple(LABELS[i] for i in np.flatnonzero(row))
                found.append(Clip(clip_id, data_dir / clip_id, labels=labels, split=split))
    require(data_dir, [clip.clip_id for clip in found], "msd_lastfm50", remedy)
    return sorted(found, key=lambda clip: clip.clip_id)


def _read_tags(path: Path, n_clips: int) -> np.ndarray:
    """bool (clips, tags)."""
    try:
        tags = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: is not a NumPy array of numbers; get it again") from error
    if tags.shape != (n_clips, len(LABELS)):
        expected = f"({n_clips}, {len(LABELS)})"
        raise InputError(f"{path}: has shape {tags.shape}; expected {expected}, a row per line of the list beside it")
    return tags > 0


def _audio_file(data_dir: Path, stem: str) -> str:
    names = [f"{stem}{suffix}" for suffix in (".clip.mp3", *AUDIO_SUFFIXES)]
    return next((name for name in names if (data_dir / name).exists()), names[0])
