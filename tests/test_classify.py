"""A folder of classes becomes a model folder that names what scikit-learn names; predict.py shows it."""

import csv
import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import forked
import numpy as np
import pandas as pd
import pytest
import soundfile
import tensorflow as tf
from conftest import read_card, run_main
from sounds import CONFIG, noise

import keras_audio_transfer as kat
from keras_audio_transfer.answers import limits_of
from keras_audio_transfer.commands import classify, cli, own_sounds, places
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.datasets import esc10, load
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export.signatures import serving_outputs
from keras_audio_transfer.extraction import SavedExtractor, extract
from keras_audio_transfer.extractor import select_layers
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.files import only_writer
from keras_audio_transfer.finetuning import load_network
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.probing.precomputed_kernels import SVMParams
from keras_audio_transfer.probing.prober import fit_svm
from keras_audio_transfer.training.fitting import weights_hash

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = os.environ.get("KAT_TEST_DATA")
needs_real_data = pytest.mark.skipif(not REAL_DATA, reason="KAT_TEST_DATA does not name a folder with the data sets")
RATE, SAMPLES = 16000, 3200


def sound(kind, number):
    """0.2 s of tones, noise or clicks, in as much noise as makes some of them hard to tell apart."""
    rng = np.random.default_rng([number, *kind.encode()])
    t = np.arange(SAMPLES) / RATE
    pure = {
        "tone": np.sin(2 * np.pi * rng.uniform(300, 3000) * t),
        "noise": rng.normal(0, 1, SAMPLES),
        "click": (np.arange(SAMPLES) % rng.integers(150, 500) == 0) * 3.0,
    }[kind]
    return (0.1 * (pure + rng.normal(0, rng.uniform(0.1, 2), SAMPLES))).clip(-1, 1)


def write_sounds(folder, kind, numbers):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        soundfile.write(folder / f"{kind}{number}.wav", sound(kind, number), RATE)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Three classes, unbalanced; not to be written to."""
    root = tmp_path_factory.mktemp("sounds")
    for kind, n in (("tone", 8), ("noise", 7), ("click", 12)):
        write_sounds(root / kind, kind, range(n))
    return root


def write_features(folder, model, card):
    """A model folder with the one signature that features are computed with: all of them take several times as long."""
    spec = tf.TensorSpec([None, None], tf.float32, name="waveform")
    serve = tf.function(partial(serving_outputs, model), input_signature=[spec], autograph=False)
    served = tf.train.Checkpoint()
    served.variables = [variable.value for variable in model.variables]
    tf.saved_model.save(served, str(folder / "1"), signatures={"serving_default": serve})
    model.save(folder / "model.keras")
    sizes = {name: values.shape[-1] for name, values in model.output.items()}
    replace(card, layer_sizes=sizes, weights_sha256=weights_hash(model)).write(folder)


@pytest.fixture(scope="module")
def source(model_dir, tmp_path_factory):
    """A model folder with two layers, which leave three combinations to choose from; not to be written to."""
    folder = tmp_path_factory.mktemp("models") / "two_layers"
    folder.mkdir()
    write_features(folder, select_layers(load_network(model_dir), ["layer1", "layer2"]), Card.read(model_dir))
    return folder


@pytest.fixture(scope="module")
def classified(run_script, source, sounds, tmp_path_factory):
    """The process that made a classifier, and the model folder it wrote; not to be written to."""
    folder = tmp_path_factory.mktemp("classified") / "mine"
    arguments = "--model", source, "--output-dir", folder, "--keep-examples", 9
    run = run_script("classify", sounds, *arguments, before=forked.FEW_SIGNATURES)
    assert run.returncode == 0, run.stderr
    return run, folder


def scikit_learn_says(features, new, card):
    """The labels that scikit-learn names for the `new` features, having seen `features`; as the card says it was."""
    chosen = card["probe"]
    point = SVMParams(chosen["kernel"], chosen["C"], chosen["gamma"], chosen["layer_weights"])
    scaler, svm = fit_svm(features, chosen["layers"], point)
    x = np.concatenate([new[name] for name in chosen["layers"]], axis=1).astype(np.float64)
    assert len(svm.support_) == chosen["support_vectors"]
    return [features.label_names[label] for label in svm.predict(scaler.transform(x))]


saved_extractor = cache(SavedExtractor)  # of a folder that stays as it is: loading takes longer than a few clips


def served(model_dir, clips, names):
    card = read_card(model_dir)
    layers = [*card["layer_names"], "scores"]
    config = AudioConfig.from_dict(card["audio"])
    features, failures = extract(saved_extractor(model_dir / "1"), layers, clips, names, config)
    assert failures == []
    return features.layers


def compare(model_dir, source, clips, new):
    """Of each new clip the served class is scikit-learn's; returns the classes."""
    card = read_card(model_dir)
    config, names = AudioConfig.from_dict(card["audio"]), card["labels"]
    seen, _ = extract(saved_extractor(source / "1"), card["layer_names"], clips, names, config)
    outputs = served(model_dir, new, names)
    classes = [names[column] for column in outputs["scores"].argmax(axis=1)]
    assert classes == scikit_learn_says(seen, outputs, card)
    return classes


