"""The Python API: what the commands give, from arrays, files and data sets; and one line for what cannot be."""

import copy
import doctest
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from fractions import Fraction
from importlib import import_module
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr
import tensorflow as tf
from conftest import run_main
from sounds import LAYERS, noise

import keras_audio_transfer as kat
from keras_audio_transfer import extraction
from keras_audio_transfer.clip_inputs import label_clips, label_names_of
from keras_audio_transfer.config import PRESETS
from keras_audio_transfer.datasets import DATASETS, Clip
from keras_audio_transfer.extraction import SavedExtractor

ROOT = Path(__file__).resolve().parents[1]
RATE = 16000
DOCUMENTED = [
    *("", ".errors", ".layer_names", ".feature_tables.table", ".audio.arrays", ".clip_inputs", ".model", ".api"),
    *(".layer_features", ".servers.demo_answer", ".probing.iterative_stratification", ".probing.label_thresholds"),
    *(".remote", ".remote_paths", ".study.arrays", ".study.measures", ".study.shapley"),
    *(".study.spectral_distance", ".study.statistics", ".study.study_file"),
]


@pytest.fixture(scope="session")
def model(model_dir):
    return kat.load_model(model_dir)


@pytest.fixture(scope="session")
def sounds(tmp_path_factory):
    """A folder of three files of several rates, lengths and channels, and one that is no audio."""
    folder = tmp_path_factory.mktemp("sounds")
    soundfile.write(folder / "a.wav", noise(20_000), 44100, subtype="PCM_16")
    (folder / "deeper").mkdir()
    soundfile.write(folder / "deeper" / "b.flac", noise(9000, 2, seed=1), 32000)
    soundfile.write(folder / "c.wav", noise(1000, seed=2), RATE, subtype="FLOAT")
    (folder / "d.wav").write_text("this is not audio")
    return folder


def assert_same(features, expected, **tolerances):
    assert list(features) == list(expected)
    for name, values in features.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-5, err_msg=name, **tolerances)


# ---- the package


def test_everything_public_is_there():
    assert set(kat.__all__) <= {*dir(kat)}
    for name in kat.__all__:
        assert getattr(kat, name) is not None
    assert kat.InputError.__mro__[1] is ValueError
    assert kat.datasets.load is import_module("keras_audio_transfer.datasets").load
    assert re.fullmatch(r"\d+\.\d+\.\d+", kat.__version__)
    with pytest.raises(AttributeError, match="has no attribute 'load_modell'"):
        _ = kat.load_modell


