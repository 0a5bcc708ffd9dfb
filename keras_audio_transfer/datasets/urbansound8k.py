"""UrbanSound8K: 8,732 city sounds of up to 4 s in 10 classes, at whatever sample rate they were recorded.

The authors' evaluation is cross-validation over the ten folds as they are, numbered 1-10: the mean of ten scores,
without reshuffling. There are no splits. `group` is the Freesound recording a clip was cut from; no recording is in
two folds.

`metadata/UrbanSound8K.csv` decides which clips there are, so a folder with a shorter table is a smaller data set. The
checksum is the one that Zenodo and soundata give.
"""

from pathlib import Path

from keras_audio_transfer.datasets.clip import Clip, Remote, read_fold, read_table, require

CITATION = "J. Salamon, C. Jacoby, J. P. Bello. A Dataset and Taxonomy for Urban Sound Research. ACM Multimedia 2014."
LICENSE = "CC BY-NC 3.0"
REMOTES = {
    "UrbanSound8K": Remote(
        url="https://zenodo.org/records/1203745/files/UrbanSound8K.tar.gz",
        checksum="md5:9aa69802bbf37fb986f71ec1483a196e",
        folder="UrbanSound8K",
    )
}
LABELS = (
    *("air_conditioner", "car_horn", "children_playing", "dog_bark", "drilling"),
    *("engine_idling", "gun_shot", "jackhammer", "siren", "street_music"),
)


def clips(data_dir: Path) -> list[Clip]:
    """Return the clips that `data_dir`/metadata/UrbanSound8K.csv lists, in the order of their `clip_id`.

    Raises:
        InputError: the table, one of its columns or a file it lists is missing.
    """
    remedy = "get UrbanSound8K from https://zenodo.org/records/1203745, or have it downloaded (`download`)"
    require(data_dir, ["metadata/UrbanSound8K.csv"], "urbansound8k", remedy)
    rows = read_table(data_dir / "metadata" / "UrbanSound8K.csv", ["slice_file_name", "fsID", "fold", "class"])
    found = [
        Clip(
            clip_id=f"audio/fold{row['fold']}/{row['slice_file_name']}",
            path=data_dir / "audio" / f"fold{row['fold']}" / row["slice_file_name"],
            labels=(row["class"],),
            fold=read_fold(row["fold"], where),
            group=row["fsID"],
        )
        for where, row in rows
    ]
    require(data_dir, [clip.clip_id for clip in found], "urbansound8k", remedy)
    return sorted(found, key=lambda clip: clip.clip_id)