def test_the_served_classes_are_scikit_learns(classified, source, sounds, tmp_path):
    for kind in ("tone", "noise", "click"):
        write_sounds(tmp_path / kind, kind, range(100, 120))
    clips, new = load("folder", sounds), load("folder", tmp_path)
    classes = compare(classified[1], source, clips, [*clips, *new])
    right = sum(name == clip.labels[0] for name, clip in zip(classes[len(clips) :], new, strict=True))
    assert 30 < right <= 60  # chance is 20


def test_what_it_says_and_writes(classified, source):
    run, folder = classified
    assert run.stderr == ""
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "1",
        "card.json",
        "model.keras",
        "confusion.png",
        "confusion.svg",
        *("predictions.csv", "classes.csv", "calibration.csv", "kept.csv", "health.csv"),
        *("calibration.png", "calibration.svg", "kept.png", "kept.svg", "more_clips.png", "more_clips.svg"),
        *("report.html", "examples.npz"),
    }
    predicted = pd.read_csv(folder / "predictions.csv")
    assert (predicted["true"] == predicted["predicted"]).mean() == pytest.approx(
        next(iter(read_card(folder)["scores"].values()))["accuracy"]
    )
    is_wrong = (predicted["true"] != predicted["predicted"]).any()
    assert ("\nmost often taken for another: " in run.stdout) == is_wrong
    classes = pd.read_csv(folder / "classes.csv")
    assert classes["label"].tolist() == ["click", "noise", "tone"]
    assert classes["clips"].sum() == len(predicted) == len(set(predicted["clip"]))
    assert "class by class, with 95 % intervals over the clips:" in run.stdout
    assert "<!-- chosen inside each training part: layer" in (folder / "confusion.svg").read_text()
    card, before = read_card(folder), read_card(source)
    assert card["labels"] == ["click", "noise", "tone"]
    assert card["layer_names"] == before["layer_names"]
    assert set(card["probe"]["layers"]) <= {*card["layer_names"]}
    kept = FeatureTable.load(folder / "examples.npz")
    assert [*kept.layers] == card["probe"]["layers"]
    assert [*np.bincount(kept.labels)] == [4, 2, 3]  # of 12, 7 and 8
    assert "no probabilities" in card["scores_are"]
    assert card["audio"]["n_samples"] == SAMPLES  # that of the longest clip: shorter than the model's
    assert card["training_data"]["clips_by_label"] == {"click": 12, "noise": 7, "tone": 8}
    assert card["training_data"]["longest_seconds"] == SAMPLES / card["audio"]["sample_rate"]
    assert card["training_data"]["licence"] == "that of your own sounds"
    assert card["transferred_from"] == before["training_data"]
    scores = card["scores"]["cross-validation"]
    assert 0 <= scores["interval_low"] <= scores["accuracy"] <= scores["interval_high"] <= 1
    assert scores["accuracy"] > scores["chance"] == pytest.approx(12 / 27, abs=0.05)
    (line,) = re.findall(r"^cross-validation: accuracy .*$", run.stdout, re.MULTILINE)
    low, high = scores["interval_low"], scores["interval_high"]
    assert f"accuracy {scores['accuracy']:.3f} (95 % interval {low:.3f} to {high:.3f}, chance" in line
    rows = re.findall(r"^ *(click|noise|tone) +(\d+) +(\d+) +(\d+)$", run.stdout, re.MULTILINE)
    counts = np.array([row[1:] for row in rows], dtype=int)
    assert [row[0] for row in rows] == card["labels"]
    assert [*counts.sum(axis=1)] == [12, 7, 8]
    assert abs(np.trace(counts) / 27 - scores["accuracy"]) < 0.05  # that is the mean over folds of five or six clips
    assert f"chosen and fitted on all 27 clips: {'+'.join(card['probe']['layers'])}, " in run.stdout
    floors = f"mfcc {scores['mfcc']:.3f}, log_mel {scores['log_mel']:.3f}"
    assert f"plain features alone, on the same folds: {floors}\n" in run.stdout
    below = scores["accuracy"] < max(scores["mfcc"], scores["log_mel"])
    assert ("below a floor: " in run.stdout) == below


