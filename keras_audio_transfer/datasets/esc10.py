"""ESC-10: the 400 clips of ESC-50, 10 classes of 40, under a freer licence.

`data_dir` is the folder of ESC-50, whole or cut down to ESC-10; the clips are those whose column `esc10` in
`meta/esc50.csv` is true. Five folds of 80 clips, numbered 1-5; no splits; `group` is the Freesound recording, none of
which has clips in two folds.
"""

from pathlib import Path

from keras_audio_transfer.datasets import esc50
from keras_audio_transfer.datasets.clip import Clip

CITATION = esc50.CITATION
LICENSE = "CC BY 3.0"
REMOTES = esc50.REMOTES
LABELS = (
    *("dog", "rooster", "rain", "sea_waves", "crackling_fire"),
    *("crying_baby", "sneezing", "clock_tick", "helicopter", "chainsaw"),
)


def clips(data_dir: Path) -> list[Clip]:
    """Return the ESC-10 clips that `data_dir`/meta/esc50.csv lists, in the order of their `clip_id`.

    Raises:
        InputError: the table, one of its columns or the file of an ESC-10 clip is missing.
    """
    return esc50.read_clips(data_dir, "esc10", esc10_only=True)
