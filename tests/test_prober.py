"""Probes fit on one part and score another; nothing that is scored takes part in any choice."""

import gc
import re
import weakref
from dataclasses import replace

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, PredefinedSplit, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, SVR

import keras_audio_transfer as kat
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.probing import calibration, familiarity, grid_search, layer_selection, precomputed_kernels
from keras_audio_transfer.probing.calibration import PairValues
from keras_audio_transfer.probing.cross_validation import (
    CHOI2017,
    NESTED,
    PROTOCOLS,
    UNOFFICIAL_FOLDS,
    final_parts,
    folds_of_2017,
    outer_folds,
)
from keras_audio_transfer.probing.layer_selection import parse_combinations
from keras_audio_transfer.probing.precomputed_kernels import SVMParams
from keras_audio_transfer.probing.prober import Prober, fit_svm, interval

SMALL_GRID = [
    *(SVMParams("rbf", c, gamma) for c in (0.1, 8.0) for gamma in (2.0**-5, "auto")),
    *(SVMParams("linear", c) for c in (0.1, 8.0)),
]


@pytest.fixture
def small_grid(monkeypatch):
    """Six points instead of 32, where the grid is not what is tested."""
    monkeypatch.setattr(grid_search, "GRID", SMALL_GRID)


def make_features(labels, layers=None, folds=None, splits=None, names=("a", "b", "c")):
    """Features of len(labels) clips; without `layers`, one layer that knows nothing."""
    n = len(labels)
    return FeatureTable(
        layers or {"layer1": np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)},
        clip_ids=np.array([f"clip{i}" for i in range(n)]),
        labels=np.array(labels),
        label_names=[] if np.array(labels).dtype.kind == "f" else list(names),
        folds=np.full(n, -1) if folds is None else np.array(folds),
        splits=np.full(n, "") if splits is None else np.array(splits),
    )


def separable(labels, seed=0, n_channels=3):
    """Features (clips, channels) from which the label can be read, in a little noise."""
    rng = np.random.default_rng(seed)
    return (np.eye(max(labels) + 1, n_channels)[labels] * 10 + rng.normal(0, 0.1, (len(labels), n_channels))).astype(
        np.float32
    )