@pytest.mark.parametrize(("clip_seconds", "expected"), [(None, (0.5, 0.5, 0.975)), (0.7, (0.5, 0.7, 0.7))])
def test_every_model_hears_clips_as_long_as_the_own_sounds(clip_seconds, expected):
    """The second as the first, which has been asked already."""
    long = AudioConfig(8000, 10.0, n_fft=256, hop_length=80, n_mels=20, mel_f_min=0.0, mel_f_max=4000.0)
    patches = replace(long, clip_seconds=0.975, patch_frames=96, patch_hop=48)
    own = SimpleNamespace(
        clips=[SimpleNamespace(recorded=SimpleNamespace(seconds=seconds)) for seconds in (0.2, 0.5)],
        config=replace(long, clip_seconds=0.5),
    )
    sources = {
        name: ("", SimpleNamespace(audio=audio)) for name, audio in zip("abc", (long, long, patches), strict=True)
    }
    found = classify.front_ends(SimpleNamespace(clip_seconds=clip_seconds), sources, own)
    assert tuple(config.clip_seconds for config in found.values()) == expected


@pytest.mark.slow
def test_of_several_models_one_is_chosen_inside_the_training_parts(run_script, source, sounds, tmp_path):
    """A network whose features are all the same cannot be chosen."""
    deaf = tmp_path / "deaf"
    deaf.mkdir()
    model = load_network(source)
    for layer in model.layers:
        layer.set_weights([np.zeros_like(weights) for weights in layer.get_weights()])
    write_features(deaf, model, Card.read(source))
    arguments = "--model", deaf, "--model", source, "--output-dir", tmp_path / "mine"
    run = run_script("classify", sounds, *arguments, before=forked.FEW_SIGNATURES)
    assert run.returncode == 0, run.stderr
    assert re.search(r"layers chosen, fold by fold: (two_layers/layer\d\S*(; )?)+$", run.stdout, re.MULTILINE)
    card = read_card(tmp_path / "mine")
    assert card["settings"]["model"] == "two_layers"
    assert {*card["probe"]["layers"]} <= {"layer1", "layer2"}
    clips = load("folder", sounds)
    compare(tmp_path / "mine", source, clips, clips)
    with pytest.raises(InputError, match=r"^--model: .*deaf is given twice; leave one out$"):
        run_main("classify", sounds, "--model", deaf, "--model", deaf, "--output-dir", tmp_path / "other")


def test_a_stream_says_what_predict_says(classified):
    model = kat.load_model(classified[1])
    sound, half = noise(16_000, seed=3), model.card.audio.n_samples // 2
    stream = model.stream(16000, hop_seconds=0.25, layers=["probabilities", "known"])
    found = dict(stream.push(sound[:9999]) + stream.push(sound[9999:]))
    table = model.predict(sound[8000 - half : 8000 + half], 16000).set_index("label")
    np.testing.assert_allclose(found[0.5]["probabilities"], table["probability"][model.labels], atol=1e-6)
    np.testing.assert_allclose(found[0.5]["known"], table["known"].iloc[:1], atol=1e-6)


@pytest.mark.slow
def test_a_served_file_gets_what_predict_says(classified, run_script, tmp_path):
    """Of any length: `as_trained` fills files as the scripts do, and hears longer ones whole."""
    for n, number in ((700, 1), (2000, 2), (SAMPLES, 3), (3 * SAMPLES, 4)):
        sounds = [sound(kind, 10 * number + i) for i, kind in enumerate(("tone", "click", "noise"))]
        soundfile.write(tmp_path / f"{number}.wav", np.concatenate(sounds)[:n], RATE)
    run = run_script("predict", classified[1], tmp_path, "--format", "json", "--top", 3)
    serve = tf.saved_model.load(str(classified[1] / "1")).signatures["as_trained"]
    files = sorted(tmp_path.glob("*.wav"))
    answer = serve(audio_bytes=tf.constant([file.read_bytes() for file in files]))
    assert not any(file["notes"] for file in json.loads(run.stdout)["files"])
    predicted = [{one["label"]: one["score"] for one in file["labels"]} for file in json.loads(run.stdout)["files"]]
    names = read_card(classified[1])["labels"]
    assert [max(scores, key=scores.get).encode() for scores in predicted] == answer["labels"].numpy().tolist()
    expected = [[scores[name] for name in names] for scores in predicted]
    np.testing.assert_allclose(answer["scores"], expected, atol=1e-4)