def test_the_import_is_fast_and_brings_in_next_to_nothing():
    code = (
        "import sys, time; start = time.process_time(); import keras_audio_transfer as kat;"
        "print(time.process_time() - start, *sorted({*map(str, sys.modules)} & {*sys.argv}))"
    )
    heavy = ["numpy", "pandas", "sklearn", "scipy", "soundfile", "tensorflow", "keras", "kapre", "matplotlib"]
    run = subprocess.run([sys.executable, "-c", code, *heavy], cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, *imported = run.stdout.split()
    assert imported == []
    assert float(seconds) < 0.1


@pytest.mark.parametrize("module", DOCUMENTED)
def test_examples_in_docstrings(module):
    result = doctest.testmod(import_module(f"keras_audio_transfer{module}"))
    assert result.failed == 0
    assert result.attempted > 0


@pytest.mark.parametrize("name", ["load_model", "extract", "probe"])
def test_what_a_notebook_calls_has_an_example(name):
    assert ">>>" in getattr(kat, name).__doc__


# ---- a model


def test_a_model_says_what_it_is(model, model_dir):
    assert model.sample_rate == RATE
    assert model.layer_names == LAYERS
    assert model.labels == [*DATASETS["synthetic"].LABELS]
    assert model.path == model_dir.absolute()
    assert repr(model) == "<Model random: 16000 Hz, 5 layers (layer1 to layer5), 5 labels>"
    assert isinstance(model.keras_model, keras.Model)
    assert model.keras_model is model.keras_model
    assert isinstance(model.saved_model, SavedExtractor)


def test_without_a_path_it_is_the_one_that_comes_with_the_package():
    model = kat.load_model()
    assert model.card.network == "convnet5"
    assert len(model.labels) == 10


def test_a_model_is_loaded_once_and_never_copied(model, model_dir, monkeypatch):
    assert copy.deepcopy(model) is model
    assert copy.copy(model) is model
    loaded = model.saved_model
    monkeypatch.setattr(SavedExtractor, "__init__", lambda *_: pytest.fail("loaded again"))
    again = pickle.loads(pickle.dumps(model))
    assert (again.path, again.card) == (model.path, model.card)
    assert again.saved_model is loaded
    assert kat.load_model(str(model_dir)).saved_model is loaded


def test_a_model_that_was_exported_again_is_loaded_again(model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "SavedExtractor", lambda folder: [folder])
    folder = shutil.copytree(model_dir, tmp_path / "model")
    first = kat.load_model(folder)
    assert first.saved_model == [folder / "1"]
    assert kat.load_model(folder).saved_model is first.saved_model
    os.utime(folder / "1" / "saved_model.pb", ns=(0, 0))
    assert kat.load_model(folder).saved_model is not first.saved_model


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (lambda folder: folder / "nowhere", r"nowhere: is not a folder; .*expected a model folder"),
        (lambda folder: folder, "has no card.json; .*expected a model folder"),
        (lambda folder: 3, r"^path: is of type int; expected the path of a model folder, or None$"),
        (lambda folder: b"model", r"^path: is of type bytes; expected"),
    ],
)
def test_no_model_folder(tmp_path, path, reason):
    with pytest.raises(kat.InputError, match=reason) as caught:
        kat.load_model(path(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_model_folder_without_a_saved_model(model_dir, tmp_path):
    (tmp_path / "card.json").write_bytes((model_dir / "card.json").read_bytes())
    with pytest.raises(kat.InputError, match="holds no SavedModel"):
        kat.load_model(tmp_path)


# ---- features


def test_features_are_those_of_the_saved_model(model):
    clip = noise(5000)
    expected = model.saved_model(clip[np.newaxis])
    assert_same(model.features(clip, RATE), {name: expected[name][0] for name in LAYERS})
    assert model.features(clip, RATE)["layer1"].shape == (model.card.layer_sizes["layer1"],)


def test_only_the_layers_asked_for(model):
    every = model.features(noise(5000), RATE)
    assert_same(
        model.features(noise(5000), RATE, ["layer4", "layer2"]), {name: every[name] for name in ("layer4", "layer2")}
    )
    assert_same(model.features(noise(5000), RATE, layers="layer4"), {"layer4": every["layer4"]})


SCALED = {
    "int16": (np.int16, 2**15),
    "big-endian int16": (">i2", 2**15),
    "int32": (np.int32, 2**31),
    "float64": (np.float64, 1),
    "float32": (np.float32, 1),
}


@pytest.mark.parametrize("kind", SCALED)
def test_types_of_samples(model, kind):
    dtype, full_scale = SCALED[kind]
    steps = np.round(noise(5000) * 2**15)  # of 16 bits, which all of them hold
    expected = model.features((steps / 2**15).astype(np.float32), RATE)
    assert_same(model.features((steps * (full_scale / 2**15)).astype(dtype), RATE), expected)


def test_samples_of_few_bits(model):
    bits = np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8)
    expected = model.features((bits.astype(np.float32) - 128) / 128, RATE)
    assert_same(model.features(bits, RATE), expected)
    half = noise(5000).astype(np.float16)
    assert_same(model.features(half, RATE), model.features(half.astype(np.float32), RATE))


@pytest.mark.parametrize("rate", [100, 8000, 22050, 44100, 44100.0, np.int64(48000), np.float32(192000), 768000])
def test_any_rate_is_resampled_as_files_are(model, rate):
    clip = noise(max(200, int(rate) // 4))
    resampled = soxr.resample(clip, int(rate), RATE, quality="HQ")
    assert_same(model.features(clip, rate), model.features(resampled, RATE))


def test_shapes_of_one_clip(model):
    stereo = noise(5000, 2)
    expected = model.features(stereo.mean(axis=1), RATE)
    assert_same(model.features(stereo, RATE), expected)
    assert_same(model.features(np.asfortranarray(stereo), RATE), expected)
    assert_same(model.features(tf.constant(stereo), RATE), expected)
    assert_same(model.features(pd.DataFrame(stereo), RATE), expected)
    mono = model.features(stereo[:, 0], RATE)
    assert_same(model.features(stereo[:, :1], RATE), mono)
    assert_same(model.features(pd.Series(stereo[:, 0]), RATE), mono)
    in_list = {name: values[np.newaxis] for name, values in expected.items()}
    for clips in ([stereo], [stereo.T], (stereo,), stereo[np.newaxis]):
        assert_same(model.features(clips, RATE), in_list)


def test_several_clips_are_each_what_they_are_alone(model):
    clips = [noise(5000), noise(40, seed=1), noise(3, 7000, seed=2), noise(1, seed=3)]
    together = model.features(clips, 44100)
    for row, clip in enumerate(clips):
        alone = model.features([clip], 44100)
        for name in LAYERS:
            np.testing.assert_array_equal(together[name][row], alone[name][0])
    batch = noise(3, 5000)
    assert_same(model.features(batch, RATE), model.features([*batch], RATE))
    assert model.features(batch, RATE)["layer5"].shape == (3, model.card.layer_sizes["layer5"])


def test_a_clip_shorter_than_a_frame_is_repeated_to_one(model):
    frame = model.card.audio.n_fft
    clip = noise(9)
    assert_same(model.features(clip, RATE), model.features(np.resize(clip, frame), RATE))


def test_the_audio_stays_as_it_was(model):
    stereo = noise(5000, 2).astype(np.float64)
    kept = stereo.copy()
    model.features(stereo, 44100)
    model.predict(stereo[:, 0], RATE)
    np.testing.assert_array_equal(stereo, kept)


def test_features_over_time_are_those_of_the_signature(model, model_dir):
    clip = noise(9000)
    over_time = model.features(clip, RATE, layers=["layer2", "layer5"], hop_seconds=0.1)
    assert list(over_time) == ["layer2", "layer5", "times"]
    np.testing.assert_allclose(over_time["times"], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    signature = tf.saved_model.load(str(model_dir / "1")).signatures["timestamps"]
    seconds = {"hop_seconds": tf.constant([0.1]), "window_seconds": tf.constant([model.card.audio.clip_seconds])}
    served = signature(waveform=tf.constant(clip[np.newaxis]), **seconds)
    for name in ("layer2", "layer5"):
        assert over_time[name].shape == (6, model.card.layer_sizes[name])
        np.testing.assert_allclose(over_time[name], served[name][0], atol=1e-4)


def test_features_over_time_of_several_clips(model):
    clips = [noise(9000), noise(100, seed=1)]
    several = model.features(clips, RATE, hop_seconds=0.1)
    assert [len(one["times"]) for one in several] == [6, 1]
    for clip, one in zip(clips, several, strict=True):
        for name, values in model.features(clip, RATE, hop_seconds=0.1).items():
            np.testing.assert_array_equal(one[name], values)


def test_a_second_call_is_quick(model):
    clip = noise(RATE)
    model.features(clip, RATE)
    start = time.process_time()
    for _ in range(5):
        model.features(clip, RATE)
    assert time.process_time() - start < 2  # of graphs that are not built again


BAD_AUDIO = {
    "None": (None, "is of type NoneType; expected a NumPy array"),
    "a path": ("a.wav", r"'a\.wav' is a path; expected an array; read it"),
    "a Path": (Path("a.wav"), r".*Path\('a\.wav'\) is a path; expected an array"),
    "a number": (0.5, "is of type float; expected a NumPy array"),
    "a list of numbers": ([0.1, 0.2], r"\[0\]: is of type float; expected a NumPy array"),
    "an empty list": ([], "is an empty list; expected at least one clip"),
    "a dict": ({"a": noise(9)}, "is of type dict"),
    "no samples": (noise(0), r"has shape \(0,\), no samples"),
    "no clips": (noise(0, 100), r"has shape \(0, 100\), no clips"),
    "no samples in a batch": (noise(100, 0), r"has shape \(100, 0\), no samples"),
    "no samples in a list": ([noise(9), noise(0)], r"\[1\]: has shape \(0,\), no samples"),
    "no dimension": (np.float32(0.5), "is of type float32; expected a NumPy array"),
    "an array of no dimension": (np.array(0.5), r"has shape \(\); expected \(samples,\)"),
    "four dimensions": (noise(1, 2, 3, 4), r"has shape \(1, 2, 3, 4\); expected \(samples,\)"),
    "three dimensions in a list": ([noise(2, 30, 2)], r"\[0\]: has shape \(2, 30, 2\); expected one clip"),
    "too many channels": (noise(2, 30, 17), r"has shape \(2, 30, 17\); expected at most 16 channels"),
    "a batch in a list": ([noise(17, 100)], r"\[0\]: has shape \(17, 100\); expected at most 16 channels"),
    "objects": (np.array([noise(3), None], dtype=object), "has samples of type object"),
    "texts": (np.array(["a", "b"]), "has samples of type <U1; expected float"),
    "int64": (np.arange(9), "has samples of type int64; expected float in"),
    "complex": (np.ones(9, complex), "has samples of type complex128"),
    "masked": (np.ma.masked_array(np.ones(9), [0, 1] * 4 + [0]), "has masked samples; expected all of them"),
    "bool": (np.ones(9, bool), "has samples of type bool"),
    "NaN": (np.full(9, np.nan), "holds NaN or infinite samples"),
    "infinity": (np.full(9, -np.inf), "holds NaN or infinite samples"),
    "NaN in a list": ([noise(9), np.full(9, np.nan)], r"\[1\]: holds NaN"),
    "never scaled": (noise(999) * 32768, r"float samples up to \d+.*; expected \[-1, 1\]; .*divide by 32768"),
}


@pytest.mark.parametrize("what", BAD_AUDIO)
def test_audio_that_cannot_be(model, what):
    audio, reason = BAD_AUDIO[what]
    for method in (model.features, model.predict):
        with pytest.raises(kat.InputError, match=f"^audio(: )?{reason}") as caught:
            method(audio, RATE)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "rate", [0, -16000, 99, 768001, 22050.5, np.nan, np.inf, "44100", True, [44100], (44100, 2), noise(3)], ids=repr
)
def test_rates_that_cannot_be(model, rate):
    expected = (
        r"^sample_rate: .* is not allowed; expected the rate of the audio, a whole number of Hz from 100 to 768000"
    )
    for method in (model.features, model.predict):
        with pytest.raises(kat.InputError, match=expected) as caught:
            method(noise(999), rate)
        assert "\n" not in str(caught.value)


def test_a_missing_rate_is_never_guessed(model):
    expected = (
        r"^sample_rate: missing; expected the rate of the audio, such as 44100, which is then resampled to the model's "
        r"16000 Hz; pass 16000 if it has that already$"
    )
    for method in (model.features, model.predict):
        with pytest.raises(kat.InputError, match=expected):
            method(noise(999))
    with pytest.raises(kat.InputError, match=r"^files_or_clips\[1\]: sample_rate: missing"):
        kat.extract([(noise(999), RATE), (noise(999), None)], model)


BAD_LAYERS = {
    "unknown": (
        ["layer1", "layr5"],
        r"^layers: 'layr5' is unknown; did you mean layer5\? choose from layer1, layer2, ",
    ),
    "one unknown": ("scores", "^layers: 'scores' is unknown; choose from layer1"),
    "none": ([], "^layers: is empty; expected some of layer1, .*, or None for all$"),
    "twice": (["layer1", "layer1"], r"^layers: \['layer1', 'layer1'\] names a layer twice; expected each once$"),
    "a number": (5, "^layers: 5 is not allowed; expected names of layers"),
    "numbers": ([1, 2], "^layers: '1' is unknown"),
}


@pytest.mark.parametrize("what", BAD_LAYERS)
def test_layers_that_cannot_be(model, what):
    layers, reason = BAD_LAYERS[what]
    with pytest.raises(kat.InputError, match=reason):
        model.features(noise(999), RATE, layers)
    with pytest.raises(kat.InputError, match=reason):
        kat.extract((noise(999), RATE), model, layers=layers)


@pytest.mark.parametrize("hop", [0, -1, np.nan, np.inf, "1", 0.0001, [1]], ids=repr)
def test_hops_that_cannot_be(model, hop):
    reason = "^hop_seconds: .* is not allowed; expected seconds from 0.001 to 3600$"
    with pytest.raises(kat.InputError, match=reason):
        model.features(noise(999), RATE, hop_seconds=hop)
    with pytest.raises(kat.InputError, match=reason):
        kat.extract((noise(999), RATE), model, hop_seconds=hop)


def with_card(model_dir, folder, **changes):
    """A copy of a model folder with another card; with audio=... of another front end."""
    shutil.copytree(model_dir, folder)
    card = kat.load_model(folder).card.to_dict()
    card["audio"] |= changes.pop("audio", {})
    (folder / "card.json").write_text(json.dumps(card | changes))
    return kat.load_model(folder)


def test_a_model_of_whole_batches_gives_features_to_tables_only(model, model_dir, tmp_path, monkeypatch):
    of_single_clips = model.saved_model
    batches = []

    class OfBatches:
        sha256 = weights_sha256 = ""

        def __call__(self, waveforms):
            batches.append(len(waveforms))
            return of_single_clips(waveforms)

    monkeypatch.setattr(extraction, "SavedExtractor", lambda _: OfBatches())
    model = with_card(model_dir, tmp_path / "model", audio={"decibel_maximum": "batch"}, batch_clips=2)
    for method in (model.features, model.predict):
        with pytest.raises(
            kat.InputError, match=r"its features depend on the whole batch, which a clip alone does not"
        ):
            method(noise(999), RATE)
    with pytest.raises(kat.InputError, match=r"^hop_seconds: .* takes whole batches; import the calibrated version$"):
        kat.extract((noise(999), RATE), model, hop_seconds=1)
    assert len(kat.extract([(noise(999), RATE)] * 3, model)) == 3
    assert batches == [2, 1]


# ---- scores


@pytest.mark.slow
def test_scores_are_those_of_the_command(model, model_dir, sounds, run_script, tmp_path):
    files = [sounds / "a.wav", sounds / "deeper" / "b.flac", sounds / "c.wav"]
    arguments = ("--top", len(model.labels), "--format", "csv", "--output", tmp_path / "scores.csv")
    run = run_script("predict", model_dir, *files, *arguments)
    assert run.returncode == 0, run.stderr
    written = pd.read_csv(tmp_path / "scores.csv")
    for file in files:
        expected = written[written["file"] == file.as_posix()]
        table = model.predict(*soundfile.read(file, dtype="float64"))
        assert table["label"].tolist() == expected["label"].tolist()
        np.testing.assert_allclose(table["score"], expected["score"], atol=1e-5)
    table = model.predict(*soundfile.read(files[0], dtype="int16"), top=2)
    assert table["label"].tolist() == written["label"][:2].tolist()


def test_scores_of_one_clip_and_of_several(model):
    clips = [noise(5000), noise(20_000, seed=1)]
    one, several = model.predict(clips[0], RATE), model.predict(clips, RATE, top=2)
    assert list(one.columns) == ["label", "score"]
    assert sorted(one["label"]) == sorted(model.labels)
    assert one["score"].is_monotonic_decreasing
    assert one["score"].sum() == pytest.approx(1, abs=1e-5)
    assert one.attrs["scores_are"] == "probabilities, whose sum is 1"
    assert list(several.columns) == ["clip", "label", "score"]
    assert several["clip"].tolist() == [0, 0, 1, 1]
    assert several["label"][:2].tolist() == one["label"][:2].tolist()
    np.testing.assert_allclose(several["score"][:2], one["score"][:2], rtol=1e-5)


@pytest.mark.parametrize("top", [0, -1, 6, 1.5, "2"])
def test_a_top_that_cannot_be(model, top):
    with pytest.raises(kat.InputError, match=r"^top: .* is not allowed; expected 1 to 5, the model's labels, or None$"):
        model.predict(noise(999), RATE, top=top)


def test_a_model_without_labels_has_no_scores(model_dir, tmp_path):
    model = with_card(model_dir, tmp_path / "model", labels=[])
    assert model.labels == []
    assert repr(model).endswith("no labels>")
    with pytest.raises(kat.InputError, match="names no labels, so there are no scores; expected a classifier"):
        model.predict(noise(999), RATE)


# ---- tables


def test_a_table_is_what_the_command_writes(model, model_dir, sounds, run_script, tmp_path):
    run = run_script("extract", model_dir, sounds, "--output", tmp_path / "features.npz")
    assert run.returncode == 1
    expected = kat.FeatureTable.load(tmp_path / "features.npz")
    with pytest.warns(
        UserWarning, match=r"^1 of 4 clips cannot be read, see `failures` of the table; the first: .*d\.wav"
    ):
        table = kat.extract(str(sounds), model)
    assert table.clip_ids.tolist() == expected.clip_ids.tolist()
    assert table.labels.tolist() == [-1, -1, -1]
    assert table.label_names == []
    assert_same(table.layers, expected.layers)
    ((failed, reason),) = table.failures
    assert failed == (sounds / "d.wav").as_posix()
    assert "cannot be decoded" in reason
    table.save(tmp_path / "mine.npz")
    assert_same(kat.FeatureTable.load(tmp_path / "mine.npz").layers, expected.layers)
    assert table.weights_sha256 == expected.weights_sha256 == dict.fromkeys(LAYERS, model.card.weights_sha256)
    over_time = kat.extract((noise(9000), RATE), model, layers="layer2", hop_seconds=0.5)
    assert over_time.weights_sha256 == {"layer2": model.card.weights_sha256}


@pytest.mark.parametrize("name", ["f.npz", "f.parquet"])
@pytest.mark.parametrize("hop", [None, 0.5])
def test_a_table_that_is_kept_as_it_is_computed(model, sounds, tmp_path, name, hop):
    how = {"model": model, "layers": ["layer5", "layer1"], "hop_seconds": hop}
    clips = [sounds / "d.wav", sounds / "c.wav", sounds / "a.wav", (noise(999), RATE)]
    with pytest.warns(UserWarning, match="1 of 4 clips cannot be read"):
        expected, table = (kat.extract(clips, **how, **more) for more in ({}, {"output": tmp_path / name}))
    assert table.failures == expected.failures
    loaded = kat.FeatureTable.load(tmp_path / name)
    for kept in (table, loaded):
        assert [*kept.layers] == ["layer5", "layer1"]
        assert_same(kept.layers, expected.layers)
        assert (kept.weights_sha256, kept.clip_ids.tolist()) == (expected.weights_sha256, expected.clip_ids.tolist())
        assert hop is None or kept.times.tolist() == expected.times.tolist()
    if name == "f.parquet":
        other = [*clips[:3], (noise(999, seed=1), RATE)]  # another sound of the same name
        with pytest.warns(UserWarning, match="1 of 4 clips cannot be read"):
            again = kat.extract(other, **how, output=str(tmp_path / name))
        assert not np.array_equal(again.layers["layer1"][-1], table.layers["layer1"][-1])


def test_places_that_no_table_can_be_kept_in(model, tmp_path):
    (tmp_path / "f.npz").mkdir()
    (tmp_path / "f.parquet").touch()
    for name, message in (
        ("f.csv", "output: .*f.csv ends in neither .npz nor .parquet; name features to write"),
        ("f.npz", "output: .*f.npz is a folder; name a file"),
        ("f.parquet", "f.parquet: is a file; expected a folder of features, or nothing; name another place"),
    ):
        with pytest.raises(kat.InputError, match=message):
            kat.extract((noise(99), RATE), model, output=tmp_path / name)
    with pytest.raises(kat.InputError, match="files_or_clips: 1 of 1 clips cannot be read; the first: "):
        kat.extract((np.full(9, np.inf), RATE), model, output=tmp_path / "g.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.npz", "f.parquet"]


def test_a_data_set_has_the_labels_that_the_command_writes(model):
    clips = kat.datasets.load("synthetic")[::25]
    table = kat.extract(clips, model, layers=["layer5", "layer1"])
    assert list(table.layers) == ["layer5", "layer1"]
    assert table.label_names == [*DATASETS["synthetic"].LABELS]  # not sorted
    assert [table.label_names[i] for i in table.labels] == [clip.labels[0] for clip in clips]
    assert table.splits.tolist() == [clip.split for clip in clips]


def test_sounds_in_memory_have_the_features_of_their_files(model, sounds):
    files = [sounds / "a.wav", sounds / "deeper" / "b.flac", sounds / "c.wav"]
    of_files = kat.extract(files, model)
    of_arrays = kat.extract([soundfile.read(file) for file in files], model)
    assert of_arrays.clip_ids.tolist() == ["clip0", "clip1", "clip2"]
    assert_same(of_arrays.layers, of_files.layers)
    with_integers = kat.extract(soundfile.read(files[0], dtype="int16"), model)
    assert_same(with_integers.layers, {name: values[:1] for name, values in of_files.layers.items()})


def test_whatever_holds_paths_is_taken(model, sounds):
    files = [sounds / "a.wav", sounds / "c.wav"]
    expected = kat.extract(files, model)
    for inputs in (
        map(str, files),
        np.array([*map(str, files)]),
        pd.Series(files, index=[7, 8]),
        pd.DataFrame({"path": [*map(str, files)]}),
        tuple(map(str, files)),
        [*files, files[0]],
        [Clip(file.as_posix(), file) for file in files],
    ):
        table = kat.extract(inputs, model, workers=1)
        assert table.clip_ids.tolist() == expected.clip_ids.tolist()
        assert_same(table.layers, expected.layers)
    assert len(kat.extract(files[0], model)) == 1
    assert len(kat.extract([sounds / "deeper", (noise(99), RATE)], model)) == 2


def test_another_length_and_progress(model, sounds, capsys):
    longer = kat.extract(sounds / "a.wav", model, clip_seconds=0.4, progress=True)
    assert "extracting: 100%" in capsys.readouterr().err
    audio, rate = soundfile.read(sounds / "a.wav", dtype="float32")
    waveform = soxr.resample(audio, rate, RATE, quality="HQ")[:6400]
    assert_same({"layer1": longer.layers["layer1"][0]}, model.features(waveform, RATE, "layer1"))
    kat.extract(sounds / "a.wav", model)
    assert capsys.readouterr().err == ""


def test_clips_are_heard_whole_unless_a_length_is_given(model_dir, model):
    """By the SavedModel, too: `as_trained` hears a file as `extract` does."""
    waveform = noise(3 * model.card.audio.n_samples + 99)
    content = io.BytesIO()
    soundfile.write(content, waveform, RATE, format="WAV", subtype="FLOAT")
    served = tf.saved_model.load(str(model_dir / "1")).signatures["as_trained"](tf.constant([content.getvalue()]))
    whole, cut = kat.extract((waveform, RATE), model), kat.extract((waveform, RATE), model, clip_seconds=0.25)
    assert whole.notes is None
    assert cut.notes.tolist() == ["cut to its first 0.25 s"]
    for name in model.layer_names:
        np.testing.assert_allclose(whole.layers[name], served[name], rtol=1e-4, atol=1e-5)
        assert np.abs(whole.layers[name] - cut.layers[name]).max() > 1e-3


def test_windows_over_time_are_rows(model, sounds):
    table = kat.extract(sounds / "a.wav", model, layers="layer5", hop_seconds=0.1)
    over_time = model.features(*soundfile.read(sounds / "a.wav"), layers="layer5", hop_seconds=0.1)
    np.testing.assert_allclose(table.times, over_time["times"])
    np.testing.assert_allclose(table.layers["layer5"], over_time["layer5"], rtol=1e-4, atol=1e-4)
    assert table.clip_ids[1] == f"{(sounds / 'a.wav').as_posix()}#00000.100"


LABELLED = {
    "texts": (["b", "a", "b"], ["a", "b"], [1, 0, 1]),
    "an array of texts": (np.array(["b", "a", "b"]), ["a", "b"], [1, 0, 1]),
    "numbers by size": ([10, 2, 10], ["2", "10"], [1, 0, 1]),
    "an array of numbers": (np.array([10, 2, 10]), ["2", "10"], [1, 0, 1]),
    "a Series": (pd.Series(["b", "a", "b"], index=[5, 6, 7]), ["a", "b"], [1, 0, 1]),
    "tags": ([["b", "a"], ["a"], []], ["a", "b"], [[1, 1], [1, 0], [0, 0]]),
    "a number to predict": ([0.5, 1.5, -1.0], ["target0"], [0.5, 1.5, -1.0]),
    "numbers to predict": (
        np.array([[0.5, 1], [1.5, 2], [-1, 3]]),
        ["target0", "target1"],
        [[0.5, 1], [1.5, 2], [-1, 3]],
    ),
}


@pytest.mark.parametrize("kind", LABELLED)
def test_labels_for_sounds_of_ones_own(model, kind):
    labels, names, values = LABELLED[kind]
    table = kat.extract([(noise(999), RATE)] * 3, model, layers="layer1", labels=labels)
    assert table.label_names == names
    assert table.labels.tolist() == values


def test_the_order_of_labels_can_be_given(model):
    pairs = [(noise(999), RATE)] * 2
    table = kat.extract(pairs, model, labels=["b", "a"], label_names=["b", "c", "a"])
    assert (table.label_names, table.labels.tolist()) == (["b", "c", "a"], [0, 2])
    table = kat.extract(pairs, model, labels=[0.5, 1.0], label_names=["mood"])
    assert table.label_names == ["mood"]


def test_the_data_sets_own_order_of_labels():
    clips = [Clip(name, None, (name,), dataset="esc10") for name in ("chainsaw", "dog", "rain")]
    assert label_names_of(clips, None) == ["dog", "rain", "chainsaw"]
    mood = [Clip("1", None, targets=(1.0, 2.0), dataset="emomusic")]
    assert label_names_of(mood, None) == ["arousal", "valence"]
    assert label_names_of([Clip(str(i), None, (str(i),), dataset="folder") for i in (2, 10)], None) == ["10", "2"]


PAIR = (noise(999), RATE)
BAD_INPUTS = {
    "nothing": ([], "^files_or_clips: is empty; expected a path, a Clip, or a pair"),
    "None": (None, "^files_or_clips: is of type NoneType; expected a path"),
    "a number": (3, "^files_or_clips: is of type int; expected"),
    "bytes": (b"a.wav", "^files_or_clips: is of type bytes; expected"),
    "a dict": ({"a.wav": 1}, "^files_or_clips: is of type dict; expected"),
    "an array": (noise(999), "^files_or_clips: is an array without its sample rate; expected"),
    "arrays": ([noise(9), noise(9)], r"^files_or_clips\[0\]: is an array without its sample rate; expected"),
    "None among them": ([PAIR, None], r"^files_or_clips\[1\]: is of type NoneType; expected"),
    "the pair turned round": ([PAIR[::-1]], r"^files_or_clips\[0\]: is a pair \(sample_rate, audio\);.*swap the two$"),
    "a pair with a rate as text": ((noise(9), "44100"), "^files_or_clips: sample_rate: '44100' is not allowed"),
    "a pair of three": ([(*PAIR, 3)], r"^files_or_clips\[0\]: is of type tuple; expected"),
    "a path with a rate": ([("a.wav", RATE)], r"^files_or_clips\[0\]: 'a.wav' is a path; expected an array"),
    "a pair of no audio": ([(np.arange(9), RATE)], r"^files_or_clips\[0\]: has samples of type int64"),
    "a folder without audio": (str(ROOT / "scripts"), "scripts: holds no audio; expected .wav"),
    "all bad": (
        ["gone.wav", "lost.wav"],
        r"^files_or_clips: 2 of 2 clips cannot be read; the first: gone.wav: does not",
    ),
    "all NaN": (
        (np.full(9, np.nan), RATE),
        r"^files_or_clips: 1 of 1 clips cannot be read; the first: files_or_clips: ",
    ),
    "two of one name": (
        [Clip("a", Path("a.wav"), ("x",)), Clip("a", Path("a.wav"), ("y",))],
        "^files_or_clips: two clips are called a;",
    ),
}


@pytest.mark.parametrize("what", BAD_INPUTS)
def test_files_or_clips_that_cannot_be(model, what):
    inputs, reason = BAD_INPUTS[what]
    with pytest.raises(kat.InputError, match=reason) as caught:
        kat.extract(inputs, model)
    assert "\n" not in str(caught.value)


def test_bad_sounds_among_good_ones_are_set_aside(model):
    with pytest.warns(UserWarning, match="^1 of 2 clips cannot be read") as caught:
        table = kat.extract([PAIR, (np.full(9, np.inf), RATE)], model, labels=["a", "b"])
    assert caught[0].filename == __file__  # whose line it is
    assert table.clip_ids.tolist() == ["clip0"]
    assert table.labels.tolist() == [0]
    ((failed, reason),) = table.failures
    assert failed == "clip1"
    assert reason == "files_or_clips[1]: holds NaN or infinite samples; expected finite ones; repair or remove it"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kat.extract(PAIR, model).failures == []


BAD_ARGUMENTS = {
    "too few labels": ({"labels": ["a"]}, "^labels: 1 for 2 clips; expected one a clip, in their order$"),
    "one label": ({"labels": "ab"}, "^labels: 1 for 2 clips"),
    "no label": ({"labels": ["a", None]}, r"^labels\[1\]: None is no label; expected a text"),
    "NaN": ({"labels": [1.0, np.nan]}, r"^labels\[1\]: nan is no label"),
    "mixed labels": ({"labels": ["a", 1.5]}, "^labels: some are numbers to predict and some are names"),
    "numbers of several lengths": (
        {"labels": [[1.5], [1.5, 2.5]]},
        "^labels: 2 numbers for clip1; expected 1 for every clip: target0$",
    ),
    "a number less": (
        {"labels": [[1.5, 2.5], [1.5]]},
        "^labels: 1 number for clip1; expected 2 for every clip: target0, target1$",
    ),
    "an unknown label": (
        {"labels": ["dog", "cat"], "label_names": ["dog", "cow"]},
        "^label_names: 'cat' is unknown; .*choose from dog, cow$",
    ),
    "no workers": ({"workers": 0}, "^workers: 0 is not allowed; expected a whole number from 1 to 1024$"),
    "more threads than TensorFlow starts": ({"workers": 50_000}, "^workers: 50000 is not allowed; expected a whole"),
    "half a worker": ({"workers": 1.5}, "^workers: 1.5 is not allowed"),
    "true workers": ({"workers": True}, "^workers: True is not allowed"),
    "no length": ({"clip_seconds": 0}, "^clip_seconds: 0 is not allowed; expected"),
    "a short length": (
        {"clip_seconds": 0.001},
        "^clip_seconds: 0.001 is shorter than a frame; expected at least 0.032",
    ),
    "a text as length": ({"clip_seconds": "1"}, "^clip_seconds: '1' is not allowed; expected seconds, or None$"),
    "no length at all": ({"clip_seconds": np.nan}, "^clip_seconds: nan is not allowed"),
}


@pytest.mark.parametrize("what", BAD_ARGUMENTS)
def test_arguments_that_cannot_be(model, what):
    arguments, reason = BAD_ARGUMENTS[what]
    with pytest.raises(kat.InputError, match=reason) as caught:
        kat.extract([PAIR, PAIR], model, **arguments)
    assert "\n" not in str(caught.value)


def test_labels_beside_those_of_clips(model):
    clips = kat.datasets.load("synthetic")[:2]
    with pytest.raises(kat.InputError, match=r"^labels: the clips have labels of their own; .*leave `labels` out$"):
        kat.extract(clips, model, labels=["a", "b"])


def test_a_model_by_its_path(model, model_dir):
    assert_same(kat.extract(PAIR, str(model_dir)).layers, kat.extract(PAIR, model).layers)
    with pytest.raises(
        kat.InputError, match=r"^model: is of type int; expected a model, the path of its folder, or None$"
    ):
        kat.extract(PAIR, 3)


# ---- probes


@pytest.fixture(scope="module")
def table():
    """Features of 24 clips of two classes, in three folds, from which the class can be read."""
    rng = np.random.default_rng(0)
    clips = [Clip(f"clip{i}", None, ("ab"[i % 2],), fold=i // 8) for i in range(24)]
    layers = {f"layer{n}": (rng.normal(size=(24, 3)) + 3 * (np.arange(24) % 2)[:, None]).astype("f4") for n in (1, 2)}
    return kat.FeatureTable.of_clips(layers, clips, ["a", "b"])


def mfcc_of(table):
    order = np.random.default_rng(2).permutation(24)
    mfcc = np.random.default_rng(1).normal(size=(24, 2)) + 3 * (order % 2)[:, np.newaxis]
    clips = [Clip(str(table.clip_ids[i]), None, ("ab"[i % 2],)) for i in order]
    return kat.FeatureTable.of_clips({"mfcc": mfcc.astype(np.float32)}, clips, ["a", "b"])


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        ({}, ("--combinations", "all")),
        (
            {"combinations": ["layer2", "layer1+layer2"], "protocol": "choi2017", "seed": 3},
            ("--combinations", "layer2,layer1+layer2", "--protocol", "choi2017", "--seed", 3),
        ),
        pytest.param(
            {"combinations": "best", "scale": False, "n_jobs": 1},
            ("--combinations", "best", "--no-scale"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"combinations": [["layer1"]], "baseline": True},
            ("--combinations", "layer1", "--baseline"),
            marks=pytest.mark.slow,
        ),
        (
            {"combinations": "blocks", "layer_weights": "chosen", "baseline": True},
            ("--combinations", "blocks", "--layer-weights", "chosen", "--baseline"),
        ),
    ],
)
def test_scores_of_probes_are_those_of_the_command(table, tmp_path, arguments, flags, monkeypatch):
    monkeypatch.setattr("keras_audio_transfer.commands.probe.draw", lambda *_: None)
    table.save(tmp_path / "features.npz")
    if "baseline" in arguments:
        arguments = {**arguments, "baseline": mfcc_of(table)}
        arguments["baseline"].save(tmp_path / "mfcc.npz")
        flags = (*flags, tmp_path / "mfcc.npz")
    scores = kat.probe(table, **arguments)
    run_main("probe", tmp_path / "features.npz", "--output-dir", tmp_path / "out", "--quiet", *flags)
    written = pd.read_csv(tmp_path / "out" / "scores.csv")
    pd.testing.assert_frame_equal(scores, written, check_dtype=False)
    if not arguments:
        pd.testing.assert_frame_equal(kat.probe(tmp_path / "features.npz"), scores)


def test_probes_of_one_of_several_targets():
    rng = np.random.default_rng(0)
    moods = rng.uniform(size=(40, 2))
    clips = [Clip(str(i), None, targets=tuple(mood)) for i, mood in enumerate(moods)]
    layers = {"layer1": moods[:, :1] + rng.normal(0, 0.05, (40, 1))}
    table = kat.FeatureTable.of_clips(layers, clips, ["arousal", "valence"])
    scores = kat.probe(table, target="arousal", protocol="choi2017")
    assert scores["metric"].tolist() == ["r2"]
    assert scores["score"][0] > 0.5
    with pytest.raises(kat.InputError, match=r"^target: 'mood' is unknown; .*choose from arousal, valence$"):
        kat.probe(table, target="mood")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"combinations": ["layer1", "layer3"]}, "^combinations: layer 'layer3' is unknown; did you mean"),
        ({"combinations": 3}, "^combinations: 3 is not allowed; expected texts or names of layers$"),
        ({"combinations": [1]}, r"^combinations: \[1\] is not allowed; expected"),
        ({"protocol": "nestd"}, r"^protocol: 'nestd' is unknown; did you mean nested\?"),
        ({"layer_weights": "same"}, "^layer_weights: 'same' is unknown; choose from channels, equal, chosen$"),
        ({"layer_weights": 1}, "^layer_weights: '1' is unknown; choose from channels, equal, chosen$"),
        ({"seed": -1}, "^seed: -1 is not allowed; expected a whole number from 0 to 4294967295$"),
        ({"seed": 0.5}, "^seed: 0.5 is not allowed"),
        ({"n_jobs": 0}, "^n_jobs: 0 is not allowed; expected a whole number from 1 to 1024$"),
        ({"baseline": 3}, "^baseline: is of type int; expected a FeatureTable or the path of its file$"),
        ({"baseline": "gone.npz"}, "^gone.npz: does not exist; expected a features file"),
        ({"target": "x"}, "^target: 'x' received, but the labels are classes, not numbers; leave it out$"),
    ],
)
def test_probes_that_cannot_be(table, arguments, reason):
    with pytest.raises(kat.InputError, match=reason):
        kat.probe(table, **arguments)


