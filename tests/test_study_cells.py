"""Which cells a study has, which clips they are fitted on, and what is fitted."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sounds import CONFIG

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.probing.layer_selection import single
from keras_audio_transfer.study.cells import cells_of, subset
from keras_audio_transfer.study.classifiers import scored
from keras_audio_transfer.study.study_file import Source, Study, Target


def table(groups=None, n_clips=60, folds=3, seed=0):
    """Clips of three classes; `good` tells them, `bad` does not."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_clips) % 3
    layers = {
        "bad": rng.normal(size=(n_clips, 4)).astype(np.float32),
        "good": (rng.normal(size=(n_clips, 4)) + 3 * labels[:, None]).astype(np.float32),
    }
    clip_ids = np.array([f"{n}.wav" for n in range(n_clips)])
    about = np.arange(n_clips) // 3 % folds, np.full(n_clips, "")
    return FeatureTable(layers, clip_ids, labels, ["a", "b", "c"], *about, groups=groups)


def study(**changed):
    card = Card(CONFIG, {"one": 4, "two": 4}, pooling="max")
    features = {"features": ("each", "all+mfcc")}
    network = Source("net", "music", Path("net"), card, ("one", "two"), **features)
    values = {
        "path": Path("study.toml"),
        "name": "mine",
        "seeds": (0, 1),
        "classifiers": ("svm",),
        "poolings": (),
        "sources": {"net": network, "mfcc": Source("mfcc", "floor", layers=("mfcc",))},
        "targets": {name: Target(name, "x", "synthetic", clips_a_class=(5, "all")) for name in ("esc", "own")},
    }
    return Study(**values | changed)


def test_the_cells_of_a_study():
    keys = [cell.key for cell in cells_of(study(), divided={"esc"})]
    assert len(keys) == len({*keys})
    # Fitted on all clips of a target with folds, every seed gives the same: there is one cell.
    of_net = [f"net|{{}}|{features}|max|svm" for features in ("layer:one", "layer:two", "all+mfcc")]
    both = [*of_net, "mfcc|{}|all|-|svm"]
    assert [key for key in keys if "|esc|" in key] == [
        f"{start.format('esc')}|{end}" for start in both for end in ("5|0", "5|1", "all|0")
    ]
    assert [key for key in keys if "|own|" in key] == [
        f"{start.format('own')}|{end}" for start in both for end in ("5|0", "5|1", "all|0", "all|1")
    ]


def test_combinations_are_the_cells_of_single_layers_all_and_the_others():
    source = study().sources["net"]
    names = ("one", "two", "three")
    card = Card(CONFIG, dict.fromkeys(names, 4), pooling="max")
    wanted = replace(source, card=card, layers=names, features=("each", "all", "combinations"))
    keys = [cell.key for cell in cells_of(study(sources={"net": wanted}, seeds=(0,)), divided={"esc"})]
    joined = ["all", *(f"layer:{name}" for name in names)]
    joined += [f"layers:{both}" for both in ("one+two", "one+three", "two+three")]
    assert {key.split("|")[2] for key in keys} == {*joined}
    assert len(keys) == len({*keys}) == 7 * 2 * 2
    alone = cells_of(study(sources={"net": replace(wanted, layers=("two",), features=("combinations",))}), ())
    assert {cell.features for cell in alone} == {"layer"}


def test_every_pooling_has_its_cells():
    found = Counter((cell.source, cell.pooling) for cell in cells_of(study(poolings=("mean", "max")), divided=()))
    assert found == {("net", "mean"): 24, ("net", "max"): 24, ("mfcc", ""): 8}


def test_subsets_are_nested_balanced_and_drawn_by_the_seed():
    features, rows = table(), np.arange(5, 60)
    found = {n: subset(features, rows, n, seed=1) for n in (1, 4, 9, 15)}
    for n, chosen in found.items():
        assert {*chosen} <= {*rows}
        assert Counter(features.labels[chosen].tolist()) == {0: n, 1: n, 2: n}
        assert {*chosen} <= {*found[15]}
        assert (np.diff(chosen) > 0).all()
    assert {*subset(features, rows, 4, seed=2)} != {*found[4]}


