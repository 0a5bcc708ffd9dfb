"""One-vs-rest probes beside scikit-learn's own machinery: choice, decision values, honesty, refusals, tables."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, precision_score, recall_score, roc_auc_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.probing import label_results
from keras_audio_transfer.probing.cross_validation import final_parts
from keras_audio_transfer.probing.layer_selection import all_single_or_all
from keras_audio_transfer.probing.learning_curve import learning_curve_of_labels, nested_places
from keras_audio_transfer.probing.multi_label import MultiLabelProber, average_precisions

NAMES = ["rain", "wind", "=owl"]


def tags(n=60, folds=3, groups=None, seed=0):
    """Two layers, of which the second says more of the labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 3)) < [0.5, 0.4, 0.3]).astype(np.int64)
    labels[labels.sum(axis=1) == 0, 0] = 1
    layers = {}
    for name, noise in (("low", 4.0), ("high", 1.0)):
        features = labels @ rng.normal(0, 1, (3, 6)) + rng.normal(0, noise, (n, 6))
        layers[name] = (features * rng.uniform(0.1, 50, 6)).astype(np.float32)
    numbers = np.arange(n) % folds if folds else np.full(n, -1)
    return FeatureTable(layers, np.arange(n).astype(str), labels, NAMES, numbers, np.full(n, ""), groups=groups)


def one_layer(features):
    return replace(features, layers={"high": features.layers["high"]})


@pytest.fixture(scope="module")
def probed():
    prober = MultiLabelProber(tags())
    return prober, prober.held_out(), prober.fit()


def scikit_learn(point):
    gamma = {} if point.gamma is None else {"gamma": point.gamma}
    return OneVsRestClassifier(make_pipeline(StandardScaler(), SVC(kernel=point.kernel, C=point.C, **gamma)))


def joined(features, layers):
    return np.concatenate([features.layers[name] for name in layers], axis=1).astype(np.float64)


def mean_average_precision(prober, parts, layers, point):
    x, y = joined(prober.features, layers), prober.features.labels
    scores = []
    for part in parts:
        fitted = scikit_learn(point).fit(x[part.fit], y[part.fit])
        scores.append(average_precision_score(y[part.score], fitted.decision_function(x[part.score]), average="macro"))
    return np.mean(scores)


def test_what_is_chosen_is_the_best_of_scikit_learns(probed):
    prober, _, probe = probed
    parts = final_parts(prober.features)
    scores = {}
    for layers in all_single_or_all([*prober.features.layers]):
        for point in prober.grid:
            scores[layers, point] = mean_average_precision(prober, parts, layers, with_gamma(prober, layers, point))
    assert scores[probe.layers, probe.params] == pytest.approx(max(scores.values()), abs=1e-9)


def with_gamma(prober, layers, point):
    return point._replace(gamma=None if point.gamma is None else 1 / joined(prober.features, layers).shape[1])


def test_decision_values_are_scikit_learns(probed):
    prober, held_out, _ = probed
    for fold in prober.folds:
        layers, params = held_out.chosen[fold.name]
        x = joined(prober.features, layers)
        fitted = scikit_learn(with_gamma(prober, layers, params)).fit(
            x[fold.outer.fit], prober.features.labels[fold.outer.fit]
        )
        expected = fitted.decision_function(x[fold.outer.score])
        np.testing.assert_allclose(held_out.values[held_out.folds == fold.name], expected, atol=1e-6)


def test_clips_that_are_scored_have_no_part_in_anything(probed):
    """Whatever their labels are: what is said of them stays."""
    prober, held_out, _ = probed
    first = prober.folds[0].outer.score
    labels = prober.features.labels.copy()
    labels[first] = labels[first][::-1]
    assert (labels != prober.features.labels).any()
    other = MultiLabelProber(replace(prober.features, labels=labels)).held_out()
    of_first = held_out.folds == prober.folds[0].name
    for name in ("values", "probabilities", "predicted"):
        np.testing.assert_array_equal(getattr(held_out, name)[of_first], getattr(other, name)[of_first])


