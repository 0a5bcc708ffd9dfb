"""Features -> SVM probes: how much of a task each layer, or a combination of layers, knows. Without TensorFlow."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from keras_audio_transfer.errors import unknown
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.intervals import t_half_width, wilson
from keras_audio_transfer.layer_names import check_joinable
from keras_audio_transfer.probing import calibration, familiarity
from keras_audio_transfer.probing.calibration import Calibration
from keras_audio_transfer.probing.cross_validation import CHOI2017, NESTED, PROTOCOLS, Part, final_parts, outer_folds
from keras_audio_transfer.probing.familiarity import Familiarity
from keras_audio_transfer.probing.grid_search import Elsewhere, GridSearch, grid_of
from keras_audio_transfer.probing.layer_selection import METHODS, Combination, n_evaluations
from keras_audio_transfer.probing.layer_weights import CHANNELS, LAYER_WEIGHTS, layer_factors
from keras_audio_transfer.probing.precomputed_kernels import SVMParams, pair_values
from keras_audio_transfer.probing.predictions import HeldOut, confusion

SCALED = {NESTED: True, CHOI2017: False}  # unless asked otherwise
CHOSEN_ON = {NESTED: "training parts", CHOI2017: "reported folds"}
one_thread = threadpool_limits.wrap(limits=1)  # the matrices are small: more threads would wait for one another


class Certainty(NamedTuple):
    """How sure an SVM is of a clip: the probabilities of its classes, and whether it is like any of them."""

    calibration: Calibration
    familiarity: Familiarity


@dataclass
class Prober:
    """Probes of one task under one protocol.

    Attributes:
        features: with one label a clip, or a number.
        protocol: 'nested' or 'choi2017'; see `cross_validation.outer_folds`.
        scale: whether channels are brought to mean 0 and standard deviation 1 over the clips that are fitted on; None
            for the protocol's default (nested: yes; choi2017: no).
        seed: of shuffled folds, where the data set has none of its own.
        n_jobs: combinations that are worked on at a time, in threads.
        layer_weights: how much each layer counts where layers are joined: 'channels' (in proportion to its channels),
            'equal' (each alike), or 'chosen' (the one of the two that does better where parameters are chosen); see
            `layer_weights.layer_factors`.
        record: where every part's scores are kept, and found again; a `resume.Journal` to survive being killed.
        step: called after each combination in each part; and, with their number, for those that a method left out.
        elsewhere: see `GridSearch`.

    Raises:
        InputError: an unknown protocol or an unknown choice of `layer_weights`, a layer whose name holds what joins
            layers (`+`, `; `), and what `outer_folds` refuses.
    """

    features: FeatureTable
    protocol: str = NESTED
    scale: bool | None = None
    seed: int = 0
    n_jobs: int = 1
    layer_weights: str = CHANNELS
    record: MutableMapping[str, list[float]] | None = None
    step: Callable[..., object] = lambda number=1: None
    elsewhere: Elsewhere | None = None

    def __post_init__(self):
        if self.protocol not in PROTOCOLS:
            raise unknown("protocol", self.protocol, PROTOCOLS)
        if self.layer_weights not in LAYER_WEIGHTS:
            raise unknown("layer_weights", self.layer_weights, LAYER_WEIGHTS)
        for name in self.features.layers:
            check_joinable(name, "layers")
        self.outer_folds, self.description = outer_folds(self.features, self.seed, self.protocol)
        self.scale = SCALED[self.protocol] if self.scale is None else self.scale
        self.record = {} if self.record is None else self.record
        self._last_search = None
        self._certainties = {}  # of each outer fold's SVM: `held_out` and `unheard` want the same

    def n_steps(self, wanted: Sequence[Combination] | Callable) -> int:
        """How many combinations `step` will be told of."""
        listed = not callable(wanted)
        number = len(wanted) if listed else n_evaluations(wanted, [*self.features.layers])
        if self.protocol == CHOI2017:
            return number * (2 * len(self.outer_folds) - 1)
        return sum(number * (2 * len(fold.inner) - 1) + (len(wanted) if listed else 1) for fold in self.outer_folds)

    def n_steps_to_choose(self, method: Callable) -> int:
        """The same, of `choose`."""
        number = n_evaluations(method, [*self.features.layers])
        return number * (2 * len(final_parts(self.features, self.seed)) - 1)

    def choose(self, method: Callable) -> tuple[Combination, SVMParams]:
        """The layers and parameters of an SVM for use, chosen on all clips: see `cross_validation.final_parts`.

        The score by which they were chosen is optimistic and not returned; `rows` with the nested protocol tells how
        good such a choice is.
        """
        chosen, params, _ = self._select(self._search(), method, final_parts(self.features, self.seed))
        return chosen, params

    def rows(self, wanted: Sequence[Combination] | Callable) -> Iterator[dict]:
        """Fit and score SVMs.

        The parts come one after the other, so that a part's inner products are computed once for all combinations.

        Args:
            wanted: combinations of `features.layers`, each the concatenation of its layers' features; or a method of
                `layer_selection`, which chooses one where parameters are chosen.

        Yields:
            One row a combination, as soon as it has its last score: layers (joined by '+'; the name of a method),
            n_features (channels, whatever they weigh), metric ('accuracy' or 'r2'), score, deviation (standard
            deviation over the folds, n - 1; NaN for one fold), interval_low and interval_high (95 %, Student's t over
            the folds, which it takes for independent; of one fold Wilson's over its clips, NaN for r2; never beyond the
            metric's ends), chance (score of always predicting the most frequent class of all clips; of r2 the mean of
            the clips fitted on), chosen_on ('training parts' or 'reported folds'), parameters (those chosen, one a fold
            if nested), for a method chosen (the combinations it chose, most frequent first) and chosen_by_round (in the
            order of the parameters), and each fold's score under its name. `score` is the mean over the folds; under
            'choi2017', as scikit-learn computed it then, weighted by the folds' clips.
        """
        if callable(wanted):
            yield self._selected(wanted)
        elif self.protocol == NESTED:
            yield from self._nested(wanted)
        else:
            for layers, params, scores in self._search().best(self._reported(), wanted, self._sizes()):
                yield self._row("+".join(layers), [layers], scores, [params])

    def _search(self):
        """A fresh search; one at a time, because each keeps inner products."""
        if self._last_search is not None:
            self._last_search.clear()
        self._last_search = GridSearch(
            self.features, self.scale, self.layer_weights, self.n_jobs, self.record, self.step, self.elsewhere
        )
        return self._last_search

    def _reported(self):
        return [fold.outer for fold in self.outer_folds]

    def _sizes(self):
        return [len(fold.outer.score) for fold in self.outer_folds]

    def _nested(self, combinations):
        results = {layers: [] for layers in combinations}
        for fold in self.outer_folds:
            search = self._search()
            chosen = {layers: params for layers, params, _ in search.best(fold.inner, combinations)}
            for layers, score in search.scores_at(fold.outer, chosen):
                results[layers].append((score, chosen[layers]))
                if fold is self.outer_folds[-1]:
                    yield self._row("+".join(layers), [layers], *zip(*results[layers], strict=True))

    def _selected(self, method):
        name = next((name for name in METHODS if METHODS[name] is method), "best")
        if self.protocol == CHOI2017:
            chosen, params, scores = self._select(self._search(), method, self._reported(), self._sizes())
            return self._row(name, [chosen], scores, [params], method=name)
        choices, scores, all_params = [], [], []
        for fold in self.outer_folds:
            search = self._search()
            chosen, params, _ = self._select(search, method, fold.inner)
            ((_, score),) = search.scores_at(fold.outer, {chosen: params})
            choices.append(chosen)
            scores.append(score)
            all_params.append(params)
        return self._row(name, choices, scores, all_params, method=name)

    def _select(self, search, method, parts, weights=None):
        """The combination that `method` chooses on these parts, its best parameters, and its scores (parts,)."""
        found = {}

        def evaluate(combinations):
            found.update((layers, result) for layers, *result in search.best(parts, combinations, weights, True))
            return {layers: np.average(found[layers][1], weights=weights) for layers in combinations}

        names = [*self.features.layers]
        chosen = method(names, evaluate)
        if n_left_out := n_evaluations(method, names) - len(found):
            self.step(n_left_out * (2 * len(parts) - 1))
        return chosen, *found[chosen]

    def _row(self, name, choices, scores, params, method=None):
        """A row of the table; `choices` and `params` hold one entry, or one a fold."""
        scores = np.array(scores)
        score = np.average(scores, weights=self._sizes() if self.protocol == CHOI2017 else None)
        low, high = self._interval(scores, score)
        row = {
            "layers": name,
            "n_features": sum(self.features.layers[layer].shape[1] for layer in _by_frequency(choices)[0][0]),
            "metric": "r2" if self.features.is_regression else "accuracy",
            "score": score,
            "deviation": scores.std(ddof=1) if len(scores) > 1 else np.nan,
            "interval_low": low,
            "interval_high": high,
            "chance": self._chance(),
            "chosen_on": CHOSEN_ON[self.protocol],
            "parameters": "; ".join(map(str, params)),
        }
        if method:
            row["chosen"] = "; ".join(
                "+".join(layers) + (f" ({times} of {len(choices)})" if len(choices) > 1 else "")
                for layers, times in _by_frequency(choices)
            )
            row["chosen_by_round"] = "; ".join(map("+".join, choices))
        return row | {fold.name: score for fold, score in zip(self.outer_folds, scores, strict=True)}

    def _chance(self):
        labels, parts = self.features.labels, self._reported()
        if self.features.is_regression:
            means = (np.full(len(scored), labels[fit].mean()) for _, fit, scored in parts)
            return np.mean([r2_score(labels[part.score], mean) for part, mean in zip(parts, means, strict=True)])
        return np.mean(labels[np.concatenate([part.score for part in parts])] == np.bincount(labels).argmax())

    def _interval(self, scores, score):
        if len(scores) > 1:
            half = t_half_width(scores)
            lowest = -np.inf if self.features.is_regression else 0.0  # of r2 there is none
            return max(score - half, lowest), min(score + half, 1.0)
        if self.features.is_regression:
            return np.nan, np.nan
        (n_clips,) = self._sizes()
        return wilson(round(score * n_clips), n_clips)

    def confusion(self, row: Mapping) -> np.ndarray:
        """`predictions.confusion` of a row of `rows`, over all outer folds."""
        return confusion(self.features, self.held_out(row))

    @one_thread
    def held_out(self, row: Mapping, probabilities: bool = False) -> HeldOut:
        """What was predicted for the clips of each outer fold by the SVM that was fitted without them.

        Args:
            row: of `rows`.
            probabilities: whether to add them, and `known`, where there are parts inside the folds to calibrate on: not
                of numbers, and not under 'choi2017'.
        """
        search, answers = self._search(), []
        for fold, how in zip(self.outer_folds, self.chosen(row), strict=True):
            name = np.full(len(fold.outer.score), fold.name)
            if probabilities and fold.inner and not self.features.is_regression:
                certainty = self._certainty(search, fold.inner, fold.outer, *how)
                values, (_, joined) = search.pair_values(fold.outer, *how), search.joined(fold.outer, *how)
                of_labels = certainty.calibration.probabilities(values, len(self.features.label_names))
                known = certainty.familiarity.known(joined)
                answers.append((fold.outer.score, values.predicted(), name, of_labels, known))
            else:
                answers.append((fold.outer.score, search.predict(fold.outer, *how), name))
        return HeldOut(*map(np.concatenate, zip(*answers, strict=True)))

    def chosen(self, row: Mapping) -> list[tuple[Combination, SVMParams]]:
        """The layers and the parameters in each outer fold, of a row of `rows`."""
        columns = row.get("chosen_by_round", row["layers"]).split("; "), row["parameters"].split("; ")
        choices, params = (texts * len(self.outer_folds) if len(texts) == 1 else texts for texts in columns)
        points = {str(point): point for point in grid_of(self.layer_weights)}
        return [(tuple(choice.split("+")), points[text]) for choice, text in zip(choices, params, strict=True)]

    @one_thread
    def unheard(self, row: Mapping, others: FeatureTable) -> HeldOut:
        """What is predicted for clips of none of the classes, by the SVMs of the outer folds in turn.

        Args:
            row: of `rows`; see `held_out`, for classes and the nested protocol.
            others: features of the same layers.
        """
        search, answers, n_folds = self._search(), [], len(self.outer_folds)
        folds = [*zip(self.outer_folds, self.chosen(row), strict=True)][: len(others.clip_ids)]
        for number, (fold, how) in enumerate(folds):
            rows = np.arange(number, len(others.clip_ids), n_folds)
            certainty = self._certainty(search, fold.inner, fold.outer, *how)
            scaler, svm = fit_svm(self.features, *how, fold.outer.fit)
            scaled = scaler.transform(np.concatenate([others.layers[name][rows] for name in how[0]], axis=1))
            values = pair_values(svm, scaled)
            of_labels = certainty.calibration.probabilities(values, len(self.features.label_names))
            known, names = certainty.familiarity.known(scaled), np.full(len(rows), fold.name)
            answers.append((rows, values.predicted(), names, of_labels, known))
        return HeldOut(*map(np.concatenate, zip(*answers, strict=True)))

    @one_thread
    def certainty(self, layers: Combination, params: SVMParams) -> Certainty:
        """Of an SVM for use, fitted on all clips; from the held-out ones of `cross_validation.final_parts`."""
        everything = np.arange(len(self.features.labels))
        whole = Part("all clips", everything, everything[:1])  # what it scores is not looked at
        return self._certainty(self._search(), final_parts(self.features, self.seed), whole, layers, params)

    def _certainty(self, search, inner, outer, *how):
        """Of the SVM fitted on the clips of `outer`, from those that the parts in it score; computed once."""
        if (outer.name, how) not in self._certainties:
            self._certainties[outer.name, how] = self._fitted_certainty(search, inner, outer, *how)
        return self._certainties[outer.name, how]

    def _fitted_certainty(self, search, inner, outer, *how):
        labels, held_out, distances = self.features.labels, [], []
        for part in inner:
            held_out.append((search.pair_values(part, *how), labels[part.score]))
            of_fit, of_score = search.joined(part, *how)
            distances.append(familiarity.fit(of_fit, labels[part.fit]).distance(of_score))
        of_fit, _ = search.joined(outer, *how)
        fitted = familiarity.fit(of_fit, labels[outer.fit])
        return Certainty(calibration.fit(held_out), fitted.with_distances(np.concatenate(distances)))


def interval(row: Mapping, counts: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of an accuracy, within 0 to 1, that does not vanish where all folds score alike.

    Args:
        row: of `Prober.rows`.
        counts: its `Prober.confusion`.

    Returns:
        From the lower to the higher end of two intervals: the row's, over its folds, and Wilson's, over all clips.
    """
    low, high = wilson(int(np.trace(counts)), int(counts.sum()))
    return max(0.0, float(min(low, row["interval_low"]))), min(1.0, float(max(high, row["interval_high"])))


