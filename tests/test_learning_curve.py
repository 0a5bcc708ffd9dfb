"""The score against the number of clips: which clips are fitted on, what is scored, what is said of twice as many."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from keras_audio_transfer import plots
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.probing import learning_curve as module
from keras_audio_transfer.probing.learning_curve import LearningCurve, learning_curve, nested_places
from keras_audio_transfer.probing.prober import Prober


def table(n_clips=120, n_classes=3, splits=None, groups=None):
    """Two layers in which classes lie apart, in noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(n_clips) % n_classes
    means = np.random.default_rng(1).normal(0, 1, (n_classes, 8))
    layers = {f"layer{i}": (means[labels] + 2 * rng.normal(size=(n_clips, 8))).astype(np.float32) for i in (1, 2)}
    return FeatureTable(
        layers,
        clip_ids=np.array([f"{i}.wav" for i in range(n_clips)]),
        labels=labels,
        label_names=[*"abcdefghij"[:n_classes]],
        folds=np.full(n_clips, -1),
        splits=np.full(n_clips, "") if splits is None else splits,
        groups=groups,
    )


@pytest.fixture(scope="module")
def five_folds():
    prober = Prober(table())
    (row,) = prober.rows([("layer1", "layer2")])
    return prober, row, learning_curve(prober, row)


def test_the_last_size_is_the_probe_itself(five_folds):
    _, row, curve = five_folds
    last = curve.sizes.iloc[-1]
    assert {name: last[name] for name in ("score", "deviation", "interval_low", "interval_high")} == {
        name: row[name] for name in ("score", "deviation", "interval_low", "interval_high")
    }
    assert (last["clips"], last["clips_a_class"]) == (96, 32)
    assert [*curve.sizes["clips"]] == sorted({*curve.sizes["clips"]})
    assert curve.sizes["score"].iloc[0] < row["score"]


def test_a_smaller_size_is_what_scikit_learn_scores():
    prober, features, scores = Prober(table()), table(), []
    chosen = ["layer1", "layer1+layer2", "layer2", "layer1", "layer1+layer2"]
    params = ["linear C=2", "rbf C=8 gamma=auto", "rbf C=2 gamma=0.0078125", "linear C=0.1", "rbf C=32 gamma=auto"]
    row = {"layers": "best", "chosen_by_round": "; ".join(chosen), "parameters": "; ".join(params)}
    curve = learning_curve(prober, row)
    for fold, layers, text in zip(prober.outer_folds, chosen, params, strict=True):
        x = np.concatenate([features.layers[name] for name in layers.split("+")], axis=1).astype(np.float64)
        kernel, *named = text.split()
        values = dict(text.split("=") for text in named)
        gamma = values.get("gamma", "auto")
        svm = SVC(kernel=kernel, C=float(values["C"]), gamma=gamma if gamma == "auto" else float(gamma))
        for number in range(3):
            fit = fold.outer.fit[nested_places(features, fold.outer.fit, prober.seed, number) <= 0.4]
            scaler = StandardScaler().fit(x[fit])
            svm.fit(scaler.transform(x[fit]), features.labels[fit])
            held_out = fold.outer.score
            scores.append(svm.score(scaler.transform(x[held_out]), features.labels[held_out]))
    of_size = curve.sizes[curve.sizes["clips"] == 39]
    assert of_size["score"].item() == pytest.approx(np.mean(scores), abs=1e-12)


def test_subsets_are_nested_in_proportion_and_divide_no_group():
    groups = np.array(["" if i % 3 == 0 else f"recording {i // 6}" for i in range(120)])  # of the classes 1 and 2
    features = table(groups=groups)
    rows = np.arange(5, 115)
    places = nested_places(features, rows, seed=3)
    assert ((places > 0) & (places < 1)).all()
    for group in {*groups[rows]} - {""}:
        assert np.ptp(places[groups[rows] == group]) == 0
    for fraction in (0.1, 0.25, 0.5, 0.8):
        shares = [np.mean(places[features.labels[rows] == label] <= fraction) for label in range(3)]
        assert shares == pytest.approx([fraction] * 3, abs=0.06)
    assert (nested_places(features, rows, seed=3, number=1) != places).any()
    single = table()
    exact = nested_places(single, np.arange(30), seed=0)
    assert [*np.bincount(single.labels[:30][exact <= 0.25])] == [3, 3, 3]  # 2.5 of ten