@pytest.mark.slow
def test_splits_are_kept_and_bad_files_listed(classified, run_script, sounds, tmp_path):
    """A classifier of a classifier: its card names the data of both; the output is replaced when told to."""
    root, out = tmp_path / "split", tmp_path / "out" / "mine"
    for split, numbers in (("train", range(6)), ("validation", range(6, 9)), ("test", range(9, 14))):
        for kind in ("tone", "click"):
            write_sounds(root / split / kind, kind, numbers)
    write_sounds(root / "train" / "_background" / "deep", "noise", range(3))
    write_sounds(tmp_path / "foreign", "noise", range(3, 5))
    (root / "train" / "tone" / "text.wav").write_text("not audio")
    (root / "train" / "tone" / "phone.m4a").write_bytes(b"of another kind")
    (root / "notes.txt").write_text("no sound")
    (root / ".hidden").write_text("no matter")
    shutil.copytree(classified[1], out)
    arguments = (root, "--model", classified[1], "--output-dir", out, "--clip-seconds", 0.1, "--layer-weights", "equal")
    more = "--overwrite", "--unknown", tmp_path / "foreign"
    run = run_script("classify", *arguments, *more, before=forked.FEW_SIGNATURES)
    assert run.returncode == 1, run.stderr
    left_out, *failed, last = run.stderr.splitlines()
    assert left_out.startswith("folder: left out: 1 file that is not .wav, ")
    assert left_out.endswith(f"or lie in no class folder; the first: {root / 'notes.txt'}")
    bad = ["train/tone/phone.m4a", "train/tone/text.wav"]
    for line, name in zip(failed, bad, strict=True):
        assert line.startswith(f"failed: {root / name}: cannot be decoded")
    assert last.startswith("2 failed, see ")
    assert [row[0] for row in csv.reader((tmp_path / "out" / "failed.csv").open())] == ["clip", *bad]
    card, before = read_card(out), read_card(classified[1])
    assert card["labels"] == ["click", "tone"]
    assert card["probe"]["layer_weights"] == card["settings"]["layer_weights"] == "equal"
    assert "official splits, parameters chosen on the validation split" in card["training_data"]["division"]
    assert [*card["scores"]] == ["test"]
    assert card["audio"]["n_samples"] == 1600
    assert card["training_data"]["clips"] == {"all": 28}
    assert card["transferred_from"] == {**before["training_data"], "transferred_from": before["transferred_from"]}
    assert re.search(r"^click +\d +\d$", run.stdout, re.MULTILINE)
    assert (card["settings"]["unknown"], card["settings"]["unknown_clips"]) == ("foreign", 5)
    assert pd.read_csv(out / "kept.csv")["false_alarms"].iloc[0] == 1  # no limit
    assert "Of the 5 unknown sounds" in (out / "report.html").read_text()


# ---- predict.py


# Where these packages are not installed, as on a server.
_WITHOUT = """
import runpy, sys
from importlib.machinery import PathFinder
find, without = PathFinder.find_spec, {"keras", "kapre", "sklearn"}
PathFinder.find_spec = lambda name, *where: None if name.partition(".")[0] in without else find(name, *where)
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    assert not without & {*sys.modules}
"""


@pytest.mark.slow
def test_a_table_without_keras_and_scikit_learn(classified, sounds):
    files = [sounds / "tone" / "tone0.wav", sounds / "click"]
    command = [sys.executable, "-c", _WITHOUT, ROOT / "scripts" / "predict.py", classified[1], *files, "--quiet"]
    run = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    header, *rows = (line.split() for line in run.stdout.splitlines())
    assert header == ["file", "label", "score", "probability", "known"]
    clips = [files[0], *sorted((sounds / "click").iterdir())]
    assert [row[0] for row in rows] == [str(path) for path in clips]
    by_id = {str(clip.path): clip for clip in load("folder", sounds)}
    scores = served(classified[1], [by_id[row[0]] for row in rows], ["click", "noise", "tone"])["scores"]
    assert [row[1] for row in rows] == [["click", "noise", "tone"][column] for column in scores.argmax(axis=1)]
    np.testing.assert_allclose([float(row[2]) for row in rows], scores.max(axis=1), atol=6e-4)


