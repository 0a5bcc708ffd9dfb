"""Which cells a study has, and which clips a cell is fitted on. Without TensorFlow."""

from collections import deque
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.probing.cross_validation import Rows, outer_folds
from keras_audio_transfer.probing.layer_selection import all_combinations
from keras_audio_transfer.study.study_file import ALL, COMBINATIONS, EACH, EVERY, TRAINED, Source, Study, Target

LAYER, LAYERS = "layer", "layers"  # the features of one layer, and of several but not all


@dataclass(frozen=True)
class Cell:
    """One combination of all that a study varies.

    Attributes:
        source, target: their names.
        features: of `study_file.FEATURES`, with 'layer' for 'each', and for 'combinations' this, 'layers' and 'all';
            of a training its strategy, and `MULTISCALE`.
        layer: which, of 'layer' and, joined by '+', of 'layers'; else ''.
        pooling: of the source; '' of a floor and of a training.
        classifier: of `study_file.CLASSIFIERS`; of a training `TRAINED`.
        clips_a_class: a number, or 'all', as a text.
        seed: of the subset, of folds where the target has none of its own, and of a training.
    """

    source: str
    target: str
    features: str
    layer: str
    pooling: str
    classifier: str
    clips_a_class: str
    seed: int

    @property
    def key(self) -> str:
        """Unique, for people: 'yamnet|esc10|all+mfcc|mean|svm|10|1'; of a single layer 'layer:NAME', of several
        'layers:NAME+NAME'; no pooling is '-'.
        """
        features = f"{self.features}:{self.layer}" if self.layer else self.features
        about = self.source, self.target, features, self.pooling or "-", self.classifier, self.clips_a_class, self.seed
        return "|".join(map(str, about))


def cells_of(study: Study, divided: Container[str]) -> list[Cell]:
    """The cells of a study, in the order of its file: target by target, source by source.

    A source has none on the target that it was trained on: it has heard the clips that it would be scored on.

    Args:
        study: what is asked for.
        divided: the targets with folds or splits of their own: what is fitted on the features of all their clips is
            the same for every seed, and has a cell of the first one only.
    """
    return [
        cell
        for target in study.targets.values()
        for source in study.sources.values()
        if source.heard != target.name
        for cell in (*_probes(study, source, target, target.name in divided), *_trainings(study, source, target))
    ]


def _probes(study: Study, source: Source, target: Target, is_divided: bool) -> Iterator[Cell]:
    for pooling, (features, layer), classifier, n_clips in product(
        study.poolings_of(source), dict.fromkeys(_features_of(source)), study.classifiers, target.clips_a_class
    ):
        for seed in study.seeds[:1] if n_clips == EVERY and is_divided else study.seeds:
            yield Cell(source.name, target.name, features, layer, pooling, classifier, str(n_clips), seed)


def _trainings(study: Study, source: Source, target: Target) -> Iterator[Cell]:
    wanted = study.finetuning
    if wanted is None or source.name not in wanted.sources or target.name not in wanted.targets:
        return
    for heard, strategy, n_clips, seed in product(source.inputs, wanted.strategies, wanted.clips_a_class, study.seeds):
        yield Cell(source.name, target.name, f"{strategy}{heard}", "", "", TRAINED, str(n_clips), seed)


def _features_of(source: Source) -> Iterator[tuple[str, str]]:
    if source.card is None:
        yield ALL, ""
        return
    for name in source.features:
        if name == EACH:
            yield from ((LAYER, layer) for layer in source.layers)
        elif name == COMBINATIONS:
            for layers in all_combinations(source.layers):
                is_all = len(layers) > 1 and layers == source.layers
                yield (ALL, "") if is_all else (LAYER if len(layers) == 1 else LAYERS, "+".join(layers))
        else:
            yield name, ""


def folds_of(features: FeatureTable, cell: Cell, last: int = 0) -> Iterator[tuple[str, Rows, Rows]]:
    """The name of each fold, the clips that a cell is fitted on, and those that are scored.

    Args:
        features: of a target, with one label a clip.
        cell: whose number of clips and seed they are.
        last: at most so many folds, the last ones; 0 for all.

    Raises:
        InputError: see `outer_folds` and `subset`.
    """
    for fold in outer_folds(features, cell.seed)[0][-last:]:
        _, fit, score = fold.outer
        if cell.clips_a_class != EVERY:
            fit = subset(features, fit, int(cell.clips_a_class), cell.seed)
        yield fold.name, fit, score


def subset(features: FeatureTable, rows: Rows, clips_a_class: int, seed: int) -> Rows:
    """Some of the clips that a fold fits on: so many of each class. Of one seed a larger subset contains every smaller.

    The groups (recordings, speakers) of a class are taken up two at a time, a clip of each in turn, and the next one
    when one is used up: whole groups as far as they go, and never one alone, because parameters are chosen on another
    group than they are fitted on.

    Args:
        features: with one label a clip.
        rows: the clips to choose from.
        clips_a_class: how many of each class.
        seed: which ones.

    Returns:
        Some of `rows`, in their order.

    Raises:
        InputError: a class has fewer clips than that.
    """
    labels, names = features.labels[rows], features.groups
    groups = [f"\0{row}" if names is None or not names[row] else str(names[row]) for row in rows]
    rng, chosen = np.random.default_rng(seed), []
    order = rng.permutation(len(rows))
    rank = {group: number for number, group in enumerate(dict.fromkeys(groups[place] for place in order))}
    for label in np.unique(labels):
        of_class = [place for place in order if labels[place] == label]
        if len(of_class) < clips_a_class:
            name = features.label_names[label]
            raise InputError(f"class {name!r} has {len(of_class)} clips to fit on; {clips_a_class} were asked for")
        by_group: dict[int, list[int]] = {}
        for place in of_class:
            by_group.setdefault(rank[groups[place]], []).append(place)
        chosen += _two_at_a_time([by_group[number] for number in sorted(by_group)])[:clips_a_class]
    return rows[np.sort(chosen)]


def _two_at_a_time(groups: list[list[int]]) -> list[int]:
    """The members of all groups: of two in turn, and of the next one when one of them is used up."""
    waiting, active, result = deque(map(deque, groups)), deque[deque[int]](), []
    while waiting or active:
        while waiting and len(active) < 2:
            active.append(waiting.popleft())
        group = active.popleft()
        result.append(group.popleft())
        if group:
            active.append(group)
    return result
