"""Features -> SVM probes: how much of a task each layer, or a combination of layers, knows. Without TensorFlow."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy import stats
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from keras_audio_transfer import selection
from keras_audio_transfer.datasets.clip import SPLITS
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import Features
from keras_audio_transfer.kernels import InnerProducts, Point, predictions
from keras_audio_transfer.kernels import score as score_of
from keras_audio_transfer.selection import Combination

# Choi et al. 2017, section 3.2, in the order in which scikit-learn's GridSearchCV tries them: the first of equals wins.
C = [0.1, 2.0, 8.0, 32.0]
GAMMA = [2.0**-3, 2.0**-5, 2.0**-7, 2.0**-9, 2.0**-11, 2.0**-13, "auto"]
GRID = [*(Point("rbf", c, gamma) for c in C for gamma in GAMMA), *(Point("linear", c) for c in C)]

NESTED, CHOI2017 = PROTOCOLS = ("nested", "choi2017")
SCALED = {NESTED: True, CHOI2017: False}  # unless asked otherwise
CHOSEN_ON = {NESTED: "training parts", CHOI2017: "reported folds"}
UNOFFICIAL_FOLDS = {NESTED: 5, CHOI2017: 10}
CONFIDENCE = 0.95
EXHAUSTIVE_LAYERS = 10
METHODS = {"forward": selection.forward, "backward": selection.backward}

Rows = np.ndarray  # int64, numbers of clips


@dataclass(frozen=True)
class Round:
    """One fit and one score: its name, the clips to fit and to score on, and the pairs of both that choose for it."""

    name: str
    fit: Rows
    score: Rows
    inner: tuple[tuple[Rows, Rows], ...] = ()


def rounds(features: Features, seed: int = 0, protocol: str = NESTED) -> tuple[list[Round], str]:
    """The data set's own evaluation, and a sentence that says what it is.

    With splits: fit on train and validation, score on test. With folds: each fold scored once. With neither:
    k-fold, stratified by class unless the labels are numbers.

    Nested: parameters are chosen inside each round, on the validation split where there is one, on each other fold in
    turn where there are three or more, and otherwise by cross-validation of the clips to fit on; without folds there
    are five, shuffled by the seed. As in Choi et al. 2017: parameters are chosen on the scores that are reported;
    without folds there are ten, unshuffled.

    Raises:
        InputError: labels missing, several a clip, or too few; a split without train or test clips.
    """
    _check_labels(features)
    result, how = (_nested_rounds if protocol == NESTED else _rounds_of_2017)(features, seed)
    for r in result:
        for fit, score in [(r.fit, r.score), *r.inner]:
            if features.is_regression:
                if len(fit) < 2 or len(score) < 2:
                    raise InputError(f"labels: {r.name} leaves fewer than two clips to fit on or to score; add clips")
            elif len(np.unique(features.labels[fit])) < 2:
                raise InputError(
                    f"labels: {r.name} leaves one class to fit on; expected at least two classes in every part"
                )
    return result, how


def parts_of_all(features: Features, seed: int = 0) -> list[tuple[Rows, Rows]]:
    """The pairs of clips to fit and to score on that choose a machine for use, which is then fitted on all clips.

    Each fold, and of splits validation and test, is scored by a machine fitted on all the others. With neither: as many
    folds as for choosing inside a round, shuffled by the seed.
    """
    everything = np.arange(len(features.labels))
    if (features.splits != "").any():
        held_out = [features.splits == split for split in SPLITS[1:] if (features.splits == split).any()]
    elif (features.folds >= 0).any():
        held_out = [features.folds == fold for fold in np.unique(features.folds)]
    else:
        return [*_shuffled_folds(features, everything, seed, fewer=True)]
    return [(everything[~scored], everything[scored]) for scored in held_out]


def _check_labels(features):
    labels = features.labels
    if labels.ndim != 1 and features.is_regression:
        targets = ", ".join(features.label_names)
        raise InputError(f"labels: the file has several numbers a clip; name one with --target: {targets}")
    if labels.ndim != 1:
        raise InputError("labels: the clips carry several labels each; a probe needs one label a clip")
    if not len(labels):
        raise InputError("labels: there are no clips; a probe needs some to fit on and some to score")
    if features.is_regression:
        if (labels == labels[0]).all():
            raise InputError(f"labels: every clip's is {labels[0]:g}; expected different numbers")
        return
    if (labels < 0).any():
        clip = features.clip_ids[labels < 0][0]
        raise InputError(f"labels: {clip} has none; extract a labelled data set (--dataset), not bare files")
    if (labels == labels[0]).all():
        name = features.label_names[labels[0]]
        raise InputError(f"labels: every clip is {name!r}; expected at least two classes")


def _nested_rounds(features, seed):
    inner = partial(_shuffled_folds, features, seed=seed, fewer=True)
    official = _official(features)
    if official is None:
        outer = _shuffled_folds(features, np.arange(len(features.labels)), seed)
        kind = "" if features.is_regression else "stratified "
        how = f"no official folds: {kind}{len(outer)}-fold (seed {seed}), parameters chosen inside each"
        return [Round(f"fold_{i}", fit, score, inner(fit)) for i, (fit, score) in enumerate(outer, 1)], how
    if len(official) == 1:
        ((name, (fit, score)),) = official.items()
        validation = features.splits[fit] == "validation"
        if validation.any() and not validation.all():
            chosen_on, how = ((fit[~validation], fit[validation]),), "parameters chosen on the validation split"
        else:
            chosen_on, how = inner(fit), "parameters chosen by cross-validation in the training split"
        return [Round(name, fit, score, chosen_on)], f"official splits, {how}"
    result = []
    for name, (fit, score) in official.items():
        folds = np.unique(features.folds[fit])
        by_fold = tuple((fit[features.folds[fit] != fold], fit[features.folds[fit] == fold]) for fold in folds)
        result.append(Round(name, fit, score, by_fold if len(folds) > 1 else inner(fit)))
    return result, f"{len(result)} official folds, parameters chosen inside each training part"


def _rounds_of_2017(features, seed):
    official = _official(features)
    if official is None:
        official = _official(replace(features, folds=folds_of_2017(features)))
        kind = "" if features.is_regression else "stratified "
        how = f"no official folds: {kind}{len(official)}-fold, unshuffled"
    else:
        how = "official splits" if len(official) == 1 else f"{len(official)} official folds"
    result = [Round(name, fit, score) for name, (fit, score) in official.items()]
    return result, f"{how}; as in Choi et al. 2017, parameters were chosen on the reported folds: optimistic"


def _official(features):
    """{name of a round: (clips to fit on, clips to score)}, None where there are neither splits nor folds."""
    everything = np.arange(len(features.labels))
    for split in np.setdiff1d(features.splits, ["", *SPLITS]):
        raise InputError(f"splits: {split!r} is unknown; expected {', '.join(SPLITS)}")
    if (features.splits != "").any():
        if (features.splits == "").any():
            raise InputError(f"splits: {(features.splits == '').sum()} clips have none; give every clip one")
        fit = everything[np.isin(features.splits, ["train", "validation"])]
        score = everything[features.splits == "test"]
        if not len(fit) or not len(score):
            raise InputError(f"splits: {len(fit)} clips to fit on and {len(score)} to score on; expected some of each")
        return {"test": (fit, score)}
    if (features.folds >= 0).any():
        folds = np.unique(features.folds)
        if folds[0] < 0 or len(folds) < 2:
            raise InputError(f"folds: found {', '.join(map(str, folds))}; expected two or more, and one for every clip")
        return {
            f"fold_{fold}": (everything[features.folds != fold], everything[features.folds == fold]) for fold in folds
        }
    return None


def _shuffled_folds(features, rows, seed, fewer=False):
    """Five folds of these clips; as few as two, if `fewer` are allowed, where a class has fewer clips."""
    labels, n_folds = features.labels[rows], UNOFFICIAL_FOLDS[NESTED]
    if features.is_regression:
        fold = KFold
        n_folds = min(n_folds, len(rows) // 2) if fewer else n_folds
    else:
        fold = StratifiedKFold
        n_folds = max(2, min(n_folds, np.unique(labels, return_counts=True)[1].min())) if fewer else n_folds
    _check_enough(features, labels, n_folds)
    pairs = fold(n_folds, shuffle=True, random_state=seed).split(rows, labels)
    return tuple((rows[fit], rows[score]) for fit, score in pairs)


def folds_of_2017(features: Features) -> np.ndarray:
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


def parse_combinations(text: str, layer_names: Sequence[str]) -> list[Combination] | Callable:
    """The layer combinations that a user asked for, or the method that is to find one.

    Args:
        text: 'layers' (each layer alone, and all together), 'all' (all 2^n - 1 combinations, fewest layers first),
            '<=N' (all of at most N layers), or a list such as 'layer1,layer2+layer3', in any order; or a method of
            `keras_audio_transfer.selection`: 'forward', 'backward', or 'best', which is exhaustive for up to 10
            layers and forward for more.
        layer_names: the layers there are.

    Raises:
        InputError: an unknown layer, or one twice in a combination; all combinations of too many layers.
    """
    every = tuple(layer_names)
    if text == "best":
        return selection.exhaustive if len(every) <= EXHAUSTIVE_LAYERS else selection.forward
    if text in METHODS:
        return METHODS[text]
    if text == "layers":
        return list(dict.fromkeys([*((name,) for name in every), every]))
    if text == "all":
        if len(every) > 2 * EXHAUSTIVE_LAYERS:
            raise InputError(f"--combinations: all of {len(every)} layers are too many; pass forward, backward or <=2")
        return selection.all_combinations(every)
    if text.startswith("<="):
        if not text[2:].strip().isdecimal() or int(text[2:]) < 1:
            raise InputError(f"--combinations: {text!r} is not allowed; expected <= and a number from 1 up, as in <=2")
        return selection.all_combinations(every, int(text[2:]))
    chosen = [tuple(part.strip() for part in item.split("+")) for item in text.split(",")]
    for layers in chosen:
        for name in layers:
            if name not in every:
                raise InputError(
                    f"--combinations: layer {name!r} is unknown; the file has {', '.join(every)}; or pass layers, all, "
                    "<=N, forward, backward or best"
                )
        if len(set(layers)) < len(layers):
            raise InputError(f"--combinations: {'+'.join(layers)!r} names a layer twice; name each once")
    return list(dict.fromkeys(tuple(sorted(layers, key=every.index)) for layers in chosen))


@dataclass
class Prober:
    """Probes of one task under one protocol.

    Attributes:
        features: with one label a clip, or a number.
        protocol: 'nested' or 'choi2017'; see `rounds`.
        scale: whether channels are brought to mean 0 and deviation 1 over the clips that are fitted on; None for the
            protocol's habit (nested: yes; choi2017: no).
        seed: of shuffled folds, where the data set has none of its own.
        n_jobs: combinations that are worked on at a time, in threads.
        record: where every part's scores are kept, and found again; a `journal.Journal` to survive being killed.
        step: called after each combination in each part.
    """

    features: Features
    protocol: str = NESTED
    scale: bool | None = None
    seed: int = 0
    n_jobs: int = 1
    record: MutableMapping[str, list[float]] | None = None
    step: Callable[[], object] = lambda: None

    def __post_init__(self):
        if self.protocol not in PROTOCOLS:
            raise InputError(f"protocol: {self.protocol!r} is unknown; choose from {', '.join(PROTOCOLS)}")
        self.rounds, self.how = rounds(self.features, self.seed, self.protocol)
        self.scale = SCALED[self.protocol] if self.scale is None else self.scale
        self.record = {} if self.record is None else self.record
        self._products = InnerProducts(self.features.layers, self.scale)

    def n_steps(self, wanted: Sequence[Combination] | Callable) -> int:
        """How often `step` will be called."""
        listed = not callable(wanted)
        number = len(wanted) if listed else selection.n_evaluations(wanted, len(self.features.layers))
        if self.protocol == CHOI2017:
            return number * (2 * len(self.rounds) - 1)
        return sum(number * (2 * len(r.inner) - 1) + (len(wanted) if listed else 1) for r in self.rounds)

    def n_steps_to_choose(self, method: Callable) -> int:
        """How often `choose` will call `step`."""
        number = selection.n_evaluations(method, len(self.features.layers))
        return number * (2 * len(parts_of_all(self.features, self.seed)) - 1)

    def choose(self, method: Callable) -> tuple[Combination, Point]:
        """The layers and parameters of a machine for use, chosen on all clips: see `parts_of_all`.

        The score by which they were chosen is optimistic and not returned; `rows` with the nested protocol tells how
        good such a choice is.
        """
        self._products.clear()
        parts = enumerate(parts_of_all(self.features, self.seed), 1)
        chosen, best, _ = self._select(method, [(f"all clips, {number}", *part) for number, part in parts])
        return chosen, GRID[best]

    def rows(self, wanted: Sequence[Combination] | Callable) -> Iterator[dict]:
        """Fit and score SVMs.

        The parts come one after the other, so that a part's inner products are computed once for all combinations.

        Args:
            wanted: combinations of `features.layers`, each the concatenation of its layers' features; or a method of
                `selection`, which chooses one where parameters are chosen.

        Yields:
            One row a combination, as soon as it has its last score: layers (joined by '+'; 'best', 'forward' or
            'backward' for a method), n_features, metric ('accuracy' or 'r2'), score, deviation (over the rounds,
            n - 1; NaN for one round), interval_low and interval_high (95 %, Student's t over the rounds, which it
            takes for independent; of one round Wilson's over its clips, NaN for r2), chance (score of always naming
            the most frequent class, or the mean, of the clips fitted on), chosen_on ('training parts' or 'reported
            folds'), parameters (those chosen, one a round if nested), for a method chosen (the combinations it chose,
            most frequent first) and chosen_by_round (in the order of the parameters), and each round's score under its
            name. `score` is the mean over the rounds; under 'choi2017', as scikit-learn computed it then, weighted by
            the rounds' clips.
        """
        if callable(wanted):
            yield self._selected(wanted)
        elif self.protocol == NESTED:
            yield from self._nested(wanted)
        else:
            for layers, best, scores in self._best(self._reported(), wanted, self._sizes()):
                yield self._row("+".join(layers), [layers], scores, [GRID[best]])

    def _nested(self, combinations):
        results = {layers: [] for layers in combinations}
        for r in self.rounds:
            self._products.clear()
            chosen = {layers: [best] for layers, best, _ in self._best(_inner(r), combinations)}
            for layers, (score,) in self._scores(r.name, r.fit, r.score, chosen):
                results[layers].append((score, GRID[chosen[layers][0]]))
                if r is self.rounds[-1]:
                    yield self._row("+".join(layers), [layers], *zip(*results[layers], strict=True))

    def _reported(self):
        return [(r.name, r.fit, r.score) for r in self.rounds]

    def _sizes(self):
        return [len(r.score) for r in self.rounds]

    def _selected(self, method):
        name = next((name for name in METHODS if METHODS[name] is method), "best")
        if self.protocol == CHOI2017:
            chosen, best, scores = self._select(method, self._reported(), self._sizes())
            return self._row(name, [chosen], scores, [GRID[best]], method=name)
        choices, scores, points = [], [], []
        for r in self.rounds:
            self._products.clear()
            chosen, best, _ = self._select(method, _inner(r))
            ((_, (score,)),) = self._scores(r.name, r.fit, r.score, {chosen: [best]})
            choices.append(chosen)
            scores.append(score)
            points.append(GRID[best])
        return self._row(name, choices, scores, points, method=name)

    def _select(self, method, parts, weights=None):
        """The combination that `method` chooses on these parts, its best point's number, and its scores (parts,)."""
        found = {}

        def evaluate(combinations):
            found.update((layers, result) for layers, *result in self._best(parts, combinations, weights))
            return {layers: np.average(found[layers][1], weights=weights) for layers in combinations}

        chosen = method([*self.features.layers], evaluate)
        return chosen, *found[chosen]

    def _best(self, parts, combinations, weights=None) -> Iterator[tuple[Combination, int, np.ndarray]]:
        """Each combination's best point's number and its scores (parts,), as soon as the last part is done.

        First all points are scored on the first part, then the best of them on the others. Then the other points, part
        by part, the hardest first, but only while they could still overtake it: were they right on all that they have
        not seen. What is left out cannot be the best.
        """
        weights = np.ones(len(parts)) if weights is None else np.asarray(weights, dtype=float)
        everything = range(len(GRID))
        tables = {layers: np.full((len(GRID), len(parts)), np.nan) for layers in combinations}
        for layers, scores in self._scores(*parts[0], dict.fromkeys(combinations, everything)):
            tables[layers][:, 0] = scores
        leaders = {layers: [int(tables[layers][:, 0].argmax())] for layers in combinations}
        for number, part in enumerate(parts[1:], 1):
            for layers, scores in self._scores(*part, leaders):
                tables[layers][leaders[layers], number] = scores
        means = np.mean([tables[layers][leader[0]] for layers, leader in leaders.items()], axis=0)
        known, rest = [0], sorted(range(1, len(parts)), key=lambda number: means[number])
        for number in rest:
            work = {layers: _contenders(tables[layers], leaders[layers][0], known, weights) for layers in combinations}
            for layers, scores in self._scores(*parts[number], work, more=True):
                tables[layers][work[layers], number] = scores
                if number == rest[-1]:
                    yield layers, *_best_point(tables[layers], weights)
            known.append(number)
        if not rest:
            yield from ((layers, *_best_point(tables[layers], weights)) for layers in combinations)

    def _scores(self, name, fit, score, work: Mapping[Combination, Sequence[int]], more=False):
        """Each combination's scores at its points, (points,), in one part; those on record are not computed again."""
        keys = {layers: f"{name}{', others' if more else ''}: {'+'.join(layers)}" for layers in work}
        labels = self.features.labels
        missing = [layers for layers in work if len(work[layers]) and keys[layers] not in self.record]
        self._products.hold(name, fit, score, (layer for layers in missing for layer in layers))

        def scores(layers):
            if layers in missing:
                products = self._products.sums(name, layers)
                points = [GRID[number] for number in work[layers]]
                result = [0.0] * len(points)
                features = self._products.features(name, layers)
                for number, said in predictions(products, features, labels[fit], points):
                    result[number] = float(score_of(labels[score], said))
                self.record[keys[layers]] = result
            self.step()
            return layers, np.array(self.record[keys[layers]] if len(work[layers]) else [])

        # Each combination has its thread; more of them for its small matrices would cost more than they gain.
        with threadpool_limits(1), ThreadPoolExecutor(self.n_jobs) as pool:
            yield from pool.map(scores, work)

    def _row(self, name, choices, scores, points, method=None):
        """A row of the table; `choices` and `points` hold one entry, or one a round."""
        scores = np.array(scores)
        labels = self.features.labels
        mean = np.average(scores, weights=self._sizes() if self.protocol == CHOI2017 else None)
        row = {
            "layers": name,
            "n_features": sum(self.features.layers[layer].shape[1] for layer in _by_frequency(choices)[0][0]),
            "metric": "r2" if self.features.is_regression else "accuracy",
            "score": mean,
            "deviation": np.nan,
            "interval_low": np.nan,
            "interval_high": np.nan,
            "chance": np.mean([_chance(labels[r.fit], labels[r.score]) for r in self.rounds]),
            "chosen_on": CHOSEN_ON[self.protocol],
            "parameters": "; ".join(map(str, points)),
        }
        if len(scores) == 1 and not self.features.is_regression:
            n_clips = self._sizes()[0]
            interval = stats.binomtest(round(mean * n_clips), n_clips).proportion_ci(CONFIDENCE, "wilson")
            row["interval_low"], row["interval_high"] = interval
        if len(scores) > 1:
            row["deviation"] = scores.std(ddof=1)
            half = stats.t.ppf((1 + CONFIDENCE) / 2, len(scores) - 1) * row["deviation"] / np.sqrt(len(scores))
            row["interval_low"], row["interval_high"] = mean - half, mean + half
        if method:
            row["chosen"] = "; ".join(
                "+".join(layers) + (f" ({times} of {len(choices)})" if len(choices) > 1 else "")
                for layers, times in _by_frequency(choices)
            )
            row["chosen_by_round"] = "; ".join(map("+".join, choices))
        return row | {r.name: score for r, score in zip(self.rounds, scores, strict=True)}

    def confusion(self, row: Mapping) -> np.ndarray:
        """How often each class was taken for each, over all rounds.

        Args:
            row: of `rows`.

        Returns:
            int64 (classes, classes): the clips of the first class that were named as the second.
        """
        columns = row.get("chosen_by_round", row["layers"]).split("; "), row["parameters"].split("; ")
        choices, points = (texts * len(self.rounds) if len(texts) == 1 else texts for texts in columns)
        counts = np.zeros((len(self.features.label_names),) * 2, dtype=np.int64)
        for r, choice, text in zip(self.rounds, choices, points, strict=True):
            layers = tuple(choice.split("+"))
            point = next(point for point in GRID if str(point) == text)
            self._products.hold(r.name, r.fit, r.score, layers)
            products, features = self._products.sums(r.name, layers), self._products.features(r.name, layers)
            ((_, predicted),) = predictions(products, features, self.features.labels[r.fit], [point])
            np.add.at(counts, (self.features.labels[r.score], predicted), 1)
        return counts


