"""LayerFeatures as scikit-learn wants a transformer: in pipelines, grids and frames, computing each clip once."""

import os
import pickle
import re
import shutil
import warnings
from dataclasses import replace
from inspect import signature

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn.utils.estimator_checks as checks
import soundfile
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import SkipTestWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data
from sounds import LAYERS, noise

import keras_audio_transfer as kat
from keras_audio_transfer import layer_features
from keras_audio_transfer.datasets import Clip
from keras_audio_transfer.extraction import SavedExtractor

RATE = 16000
GRID = [["layer1"], ("layer5",), "layer2", ["layer4", "layer5"], None]


@pytest.fixture(scope="module")
def model(model_dir):
    return kat.load_model(model_dir)


@pytest.fixture(autouse=True)
def _empty_cache():
    kat.LayerFeatures.clear_cache()


@pytest.fixture
def computed(monkeypatch):
    """The shapes of what the network is run on."""
    shapes, run = [], SavedExtractor.__call__
    monkeypatch.setattr(SavedExtractor, "__call__", lambda self, x: shapes.append(x.shape) or run(self, x))
    return shapes


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Twelve files, every other one of a low and of a high tone."""
    folder = tmp_path_factory.mktemp("tones")
    paths = [folder / f"{number}.wav" for number in range(12)]
    for number, path in enumerate(paths):
        frequency = (200, 3000)[number % 2] + 10 * number
        soundfile.write(path, 0.5 * np.sin(2 * np.pi * frequency * np.arange(4000) / RATE), RATE)
    return paths


Y = ["low", "high"] * 6


def pipeline(model, **arguments):
    return make_pipeline(kat.LayerFeatures(model, **arguments), StandardScaler(), SVC())


# ---- what comes out


def test_features_are_those_of_a_table(model, paths):
    table = kat.extract(paths, model)
    for layers in GRID:
        features = kat.LayerFeatures(model, layers).fit_transform(paths)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, table.to_numpy(layers), rtol=1e-6)
    longer = kat.LayerFeatures(model, "layer1", clip_seconds=0.5).transform(paths)
    np.testing.assert_allclose(longer, kat.extract(paths, model, clip_seconds=0.5).to_numpy("layer1"), rtol=1e-5)


def object_array(values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def test_whatever_holds_clips_is_taken(model, paths):
    transformer = kat.LayerFeatures(model, "layer5")
    expected = transformer.transform(paths)
    pairs = [soundfile.read(path) for path in paths]
    for inputs in (
        [*map(str, paths)],
        np.array([*map(str, paths)]),
        pd.Series(paths),
        pd.DataFrame({"path": [*map(str, paths)]}),
        pairs,
        [soundfile.read(path, dtype="int16") for path in paths],
        object_array(pairs),
        [Clip(str(number), path) for number, path in enumerate(paths)],
        [*pairs[:6], *paths[6:]],
    ):
        np.testing.assert_allclose(transformer.fit(inputs).transform(inputs), expected, rtol=1e-4, atol=1e-4)
    assert transformer.transform(paths[0]).shape == transformer.transform(pairs[0]).shape == (1, 64)
    np.testing.assert_array_equal(transformer.transform([paths[1], paths[0], paths[1]]), expected[[1, 0, 1]])


def test_names_of_channels(model):
    names = kat.LayerFeatures(model, ["layer5", "layer1"]).get_feature_names_out()
    assert names.tolist() == [f"{layer}/{channel}" for layer in ("layer5", "layer1") for channel in range(64)]
    assert len(kat.LayerFeatures(model).get_feature_names_out()) == sum(model.card.layer_sizes.values())


def test_frames(model, paths):
    transformer = kat.LayerFeatures(model, ["layer5"]).set_output(transform="pandas")
    frame = transformer.fit_transform(pd.Series(paths, index=[f"row{i}" for i in range(12)]))
    assert frame.columns.tolist() == [f"layer5/{channel}" for channel in range(64)]
    assert frame.index.tolist() == [f"row{i}" for i in range(12)]
    np.testing.assert_array_equal(frame, kat.LayerFeatures(model, ["layer5"]).transform(paths))
    in_pipeline = make_pipeline(kat.LayerFeatures(model, "layer5"), StandardScaler()).set_output(transform="pandas")
    assert in_pipeline.fit_transform(paths).columns[0] == "layer5/0"


def test_a_column_of_a_frame_beside_others(model, paths):
    frame = pd.DataFrame({"path": [*map(str, paths)], "temperature": np.arange(12.0)})
    for columns in ("path", ["path"]):
        both = ColumnTransformer([("sound", kat.LayerFeatures(model, "layer5"), columns)], remainder="passthrough")
        assert both.fit_transform(frame).shape == (12, 65)


# ---- in grids


def test_a_grid_over_layers_computes_each_clip_once(model, paths, computed):
    grid = {"layerfeatures__layers": GRID}
    search = GridSearchCV(pipeline(model), grid, cv=3, error_score="raise").fit(paths, Y)
    assert len(computed) == len(paths)
    table, svm = kat.extract(paths, model), make_pipeline(StandardScaler(), SVC())
    expected = [cross_val_score(svm, table.to_numpy(layers), Y, cv=3).mean() for layers in GRID]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], expected)
    n_computed = len(computed)
    np.testing.assert_allclose(cross_val_score(pipeline(model, layers="layer5"), paths, Y, cv=3).mean(), expected[1])
    assert len(computed) == n_computed
    pairs = [soundfile.read(path) for path in paths]
    np.testing.assert_allclose(cross_val_score(pipeline(model, layers="layer5"), pairs, Y, cv=3).mean(), expected[1])
    assert len(computed) == n_computed + len(paths)  # a file and its samples are not known to be the same


def test_threads_do_not_compute_a_clip_twice(model, paths, computed):
    with joblib.parallel_backend("threading"):
        GridSearchCV(pipeline(model), {"layerfeatures__layers": GRID}, cv=3, n_jobs=2).fit(paths, Y)
    assert len(computed) == len(paths)


@pytest.mark.slow
def test_processes(model, paths):
    scores = [
        GridSearchCV(pipeline(model), {"layerfeatures__layers": GRID[:2]}, cv=2, n_jobs=n_jobs).fit(paths, Y)
        for n_jobs in (None, 2)
    ]
    one, two = (search.cv_results_["mean_test_score"] for search in scores)
    np.testing.assert_allclose(one, two)


def test_another_length_model_or_content_is_computed_anew(model, model_dir, tmp_path, computed):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(4000), RATE)

    def n_computed(**arguments):
        before = len(computed)
        kat.LayerFeatures(**{"model": model, **arguments}).transform([path])
        return len(computed) - before

    assert [n_computed(), n_computed(), n_computed(model=str(model_dir))] == [1, 0, 0]
    assert [n_computed(clip_seconds=0.3), n_computed(clip_seconds=0.3)] == [1, 0]
    soundfile.write(path, noise(4000, seed=1), RATE)
    os.utime(path, ns=(1, 1))
    assert [n_computed(), n_computed()] == [1, 0]
    segments = [Clip("a", path), Clip("b", path, start_seconds=0.1), Clip("c", path, duration_seconds=0.1)]
    segments[1] = replace(segments[1], labels=("a label",), split="train", fold=2)
    assert len(np.unique(kat.LayerFeatures(model, "layer1").transform(segments), axis=0)) == 3


def test_the_cache_has_an_end(model, computed, monkeypatch):
    clips = [(noise(999, seed=seed), RATE) for seed in range(5)]
    bytes_of_one = 4 * sum(model.card.layer_sizes.values()) + layer_features._KEY_BYTES
    monkeypatch.setattr(layer_features, "CACHE_BYTES", 3 * bytes_of_one)
    transformer = kat.LayerFeatures(model)
    every = transformer.transform(clips)
    assert (len(layer_features._CACHE), len(computed)) == (3, 5)
    np.testing.assert_array_equal(transformer.transform(clips[2:]), every[2:])
    assert len(computed) == 5
    transformer.transform(clips[:1])  # takes the place of the one that was used longest ago
    transformer.transform(clips[3:])
    assert len(computed) == 6


# ---- as an estimator


def test_clones_and_pickles(model, paths):
    transformer = kat.LayerFeatures(model, ["layer5"], clip_seconds=0.2)
    for copied in (clone(transformer), pickle.loads(pickle.dumps(transformer))):
        assert copied.model.path == model.path
        assert (copied.layers, copied.clip_seconds) == (["layer5"], 0.2)
        np.testing.assert_array_equal(copied.transform(paths[:2]), transformer.transform(paths[:2]))
    assert clone(transformer).model is model
    fitted = pickle.loads(pickle.dumps(pipeline(model).fit(paths, Y)))
    assert fitted.predict(paths).tolist() == Y
    assert len(pickle.dumps(transformer)) < 2000


def test_it_says_what_it_is(model):
    assert re.match(
        r"LayerFeatures\(layers=\['layer1'\],\s+model=<Model random: ", repr(kat.LayerFeatures(model, ["layer1"]))
    )
    assert [*signature(kat.LayerFeatures).parameters] == ["model", "layers", "clip_seconds"]


def rows_as_clips(X):
    return [(row, RATE) for row in np.tanh(X)]  # loud, but in [-1, 1]


class OfRows(kat.LayerFeatures):
    """What scikit-learn's checks can be run on: each row of their numbers is the samples of a clip.

    Only what X may be is different, and checked by scikit-learn's own `validate_data`; and the model is that of the
    tests, which is not there yet when the checks are collected.
    """

    _folder = None

    def _checked(self):
        model = kat.load_model(type(self)._folder)
        return model, ["layer1", "layer3"], model.front_end(0.04)

    def fit(self, X, y=None):
        return super().fit(rows_as_clips(validate_data(self, X, dtype=np.float64)))

    def transform(self, X):
        return super().transform(rows_as_clips(validate_data(self, X, dtype=np.float64, reset=False)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = True, False, False
        return tags


@pytest.fixture
def _default_model(model_dir, monkeypatch):
    monkeypatch.setattr(OfRows, "_folder", model_dir)


@parametrize_with_checks([OfRows()])  # none of which is expected to fail
@pytest.mark.usefixtures("_default_model")
def test_scikit_learns_checks(estimator, check):
    check(estimator)


CHECKS_WITHOUT_DATA = [
    checks.check_estimator_cloneable,
    checks.check_estimator_tags_renamed,
    checks.check_valid_tag_types,
    checks.check_estimator_repr,
    checks.check_no_attributes_set_in_init,
    checks.check_do_not_raise_errors_in_init_or_set_params,
    checks.check_mixin_order,
    checks.check_parameters_default_constructible,
    checks.check_get_params_invariance,
    checks.check_set_params,
]


@pytest.mark.parametrize("check", CHECKS_WITHOUT_DATA, ids=lambda check: check.__name__)
@pytest.mark.parametrize("has_model", [False, True])
def test_scikit_learns_checks_that_need_no_data(check, model, has_model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check("LayerFeatures", kat.LayerFeatures(model if has_model else None))


def test_scikit_learn_itself_runs_no_check_with_data_on_clips(model):
    with pytest.warns(SkipTestWarning, match="Can't test estimator LayerFeatures which requires input"):
        results = checks.check_estimator(kat.LayerFeatures(model))
    assert {result["check_name"] for result in results} <= {"check_estimator_cloneable"}


# ---- what cannot be


@pytest.mark.parametrize("layers", [["layer1", "layr5"], ("layr5",), "layr5"], ids=str)
def test_a_grid_with_an_unknown_layer_stops_at_once(model, paths, computed, layers):
    search = GridSearchCV(pipeline(model), {"layerfeatures__layers": [["layer1"], layers]}, cv=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            kat.InputError, match=r"^layers: 'layr5' is unknown; did you mean layer5\? choose from layer1"
        ):
            search.fit(paths, Y)


def test_parameters_that_are_refused_do_not_change(model):
    transformer = kat.LayerFeatures(model, ["layer1"], 0.3)
    with pytest.raises(kat.InputError, match=r"^layers: 'layer9' is unknown"):
        transformer.set_params(layers=["layer9"], clip_seconds=0.5)
    assert (transformer.model, transformer.layers, transformer.clip_seconds) == (model, ["layer1"], 0.3)
    assert transformer.set_params(layers=LAYERS[:2]).layers == LAYERS[:2]


BAD_PARAMETERS = {
    "unknown layer": ({"layers": ["layer9"]}, "^layers: 'layer9' is unknown; did you mean"),
    "no layer": ({"layers": []}, "^layers: is empty; expected some of layer1"),
    "a number": ({"layers": 1}, "^layers: 1 is not allowed; expected names of layers"),
    "no model": ({"model": "nowhere"}, "^nowhere: is not a folder; .*expected a model folder"),
    "a number as model": ({"model": 1}, "^model: is of type int; expected a model"),
    "a short length": ({"clip_seconds": 0.001}, "^clip_seconds: 0.001 is shorter than a frame"),
    "a text as length": ({"clip_seconds": "1"}, "^clip_seconds: '1' is not allowed"),
}


@pytest.mark.parametrize("what", BAD_PARAMETERS)
def test_parameters_that_cannot_be(model, what, paths):
    arguments, reason = BAD_PARAMETERS[what]
    transformer = kat.LayerFeatures(**{"model": model, **arguments})
    for method in (transformer.fit, transformer.transform, transformer.get_feature_names_out):
        with pytest.raises(kat.InputError, match=reason) as caught:
            method(paths)
        assert "\n" not in str(caught.value)


BAD_CLIPS = {
    "nothing": ([], "^X: is empty; expected a path, a Clip, or a pair"),
    "numbers": (np.zeros((3, 100)), "^X: is an array without its sample rate; expected"),
    "no rate": ([noise(99)], r"^X\[0\]: is an array without its sample rate; expected"),
    "a bad rate": ([(noise(99), 0)], r"^X\[0\]: sample_rate: 0 is not allowed"),
    "None": (None, "^X: is of type NoneType; expected"),
    "two columns": (pd.DataFrame({"a": ["x"], "b": ["y"]}), r"^X\[0\]: "),
}


@pytest.mark.parametrize("what", BAD_CLIPS)
def test_clips_that_cannot_be(model, what):
    clips, reason = BAD_CLIPS[what]
    for method in (kat.LayerFeatures(model).fit, kat.LayerFeatures(model).transform):
        with pytest.raises(kat.InputError, match=reason):
            method(clips)


def test_a_clip_that_cannot_be_read_is_named(model, paths, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    transformer = kat.LayerFeatures(model)
    for clip, reason in (
        (bad, "bad.wav: cannot be decoded"),
        (tmp_path / "gone.wav", "gone.wav: does not exist"),
        (tmp_path, "is a folder; expected an audio file"),
        ((np.full(99, np.nan), RATE), r"^X\[1\]: holds NaN or infinite samples"),
        (Clip("nothing", None), "^nothing: has neither a path nor a sound"),
    ):
        with pytest.raises(kat.InputError, match=reason):
            transformer.transform([paths[0], clip])


def test_a_model_of_whole_batches_is_refused(model_dir, paths, tmp_path):
    folder = shutil.copytree(model_dir, tmp_path / "model")
    text = (folder / "card.json").read_text(encoding="utf-8")
    (folder / "card.json").write_text(text.replace('"decibel_maximum": "clip"', '"decibel_maximum": "batch"'))
    with pytest.raises(
        kat.InputError, match="its features depend on the whole batch, which a clip alone does not have"
    ):
        kat.LayerFeatures(folder).fit(paths)


# ---- other types


def test_clips_may_come_once(model, paths, computed):
    transformer = kat.LayerFeatures(model, "layer5")
    expected = transformer.transform(paths)
    np.testing.assert_array_equal(transformer.fit_transform(path for path in paths), expected)
    np.testing.assert_array_equal(transformer.transform(map(str, paths)), expected)
    fitted = pipeline(model, layers="layer5").fit((path for path in paths), Y)
    assert fitted.predict(path for path in paths).tolist() == Y
    with pytest.raises(kat.InputError, match=r"^X: is empty"):
        transformer.fit_transform(iter([]))
    named = (
        kat.LayerFeatures(model, "layer5").set_output(transform="pandas").fit_transform(pd.Series(paths, range(7, 19)))
    )
    assert named.index.tolist() == [*range(7, 19)]
    assert len(computed) == len(paths)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"path": ["a.wav"], "label": ["dog"]}),
        pd.DataFrame({"path": ["a.wav"], "rate": [RATE], "label": ["dog"]}),
        np.array([["a.wav", "dog"]]),
        pd.DataFrame({"path": ["a.wav"], "rate": [RATE]}),
    ],
    ids=["two texts", "three", "an array", "with a number"],
)
def test_frames_of_several_columns(model, frame):
    reason = rf"^X\[0\]: is a row of {frame.shape[1]} columns; expected one column of paths; take that one$"
    for method in (kat.LayerFeatures(model).fit, kat.LayerFeatures(model).fit_transform):
        with pytest.raises(kat.InputError, match=reason):
            method(frame)


def test_frames_of_sounds_and_rates(model):
    sounds = [noise(999, seed=seed) for seed in range(2)]
    frame = pd.DataFrame({"audio": sounds, "rate": [RATE, 8000]})
    transformer = kat.LayerFeatures(model, "layer1")
    expected = transformer.transform([(sounds[0], RATE), (sounds[1], 8000)])
    np.testing.assert_array_equal(transformer.transform(frame), expected)


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (np.array(["layer9"]), "'layer9' is unknown; did you mean"),
        (np.array("layer9"), "'layer9' is unknown"),
        (np.array(["layer1", "layer9"], dtype=object), "'layer9' is unknown"),
        (pd.Series(["layer9"]), "'layer9' is unknown"),
        (b"layer1", "b'layer1' is not allowed; expected names of layers"),
        ([1], "'1' is unknown"),
        ([], "is empty; expected some of layer1"),
        (["layer1", "layer1"], r"\['layer1', 'layer1'\] names a layer twice"),
    ],
)
def test_a_grid_with_layers_of_another_type_stops_at_once(model, paths, computed, layers, reason):
    search = GridSearchCV(pipeline(model), {"layerfeatures__layers": [["layer1"], layers]}, cv=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(kat.InputError, match=f"^layers: {reason}"):
            search.fit(paths, Y)


def test_layers_in_arrays(model, paths):
    expected = kat.LayerFeatures(model, ["layer4", "layer5"]).transform(paths)
    for layers in (np.array(["layer4", "layer5"]), pd.Index(["layer4", "layer5"])):
        transformer = clone(kat.LayerFeatures(model).set_params(layers=layers))
        np.testing.assert_array_equal(transformer.fit_transform(paths), expected)
    grid = {"layerfeatures__layers": [np.array("layer5"), np.array(["layer5"])]}
    search = GridSearchCV(pipeline(model), grid, cv=2, error_score="raise").fit(paths, Y)
    assert len({*search.cv_results_["mean_test_score"]}) == 1


def test_a_clip_with_its_path_as_text(model, paths):
    with pytest.raises(kat.InputError, match=r"^a: its path is of type str; expected a pathlib\.Path"):
        kat.LayerFeatures(model).transform([paths[0], Clip("a", str(paths[1]))])
    with pytest.raises(kat.InputError, match=r"^X\[1\]: 'a+\.\.\. is not allowed \(File name too long\)"):
        kat.LayerFeatures(model).fit([paths[0], "a" * 5000])
