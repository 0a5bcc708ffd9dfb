"""Free Spoken Digit Dataset: the digits 0-9, spoken fifty times each by a few speakers, at 8 kHz.

The official test split is the recordings numbered 0-4 of each speaker and digit, the rest is for training: the same
speakers are on both sides. There are no folds. `group` is the recording, which is the file.

The data set grows: version 1.0.10 has 3,000 recordings by 6 speakers. The download is version 1.0.9 (2,500 recordings
by 5 speakers), the newest one whose checksum is published (by TensorFlow Datasets).
"""

import re
from pathlib import Path

from keras_audio_transfer.datasets.clip import Clip, Remote, require
from keras_audio_transfer.errors import InputError

CITATION = "Z. Jackson. Free Spoken Digit Dataset. https://github.com/Jakobovski/free-spoken-digit-dataset, 2016."
LICENSE = "CC BY-SA 4.0"
REMOTES = {
    "free-spoken-digit-dataset": Remote(
        url="https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.9.tar.gz",
        checksum="sha256:8bc44cde129d505cbbb6b365c09f80c663f2aa77578afc634e6141a2f87100c0",
        folder="free-spoken-digit-dataset-1.0.9",
    )
}
LABELS = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")


def clips(data_dir: Path) -> list[Clip]:
    """Return the clips `data_dir`/recordings/{digit}_{speaker}_{index}.wav, in the order of their `clip_id`.

    Raises:
        InputError: there are no recordings, or one of them is named otherwise.
    """
    remedy = "get it from https://github.com/Jakobovski/free-spoken-digit-dataset, or have it downloaded (`download`)"
    require(data_dir, ["recordings"], "fsdd", remedy)
    found = []
    for path in (data_dir / "recordings").glob("*.wav"):
        name = re.fullmatch(r"([0-9])_(.+)_([0-9]+)", path.stem)
        if name is None:
            raise InputError(f"fsdd: {path} is not named {{digit}}_{{speaker}}_{{index}}.wav; rename or remove it")
        digit, _speaker, index = name.groups()
        split = "test" if int(index) <= 4 else "train"
        found.append(Clip(f"recordings/{path.name}", path, labels=(digit,), split=split, group=path.stem))
    if not found:
        raise InputError(f"fsdd: {data_dir / 'recordings'} has no .wav files; {remedy}")
    return sorted(found, key=lambda clip: clip.clip_id)