@pytest.mark.parametrize(("fraction", "n_subsets"), [(0.6, 2), (0.8, 2)])
def test_a_smaller_size_of_the_learning_curve_is_what_scikit_learn_scores(probed, fraction, n_subsets):
    prober, held_out, _ = probed
    sizes = learning_curve_of_labels(prober, held_out).sizes
    assert sizes["score"].iloc[-1] == pytest.approx(
        label_results.summary(prober.features, held_out)["mean_average_precision"], abs=1e-12
    )
    y, scores = prober.features.labels, []
    for fold, (layers, params) in zip(prober.folds, held_out.chosen.values(), strict=True):
        x, rows, scored = joined(prober.features, layers), fold.outer.fit, fold.outer.score
        for subset in range(n_subsets):
            fit = rows[nested_places(prober.features, rows, prober.seed, subset) <= fraction]
            fitted = scikit_learn(with_gamma(prober, layers, params)).fit(x[fit], y[fit])
            scores.append(average_precision_score(y[scored], fitted.decision_function(x[scored]), average="macro"))
    of_size = sizes[sizes["clips"] == 40 * fraction]
    assert of_size["score"].item() == pytest.approx(np.mean(scores), abs=1e-9)


def test_the_learning_curve_of_a_single_test_split_has_no_intervals():
    features = replace(one_layer(tags()), folds=np.full(60, -1), splits=np.where(np.arange(60) < 40, "train", "test"))
    prober = MultiLabelProber(features)
    curve = learning_curve_of_labels(prober, prober.held_out())
    assert curve.sizes["interval_low"].isna().all()
    assert curve.twice is None
    assert curve.sentence.endswith("there is one score, of one test split")


def test_without_folds_no_group_is_divided():
    groups = np.repeat(np.arange(30), 2).astype(str)
    prober = MultiLabelProber(tags(folds=None, groups=groups))
    assert len(prober.folds) == 5
    assert "5-fold (seed 0), which divide no group" in prober.description
    for fold in prober.folds:
        for part in (fold.outer, *fold.inner):
            assert not {*groups[part.fit]} & {*groups[part.score]}
    assert sorted(np.concatenate([fold.outer.score for fold in prober.folds])) == [*range(60)]


def test_of_several_sources_one_is_taken():
    names = ["a/1", "a/2", "b/1"]
    assert all_single_or_all(names) == [("a/1",), ("a/2",), ("b/1",), ("a/1", "a/2")]


def test_clips_of_which_none_has_two_labels_are_taken_alike():
    """As where the only clip with two cannot be read."""
    numbers = np.arange(60) // 3 % 3
    features = one_layer(replace(tags(), labels=numbers))
    two_ways = [features, replace(features, labels=(numbers[:, np.newaxis] == np.arange(3)).astype(np.int64))]
    first, second = (MultiLabelProber(of_way).held_out() for of_way in two_ways)
    np.testing.assert_array_equal(first.probabilities, second.probabilities)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (4, "labels: clips with '=owl': 4, and 5-fold cross-validation needs 5; add some, or leave the label out"),
        (0, "labels: clips with '=owl': 0, and 5-fold"),
        (60, "labels: of the clips that fold_1 leaves to fit on all have '=owl'"),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(rows, message):
    features = tags(folds=None)
    features.labels[:, 2] = np.arange(60) < rows
    with pytest.raises(InputError, match=message):
        MultiLabelProber(features)


def test_a_label_of_one_fold_only_is_refused():
    features = tags()
    features.labels[:, 2] = features.folds == 0
    with pytest.raises(InputError, match="labels: of the clips that fold_0 leaves to fit on none has '=owl'"):
        MultiLabelProber(features)