def test_probes_of_no_table(table):
    with pytest.raises(kat.InputError, match=r"^table: is of type DataFrame; expected a FeatureTable"):
        kat.probe(table.to_frame())
    with pytest.raises(kat.InputError, match="layer1"):
        kat.probe(table, baseline=table)


# ---- training


def test_batches_of_ones_own_sounds(model, sounds):
    entries = [sounds / "a.wav", soundfile.read(sounds / "deeper" / "b.flac"), (noise(1000, seed=2), RATE)]
    batches = kat.audio_dataset(entries, ["x", "y", "x"], model, batch_size=2, shuffle=False)
    (first, first_targets), (last, last_targets) = batches.as_numpy_iterator()
    config = model.card.audio
    assert (first.shape, last.shape) == ((2, config.n_samples), (1, config.n_samples))
    assert first.dtype == first_targets.dtype == np.float32
    np.testing.assert_array_equal(np.vstack([first_targets, last_targets]), [[1, 0], [0, 1], [1, 0]])
    np.testing.assert_array_equal(last[0], np.resize(noise(1000, seed=2), config.n_samples))
    audio, rate = soundfile.read(sounds / "a.wav", dtype="float32")
    whole = soxr.resample(audio, rate, RATE, quality="HQ")
    np.testing.assert_allclose(first[0], whole[: config.n_samples], atol=2e-3)
    assert batches.cardinality() == 2
    assert [spec.shape.as_list() for spec in batches.element_spec] == [[None, config.n_samples], [None, 2]]