LABELS = [0, 1, 2] * 16
FOLDS = [1 + i // 12 for i in range(48)]
SPLITS = ["train"] * 24 + ["validation"] * 12 + ["test"] * 12
EVALUATIONS = {
    "splits": {"splits": SPLITS},
    "splits without validation": {"splits": ["train"] * 36 + ["test"] * 12},
    "folds": {"folds": FOLDS},
    "two folds": {"folds": [7] * 24 + [3] * 24},
    "neither": {},
}
every_evaluation = pytest.mark.parametrize("evaluation", EVALUATIONS.values(), ids=EVALUATIONS.keys())


@every_evaluation
def test_what_is_scored_is_never_fitted_nor_chosen_on(evaluation):
    features = make_features(LABELS, **evaluation)
    folds_found, how = outer_folds(features)
    assert how
    for fold in folds_found:
        assert len(fold.outer.fit) > 0
        assert len(fold.outer.score) > 0
        assert not set(fold.outer.fit) & set(fold.outer.score)
        assert fold.inner
        for _, inner_fit, inner_score in fold.inner:
            assert not set(inner_fit) & set(inner_score)
            assert set(inner_fit) | set(inner_score) <= set(fold.outer.fit)


def probe(features, combinations, **settings):
    return [*Prober(features, **settings).rows(combinations)]


@every_evaluation
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_machines_are_given_no_scored_row(evaluation, protocol, monkeypatch, small_grid):
    features = make_features(LABELS, **evaluation)
    used = {}

    class Recorder(precomputed_kernels.GramMatrices):
        def hold(self, part, fit, score, names):
            used[part] = (set(fit), set(score))
            super().hold(part, fit, score, names)

    monkeypatch.setattr(grid_search, "GramMatrices", Recorder)
    prober = Prober(features, protocol)
    list(prober.rows([("layer1",)]))
    expected = [part for fold in prober.outer_folds for part in [*fold.inner, fold.outer]]
    assert [*used.values()] == [(set(fit), set(score)) for _, fit, score in expected]


def test_rounds_of_splits():
    features = make_features(LABELS, splits=SPLITS)
    (fold,), how = outer_folds(features)
    assert fold.name == "test"
    assert list(fold.outer.fit) == list(range(36))
    assert list(fold.outer.score) == list(range(36, 48))
    ((_, inner_fit, inner_score),) = fold.inner
    assert list(inner_fit) == list(range(24))
    assert list(inner_score) == list(range(24, 36))
    assert how == "official splits, parameters chosen on the validation split"


def test_rounds_of_splits_in_any_order():
    order = np.random.default_rng(0).permutation(48)
    features = make_features(np.array(LABELS)[order], splits=np.array(SPLITS)[order])
    (fold,), _ = outer_folds(features)
    assert set(features.splits[fold.outer.fit]) == {"train", "validation"}
    ((_, inner_fit, inner_score),) = fold.inner
    assert set(features.splits[inner_fit]) == {"train"}
    assert set(features.splits[inner_score]) == {"validation"}


def test_rounds_of_splits_without_validation():
    (fold,), how = outer_folds(make_features(LABELS, splits=["train"] * 36 + ["test"] * 12))
    assert len(fold.inner) == UNOFFICIAL_FOLDS[NESTED]
    assert how == "official splits, parameters chosen by cross-validation in the training split"


def test_rounds_of_folds():
    features = make_features(LABELS, folds=FOLDS)
    folds_found, how = outer_folds(features)
    assert [fold.name for fold in folds_found] == ["fold_1", "fold_2", "fold_3", "fold_4"]
    for number, fold in enumerate(folds_found, 1):
        assert set(features.folds[fold.outer.score]) == {number}
        assert len(fold.outer.score) == 12
        inner_scored = [set(features.folds[inner_score]) for _, _, inner_score in fold.inner]
        assert inner_scored == [{fold} for fold in (1, 2, 3, 4) if fold != number]
    assert how == "4 official folds, parameters chosen inside each training part"


def test_rounds_of_two_folds_choose_inside_the_one_they_fit_on():
    folds_found, _ = outer_folds(make_features(LABELS, folds=[7] * 24 + [3] * 24))
    assert [fold.name for fold in folds_found] == ["fold_3", "fold_7"]
    for fold in folds_found:
        assert len(fold.inner) == UNOFFICIAL_FOLDS[NESTED]


def test_rounds_without_folds_score_every_clip_once():
    features = make_features(LABELS)
    folds_found, how = outer_folds(features, seed=4)
    assert len(folds_found) == UNOFFICIAL_FOLDS[NESTED]
    assert sorted(np.concatenate([fold.outer.score for fold in folds_found])) == list(range(48))
    for fold in folds_found:
        counts = np.bincount(features.labels[fold.outer.score], minlength=3)
        assert counts.max() - counts.min() <= 1, "not stratified"
    assert "seed 4" in how


def test_rounds_follow_the_seed():
    features = make_features(LABELS)
    scored = {seed: [list(fold.outer.score) for fold in outer_folds(features, seed)[0]] for seed in (0, 1)}
    assert scored[0] == [list(fold.outer.score) for fold in outer_folds(features, 0)[0]]
    assert scored[0] != scored[1]


def test_splits_come_before_folds():
    folds_found, _ = outer_folds(make_features(LABELS, folds=FOLDS, splits=SPLITS))
    assert [fold.name for fold in folds_found] == ["test"]


BAD = {
    "tags": (lambda: tags(), "labels: the clips carry several labels each; a probe needs one label a clip"),
    "unlabelled": (
        lambda: make_features([0, 1, -1, 0, 1]),
        r"labels: clip2 has none; extract a data set, such as 'folder', or give labels",
    ),
    "nothing labelled": (lambda: make_features([-1] * 5), "labels: clip0 has none"),
    "one class": (lambda: make_features([1] * 10), "labels: every clip is 'b'; expected at least two classes"),
    "a class with one clip": (
        lambda: make_features([0] * 10 + [1]),
        "labels: class 'b' has a single clip, 5-fold cross-validation needs 5; add clips or leave the class out",
    ),
    "a class with fewer clips than folds": (
        lambda: make_features([0] * 10 + [1] * 4),
        "labels: class 'b' has 4 clips, 5-fold cross-validation needs 5",
    ),
    "a class with one clip left to fit on": (
        lambda: make_features([0] * 10 + [1] * 2, folds=[1] * 6 + [2] * 5 + [1]),
        "labels: class 'b' has a single clip, 2-fold",
    ),
    "a class with one clip in the training split": (
        lambda: make_features([0] * 5 + [1] + [0, 1], splits=["train"] * 6 + ["test"] * 2),
        "labels: class 'b' has a single clip, 2-fold",
    ),
    "no test split": (
        lambda: make_features(LABELS, splits=["train"] * 48),
        "splits: 48 clips to fit on and 0 to score on; expected some of each",
    ),
    "nothing to fit on": (
        lambda: make_features(LABELS, splits=["test"] * 48),
        "splits: 0 clips to fit on and 48 to score on",
    ),
    "unknown split": (
        lambda: make_features(LABELS, splits=["train"] * 24 + ["dev"] * 12 + ["test"] * 12),
        "splits: 'dev' is unknown; expected train, validation, test",
    ),
    "one fold": (lambda: make_features(LABELS, folds=[3] * 48), "folds: found 3; expected two or more"),
    "a clip without a fold": (
        lambda: make_features(LABELS, folds=[-1, *FOLDS[1:]]),
        "folds: found -1, 1, 2, 3, 4; expected two or more, and one for every clip",
    ),
    "one class to fit on": (
        lambda: make_features([0] * 24 + [0, 1] * 12, splits=["train"] * 24 + ["test"] * 24),
        "labels: test leaves one class to fit on; expected at least two classes in every part",
    ),
    "one class outside a fold": (
        lambda: make_features([0] * 24 + [0, 1] * 12, folds=[1] * 12 + [2] * 12 + [3] * 24),
        "labels: .*two classes",
    ),
    # Scoring fold 2 with fold 3 left out to choose on, only fold 1 is fitted on. No choice can come of that.
    "one class in a fold": (
        lambda: make_features([0] * 12 + [0, 1] * 12, folds=[1] * 12 + [2] * 12 + [3] * 12),
        "labels: .*two classes",
    ),
}


def tags():
    features = make_features(LABELS)
    features.labels = np.eye(3, dtype=np.int64)[LABELS]
    return features


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_probed(make, message, small_grid):
    with pytest.raises(InputError, match=message):
        Prober(make())


NAMES = ["layer1", "layer2", "layer3"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layers", [("layer1",), ("layer2",), ("layer3",), ("layer1", "layer2", "layer3")]),
        ("layer2", [("layer2",)]),
        ("layer3,layer1+layer2", [("layer3",), ("layer1", "layer2")]),
        (" layer3 , layer1 + layer2 ", [("layer3",), ("layer1", "layer2")]),
        ("layer1,layer1", [("layer1",)]),
        ("layer1+layer2,layer2+layer1", [("layer1", "layer2")]),
    ],
)
def test_combinations(text, expected):
    assert parse_combinations(text, NAMES) == expected


def test_all_combinations():
    names = [f"layer{i}" for i in range(1, 6)]
    chosen = parse_combinations("all", names)
    assert len(chosen) == len(set(chosen)) == 2**5 - 1
    assert [len(layers) for layers in chosen] == sorted(len(layers) for layers in chosen)
    assert chosen[0] == ("layer1",)
    assert chosen[-1] == tuple(names)
    assert all(list(layers) == sorted(layers) for layers in chosen)


def test_combinations_of_a_single_layer():
    assert parse_combinations("layers", ["mfcc"]) == [("mfcc",)]
    assert parse_combinations("all", ["mfcc"]) == [("mfcc",)]


def test_combinations_up_to_a_size():
    assert parse_combinations("<=2", NAMES) == [
        *((name,) for name in NAMES),
        ("layer1", "layer2"),
        ("layer1", "layer3"),
        ("layer2", "layer3"),
    ]
    assert parse_combinations("<=9", NAMES) == parse_combinations("all", NAMES)
    with pytest.raises(InputError, match="combinations: '<=0' is not allowed; expected <= and a number from 1 up"):
        parse_combinations("<=0", NAMES)


def test_methods_of_selection():
    many = [f"block{i}" for i in range(11)]
    assert parse_combinations("best", NAMES) is layer_selection.exhaustive
    assert parse_combinations("best", many) is layer_selection.forward
    assert parse_combinations("backward", NAMES) is layer_selection.backward
    with pytest.raises(InputError, match="combinations: all of 22 layers are too many; pass forward, backward or <=2"):
        parse_combinations("all", many + [f"more{i}" for i in range(11)])


@pytest.mark.parametrize(
    ("text", "unknown"), [("layer4", "layer4"), ("layer1,layer2+layr3", "layr3"), ("layer1,,layer2", ""), ("", "")]
)
def test_combinations_of_unknown_layers(text, unknown):
    with pytest.raises(InputError, match=f"combinations: layer '{unknown}' is unknown; .*choose from layer1, layer2"):
        parse_combinations(text, NAMES)


