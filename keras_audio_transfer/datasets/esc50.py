"""ESC-50: 2,000 environmental sounds of 5 s at 44.1 kHz, 50 classes of 40 clips.

The authors' evaluation is cross-validation over five folds of 400 clips, numbered 1-5; there are no splits. `group`
is the Freesound recording a clip was cut from. Four of the 1,524 recordings have clips in two folds (131943, 134049,
209698 and 234879; within ESC-10 none has): that is how ESC-50 was published, and how published scores are computed.

`meta/esc50.csv` decides which clips there are, so a folder with a shorter table is a smaller data set. The authors
publish no checksum: the one below belongs to GitHub's archive of one commit, on which several projects that pin it
agree.
"""

from pathlib import Path

from keras_audio_transfer.datasets.clip import Clip, Remote, read_fold, read_table, require

CITATION = "K. J. Piczak. ESC: Dataset for Environmental Sound Classification. ACM Multimedia 2015, 1015-1018."
LICENSE = "CC BY-NC 3.0"
_COMMIT = "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6"
REMOTES = {
    "ESC-50": Remote(
        url=f"https://github.com/karolpiczak/ESC-50/archive/{_COMMIT}.zip",
        checksum="sha256:661183a6f53ef04f12c9bd618fed0ddc1713280d6c94a5a5431e844ba6f6a21f",
        folder=f"ESC-50-{_COMMIT}",
    )
}
LABELS = (
    *("dog", "rooster", "pig", "cow", "frog", "cat", "hen", "insects", "sheep", "crow"),
    *("rain", "sea_waves", "crackling_fire", "crickets", "chirping_birds", "water_drops", "wind", "pouring_water"),
    *("toilet_flush", "thunderstorm", "crying_baby", "sneezing", "clapping", "breathing", "coughing", "footsteps"),
    *("laughing", "brushing_teeth", "snoring", "drinking_sipping", "door_wood_knock", "mouse_click", "keyboard_typing"),
    *("door_wood_creaks", "can_opening", "washing_machine", "vacuum_cleaner", "clock_alarm", "clock_tick"),
    *("glass_breaking", "helicopter", "chainsaw", "siren", "car_horn", "engine", "train", "church_bells", "airplane"),
    *("fireworks", "hand_saw"),
)


def clips(data_dir: Path) -> list[Clip]:
    """Return the clips that `data_dir`/meta/esc50.csv lists, in the order of their `clip_id`.

    Raises:
        InputError: the table, one of its columns or a file it lists is missing.
    """
    return read_clips(data_dir, "esc50", esc10_only=False)


def read_clips(data_dir: Path, data_set: str, *, esc10_only: bool) -> list[Clip]:
    """Return the listed clips, or only those of ESC-10; `data_set` is the name that error messages begin with."""
    remedy = "get ESC-50 from https://github.com/karolpiczak/ESC-50, or have it downloaded (`download`)"
    require(data_dir, ["meta/esc50.csv"], data_set, remedy)
    rows = read_table(data_dir / "meta" / "esc50.csv", ["filename", "fold", "category", "esc10", "src_file"])
    found = [
        Clip(
            clip_id=f"audio/{row['filename']}",
            path=data_dir / "audio" / row["filename"],
            labels=(row["category"],),
            fold=read_fold(row["fold"], where),
            group=row["src_file"],
        )
        for where, row in rows
        if row["esc10"] == "True" or not esc10_only
    ]
    require(data_dir, [clip.clip_id for clip in found], data_set, remedy)
    return sorted(found, key=lambda clip: clip.clip_id)
