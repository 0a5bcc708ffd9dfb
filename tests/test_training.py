"""Training learns, stops, keeps the best weights, and a run that was killed ends as if nothing had happened."""

import json
import shutil
import signal
from pathlib import Path

import forked
import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
import tensorflow as tf
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score
from sounds import CONFIG

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.extractor import build_extractor, select_layers
from keras_audio_transfer.training.fitting import _KeepState as KeepState
from keras_audio_transfer.training.fitting import evaluate, fit, score, weights_hash
from keras_audio_transfer.training.heads import SCORES, add_head

TRAIN = Path(__file__).parent.parent / "scripts" / "train.py"
N_CLIPS, BATCH = 48, 16


@pytest.fixture(scope="module", autouse=True)
def deterministic():
    """As the commands train."""
    tf.config.experimental.enable_op_determinism()


def low_and_high_tones(n_clips, seed):
    """Waveforms and one-hot targets: tones around 150 Hz and around 600 Hz, in a little noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_clips) % 2
    hertz = np.where(labels, 600, 150) * rng.uniform(0.9, 1.1, n_clips)
    time_axis = np.arange(CONFIG.n_samples) / CONFIG.sample_rate
    tones = np.sin(2 * np.pi * hertz[:, None] * time_axis + rng.uniform(0, 6, (n_clips, 1)))
    waveforms = 0.5 * tones + rng.normal(0, 0.02, tones.shape)
    return waveforms.astype(np.float32), np.eye(2, dtype=np.float32)[labels]


def batches_of(waveforms, targets):
    """What `fit` wants: from a range of epochs to batches, epoch after epoch."""

    def batches(epochs):
        return tf.data.Dataset.from_tensor_slices((waveforms, targets)).batch(BATCH).repeat(len(epochs))

    return batches


def validation_of(waveforms, targets):
    return tf.data.Dataset.from_tensor_slices((waveforms, targets)).batch(BATCH)


def new_model(seed=0, **settings):
    """Two layers of ConvNet-5, which have all that a training has to do with: five take twice as long to trace."""
    keras.utils.set_random_seed(seed)
    return add_head(select_layers(build_extractor(CONFIG), ["layer1", "layer2"]), n_labels=2, **settings)


def fit_tones(model, run_dir, epochs, validation=True, batches=None, **settings):
    training = low_and_high_tones(N_CLIPS, seed=1)
    return fit(
        model,
        batches or batches_of(*training),
        validation_of(*low_and_high_tones(N_CLIPS, seed=2)) if validation is True else validation,
        steps_per_epoch=N_CLIPS // BATCH,
        epochs=epochs,
        run_dir=run_dir,
        **settings,
    )


class RecordWeights(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append([weight.copy() for weight in self.model.get_weights()])


def assert_equal_weights(model, weights):
    for got, expected in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_training_learns(tmp_path):
    model = new_model()
    before = weights_hash(model)
    history = fit_tones(model, tmp_path, epochs=12)
    assert list(history["epoch"]) == list(range(1, len(history) + 1))
    assert set(history) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}
    assert np.isfinite(history.to_numpy()).all()
    assert history["loss"].iloc[-1] < 0.5 * history["loss"].iloc[0]
    assert weights_hash(model) != before
    # Tones that it has not heard.
    new = validation_of(*low_and_high_tones(N_CLIPS, seed=3))
    assert evaluate(model, new, multi_label=False)["accuracy"] > 0.9


@pytest.mark.slow
def test_training_tags_learns(tmp_path):
    model = new_model(multi_label=True)
    history = fit_tones(model, tmp_path, epochs=3, multi_label=True)
    expected = {f"{curve}_auc_{average}" for curve in ("roc", "pr") for average in ("micro", "macro")} | {"loss"}
    assert set(history) == {"epoch"} | expected | {f"val_{name}" for name in expected}
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]


@pytest.mark.slow
def test_the_same_seed_trains_the_same_weights(tmp_path):
    hashes = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        model = new_model(dropout=0.3)
        fit_tones(model, tmp_path / name, epochs=2)
        hashes.append(weights_hash(model))
    assert hashes[0] == hashes[1]


@pytest.mark.slow
def test_without_validation_the_training_loss_decides(tmp_path):
    model, recorded = new_model(), RecordWeights()
    history = fit_tones(model, tmp_path, epochs=4, validation=None, callbacks=(recorded,))
    assert set(history) == {"epoch", "loss", "accuracy"}
    assert_equal_weights(model, recorded.weights[history["loss"].idxmin()])


@pytest.mark.parametrize("patience", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_early_stopping_keeps_the_best_weights(tmp_path, patience):
    # The validation clips carry the wrong labels: the more is learnt, the worse they score.
    waveforms, targets = low_and_high_tones(N_CLIPS, seed=2)
    model, recorded = new_model(), RecordWeights()
    history = fit_tones(
        model,
        tmp_path,
        epochs=40,
        validation=validation_of(waveforms, 1 - targets),
        patience=patience,
        callbacks=(recorded,),
    )
    best = int(history["val_loss"].idxmin())
    assert len(history) == best + 1 + patience < 40, "stopped too early, or too late"
    assert history["val_loss"].iloc[-1] > history["val_loss"].iloc[best]
    assert_equal_weights(model, recorded.weights[best])
    assert any((a != b).any() for a, b in zip(recorded.weights[best], recorded.weights[-1], strict=True))


@pytest.mark.slow
def test_a_run_that_has_stopped_is_not_continued(tmp_path):
    waveforms, targets = low_and_high_tones(N_CLIPS, seed=2)
    wrong = validation_of(waveforms, 1 - targets)
    model = new_model()
    history = fit_tones(model, tmp_path, epochs=40, validation=wrong, patience=2)

    def no_batches(epochs):
        raise AssertionError(f"asked for epochs {epochs}")

    again = new_model(seed=9)
    resumed = fit_tones(again, tmp_path, epochs=40, validation=wrong, patience=2, resume=True, batches=no_batches)
    pd.testing.assert_frame_equal(resumed, history)
    assert weights_hash(again) == weights_hash(model)


def test_no_epochs_leave_the_weights_as_they_are(tmp_path):
    model = new_model()
    before = model.get_weights()
    history = fit_tones(model, tmp_path, epochs=0)
    assert len(history) == 0
    assert_equal_weights(model, before)


class Interrupt(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_interrupted_and_continued_in_the_same_process(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = new_model(dropout=0.2)
    history = fit_tones(whole, tmp_path / "whole", epochs=4)
    with pytest.raises(KeyboardInterrupt):
        fit_tones(new_model(dropout=0.2), tmp_path / "parts", epochs=4, callbacks=(Interrupt(),))
    continued = new_model(seed=5, dropout=0.2)  # other weights, to be overwritten by the state
    resumed = fit_tones(continued, tmp_path / "parts", epochs=4, resume=True)
    pd.testing.assert_frame_equal(resumed, history)
    assert weights_hash(continued) == weights_hash(whole)


@pytest.mark.slow
def test_the_weights_below_the_head_learn_at_a_fraction_of_the_rate(tmp_path):
    # Adam's first step is the rate itself, in the gradient's direction.
    steps = {}
    for factor in (1.0, 0.1):
        model = new_model()
        before = {layer.name: layer.get_weights() for layer in model.layers}
        one_batch = batches_of(*low_and_high_tones(BATCH, seed=1))
        settings = {"steps_per_epoch": 1, "epochs": 1, "run_dir": tmp_path, "learning_rate": 1e-3}
        fit(model, one_batch, None, backbone_learning_rate_factor=factor, **settings)
        kernels = {name: (model.get_layer(name).get_weights()[0] - w[0]) for name, w in before.items() if w}
        steps[factor] = {name: np.median(np.abs(kernels[name])) for name in (SCORES, "layer1_convolution")}
    assert steps[1.0] == pytest.approx({SCORES: 1e-3, "layer1_convolution": 1e-3}, rel=0.01)
    assert steps[0.1] == pytest.approx({SCORES: 1e-3, "layer1_convolution": 1e-4}, rel=0.01)


@pytest.mark.slow
def test_frozen_layers_keep_weights_and_statistics_until_their_epoch(tmp_path):
    model, recorded = new_model(), RecordWeights()
    start = model.get_weights()
    late = [model.get_layer(f"layer1_{part}") for part in ("convolution", "normalisation")]
    never = [model.get_layer(f"layer2_{part}") for part in ("convolution", "normalisation")]
    trained_from = {**dict.fromkeys(late, 2), **dict.fromkeys(never, 4)}
    fit_tones(model, tmp_path, epochs=4, patience=4, callbacks=(recorded,), trained_from=trained_from)

    def moved(layers, epoch):
        places = [i for i, w in enumerate(model.weights) if any(w is own for layer in layers for own in layer.weights)]
        assert places
        return [not np.array_equal(start[i], recorded.weights[epoch][i]) for i in places]

    assert not any(moved(late, 0))
    assert not any(moved(late, 1))
    assert all(moved(late, 2))
    assert not any(moved(never, 3))
    assert all(layer.trainable for layer in model.layers)


@pytest.mark.slow
def test_interrupted_while_layers_are_unfrozen(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()

    def fit_gradually(model, folder, **settings):
        trained_from = {model.get_layer("layer1_convolution"): 1, model.get_layer("layer2_normalisation"): 3}
        return fit_tones(model, tmp_path / folder, epochs=4, trained_from=trained_from, **settings)

    whole = new_model()
    history = fit_gradually(whole, "whole")
    with pytest.raises(KeyboardInterrupt):
        fit_gradually(new_model(), "parts", callbacks=(Interrupt(),))
    continued = new_model(seed=5)
    pd.testing.assert_frame_equal(fit_gradually(continued, "parts", resume=True), history)
    assert weights_hash(continued) == weights_hash(whole)


@pytest.mark.slow
def test_without_resume_an_old_state_is_ignored(tmp_path):
    first, second = new_model(), new_model()
    fit_tones(first, tmp_path, epochs=2)
    history = fit_tones(second, tmp_path, epochs=2)
    assert list(history["epoch"]) == [1, 2]
    assert weights_hash(second) == weights_hash(first)


def other(state, **changed):
    """The arrays of a state file, some of them changed; those that are None left out."""
    with np.load(state) as content:
        arrays = {**content, **changed}
    np.savez(state, **{name: array for name, array in arrays.items() if array is not None})


DAMAGED = {
    "empty": lambda state: state.write_bytes(b""),
    "truncated": lambda state: state.write_bytes(state.read_bytes()[:-100]),
    "cut": lambda state: state.write_bytes(state.read_bytes()[:1000]),
    "changed": lambda state: state.write_bytes(state.read_bytes().replace(b"\x00" * 8, b"\x01" * 8)),
    "text": lambda state: state.write_text("not an archive"),
    "brackets": lambda state: state.write_bytes(b"[" * 100_000),
    "an array": lambda state: np.save(state.open("wb"), np.zeros(3)),
    "objects": lambda state: np.savez(state, history=np.array([{}], dtype=object)),
    "no history": lambda state: other(state, history=None),
    "history of brackets": lambda state: other(state, history=np.array("[" * 100_000)),
    "history of another type": lambda state: other(state, history=np.array('{"epoch": 1}')),
    "history of no epochs": lambda state: other(state, history=np.array("[]")),
    "history of texts": lambda state: other(state, history=np.array('[{"epoch": 1, "loss": "1"}]')),
    "history with a gap": lambda state: other(state, history=np.array('[{"epoch": 2, "loss": 1.0}]')),
    "a missing variable": lambda state: other(state, variable_0=None),
    "no best weights": lambda state: other(state, best_1=None),
    "identity of another type": lambda state: other(state, identity=np.array("[1]")),
}
OTHER_NETWORK = {
    "another shape": lambda state: other(state, variable_0=np.zeros((2, 3), np.float32)),
    "best weights of another shape": lambda state: other(state, best_0=np.zeros((2, 3), np.float32)),
    "another type": lambda state: other(state, best_0=np.load(state)["best_0"].astype(str)),
}


OTHER_TRAINING = {
    "seed was 0, is 1": {"fraction": 0.25, "seed": 0},
    "fraction was 0.25, is 0.2499999": {"fraction": 0.25, "seed": 1},
    "seed was null, is 1": {},
    "clips was 3, is null": {"fraction": 0.2499999, "seed": 1, "clips": 3},
}


def test_a_state_that_is_damaged_or_another_networks_is_refused(tmp_path):
    state = tmp_path / "state.npz"
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization()])
    model.compile("adam")
    keeper = KeepState(state, "loss", patience=1, identity={"seed": 1, "fraction": 0.2499999})
    keeper.set_model(model)
    model.optimizer.build(model.trainable_variables)
    keeper.history, keeper.best_weights = [{"epoch": 1, "loss": 0.5}], model.get_weights()
    keeper.save()
    good, before = state.read_bytes(), weights_hash(model)
    for why, cases in (("is damaged", DAMAGED), ("is of another network", OTHER_NETWORK)):
        for what, damage in cases.items():
            state.write_bytes(good)
            damage(state)
            with pytest.raises(InputError) as error:
                keeper.restore()
            assert str(error.value) == f"{state}: {why}; remove it to start this training again", what
            assert weights_hash(model) == before, what
    for found, identity in OTHER_TRAINING.items():
        state.write_bytes(good)
        other(state, identity=np.array(json.dumps(identity)))
        with pytest.raises(InputError) as error:
            keeper.restore()
        assert str(error.value) == f"{state}: is of another training ({found}); remove it to start this training again"
        assert weights_hash(model) == before
    state.write_bytes(good)
    keeper.restore()
    assert keeper.history == [{"epoch": 1, "loss": 0.5}]
    other(state, identity=None)  # as an older version wrote it
    keeper.restore()


@pytest.mark.parametrize("bad", [np.nan, pytest.param(np.inf, marks=pytest.mark.slow)])
def test_a_loss_that_is_not_finite(tmp_path, bad):
    waveforms, targets = low_and_high_tones(N_CLIPS, seed=1)
    targets[0] = bad
    with pytest.raises(
        InputError, match=r"training: the loss is (nan|inf) in epoch 1, batch \d; lower `learning_rate`"
    ):
        fit_tones(new_model(), tmp_path, epochs=2, batches=batches_of(waveforms, targets))
    assert not (tmp_path / "state.npz").exists(), "the state of a broken run was kept"


@pytest.mark.slow
def test_a_learning_rate_that_breaks_the_weights(tmp_path):
    # One batch an epoch: its loss is that of the weights before the step, and only the validation shows the damage.
    waveforms, targets = low_and_high_tones(BATCH, seed=1)
    one_batch = {"batches": batches_of(waveforms, targets), "learning_rate": 1e38}
    with pytest.raises(InputError, match=r"val_loss is (nan|inf) in epoch 1; lower `learning_rate`"):
        fit(
            new_model(),
            validation=validation_of(*low_and_high_tones(BATCH, seed=2)),
            steps_per_epoch=1,
            epochs=1,
            run_dir=tmp_path,
            **one_batch,
        )


@pytest.mark.slow
def test_a_validation_loss_that_is_not_finite(tmp_path):
    waveforms, targets = low_and_high_tones(N_CLIPS, seed=2)
    targets[0] = np.nan
    with pytest.raises(InputError, match=r"loss is nan in epoch 1"):
        fit_tones(new_model(), tmp_path, epochs=2, validation=validation_of(waveforms, targets))


def test_hash_of_weights():
    model = new_model()
    before = weights_hash(model)
    assert before == weights_hash(new_model())
    assert before != weights_hash(new_model(seed=1))
    kernel = model.get_layer(SCORES)
    weights = kernel.get_weights()
    weights[1][0] += 1e-6
    kernel.set_weights(weights)
    assert weights_hash(model) != before


def test_scores_by_hand():
    targets = np.eye(3)[[0, 0, 1, 1]]  # the third label is on no test clip
    scores = np.eye(3)[[0, 1, 1, 2]]
    got = score(targets, scores, multi_label=False)
    # Label 0: 1 found of 2, nothing wrong: F1 2/3. Label 1: 1 of 2, 1 wrong: F1 1/2.
    assert got == pytest.approx({"accuracy": 0.5, "f1_macro": (2 / 3 + 1 / 2) / 2})


def test_scores_equal_sklearns():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 60)
    scores = rng.random((60, 4)) + np.eye(4)[labels] * 0.4
    got = score(np.eye(4)[labels], scores, multi_label=False)
    named = scores.argmax(axis=1)
    assert got["accuracy"] == accuracy_score(labels, named)
    assert got["f1_macro"] == pytest.approx(f1_score(labels, named, average="macro"))
    tags = (rng.random((60, 4)) < 0.3).astype(float)
    got = score(tags, scores, multi_label=True)
    for average in ("micro", "macro"):
        assert got[f"roc_auc_{average}"] == pytest.approx(roc_auc_score(tags, scores, average=average))
        assert got[f"pr_auc_{average}"] == pytest.approx(average_precision_score(tags, scores, average=average))


def test_scores_of_tags_by_hand_without_the_tags_that_every_clip_or_none_has():
    targets = np.array([[1, 1, 0], [0, 1, 0], [1, 1, 0], [0, 1, 0]])
    scores = np.array([[0.9, 0.1, 0.9], [0.1, 0.1, 0.9], [0.3, 0.1, 0.9], [0.6, 0.1, 0.9]])
    got = score(targets, scores, multi_label=True)
    # Of the four pairs (with, without) three are in order. Precision where a clip with the tag comes: 1/1 and 2/3.
    expected = {"roc_auc": 0.75, "pr_auc": (1 + 2 / 3) / 2}
    assert got == pytest.approx({f"{name}_{a}": value for name, value in expected.items() for a in ("micro", "macro")})


def test_scores_of_tags_that_cannot_be_told_apart():
    with pytest.raises(InputError, match="scores: no label has both clips that carry it and clips that do not"):
        score(np.array([[1, 0], [1, 0]]), np.zeros((2, 2)), multi_label=True)


def test_evaluate_joins_batches_of_any_size():
    model = new_model()
    waveforms, targets = low_and_high_tones(21, seed=4)  # a full batch and a smaller one
    expected = score(targets, model(waveforms)[SCORES].numpy(), multi_label=False)
    assert evaluate(model, validation_of(waveforms, targets), multi_label=False) == expected


# Killed and continued, from outside

EPOCHS = 9
SETTINGS = (
    *("--network", "sbcnn", "--clip-seconds", "0.25", "--batch-size", "16", "--epochs", str(EPOCHS), "--seed", "3"),
    *("--dropout", "0.2", "--noise-probability", "0.5", "--gain-decibel", "6", "--shift-seconds", "0.05"),
    *("--mixup", "0.2", "--spec-augment", "2", "--quiet"),
)


def epochs_in(state):
    with np.load(state) as content:
        return len(json.loads(str(content["history"])))


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """The arguments of all runs: few short sounds and the network of fewest layers, which take the least time."""
    folder, rows = tmp_path_factory.mktemp("tones"), ["path,label,split"]
    waveforms, targets = low_and_high_tones(96, seed=1)
    for number, (wave, target) in enumerate(zip(waveforms, targets, strict=True)):
        soundfile.write(folder / f"{number}.wav", wave, CONFIG.sample_rate)
        split = "train" if number < 64 else "validation" if number < 80 else "test"
        rows.append(f"{number}.wav,{'high' if target[1] else 'low'},{split}")
    (folder / "clips.csv").write_text("\n".join(rows))
    return (*SETTINGS, "--dataset", "manifest", "--data-dir", str(folder / "clips.csv"))


@pytest.fixture(scope="module")
def killed(settings, tmp_path_factory):
    """The output folder of a run that was killed after some epochs, not long before an epoch's end."""
    output_dir = tmp_path_factory.mktemp("killed") / "model"
    state = output_dir.with_name("model.training") / "state.npz"
    run = forked.killed(
        TRAIN, [*settings, "--output-dir", str(output_dir)], lambda: state.exists() and epochs_in(state) >= 2
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert 2 <= epochs_in(state) < EPOCHS, "killed too late for this test"
    assert not output_dir.exists()
    return output_dir


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (("--epochs", str(EPOCHS + 1)), rf"had epochs {EPOCHS}, not {EPOCHS + 1}"),
        (("--mixup", "0.3"), "had mixup 0.2, not 0.3"),
        (("--seed", "4"), "had seed 3, not 4"),
    ],
)
def test_resumed_with_another_setting(killed, settings, run_script, setting, message):
    run = run_script("train", *settings, "--output-dir", killed, "--resume", *setting, before=forked.FEW_SIGNATURES)
    assert run.returncode == 2
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == 1
    assert run.stderr.startswith("train.py: error: --resume: the interrupted run ")
    assert message in run.stderr
    assert (killed.with_name("model.training") / "state.npz").exists()