def test_what_is_known_scores_one(small_grid):
    layers = {"layer1": separable(LABELS), "layer2": np.random.default_rng(0).normal(size=(48, 4)).astype(np.float32)}
    for evaluation in EVALUATIONS.values():
        (row,) = probe(make_features(LABELS, layers, **evaluation), [("layer1",)])
        assert row["score"] == 1.0
        assert row["chance"] == pytest.approx(1 / 3, abs=0.05)


def test_the_whole_grid():
    assert len(grid_search.GRID) == len(set(grid_search.GRID)) == 4 * 7 + 4
    (row,) = probe(make_features(LABELS, {"layer1": separable(LABELS)}, splits=SPLITS), [("layer1",)])
    assert row["score"] == 1.0


def test_what_is_random_scores_about_chance(small_grid):
    labels = np.random.default_rng(3).integers(0, 2, 300)
    x = np.random.default_rng(4).normal(size=(300, 6)).astype(np.float32)
    (row,) = probe(make_features(labels, {"layer1": x}), [("layer1",)])
    # Were parameters chosen on the scored rows, or were these fitted on, the score would be far above a half.
    assert abs(row["score"] - 0.5) < 0.12
    assert abs(row["score"] - row["chance"]) < 0.12


def test_rows(small_grid):
    rng = np.random.default_rng(0)
    layers = {
        "layer1": separable(LABELS),
        "layer2": rng.normal(size=(48, 2)).astype(np.float32),
    }
    rows = list(probe(make_features(LABELS, layers, folds=FOLDS), [("layer2",), ("layer1", "layer2")]))
    folds = ["fold_1", "fold_2", "fold_3", "fold_4"]
    assert [list(row) for row in rows] == [
        [
            *["layers", "n_features", "metric", "score", "deviation", "interval_low", "interval_high", "chance"],
            *["chosen_on", "parameters", *folds],
        ]
    ] * 2
    assert [row["layers"] for row in rows] == ["layer2", "layer1+layer2"]
    assert [row["n_features"] for row in rows] == [2, 5]
    assert {row["metric"] for row in rows} == {"accuracy"}
    for row in rows:
        values = [row[fold] for fold in folds]
        assert row["score"] == pytest.approx(np.mean(values))
        assert row["deviation"] == pytest.approx(np.std(values, ddof=1))
    assert rows[0]["deviation"] > 0
    assert rows[0]["score"] < rows[1]["score"]


def test_one_round_has_no_deviation(small_grid):
    (row,) = probe(make_features(LABELS, splits=SPLITS), [("layer1",)])
    assert np.isnan(row["deviation"])
    assert row["test"] == row["score"]


def test_the_interval_of_one_round_is_that_of_its_clips(small_grid):
    (row,) = probe(make_features(LABELS, {"layer1": separable(LABELS)}, splits=SPLITS), [("layer1",)])
    z, n = 1.959964, 12  # Wilson 1927: all of 12 right
    assert row["interval_low"] == pytest.approx(n / (n + z**2), abs=1e-6)
    assert row["interval_high"] == pytest.approx(1.0)
    y = np.linspace(0, 1, 48)
    (row,) = probe(make_features(y, {"layer1": y[:, np.newaxis]}, splits=SPLITS), [("layer1",)])
    assert np.isnan(row["interval_low"])


def test_chance_by_hand(small_grid):
    # Of all clips 'b' is the most frequent: 8 of 15, and 2 of the 6 in the second part.
    labels = [0, 0, 0] + [1] * 6 + [0, 0, 0, 0, 1, 1]
    (row,) = probe(make_features(labels, folds=[1] * 9 + [2] * 6), [("layer1",)])
    assert row["chance"] == pytest.approx(8 / 15)
    (row,) = probe(make_features(labels, splits=["train"] * 9 + ["test"] * 6), [("layer1",)])
    assert row["chance"] == pytest.approx(2 / 6)


def test_chance_of_equal_classes_is_their_share(small_grid):
    labels = np.repeat(np.arange(10), 12)  # in each round another class has the most clips to fit on
    features = make_features(labels, {"layer1": np.random.default_rng(0).normal(size=(120, 2))}, folds=None)
    (row,) = probe(features, [("layer1",)])
    assert row["chance"] == pytest.approx(0.1)


def test_a_combination_is_the_concatenation(small_grid):
    rng = np.random.default_rng(1)
    one, two = (rng.normal(size=(48, n)).astype(np.float32) + separable(LABELS)[:, :1] for n in (2, 3))
    (apart,) = probe(make_features(LABELS, {"x": one, "y": two}, folds=FOLDS), [("y", "x")])
    (joined,) = probe(make_features(LABELS, {"z": np.concatenate([two, one], axis=1)}, folds=FOLDS), [("z",)])
    assert {**apart, "layers": ""} == {**joined, "layers": ""}


@every_evaluation
def test_the_scale_of_a_column_does_not_matter(evaluation, small_grid):
    rng = np.random.default_rng(2)
    x = (separable(LABELS)[:, :2] * 0.2 + rng.normal(0, 1, (48, 2))).astype(np.float32)
    x = np.concatenate([x, rng.normal(size=(48, 2)).astype(np.float32)], axis=1)
    scale = np.float32([2.0**10, 2.0**-12, 4.0, 2.0**-7])  # powers of two: no rounding
    rows = [*probe(make_features(LABELS, {"x": x, "y": x * scale}, **evaluation), [("x",), ("y",)])]
    plain, scaled = ({**row, "layers": "", "deviation": 0} for row in rows)
    assert scaled == plain
    assert 1 / 3 < plain["score"] < 1, "too easy or too hard to show a difference"


def test_scaling_is_learnt_on_the_fitted_rows_alone():
    # What is scored lies far from what is fitted; a scaler that had seen it would squeeze the fitted rows together.
    x = np.random.default_rng(0).normal(0, 0.1, (40, 1))
    x[30:] *= 1e6
    products = precomputed_kernels.GramMatrices({"x": x}, scale=True)
    products.hold("test", np.arange(30), np.arange(30, 40), ["x"])
    fit_fit, score_fit, score_lengths = products.sums("test", ["x"], [1])
    fit, score = ((x[rows] - x[:30].mean()) / x[:30].std() for rows in (slice(30), slice(30, 40)))
    np.testing.assert_allclose(fit_fit, fit @ fit.T, rtol=1e-9)
    np.testing.assert_allclose(score_fit, score @ fit.T, rtol=1e-9)
    np.testing.assert_allclose(score_lengths, (score**2).sum(axis=1), rtol=1e-9)


