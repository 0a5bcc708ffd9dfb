"""A cell of a study -> its rows of the table, from features that are there. Without TensorFlow."""

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from keras_audio_transfer.errors import InputError, is_full, readable
from keras_audio_transfer.feature_tables.shards import INDEX
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.probing.layer_selection import greedy, single, thorough
from keras_audio_transfer.study.cells import LAYER, LAYERS, Cell, folds_of
from keras_audio_transfer.study.classifiers import scored
from keras_audio_transfer.study.source_features import place_of
from keras_audio_transfer.study.study_file import ALL, CHOSEN, EVERY, LAST, SINGLE, SVM, Source

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Evaluator:
    """From a cell to what it has of its own in the table; can be sent to another machine.

    Attributes:
        folder: of the study, with its features.
        sources: by their names.
        unusable: (source, pooling, target) -> why there are no features.
        left_out: target -> ids of clips that not every source has features of, so that none is scored on them.
        groups: target -> `common_groups`, so that all sources are fitted and scored on the same clips.
    """

    folder: Path
    sources: Mapping[str, Source]
    unusable: Mapping[tuple[str, str, str], str]
    left_out: Mapping[str, frozenset[str]]
    groups: Mapping[str, Mapping[str, str]]

    def outcomes(self, cells: Iterable[Cell], jobs: int = 1) -> Iterator[tuple[Cell, Rows | str]]:
        """Each cell with its `outcome`, as they end; `jobs` at a time, in threads."""
        with threadpool_limits(1), warnings.catch_warnings():  # one: numbers do not follow what runs beside them
            # Of deviations from centroids, which nothing here uses.
            warnings.filterwarnings("ignore", module="sklearn.neighbors._nearest_centroid")
            pool = ThreadPoolExecutor(jobs)
            try:
                futures = {pool.submit(self.outcome, cell): cell for cell in cells}
                for future in as_completed(futures):
                    yield futures[future], future.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def outcome(self, cell: Cell) -> Rows | str:
        """A row a fold, or why there is none: fold, layers, depth, n_train, n_test, score, chance, n_features, ...

        `chance` is the score of the class that most clips fitted on have; `seconds` the cell's, divided by its folds.
        """
        needed = [(cell.source, cell.pooling), *((floor, "") for floor in cell.features.split("+")[1:])]
        for features in needed:
            if (why := self.unusable.get((*features, cell.target))) is not None:
                return why
        try:
            begin = time.monotonic()
            rows = [*self._rows(cell)]
            seconds = (time.monotonic() - begin) / len(rows)
            return [row | {"seconds": seconds} for row in rows]
        except Exception as error:  # one bad cell never ends a study
            return reason_of(error)

    def table(self, source: str, pooling: str, target: str) -> FeatureTable:
        """A source's features of a target's clips, but for those left out, in the groups that all sources have."""
        place = place_of(self.folder, source, pooling, target)
        table = _loaded(place, (place / INDEX).read_bytes(), self.left_out.get(target, frozenset()))
        groups = self.groups[target]
        of_clips = np.array([groups.get(str(clip), "") for clip in table.clip_ids]) if groups else None
        return replace(table, groups=of_clips)

    def _rows(self, cell: Cell) -> Iterator[dict[str, Any]]:
        features = self.table(cell.source, cell.pooling, cell.target)
        names, (base, _, floor) = tuple(features.layers), cell.features.partition("+")
        method = thorough(names) if cell.classifier == SVM else greedy  # the others take longer to fit
        named = tuple(cell.layer.split("+"))
        layers = {LAST: names[-1:], LAYER: named, LAYERS: named, ALL: names, SINGLE: single, CHOSEN: method}[base]
        if floor:
            features, layers = features.join(self.table(floor, "", cell.target), floor), (*layers, floor)
        has_depth = cell.features in (LAST, LAYER, SINGLE)
        for fold, part in _parts(features, cell):
            for found in scored(part, layers, cell.classifier, cell.seed):
                _, fit, score = found.fold.outer
                yield {
                    "fold": fold or found.fold.name,
                    "layers": "+".join(found.layers),
                    "depth": self.sources[cell.source].depth(*found.layers) if has_depth else None,
                    "n_train": len(fit),
                    "n_test": len(score),
                    "metric": "accuracy",
                    "score": found.score,
                    "chance": chance(part.labels, fit, score),
                    "n_features": sum(part.layers[layer].shape[1] for layer in found.layers),
                    "parameters": found.parameters,
                }


def common_groups(tables: Iterable[FeatureTable]) -> dict[str, str]:
    """The groups of a target's clips, clip -> group: what is one in the table of any source is one for all.

    Copies of a recording are found by what a source hears, which of long clips may be no more than their beginning.
    """
    groups: dict[str, str] = {}
    for table in tables:
        members: dict[str, list[str]] = {}
        for clip, name in zip(table.clip_ids, () if table.groups is None else table.groups, strict=False):
            if name:
                members.setdefault(str(name), []).append(str(clip))
        for name, clips in members.items():
            first, *others = dict.fromkeys(groups[clip] for clip in clips if clip in groups) or [name]
            if others:
                groups = {clip: first if of in others else of for clip, of in groups.items()}
            groups |= dict.fromkeys(clips, first)
    return groups


def chance(labels: np.ndarray, fit: np.ndarray, score: np.ndarray) -> float:
    """The accuracy of always saying the class that most clips fitted on have."""
    return float(np.mean(labels[score] == np.bincount(labels[fit]).argmax()))


def reason_of(error: Exception) -> str:
    """Why there are no features or rows, in one line. Raises the error itself where no space is left."""
    if is_full(error):
        raise error
    first, *_ = readable(f"{error}").splitlines() or [""]
    return first if isinstance(error, InputError) else f"{type(error).__name__}: {first[:200]}"


def _parts(features: FeatureTable, cell: Cell) -> Iterator[tuple[str, FeatureTable]]:
    """The whole table; or of each fold its name, and a table of a subset to fit on and of all clips to score."""
    if cell.clips_a_class == EVERY:
        yield "", features
        return
    for name, fit, score in folds_of(features, cell):
        splits = np.array(["train"] * len(fit) + ["test"] * len(score))
        part = features.with_rows(np.concatenate([fit, score]))
        yield name, replace(part, splits=splits, folds=np.full(len(splits), -1))


@lru_cache(maxsize=8)
def _loaded(place: Path, index: bytes, left_out: frozenset[str]) -> FeatureTable:
    """Read once for many cells; `index` has the checksums of what is read."""
    table = FeatureTable.load(place)
    return table.with_rows(np.flatnonzero([str(clip) not in left_out for clip in table.clip_ids]))
