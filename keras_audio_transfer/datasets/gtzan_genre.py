"""GTZAN genre collection: 1,000 excerpts of 30 s at 22.05 kHz, 10 genres of 100.

`data_dir` is the folder `genres` of the archive, or the folder it is in; `.au` as first published or `.wav` as later.
Choi et al. 2017 score it by stratified 10-fold cross-validation: there are no official folds or splits, and no groups,
as the authors do not say where an excerpt is from. Excerpts of one recording and one artist are in it, some twice
(B. L. Sturm, arXiv:1306.1461, 2013), so scores are higher than they would be for new artists.

mirdata gives MD5 5b3d6dddb579ab49814ab86dba69e7c7 for the authors' `genres.tar.gz`. In a copy that is often used
`jazz.00054.wav` is broken; it is then reported and left out.
"""

from itertools import pairwise
from pathlib import Path

from keras_audio_transfer.datasets.clip import Clip, clips_of_folders
from keras_audio_transfer.errors import InputError

CITATION = (
    "G. Tzanetakis, P. Cook. Musical genre classification of audio signals. "
    "IEEE Transactions on Speech and Audio Processing 10 (5), 2002, 293-302."
)
LICENSE = "not stated"
REMOTES = {}
NO_DOWNLOAD = "the authors' server is gone, and no licence is stated"
LABELS = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")


def clips(data_dir: Path) -> list[Clip]:
    """Return the clips {genre}/{genre}.{number}.au or .wav, in the order of their `clip_id`.

    Raises:
        InputError: a genre's folder is missing or without audio, or an excerpt is there in two formats.
    """
    remedy = "get it from https://huggingface.co/datasets/marsyas/gtzan (genres.tar.gz)"
    root = data_dir / "genres" if (data_dir / "genres").is_dir() else data_dir
    found = clips_of_folders(root, {genre: genre for genre in LABELS}, "gtzan_genre", remedy)
    for clip, other in pairwise(found):
        if clip.path.stem == other.path.stem:
            raise InputError(f"gtzan_genre: {root} has {clip.clip_id} and {other.clip_id}; remove one of them")
    return found