@pytest.mark.slow
def test_csv_to_a_file_with_bad_files_among_the_good(classified, run_script, sounds, tmp_path):
    (tmp_path / "text.wav").write_text("not audio")
    good = sounds / "noise" / "noise3.wav"
    arguments = (classified[1], tmp_path / "text.wav", good, "--format", "csv", "--top", 3)
    run = run_script("predict", *arguments, "--output", tmp_path / "out" / "classes.csv")
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.startswith(f"failed: {tmp_path / 'text.wav'}: cannot be decoded")
    assert run.stderr.endswith(f"1 failed, see {tmp_path / 'out' / 'failed.csv'}\n")
    assert [row[0] for row in csv.reader((tmp_path / "out" / "failed.csv").open())] == ["clip", f"{tmp_path}/text.wav"]
    header, *rows = csv.reader((tmp_path / "out" / "classes.csv").open())
    assert header == ["file", "label", "score", "probability", "known", "notes"]
    assert [row[0] for row in rows] == [str(good)] * 3
    assert {row[1] for row in rows} == {"click", "noise", "tone"}
    probabilities = [float(row[3]) for row in rows]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert len({row[4] for row in rows}) == 1
    again = run_script("predict", *arguments)
    assert again.returncode == 1
    assert again.stderr.endswith("\n1 failed\n")  # there is no file beside which to list them
    assert [*csv.reader(io.StringIO(again.stdout))] == [header, *rows]
    output = tmp_path / "out" / "none.csv"
    none = run_script("predict", classified[1], tmp_path / "text.wav", "--output", output)
    assert none.returncode == 1
    assert f"not written: {output} (no clip could be read)" in none.stderr.splitlines()
    assert not output.exists()


@pytest.mark.slow
def test_json_of_probabilities(model_dir, run_script, sounds):
    """A network that train.py trained has a head: probabilities."""
    run = run_script("predict", model_dir, sounds / "tone" / "tone1.wav", "--format", "json", "--top", 5)
    assert run.returncode == 0, run.stderr
    content = json.loads(run.stdout)
    assert content["model"] == str(model_dir)
    assert content["scores_are"] == "probabilities, whose sum is 1"
    (clip,) = content["files"]
    assert clip["file"] == str(sounds / "tone" / "tone1.wav")
    assert sum(label["score"] for label in clip["labels"]) == pytest.approx(1, abs=1e-5)
    assert {label["label"] for label in clip["labels"]} == {*read_card(model_dir)["labels"]}


# ---- refused


def quietly(name, *arguments):
    return run_main(name, *arguments, "--quiet")


def copy_with_card(model_dir, folder, change):
    shutil.copytree(model_dir, folder)
    card = read_card(folder)
    change(card)
    (folder / "card.json").write_text(json.dumps(card))
    return folder


FOLDERS = {
    "one class": ({"a": 6}, "{root}: labels: every clip is 'a'; expected at least two classes"),
    "two clips": (
        {"a": 6, "b": 2},
        "{root}: labels: class 'b' has 2 clips, 5-fold cross-validation needs 5; add clips or leave the class out",
    ),
    "nested": (
        {"a/x": 6, "a/y": 6, "b": 6},
        "{root}/a: has audio only in its sub-folders; expected the audio of one class in it; name the folder whose ",
    ),
    "nested in splits": (
        {"train/a": 6, "train/b/deep": 6, "test/a": 6, "test/b": 6},
        "{root}/train/b: has audio only in its sub-folders; ",
    ),
    "splits and something else": ({"train/a": 6, "train/b": 6, "old/a": 6}, "{root}/old: has audio only in its "),
    "not trained": (
        {"train/a": 6, "train/b": 6, "test/a": 6, "test/c": 6},
        "{root}: 'c' has no clip for training; add some, or leave the class out",
    ),
    "unreadable": (
        {"a": 6, "b": 4, "b/bad": 2},
        "{root}: labels: class 'b' has 4 clips, 5-fold cross-validation needs 5; add clips or leave the class out; "
        "2 files cannot be read, the first: {root}/b/bad/0.wav: cannot be decoded",
    ),
    "no audio": ({"a": 6, "b": 0}, "folder: {root}/b has no audio"),
    "no folders": ({}, "folder: {root} has no class folders; "),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_folders_that_cannot_be(what, model_dir, tmp_path):
    folders, message = FOLDERS[what]
    root = tmp_path / "root"
    root.mkdir()
    for place, (name, n) in enumerate(folders.items()):
        (root / name).mkdir(parents=True)
        for number in range(n):
            if name.endswith("bad"):
                (root / name / f"{number}.wav").write_text("not audio")
            else:
                soundfile.write(root / name / f"{number}.wav", sound("tone", 100 * place + number), RATE)
    with pytest.raises(InputError, match=re.escape(message.format(root=root))) as error:
        quietly("classify", root, "--model", model_dir, "--output-dir", tmp_path / "out" / "mine")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.rglob("out/*")] == (["failed.csv"] if what == "unreadable" else [])