def test_sizes_that_leave_a_class_without_are_left_out():
    features = table(60)
    rare = (features.labels == 2) & (np.arange(60) > 15)  # but five clips, of which four are fitted on
    labels = np.where(rare, 0, features.labels)
    row = {"layers": "layer1", "parameters": "; ".join(["linear C=2"] * 5)}
    assert [*learning_curve(Prober(replace(features, labels=labels)), row).sizes["clips"]] == [10, 19, 29, 38, 48]


def test_of_very_few_clips_the_small_sizes_are_left_out():
    row = {"layers": "layer1", "parameters": "; ".join(["linear C=2"] * 5)}
    assert [*learning_curve(Prober(table(15)), row).sizes["clips"]] == [3, 6, 9, 12]  # no tenth of four a class


def test_a_test_split_has_the_probes_interval():
    prober = Prober(table(240, splits=np.where(np.arange(240) < 160, "train", "test")))
    (row,) = prober.rows([("layer1",)])
    curve = learning_curve(prober, row)
    assert curve.sizes["score"].iloc[-1] == row["score"]
    assert curve.sizes["deviation"].isna().all()
    assert curve.sizes["interval_high"].iloc[-1] == row["interval_high"]


# ---- twice as many


def extrapolated(scores, deviation=0.0, n_folds=5):
    """Of scores at the module's fractions of 100 clips, in folds that all lie off by the same."""
    off = deviation * np.linspace(-1, 1, n_folds)
    matrices = [np.array([score + off]) for score in scores]
    clips = [100 * fraction for fraction in module.FRACTIONS[-len(scores) :]]
    sizes = pd.DataFrame({"clips": clips, "clips_a_class": clips, "score": scores})
    return module._extrapolated(sizes, matrices, 0)


def power_law(a, b, c):
    return [1 - a - b * fraction**-c for fraction in module.FRACTIONS]


@pytest.mark.parametrize("law", [(0.05, 0.1, 0.5), (0.0, 0.3, 0.25), (0.1, 0.05, 1.0)])
def test_a_power_law_is_found_again(law):
    twice, sentence = extrapolated(power_law(*law))
    a, b, c = law
    assert twice["score"] == pytest.approx(1 - a - b * 2**-c, abs=1e-6)
    assert (twice["clips"], twice["interval_low"]) == (200, pytest.approx(twice["score"]))
    assert sentence.endswith("adding clips is likely to help")


def test_folds_that_differ_widen_the_interval_as_students_t_does():
    twice, _ = extrapolated(power_law(0.05, 0.1, 0.5), deviation=0.02)
    half = np.std(0.02 * np.linspace(-1, 1, 5), ddof=1) / np.sqrt(5) * 2.776
    assert twice["score"] - twice["interval_low"] == pytest.approx(half, rel=0.15)  # of 200 resamplings


def test_a_single_folds_clips_are_resampled():
    matrices = [np.arange(1000)[np.newaxis] < 1000 * score for score in power_law(0.05, 0.1, 0.5)]
    clips = [100 * fraction for fraction in module.FRACTIONS]
    sizes = pd.DataFrame({"clips": clips, "clips_a_class": clips, "score": [right.mean() for right in matrices]})
    twice, _ = module._extrapolated(sizes, matrices, 0)
    half = 1.96 * np.sqrt(twice["score"] * (1 - twice["score"]) / 1000)
    assert twice["score"] - twice["interval_low"] == pytest.approx(half, rel=0.25)