@pytest.mark.slow
def test_an_interrupted_run_is_not_lost(killed, settings, run_script):
    state = killed.with_name("model.training") / "state.npz"
    before = state.read_bytes()
    run = run_script("train", *settings, "--output-dir", killed, before=forked.FEW_SIGNATURES)
    assert run.returncode == 2
    said = (
        f"{state.parent} is of a run that was interrupted; continue it with --resume, or start again with --overwrite"
    )
    assert run.stderr == f"train.py: error: --output-dir: {said}\n"
    assert state.read_bytes() == before


@pytest.mark.slow
def test_resumed_with_other_clips(killed, settings, run_script, tmp_path):
    output_dir = shutil.copytree(killed.parent, tmp_path / "killed") / "model"
    path = tmp_path / "killed" / "model.training" / "settings.json"
    kept = json.loads(path.read_text())
    assert len(kept["clips_sha256"]) == 64
    path.write_text(json.dumps({**kept, "clips_sha256": 64 * "0"}))
    run = run_script("train", *settings, "--output-dir", output_dir, "--resume", before=forked.FEW_SIGNATURES)
    assert run.returncode == 2
    said = "the interrupted run had other clips, or other labels or parts of them; bring those back, or start again"
    assert run.stderr == f"train.py: error: --resume: {said} with --overwrite\n"
    assert (tmp_path / "killed" / "model.training" / "state.npz").exists()