def test_arguments_that_cannot_be(model_dir, sounds, tmp_path):
    def refused(message, *arguments, folder=sounds, model=model_dir, output=tmp_path / "mine"):
        with pytest.raises(InputError, match=message):
            quietly("classify", folder, "--model", model, "--output-dir", output, *arguments)

    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "diary.txt").write_text("not to be lost")
    refused(r"there: exists; pass --overwrite to replace it or another --output-dir", output=tmp_path / "there")
    refused(r"there: has no card.json; expected a model folder", "--overwrite", output=tmp_path / "there")
    assert (tmp_path / "there" / "diary.txt").exists()
    refused(r"--output-dir: \. is the current folder; name a new one", output=".")
    refused("there: has no card.json; expected a model folder", model=tmp_path / "there")
    refused("gone is not a folder; expected one sub-folder per class", folder=tmp_path / "gone")
    refused("--workers: 0 is not allowed; expected 1 to 1024", "--workers", 0)
    refused("--jobs: 0 is not allowed; expected 1 to 1024", "--jobs", 0)
    refused("--clip-seconds: 0 is not allowed; expected more than 0", "--clip-seconds", 0)
    batch = copy_with_card(model_dir, tmp_path / "batch", lambda card: card["audio"].update(decibel_maximum="batch"))
    refused(
        "batch: its features depend on the whole batch, which a served clip does not have; import the calibrated",
        model=batch,
    )
    assert not (tmp_path / "mine").exists()


def test_unknown_sounds_that_cannot_be(model_dir, sounds, tmp_path):
    def refused(message, unknown, *arguments, output=tmp_path / "mine"):
        how = "--model", model_dir, "--output-dir", output, "--unknown", unknown
        with pytest.raises(InputError, match=message):
            quietly("classify", sounds, *how, *arguments)

    (tmp_path / "none").mkdir()
    refused("none: holds no audio", tmp_path / "none")
    (tmp_path / "none" / "bad.wav").write_text("not audio")
    refused("^--unknown: none of the 1 unknown sounds can be read; .*bad.wav: cannot be decoded", tmp_path / "none")
    assert (tmp_path / "failed.csv").read_text().count("cannot be decoded") == 1
    alike = "^--unknown: .*tone0.wav sounds as .*tone0.wav, which is of a class; expected sounds of none of the classes"
    refused(alike, sounds / "tone" / "tone0.wav")
    own = shutil.copytree(sounds, tmp_path / "own")
    shutil.copytree(sounds / "tone", own / "_background")
    with pytest.raises(InputError, match=r"^[^-].*own: _background/tone0.wav sounds as tone/tone0.wav, which is"):
        quietly("classify", own, "--model", model_dir, "--output-dir", tmp_path / "mine")
    copy_with_card(model_dir, tmp_path / "old", lambda card: None)
    (tmp_path / "none").rename(tmp_path / "old" / "none")
    refused(
        "holds an input, .*none, which would be lost", tmp_path / "old" / "none", "--overwrite", output=tmp_path / "old"
    )
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("name", [*own_sounds.BACKGROUND, "_Background"])
@pytest.mark.parametrize("as_manifest", [False, True])
def test_sounds_of_the_background_are_of_no_class(name, as_manifest, sounds, tmp_path, capsys):
    for kind in ("tone", "click"):
        shutil.copytree(sounds / kind, tmp_path / "own" / kind)
    write_sounds(tmp_path / "own" / name / "deep", "noise", range(3))
    place = tmp_path / "own"
    if as_manifest:
        rows = [f"{clip.path},{clip.labels[0]}" for clip in load("folder", place)]
        place = tmp_path / "own.csv"
        place.write_text("\n".join(["path,label", *rows]))
    given = [place, "--output-dir", tmp_path / "mine", "--unknown", sounds / "noise"]
    clips, foreign, _ = own_sounds.found(classify.arguments().parse_args([*map(str, given)]))
    said = "3 unknown sounds: those of _background and _background_noise_, which are no classes\n"
    assert said in capsys.readouterr().err
    assert {clip.labels for clip in clips} == {("tone",), ("click",)}
    assert [clip.path.parent.name for clip in foreign] == ["deep"] * 3 + ["noise"] * 7
    assert not any(clip.labels for clip in foreign)
    given[-1] = tmp_path / "own" / name  # the same sounds count once
    assert len(own_sounds.found(classify.arguments().parse_args([*map(str, given)]))[1]) == 3