def test_orders_differ_from_pass_to_pass_and_repeat_with_the_seed():
    config = kat.AudioConfig(2000, 0.05, n_fft=64, hop_length=32, n_mels=8, mel_f_min=0.0, mel_f_max=1000.0)
    pairs = [(np.full(100, i / 32, np.float32), 2000) for i in range(32)]

    def orders(**arguments):
        batches = kat.audio_dataset(pairs, range(32), config, 32, one_hot=False, **arguments)
        passes = [next(batches.as_numpy_iterator()) for _ in range(2)]
        for x, y in passes:
            np.testing.assert_array_equal(np.round(x[:, 0] * 32), y)  # each target with its sound
        return [y.tolist() for _, y in passes]

    first, second = orders(seed=1)
    assert sorted(first) == sorted(second) == [*range(32)]
    assert first != second
    assert orders(seed=1) == [first, second]
    assert orders(seed=2) != [first, second]
    assert orders(shuffle=False) == [[*range(32)]] * 2


def test_kinds_of_targets(model):
    def of(labels, **arguments):
        ((_, y),) = kat.audio_dataset([PAIR] * 3, labels, model, 3, shuffle=False, **arguments).as_numpy_iterator()
        return y

    np.testing.assert_array_equal(of([["a", "b"], [], ["b"]]), [[1, 1], [0, 0], [0, 1]])
    np.testing.assert_array_equal(of([0.5, 1.5, 2.5]), [[0.5], [1.5], [2.5]])
    indices = of(["b", "a", "b"], one_hot=False)
    np.testing.assert_array_equal(indices, [1, 0, 1])
    assert indices.dtype == np.int64
    assert of(["noisy", "swept", "noisy"], label_names=model.labels).shape == (3, len(model.labels))


