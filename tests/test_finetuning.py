"""Strategies train what they say and nothing else; trials are reproducible; a killed run continues."""

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import forked
import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
import sounds
from conftest import ROOT

from keras_audio_transfer import finetuning
from keras_audio_transfer import finetuning_results as results
from keras_audio_transfer.commands import transfer
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export import saved_model
from keras_audio_transfer.extractor import build_extractor, scale_to_unit_variance, spectrogram_of
from keras_audio_transfer.files import only_writer
from keras_audio_transfer.finetuning import Task, identity_of, layers_trained_from, run_trial, write_spectrograms
from keras_audio_transfer.finetuning_config import FinetuningConfig, Trial
from keras_audio_transfer.pretrained import source as pretrained
from keras_audio_transfer.splits import Splits
from keras_audio_transfer.training.heads import add_head
from keras_audio_transfer.training.input_pipeline import array_batches

CONFIG = replace(sounds.CONFIG, n_mels=16)
LABELS = ["high", "low"]
LAYERS = ["layer1", "layer2", "layer3"]


def tones(n_clips, seed):
    rng = np.random.default_rng(seed)
    hertz = np.where(np.arange(n_clips) % 2, 150, 600) * rng.uniform(0.9, 1.1, n_clips)
    waves = np.sin(2 * np.pi * hertz[:, None] * np.arange(CONFIG.n_samples) / CONFIG.sample_rate)
    return (0.5 * waves + rng.normal(0, 0.02, waves.shape)).astype(np.float32)


def write_source(folder, network="sbcnn", spec_augment=0):
    """A model folder without SavedModel: a network with random weights and a head for three other labels."""
    keras.utils.set_random_seed(7)
    model = add_head(build_extractor(CONFIG, network, spec_augment=spec_augment), 3)
    for layer in model.layers:  # statistics that can be told from those of a new layer
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(np.full(layer.moving_mean.shape, -0.5))
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model.keras")
    card = {"audio": CONFIG.to_dict(), "layer_names": [*model.output][:-1], "network": network}
    about = {"dataset": "synthetic", "licence": "the source's"}
    (folder / "card.json").write_text(json.dumps({**card, "training_data": about}))
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    clips = [Clip(str(i), None, (LABELS[i % 2],)) for i in range(56)]
    parts = Splits(clips[:32], clips[32:40], clips[40:], "as they come")
    task = Task("folder", parts, LABELS, CONFIG, tmp_path_factory.mktemp("task") / "spectrograms.npy")
    waveforms = tones(len(clips), seed=0)
    write_spectrograms(task, array_batches(waveforms, np.zeros((len(clips), 1), np.float32), np.arange(len(clips)), 9))
    return task


@pytest.fixture(autouse=True)
def no_saved_models(monkeypatch):
    """The SavedModel takes most of a trial's time; what the scripts write, in processes of their own, is whole."""

    def write_the_rest(folder, model, card):
        model.save(folder / "model.keras")
        card.write(folder)

    monkeypatch.setattr(saved_model, "write_model", write_the_rest)


def run(trial, source, task, tmp_path, **settings):
    """The trial's row, and the network before and after, as model folders' weights by layer."""
    run_dir = tmp_path / trial.file_name
    run_dir.mkdir(exist_ok=True)
    config = FinetuningConfig(**{"epochs": 2, "min_steps": 3, "batch_size": 8, "learning_rate": 1e-2, **settings})
    row = run_trial(trial, source, task, config, run_dir, tmp_path / "models", tmp_path / "predictions" / "trial.csv")
    predicted = pd.read_csv(tmp_path / "predictions" / "trial.csv")
    assert [*map(str, predicted["clip"])] == [clip.clip_id for clip in task.splits.test]
    assert (predicted["true"] == predicted["predicted"]).mean() == pytest.approx(row["accuracy"])
    probabilities = predicted[[f"probability_{name}" for name in task.label_names]]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert [task.label_names[i] for i in probabilities.to_numpy().argmax(axis=1)] == [*predicted["predicted"]]
    assert ("known" in predicted) == (trial.strategy == "probe")
    if trial.strategy == "probe":
        return row, None, None
    models = (source / "model.keras", tmp_path / "models" / trial.file_name / "model.keras")
    before, after = (keras.models.load_model(path, compile=False) for path in models)
    weights = [{layer.name: layer.get_weights() for layer in model.layers} for model in (before, after)]
    return row, *weights


