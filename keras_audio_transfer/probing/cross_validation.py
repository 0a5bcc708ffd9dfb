"""Which clips an SVM is fitted on, chosen by and scored on: the data set's own evaluation. Without TensorFlow."""

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from keras_audio_transfer.datasets import stratified_group_folds
from keras_audio_transfer.datasets.clip import SPLITS
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.probing.iterative_stratification import iterative_folds

NESTED, CHOI2017 = PROTOCOLS = ("nested", "choi2017")
UNOFFICIAL_FOLDS = {NESTED: 5, CHOI2017: 10}

Rows = np.ndarray  # int64, numbers of clips


class Part(NamedTuple):
    """A name, the clips to fit on and the clips to score."""

    name: str
    fit: Rows
    score: Rows


@dataclass(frozen=True)
class Fold:
    """One score that is reported: the clips to fit on and to score, and the parts of the former that choose for it."""

    outer: Part
    inner: tuple[Part, ...] = ()

    @property
    def name(self) -> str:
        """The column of its score, such as 'fold_1' or 'test'."""
        return self.outer.name


def outer_folds(
    features: FeatureTable, seed: int = 0, protocol: str = NESTED, several_labels: bool = False
) -> tuple[list[Fold], str]:
    """The data set's own evaluation, and a sentence that describes it.

    With splits: fit on train and validation, score on test. With folds: each fold scored once. With neither:
    k-fold, stratified by class unless the labels are numbers; clips of one group stay together. Clips that may have
    `several_labels` are divided by `iterative_folds`, under the nested protocol only.

    Nested: parameters are chosen inside each outer fold, on the validation split where there is one, on each other fold
    in turn where there are three or more, and otherwise by cross-validation of the clips to fit on; without folds there
    are five, shuffled by the seed. As in Choi et al. 2017: parameters are chosen on the scores that are reported;
    without folds there are ten, unshuffled.

    Raises:
        InputError: labels missing, several a clip unless those are expected, or too few; a split without train or test
            clips; folds as in 2017 that would divide a group.
    """
    _check_labels(features, several_labels)
    folds, description = (_nested_folds if protocol == NESTED else _choi2017_folds)(features, seed)
    for fold in folds:
        for part in (fold.outer, *fold.inner):
            _check_part(features, fold.name, part)
    if features.labels.ndim == 2:
        for name, parts in (*((fold.name, fold.inner) for fold in folds), ("the model", final_parts(features, seed))):
            rows = np.concatenate([part.score for part in parts])
            _check_both(features, rows, f"{name} leaves to choose by")
    return folds, description


def final_parts(features: FeatureTable, seed: int = 0) -> list[Part]:
    """The parts that choose an SVM for use, which is then fitted on all clips.

    Each fold, and of splits validation and test, is scored by an SVM fitted on all the others. With neither: as many
    folds as for choosing inside an outer fold, shuffled by the seed.
    """
    everything = np.arange(len(features.labels))
    if (features.splits != "").any():
        held_out = [features.splits == split for split in SPLITS[1:] if (features.splits == split).any()]
    elif (features.folds >= 0).any():
        held_out = [features.folds == fold for fold in np.unique(features.folds)]
    else:
        return [*_shuffled_parts(features, everything, "all clips", seed, fewer=True)]
    return [
        Part(f"all clips, {number}", everything[~scored], everything[scored])
        for number, scored in enumerate(held_out, 1)
    ]


def _check_part(features, fold_name, part):
    if features.labels.ndim == 2:
        _check_both(features, part.fit, f"{fold_name} leaves to fit on")
    elif features.is_regression:
        if len(part.fit) < 2 or len(part.score) < 2:
            raise InputError(f"labels: {fold_name} leaves fewer than two clips to fit on or to score; add clips")
    elif len(np.unique(features.labels[part.fit])) < 2:
        raise InputError(f"labels: {fold_name} leaves one class to fit on; expected at least two classes in every part")


def _check_both(features, rows, which):
    """Of each of several labels there have to be clips with and without it."""
    for name, share in zip(features.label_names, features.labels[rows].mean(axis=0), strict=True):
        if share in (0, 1):
            what = "none has" if share == 0 else "all have"
            raise InputError(
                f"labels: of the clips that {which} {what} {name!r}; expected some with and some without it; add "
                "clips, or leave the label out"
            )


def _check_groups(features, parts):
    for part in parts if features.groups is not None else ():
        both = np.intersect1d(features.groups[part.fit], features.groups[part.score])
        for group in both[both != ""].tolist():
            raise InputError(
                f"groups: the folds of 2017 divide {group!r}, which would be scored on itself; use the protocol nested"
            )


