"""Features, labels and scores that Choi et al. 2017 published, from a folder of their repository. Without TensorFlow.

The repository is https://github.com/keunwoochoi/transfer_learning_music: `data_csv/` names the clips and their labels,
`data_feats/` holds features in the same order, `result_transfer/` the score of each combination of layers.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_audio_transfer.datasets.clip import read_number, read_table
from keras_audio_transfer.errors import InputError, unknown
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.probing.layer_selection import Combination

LAYERS = tuple(f"layer{number}" for number in range(1, 6))
MFCC = "mfcc"
_SPLITS = {"train": "train", "valid": "validation", "test": "test"}
_UNPUBLISHED = "published score came from a {} that was not published"


@dataclass(frozen=True)
class Task:
    """A label set.

    Attributes:
        files: the name of its files.
        labels: its column of labels.
        unpublished: a layer of which other features were scored than were published.
        same: combinations with that layer whose published scores come out all the same.
    """

    files: str
    labels: str = "label"
    unpublished: str = ""
    same: tuple[Combination, ...] = ()

    def known_exception(self, layers: Combination) -> str:
        """Why the published score of these layers does not come out of the published features; '' where it does."""
        known = self.unpublished in layers and layers not in self.same
        return _UNPUBLISHED.format(self.unpublished.replace("layer", "layer ")) if known else ""


TASKS = {
    "ballroom_extended": Task("ballroom_extended"),
    "gtzan_genre": Task("gtzan_genre"),
    "gtzan_speechmusic": Task("gtzan_speechmusic"),
    "emoMusic_a": Task("emoMusic", "label_arousal"),
    "emoMusic_v": Task("emoMusic", "label_valence"),
    "jamendo_vd": Task("jamendo_vd", unpublished="layer5", same=(LAYERS,)),
    "urbansound": Task("urbansound", unpublished="layer5"),
}
NAMES = ("all", *TASKS, "emoMusic")  # what `find_tasks` knows


def find_tasks(repository: Path, name: str) -> list[str]:
    """The label sets of the task `name` (`emoMusic` has two); for 'all' those of every task with a table in the folder.

    Raises:
        InputError: not a folder of the repository, an unknown task, or none in the folder.
    """
    for folder in ("data_csv", "data_feats", "result_transfer"):
        if not (repository / folder).is_dir():
            raise InputError(
                f"{repository}: has no {folder}/; expected a copy of https://github.com/keunwoochoi/transfer_learning_music"
            )
    if name != "all":
        found = [task for task, about in TASKS.items() if name in (task, about.files)]
        if not found:
            raise unknown("task", name, NAMES)
        return found
    found = [task for task, about in TASKS.items() if (repository / "data_csv" / f"{about.files}.csv").is_file()]
    if not found:
        raise InputError(f"{repository / 'data_csv'}: holds no task's table; expected one of {', '.join(TASKS)}")
    return found


def read_task(repository: Path, task: str) -> FeatureTable:
    """The published features of a task, `layer1` ... `layer5` (clips, 32) and `mfcc` (clips, 120), and its labels.

    Folds and splits are the task's own where its table has the columns `fold` or `category`.

    Raises:
        InputError: a file is missing or is not what the authors published.
    """
    about = TASKS[task]
    table_path = repository / "data_csv" / f"{about.files}.csv"
    if not table_path.is_file():
        raise InputError(f"{table_path}: does not exist; {task} needs it")
    rows = read_table(table_path, ["filepath", about.labels])
    if not rows:
        raise InputError(f"{table_path}: has no clips")
    folds, splits = np.full(len(rows), -1), np.full(len(rows), "", dtype="<U10")
    texts, labels = [], []
    for number, (where, row) in enumerate(rows):
        texts.append(row[about.labels])
        labels.append(_number(row[about.labels], where, about.labels))
        if "fold" in row:
            folds[number] = _number(row["fold"], where, "fold")
        if "category" in row:
            if row["category"] not in _SPLITS:
                raise InputError(f"{where}: category is {row['category']!r}; expected {', '.join(_SPLITS)}")
            splits[number] = _SPLITS[row["category"]]
    if about.labels == "label":
        label_names = sorted(set(texts), key=int)
        labels = np.array([label_names.index(text) for text in texts])
    else:
        label_names, labels = [], np.array(labels, dtype=np.float64)
    files = {layer: f"{about.files}_layer_{number}.npy" for number, layer in enumerate(LAYERS)}
    files[MFCC] = f"{about.files}_mfcc.npy"
    layers = {layer: _features(repository / "data_feats" / file, len(rows)) for layer, file in files.items()}
    clip_ids = np.array([row["filepath"] for _, row in rows])
    return FeatureTable(layers, clip_ids, labels, label_names, folds, splits)


def _number(text, where, column):
    if column.startswith("label_"):
        return read_number(text, column, where)
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{where}: {column} is {text!r}; expected a whole number") from None


def _features(path, n_clips):
    values = _load(path)
    if values.ndim != 2 or len(values) != n_clips or not values.size or values.dtype.kind != "f":
        raise InputError(
            f"{path}: is {values.dtype} {values.shape}; expected float ({n_clips}, channels), a row a clip; "
            "get the file again"
        )
    if not np.isfinite(values).all():
        raise InputError(f"{path}: holds NaN or infinite values; get the file again")
    return values


def _load(path):
    if not path.is_file():
        raise InputError(f"{path}: does not exist; expected a file of the authors' repository")
    try:
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)  # np.load takes archives, too
    except Exception as error:  # from a damaged header nearly any
        raise InputError(f"{path}: not an array file (.npy); get the file again") from error


def published_scores(repository: Path, task: str) -> dict[Combination, float]:
    """Combination of layers -> published score, accuracy or r2; fewest layers first, MFCC and MFCC + all layers last.

    Raises:
        InputError: there are none, or a file does not hold one number.
    """
    pattern = re.compile(rf"T_{task}_F_(mine_[0-4]+|mfcc_4|mfcc\+12345_4)_CL_SV[CR]\.npy")
    scores = {}
    for path in (repository / "result_transfer").iterdir():
        match = pattern.fullmatch(path.name)
        if match:
            score = _load(path)
            if score.size != 1 or score.dtype.kind not in "fiu" or not np.isfinite(score).all():
                what = score.item() if score.size == 1 else f"{score.dtype} {score.shape}"
                raise InputError(f"{path}: is {what}; expected one finite number; get the file again")
            scores[_combination(match[1])] = float(score.item())
    if not scores:
        raise InputError(
            f"{repository / 'result_transfer'}: holds no scores of {task}; expected T_{task}_F_..._CL_....npy"
        )
    order = sorted(scores, key=lambda layers: (MFCC in layers, len(layers), layers))
    return {layers: scores[layers] for layers in order}


def _combination(feature):
    """`mine_024` -> layers 1, 3 and 5; `mfcc_4` -> MFCC; `mfcc+12345_4` -> MFCC and all layers."""
    name, _, numbers = feature.partition("_")
    if name == "mine":
        return tuple(LAYERS[int(number)] for number in numbers)
    return (MFCC, *LAYERS) if name.startswith("mfcc+") else (MFCC,)