def changed(before, after):
    """The layers with weights that are not bitwise what they were."""
    with_weights = [name for name, arrays in before.items() if arrays and name != "scores"]
    return [name for name in with_weights if not all(map(np.array_equal, before[name], after[name]))]


def test_the_spectrograms_are_those_of_the_model(source, task):
    model = keras.models.load_model(source / "model.keras", compile=False)
    expected = keras.Model(model.input, spectrogram_of(model))(tones(56, seed=0)).numpy()
    np.testing.assert_allclose(np.load(task.spectrograms), expected, atol=1e-4)


def test_finetune_trains_everything_and_learns(source, task, tmp_path):
    row, before, after = run(Trial("finetune", 1.0, 0), source, task, tmp_path, epochs=8)
    weighted = [name for name, arrays in before.items() if arrays and not name.startswith("power_to_mel")]
    assert changed(before, after) == [name for name in weighted if name != "scores"]
    assert after["scores"][0].shape == (before["scores"][0].shape[0], 2)
    assert row["train_clips"] == 32
    assert row["accuracy"] > 0.9
    assert row["f1_macro"] > 0.9
    assert row["loss"] < 0.5
    assert 1 <= row["epochs"] <= 8
    card = json.loads((tmp_path / "models" / "finetune.1.seed0" / "card.json").read_text())
    assert card["scores"]["test"]["accuracy"] == row["accuracy"]
    assert card["training_data"]["licence"] == "that of your own sounds"
    assert card["transferred_from"]["licence"] == "the source's"


@pytest.mark.parametrize("spec_augment", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_finetune_from_a_layer_leaves_all_below_as_it_was(source, task, tmp_path, spec_augment):
    model = keras.models.load_model(source / "model.keras", compile=False)
    below = {layer.name for layer in keras.Model(model.input, model.output[LAYERS[1]]).layers}
    settings = {"finetune_from": LAYERS[2], "spec_augment": spec_augment}
    _, before, after = run(Trial("finetune", 1.0, 0), source, task, tmp_path, **settings)
    moved = changed(before, after)  # statistics of normalisation count as weights
    assert moved
    assert not below & set(moved)
    assert set(moved) == {name for name, arrays in before.items() if arrays} - below - {"scores"}


def maps_of_patches(patches):
    x, taps = patches, {}
    for name in ("tap1", "tap2", "tap3"):
        x = taps[name] = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name=name)(x)
    return taps