def test_results_label_by_label(probed):
    prober, held_out, probe = probed
    expected = prober.features.labels[held_out.rows]
    table = label_results.by_label(prober.features, held_out, probe.calibration.thresholds)
    assert table["label"].tolist() == NAMES
    assert table["clips"].tolist() == expected.sum(axis=0).tolist()
    assert table["threshold"].tolist() == probe.calibration.thresholds.tolist()
    for name, measure in (("precision", precision_score), ("recall", recall_score)):
        np.testing.assert_allclose(table[name], measure(expected, held_out.predicted, average=None))
    by_fold = np.array(
        [
            average_precision_score(expected[of_fold], held_out.values[of_fold], average=None)
            for of_fold in (held_out.folds == fold.name for fold in prober.folds)
        ]
    )
    np.testing.assert_allclose(table["average_precision"], by_fold.mean(axis=0))
    assert (table["average_precision_low"] <= table["average_precision"]).all()
    areas = [
        roc_auc_score(expected[of_fold], held_out.values[of_fold], average=None)
        for of_fold in (held_out.folds == fold.name for fold in prober.folds)
    ]
    np.testing.assert_allclose(table["auc"], np.mean(areas, axis=0))
    assert (table["auc_high"] >= table["auc"]).all()
    scores = label_results.summary(prober.features, held_out)
    assert scores["mean_average_precision"] == pytest.approx(by_fold.mean())
    assert scores["interval_low"] < scores["mean_average_precision"] < scores["interval_high"] <= 1
    assert scores["chance"] == pytest.approx(expected.mean(), abs=0.02)
    assert scores["mean_average_precision"] > scores["chance"] + 0.2


def test_reliability_counts_every_label_of_every_clip(probed):
    prober, held_out, _ = probed
    table = label_results.reliability(prober.features, held_out)
    assert table["clips"].sum() == 180
    assert np.average(table["share_right"], weights=table["clips"]) == pytest.approx(prober.features.labels.mean())


def test_labels_are_predicted_as_the_tables_say(probed, tmp_path):
    prober, held_out, probe = probed
    labels = label_results.by_label(prober.features, held_out, probe.calibration.thresholds)
    label_results.write(tmp_path, prober.features, held_out, labels)
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert [*table] == ["clip", "true", "predicted", "fold", *(f"probability_{name}" for name in NAMES), "notes"]
    place = {str(clip): row for row, clip in enumerate(held_out.rows)}
    for row in table.itertuples(index=False):
        number = place[str(row.clip)]
        for text, numbers in ((row.true, prober.features.labels[held_out.rows]), (row.predicted, held_out.predicted)):
            wanted = "|".join(name for name, has in zip(NAMES, numbers[number], strict=True) if has)
            assert text.removeprefix("'") == wanted
            assert not text.startswith("=")
    assert pd.read_csv(tmp_path / "classes.csv")["label"].tolist() == ["rain", "wind", "'=owl"]


def test_labels_that_no_clip_of_a_fold_has_are_left_out_of_its_mean():
    features = one_layer(tags(folds=4))
    features.labels[features.folds == 0] = [1, 0, 1]
    prober = MultiLabelProber(features)
    held_out = prober.held_out()
    of_fold = held_out.folds == "fold_0"
    np.testing.assert_array_equal(
        average_precisions(features.labels[held_out.rows[of_fold]], held_out.values[of_fold]), [1.0, np.nan, 1.0]
    )
    assert label_results.summary(prober.features, held_out)["mean_average_precision"] > 0.5
    of_label = label_results.by_label(prober.features, held_out, np.full(3, 0.5)).iloc[1]
    assert 0 < of_label["average_precision_low"] < of_label["average_precision"]


def test_of_a_split_there_is_no_interval():
    splits = np.array(["train"] * 40 + ["test"] * 20, dtype="U10")
    prober = MultiLabelProber(replace(one_layer(tags(folds=None)), splits=splits))
    held_out = prober.held_out()
    assert set(held_out.folds) == {"test"}
    assert label_results.summary(prober.features, held_out).keys() == {"mean_average_precision", "chance"}
    splits[:10] = "validation"
    prober.features.labels[:10, 1] = 0
    with pytest.raises(InputError, match="that test leaves to choose by none has 'wind'"):
        MultiLabelProber(replace(prober.features, splits=splits))
