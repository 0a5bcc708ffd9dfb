"""GTZAN music/speech collection: 128 excerpts of 30 s at 22.05 kHz, 64 of music and 64 of speech.

`data_dir` is the folder `music_speech` of the archive, which has `music_wav/` and `speech_wav/` in it, or the folder
it is in. Choi et al. 2017 score it by stratified 10-fold cross-validation: there are no official folds or splits, and
no groups.
"""

from pathlib import Path

from keras_audio_transfer.datasets.clip import Clip, clips_of_folders

CITATION = "G. Tzanetakis. GTZAN music/speech collection. http://marsyas.info/downloads/datasets.html, 1999."
LICENSE = "not stated"
REMOTES = {}
NO_DOWNLOAD = "the authors' server is gone, and no licence is stated"
LABELS = ("music", "speech")


def clips(data_dir: Path) -> list[Clip]:
    """Return the clips in music_wav/ and speech_wav/, in the order of their `clip_id`.

    Raises:
        InputError: one of the folders is missing or without audio.
    """
    remedy = "get music_speech.tar.gz, see http://marsyas.info/downloads/datasets.html"
    root = data_dir / "music_speech" if (data_dir / "music_speech").is_dir() else data_dir
    return clips_of_folders(root, {f"{label}_wav": label for label in LABELS}, "gtzan_music_speech", remedy)