@pytest.mark.slow
def test_killed_and_resumed_equals_never_interrupted(killed, settings, run_script, tmp_path):
    copy = tmp_path / "killed" / "model"
    shutil.copytree(killed.parent, copy.parent)  # the fixture's own state stays as it was
    for folder, more in ((copy, ["--resume"]), (tmp_path / "whole", [])):
        run = run_script("train", *settings, "--output-dir", folder, *more, before=forked.FEW_SIGNATURES)
        assert run.returncode == 0, run.stderr
        assert "reloaded in a fresh process" in run.stdout
    resumed, whole = (json.loads((folder / "card.json").read_text()) for folder in (copy, tmp_path / "whole"))
    assert resumed["weights_sha256"] == whole["weights_sha256"]
    assert resumed["scores"] == whole["scores"]
    assert (copy / "history.csv").read_bytes() == (tmp_path / "whole" / "history.csv").read_bytes()
    assert len(pd.read_csv(copy / "history.csv")) == EPOCHS
    assert not copy.with_name("model.training").exists()
    assert sorted(path.name for path in copy.iterdir()) == sorted(path.name for path in (tmp_path / "whole").iterdir())


def test_an_existing_model_is_refused(settings, run_script, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "card.json").write_text("{}")
    run = run_script("train", *settings, "--output-dir", tmp_path / "model", before=forked.FEW_SIGNATURES)
    assert run.returncode == 2
    refused = f"{tmp_path / 'model'}: exists; pass --overwrite to replace it or another --output-dir"
    assert run.stderr.splitlines() == [f"train.py: error: {refused}"]