def _check_labels(features, several_labels):
    labels = features.labels
    if labels.ndim != 1 and features.is_regression:
        targets = ", ".join(features.label_names)
        raise InputError(f"labels: the file has several numbers a clip; name one as `target`: {targets}")
    if labels.ndim != 1 and not several_labels:
        raise InputError("labels: the clips carry several labels each; a probe needs one label a clip")
    if not len(labels):
        raise InputError("labels: there are no clips; a probe needs some to fit on and some to score")
    if features.is_regression:
        if (labels == labels[0]).all():
            raise InputError(f"labels: every clip's is {labels[0]:g}; expected different numbers")
        return
    if labels.ndim == 2:
        return
    if (labels < 0).any():
        clip = features.clip_ids[labels < 0][0]
        raise InputError(f"labels: {clip} has none; extract a data set, such as 'folder', or give labels")
    if (labels == labels[0]).all():
        name = features.label_names[labels[0]]
        raise InputError(f"labels: every clip is {name!r}; expected at least two classes")


def _nested_folds(features, seed):
    chosen_inside = partial(_shuffled_parts, features, seed=seed, fewer=True)
    official = _official(features)
    if official is None:
        shuffled = _shuffled_parts(features, np.arange(len(features.labels)), "fold", seed)
        kind = "" if features.is_regression else "stratified "
        whole = "" if features.groups is None else ", which divide no group"
        folds = f"{kind}{len(shuffled)}-fold (seed {seed}){whole}"
        description = f"no official folds: {folds}, parameters chosen inside each"
        parts = [part._replace(name=part.name.replace(", ", "_")) for part in shuffled]
        return [Fold(part, chosen_inside(part.fit, part.name)) for part in parts], description
    if len(official) == 1:
        (part,) = official
        validation = features.splits[part.fit] == "validation"
        if validation.any() and not validation.all():
            inner = (Part(f"{part.name}, 1", part.fit[~validation], part.fit[validation]),)
            return [Fold(part, inner)], "official splits, parameters chosen on the validation split"
        description = "official splits, parameters chosen by cross-validation in the training split"
        return [Fold(part, chosen_inside(part.fit, part.name))], description
    folds = []
    for part in official:
        fold_of = features.folds[part.fit]
        inner = tuple(
            Part(f"{part.name}, {number}", part.fit[fold_of != fold], part.fit[fold_of == fold])
            for number, fold in enumerate(np.unique(fold_of), 1)
        )
        folds.append(Fold(part, inner if len(inner) > 1 else chosen_inside(part.fit, part.name)))
    return folds, f"{len(folds)} official folds, parameters chosen inside each training part"


def _choi2017_folds(features, seed):
    official = _official(features)
    if official is None:
        official = _official(replace(features, folds=folds_of_2017(features)))
        _check_groups(features, official)
        kind = "" if features.is_regression else "stratified "
        description = f"no official folds: {kind}{len(official)}-fold, unshuffled"
    else:
        description = "official splits" if len(official) == 1 else f"{len(official)} official folds"
    warning = "as in Choi et al. 2017, parameters were chosen on the reported folds: optimistic"
    return [Fold(part) for part in official], f"{description}; {warning}"


def _official(features):
    """The parts that the data set's authors score, None where there are neither splits nor folds."""
    everything = np.arange(len(features.labels))
    for split in np.setdiff1d(features.splits, ["", *SPLITS]).tolist():
        raise InputError(f"splits: {split!r} is unknown; expected {', '.join(SPLITS)}")
    if (features.splits != "").any():
        if (features.splits == "").any():
            raise InputError(f"splits: {(features.splits == '').sum()} clips have none; give every clip one")
        fit = everything[np.isin(features.splits, ["train", "validation"])]
        score = everything[features.splits == "test"]
        if not len(fit) or not len(score):
            raise InputError(f"splits: {len(fit)} clips to fit on and {len(score)} to score on; expected some of each")
        return [Part("test", fit, score)]
    if (features.folds >= 0).any():
        folds = np.unique(features.folds)
        if folds[0] < 0 or len(folds) < 2:
            raise InputError(f"folds: found {', '.join(map(str, folds))}; expected two or more, and one for every clip")
        return [
            Part(f"fold_{fold}", everything[features.folds != fold], everything[features.folds == fold])
            for fold in folds
        ]
    return None