def test_the_background_alone_is_refused(model_dir, tmp_path):
    write_sounds(tmp_path / "own" / "_background", "noise", range(3))
    with pytest.raises(InputError, match=r"own: has unknown sounds \(_background\) only; add a folder for each class"):
        quietly("classify", tmp_path / "own", "--model", model_dir, "--output-dir", tmp_path / "mine")


def test_sub_folders_are_recordings_where_a_pattern_says_so(model_dir, tmp_path):
    for kind in ("tone", "noise"):
        write_sounds(tmp_path / "mine" / kind / "ann", kind, range(3))
        write_sounds(tmp_path / "mine" / kind / "bob", kind, range(3, 6))
    how = "--model", model_dir, "--output-dir", tmp_path / "out"
    with pytest.raises(InputError, match=r"sub-folders; .*pass --group-by '(.+)'$") as error:
        quietly("classify", tmp_path / "mine", *how)
    pattern = re.search("--group-by '(.+)'", str(error.value))[1]
    with pytest.raises(InputError, match=r"is of 2 groups only \(ann, bob\), and 5 folds"):
        quietly("classify", tmp_path / "mine", *how, "--group-by", pattern)


def test_a_class_in_one_fold_only_is_refused(model_dir, sounds, tmp_path):
    rows = [
        f"{sounds}/{kind}/{kind}{n}.wav,{kind},{1 if kind == 'tone' else n % 3}"
        for kind in ("tone", "noise", "click")
        for n in range(6)
    ]
    (tmp_path / "mine.csv").write_text("\n".join(["path,label,fold", *rows]))
    with pytest.raises(InputError, match=r"mine.csv: 'tone' has no clip for training where fold_1 is scored; add some"):
        quietly("classify", tmp_path / "mine.csv", "--model", model_dir, "--output-dir", tmp_path / "out")


def test_classes_of_copies_only_are_refused(model_dir, tmp_path):
    for kind in ("a", "b"):
        write_sounds(tmp_path / "mine" / kind, "tone", [1])
        for number in range(5):
            shutil.copy(tmp_path / "mine" / kind / "tone1.wav", tmp_path / "mine" / kind / f"copy{number}.wav")
    how = "--model", model_dir, "--output-dir", tmp_path / "out", "--allow-duplicates"
    with pytest.raises(InputError, match=r"class 'a' is of one group only .*leave the class out$"):
        quietly("classify", tmp_path / "mine", *how)


@pytest.mark.parametrize("name", ["a+b", "a; b"])
def test_of_several_models_none_is_called_as_layers_are_joined(name, model_dir, sounds, tmp_path):
    shutil.copytree(model_dir, tmp_path / "real" / name)
    models = tmp_path / "real" / name, model_dir
    message = rf"^--models?: {re.escape(repr(name))} holds what joins layers; expected a name without"
    with pytest.raises(InputError, match=message):
        quietly("classify", sounds, "--model", models[0], "--model", models[1], "--output-dir", tmp_path / "mine")
    compared = "--dataset", "folder", "--data-dir", sounds, "--output-dir", tmp_path / "mine"
    with pytest.raises(InputError, match=message):
        quietly("compare", "--models", *models, *compared)
    assert not (tmp_path / "mine").exists()
    assert places.by_name("--model", models[:1]) == {name: models[0]}


def test_a_model_folder_without_the_keras_model(source, sounds, run_script, tmp_path):
    shutil.copytree(source, tmp_path / "served", ignore=shutil.ignore_patterns("model.keras"))
    run = run_script("classify", sounds, "--model", tmp_path / "served", "--output-dir", tmp_path / "mine")
    assert run.returncode == 2
    assert run.stderr.endswith("served: has no model.keras to train on; export the model again\n")
    assert run.stderr.count("\n") == 1
    assert not (tmp_path / "mine").exists()


