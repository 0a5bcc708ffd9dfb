"""Features -> SVM probes: how much of a task each layer, or a combination of layers, knows. Without TensorFlow."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from sklearn.model_selection import GridSearchCV, PredefinedSplit, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import Features

# Choi et al. 2017, section 3.2; 'auto' is 1 / n_features.
C = [0.1, 2.0, 8.0, 32.0]
GAMMA = [2.0**-3, 2.0**-5, 2.0**-7, 2.0**-9, 2.0**-11, 2.0**-13, "auto"]
GRID = [{"svc__kernel": ["rbf"], "svc__C": C, "svc__gamma": GAMMA}, {"svc__kernel": ["linear"], "svc__C": C}]
UNOFFICIAL_FOLDS = 5


@dataclass(frozen=True)
class Round:
    """One fit and one score: its name, the rows to fit and to score on, and the splits that choose the parameters."""

    name: str
    fit: np.ndarray
    score: np.ndarray
    inner: object


def rounds(features: Features, seed: int = 0) -> tuple[list[Round], str]:
    """The data set's own evaluation, and a sentence that says what it is.

    With splits: fit on train and validation, score on test; parameters are chosen on the validation split where there
    is one. With folds: each fold scored once; parameters are chosen by leaving each other fold out in turn. With
    neither: stratified 5-fold, shuffled by the seed.

    Raises:
        InputError: labels missing, several a clip, or too few; a split without train or test clips.
    """
    _check_labels(features)
    result, how = _rounds(features, seed)
    for r in result:
        for chosen, _ in r.inner.split(r.fit, features.labels[r.fit]):
            if len(np.unique(features.labels[r.fit[chosen]])) < 2:
                raise InputError(f"labels: {r.name} leaves one to fit on; expected at least two classes in every part")
    return result, how


def _rounds(features, seed):
    labels, everything = features.labels, np.arange(len(features.labels))
    if (features.splits != "").any():
        fit, score = (
            everything[np.isin(features.splits, ["train", "validation"])],
            everything[features.splits == "test"],
        )
        if (features.splits == "").any():
            raise InputError(f"splits: {(features.splits == '').sum()} clips have none; give every clip one")
        if not len(fit) or not len(score):
            raise InputError(f"splits: {len(fit)} clips to fit on and {len(score)} to score on; expected some of each")
        chosen_on = features.splits[fit] == "validation"
        if chosen_on.any() and not chosen_on.all():
            inner, how = PredefinedSplit(np.where(chosen_on, 0, -1)), "parameters chosen on the validation split"
        else:
            inner, how = _stratified(labels[fit], seed), "parameters chosen by cross-validation in the training split"
        return [Round("test", fit, score, inner)], f"official splits, {how}"
    if (features.folds >= 0).any():
        folds = np.unique(features.folds)
        if folds[0] < 0 or len(folds) < 2:
            raise InputError(f"folds: found {', '.join(map(str, folds))}; expected two or more, and one for every clip")
        result = []
        for fold in folds:
            fit, score = everything[features.folds != fold], everything[features.folds == fold]
            inner = PredefinedSplit(features.folds[fit]) if len(folds) > 2 else _stratified(labels[fit], seed)
            result.append(Round(f"fold_{fold}", fit, score, inner))
        return result, f"{len(folds)} official folds, parameters chosen inside each training part"
    outer = _stratified(labels, seed).split(everything, labels)
    result = [
        Round(f"fold_{number}", fit, score, _stratified(labels[fit], seed))
        for number, (fit, score) in enumerate(outer, 1)
    ]
    return result, f"no official folds: stratified {len(result)}-fold (seed {seed}), parameters chosen inside each"


def _check_labels(features):
    if features.labels.ndim != 1:
        raise InputError("labels: the clips carry several labels each; a probe needs one label a clip")
    if (features.labels < 0).any():
        clip = features.clip_ids[features.labels < 0][0]
        raise InputError(f"labels: {clip} has none; extract a labelled data set (--dataset), not bare files")
    present = np.unique(features.labels)
    if len(present) < 2:
        name = features.label_names[present[0]]
        raise InputError(f"labels: every clip is {name!r}; expected at least two classes")


def _stratified(labels, seed):
    fewest = np.unique(labels, return_counts=True)[1].min()
    if fewest < 2:
        raise InputError("labels: a class has a single clip to fit on; cross-validation needs at least two; add clips")
    return StratifiedKFold(min(UNOFFICIAL_FOLDS, fewest), shuffle=True, random_state=seed)


def parse_combinations(text: str, layer_names: Sequence[str]) -> list[tuple[str, ...]]:
    """The layer combinations that a user asked for.

    Args:
        text: 'layers' (each layer alone, and all together), 'all' (all 2^n - 1 combinations, fewest layers first), or
            a list such as 'layer1,layer2+layer3'.
        layer_names: the layers there are.

    Raises:
        InputError: an unknown layer, or one twice in a combination.
    """
    every = tuple(layer_names)
    if text == "layers":
        return list(dict.fromkeys([*((name,) for name in every), every]))
    if text == "all":
        return [chosen for size in range(1, len(every) + 1) for chosen in combinations(every, size)]
    chosen = [tuple(part.strip() for part in item.split("+")) for item in text.split(",")]
    for layers in chosen:
        for name in layers:
            if name not in every:
                raise InputError(f"--combinations: layer {name!r} is unknown; the file has {', '.join(every)}")
        if len(set(layers)) < len(layers):
            raise InputError(f"--combinations: {'+'.join(layers)!r} names a layer twice; name each once")
    return list(dict.fromkeys(chosen))


def probe(
    features: Features, layer_combinations: Iterable[tuple[str, ...]], seed: int = 0, n_jobs: int | None = None
) -> Iterator[dict]:
    """Fit and score an SVM on each combination of layers, scaling and parameters chosen inside each training part.

    Args:
        features: with one label a clip.
        layer_combinations: of `features.layers`; a combination is the concatenation of its layers' features.
        seed: of shuffled folds, where the data set has none of its own.
        n_jobs: processes; None for one.

    Yields:
        One row a combination: layers (joined by '+'), n_features, metric, score (mean over the rounds), deviation
        (over the rounds, n - 1; NaN for one round), chance (score of always naming the most frequent class of the
        training part), and each round's score under its name.
    """
    labels = features.labels
    every_round, _ = rounds(features, seed)
    chance = np.mean([(labels[r.score] == np.bincount(labels[r.fit]).argmax()).mean() for r in every_round])
    for layers in layer_combinations:
        x = np.concatenate([features.layers[name] for name in layers], axis=1)
        scores = {}
        for r in every_round:
            svm = make_pipeline(StandardScaler(), SVC(cache_size=500))
            search = GridSearchCV(svm, GRID, cv=r.inner, n_jobs=n_jobs).fit(x[r.fit], labels[r.fit])
            scores[r.name] = search.score(x[r.score], labels[r.score])
        values = pd.Series(scores)
        yield {
            "layers": "+".join(layers),
            "n_features": x.shape[1],
            "metric": "accuracy",
            "score": values.mean(),
            "deviation": values.std(ddof=1),
            "chance": chance,
            **scores,
        }