def test_a_head_is_trained_on_the_batches(model_dir):
    model = kat.load_model(model_dir)
    names = model.labels[:2]
    sines = [(np.sin(2 * np.pi * f * np.arange(4000) / RATE), RATE) for f in (100, 3000) * 4]
    batches = kat.audio_dataset(sines, names * 4, model, 4, label_names=model.labels)
    network = model.keras_model
    for layer in network.layers:
        layer.trainable = layer.name == "scores"
    network.compile("adam", loss={"scores": "categorical_crossentropy"})
    losses = network.fit(batches, epochs=2, verbose=0).history["loss"]
    assert losses[1] < losses[0]


def test_clips_that_are_there_twice_are_trained_on_twice(model):
    clips = kat.datasets.load("synthetic")[:2] * 2
    ((x, y),) = kat.audio_dataset(clips, None, model, shuffle=False, cache=None).as_numpy_iterator()
    assert len(x) == len(y) == 4
    np.testing.assert_array_equal(x[:2], x[2:])


def test_decoded_sounds_can_be_kept_in_a_folder(model, sounds, tmp_path, capsys):
    kat.audio_dataset([sounds / "a.wav"], ["a"], model, cache=str(tmp_path), progress=True)
    assert len([*tmp_path.glob("*.npy")]) == 1
    assert "decoding: 100%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"labels": None}, "^labels: clip0 has none; expected one for every clip; pass `labels`$"),
        ({"labels": ["a"]}, "^labels: 1 for 2 clips"),
        ({"labels": [1.5, 2.5], "one_hot": False}, "^one_hot: False is for one label a clip; expected True"),
        ({"labels": [["a", "b"], []], "one_hot": False}, "^one_hot: False is for one label a clip"),
        ({"batch_size": 0}, "^batch_size: 0 is not allowed; expected a whole number from 1 up$"),
        ({"model": 3}, "^model: is of type int; expected"),
        ({"files_or_clips": [PAIR, "gone.wav"]}, r"^gone.wav: does not exist; .* \(1 of 2 clips cannot be read\)$"),
        ({"files_or_clips": [PAIR, noise(9)]}, r"^files_or_clips\[1\]: is an array without its sample rate"),
        ({"clip_seconds": "1"}, "^clip_seconds: '1' is not allowed; expected seconds, or None$"),
    ],
)
def test_batches_that_cannot_be(model, arguments, reason):
    with pytest.raises(kat.InputError, match=reason):
        kat.audio_dataset(**{"files_or_clips": [PAIR, PAIR], "labels": ["a", "b"], "model": model, **arguments})