def test_predictions_that_cannot_be(model_dir, sounds, tmp_path):
    clip = sounds / "tone" / "tone0.wav"

    def refused(message, *arguments, model=model_dir, clip=clip):
        with pytest.raises(InputError, match=message):
            quietly("predict", model, clip, *arguments)

    refused("--format: 'xml' is unknown; choose from table, csv, json", "--format", "xml")
    refused("--top: 0 is not allowed; expected at least 1", "--top", 0)
    refused("--top: 6 is not allowed; expected 1 to 5, the model's labels", "--top", 6)
    refused("--workers: 0 is not allowed", "--workers", 0)
    refused("is a folder; name a file", "--output", tmp_path)
    with only_writer(tmp_path / "a.csv"):
        refused("a.csv: another run writes there; wait for it, or name another file", "--output", tmp_path / "a.csv")
    refused("has no card.json; expected a model folder", model=sounds)
    (tmp_path / "empty").mkdir()
    refused("empty: holds no audio", clip=tmp_path / "empty")
    unlabelled = copy_with_card(model_dir, tmp_path / "unlabelled", lambda card: card.pop("labels"))
    refused("card.json: names no labels, so there are no scores; expected a classifier", model=unlabelled)
    batch = copy_with_card(model_dir, tmp_path / "batch", lambda card: card["audio"].update(decibel_maximum="batch"))
    refused("batch: its features depend on the whole batch, which a file alone does not have", model=batch)
    edited = copy_with_card(model_dir, tmp_path / "edited", lambda card: card.update(probe={"accepts": [0.5]}))
    refused(r"card.json: probe.accepts is \[0.5\]; expected numbers", model=edited, clip=tmp_path / "empty")


@pytest.mark.parametrize("limits", [None, [], {"known_at_least": 5}, {"probability_at_least": float("nan")}])
def test_limits_of_a_card_that_cannot_be(limits):
    card = Card(CONFIG, probe={"accepts": limits})
    with pytest.raises(InputError, match=r"^card.json: probe.accepts is .*; expected numbers from 0 to 1; export"):
        limits_of(card)


def test_a_saved_model_without_scores(source, run_script, sounds):
    run = run_script("predict", source, sounds / "tone")
    assert run.returncode == 2
    assert run.stderr.endswith("two_layers: its SavedModel returns no scores; expected a classifier\n")
    assert run.stderr.count("\n") == 1


# ---- real sounds


@pytest.mark.slow
@needs_real_data
def test_esc10_by_class(run_script, tmp_path):
    """Ten clips a class of folds 1 to 4; on those of fold 5 the served classes are scikit-learn's, and mostly right."""
    clips, held_out = [], []
    for clip in load("esc10", Path(REAL_DATA) / "ESC-50"):
        (held_out if clip.fold == 5 else clips).append(clip)
    kept = [c for name in esc10.LABELS for c in [clip for clip in clips if clip.labels[0] == name][::3][:10]]
    for clip in kept:
        link = tmp_path / "sounds" / clip.labels[0] / clip.path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(clip.path.resolve())
    source, out, published = tmp_path / "two_layers", tmp_path / "mine", ROOT / "saved_models" / "convnet5.urbansound8k"
    source.mkdir()
    # With all layers there are ten times as many combinations to choose from.
    write_features(source, select_layers(load_network(published), ["layer3", "layer4"]), Card.read(published))
    arguments = tmp_path / "sounds", "--model", source, "--output-dir", out
    run = run_script("classify", *arguments, before=forked.FEW_SIGNATURES)
    assert run.returncode == 0, run.stderr
    classes = compare(out, source, load("folder", tmp_path / "sounds"), held_out)
    accuracy = np.mean([name == clip.labels[0] for name, clip in zip(classes, held_out, strict=True)])
    scores = read_card(out)["scores"]["cross-validation"]
    assert scores["interval_low"] - 0.1 < accuracy < scores["interval_high"] + 0.1
    assert accuracy > 0.5  # chance is 0.1


def test_a_picture_that_fails_costs_no_model(capsys):
    with cli.picture():
        raise RuntimeError("no such glyph\nsecond line")
    assert capsys.readouterr().err == "no picture (RuntimeError: no such glyph); please report it\n"
    with cli.picture():
        raise OSError(errno.ENOSPC, "No space left on device", "confusion.png")
    assert capsys.readouterr().err == "no picture (OSError: [Errno 28] No space left on device: 'confusion.png')\n"
    with pytest.raises(InputError), cli.picture():
        raise InputError("mine")