def interval(row: Mapping, counts: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of an accuracy, within 0 to 1, that does not vanish where all rounds score alike.

    Args:
        row: of `Prober.rows`.
        counts: its `Prober.confusion`.

    Returns:
        From the lower to the higher end of two intervals: the row's, over its rounds, and Wilson's, over all clips.
    """
    low, high = stats.binomtest(int(np.trace(counts)), int(counts.sum())).proportion_ci(CONFIDENCE, "wilson")
    return max(0.0, float(min(low, row["interval_low"]))), min(1.0, float(max(high, row["interval_high"])))


def fit_machine(features: Features, layers: Combination, point: Point) -> tuple[StandardScaler, SVC]:
    """A scaler and a machine fitted on all clips.

    Args:
        features: with one label a clip.
        layers: concatenated in this order.
        point: the machine's parameters.

    Returns:
        Both as scikit-learn fits them to float64; the machine's classes are indices into `features.label_names`.
    """
    x = np.concatenate([features.layers[name] for name in layers], axis=1).astype(np.float64)
    gamma = 1 / x.shape[1] if point.gamma == "auto" else point.gamma
    scaler = StandardScaler().fit(x)
    parameters = {} if gamma is None else {"gamma": gamma}
    machine = SVC(kernel=point.kernel, C=point.C, **parameters).fit(scaler.transform(x), features.labels)
    return scaler, machine


def _inner(r):
    return [(f"{r.name}, {number}", fit, score) for number, (fit, score) in enumerate(r.inner, 1)]


def _contenders(table, leader, known, weights):
    """The points that can still reach the leader's mean over all parts, where their scores in the `known` are known."""
    unknown = weights.sum() - weights[known].sum()
    possible = table[:, known] @ weights[known] + unknown >= table[leader] @ weights - 1e-9  # not NaN: given up before
    possible[leader] = False
    return np.flatnonzero(possible)


def _best_point(table, weights):
    """The first of the points with the highest mean over the parts, and its scores."""
    means = np.average(table, axis=1, weights=weights)  # of the rows as GridSearchCV's, to the last bit
    best = int(np.nan_to_num(means, nan=-np.inf).argmax())
    return best, table[best]


def _chance(fitted, scored):
    if fitted.dtype.kind == "f":
        return r2_score(scored, np.full(len(scored), fitted.mean()))
    return np.mean(scored == np.bincount(fitted).argmax())


def _by_frequency(choices):
    """[(choice, how often)], the most frequent first, of equals the first."""
    counts = {choice: choices.count(choice) for choice in dict.fromkeys(choices)}
    return sorted(counts.items(), key=lambda item: -item[1])
