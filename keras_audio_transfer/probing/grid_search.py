"""Every point of the SVM grid, for many combinations of layers at once, without fitting what cannot win.

Scores equal those of scikit-learn's `GridSearchCV` with `SVC` or `SVR`. Without TensorFlow.
"""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np
from threadpoolctl import ThreadpoolController

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.probing.calibration import PairValues
from keras_audio_transfer.probing.cross_validation import Part
from keras_audio_transfer.probing.layer_selection import Combination
from keras_audio_transfer.probing.layer_weights import CHANNELS, CHOSEN, EQUAL
from keras_audio_transfer.probing.precomputed_kernels import PAIR_VALUES, PREDICT, GramMatrices, SVMParams, predictions
from keras_audio_transfer.probing.precomputed_kernels import score as score_of

# Choi et al. 2017, section 3.2, in the order in which scikit-learn's GridSearchCV tries them: the first of equals wins.
C = [0.1, 2.0, 8.0, 32.0]
GAMMA = [2.0**-3, 2.0**-5, 2.0**-7, 2.0**-9, 2.0**-11, 2.0**-13, "auto"]
GRID = [*(SVMParams("rbf", c, gamma) for c in C for gamma in GAMMA), *(SVMParams("linear", c) for c in C)]


def grid_of(layer_weights: str) -> list[SVMParams]:
    """The points that are tried: for 'chosen' the grid with channels that count alike, then with layers that do."""
    kinds = (CHANNELS, EQUAL) if layer_weights == CHOSEN else (layer_weights,)
    return [point._replace(layer_weights=kind) for kind in kinds for point in GRID]


# From a part, and combinations with points of the grid, to the scores of each.
Elsewhere = Callable[[Part, Sequence[tuple[Combination, Sequence[int]]]], Iterator[list[float]]]