# ---- arguments of other types


REAL_NUMBERS = [np.float16(0.5), np.float32(0.5), np.float64(0.5), Fraction(1, 2)]


@pytest.mark.parametrize("half", REAL_NUMBERS, ids=repr)
def test_seconds_may_be_any_real_number(model, half):
    for hop, expected in ((half, 0.5), (np.int16(1), 1), (1, 1)):
        over_time = model.features(noise(2 * RATE), RATE, "layer1", hop_seconds=hop)
        assert over_time["times"].tolist() == [*np.arange(0, 2, expected)]
        assert len(over_time["layer1"]) == 2 / expected
    table = kat.extract((noise(RATE), RATE), model, layers="layer1", clip_seconds=half, hop_seconds=half)
    assert table.times.tolist() == [0.0, 0.5]
    assert len(kat.extract(PAIR, model, layers="layer1", clip_seconds=np.int8(1))) == 1
    assert model.features(PAIR[0], np.float32(RATE), "layer1").keys() == {"layer1"}
    assert model.front_end(half).to_dict()["clip_seconds"] == 0.5


def test_a_clip_that_fails_is_never_left_out_of_what_is_returned(model, monkeypatch):
    def fail(*_):
        raise MemoryError("no memory")

    monkeypatch.setattr(SavedExtractor, "__call__", fail)
    with pytest.raises(kat.InputError, match=r"^audio: failed \(MemoryError: no memory\)"):
        model.features(PAIR[0], RATE, hop_seconds=0.5)
    with pytest.raises(kat.InputError, match=r"^audio\[0\]: failed \(MemoryError"):
        model.features([PAIR[0]], RATE, hop_seconds=0.5)
    with pytest.raises(kat.InputError, match=r"^audio: failed \(MemoryError"):
        model.predict(*PAIR)


BAD_SECONDS = [True, np.True_, "1", None, 1j, np.array([1.0]), np.array(1.0), np.nan, 10**400, -(10**400), object()]


@pytest.mark.parametrize("value", BAD_SECONDS, ids=lambda value: type(value).__name__)
def test_seconds_that_cannot_be(model, value):
    for name in ("hop_seconds", "clip_seconds") if value is not None else ():
        with pytest.raises(kat.InputError, match=f"^{name}: .* is not allowed; expected ") as caught:
            kat.extract(PAIR, model, **{name: value})
        assert "\n" not in str(caught.value)


TEXT_LABELS = {
    "bytes": [b"dog", "mot\u00f6rhead".encode()],
    "an array of bytes": np.array([b"dog", "mot\u00f6rhead".encode()]),
    "NumPy's": [np.str_("dog"), np.bytes_("mot\u00f6rhead".encode())],
    "tensors": tf.constant(["dog", "mot\u00f6rhead"]),
    "a list of tensors": [tf.constant("dog"), tf.constant("mot\u00f6rhead")],
    "a frame": pd.DataFrame({"label": ["dog", "mot\u00f6rhead"]}),
    "categories": pd.Series(["dog", "mot\u00f6rhead"], dtype="category"),
    "a generator": (label for label in ("dog", "mot\u00f6rhead")),
}


@pytest.mark.parametrize("kind", TEXT_LABELS)
def test_texts_as_labels(kind):
    labelled = label_clips([Clip("0", None), Clip("1", None)], TEXT_LABELS[kind])
    assert [clip.labels for clip in labelled] == [("dog",), ("mot\u00f6rhead",)]
    assert label_names_of(labelled, np.array([b"dog", "mot\u00f6rhead".encode()])) == ["dog", "mot\u00f6rhead"]


def test_tags_and_numbers_as_labels():
    clips = [Clip("0", None), Clip("1", None)]
    assert [clip.labels for clip in label_clips(clips, [{"b", "a"}, [b"a"]])] == [("a", "b"), ("a",)]
    numbers = [[np.float16(0.5), 1], np.array([1.5, 2], np.float32)]
    assert [clip.targets for clip in label_clips(clips, numbers)] == [(0.5, 1.0), (1.5, 2.0)]
    assert [clip.targets for clip in label_clips(clips, [Fraction(1, 2), 1.0])] == [(0.5,), (1.0,)]


NO_LABEL = r"is no label; expected a text or whole number for a class, names of tags as texts, or floats to predict$"
BAD_LABELS = {
    "one-hot": ([[0, 1], [1, 0]], rf"^labels\[0\]: \[0, 1\] {NO_LABEL}"),
    "an array of one-hot": (np.eye(2, dtype=int), rf"^labels\[0\]: \[1, 0\] {NO_LABEL}"),
    "indicators": (pd.get_dummies(["a", "b"]), rf"^labels\[0\]: \[True, False\] {NO_LABEL}"),
    "truth": ([True, False], rf"^labels\[0\]: True {NO_LABEL}"),
    "NumPy's truth": ([np.True_, np.False_], rf"^labels\[0\]: (np\.)?True_? {NO_LABEL}"),
    "an array of truth": (np.array([True, False]), rf"^labels\[0\]: True {NO_LABEL}"),
    "truth among numbers": ([[0.5, True], [1.0, 2.0]], rf"^labels\[0\]: \[0.5, True\] {NO_LABEL}"),
    "a dict": (
        {"a.wav": "dog", "b.wav": "cat"},
        "^labels: is of type dict; expected a list, one a clip, in their order$",
    ),
    "a set": ({"dog", "cat"}, "^labels: is of type set; expected a list"),
    "an object": (object(), "^labels: is of type object; expected a list"),
    "a dict a clip": ([{"dog": 1}, {"cat": 1}], rf"^labels\[0\]: {{'dog': 1}} {NO_LABEL}"),
    "bytes of no text": ([b"\xff", b"a"], r"^labels\[0\]: b'\\xff' is no text in UTF-8; expected one; decode it$"),
    "bytes for all": (b"ab", "^labels: 1 for 2 clips; expected one a clip"),
    "nothing in one place": ([pd.NA, "a"], rf"^labels\[0\]: <NA> {NO_LABEL}"),
    "infinite": ([[np.inf], [1.0]], rf"^labels\[0\]: \[inf\] {NO_LABEL}"),
    "complex": ([1j, 2j], rf"^labels\[0\]: 1j {NO_LABEL}"),
}