PATCHES = {
    "of the spectrogram": {"patch_frames": 8, "patch_hop": 4},
    "of the waveform": {
        **{"patch_frames": 4, "patch_hop": 5, "window_samples": 128, "window_hop": 64},
        **{"frame_padding": "tensorflow_valid", "decibel_maximum": "patch"},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("patches", PATCHES)
def test_a_network_of_patches_is_tuned_from_a_layer_on(patches, tmp_path):
    config = replace(CONFIG, **PATCHES[patches])
    keras.utils.set_random_seed(7)
    network = pretrained.build(pretrained.Source("patches", config, maps_of_patches, read=None))
    network.save(tmp_path / "model.keras")
    card = {"audio": config.to_dict(), "layer_names": [*network.output], "network": "patches"}
    (tmp_path / "card.json").write_text(json.dumps(card))
    clips = [Clip(str(i), None, (LABELS[i % 2],)) for i in range(56)]
    parts = Splits(clips[:32], clips[32:40], clips[40:], "as they come")
    task = Task("folder", parts, LABELS, config, tmp_path / "spectrograms.npy")
    of_none = np.zeros((len(clips), 1), np.float32)
    write_spectrograms(task, array_batches(tones(len(clips), seed=0), of_none, np.arange(len(clips)), 9))
    row, before, after = run(Trial("finetune", 1.0, 0), tmp_path, task, tmp_path, finetune_from="tap2", epochs=40)
    assert changed(before, after) == ["tap2", "tap3"]
    assert row["accuracy"] > 0.8


@pytest.mark.slow
def test_gradual_unfreezing_ends_with_everything_trained(source, task, tmp_path):
    settings = {"unfreeze_epochs": 1, "epochs": 5, "patience": 5}
    _, before, after = run(Trial("finetune", 1.0, 0), source, task, tmp_path, **settings)
    whole = tmp_path / "whole"
    whole.mkdir()
    _, _, at_once = run(Trial("finetune", 1.0, 0), source, task, whole, **{**settings, "unfreeze_epochs": 0})
    assert changed(before, after) == changed(before, at_once)
    assert changed(after, at_once)


@pytest.mark.slow
def test_the_upper_layers_are_unfrozen_first(source):
    model = keras.models.load_model(source / "model.keras", compile=False)
    _, trained_from = layers_trained_from(model, LAYERS, FinetuningConfig(unfreeze_epochs=2, finetune_from=LAYERS[1]))
    by_name = {layer.name: epoch for layer, epoch in trained_from.items() if layer.weights}
    assert by_name == {"layer2_convolution": 4, "layer3_convolution": 2}


@pytest.mark.slow
def test_patience_is_counted_once_everything_is_trained(source, task, tmp_path):
    settings = {"unfreeze_epochs": 2, "epochs": 12, "patience": 1, "learning_rate": 1e-30}
    row, *_ = run(Trial("finetune", 1.0, 0), source, task, tmp_path, **settings)
    assert row["epochs"] == 8  # the lowest layer is trained from epoch 7 on


@pytest.mark.slow
def test_head_trains_the_head_alone(source, task, tmp_path):
    row, before, after = run(Trial("head", 1.0, 0), source, task, tmp_path, epochs=40, patience=40)
    assert changed(before, after) == []
    assert row["accuracy"] > 0.8


@pytest.mark.slow
def test_random_has_other_weights_statistics_of_the_target_and_a_trained_head(source, task, tmp_path):
    _, before, after = run(Trial("random", 1.0, 0), source, task, tmp_path, epochs=1)
    kernels = [name for name, arrays in before.items() if arrays and arrays[0].ndim > 1 and name != "power_to_mel"]
    assert set(kernels) - {"scores"} <= set(changed(before, after))
    other = tmp_path / "other"
    other.mkdir()
    _, _, untrained = run(Trial("random", 1.0, 0), source, task, other, epochs=1, head_learning_rate=1e-30)
    assert changed(after, untrained) == []
    assert not np.array_equal(after["scores"][0], untrained["scores"][0])


@pytest.mark.slow
def test_scratch_starts_anew_for_each_seed(source, task, tmp_path):
    _, before, first = run(Trial("scratch", 1.0, 0), source, task, tmp_path, epochs=1, learning_rate=1e-30)
    _, _, second = run(Trial("scratch", 1.0, 1), source, task, tmp_path, epochs=1, learning_rate=1e-30)
    kernels = {name for name, arrays in before.items() if arrays and arrays[0].ndim == 4}
    assert kernels <= set(changed(before, first))
    assert kernels <= set(changed(first, second))


@pytest.mark.parametrize(("strategy", "times"), [("scratch", 1), ("random", 1), ("finetune", 0), ("head", 0)])
def test_only_new_weights_are_scaled(source, task, tmp_path, monkeypatch, strategy, times):
    scaled = []

    def noted(network, batches, start):
        scaled.append(sum(map(len, batches)))
        return scale_to_unit_variance(network, batches, start)

    monkeypatch.setattr(finetuning, "scale_to_unit_variance", noted)
    run(Trial(strategy, 0.5, 0), source, task, tmp_path, epochs=1, min_steps=1)
    assert scaled == [16] * times


def test_probe_scores_without_training(source, task, tmp_path):
    row, *_ = run(Trial("probe", 0.5, 0), source, task, tmp_path, layers=f"{LAYERS[0]}+{LAYERS[1]}")
    assert row["train_clips"] == 16
    assert row["accuracy"] > 0.8
    assert not {"loss", "epochs"} & set(row)


def test_no_two_trials_share_a_name():
    names = {0.4: "finetune.0.4.seed0", 1.0: "finetune.1.seed0", 1e-5: "finetune.1e-05.seed0"}
    for fraction, name in names.items():  # as they have always been called
        assert Trial("finetune", fraction, 0).file_name == name
    near = [0.25, 0.2499999, np.nextafter(0.25, 1), 1.0, np.nextafter(1.0, 0)]
    assert len({Trial("head", fraction, 0).file_name for fraction in near}) == len(near)
    assert len({str(Trial("head", fraction, 0)) for fraction in near}) == len(near)
    assert Trial("head", 1, 0).file_name == "head.1.seed0"
    assert f"{Trial('head', np.float64(0.1), 3)}" == "head, fraction 0.1, seed 3"


def test_a_trial_is_known_by_all_that_its_numbers_depend_on(source, task):
    def identity(strategy="head", fraction=0.5, seed=0, task=task, **settings):
        return identity_of(Trial(strategy, fraction, seed), source, task, FinetuningConfig(**settings))

    of_other_clips = replace(task, splits=replace(task.splits, validation=task.splits.validation[1:]))
    others = [
        identity(strategy="random"),
        identity(fraction=0.25),
        identity(seed=1),
        identity(epochs=3),
        identity(task=of_other_clips),
        identity(task=replace(task, config=replace(CONFIG, n_mels=20))),
    ]
    assert identity() == identity() not in others
    assert identity()["clips_sha256"] != identity(seed=1)["clips_sha256"], "each seed draws its own clips"


def test_a_training_does_not_continue_from_the_state_of_another(source, task, tmp_path):
    one, other = Trial("head", 0.25, 0), Trial("head", 0.25, 1)
    run(one, source, task, tmp_path, epochs=1, min_steps=1)
    shutil.copytree(tmp_path / one.file_name, tmp_path / other.file_name)
    state = tmp_path / other.file_name / "state.npz"
    with pytest.raises(InputError) as error:
        run(other, source, task, tmp_path, epochs=1, min_steps=1)
    what = "is of another training (seed was 0, is 1); remove it to start this training again"
    assert str(error.value) == f"{state}: {what}"


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["finetune", "random", "probe"])
def test_a_cell_gives_the_same_numbers_again(source, task, tmp_path, strategy):
    rows = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        row, *_ = run(Trial(strategy, 0.5, 3), source, task, tmp_path / name)
        rows.append({key: value for key, value in row.items() if key != "seconds"})
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_finetune_of_a_deep_network(task, tmp_path):
    folder = write_source(tmp_path / "source", "densenet40", spec_augment=1)
    model = keras.models.load_model(folder / "model.keras", compile=False)
    middle = [name for name in model.output if name != "scores"][2]
    settings = {"epochs": 1, "min_steps": 1, "finetune_from": middle}
    _, before, after = run(Trial("finetune", 1.0, 0), folder, task, tmp_path, **settings)
    below = {layer.name for layer in keras.Model(model.input, model.output[[*model.output][1]]).layers}
    assert not below & set(changed(before, after))
    assert set(changed(before, after)) == {name for name, arrays in before.items() if arrays} - below - {"scores"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs: 0 is not allowed; expected at least 1"),
        ({"learning_rate": 0.0}, "learning_rate: 0.0 is not allowed; expected a number above 0"),
        ({"dropout": 1.0}, "dropout: 1.0 is not allowed; expected 0 to below 1"),
        ({"spec_augment": -1}, "spec_augment: -1 is not allowed; expected 0 or more"),
        ({"finetune_from": "stage9"}, "finetune_from: 'stage9' is unknown; choose from layer1, layer2"),
        ({"layers": "layer1+layer1"}, "layers: ['layer1', 'layer1'] names a layer twice; expected each once"),
        ({"layers": "layer1+stage9"}, "layers: 'stage9' is unknown; choose from layer1, layer2"),
        ({"layers": "layer1+leyer2"}, "layers: 'leyer2' is unknown; did you mean layer2? choose from layer1, layer2"),
        ({"unfreeze_epochs": 9, "epochs": 20}, "unfreeze_epochs: 9 would train layer1 from epoch 28 on, of 20"),
    ],
)
def test_recipes_that_cannot_be(settings, message):
    with pytest.raises(InputError) as error:
        FinetuningConfig(**settings).check_layers(LAYERS)
    assert str(error.value).startswith(message)