@pytest.mark.parametrize("protocol", [pytest.param(NESTED, marks=pytest.mark.slow), CHOI2017])
def test_threads_change_nothing(protocol, small_grid):
    layers = {name: np.random.default_rng(i).normal(size=(48, 3)) for i, name in enumerate(NAMES)}
    features = make_features(LABELS, layers, folds=FOLDS)
    every = layer_selection.all_combinations(NAMES)
    assert probe(features, every, protocol=protocol, n_jobs=3) == probe(features, every, protocol=protocol)


# ---- the same as scikit-learn's GridSearchCV


def overlapping(n=120):
    """Three layers of different sizes and scales from which the label can be read in part."""
    rng = np.random.default_rng(5)
    labels = np.arange(n) % 3
    sizes = {"layer1": 4, "layer2": 7, "layer3": 2}
    return labels, {name: rng.normal(0, 1, (n, k)) + 0.5 * labels[:, np.newaxis] for name, k in sizes.items()}


def sklearn_grid(prefix=""):
    return [{prefix + name: [value] for name, value in point.of_svm().items()} for point in grid_search.GRID]


TASKS = {
    "classification": ("accuracy", SVC, lambda labels: labels),
    "regression": ("r2", SVR, lambda y: y / 3 + 0.05 * (y % 2)),
}
EVERY = layer_selection.all_combinations(NAMES)
FIRST, *MORE = ((task, scale) for task in TASKS for scale in (False, True))
GRID_SEARCHES = [FIRST, *(pytest.param(*each, marks=pytest.mark.slow) for each in MORE)]