@pytest.mark.parametrize("kind", BAD_LABELS)
def test_labels_that_cannot_be(kind):
    labels, reason = BAD_LABELS[kind]
    with pytest.raises(kat.InputError, match=reason) as caught:
        label_clips([Clip("0", None), Clip("1", None)], labels)
    assert "\n" not in str(caught.value)


BAD_NAMES = {
    "twice": (["a", "a", "b"], "^label_names: 'a' is there twice; expected each name once$"),
    "one text": ("dog", "^label_names: 'dog' is not allowed; expected a list of names, in order$"),
    "bytes": (b"dog", "^label_names: b'dog' is not allowed; expected a list of names"),
    "a text without dimensions": (np.array("dog"), "^label_names: array.* is not allowed; expected a list of names"),
    "a number": (5, "^label_names: 5 is not allowed; expected a list of names"),
    "a set": ({"a"}, "^label_names: {'a'} is not allowed; expected a list of names"),
    "a dict": ({"a": 0}, "^label_names: {'a': 0} is not allowed; expected a list of names"),
    "other values": (["a", None], "^label_names: None is no name; expected texts or whole numbers$"),
    "nothing": ([], "^label_names: is empty; expected the names in order, or None$"),
}


@pytest.mark.parametrize("kind", BAD_NAMES)
def test_names_of_labels_that_cannot_be(model, kind):
    names, reason = BAD_NAMES[kind]
    for function in (kat.extract, kat.audio_dataset):
        with pytest.raises(kat.InputError, match=reason):
            function([PAIR, PAIR], model=model, labels=["a", "b"], label_names=names)


def test_clips_that_are_there_twice_are_left_out_aloud(model, sounds, caplog):
    a, c = sounds / "a.wav", sounds / "c.wav"
    table = kat.extract([a, c, a], model, layers="layer1", labels=["x", "y"])
    assert table.clip_ids.tolist() == [a.as_posix(), c.as_posix()]
    left_out = "files_or_clips: left out: {} clips, there already; the first: {}"
    assert caplog.messages == [left_out.format("1 of 3", a.as_posix())]
    with pytest.raises(kat.InputError) as caught:
        kat.extract([a, c, c, a], model, labels=["x", "y", "y", "x"])
    twice = f"without 2 that are there twice, the first {c.as_posix()}"
    assert str(caught.value) == f"labels: 4 for 2 clips, {twice}; expected one a clip, in their order"
    assert caplog.messages[1] == left_out.format("2 of 4", c.as_posix())
    assert len(kat.extract([a, c], model, layers="layer1")) == 2
    assert len(caplog.messages) == 2


FLAGS = ["no", 0, 1, 1.0, None, np.array([True]), "True"]


@pytest.mark.parametrize("value", FLAGS, ids=repr)
def test_flags_that_cannot_be(model, table, value):
    reason = "^{}: .* is not allowed; expected True or False$"
    for name in ("one_hot", "shuffle", "progress"):
        with pytest.raises(kat.InputError, match=reason.format(name)):
            kat.audio_dataset([PAIR], ["a"], model, **{name: value})
    with pytest.raises(kat.InputError, match=reason.format("progress")):
        kat.extract(PAIR, model, progress=value)
    if value is not None:
        with pytest.raises(kat.InputError, match=reason.format("scale")):
            kat.probe(table, scale=value)
    with pytest.raises(kat.InputError, match=reason.format("standardise")):
        replace(model.card.audio, standardise=value)


def test_flags_and_counts_may_be_numpys(model, table):
    flags = {"one_hot": np.False_, "shuffle": np.False_, "progress": np.False_}
    batches = kat.audio_dataset([PAIR] * 2, ["b", "a"], model, np.int8(2), seed=np.uint8(3), **flags)
    assert next(batches.as_numpy_iterator())[1].tolist() == [1, 0]
    scores = kat.probe(table, "layers", scale=np.True_, seed=np.int64(0), n_jobs=np.int8(1))
    pd.testing.assert_frame_equal(scores, kat.probe(table, "layers"))
    assert len(model.predict(*PAIR, top=np.int64(2))) == 2


@pytest.mark.parametrize("value", ["x", True, np.True_, -1, 2**32, 1.5, None], ids=repr)
def test_seeds_that_cannot_be(model, table, value):
    reason = "^seed: .* is not allowed; expected a whole number from 0 to 4294967295$"
    with pytest.raises(kat.InputError, match=reason):
        kat.probe(table, seed=value)
    with pytest.raises(kat.InputError, match=reason):
        kat.audio_dataset([PAIR], ["a"], model, seed=value)


@pytest.mark.parametrize("top", [True, np.True_, 1.0, [1]], ids=repr)
def test_a_top_of_another_type(model, top):
    with pytest.raises(kat.InputError, match=r"^top: .* is not allowed; expected 1 to 5, the model's labels, or None$"):
        model.predict(*PAIR, top=top)


def test_caches(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kat.audio_dataset([PAIR], ["a"], model, cache="none")
    assert [*tmp_path.iterdir()] == []
    for cache, reason in (
        (5, "is of type int; expected 'memory', None, or the path of a folder$"),
        (True, "is of type bool; expected"),
        ("", "is empty; expected 'memory', None, or the path of a folder$"),
    ):
        with pytest.raises(kat.InputError, match=f"^cache: {reason}"):
            kat.audio_dataset([PAIR], ["a"], model, cache=cache)


USES_OF_PATHS = {
    "path": (kat.load_model, "the path of a model folder, or None"),
    "path of a table": (kat.FeatureTable.load, "the path of a features file"),
    "path to write to": (lambda path: saved(path), "the path of the features file to write"),
    "model": (lambda path: kat.extract(PAIR, path), "a model, the path of its folder, or None"),
    "files_or_clips": (kat.extract, "the path of an audio file or a folder"),
    "files_or_clips without folders": (lambda path: kat.audio_dataset(path, ["a"]), "the path of an audio file"),
    "data_dir": (lambda path: kat.datasets.load("esc10", path), "the path of the folder that the data are in, or of"),
    "data_dir to make": (lambda path: kat.datasets.download("esc10", path), "the path of the folder to make"),
}
BAD_PATHS = {
    "nothing": ("", "is empty"),
    "a NUL": ("a\0b", r"'a\\x00b' is not allowed \(.*null.*\)"),
    "a long name": ("a" * 5000, r"'a{56}\.\.\. is not allowed \(File name too long\)"),
    "a long path": (Path("a/" * 5000), r"'(a/){28}\.\.\. is not allowed \(File name too long\)"),
    "a number": (5, "is of type int"),
    "bytes": (b"a", "is of type bytes"),
}


def saved(path):
    kat.FeatureTable.of_clips({"layer1": np.zeros((1, 1), np.float32)}, [Clip("a", None)], []).save(path)


@pytest.mark.parametrize("kind", BAD_PATHS)
@pytest.mark.parametrize("use", USES_OF_PATHS)
def test_paths_that_cannot_be(use, kind):
    (function, expected), (path, reason) = USES_OF_PATHS[use], BAD_PATHS[kind]
    if use.startswith("files_or_clips") and kind in ("a number", "bytes"):
        expected = "a path, a Clip, or a pair"
    with pytest.raises(kat.InputError, match=f"^{use.split()[0]}: {reason}; expected {expected}") as caught:
        function(path)
    assert "\n" not in str(caught.value)


def test_no_path():
    for use in ("path of a table", "path to write to"):
        function, expected = USES_OF_PATHS[use]
        with pytest.raises(kat.InputError, match=f"^path: is of type NoneType; expected {expected}$"):
            function(None)


def test_one_bad_path_among_others_is_named(model):
    with pytest.raises(kat.InputError, match=r"^files_or_clips\[1\]: 'a+\.\.\. is not allowed \(File name too long\)"):
        kat.extract([PAIR, "a" * 5000], model)


@pytest.mark.parametrize("name", [5, None, ["esc10"]], ids=repr)
def test_names_of_data_sets_that_cannot_be(name):
    with pytest.raises(kat.InputError, match=r"^dataset: .* is unknown; .*choose from synthetic, "):
        kat.datasets.load(name)


def test_layers_in_any_order_giving_type(model):
    for layers in (np.array("layer1"), np.array(["layer1"]), pd.Series(["layer1"]), ("layer1",), iter(["layer1"])):
        features = model.features(*PAIR, layers)
        assert [(type(name), name) for name in features] == [(str, "layer1")]


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (b"layer1", "b'layer1' is not allowed; expected names of layers in order, or None for all$"),
        (np.array(5), r"array\(5\) is not allowed; expected names of layers"),
        (np.bytes_("layer1"), ".* is not allowed; expected names of layers"),
        ({"layer1"}, "{'layer1'} is not allowed; expected names of layers in order"),
        ([b"layer1"], "\"b'layer1'\" is unknown; did you mean layer1"),
        ([["layer1"]], "\"\\['layer1'\\]\" is unknown"),
        (np.array(["layer1", "layer1"]), r"\['layer1', 'layer1'\] names a layer twice; expected each once$"),
    ],
)
def test_layers_of_another_type(model, layers, reason):
    with pytest.raises(kat.InputError, match=f"^layers: {reason}"):
        model.features(*PAIR, layers)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sample_rate": "x"}, "sample_rate: 'x' is not allowed; expected a whole number"),
        ({"sample_rate": 44100.5}, "sample_rate: 44100.5 is not allowed; expected a whole number"),
        ({"sample_rate": True}, "sample_rate: True is not allowed; expected a whole number"),
        ({"n_mels": 1.5}, "n_mels: 1.5 is not allowed; expected a whole number"),
        ({"n_fft": np.nan}, "n_fft: nan is not allowed; expected a whole number"),
        ({"hop_length": np.inf}, "hop_length: inf is not allowed; expected a whole number"),
        ({"clip_seconds": "4"}, "clip_seconds: '4' is not allowed; expected a number"),
        ({"clip_seconds": None}, "clip_seconds: None is not allowed; expected a number"),
        ({"mel_f_max": [1]}, r"mel_f_max: \[1\] is not allowed; expected a number"),
        ({"decibel_range": True}, "decibel_range: True is not allowed; expected a number"),
        ({"long_clips": ["start"]}, r"long_clips: \['start'\] is not allowed; expected a text"),
        ({"frame_padding": np.zeros((2, 2))}, r"frame_padding: array\(\[\[0., 0.\], \[0., 0.\]\]\) is not .*a text"),
    ],
    ids=str,
)
def test_settings_of_another_type(changes, reason):
    with pytest.raises(kat.InputError, match=f"^{reason}$") as caught:
        replace(PRESETS["short16k"], **changes)
    assert "\n" not in str(caught.value)


