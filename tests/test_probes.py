"""Probes fit on one part and score another; nothing that is scored takes part in any choice."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from keras_audio_transfer import probes
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import Features
from keras_audio_transfer.probes import parse_combinations, probe, rounds

SMALL_GRID = [
    {"svc__kernel": ["rbf"], "svc__C": [0.1, 8.0], "svc__gamma": [2.0**-5, "auto"]},
    {"svc__kernel": ["linear"], "svc__C": [0.1, 8.0]},
]


@pytest.fixture
def small_grid(monkeypatch):
    """Six points instead of 32, where the grid is not what is tested."""
    monkeypatch.setattr(probes, "GRID", SMALL_GRID)


def make_features(labels, layers=None, folds=None, splits=None, names=("a", "b", "c")):
    """Features of len(labels) clips; without `layers`, one layer that knows nothing."""
    n = len(labels)
    return Features(
        layers or {"layer1": np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)},
        clip_ids=np.array([f"clip{i}" for i in range(n)]),
        labels=np.array(labels, dtype=np.int64),
        label_names=list(names),
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
    every_round, how = rounds(features)
    assert how
    for one in every_round:
        assert len(one.fit) > 0
        assert len(one.score) > 0
        assert not set(one.fit) & set(one.score)
        inner = list(one.inner.split(one.fit, features.labels[one.fit]))
        assert inner
        for inner_fit, inner_score in inner:
            assert not set(inner_fit) & set(inner_score)
            used = set(one.fit[inner_fit]) | set(one.fit[inner_score])
            assert used <= set(one.fit)
            assert not used & set(one.score)


@every_evaluation
def test_the_search_is_given_no_scored_row(evaluation, monkeypatch, small_grid):
    n = len(LABELS)
    features = make_features(LABELS, {"layer1": np.arange(n, dtype=np.float32)[:, np.newaxis]}, **evaluation)
    fitted, scored = [], []

    class Recorder(GridSearchCV):
        def fit(self, X, y):
            fitted.append(set(X[:, 0].astype(int)))
            return super().fit(X, y)

        def score(self, X, y):
            scored.append(set(X[:, 0].astype(int)))
            return super().score(X, y)

    monkeypatch.setattr(probes, "GridSearchCV", Recorder)
    list(probe(features, [("layer1",)]))
    every_round, _ = rounds(features)
    assert fitted == [set(one.fit) for one in every_round]
    assert scored == [set(one.score) for one in every_round]
    for fit, score in zip(fitted, scored, strict=True):
        assert not fit & score


def test_rounds_of_splits():
    features = make_features(LABELS, splits=SPLITS)
    (one,), how = rounds(features)
    assert one.name == "test"
    assert list(one.fit) == list(range(36))
    assert list(one.score) == list(range(36, 48))
    ((inner_fit, inner_score),) = one.inner.split()
    assert list(inner_fit) == list(range(24))
    assert list(inner_score) == list(range(24, 36))
    assert how == "official splits, parameters chosen on the validation split"


def test_rounds_of_splits_in_any_order():
    order = np.random.default_rng(0).permutation(48)
    features = make_features(np.array(LABELS)[order], splits=np.array(SPLITS)[order])
    (one,), _ = rounds(features)
    assert set(features.splits[one.fit]) == {"train", "validation"}
    ((inner_fit, inner_score),) = one.inner.split()
    assert set(features.splits[one.fit][inner_fit]) == {"train"}
    assert set(features.splits[one.fit][inner_score]) == {"validation"}


def test_rounds_of_splits_without_validation():
    (one,), how = rounds(make_features(LABELS, splits=["train"] * 36 + ["test"] * 12))
    assert len(list(one.inner.split(one.fit, np.array(LABELS)[one.fit]))) == probes.UNOFFICIAL_FOLDS
    assert how == "official splits, parameters chosen by cross-validation in the training split"


def test_rounds_of_folds():
    features = make_features(LABELS, folds=FOLDS)
    every_round, how = rounds(features)
    assert [one.name for one in every_round] == ["fold_1", "fold_2", "fold_3", "fold_4"]
    for number, one in enumerate(every_round, 1):
        assert set(features.folds[one.score]) == {number}
        assert len(one.score) == 12
        assert isinstance(one.inner, PredefinedSplit)
        inner_scored = [set(features.folds[one.fit][inner_score]) for _, inner_score in one.inner.split()]
        assert inner_scored == [{fold} for fold in (1, 2, 3, 4) if fold != number]
    assert how == "4 official folds, parameters chosen inside each training part"


def test_rounds_of_two_folds_choose_inside_the_one_they_fit_on():
    every_round, _ = rounds(make_features(LABELS, folds=[7] * 24 + [3] * 24))
    assert [one.name for one in every_round] == ["fold_3", "fold_7"]
    for one in every_round:
        assert len(list(one.inner.split(one.fit, np.array(LABELS)[one.fit]))) == probes.UNOFFICIAL_FOLDS


def test_rounds_without_folds_score_every_clip_once():
    features = make_features(LABELS)
    every_round, how = rounds(features, seed=4)
    assert len(every_round) == probes.UNOFFICIAL_FOLDS
    assert sorted(np.concatenate([one.score for one in every_round])) == list(range(48))
    for one in every_round:
        counts = np.bincount(features.labels[one.score], minlength=3)
        assert counts.max() - counts.min() <= 1, "not stratified"
    assert "seed 4" in how


def test_rounds_follow_the_seed():
    features = make_features(LABELS)
    scored = {seed: [list(one.score) for one in rounds(features, seed)[0]] for seed in (0, 1)}
    assert scored[0] == [list(one.score) for one in rounds(features, 0)[0]]
    assert scored[0] != scored[1]


def test_splits_come_before_folds():
    every_round, _ = rounds(make_features(LABELS, folds=FOLDS, splits=SPLITS))
    assert [one.name for one in every_round] == ["test"]


BAD = {
    "tags": (lambda: tags(), "labels: the clips carry several labels each; a probe needs one label a clip"),
    "unlabelled": (
        lambda: make_features([0, 1, -1, 0, 1]),
        r"labels: clip2 has none; extract a labelled data set \(--dataset\)",
    ),
    "nothing labelled": (lambda: make_features([-1] * 5), "labels: clip0 has none"),
    "one class": (lambda: make_features([1] * 10), "labels: every clip is 'b'; expected at least two classes"),
    "a class with one clip": (
        lambda: make_features([0] * 10 + [1]),
        "labels: a class has a single clip to fit on; cross-validation needs at least two; add clips",
    ),
    "a class with one clip left to fit on": (
        lambda: make_features([0] * 10 + [1] * 2),
        "labels: a class has a single clip to fit on",
    ),
    "a class with one clip in the training split": (
        lambda: make_features([0] * 5 + [1] + [0, 1], splits=["train"] * 6 + ["test"] * 2),
        "labels: a class has a single clip to fit on",
    ),
    "no test split": (
        lambda: make_features(LABELS, splits=["train"] * 48),
        "splits: 48 clips to fit on and 0 to score on; expected some of each",
    ),
    "nothing to fit on": (
        lambda: make_features(LABELS, splits=["test"] * 48),
        "splits: 0 clips to fit on and 48 to score on",
    ),
    "one fold": (lambda: make_features(LABELS, folds=[3] * 48), "folds: found 3; expected two or more"),
    "a clip without a fold": (
        lambda: make_features(LABELS, folds=[-1, *FOLDS[1:]]),
        "folds: found -1, 1, 2, 3, 4; expected two or more, and one for every clip",
    ),
    "one class to fit on": (
        lambda: make_features([0] * 24 + [0, 1] * 12, splits=["train"] * 24 + ["test"] * 24),
        "labels: .*two classes",
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
        list(probe(make(), [("layer1",)]))


NAMES = ["layer1", "layer2", "layer3"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layers", [("layer1",), ("layer2",), ("layer3",), ("layer1", "layer2", "layer3")]),
        ("layer2", [("layer2",)]),
        ("layer3,layer1+layer2", [("layer3",), ("layer1", "layer2")]),
        (" layer3 , layer1 + layer2 ", [("layer3",), ("layer1", "layer2")]),
        ("layer1,layer1", [("layer1",)]),
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


@pytest.mark.parametrize(
    ("text", "unknown"), [("layer4", "layer4"), ("layer1,layer2+layr3", "layr3"), ("layer1,,layer2", ""), ("", "")]
)
def test_combinations_of_unknown_layers(text, unknown):
    with pytest.raises(InputError, match=f"--combinations: layer '{unknown}' is unknown; the file has layer1, layer2"):
        parse_combinations(text, NAMES)


def test_what_is_known_scores_one(small_grid):
    layers = {"layer1": separable(LABELS), "layer2": np.random.default_rng(0).normal(size=(48, 4)).astype(np.float32)}
    for evaluation in EVALUATIONS.values():
        (row,) = probe(make_features(LABELS, layers, **evaluation), [("layer1",)])
        assert row["score"] == 1.0
        assert row["chance"] == pytest.approx(1 / 3, abs=0.05)


def test_the_whole_grid():
    assert sum(len(grid["svc__C"]) * len(grid.get("svc__gamma", [0])) for grid in probes.GRID) == 4 * 7 + 4
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
        ["layers", "n_features", "metric", "score", "deviation", "chance", *folds]
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


def test_chance_by_hand(small_grid):
    # Fitted on fold 2 (a, a, a, a, b, b), 'a' is named: right for 3 of 9; fitted on fold 1, 'b': right for 2 of 6.
    labels = [0, 0, 0] + [1] * 6 + [0, 0, 0, 0, 1, 1]
    (row,) = probe(make_features(labels, folds=[1] * 9 + [2] * 6), [("layer1",)])
    assert row["chance"] == pytest.approx((3 / 9 + 2 / 6) / 2)


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


def test_scaling_is_learnt_on_the_fitted_rows_alone(small_grid):
    # What is scored lies far from what is fitted; a scaler that had seen it would squeeze the fitted rows together.
    labels = [0, 1] * 20
    x = np.random.default_rng(0).normal(0, 0.1, (40, 1)) + np.array(labels)[:, np.newaxis]
    x[30:] *= 1e6
    splits = ["train"] * 30 + ["test"] * 10
    fitted = []

    class Recorder(GridSearchCV):
        def fit(self, X, y):
            super().fit(X, y)
            fitted.append(self.best_estimator_.named_steps["standardscaler"])
            return self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "GridSearchCV", Recorder)
        list(probe(make_features(labels, {"x": x.astype(np.float32)}, splits=splits), [("x",)]))
    np.testing.assert_allclose(fitted[0].mean_, x[:30].mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(fitted[0].scale_, x[:30].std(axis=0), rtol=1e-4)


def test_processes_change_nothing(small_grid):
    features = make_features(LABELS, folds=FOLDS)
    assert list(probe(features, [("layer1",)], n_jobs=2)) == list(probe(features, [("layer1",)]))