# The script, mostly on the small network: a cell of ConvNet-5 takes more than twice as long to trace


FAST = ["--epochs", 1, "--min-steps", 1, "--validation-fraction", 0.2]


def manifest(path, *rows):
    path.write_text("path,label,split\n" + "".join(f"{row}\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """The arguments that name a small data set: the tones as files, of another rate than the source's."""
    folder, rows = tmp_path_factory.mktemp("target"), []
    for i, wave in enumerate(tones(96, seed=0)):
        soundfile.write(folder / f"{i}.wav", wave.repeat(2), 2 * CONFIG.sample_rate)
        rows.append(f"{i}.wav,{LABELS[i % 2]},{'train' if i < 64 else ('validation' if i < 80 else 'test')}")
    return "--dataset", "manifest", "--data-dir", manifest(folder / "clips.csv", *rows)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_names_cell_and_batch(source, target, run_script, tmp_path):
    arguments = ["--strategy", "finetune", "--fractions", 1, "--learning-rate", 1e30, "--epochs", 3]
    finished = run_script("transfer", source, *target, "--output-dir", tmp_path / "out", *arguments)
    assert finished.returncode == 2
    expected = r"transfer.py: error: finetune, fraction 1, seed 0: training: the (val_)?loss is (nan|inf) in epoch \d"
    assert pd.Series([finished.stderr]).str.match(expected).all(), finished.stderr
    assert not (tmp_path / "out" / "results.csv").exists()


@pytest.mark.slow
def test_transfer_writes_a_row_a_cell_and_a_picture(source, target, run_script, tmp_path):
    out = tmp_path / "out"
    command = ["transfer", source, *target, "--output-dir", out, *FAST]
    finished = run_script(*command, "--strategy", "finetune", "probe", "--fractions", 0.5)
    assert finished.returncode == 0, finished.stderr
    table = results.read([out / "results.csv"])
    assert table[["strategy", "fraction"]].to_numpy().tolist() == [["finetune", 0.5], ["probe", 0.5]]
    assert set(table["source"]) == {"synthetic"}
    assert set(table["target"]) == {"manifest"}
    assert set(table["network"]) == {"sbcnn"}
    assert table.loc[table["strategy"] == "finetune", "epochs"].tolist() == [1]
    assert {"results.csv", "settings.json", "transfer.png", "transfer.svg", "predictions"} == {
        path.name for path in out.iterdir()
    }

    # The same command adds what is new and repeats nothing.
    before = (out / "results.csv").read_text().splitlines()
    finished = run_script(*command, "--save-models", "--strategy", "probe", "random", "--fractions", 0.5)
    assert finished.returncode == 0, finished.stderr
    random = out / "models" / "random.0.5.seed0"
    extracted = run_script("extract", random, *target, "--output", tmp_path / "features.npz")
    assert extracted.returncode == 0, extracted.stderr
    after = (out / "results.csv").read_text().splitlines()
    assert [line for line in after if ",random," not in line] == before
    assert len(after) == len(before) + 1

    # Another network belongs elsewhere, and so do other settings.
    (out / "other").mkdir()
    shutil.copy(out / "settings.json", out / "other")
    (out / "other" / "results.csv").write_text((out / "results.csv").read_text().replace(",sbcnn,", ",convnet5,"))
    finished = run_script(*command[:7], out / "other", *FAST, "--strategy", "head", "--fractions", 1.0)
    assert finished.returncode == 2
    assert "results.csv: is of another transfer (network convnet5, not network sbcnn); choose" in finished.stderr
    finished = run_script(*command, "--strategy", "head", "--batch-size", 7)
    assert finished.returncode == 2
    assert "settings.json: is of another run (batch_size was 32, is 7); remove it" in finished.stderr


@pytest.mark.slow
def test_a_run_killed_within_a_cell_continues_with_the_same_numbers(source, target, tmp_path):
    command = [source, *target, "--strategy", "scratch", "--fractions", "0.5", "--seeds", "2", "--jobs", "1"]
    command += ["--epochs", "40", "--patience", "40", "--min-steps", "1", "--output-dir"]
    interrupted, whole = tmp_path / "interrupted", tmp_path / "whole"
    script = ROOT / "scripts" / "transfer.py"
    state = interrupted / "unfinished" / "scratch.0.5.seed1" / "state.npz"
    run = forked.killed(script, [*command, interrupted], state.exists)
    assert run.returncode == -signal.SIGKILL, run.stderr
    while time.time() - state.stat().st_mtime < 2:  # until its worker, which writes many a second, has ended, too
        time.sleep(0.1)
    assert len((interrupted / "results.csv").read_text().splitlines()) == 2
    with np.load(state) as file:
        assert 1 <= json.loads(str(file["history"]))[-1]["epoch"] < 40

    def again(folder, *more):
        run = forked.script(script, [*command, folder, *more])
        assert run.returncode == 0, run.stderr
        return run.stderr

    for folder in (interrupted, whole):
        said = again(folder)
        assert "at the source's 2000 Hz, clips of other rates resampled" in said
        assert "ended before" not in said
    first, second = (pd.read_csv(folder / "results.csv").drop(columns="seconds") for folder in (interrupted, whole))
    pd.testing.assert_frame_equal(first, second)
    assert not (interrupted / "unfinished").exists()
    said = (
        f"scratch, fraction 0.5, seed 1: ended before, without a model; remove its row from {whole / 'results.csv'} to"
    )
    assert said in again(whole, "--save-models")


def test_one_run_at_a_time_in_a_folder(source, run_script, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with only_writer(out):
        finished = run_script("transfer", source, "--dataset", "synthetic", "--output-dir", out, *FAST)
    assert finished.returncode == 2
    refused = f"{out}: another run writes there; wait for it, or name another folder"
    assert finished.stderr == f"transfer.py: error: {refused}\n"
    assert [*tmp_path.rglob("*")] == [out]


def test_a_source_that_hears_clips_whole_is_trained_on_whole_clips(capsys):
    """Not on their first patch, which is the length that its front end names."""
    store = SimpleNamespace(load=lambda clip: np.zeros(clip))
    patches = replace(CONFIG, clip_seconds=0.1, long_clips="whole", short_clips="zero_pad")
    config = transfer.for_whole_clips(SimpleNamespace(quiet=False), [100, 4 * CONFIG.sample_rate], store, patches)
    assert (config.clip_seconds, config.long_clips) == (4.0, "whole")
    assert "heard whole, filled up to 4 s" in capsys.readouterr().err
    for other in ("start", "centre"):
        same = replace(CONFIG, long_clips=other)
        assert transfer.for_whole_clips(None, [], store, same) is same


@pytest.mark.slow
def test_transfer_on_a_page(source, target, run_script, tmp_path):
    out = tmp_path / "out"
    arguments = [*target, "--output-dir", out, *FAST, "--strategy", "head", "--fractions", 0.5, 1]
    assert run_script("transfer", source, *arguments).returncode == 0
    table = results.read([out / "results.csv"])
    assert table[["strategy", "fraction"]].to_numpy().tolist() == [["head", 0.5], ["head", 1.0]]
    page = tmp_path / "page.md"
    page.write_text("Before.\n<!-- table: accuracy -->\nold\n<!-- end -->\nAfter.\n")
    for _ in range(2):
        finished = run_script("summarise_transfer", out / "results.csv", "--page", page)
        assert finished.returncode == 0, finished.stderr
        text = page.read_text()
        assert text.startswith("Before.\n<!-- table: accuracy -->\n| source | target |")
        assert text.endswith("<!-- end -->\nAfter.\n")
        assert "old" not in text
    assert (tmp_path / "synthetic.manifest.sbcnn.png").stat().st_size > 10_000
    page.write_text("No place for a table.\n")
    finished = run_script("summarise_transfer", out / "results.csv", "--page", page)
    assert finished.returncode == 2
    assert "page.md: has no line '<!-- table: NAME -->' for a table; name another page" in finished.stderr
    page.write_text("<!-- table: enough -->\n<!-- end -->\n")
    finished = run_script("summarise_transfer", out / "results.csv", "--page", page)
    assert finished.returncode == 2
    assert "page.md: wants a table 'enough'; these results have accuracy, effort" in finished.stderr


@pytest.mark.slow
def test_targets_that_cannot_be(source, run_script, tmp_path):
    for i in range(12):
        soundfile.write(tmp_path / f"{i}.wav", np.sin(np.arange(4000) * (0.1 + 0.05 * i)), 16000)
    splits = ["train"] * 8 + ["validation"] * 2 + ["test"] * 2
    cases = {
        "one_label.csv": (["a"] * 12, [], "manifest: has one label, 'a'; expected at least two"),
        "test_only.csv": (["a", "b"] * 5 + ["c", "a"], [], "manifest: 'c' has no clip for training; add some"),
        "few.csv": (["a", "b"] * 6, ["--fractions", 0.01], "--fractions: 0.01 leaves 'a' without a clip of its 4"),
        "share.csv": (["a", "b"] * 6, ["--fractions", 1.5], "--fractions: 1.5 is not allowed; expected more than 0"),
    }
    for name, (labels, arguments, message) in cases.items():
        rows = [f"{i}.wav,{label},{split}" for i, (label, split) in enumerate(zip(labels, splits, strict=True))]
        data = manifest(tmp_path / name, *rows)
        command = ["--dataset", "manifest", "--data-dir", data, "--output-dir", tmp_path / "out", *FAST, *arguments]
        finished = run_script("transfer", source, *command)
        assert finished.returncode == 2
        assert finished.stderr.startswith(f"transfer.py: error: {message}"), finished.stderr
        assert finished.stderr.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_a_table_without_its_settings_is_refused(source, run_script, tmp_path):
    """Nothing says how its rows were trained, and the settings of the next run would vouch for them."""
    (tmp_path / "results.csv").write_text("rows\n")
    finished = run_script("transfer", source, "--dataset", "synthetic", "--output-dir", tmp_path, *FAST)
    assert finished.returncode == 2
    what = f"{tmp_path / 'results.csv'} stands there without its settings.json, which says of which run it is"
    said = f"--output-dir: {what}; put that back, move results.csv away, or name another place"
    assert finished.stderr == f"transfer.py: error: {said}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategy", "magic"], "--strategy: 'magic' is unknown; choose from finetune, scratch, head, probe, random"),
        (["--seeds", 0], "--seeds: 0 is not allowed; expected at least 1"),
        (["--seed", 2**32 - 1, "--seeds", 2], "--seeds: 2 from 4294967295 on go beyond 4294967295; choose a smaller"),
        (["--fractions", 0.5, "nan"], "--fractions: nan is not allowed; expected more than 0 and at most 1"),
        (["--finetune-from", "stage9"], "--finetune-from: 'stage9' is unknown; choose from layer1, layer2"),
        (["--strategy", "scrach"], "--strategy: 'scrach' is unknown; did you mean scratch? choose from "),
        (["--validation-fraction", 0], "--validation-fraction: 0 is not allowed; expected more than 0, up to 0.5"),
        (["--dataset", "emomusic"], "--dataset: emomusic has numbers, no labels"),
    ],
)
def test_arguments_that_cannot_be(source, run_script, tmp_path, arguments, message):
    command = ["--dataset", "synthetic", *arguments, "--output-dir", tmp_path / "out"]
    finished = run_script("transfer", source, *command)
    assert finished.returncode == 2
    assert finished.stderr.startswith(f"transfer.py: error: {message}"), finished.stderr
    assert not (tmp_path / "out").exists()