def test_a_flat_curve_is_not_worth_more_clips():
    twice, sentence = extrapolated([0.899, 0.9, 0.9, 0.9, 0.9, 0.9])
    assert (
        sentence
        == "twice as many clips: 0.900 (0.900 to 0.900) instead of 0.900; adding clips is not likely to help much"
    )
    assert twice["score"] == pytest.approx(0.9, abs=0.001)


@pytest.mark.parametrize("last", [0.84, 0.80, 0.83])
def test_twice_as_many_clips_never_give_less_than_the_score_at_hand(last):
    """Whether the last score lies above the curve of the others, below or on it."""
    scores = [0.5, 0.6, 0.7, 0.76, 0.8, last]
    twice, sentence = extrapolated(scores, deviation=0.005)
    assert last < twice["score"] <= last + (last - 0.5)
    assert sentence.startswith(f"twice as many clips: {twice['score']:.3f} (")
    assert f" instead of {last:.3f}; " in sentence


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        ([0.9, 0.89, 0.88, 0.88, 0.87, 0.87], "is as good with fewer clips"),
        ([0.6, 0.7, 0.8, 0.9, 1, 1], "cannot be better"),
    ],
)
def test_no_gain_is_foretold_where_the_score_does_not_rise(scores, why):
    assert extrapolated(scores) == (None, f"no gain from more clips can be foretold: the score {why}")


@pytest.mark.parametrize(
    ("deviation", "why"), [(0.2, "the folds differ too much"), (np.nan, "the scored clips are too few")]
)
def test_where_nothing_follows_nothing_is_said(deviation, why):
    rng = np.random.default_rng(0)
    matrices = [rng.uniform(0.3, 0.9, (1, 5)) for _ in module.FRACTIONS]
    clips = [100 * fraction for fraction in module.FRACTIONS]
    sizes = pd.DataFrame({"clips": clips, "clips_a_class": clips, "score": [values.mean() for values in matrices]})
    said = module._extrapolated(sizes.assign(deviation=deviation), matrices, 0)
    assert said == (None, f"no gain from more clips can be foretold: {why}")
    assert extrapolated([0.8, 0.85, 0.9]) == (None, "too few clips to say whether more would help")


@pytest.mark.parametrize("settings", [{"protocol": "choi2017"}, {}], ids=["choi2017", "regression"])
def test_other_probers_are_refused(settings):
    features = table()
    if not settings:
        features = replace(features, labels=features.layers["layer1"][:, 0].astype(np.float64), label_names=["x"])
    with pytest.raises(InputError, match="needs classes, nested"):
        learning_curve(Prober(features, **settings), {})


# ---- the picture


@pytest.mark.parametrize("refused", [False, True])
def test_the_picture_has_the_sizes_and_the_expected_point(five_folds, refused, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "save", lambda figure, path: drawn.append(figure))
    twice = {"clips": 192.0, "clips_a_class": 64.0, "score": 0.95, "interval_low": 0.9, "interval_high": 1.0}
    curve = LearningCurve(five_folds[2].sizes, None if refused else twice, "a sentence")
    plots.more_clips(curve, tmp_path / "a.*", "mine", "mean average precision")
    (figure,) = drawn
    (axis,) = figure.axes
    assert axis.get_ylabel() == "mean average precision"
    assert axis.get_xlabel() == "clips that are fitted on, without those that are scored"
    assert axis.get_xscale() == "log"
    assert figure.get_suptitle() == "mine\na sentence"
    assert [label.get_text() for label in axis.get_xticklabels()] == [
        f"{clips:.0f}" for clips in [*curve.sizes["clips"], *([] if refused else [192])]
    ]
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert len(labels) == 2 - refused
    plots.plt.close(figure)


def test_the_picture_is_written(five_folds, tmp_path):
    plots.more_clips(five_folds[2], Path(tmp_path / "a.*"), "mine")
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.svg"}