@pytest.mark.parametrize(("task", "scale"), GRID_SEARCHES)
def test_nested_scores_are_those_of_grid_search(task, scale):
    metric, machine, target = TASKS[task]
    labels, layers = overlapping(60)
    y = target(labels)
    features = make_features(y, layers, folds=np.arange(60) // 20)
    for row in probe(features, EVERY[2:5], scale=scale):
        x = np.concatenate([layers[name] for name in row["layers"].split("+")], axis=1)
        for fold in outer_folds(features)[0]:
            steps = [StandardScaler(), machine()] if scale else [machine()]
            cv = PredefinedSplit(features.folds[fold.outer.fit])
            search = GridSearchCV(make_pipeline(*steps), sklearn_grid(f"{machine.__name__.lower()}__"), cv=cv)
            search.fit(x[fold.outer.fit], y[fold.outer.fit])
            assert row[fold.name] == pytest.approx(search.score(x[fold.outer.score], y[fold.outer.score]), abs=1e-9)
        assert row["metric"] == metric


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_scores_of_2017_are_those_of_grid_search_weighted_by_clips(task):
    _, machine, target = TASKS[task]
    labels, layers = overlapping(n=87)
    y = target(labels)
    fold = np.arange(87) // 20
    features = make_features(y, layers, folds=fold)
    sizes = np.bincount(fold)
    for row in probe(features, EVERY[2:], protocol="choi2017"):
        x = np.concatenate([layers[name] for name in row["layers"].split("+")], axis=1)
        search = GridSearchCV(machine(), sklearn_grid(), cv=PredefinedSplit(fold), refit=False).fit(x, y)
        table = np.array([search.cv_results_[f"split{i}_test_score"] for i in range(5)]).T
        means = np.average(table, axis=1, weights=sizes)
        assert row["score"] == pytest.approx(means.max(), abs=1e-9)
        assert row["parameters"] == str(grid_search.GRID[means.argmax()])
        assert [row[f"fold_{i}"] for i in range(5)] == pytest.approx(table[means.argmax()], abs=1e-9)


# ---- weights of layers


def narrow_among_wide():
    """A layer of 2 channels that knows the label, drowned by one of 60 that knows little of it."""
    rng, labels = np.random.default_rng(0), np.arange(60) % 3
    narrow = separable(labels, n_channels=2) * 0.3 + rng.normal(size=(60, 2))
    return labels, {"narrow": narrow, "wide": rng.normal(size=(60, 60)) + 0.2 * labels[:, np.newaxis]}


def times(x, by):
    return x * by


@pytest.mark.parametrize(
    ("layer_weights", "scale"),
    [("equal", True), ("chosen", True), pytest.param("equal", False, marks=pytest.mark.slow)],
)
def test_scores_of_weighted_layers_are_those_of_features_weighted_by_hand(layer_weights, scale, small_grid):
    labels, layers = narrow_among_wide()
    features, both = make_features(labels, layers, folds=np.arange(60) // 20), [("narrow", "wide")]
    (row,) = probe(features, both, layer_weights=layer_weights, scale=scale)
    weighted = np.repeat(np.sqrt([62 / (2 * 2), 62 / (2 * 60)]), [2, 60])
    kinds = [weighted] if layer_weights == "equal" else [np.ones(62), weighted]
    grid = [{**one, "times__kw_args": [{"by": by}]} for by in kinds for one in sklearn_grid("svc__")]
    steps = [("scaler", StandardScaler() if scale else "passthrough"), ("times", FunctionTransformer(times))]
    x, chosen = np.concatenate([*layers.values()], axis=1), row["parameters"].split("; ")
    for fold, params in zip(outer_folds(features)[0], chosen, strict=True):
        cv = PredefinedSplit(features.folds[fold.outer.fit])
        search = GridSearchCV(Pipeline([*steps, ("svc", SVC())]), grid, cv=cv).fit(
            x[fold.outer.fit], labels[fold.outer.fit]
        )
        assert row[fold.name] == pytest.approx(search.score(x[fold.outer.score], labels[fold.outer.score]), abs=1e-9)
        assert params.endswith(" layer_weights=equal") == (search.best_params_["times__kw_args"]["by"] is weighted)
    assert row["n_features"] == 62
    (plain,) = probe(features, both, scale=scale)
    assert row["score"] > plain["score"], "the weights make no difference"
    assert np.trace(Prober(features, scale=scale, layer_weights=layer_weights).confusion(row)) == round(
        60 * row["score"]
    )


@pytest.fixture
def fitted(monkeypatch):
    """The C of each SVM that libsvm is asked for."""
    all_c, fit = [], precomputed_kernels._by_libsvm

    def recording(fit_kernel, score_kernel, labels, c, *others):
        all_c.append(c)
        return fit(fit_kernel, score_kernel, labels, c, *others)

    monkeypatch.setattr(precomputed_kernels, "_by_libsvm", recording)
    return all_c


@pytest.mark.parametrize("layer_weights", ["equal", "chosen"])
def test_weights_change_nothing_for_one_layer_and_layers_of_one_width(layer_weights, fitted, small_grid):
    labels, layers = knowing()
    features = make_features(labels, layers, folds=np.arange(120) // 4 % 3, names="abcd")
    wanted = [("a",), ("b", "d")]
    plain, n_fits = probe(features, wanted), len(fitted)
    rows = probe(features, wanted, layer_weights=layer_weights)
    assert len(fitted) < 2.2 * n_fits, "the same SVM is fitted twice"
    assert [{**row, "parameters": row["parameters"].replace(" layer_weights=equal", "")} for row in rows] == plain


def test_unknown_weights():
    with pytest.raises(InputError, match=r"layer_weights: 'equally' is unknown; did you mean equal\? choose from chan"):
        Prober(make_features(LABELS), layer_weights="equally")


def test_of_equal_points_the_one_that_grid_search_tries_first_wins():
    labels, layers = np.array(LABELS), {"layer1": separable(LABELS)}
    (row,) = probe(make_features(LABELS, layers, folds=FOLDS), [("layer1",)], scale=False)
    cv = PredefinedSplit(FOLDS[12:])
    search = GridSearchCV(SVC(), sklearn_grid(), cv=cv).fit(layers["layer1"][12:], labels[12:])
    best = {None: None, **search.best_params_}
    assert (np.array(search.cv_results_["rank_test_score"]) == 1).sum() > 10
    assert row["parameters"].split("; ")[0] == str(SVMParams(best["kernel"], best["C"], best.get("gamma")))


def test_a_machine_that_no_c_holds_back_is_not_fitted_again(fitted):
    x = separable(LABELS).astype(float)
    products = x[:36] @ x[:36].T, x[36:] @ x[:36].T, (x[36:] ** 2).sum(axis=1)
    points = [SVMParams("linear", c) for c in (0.1, 2.0, 8.0, 32.0)]
    said = dict(precomputed_kernels.predictions(products, None, 3, np.array(LABELS[:36]), points))
    assert fitted == [0.1]
    for number, point in enumerate(points):
        expected = SVC(kernel="linear", C=point.C).fit(x[:36], LABELS[:36]).predict(x[36:])
        np.testing.assert_array_equal(said[number], expected)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("scale", [False, True])
def test_linear_machines_that_libsvm_gives_up_are_found_otherwise(task, scale, monkeypatch, recwarn):
    _, machine, target = TASKS[task]
    labels, layers = overlapping(90)
    y, fit, score = target(labels), np.arange(60), np.arange(60, 90)
    products = precomputed_kernels.GramMatrices(layers, scale)
    products.hold("test", fit, score, NAMES)
    features = products.features("test", NAMES, [1, 1, 1])
    points = [SVMParams("linear", c) for c in (2.0, 0.1, 32.0)]
    n_iterations = 6
    monkeypatch.setattr(precomputed_kernels, "LIBSVM_WORK", 60 * 0.1 * n_iterations)  # at C=0.1; none above
    sums = products.sums("test", NAMES, [1, 1, 1])
    said = dict(precomputed_kernels.predictions(sums, lambda: features, 13, y[fit], points))
    assert not recwarn.list
    for number, point in enumerate(points):
        found = machine(kernel="linear", C=point.C, tol=1e-8).fit(features[0], y[fit])
        assert np.max(found.n_iter_) > n_iterations
        np.testing.assert_allclose(said[number], found.predict(features[1]), atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_wide_linear_machines_are_found_from_the_products_alone(task, monkeypatch):
    _, machine, target = TASKS[task]
    labels, rng = np.arange(90) % 3, np.random.default_rng(0)
    x = rng.normal(size=(90, 80)) + 0.4 * (np.arange(80) % 4 == labels[:, np.newaxis]) + 5
    y, fit, score = target(labels), np.arange(60), np.arange(60, 90)
    products = precomputed_kernels.GramMatrices({"x": x}, scale=False)
    products.hold("test", fit, score, ["x"])
    monkeypatch.setattr(precomputed_kernels, "LIBSVM_WORK", 1)
    point = SVMParams("linear", 0.01)
    (said,) = dict(
        precomputed_kernels.predictions(products.sums("test", ["x"], [1]), None, 80, y[fit], [point])
    ).values()
    expected = machine(kernel="linear", C=0.01, tol=1e-8).fit(x[fit], y[fit]).predict(x[score])
    np.testing.assert_allclose(said, expected, atol=1e-4)


@pytest.mark.parametrize("scale", [False, True])
def test_channels_come_in_blocks(scale, monkeypatch):
    x = np.random.default_rng(0).normal(3, 1, (60, 50)).astype(np.float32)
    fit, score = x[:40].astype(float), x[40:].astype(float)
    if scale:
        fit, score = ((part - fit.mean(axis=0)) / fit.std(axis=0) for part in (fit, score))
    monkeypatch.setattr(precomputed_kernels, "BLOCK_BYTES", 7 * 60 * 8)
    products = precomputed_kernels.GramMatrices({"x": x}, scale)
    products.hold("test", np.arange(40), np.arange(40, 60), ["x"])
    found = *products.sums("test", ["x"], [1]), *products.features("test", ["x"], [1])
    for array, expected in zip(found, [fit @ fit.T, score @ fit.T, (score**2).sum(axis=1), fit, score], strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-12, atol=1e-12)


def test_products_beyond_the_memory_limit_are_computed_again(monkeypatch, small_grid):
    labels, layers = overlapping(60)
    features = make_features(labels, layers, folds=np.arange(60) // 20)
    plenty = probe(features, EVERY)
    monkeypatch.setattr(precomputed_kernels, "HELD_BYTES", 1)
    assert probe(features, EVERY) == plenty


def test_each_layers_products_are_computed_once_a_part(monkeypatch, small_grid):
    computed, original = [], precomputed_kernels._inner_products

    def recorded(blocks, rows, part, name):
        computed.append((part, name))
        return original(blocks, rows, part, name)

    monkeypatch.setattr(precomputed_kernels, "_inner_products", recorded)
    labels, layers = overlapping(60)
    probe(make_features(labels, layers, folds=np.arange(60) // 20), EVERY, protocol="choi2017", n_jobs=2)
    assert sorted(computed) == [(f"fold_{fold}", name) for fold in range(3) for name in NAMES]


def test_inner_products_are_freed_with_the_last_that_uses_them():
    """Not when circles of references are looked for next: a comparison of many sources would hold those of several."""
    labels, layers = overlapping(60)
    prober = Prober(make_features(labels, layers, folds=np.arange(60) // 20))
    list(prober.rows([(NAMES[0],)]))
    products = prober._last_search._products
    array = weakref.ref(products._products(next(iter(products._rows)), NAMES[0])[0])
    gc.disable()
    try:
        del products, prober
        assert array() is None
    finally:
        gc.enable()


# ---- as in the paper


def test_rounds_of_2017():
    features = make_features(LABELS, folds=FOLDS)
    folds_found, how = outer_folds(features, protocol="choi2017")
    assert [fold.name for fold in folds_found] == ["fold_1", "fold_2", "fold_3", "fold_4"]
    assert not any(fold.inner for fold in folds_found)
    assert how.startswith("4 official folds; ")
    assert how.endswith("parameters were chosen on the reported folds: optimistic")
    (fold,), _ = outer_folds(make_features(LABELS, splits=SPLITS), protocol="choi2017")
    assert list(fold.outer.fit) == list(range(36))


def test_folds_of_2017_are_those_of_stratified_k_fold_where_classes_divide():
    labels = np.repeat([2, 0, 1], 20)
    features = make_features(labels)
    folds_found, how = outer_folds(features, protocol="choi2017")
    assert how.startswith("no official folds: stratified 10-fold, unshuffled")
    for fold, (fit, score) in zip(folds_found, StratifiedKFold(10).split(labels, labels), strict=True):
        np.testing.assert_array_equal(fold.outer.fit, fit)
        np.testing.assert_array_equal(fold.outer.score, score)


def test_folds_of_2017_give_the_first_folds_more_of_every_class():
    folds = folds_of_2017(make_features([0] * 13 + [1] * 11))
    assert list(np.bincount(folds)[1:]) == [4, 3, 3, 2, 2, 2, 2, 2, 2, 2]
    assert list(folds[:13]) == [1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10]
    numbers = folds_of_2017(make_features(np.arange(23) / 2))
    assert list(np.bincount(numbers)[1:]) == [3, 3, 3, 2, 2, 2, 2, 2, 2, 2]
    assert (np.diff(numbers) >= 0).all()


def test_2017_needs_ten_clips_of_a_class():
    with pytest.raises(InputError, match="labels: class 'c' has 9 clips, 10-fold cross-validation needs 10; add clips"):
        Prober(make_features([0] * 10 + [1] * 10 + [2] * 9), "choi2017")


def test_2017_is_unscaled_unless_asked(small_grid):
    features = make_features(LABELS, folds=FOLDS)
    assert Prober(features, "choi2017").scale is False
    assert Prober(features).scale is True
    assert Prober(features, "choi2017", scale=True).scale is True
    (row,) = probe(features, [("layer1",)], protocol="choi2017")
    assert row["chosen_on"] == "reported folds"


@pytest.mark.parametrize("name", ["a+b", "+", "a; b"])
def test_a_layer_that_could_be_several(name):
    labels = np.arange(60) % 3
    message = re.escape(f"layers: {name!r} holds what joins layers; expected a name without '+' and '; '; rename it")
    for use in (Prober, kat.probe):
        with pytest.raises(InputError, match=f"^{message}$"):
            use(make_features(labels, {"a": separable(labels), name: separable(labels)}))


def test_unknown_protocol():
    with pytest.raises(InputError, match=r"protocol: 'choi' is unknown; did you mean choi2017\? choose from nested"):
        Prober(make_features(LABELS), "choi")


# ---- numbers as labels


def test_regression(small_grid):
    y = np.linspace(-1, 1, 60)
    rng = np.random.default_rng(0)
    layers = {"known": (y + rng.normal(0, 0.02, 60))[:, np.newaxis], "noise": rng.normal(size=(60, 2))}
    known, noise = probe(make_features(y, layers), [("known",), ("noise",)])
    assert known["metric"] == "r2"
    assert known["score"] > 0.9
    assert noise["score"] < 0.3
    assert -0.2 < known["chance"] < 0
    _, how = outer_folds(make_features(y, layers))
    assert how == "no official folds: 5-fold (seed 0), parameters chosen inside each"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.5] * 20, "labels: every clip's is 0.5; expected different numbers"),
        ([0.1, 0.2, 0.3], "labels: 3 clips are too few for 5 folds of at least two; add clips"),
    ],
)
def test_numbers_that_cannot_be_probed(labels, message):
    with pytest.raises(InputError, match=message):
        Prober(make_features(labels))


# ---- selection


def knowing():
    """Four layers: two know half of the label each, one is noise, one a poor copy; and the label."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 4
    noise = lambda: rng.normal(size=(120, 2))  # noqa: E731
    half, other = (labels // 2)[:, np.newaxis] * 6 + noise(), (labels % 2)[:, np.newaxis] * 6 + noise()
    return labels, {"a": noise(), "b": half, "c": other, "d": half / 6 + noise()}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("text", ["best", "forward", pytest.param("backward", marks=pytest.mark.slow)])
def test_selection_finds_the_layers_that_know(protocol, text, small_grid):
    labels, layers = knowing()
    features = make_features(labels, layers, folds=np.arange(120) // 4 % 3, names="abcd")
    steps = []
    prober = Prober(features, protocol, step=lambda number=1: steps.append(number))
    method = parse_combinations(text, [*layers])
    (row,) = prober.rows(method)
    assert row["layers"] == text
    assert row["score"] > 0.9
    assert row["n_features"] == 4
    assert row["chosen"] == ("b+c (3 of 3)" if protocol == "nested" else "b+c")
    assert row["chosen_by_round"] == ("b+c; b+c; b+c" if protocol == "nested" else "b+c")
    assert sum(steps) == prober.n_steps(method)


def test_what_a_method_leaves_out_is_counted_as_soon_as_that_is_known(small_grid):
    labels, layers = knowing()
    layers |= {name: np.ones((120, 1)) for name in "efgh"}  # with which nothing gets better
    steps, ends = [], []
    features = make_features(labels, layers, folds=np.arange(120) // 4 % 3, names="abcd")
    prober = Prober(features, step=lambda number=1: steps.append(number))
    prober._search = lambda search=prober._search: ends.append(sum(steps)) or search()
    assert next(prober.rows(layer_selection.greedy))["chosen"] == "b+c (3 of 3)"
    assert max(steps) > 1
    n = prober.n_steps(layer_selection.greedy)
    assert [*ends, sum(steps)] == [0, n // 3, 2 * n // 3, n]


def test_what_is_scored_does_not_choose_the_layers(small_grid):
    # Layer 'a' knows the labels in the fold that is scored and lies about them elsewhere; 'b' is right a little.
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 2
    folds = np.arange(90) // 30
    truth = labels * 2 - 1
    a = np.where(folds == 0, truth, rng.permutation(truth)) * 5.0
    b = truth * 2 + rng.normal(size=90)
    features = make_features(labels, {"a": a[:, np.newaxis], "b": b[:, np.newaxis]}, folds=folds)
    (row,) = probe(features, layer_selection.exhaustive)
    assert "b (" in row["chosen"]
    assert row["fold_0"] < 1.0


@pytest.mark.parametrize("scale", [False, True])
def test_the_best_combination_is_the_same_where_the_others_are_given_up(scale, small_grid):
    labels, layers = overlapping(60)
    layers["layer1"] *= 0.01  # knows nothing of the labels that others do not know
    layers["layer2"][:, :4] += 2 * np.eye(4)[labels]
    parts = [fold.outer for fold in outer_folds(make_features(labels, layers, folds=np.arange(60) // 12))[0]]
    results, fits = [], []
    for only_the_best in (False, True):
        search = grid_search.GridSearch(make_features(labels, layers), scale)
        found = {combination: rest for combination, *rest in search.best(parts, EVERY, None, only_the_best)}
        chosen = max(found, key=lambda layers: (found[layers][1].mean(), -len(layers)))
        results.append((chosen, found[chosen][0], [*found[chosen][1]]))
        fits.append(sum(map(len, search.record.values())))
        assert [*found] == EVERY
    assert results[0] == results[1]
    assert fits[1] < fits[0]


# ---- interrupted and continued


class Killed(BaseException):
    """As a KeyboardInterrupt: no Exception."""


@pytest.mark.parametrize("wanted", [EVERY, layer_selection.forward], ids=["list", "forward"])
@pytest.mark.parametrize("protocol", [pytest.param(NESTED, marks=pytest.mark.slow), CHOI2017])
def test_a_run_continues_where_it_was_killed(protocol, wanted, small_grid):
    labels, layers = overlapping(60)
    features = make_features(labels, layers, folds=np.arange(60) // 20)
    undisturbed = [*Prober(features, protocol).rows(wanted)]
    record, rows, runs = {}, [], 0

    def after_a_few():
        if len(record) >= 5 * runs and len(record) > before:
            raise Killed

    while not rows:
        runs, before = runs + 1, len(record)
        try:
            rows = [*Prober(features, protocol, record=record, step=after_a_few).rows(wanted)]
        except Killed:
            assert len(record) > before
    assert runs > 2
    assert rows == undisturbed


def test_confusion(small_grid):
    labels, layers = overlapping()
    features = make_features(labels, layers, folds=np.arange(120) // 30)
    for protocol in PROTOCOLS:
        prober = Prober(features, protocol)
        for wanted in ([("layer1", "layer3")], layer_selection.forward):
            (row,) = prober.rows(wanted)
            counts = prober.confusion(row)
            assert counts.sum() == 120
            np.testing.assert_array_equal(counts.sum(axis=1), np.bincount(labels))
            assert np.trace(counts) / 120 == pytest.approx(row["score"])


def test_held_out_clips_are_predicted_by_an_svm_that_never_saw_them(small_grid):
    labels, layers = overlapping()
    features = make_features(labels, layers, folds=np.arange(120) // 30)
    prober = Prober(features)
    (row,) = prober.rows([("layer1",)])
    rows, predicted, folds, *certainty = prober.held_out(row)
    assert certainty == [None, None]
    assert sorted(rows) == [*range(120)]
    x = features.layers["layer1"].astype(np.float64)
    for fold, text in zip(prober.outer_folds, row["parameters"].split("; "), strict=True):
        (params,) = (point for point in grid_search.GRID if str(point) == text)
        scaler = StandardScaler().fit(x[fold.outer.fit])
        svm = SVC(**params.of_svm()).fit(scaler.transform(x[fold.outer.fit]), labels[fold.outer.fit])
        here = folds == fold.name
        np.testing.assert_array_equal(rows[here], fold.outer.score)
        np.testing.assert_array_equal(predicted[here], svm.predict(scaler.transform(x[fold.outer.score])))


def fitted_by_scikit_learn(x, labels, params, fit):
    """Scaled features of all clips, and the SVM, fitted on some."""
    scaled = StandardScaler().fit(x[fit]).transform(x)
    svm = SVC(**params.of_svm(), decision_function_shape="ovo").fit(scaled[fit], labels[fit])
    return scaled, svm


def test_certainty_comes_from_clips_that_are_not_scored(small_grid):
    """Probabilities and `known` of an outer fold, by scikit-learn's SVMs on its inner parts alone; of others, too."""
    labels, layers = overlapping()
    features = make_features(labels, layers, folds=np.arange(120) // 30)
    prober = Prober(features)
    (row,) = prober.rows([("layer1",)])
    held_out = prober.held_out(row, probabilities=True)
    others = make_features(np.full(7, -1), {"layer1": layers["layer1"][:7] + 3})
    foreign = prober.unheard(row, others)
    assert sorted(foreign.rows) == [*range(7)]
    x = features.layers["layer1"].astype(np.float64)
    for number, (fold, (_, params)) in enumerate(zip(prober.outer_folds, prober.chosen(row), strict=True)):
        inner, distances = [], []
        for part in fold.inner:
            assert not {*part.fit, *part.score} & {*fold.outer.score}
            scaled, svm = fitted_by_scikit_learn(x, labels, params, part.fit)
            inner.append((PairValues(svm.decision_function(scaled[part.score]), svm.classes_), labels[part.score]))
            heard = familiarity.fit(scaled[part.fit], labels[part.fit])
            distances.append(heard.distance(scaled[part.score]))
        calibrated = calibration.fit(inner)
        both = np.concatenate([x, others.layers["layer1"].astype(np.float64)])
        scaled, svm = fitted_by_scikit_learn(both, labels, params, fold.outer.fit)
        heard = familiarity.fit(scaled[fold.outer.fit], labels[fold.outer.fit])
        heard = heard.with_distances(np.concatenate(distances))
        for said, rows in ((held_out, fold.outer.score), (foreign, 120 + np.arange(number, 7, 4))):
            here = said.folds == fold.name
            np.testing.assert_array_equal(said.rows[here], rows % 120)
            values = PairValues(svm.decision_function(scaled[rows]), svm.classes_)
            np.testing.assert_allclose(said.probabilities[here], calibrated.probabilities(values, 3), atol=2e-3)
            np.testing.assert_array_equal(said.predicted[here], svm.predict(scaled[rows]))
            np.testing.assert_allclose(said.known[here], heard.known(scaled[rows]), atol=1e-6)


def test_there_is_no_certainty_where_nothing_is_left_to_calibrate_on(small_grid):
    labels, layers = overlapping()
    of_2017 = Prober(make_features(labels, layers, folds=np.arange(120) // 30), protocol=CHOI2017)
    (row,) = of_2017.rows([("layer1",)])
    assert of_2017.held_out(row, probabilities=True).probabilities is None


def test_interval_by_hand(small_grid):
    labels, layers = overlapping()
    (row,) = probe(make_features(labels, layers, folds=np.arange(120) // 30), [("layer1",)])
    half = 3.182446 * row["deviation"] / 2  # Student's t of 3 degrees of freedom
    assert row["interval_high"] - row["score"] == pytest.approx(half, rel=1e-6)
    assert row["score"] - row["interval_low"] == pytest.approx(half, rel=1e-6)


def test_the_interval_of_rounds_that_score_alike_does_not_vanish():
    counts = np.array([[20, 0], [0, 20]])
    low, high = interval({"interval_low": 1.0, "interval_high": 1.0}, counts)
    assert (low, high) == pytest.approx((1 / (1 + 1.959964**2 / 40), 1.0))  # Wilson's of 40 of 40
    assert interval({"interval_low": 0.5, "interval_high": 1.2}, counts) == (0.5, 1.0)


# ---- a machine for use


def test_all_clips_choose_a_machine_for_use():
    labels = np.arange(48) % 3
    pairs_of = {name: final_parts(make_features(labels, **e)) for name, e in EVALUATIONS.items()}
    everything = list(range(48))
    for pairs in pairs_of.values():
        assert all(sorted([*fit, *score]) == everything for _, fit, score in pairs)
    scored = {name: [sorted(score.tolist()) for _, _, score in pairs] for name, pairs in pairs_of.items()}
    assert scored["splits"] == [everything[24:36], everything[36:]]
    assert scored["splits without validation"] == [everything[36:]]
    assert scored["two folds"] == [everything[24:], everything[:24]]
    assert len(scored["folds"]) == 4
    assert len(scored["neither"]) == 5
    assert sorted(row for rows in scored["neither"] for row in rows) == everything


@pytest.mark.parametrize(
    "grid",
    [SMALL_GRID[:4], pytest.param(SMALL_GRID[4:], marks=pytest.mark.slow)],
    ids=["rbf", "linear"],
)
@pytest.mark.parametrize("folds", [None, np.arange(120) // 4 % 3], ids=["without folds", "folds"])
def test_the_machine_for_use_is_what_scikit_learn_would_find(folds, grid, monkeypatch):
    monkeypatch.setattr(grid_search, "GRID", grid)
    labels, layers = knowing()
    features, steps = make_features(labels, layers, folds=folds, names="abcd"), []
    prober = Prober(features, step=lambda: steps.append(1))
    chosen, point = prober.choose(layer_selection.exhaustive)
    assert len(steps) == prober.n_steps_to_choose(layer_selection.exhaustive)
    assert chosen == ("b", "c")
    x = np.concatenate([layers["b"], layers["c"]], axis=1)
    pipeline = make_pipeline(StandardScaler(), SVC())
    search = GridSearchCV(pipeline, sklearn_grid("svc__"), cv=[part[1:] for part in final_parts(features)]).fit(
        x, labels
    )
    assert point == SVMParams(**{name[5:]: value for name, value in search.best_params_.items()})
    scaler, machine = fit_svm(features, chosen, point)
    np.testing.assert_array_equal(machine.predict(scaler.transform(x)), search.predict(x))
    assert machine.kernel == "linear" or isinstance(machine.gamma, float)


def test_the_scaler_of_a_machine_for_use_carries_the_weights():
    labels, layers = narrow_among_wide()
    point = SVMParams("rbf", 8.0, "auto", "equal")
    scaler, machine = fit_svm(make_features(labels, layers), ("wide", "narrow"), point)
    x = np.concatenate([layers["wide"], layers["narrow"]], axis=1)
    weighted = StandardScaler().fit_transform(x) * np.repeat(np.sqrt([62 / (2 * 60), 62 / (2 * 2)]), [60, 2])
    np.testing.assert_allclose(scaler.transform(x), weighted, rtol=1e-12, atol=1e-14)
    assert np.mean(weighted**2) == pytest.approx(1)
    assert machine.gamma == 1 / 62


# ---- groups


def windows_of_recordings(recordings=20, each=6):
    """Windows that sound like their recording, whose labels say nothing: who divides recordings scores far too well."""
    rng = np.random.default_rng(0)
    groups = np.repeat([f"recording{i}" for i in range(recordings)], each)
    labels = np.repeat(rng.permutation(np.arange(recordings) % 2), each)
    layer = np.repeat(rng.normal(size=(recordings, 8)), each, axis=0) + 0.01 * rng.normal(size=(len(labels), 8))
    return labels, {"layer1": layer}, groups


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_no_fold_divides_a_recording(task):
    labels, layers, groups = windows_of_recordings()
    if task == "regression":
        labels = labels + 0.001 * np.arange(len(labels))
    alone = replace(make_features(labels, layers), groups=np.where(groups == "recording3", "", groups))
    for features in (replace(make_features(labels, layers), groups=groups), alone):
        folds, _ = outer_folds(features, seed=1)
        assert len(folds) == 5
        parts = [part for fold in folds for part in (fold.outer, *fold.inner)] + final_parts(features)
        for part in parts:
            both = {*features.groups[part.fit]} & {*features.groups[part.score]}
            assert both <= {""}
        assert sorted(i for fold in folds for i in fold.outer.score) == [*range(len(labels))]


def test_what_is_only_known_of_a_recording_scores_about_chance():
    labels, layers, groups = windows_of_recordings()
    (divided,) = probe(make_features(labels, layers), [("layer1",)])
    (whole,) = probe(replace(make_features(labels, layers), groups=groups), [("layer1",)])
    assert divided["score"] > 0.95
    assert whole["score"] < 0.75


def test_too_few_recordings():
    labels, layers, groups = windows_of_recordings(recordings=6)
    names = ", ".join(dict.fromkeys(groups[labels == 0]))
    what = rf"^groups: class 'a' is of 3 groups only \({names}\), and 5 folds that divide none need 5; add recordings, "
    with pytest.raises(InputError, match=f"{what}make the groups smaller, or leave the class out$"):
        outer_folds(replace(make_features(labels, layers), groups=groups))


def test_the_folds_of_2017_know_no_groups():
    labels, layers, groups = windows_of_recordings(recordings=18)
    features = replace(make_features(labels, layers), groups=groups)
    with pytest.raises(InputError, match=r"groups: the folds of 2017 divide 'recording.*; use the protocol nested"):
        outer_folds(features, protocol=CHOI2017)


def test_a_record_of_another_number_of_scores_is_refused():
    labels, layers = overlapping(60)
    features = make_features(labels, layers, folds=np.arange(60) // 20)
    record = {}
    [*Prober(features, record=record).rows([("layer1",)])]
    name = next(iter(record))
    record[name] = record[name][:-1]
    with pytest.raises(InputError, match=rf"damaged: \d+ scores of {re.escape(repr(name))}; expected \d+; remove"):
        [*Prober(features, record=record).rows([("layer1",)])]
