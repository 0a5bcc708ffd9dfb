"""Features -> one-vs-rest SVMs of clips with several labels: chosen, scored and fitted. Without TensorFlow."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.layer_names import check_joinable
from keras_audio_transfer.probing import label_thresholds
from keras_audio_transfer.probing.cross_validation import Part, final_parts, outer_folds
from keras_audio_transfer.probing.grid_search import grid_of
from keras_audio_transfer.probing.label_thresholds import LabelCalibration
from keras_audio_transfer.probing.layer_selection import Combination, all_single_or_all, single_or_all
from keras_audio_transfer.probing.layer_weights import CHANNELS
from keras_audio_transfer.probing.precomputed_kernels import PAIR_VALUES, GramMatrices, SVMParams, predictions
from keras_audio_transfer.probing.prober import fit_svm, one_thread


class HeldOutLabels(NamedTuple):
    """What was said of clips by SVMs that were fitted and chosen without them.

    Attributes:
        rows: the clips' places in the table of features, (n_scored,).
        folds: the name of the part that scored each, (n_scored,).
        values: decision values, float64 (n_scored, labels).
        probabilities: (n_scored, labels), calibrated on clips of the parts that were fitted on.
        predicted: 0 or 1, (n_scored, labels), by thresholds that were chosen there, too.
        chosen: fold -> the layers and the parameters of its SVMs.
    """

    rows: np.ndarray
    folds: np.ndarray
    values: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
    chosen: dict[str, tuple[Combination, SVMParams]]


class LabelProbe(NamedTuple):
    """One SVM a label, fitted on all clips.

    Attributes:
        layers: whose features it takes, concatenated in this order.
        params: the same for all labels.
        scaler: as `prober.fit_svm` returns it.
        svms: one a label, whose class 1 is the label.
        calibration: from clips that were held out.
    """

    layers: Combination
    params: SVMParams
    scaler: StandardScaler
    svms: list[SVC]
    calibration: LabelCalibration


@dataclass
class MultiLabelProber:
    """One-vs-rest SVMs on layers of features, whose layers and parameters are the same for all labels.

    Each layer alone and all layers of a source are tried, with `GRID` of `grid_search` but for its fixed gammas: what
    has the highest mean average precision inside a training part is chosen there.

    Attributes:
        features: with several labels for some clips.
        seed: of folds, where the data set has none of its own.
        n_jobs: combinations of layers that are worked on at a time, in threads.
        layer_weights: see `prober.Prober`.
        step: called after each combination in each part.

    Raises:
        InputError: a layer whose name holds what joins layers, and what `outer_folds` refuses.
    """

    features: FeatureTable
    seed: int = 0
    n_jobs: int = 1
    layer_weights: str = CHANNELS
    step: Callable[[], object] = lambda: None

    def __post_init__(self):
        for name in self.features.layers:
            check_joinable(name, "layers")
        if self.features.labels.ndim == 1:  # of the clips that could be read none has two labels
            labels = np.eye(len(self.features.label_names), dtype=np.int64)[self.features.labels]
            self.features = replace(self.features, labels=labels)
        self.folds, self.description = outer_folds(self.features, self.seed, several_labels=True)
        self.grid = [point for point in grid_of(self.layer_weights) if point.gamma in (None, "auto")]
        self._products = GramMatrices(self.features.layers, scale=True)

    @property
    def n_steps(self) -> int:
        """How often `held_out` and `fit` will call `step`, together."""
        n_parts = sum(len(fold.inner) for fold in self.folds) + len(final_parts(self.features, self.seed))
        return n_parts * len(all_single_or_all([*self.features.layers]))

    @one_thread
    def held_out(self) -> HeldOutLabels:
        """The nested estimate: each fold's clips, by SVMs that were chosen, calibrated and fitted without them."""
        found, chosen = [], {}
        for fold in self.folds:
            layers, params, calibration = self._chosen(fold.inner)
            values = self._values_of(fold.outer, layers, params)
            probabilities = calibration.probabilities(values)
            predicted = (probabilities >= calibration.thresholds).astype(np.int64)
            names = np.full(len(values), fold.name)
            found.append((fold.outer.score, names, values, probabilities, predicted))
            chosen[fold.name] = layers, params
        return HeldOutLabels(*map(np.concatenate, zip(*found, strict=True)), chosen)

    @one_thread
    def fit(self) -> LabelProbe:
        """The SVMs for use: chosen and calibrated on `final_parts`, and fitted on all clips."""
        layers, params, calibration = self._chosen(final_parts(self.features, self.seed))
        of_labels = (replace(self.features, labels=of_label) for of_label in self.features.labels.T)
        scalers, svms = zip(*(fit_svm(features, layers, params) for features in of_labels), strict=True)
        return LabelProbe(layers, params, scalers[0], [*svms], calibration)

    def values_of(self, part: Part, layers: Combination, params: SVMParams) -> np.ndarray:
        """Decision values of the clips to score, by SVMs that are fitted on the others: float64 (n_score, labels)."""
        self._products.clear()
        return self._values_of(part, layers, params)

    def _chosen(self, parts):
        """The layers and the parameters with the highest mean over the parts, and their calibration."""
        self._products.clear()
        best = {}

        def evaluate(combinations):
            scores = np.mean([[*self._scores(part, combinations)] for part in parts], axis=0)
            best.update(zip(combinations, (self.grid[point] for point in scores.argmax(axis=1)), strict=True))
            return dict(zip(combinations, scores.max(axis=1), strict=True))

        layers = single_or_all([*self.features.layers], evaluate)
        values = np.concatenate([self._values_of(part, layers, best[layers]) for part in parts])
        labels = self.features.labels[np.concatenate([part.score for part in parts])]
        return layers, best[layers], label_thresholds.fit(values, labels)

    def _scores(self, part: Part, combinations: Sequence[Combination]) -> Iterator[list[float]]:
        """Each combination's mean average precision at each point of the grid."""
        self._products.hold(*part, self.features.layers)
        expected = self.features.labels[part.score]

        def scores(layers):
            values = self._values(part, layers, self.grid)
            self.step()
            return [np.nanmean(average_precisions(expected, of_point)) for of_point in values]

        with ThreadPoolExecutor(self.n_jobs) as pool:
            yield from pool.map(scores, combinations)

    def _values_of(self, part, layers, params):
        self._products.hold(*part, layers)
        return self._values(part, layers, [params])[0]

    def _values(self, part, layers, points):
        """Decision values, (points, n_score, labels)."""
        result = np.empty((len(points), len(part.score), self.features.labels.shape[1]))
        by_factors = {}
        for number, point in enumerate(points):
            by_factors.setdefault(self._products.factors(layers, point.layer_weights), []).append(number)
        for factors, numbers in by_factors.items():
            products = self._products.sums(part.name, layers, factors)
            features = partial(self._products.features, part.name, layers, factors)
            n_features, tried = self._products.n_features(layers), [points[number] for number in numbers]
            for label, of_label in enumerate(self.features.labels[part.fit].T):
                copies = tuple(map(np.copy, products))  # they are overwritten
                for place, values in predictions(copies, features, n_features, of_label, tried, PAIR_VALUES):
                    # Above 0 for the first of the pair of classes, which is 0.
                    result[numbers[place], :, label] = -values.values[:, 0]
        return result


def average_precisions(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Each label's average precision, (labels,); NaN where no clip has it.

    Args:
        labels: 0 or 1, (clips, labels).
        values: the higher, the more probable, (clips, labels).
    """
    return np.array(
        [
            average_precision_score(expected, found) if expected.any() else np.nan
            for expected, found in zip(labels.T, values.T, strict=True)
        ]
    )