def test_model_folders_that_cannot_be(source, run_script, tmp_path):
    card = json.loads((source / "card.json").read_text())
    command = ["--dataset", "synthetic", "--output-dir", tmp_path / "out"]
    (tmp_path / "model").mkdir()

    def error():
        finished = run_script("transfer", tmp_path / "model", *command)
        assert finished.returncode == 2
        return finished.stderr

    assert "model: has no card.json; expected a model folder" in error()
    (tmp_path / "model" / "card.json").write_text(json.dumps(card))
    assert "model: has no model.keras to train on; export the model again" in error()
    card["audio"]["decibel_maximum"] = "batch"
    (tmp_path / "model" / "card.json").write_text(json.dumps(card))
    (tmp_path / "model" / "model.keras").write_bytes(b"")
    assert "model: its features depend on the whole batch, which no training can use" in error()
    card["audio"]["decibel_maximum"] = "clip"
    (tmp_path / "model" / "card.json").write_text(json.dumps(card))
    assert "model.keras: cannot be loaded" in error()
    shutil.copyfile(source / "model.keras", tmp_path / "model" / "model.keras")
    for other in ({"layer_names": ["stem"], "layer_sizes": {"stem": 1}}, {"weights_sha256": "of other weights"}):
        (tmp_path / "model" / "card.json").write_text(json.dumps({**card, **other}))
        assert "model.keras: is not the model that card.json beside it describes; export" in error()
    assert not os.path.exists(tmp_path / "out" / "results.csv")