@dataclass
class GridSearch:
    """The scores of SVMs on combinations of layers.

    Attributes:
        features: with one label a clip, or a number.
        scale: whether channels are brought to mean 0 and standard deviation 1 over the clips that are fitted on.
        layer_weights: 'channels', 'equal' or 'chosen': how much each layer counts, see `layer_weights.layer_factors`.
        n_jobs: combinations that are worked on at a time, in threads.
        record: where every part's scores are kept, and found again; a `resume.Journal` to survive being killed.
        step: called after each combination in each part.
        elsewhere: computes scores on other machines; see `scores_on_worker`, which it calls there. None: here.
    """

    features: FeatureTable
    scale: bool
    layer_weights: str = CHANNELS
    n_jobs: int = 1
    record: MutableMapping[str, list[float]] = field(default_factory=dict)
    step: Callable[[], object] = lambda: None
    elsewhere: Elsewhere | None = None

    def __post_init__(self):
        self._grid = grid_of(self.layer_weights)
        self._products = GramMatrices(self.features.layers, self.scale)
        self._threads = ThreadpoolController()  # once: it looks through all libraries of the process

    def clear(self) -> None:
        """Forget the inner products: other clips are fitted on from here."""
        self._products.clear()

    def best(
        self,
        parts: Sequence[Part],
        combinations: Sequence[Combination],
        weights: Sequence[float] | None = None,
        only_the_best: bool = False,
    ) -> Iterator[tuple[Combination, SVMParams, np.ndarray]]:
        """Each combination's best parameters and their scores (parts,), as soon as its last part is done.

        First all points are scored on the first part, then the best of them on the others. Then the other points, part
        by part, the hardest first, but only while they could still overtake it: were they right on all that they have
        not seen. What is left out cannot be the best.

        Args:
            parts: what is fitted on and scored.
            combinations: of layers.
            weights: of the parts in the mean that decides; None for equal ones.
            only_the_best: whether only the best of the combinations is wanted. Then points have to overtake the first
                part's best of all combinations. Where none of a combination's can, it has the scores of one of its
                points, not always its best; they are below those of the best combination.
        """
        weights = np.ones(len(parts)) if weights is None else np.asarray(weights, dtype=float)
        everything = range(len(self._grid))
        tables = {layers: np.full((len(self._grid), len(parts)), np.nan) for layers in combinations}
        for layers, scores in self._scores(parts[0], dict.fromkeys(combinations, everything)):
            tables[layers][:, 0] = scores
        leaders = {layers: [int(tables[layers][:, 0].argmax())] for layers in combinations}
        for number, part in enumerate(parts[1:], 1):
            for layers, scores in self._scores(part, leaders):
                tables[layers][leaders[layers], number] = scores
        of_leaders = np.array([tables[layers][leader[0]] for layers, leader in leaders.items()])
        means, totals = of_leaders.mean(axis=0), of_leaders @ weights
        to_reach = dict(zip(combinations, np.full_like(totals, totals.max()) if only_the_best else totals, strict=True))
        known, rest = [0], sorted(range(1, len(parts)), key=lambda number: means[number])
        for number in rest:
            work = {
                layers: _contenders(tables[layers], leaders[layers][0], known, weights, to_reach[layers])
                for layers in combinations
            }
            for layers, scores in self._scores(parts[number], work, more=True):
                tables[layers][work[layers], number] = scores
                if number == rest[-1]:
                    yield layers, *self._best_point(tables[layers], weights)
            known.append(number)
        if not rest:
            yield from ((layers, *self._best_point(tables[layers], weights)) for layers in combinations)

    def scores_at(self, part: Part, params: Mapping[Combination, SVMParams]) -> Iterator[tuple[Combination, float]]:
        """Each combination's score on a part with the parameters that were chosen for it."""
        points = {layers: [self._grid.index(chosen)] for layers, chosen in params.items()}
        for layers, (score,) in self._scores(part, points):
            yield layers, score

    def predict(self, part: Part, layers: Combination, params: SVMParams) -> np.ndarray:
        """What the SVM with these parameters says of the part's clips to score, (n_score,)."""
        return self._answer(part, layers, params, PREDICT)

    def pair_values(self, part: Part, layers: Combination, params: SVMParams) -> PairValues:
        """The decision values of the SVM with these parameters, for the part's clips to score; of classes only."""
        return self._answer(part, layers, params, PAIR_VALUES)

    def _answer(self, part, layers, params, wanted):
        self._products.hold(*part, layers)
        ((_, answer),) = self._predictions(part, layers, [params], wanted)
        return answer

    def joined(self, part: Part, layers: Combination, params: SVMParams) -> tuple[np.ndarray, np.ndarray]:
        """What the SVM is fitted on and scores, scaled and weighted: (n_fit, channels), (n_score, channels)."""
        self._products.hold(*part, ())
        factors = self._products.factors(layers, params.layer_weights)
        return self._products.features(part.name, layers, factors)

    def _best_point(self, table, weights):
        """The first of the points with the highest mean over the parts, and its scores."""
        means = np.average(table, axis=1, weights=weights)  # of the rows as GridSearchCV's, to the last bit
        best = int(np.nan_to_num(means, nan=-np.inf).argmax())
        return self._grid[best], table[best]

    def _scores(self, part, points: Mapping[Combination, Sequence[int]], more=False):
        """Each combination's scores at its points of the grid; those on record are not computed again."""
        keys = {
            layers: f"{part.name}{_others(points[layers]) if more else ''}: {'+'.join(layers)}" for layers in points
        }
        missing = [layers for layers in points if len(points[layers]) and keys[layers] not in self.record]
        computed = self.elsewhere and self.elsewhere(part, [(layers, [*points[layers]]) for layers in missing])

        def scores(layers):
            if layers in missing:
                here = computed is None
                found = self.fitted_scores(part, layers, points[layers]) if here else next(computed)
                self.record[keys[layers]] = found
            self.step()
            on_record = self.record[keys[layers]] if len(points[layers]) else []
            if len(on_record) != len(points[layers]):
                found = f"{len(on_record)} scores of {keys[layers]!r}; expected {len(points[layers])}"
                raise InputError(f"the record of an unfinished run is damaged: {found}; remove unfinished.jsonl")
            return layers, np.array(on_record)

        if computed is not None:
            yield from map(scores, points)
            return
        # Each combination has its thread; more of them for its small matrices would cost more than they gain.
        with self._threads.limit(limits=1), ThreadPoolExecutor(self.n_jobs) as pool:
            self._products.hold(*part, (layer for layers in missing for layer in layers))
            yield from pool.map(scores, points)

    def fitted_scores(self, part: Part, layers: Combination, points: Sequence[int]) -> list[float]:
        """The scores of SVMs with these points of the grid."""
        expected, result = self.features.labels[part.score], [0.0] * len(points)
        for number, predicted in self._predictions(part, layers, [self._grid[number] for number in points]):
            result[number] = float(score_of(expected, predicted))
        return result

    def _predictions(self, part, layers, params, wanted=PREDICT):
        """(number, what is wanted of the SVM with these of the params), in any order."""
        labels, n_features = self.features.labels[part.fit], self._products.n_features(layers)
        by_factors = {}  # one layer is the same however layers are weighted, and is fitted once
        for number, point in enumerate(params):
            by_factors.setdefault(self._products.factors(layers, point.layer_weights), []).append(number)
        for factors, numbers in by_factors.items():
            products = self._products.sums(part.name, layers, factors)
            features = partial(self._products.features, part.name, layers, factors)
            points = [params[number] for number in numbers]
            for number, predicted in predictions(products, features, n_features, labels, points, wanted):
                yield numbers[number], predicted


def scores_on_worker(
    load: Callable[..., FeatureTable],
    paths: tuple,
    scale: bool,
    layer_weights: str,
    part: Part,
    work: Sequence[tuple[Combination, Sequence[int]]],
) -> Iterator[list[float]]:
    """What `Elsewhere` gives, in a process that is asked again and again, and keeps the last features.

    Args:
        load: from `paths` to the features.
        paths: where they lie, and whatever else tells them from others.
        scale, layer_weights: of `GridSearch`.
        part, work: see `Elsewhere`.
    """
    search = _kept_search(load, paths, scale, layer_weights)
    with ThreadpoolController().limit(limits=1):
        for layers, points in work:
            search._products.hold(*part, layers)
            yield search.fitted_scores(part, layers, points)


@lru_cache(maxsize=1)
def _kept_search(load, paths, scale, layer_weights):
    return GridSearch(load(*paths), scale, layer_weights)


def _others(points):
    """Names points in the record: which ones are left depends on what is asked for."""
    return f", others {sum(1 << int(number) for number in points):x}"


def _contenders(table, leader, known, weights, to_reach):
    """The points but the leader that can still reach a sum over all parts; their scores in the `known` are known."""
    unknown = weights.sum() - weights[known].sum()
    possible = table[:, known] @ weights[known] + unknown >= to_reach - 1e-9  # not NaN: given up before
    possible[leader] = False
    return np.flatnonzero(possible)