def fit_svm(
    features: FeatureTable, layers: Combination, params: SVMParams, rows: np.ndarray | slice = slice(None)
) -> tuple[StandardScaler, SVC]:
    """A scaler and an SVM fitted on all clips, or some.

    Args:
        features: with one label a clip.
        layers: concatenated in this order.
        params: the SVM's parameters.
        rows: the clips to fit on.

    Returns:
        Both as scikit-learn fits them to float64, the scaler's `scale_` divided by the weights of layers: its
        `transform` gives the weighted features that the SVM was fitted on. The SVM's classes are indices into
        `features.label_names`.
    """
    values = [features.layers[name][rows] for name in layers]
    x = np.concatenate(values, axis=1).astype(np.float64)
    params = params._replace(gamma=1 / x.shape[1]) if params.gamma == "auto" else params
    scaler = StandardScaler().fit(x)
    sizes = [layer.shape[1] for layer in values]
    scaler.scale_ /= np.repeat(np.sqrt(layer_factors(sizes, params.layer_weights)), sizes)
    svm = SVC(**params.of_svm()).fit(scaler.transform(x), features.labels[rows])
    return scaler, svm


def _by_frequency(choices):
    """[(choice, how often)], the most frequent first, of equals the first."""
    counts = {choice: choices.count(choice) for choice in dict.fromkeys(choices)}
    return sorted(counts.items(), key=lambda item: -item[1])