def _shuffled_parts(features, rows, name, seed, fewer=False):
    """Five folds of these clips; as few as two, if `fewer` are allowed, where a class has fewer clips."""
    from sklearn.model_selection import KFold, StratifiedKFold  # takes a second to import

    labels, n_folds = features.labels[rows], UNOFFICIAL_FOLDS[NESTED]
    if labels.ndim == 2:
        return _parts_of_several_labels(features, rows, name, seed, fewer)
    if features.groups is not None:
        return _grouped_parts(features, rows, name, seed, fewer)
    if features.is_regression:
        splitter = KFold
        n_folds = min(n_folds, len(rows) // 2) if fewer else n_folds
    else:
        splitter = StratifiedKFold
        n_folds = max(2, min(n_folds, np.unique(labels, return_counts=True)[1].min())) if fewer else n_folds
    _check_enough(features, labels, n_folds)
    pairs = splitter(n_folds, shuffle=True, random_state=seed).split(rows, labels)
    return tuple(Part(f"{name}, {number}", rows[fit], rows[score]) for number, (fit, score) in enumerate(pairs, 1))


def _grouped_parts(features, rows, name, seed, fewer):
    """As `_shuffled_parts`, but no group is divided."""
    from sklearn.model_selection import KFold

    labels, n_folds, groups = features.labels[rows], UNOFFICIAL_FOLDS[NESTED], groups_of(features, rows)
    classes = [np.full(len(rows), True)] if features.is_regression else [labels == c for c in np.unique(labels)]
    smallest = min(classes, key=lambda of_class: len(np.unique(groups[of_class])))
    n_groups = len(np.unique(groups[smallest]))
    n_folds = max(2, min(n_folds, n_groups)) if fewer else n_folds
    if n_groups < n_folds:
        _refuse_groups(features, rows[smallest], n_groups, n_folds)
    if features.is_regression:
        parts = KFold(n_folds, shuffle=True, random_state=seed).split(np.unique(groups))
        pairs = [(np.flatnonzero(np.isin(groups, fit)), np.flatnonzero(np.isin(groups, score))) for fit, score in parts]
    else:
        pairs = stratified_group_folds(labels, groups, n_folds, seed)
    return tuple(Part(f"{name}, {number}", rows[fit], rows[score]) for number, (fit, score) in enumerate(pairs, 1))


def _parts_of_several_labels(features, rows, name, seed, fewer):
    """As `_grouped_parts`, of clips with several labels; a clip without a group is one."""
    labels, n_folds, groups = features.labels[rows], UNOFFICIAL_FOLDS[NESTED], groups_of(features, rows)
    n_groups = [len(np.unique(groups[of_label == 1])) for of_label in labels.T]
    n_folds = max(2, min(n_folds, *n_groups)) if fewer else n_folds
    if min(n_groups) < n_folds:
        label, number = features.label_names[np.argmin(n_groups)], min(n_groups)
        what = "clips" if features.groups is None else "groups of clips"
        raise InputError(
            f"labels: {what} with {label!r}: {number}, and {n_folds}-fold cross-validation needs {n_folds}; add some, "
            "or leave the label out"
        )
    folds = iterative_folds(labels, groups, n_folds, seed)
    return tuple(Part(f"{name}, {fold + 1}", rows[folds != fold], rows[folds == fold]) for fold in range(n_folds))


def groups_of(features: FeatureTable, rows: Rows) -> np.ndarray:
    """The number of each clip's group, from 0, int64 (rows,); a clip without one has its own."""
    groups = np.full(len(rows), "") if features.groups is None else features.groups[rows]
    own = [f"{group}" or f"\0{row}" for group, row in zip(groups, rows, strict=True)]
    return np.unique(own, return_inverse=True)[1]


def _refuse_groups(features, rows, n_groups, n_folds):
    """Say which class, or of numbers that all clips, are of too few groups."""
    whose, remedy = "the clips are", "add recordings, or make the groups smaller"
    if not features.is_regression:
        whose = f"class {features.label_names[features.labels[rows[0]]]!r} is"
        remedy = "add recordings, make the groups smaller, or leave the class out"
    few = "one group" if n_groups == 1 else f"{n_groups} groups"
    names = dict.fromkeys(f"{features.groups[row]}" or f"{features.clip_ids[row]}" for row in rows)
    folds = f"{n_folds} folds that divide none need {n_folds}"
    raise InputError(f"groups: {whose} of {few} only ({', '.join(names)}), and {folds}; {remedy}")


def folds_of_2017(features: FeatureTable) -> np.ndarray:
    """Ten folds of consecutive clips, of each class as many as of all: each clip's fold, 1 to 10, int64 (clips,).

    As scikit-learn up to 0.21 divided them, with which the paper's scores were computed: each class is cut as the whole
    of a regression data set is, so that the larger pieces are always the first.

    Raises:
        InputError: fewer clips of a class than folds.
    """
    labels, n_folds = features.labels, UNOFFICIAL_FOLDS[CHOI2017]
    _check_enough(features, labels, n_folds)
    folds = np.empty(len(labels), dtype=np.int64)
    classes = [np.full(len(labels), True)] if features.is_regression else [labels == c for c in np.unique(labels)]
    for of_class in classes:
        for number, piece in enumerate(np.array_split(np.flatnonzero(of_class), n_folds), 1):
            folds[piece] = number
    return folds


def _check_enough(features, labels, n_folds):
    if features.is_regression:
        if len(labels) < 2 * n_folds:
            raise InputError(f"labels: {len(labels)} clips are too few for {n_folds} folds of at least two; add clips")
        return
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < n_folds:
        name, number = features.label_names[classes[counts.argmin()]], counts.min()
        clips = "a single clip" if number == 1 else f"{number} clips"
        raise InputError(
            f"labels: class {name!r} has {clips}, {n_folds}-fold cross-validation needs {n_folds}; add clips or "
            "leave the class out"
        )
