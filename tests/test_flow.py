"""From wav files to probe scores, through the scripts as a user runs them."""

import json
import os
from pathlib import Path

import forked
import numpy as np
import pandas as pd
import pytest
import soundfile

from keras_audio_transfer.datasets import load
from keras_audio_transfer.feature_tables.table import FeatureTable

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = os.environ.get("KAT_TEST_DATA")
# The network of fewest layers, where the network does not matter: tracing is most of a short training.
SMALL = ("--network", "sbcnn", "--clip-seconds", 0.25)
needs_real_data = pytest.mark.skipif(not REAL_DATA, reason="KAT_TEST_DATA does not name a folder with the data sets")


@pytest.fixture(scope="module")
def run(run_script):
    def run(*arguments, before=""):
        finished = run_script(*arguments, before=before)
        assert finished.returncode == 0, finished.stderr

    return run


@pytest.fixture(scope="module")
def audio_dir(tmp_path_factory):
    """Two classes of the synthetic sounds as wav files at another sample rate, as a user's own folder."""
    root = tmp_path_factory.mktemp("audio")
    for clip in load("synthetic"):
        if clip.labels[0] in ("noisy", "harmonic") and clip.clip_id.endswith(("-0", "-1")):
            samples, _ = clip.synthesise()
            path = root / f"{clip.clip_id}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, samples, 22050)
    return root


@pytest.mark.slow
def test_training_learns_and_the_model_folder_is_complete(run, tmp_path):
    model_dir = tmp_path / "convnet5.synthetic"
    run("train", "--epochs", 6, "--output-dir", model_dir)
    card = json.loads((model_dir / "card.json").read_text())
    assert card["layer_names"] == [f"layer{i}" for i in range(1, 6)]
    assert card["layer_sizes"] == dict.fromkeys(card["layer_names"], 64)  # mean and deviation
    assert card["labels"] == ["harmonic", "noisy", "impulsive", "swept", "modulated"]
    assert card["training_data"]["clips"] == {"train": 300, "validation": 100, "test": 100}
    assert card["scores"]["test"]["accuracy"] > 0.4  # chance is 0.2
    assert card["initial_weights"] is None
    names = {path.name for path in model_dir.iterdir()}
    assert names == {"1", "card.json", "history.csv", "model.keras", "tensorboard", "training.png"}
    assert [*pd.read_csv(model_dir / "history.csv")["epoch"]] == [1, 2, 3, 4, 5, 6]
    assert not model_dir.with_name(f"{model_dir.name}.training").exists()


@pytest.mark.slow
def test_extract_then_probe_a_folder(run, model_dir, audio_dir, tmp_path):
    run("extract", model_dir, "--dataset", "folder", "--data-dir", audio_dir, "--output", tmp_path / "f.npz")
    features = FeatureTable.load(tmp_path / "f.npz")
    assert features.label_names == ["harmonic", "noisy"]
    assert {values.shape for values in features.layers.values()} == {(40, 64)}
    run("probe", tmp_path / "f.npz", "--output-dir", tmp_path / "probe", "--jobs", 1)
    scores = pd.read_csv(tmp_path / "probe" / "scores.csv").set_index("layers")
    assert [*scores.index[:2], scores.index[-1]] == ["layer1", "layer2", "layer1+layer2+layer3+layer4+layer5"]
    assert scores.loc["layer1+layer2+layer3+layer4+layer5", "score"] > 0.8  # chance is 0.5
    pictures = {
        f"{name}.{suffix}" for name in ("scores", "dimensions", "depth", "confusion") for suffix in ("png", "svg")
    }
    tables = {"scores.csv", "predictions.csv", "classes.csv"}
    assert {"config.json", *tables, *pictures} == {p.name for p in (tmp_path / "probe").iterdir()}


@pytest.mark.slow
def test_extract_files_equals_extract_folder(run, model_dir, audio_dir, tmp_path):
    files = sorted(audio_dir.rglob("*.wav"))[:3]
    run("extract", model_dir, *files, "--output", tmp_path / "files.npz")
    run("extract", model_dir, audio_dir, "--output", tmp_path / "folder.npz", "--layers", "layer2,layer5")
    from_files, from_folder = FeatureTable.load(tmp_path / "files.npz"), FeatureTable.load(tmp_path / "folder.npz")
    assert [*from_folder.layers] == ["layer2", "layer5"]
    assert [*from_folder.clip_ids[:3]] == [*from_files.clip_ids]
    np.testing.assert_array_equal(from_files.layers["layer5"], from_folder.layers["layer5"][:3])
    assert (from_files.labels == -1).all()


