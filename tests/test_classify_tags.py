"""A manifest with several labels a clip becomes a model folder that names what scikit-learn names; predict shows it."""

import csv
import io
import json
from dataclasses import replace
from functools import partial
from itertools import combinations

import forked
import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import read_card, run_main
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sounds import CONFIG
from test_classify import write_features

import keras_audio_transfer as kat
from keras_audio_transfer.answers import NONE_OF_THESE, Answers, thresholds_of
from keras_audio_transfer.datasets import load_own
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.examples import read as read_examples
from keras_audio_transfer.extraction import SavedExtractor, extract
from keras_audio_transfer.extractor import select_layers
from keras_audio_transfer.finetuning import load_network
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.servers.demo_answer import answer

RATE, SAMPLES = 16000, 3200
PITCHES = {"low": (200, 400), "middle": (700, 1100), "high": (2500, 3500)}
MIXTURES = [labels for size in (1, 2) for labels in combinations(PITCHES, size)]


def write_mixtures(folder, n, seed=0):
    """Tones of one or two pitches in noise, all mixtures as often in each of three folds, and a manifest of them."""
    rng, t = np.random.default_rng(seed), np.arange(SAMPLES) / RATE
    rows = ["path,label,fold"]
    for number in range(n):
        labels = MIXTURES[number % len(MIXTURES)]
        tones = [np.sin(2 * np.pi * rng.uniform(*PITCHES[label]) * t) for label in labels]
        soundfile.write(folder / f"{number}.wav", 0.1 * sum(tones) + rng.normal(0, 0.03, SAMPLES), RATE)
        rows.append(f"{number}.wav,{'|'.join(labels)},{number // len(MIXTURES) % 3}")
    (folder / "clips.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "clips.csv"


@pytest.fixture(scope="module")
def source(model_dir, tmp_path_factory):
    """A model folder with one layer; not to be written to."""
    folder = tmp_path_factory.mktemp("models") / "one_layer"
    folder.mkdir()
    write_features(folder, select_layers(load_network(model_dir), ["layer1"]), Card.read(model_dir))
    return folder


@pytest.fixture(scope="module")
def classified(run_script, source, tmp_path_factory):
    """The process that made a classifier, the model folder it wrote, and the manifest; not to be written to."""
    root = tmp_path_factory.mktemp("mixtures")
    manifest = write_mixtures(root, 36)
    (root / "broken.wav").write_bytes(b"nothing")
    with manifest.open("a", encoding="utf-8") as file:
        file.write("\nbroken.wav,low|high,0")
    arguments = "--model", source, "--output-dir", root / "mine", "--keep-examples", 30
    run = run_script("classify", manifest, *arguments, before=forked.FEW_SIGNATURES)
    assert run.returncode == 1, run.stderr  # for the one that cannot be read
    return run, root / "mine", manifest


def test_what_it_says_and_writes(classified, source):
    run, folder, _ = classified
    card, before = read_card(folder), read_card(source)
    assert {path.name for path in folder.iterdir()} == {
        *("1", "card.json", "model.keras", "predictions.csv", "classes.csv", "health.csv", "report.html"),
        *("calibration.csv", "calibration.png", "calibration.svg", "more_clips.png", "more_clips.svg", "examples.npz"),
    }
    assert card["labels"] == ["high", "low", "middle"]
    assert card["multi_label"] is True
    assert "decision values" in card["scores_are"]
    assert card["transferred_from"] == before["training_data"]
    assert card["training_data"]["clips_by_label"] == {"high": 18, "low": 18, "middle": 18}
    assert card["probe"]["layers"] == ["layer1"]
    scores = card["scores"]["cross-validation"]
    assert scores["chance"] == pytest.approx(0.5, abs=0.05)
    assert scores["chance"] + 0.1 < scores["mean_average_precision"] <= scores["interval_high"] <= 1
    said = f"mean average precision {scores['mean_average_precision']:.3f} (95 % interval {scores['interval_low']:.3f}"
    assert f"cross-validation: {said} to " in run.stdout
    assert f"mfcc {scores['mfcc']:.3f}, log_mel {scores['log_mel']:.3f}\n" in run.stdout
    classes, predicted = pd.read_csv(folder / "classes.csv"), pd.read_csv(folder / "predictions.csv")
    assert classes["threshold"].tolist() == pytest.approx(
        [card["probe"]["thresholds"][name] for name in card["labels"]]
    )
    assert scores["mfcc"] == pytest.approx(classes["mfcc"].mean())
    assert len(predicted) == 36
    page = (folder / "report.html").read_text(encoding="utf-8")
    wrong = [
        {*said.split("|")} != {*true.split("|")}
        for true, said in predicted[["true", "predicted"]].fillna("").to_numpy()
    ]
    assert f"a missing label: {sum(wrong)} of 36 clips" in page
    assert "Would more clips help?" in page
    assert page.count("<audio ") >= sum(wrong)
    assert set(predicted["true"]) <= {"|".join(sorted(labels)) for labels in MIXTURES}
    assert "broken.wav" in run.stderr


def test_the_saved_model_says_what_scikit_learn_says(classified, source, tmp_path):
    _, folder, manifest = classified
    card = Card.read(folder)
    new = load_own(write_mixtures(tmp_path, 12, seed=1))
    seen = [clip for clip in load_own(manifest) if clip.path.name != "broken.wav"]
    fitted_on, _ = extract(SavedExtractor(source / "1"), ["layer1"], seen, [*card.labels], card.audio)
    x = fitted_on.layers["layer1"].astype(np.float64)
    scaler = StandardScaler().fit(x)
    chosen = {name: card.probe[name] for name in ("kernel", "C", "gamma") if card.probe[name] is not None}
    svms = [SVC(**chosen).fit(scaler.transform(x), of_label) for of_label in fitted_on.labels.T]
    names = ["layer1", "scores", "probabilities"]
    rows, _ = extract(SavedExtractor(folder / "1"), names, [*seen, *new], [*card.labels], card.audio)
    scaled = scaler.transform(rows.layers["layer1"].astype(np.float64))
    expected = np.stack([svm.decision_function(scaled) for svm in svms], axis=1)
    np.testing.assert_allclose(rows.layers["scores"], expected, atol=1e-5)
    slopes, intercepts = (np.array(card.probe["calibration"][name]) for name in ("slopes", "intercepts"))
    probabilities = 1 / (1 + np.exp(-(slopes * expected + intercepts)))
    np.testing.assert_allclose(rows.layers["probabilities"], probabilities, atol=1e-5)
    assert len({place for svm in svms for place in svm.support_}) == card.probe["support_vectors"]
    assert "labels" not in SavedExtractor(folder / "1").names


def test_a_clip_that_was_kept_is_nearest_to_itself(classified):
    _, folder, manifest = classified
    examples = read_examples(folder, Card.read(folder))
    assert len(examples.table) == 30
    clips = {clip.clip_id: clip for clip in load_own(manifest)}
    kept = str(examples.table.clip_ids[7])
    heard = answer(clips[kept].path, kat.load_model(folder), examples=examples)
    assert heard.nearest[0] == (kept, tuple(sorted(clips[kept].labels)))
    assert len({clip for clip, _ in heard.nearest}) == 3


def test_predict_names_the_labels_that_reach_their_thresholds(classified, run_script, tmp_path):
    _, folder, _ = classified
    write_mixtures(tmp_path, 6, seed=2)
    table = kat.load_model(folder).predict(soundfile.read(tmp_path / "3.wav")[0], RATE)
    assert [*table] == ["label", "score", "probability"]
    thresholds = read_card(folder)["probe"]["thresholds"]
    expected = [row.label for row in table.itertuples() if row.probability >= thresholds[row.label]]
    predict = partial(run_script, "predict", folder, tmp_path / "3.wav")
    rows = [*csv.DictReader(io.StringIO(predict("--format", "csv").stdout))]
    assert [*rows[0]] == ["file", "label", "score", "probability", "notes"]
    assert [row["label"] for row in rows] == (expected or [NONE_OF_THESE])
    whole = json.loads(predict("--format", "json", "--top", "1").stdout)
    assert whole["scores_are"].startswith("decision values")
    assert "probabilities are beside them, as `probability`" in whole["scores_are"]
    assert {*whole["files"][0]["labels"][0]} == {"label", "score", "probability"}
    (file,) = whole["files"]
    assert [row["label"] for row in file["labels"]] == [rows[0]["label"]]
    run = predict("--format", "json", "--hop-seconds", "1")
    assert "scores are" not in run.stderr  # segments have probabilities
    segments = json.loads(run.stdout)
    assert segments["scores_are"] == whole["scores_are"]
    assert segments["threshold"] == [thresholds[label] for label in read_card(folder)["labels"]]
    (file,) = segments["files"]
    assert file["windows"] == 1
    assert all(segment["probability"] >= thresholds[segment["label"]] for segment in file["segments"])
    refused = predict("--known-at-least", "0.5")
    assert refused.returncode == 2
    assert "--known-at-least: " in refused.stderr
    assert "has a threshold a label; leave it out" in refused.stderr


def test_a_clip_has_any_number_of_labels_or_none():
    outputs = {"scores": np.array([[1.0, 2.0], [-1.0, -2.0]]), "probabilities": np.array([[0.7, 0.9], [0.4, 0.2]])}
    answers = Answers.of(outputs, ["rain", "wind"])
    assert answers.columns == ("label", "score", "probability")
    both, none = answers.above(np.array([0.5, 0.5]))
    assert both == [("wind", 2.0, 0.9), ("rain", 1.0, 0.7)]
    ((name, *numbers),) = none
    assert name == NONE_OF_THESE
    assert np.isnan(numbers).all()
    assert answers.above(np.array([0.4, 0.95])) == [[("rain", 1.0, 0.7)], [("rain", -1.0, 0.4)]]
    assert answers.above(np.array([0.5, 0.5]), top=1)[0] == both[:1]


def test_thresholds_that_are_none_are_refused():
    card = Card(CONFIG, labels=["rain", "wind"])
    assert thresholds_of(card) is None
    for said in ({"rain": 0.5}, {"rain": 0.5, "wind": "x"}, 0.5):
        with pytest.raises(InputError, match=r"card\.json: probe.thresholds is .*; expected a number for each label"):
            thresholds_of(replace(card, probe={"thresholds": said}))


@pytest.mark.parametrize("flag", ["--labelled", "--unknown"])
def test_flags_of_one_label_are_refused(flag, source, tmp_path):
    manifest = write_mixtures(tmp_path, 6)
    with pytest.raises(InputError, match=f"{flag.strip('-')}: is of clips with one label; .* leave it out"):
        run_main("classify", manifest, "--model", source, "--output-dir", tmp_path / "x", flag, manifest, "--quiet")


def test_the_background_is_of_one_label(source, tmp_path):
    manifest = write_mixtures(tmp_path, 6)
    manifest.write_text(manifest.read_text().replace("0.wav,low,", "0.wav,_background,"))
    with pytest.raises(InputError, match="'_background' is of clips with one label, and some have several; leave its"):
        run_main("classify", manifest, "--model", source, "--output-dir", tmp_path / "x", "--quiet")


def test_a_label_of_few_clips_is_refused_before_any_work(source, tmp_path):
    manifest = write_mixtures(tmp_path, 12)
    table = pd.read_csv(manifest).drop(columns="fold")
    table.loc[0, "label"] = "low|owl"
    table.to_csv(manifest, index=False)
    with pytest.raises(InputError, match="labels: clips with 'owl': 1, and 5-fold cross-validation needs 5"):
        run_main("classify", manifest, "--model", source, "--output-dir", tmp_path / "x", "--quiet")


def test_suggest_wants_one_label(classified, tmp_path):
    _, folder, manifest = classified
    with pytest.raises(InputError, match="gives clips several labels; expected a model of one label a clip"):
        run_main("suggest", folder, manifest.parent, "--output", tmp_path / "x.csv")