def test_settings_may_be_any_numbers():
    config = replace(PRESETS["short16k"], sample_rate=np.int16(16000), clip_seconds=np.int8(4), n_mels=64.0)
    assert config == PRESETS["short16k"]
    assert json.dumps(config.to_dict()) == json.dumps({**PRESETS["short16k"].to_dict(), "clip_seconds": 4.0})


def wrong(table, **changes):
    return replace(table, **{name: change(getattr(table, name)) for name, change in changes.items()})


def with_value(layers, value):
    return {**layers, "layer2": np.where(np.arange(24)[:, np.newaxis] == 3, value, layers["layer2"])}


BAD_TABLES = {
    "NaN": ({"layers": lambda v: with_value(v, np.nan)}, "'layer2' holds NaN or infinite values, first for clip3;"),
    "infinite": (
        {"layers": lambda v: with_value(v, np.inf)},
        "'layer2' holds NaN or infinite values, first for clip3;",
    ),
    "no layers": ({"layers": lambda v: {}}, "'layer_names' names no layer; expected at least one"),
    "a list of layers": ({"layers": lambda v: [*v.values()]}, "'layers' is of type list; expected a dict of arrays$"),
    "a layer as list": (
        {"layers": lambda v: {"layer1": v["layer1"].tolist()}},
        r"'layer1' is of type list; expected an array of numbers of shape \(clips, channels\)$",
    ),
    "a layer of no channels": ({"layers": lambda v: {"layer1": v["layer1"][:, :0]}}, "'layer1' has no channels"),
    "a layer of one dimension": ({"layers": lambda v: {"layer1": v["layer1"][:, 0]}}, r"'layer1' is float32 of shape"),
    "labels as list": ({"labels": list}, "'labels' is of type list; expected an array of numbers, a row a clip$"),
    "labels as texts": ({"labels": lambda v: v.astype(str)}, r"'labels' is <U\d+ of shape \(24,\); expected numbers"),
    "labels beyond names": ({"labels": lambda v: v + 1}, "'labels' has 2, but there are 2 label_names"),
    "too few labels": ({"labels": lambda v: v[1:]}, "'labels' has 23 rows; expected 24, one a clip$"),
    "too few rows": ({"layers": lambda v: {**v, "layer1": v["layer1"][1:]}}, "'layer1' has 23 rows; expected 24"),
    "too few folds": ({"folds": lambda v: v[1:]}, "'folds' has 23 rows; expected 24"),
    "folds of halves": ({"folds": lambda v: v + 0.5}, r"'folds' is float64 of shape \(24,\); expected whole numbers"),
    "too few splits": ({"splits": lambda v: v[1:]}, "'splits' has 23 rows; expected 24"),
    "too few times": ({"times": lambda v: np.zeros(3)}, "'times' has 3 rows; expected 24"),
    "a clip twice": ({"clip_ids": lambda v: [*v[:23], "clip0"]}, "'clip_ids' names clip0 twice; expected each once$"),
}


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_tables_in_memory_are_checked_as_files_are(table, kind):
    changes, reason = BAD_TABLES[kind]
    with pytest.raises(kat.InputError, match=f"^table: {reason}") as caught:
        kat.probe(wrong(table, **changes))
    assert "\n" not in str(caught.value)
    with pytest.raises(kat.InputError, match=f"^baseline: {reason}"):
        kat.probe(table, baseline=wrong(table, **changes))


def test_texts_of_tables_may_be_of_any_type(table):
    loose = replace(table, clip_ids=[*table.clip_ids], splits=np.array([""] * 24, dtype=object))
    pd.testing.assert_frame_equal(kat.probe(loose, "layers"), kat.probe(table, "layers"))


@pytest.mark.parametrize(
    ("combinations", "reason"),
    [
        (
            [],
            "is empty; expected one of layers, all, <=N, best, single, blocks, forward, greedy, backward, or a list of",
        ),
        ("", "is empty; expected one of layers, all"),
        ([[]], "is empty; expected one of layers, all"),
        (["layer1", []], "'layer1,' lacks a name beside a comma or plus; expected a layer there"),
        ("layer1++layer2", r"'layer1\+\+layer2' lacks a name beside a comma or plus"),
        ("all,layer1", "'all' stands beside others in 'all,layer1'; expected it alone, or layers"),
        (["layer1", "best"], "'best' stands beside others in 'layer1,best'; expected it alone, or layers"),
        ("<=2,layer1", "'<=2' stands beside others in '<=2,layer1'"),
        (b"all", "b'all' is not allowed; expected texts or names of layers"),
        (None, "None is not allowed; expected texts or names of layers"),
    ],
)
def test_combinations_that_cannot_be(table, combinations, reason):
    with pytest.raises(kat.InputError, match=f"^combinations: {reason}"):
        kat.probe(table, combinations)


BAD_CLIPS = {
    "a path as text": (
        Clip("x", "a.wav"),
        r"^x: its path is of type str; expected a pathlib.Path, as Path\('a.wav'\)$",
    ),
    "no sound": (Clip("x", None), "^x: has neither a path nor a sound; expected a Clip with one of them$"),
    "a label as text": (Clip("x", Path("a.wav"), "dog"), r"^x: its labels are 'dog'; expected a tuple of texts"),
    "numbers as labels": (Clip("x", Path("a.wav"), (1,)), r"^x: its labels are \(1,\); expected a tuple of texts"),
    "one number": (Clip("x", Path("a.wav"), targets=0.5), "^x: its targets are 0.5; expected a tuple of numbers"),
    "NaN": (Clip("x", Path("a.wav"), targets=(np.nan,)), r"^x: its targets are \(nan,\); expected a tuple of numbers"),
}


@pytest.mark.parametrize("kind", BAD_CLIPS)
def test_clips_that_cannot_be(model, kind):
    clip, reason = BAD_CLIPS[kind]
    for function in (kat.extract, lambda clips, model: kat.audio_dataset(clips, None, model)):
        with pytest.raises(kat.InputError, match=reason):
            function([PAIR, clip], model)


def test_arrays_hold_what_files_hold(model, tmp_path):
    many, loud = 0.1 * noise(4000, 20), 40 * noise(4000)
    for number, audio in enumerate((many, loud)):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, audio, RATE, subtype="FLOAT")
        assert np.shape(soundfile.read(path)[0]) == audio.shape
        expected = kat.extract(path, model).layers
        assert_same(kat.extract(soundfile.read(path), model).layers, expected)
        of_array = model.features([soundfile.read(path)[0]], RATE)
        assert of_array["layer1"].shape == expected["layer1"].shape
    assert 8 < np.abs(loud).max() < 100
    with pytest.raises(
        kat.InputError, match=r"^audio\[0\]: has shape \(20, 4000\); expected at most 16 channels, or in"
    ):
        model.features([many.T], RATE)
    with pytest.raises(kat.InputError, match=r"^audio: float samples up to 100\.5; expected"):
        model.features(np.full(999, 100.5), RATE)