@pytest.mark.slow
def test_extract_what_is_to_be_regressed(run, model_dir, tmp_path):
    """Arousal and valence are written as numbers under their names."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "clips_45seconds").mkdir()
    for song in (2, 3):
        noise = np.random.default_rng(song).normal(0, 0.1, 16000)
        soundfile.write(tmp_path / "clips_45seconds" / f"{song}.mp3", noise, 16000)
    (tmp_path / "annotations" / "static_annotations.csv").write_text(
        "song_id,mean_arousal,mean_valence\n3,9,1\n2,3,6\n"
    )
    sets = "song_id,Mediaeval 2013 set\n2,development\n3,evaluation\n"
    (tmp_path / "annotations" / "songs_info.csv").write_text(sets)
    run("extract", model_dir, "--dataset", "emomusic", "--data-dir", tmp_path, "--output", tmp_path / "f.npz")
    features = FeatureTable.load(tmp_path / "f.npz")
    assert features.label_names == ["arousal", "valence"]
    assert features.labels.dtype == np.float64
    assert features.labels.tolist() == [[3 / 9, 6 / 9], [1.0, 1 / 9]]
    assert features.splits.tolist() == ["train", "test"]


@pytest.mark.slow
def test_extract_parts_of_a_file_equals_extract_them_cut_out(run, model_dir, tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * 16000).clip(-0.9, 0.9)
    soundfile.write(tmp_path / "whole.wav", noise, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "second.wav", noise[16000 * 3 :], 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "first.wav", noise[8000:24000], 16000, subtype="FLOAT")
    (tmp_path / "parts.csv").write_text("path,label,start,duration\nwhole.wav,b,3,\nwhole.wav,a,0.5,1\n")
    (tmp_path / "cut.csv").write_text("path,label\nsecond.wav,b\nfirst.wav,a\n")
    layers = []
    for name in ("parts", "cut"):
        path = tmp_path / f"{name}.npz"
        table = tmp_path / f"{name}.csv"
        run("extract", model_dir, "--dataset", "manifest", "--data-dir", table, "--output", path)
        features = FeatureTable.load(path)
        assert features.labels.tolist() == [1, 0]  # in the order of the rows
        layers.append(np.concatenate([*features.layers.values()], axis=1))
    np.testing.assert_allclose(*layers, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_tagging(run, tmp_path, audio_dir):
    rows = ["path,label,split"]
    for i, path in enumerate(sorted(audio_dir.rglob("*.wav"))):
        tags = [path.parent.name] + (["even"] if i % 2 == 0 else [])
        rows.append(f"{path},{'|'.join(tags)},{('train', 'train', 'train', 'validation', 'test')[i // 2 % 5]}")
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    arguments = ("--dataset", "manifest", "--data-dir", tmp_path / "clips.csv")
    how = *SMALL, "--epochs", 2, "--output-dir", tmp_path / "tagger"
    run("train", *arguments, *how, before=forked.FEW_SIGNATURES)
    card = json.loads((tmp_path / "tagger" / "card.json").read_text())
    assert card["multi_label"] is True
    assert set(card["scores"]["test"]) == {"roc_auc_micro", "roc_auc_macro", "pr_auc_micro", "pr_auc_macro"}
    run("extract", tmp_path / "tagger", *arguments, "--output", tmp_path / "tags.npz")
    features = FeatureTable.load(tmp_path / "tags.npz")
    assert features.labels.shape == (40, 3)
    assert features.labels.sum() == 40 + 20


@pytest.mark.slow
@needs_real_data
def test_the_published_model_beats_a_log_mel_baseline_on_esc10(run, tmp_path):
    """0.77 is what an SVM on mean and deviation of log-mel bands gets on these five folds."""
    model = ROOT / "saved_models" / "convnet5.urbansound8k"
    data = ("--dataset", "esc10", "--data-dir", Path(REAL_DATA) / "ESC-50")
    run("extract", model, *data, "--clip-seconds", 5, "--output", tmp_path / "esc10.npz")
    layers = "layer1+layer2+layer3+layer4+layer5"
    run("probe", tmp_path / "esc10.npz", "--output-dir", tmp_path / "probe", "--combinations", layers)
    scores = pd.read_csv(tmp_path / "probe" / "scores.csv")
    assert scores["score"][0] > 0.8
    assert scores["score"][0] == pytest.approx(scores[[f"fold_{i}" for i in range(1, 6)]].iloc[0].mean())


@pytest.mark.slow
@needs_real_data
def test_training_on_urbansound8k_takes_its_own_folds(run, tmp_path):
    data = ("--dataset", "urbansound8k", "--data-dir", Path(REAL_DATA) / "UrbanSound8K", "--test-fold", 2)
    how = *SMALL, "--epochs", 1, "--output-dir", tmp_path / "urban"
    run("train", *data, *how, before=forked.FEW_SIGNATURES)
    card = json.loads((tmp_path / "urban" / "card.json").read_text())
    clips = card["training_data"]["clips"]
    assert clips["test"] == 888
    assert clips["train"] + clips["validation"] == 873 + 837
    assert "CC BY-NC" in card["training_data"]["licence"]