def test_subsets_take_groups_whole_and_never_one_alone():
    # Six speakers of ten clips, each with all three classes.
    groups = np.array([f"speaker{number // 10}" for number in range(60)])
    features, rows = table(groups), np.arange(60)
    for seed in range(5):
        few = subset(features, rows, 4, seed)
        assert len({*groups[few]}) == 2
        assert all(len({*groups[few[features.labels[few] == label]]}) == 2 for label in range(3))
        more = subset(features, rows, 9, seed)
        assert {*few} <= {*more}
        counts = [Counter(groups[more[features.labels[more] == label]].tolist()) for label in range(3)]
        sizes = [Counter(groups[features.labels == label].tolist()) for label in range(3)]
        partial = [
            [name for name in of_class if of_class[name] < size[name]]
            for of_class, size in zip(counts, sizes, strict=True)
        ]
        assert max(map(len, partial)) <= 2


def test_a_class_with_too_few_clips_is_named():
    with pytest.raises(InputError, match=r"class 'a' has 20 clips to fit on; 21 were asked for"):
        subset(table(), np.arange(60), 21, seed=0)


def test_centroids_are_those_of_numpy():
    features = table()
    found = [*scored(features, ("bad", "good"), "centroid", seed=0)]
    x, y = np.concatenate([features.layers["bad"], features.layers["good"]], axis=1), features.labels
    for result in found:
        _, fit, score = result.fold.outer
        scaled = (x - x[fit].mean(axis=0)) / x[fit].std(axis=0)
        centroids = np.stack([scaled[fit][y[fit] == label].mean(axis=0) for label in range(3)])
        nearest = np.linalg.norm(scaled[score][:, None] - centroids, axis=2).argmin(axis=1)
        assert result.score == pytest.approx((nearest == y[score]).mean())
    assert [result.fold.name for result in found] == ["fold_0", "fold_1", "fold_2"]


def test_logistic_regression_is_chosen_inside_the_training_clips():
    features = table()
    for result in scored(features, ("bad",), "logistic", seed=0):
        _, fit, score = result.fold.outer
        x, y = features.layers["bad"], features.labels

        def accuracy(c, fit, score, x=x, y=y):
            mean, deviation = x[fit].mean(axis=0), x[fit].std(axis=0)
            model = LogisticRegression(C=c, max_iter=2000).fit((x[fit] - mean) / deviation, y[fit])
            return model.score((x[score] - mean) / deviation, y[score])

        inside = {c: np.mean([accuracy(c, *part[1:]) for part in result.fold.inner]) for c in (0.01, 0.1, 1.0)}
        best = max(inside, key=inside.get)
        assert result.parameters == f"C={best:g}"
        assert result.score == pytest.approx(accuracy(best, fit, score))


def test_centroids_of_silence_are_refused_in_our_words():
    features = table()
    features.layers["bad"][:] = 1.5
    with pytest.raises(InputError, match=r"^features of bad: are the same of all clips to fit on; expected some that "):
        [*scored(features, ("bad",), "centroid", seed=0)]
    assert [*scored(features, ("bad", "good"), "centroid", seed=0)]


@pytest.mark.parametrize("classifier", ["svm", "logistic", "centroid"])
def test_layers_are_chosen_inside_the_training_clips(classifier):
    features = table()
    # In the clips of fold 0 the other layer tells the classes: that must not be seen when fold 0 is scored.
    of_fold = features.folds == 0
    features.layers["bad"][of_fold] += 100 * features.labels[of_fold, None].astype(np.float32)
    first, *_ = scored(features, single, classifier, seed=0)
    assert first.layers == ("good",)
    assert first.score > 0.8
