"""What is exported is checked in a fresh process, and what can be loaded is what was meant."""

import errno
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
import tensorflow as tf
from conftest import read_card, run_main
from matplotlib.figure import Figure
from networks import LABELS, small_classifier
from sounds import CONFIG, LAYERS, noise

from keras_audio_transfer.commands import train
from keras_audio_transfer.commands.export import load_described
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export import saved_model, signatures, verification
from keras_audio_transfer.export.saved_model import largest_difference, write_model, write_saved_model
from keras_audio_transfer.export.signatures import serving_outputs
from keras_audio_transfer.extractor import build_extractor
from keras_audio_transfer.files import atomic_write
from keras_audio_transfer.model_folder import Card, latest_saved_model
from keras_audio_transfer.training.fitting import weights_hash

SCRIPT = Path(__file__).parent.parent / "scripts" / "export.py"
# Of a model whose features depend on the whole batch, two signatures are served instead of seven, which takes half as
# long: for what the others do not matter to. The signatures go by the card; the networks here are those of `CONFIG`.
FEW_SIGNATURES = replace(CONFIG, decibel_maximum="batch")


def in_fresh_process(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)


def write_folder(path, model, **card):
    """Write a model folder as the scripts do; the largest difference."""
    with atomic_write(path) as partial:
        partial.mkdir()
        difference = write_model(partial, model, Card(FEW_SIGNATURES, **card))
        (partial / "history.csv").write_text("epoch,loss\n1,0.5\n")
    return difference


@pytest.fixture(scope="module")
def model():
    return small_classifier()


@pytest.fixture(scope="module")
def model_dir(exported):
    return exported


@pytest.fixture(scope="module")
def signature(model_dir):
    loaded = tf.saved_model.load(str(model_dir / "1"))
    serve = loaded.signatures["serving_default"]
    serve.keeps_the_variables = loaded
    return serve


def test_a_model_folder_is_complete(model_dir, model):
    assert {path.name for path in model_dir.iterdir()} == {"1", "card.json", "model.keras", "history.csv"}
    assert latest_saved_model(model_dir) == model_dir / "1"
    card = read_card(model_dir)
    assert card["layer_names"] == LAYERS
    assert card["layer_sizes"] == dict.fromkeys(LAYERS, 64)
    assert card["labels"] == LABELS
    assert card["seed"] == 7
    assert AudioConfig.from_dict(card["audio"]) == CONFIG
    assert card["audio"]["n_samples"] == 500
    assert weights_hash(keras.models.load_model(model_dir / "model.keras")) == weights_hash(model)


def test_nothing_is_left_beside_a_model_folder(model_dir):
    assert [path.name for path in model_dir.parent.iterdir()] == [model_dir.name]


def test_signature(signature):
    _, inputs = signature.structured_input_signature
    assert list(inputs) == ["waveform"]
    assert inputs["waveform"].shape.as_list() == [None, None]
    assert inputs["waveform"].dtype == tf.float32
    sizes = {name: output.shape.as_list() for name, output in signature.structured_outputs.items()}
    expected = {"features": [None, 320], "scores": [None, 3], "labels": [None]}
    assert sizes == {**{name: [None, 64] for name in LAYERS}, **expected}


@pytest.mark.parametrize("shape", [(1, 64), (1, 70), (3, 500), (2, 20_000)])
def test_batch_and_samples_are_free(signature, model, shape):
    waveform = noise(*shape)
    served = signature(waveform=tf.constant(waveform))
    for name, expected in serving_outputs(model, waveform).items():
        np.testing.assert_allclose(served[name], expected, rtol=1e-4, atol=1e-4, err_msg=name)


def test_features_are_the_layers_in_order_by_name(signature, model_dir):
    served = signature(waveform=tf.constant(noise(2, 500)))
    names = read_card(model_dir)["layer_names"]
    np.testing.assert_array_equal(served["features"], np.concatenate([served[name] for name in names], axis=1))


@pytest.mark.slow
def test_features_are_in_order_of_depth_where_that_is_not_alphabetical(tmp_path):
    waveform = keras.Input((None,), name="waveform")
    pooled = keras.layers.Lambda(lambda x: tf.reduce_mean(x, axis=1, keepdims=True), output_shape=(1,))(waveform)
    stem = keras.layers.Dense(2, name="stem")(pooled)
    block10 = keras.layers.Dense(3, name="block10")(stem)
    model = keras.Model(waveform, {"stem": stem, "block10": block10})
    write_saved_model(model, tmp_path / "1", Card(FEW_SIGNATURES))
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"](waveform=tf.constant(noise(2, 64)))
    np.testing.assert_array_equal(served["features"], np.concatenate([served["stem"], served["block10"]], axis=1))
    assert signatures.layer_names(model) == ["stem", "block10"]


@pytest.mark.slow
def test_a_model_without_head_serves_no_scores(tmp_path):
    model = build_extractor(CONFIG)
    write_saved_model(model, tmp_path / "1", Card(FEW_SIGNATURES))
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    assert set(served.structured_outputs) == {*LAYERS, "features"}


@pytest.mark.slow
def test_a_saved_model_that_differs_is_not_exported(monkeypatch, tmp_path):
    model = small_classifier()

    def write_then_change_the_model(model, path, card):
        write_saved_model(model, path, card)
        kernel = model.get_layer("layer4_convolution")
        kernel.set_weights([1.01 * weight for weight in kernel.get_weights()])

    monkeypatch.setattr(saved_model, "write_saved_model", write_then_change_the_model)
    with pytest.raises(InputError, match=r"export: the reloaded SavedModel differs by .*; expected at most 1e-04"):
        write_folder(tmp_path / "model", model)
    assert [*tmp_path.iterdir()] == []


@pytest.fixture
def unchanged():
    """The verification as users run it: what other tests export is checked by tests/forked.py."""
    spec = importlib.util.spec_from_file_location("unchanged", verification.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_fresh_process_is_one(unchanged):
    code = 'import os, sys; print(os.getppid(), sys.argv[1:], "tensorflow" in sys.modules)'
    assert unchanged.run_alone(code, "a b").stdout == f"{os.getpid()} ['a b'] False\n"


@pytest.mark.slow
def test_the_fresh_process_answers_as_the_model_does(unchanged, model, model_dir):
    assert unchanged.largest_difference(model_dir / "1", verification.SAVED_MODEL, model, [noise(2, 600)]) <= 1e-4


@pytest.mark.parametrize(("error", "difference"), [(3e-4, 1e-5), (np.nan, np.nan)])
def test_a_small_value_is_as_exact_as_the_large_ones_beside_it(error, difference, unchanged, monkeypatch, tmp_path):
    expected = np.array([[30.0, 0.01], [-2.0, 0.5]], np.float32)

    def run_alone(code, path, inputs, outputs):
        np.savez(outputs, **{"0/layer": expected + np.array([[0, error], [0, 0]])})
        return subprocess.CompletedProcess([], 0)

    monkeypatch.setattr(unchanged, "run_alone", run_alone)
    monkeypatch.setattr(unchanged, "serving_outputs", lambda model, batch: {"layer": tf.constant(expected)})
    found = unchanged.largest_difference(tmp_path, verification.SAVED_MODEL, None, [noise(1, 9)])
    np.testing.assert_allclose(found, difference, rtol=1e-3)


@pytest.mark.slow
def test_a_saved_model_that_cannot_be_loaded_is_not_exported(monkeypatch, tmp_path):
    def write_half(model, path, card):
        path.mkdir()
        (path / "saved_model.pb").write_bytes(b"half a model")

    monkeypatch.setattr(saved_model, "write_saved_model", write_half)
    with pytest.raises(InputError, match=r"1: cannot be run in a fresh process \(.+\); nothing was exported"):
        write_folder(tmp_path / "model", small_classifier())
    assert [*tmp_path.iterdir()] == []


@pytest.mark.slow
def test_a_model_that_gives_nan_is_not_exported(tmp_path, monkeypatch):
    """Where products are rounded, the reason may be that."""
    monkeypatch.setattr(saved_model.tensor_float_32, "is_on", lambda: True)
    model = small_classifier()
    kernel = model.get_layer("scores")
    kernel.set_weights([np.nan * weight for weight in kernel.get_weights()])
    with pytest.raises(InputError, match=r"differs by nan; .+; nothing was exported; set NVIDIA_TF32_OVERRIDE=0"):
        write_model(tmp_path, model, Card(FEW_SIGNATURES))


@pytest.mark.slow
def test_an_output_that_is_missing_is_noticed(model, tmp_path):
    without_scores = keras.Model(model.input, {name: model.output[name] for name in LAYERS})
    write_saved_model(without_scores, tmp_path / "1", Card(FEW_SIGNATURES))
    with pytest.raises(InputError, match="has no output 'scores' in a fresh process"):
        largest_difference(model, CONFIG, tmp_path / "1")


@pytest.mark.parametrize("version", [0, -3])
def test_version_must_be_positive(model, tmp_path, version):
    with pytest.raises(InputError, match=rf"version: {version} is not allowed; expected a positive integer"):
        write_model(tmp_path, model, Card(CONFIG), version)
    assert [*tmp_path.iterdir()] == []


def test_package_versions_name_what_results_depend_on():
    versions = saved_model.package_versions()
    assert set(versions) >= {"python", "tensorflow", "keras", "kapre", "numpy", "soxr", "soundfile"}
    assert versions["tensorflow"] == tf.__version__


# Keras finds our layers however it came to be imported.

IMPORTS = [
    "import keras_audio_transfer; import keras",
    "import keras; import keras_audio_transfer",
    "import tensorflow; import keras_audio_transfer; import keras",
    "import keras_audio_transfer; import kapre; import keras",
    "from keras_audio_transfer.layers import ClampedMaxPooling2D; import keras",
    "import keras_audio_transfer.probing.prober; import keras_audio_transfer.spectrogram; import keras",
    "import keras_audio_transfer.extraction; import keras",
    "import keras_audio_transfer.extraction; import tensorflow; keras = tensorflow.keras",
]


@pytest.mark.slow
@pytest.mark.parametrize("imports", IMPORTS)
def test_a_keras_model_loads_in_a_fresh_process(model_dir, model, imports, tmp_path):
    waveform = noise(2, 600)
    np.save(tmp_path / "waveform.npy", waveform)
    code = f"""
{imports}
import sys, numpy as np
model = keras.models.load_model(sys.argv[1])
outputs = model(np.load(sys.argv[2]), training=False)
np.savez(sys.argv[3], **{{name: values.numpy() for name, values in outputs.items()}})
hooks = [finder for finder in sys.meta_path if "keras_audio_transfer" in type(finder).__module__]
assert not hooks, hooks
"""
    finished = in_fresh_process(code, model_dir / "model.keras", tmp_path / "waveform.npy", tmp_path / "outputs.npz")
    assert finished.returncode == 0, finished.stderr
    with np.load(tmp_path / "outputs.npz") as loaded:
        for name, expected in model(waveform, training=False).items():
            np.testing.assert_allclose(loaded[name], expected, rtol=1e-4, atol=1e-4, err_msg=name)


def test_extract_imports_neither_keras_nor_pandas(model_dir, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1, 600)[0], 2000)
    code = """
import sys
from keras_audio_transfer.commands import extract
assert extract.main(sys.argv[1:]) == 0
slow = {"keras", "sklearn", "pandas", "matplotlib"} & set(sys.modules)
assert not slow, slow
assert "tensorflow" in sys.modules
"""
    finished = in_fresh_process(code, model_dir, tmp_path / "a.wav", "--output", tmp_path / "a.npz", "--quiet")
    assert finished.returncode == 0, finished.stderr


def test_a_framework_that_fails_to_import_fails_as_ever(tmp_path):
    (tmp_path / "kapre.py").write_text("raise ImportError('broken on purpose')\n")
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import keras_audio_transfer
for _ in range(2):
    try:
        import kapre
    except ImportError as error:
        assert "broken on purpose" in str(error), error
    else:
        raise AssertionError("kapre was imported")
"""
    finished = in_fresh_process(code, tmp_path)
    assert finished.returncode == 0, finished.stderr


# scripts/export.py


export_script = partial(run_main, "export")


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_script_writes_a_folder(capsys, model_dir, tmp_path, model):
    output_dir = tmp_path / "served" / "tones"
    assert export_script(model_dir, "--output-dir", output_dir) == 0
    assert "reloaded in a fresh process: largest difference" in capsys.readouterr().out
    assert {path.name for path in output_dir.iterdir()} == {"1", "card.json", "model.keras", "history.csv"}
    card = json.loads((output_dir / "card.json").read_text())
    assert card["labels"] == LABELS
    assert card["weights_sha256"] == weights_hash(model)
    assert [path.name for path in output_dir.parent.iterdir()] == ["tones"]


@pytest.mark.slow
def test_script_adds_a_version(model_dir, tmp_path):
    output_dir = shutil.copytree(model_dir, tmp_path / "served" / "tones")
    first = contents(output_dir / "1")
    assert export_script(model_dir / "model.keras", "--output-dir", output_dir, "--version", 12) == 0
    assert {path.name for path in output_dir.iterdir()} == {"1", "12", "card.json", "model.keras", "history.csv"}
    assert contents(output_dir / "1") == first
    assert latest_saved_model(output_dir) == output_dir / "12"
    assert [path.name for path in output_dir.parent.iterdir()] == ["tones"]


def test_script_refuses_an_existing_version(model_dir):
    before = contents(model_dir)
    with pytest.raises(InputError, match=r"1: exists; pass --overwrite to replace it or another --version"):
        export_script(model_dir, "--output-dir", model_dir)
    assert contents(model_dir) == before


@pytest.mark.slow
def test_script_overwrites_when_told_to(model, model_dir, tmp_path):
    output_dir = tmp_path / "served"
    (output_dir / "1").mkdir(parents=True)
    (output_dir / "1" / "old").write_text("old")
    file = saved_beside_a_card(model, model_dir, tmp_path / "mine", audio=FEW_SIGNATURES.to_dict())
    assert export_script(file, "--output-dir", output_dir, "--overwrite") == 0
    assert not (output_dir / "1" / "old").exists()
    assert (output_dir / "1" / "saved_model.pb").is_file()


def test_script_of_a_file_that_keras_cannot_load(model_dir, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "card.json").write_text((model_dir / "card.json").read_text())
    file = tmp_path / "model" / "model.keras"
    file.write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"model\.keras: cannot be loaded \(.+\); save or export it again"):
        export_script(tmp_path / "model", "--output-dir", tmp_path / "served")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("something", "else")
    with pytest.raises(InputError, match=r"model\.keras: cannot be loaded \(.+\); save or export it again"):
        export_script(tmp_path / "model", "--output-dir", tmp_path / "served")
    assert not (tmp_path / "served").exists()


def test_script_refuses_a_version_older_than_the_newest(model_dir, tmp_path):
    shutil.copytree(model_dir, tmp_path / "served")
    (tmp_path / "served" / "1").rename(tmp_path / "served" / "7")
    before = contents(tmp_path / "served")
    with pytest.raises(InputError, match=r"^--version: 3 is older than 7, which .*served has; expected a newer one"):
        export_script(model_dir, "--output-dir", tmp_path / "served", "--version", 3)
    assert contents(tmp_path / "served") == before


def test_a_disk_that_is_full_when_the_picture_is_drawn_costs_no_model(tmp_path, monkeypatch, capsys):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    def written(folder, *what):
        for name in ("1", "card.json", "model.keras"):
            (folder / name).touch()
        return 0.0

    monkeypatch.setattr(Figure, "savefig", full)
    monkeypatch.setattr(saved_model, "write_model", written)
    options = SimpleNamespace(output_dir=tmp_path / "mine", quiet=True)
    job = SimpleNamespace(run_dir=tmp_path / "run")
    job.run_dir.mkdir()
    history = pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0], "accuracy": [0.2, 0.3]})
    train.write(options, job, None, Card(CONFIG, labels=LABELS), history)
    assert capsys.readouterr().err == "no picture (OSError: [Errno 28] No space left on device: 'training.png')\n"
    kept = {path.name for path in options.output_dir.iterdir()}
    assert kept == {"1", "card.json", "model.keras", "history.csv"}


def saved_beside_a_card(model, model_dir, folder, **changes):
    folder.mkdir()
    card = json.loads((model_dir / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **changes}))
    model.save(folder / "fine_tuned.keras")
    return folder / "fine_tuned.keras"


@pytest.mark.slow
def test_a_model_trained_on_since_does_not_take_over_scores_and_training_data(model_dir, tmp_path):
    model = small_classifier()
    model.get_layer("scores").bias.assign([0.1, 0.2, 0.3])
    about = {"training_data": {"licence": "the source's"}, "scores": {"test": {"accuracy": 0.9}}, "seed": 7}
    file = saved_beside_a_card(model, model_dir, tmp_path / "mine", audio=FEW_SIGNATURES.to_dict(), **about)
    assert export_script(file, "--output-dir", tmp_path / "served") == 0
    card = read_card(tmp_path / "served")
    assert not {*about} & {*card}
    assert card["transferred_from"] == about["training_data"]
    assert card["weights_sha256"] == weights_hash(model)
    assert card["audio"] == FEW_SIGNATURES.to_dict()


def test_a_card_that_the_saved_model_contradicts_is_not_exported(model_dir, tmp_path):
    source = shutil.copytree(model_dir, tmp_path / "mine")
    card = read_card(source)
    (source / "card.json").write_text(json.dumps({**card, "labels": card["labels"][::-1]}))
    said = r"card\.json: labels is .*, but the SavedModel 1 beside it says .*; they are of two models; put back the"
    for model, arguments in ((source, ()), (source / "model.keras", ("--version", 2)), (source, ("--tflite",))):
        with pytest.raises(InputError, match=rf"{said} files of one$"):
            export_script(model, "--output-dir", tmp_path / "served", *arguments)
    assert not (tmp_path / "served").exists()
    # Another hash beside other labels does not make it a model that was trained on since.
    other_labels = {**card, "labels": [f"other {label}" for label in card["labels"]]}
    (source / "card.json").write_text(json.dumps(other_labels | {"weights_sha256": "of before"}))
    with pytest.raises(InputError, match=r"card\.json: weights_sha256 is of before, but the SavedModel 1 beside"):
        load_described(Card.read(source), source / "model.keras")
    # One that was may have labels of its own, and an export is the remedy for what cannot be read.
    trained_on = keras.models.load_model(source / "model.keras")
    trained_on.get_layer("scores").bias.assign_add([1.0] * len(card["labels"]))
    trained_on.save(source / "trained_on.keras")
    (source / "card.json").write_text(json.dumps(other_labels))
    model, its_card = load_described(Card.read(source), source / "trained_on.keras")
    assert its_card.weights_sha256 == weights_hash(model) == weights_hash(trained_on)
    assert [*its_card.labels] == other_labels["labels"]
    (source / "card.json").write_text(json.dumps(card))
    (source / "1" / "saved_model.pb").write_bytes(b"")
    assert load_described(Card.read(source), source / "model.keras")
    shutil.rmtree(source / "1")
    assert load_described(Card.read(source), source / "model.keras")


def test_labels_have_to_be_as_many_as_scores(model_dir, tmp_path):
    file = saved_beside_a_card(small_classifier(), model_dir, tmp_path / "mine", labels=["a", "b"])
    with pytest.raises(InputError, match=r"^labels: card.json names 2, and the model gives 3 scores; write its own"):
        export_script(file, "--output-dir", tmp_path / "served")
    assert not (tmp_path / "served").exists()


def test_a_model_without_layers_by_name_is_refused(model_dir, tmp_path):
    model = small_classifier()
    file = saved_beside_a_card(keras.Model(model.input, model.output["scores"]), model_dir, tmp_path / "mine")
    with pytest.raises(InputError, match=r"fine_tuned\.keras: has no outputs by name; expected a dict of layers"):
        export_script(file, "--output-dir", tmp_path / "served")


def test_script_of_a_folder_without_a_card(model_dir, tmp_path):
    (tmp_path / "model.keras").write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"has no card\.json; expected a model folder"):
        export_script(tmp_path / "model.keras", "--output-dir", tmp_path / "served")


def test_script_of_an_unknown_file(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path / "nothing"), "--output-dir", str(tmp_path / "served")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr.splitlines() == [
        f"export.py: error: {tmp_path / 'nothing'}: does not exist; expected a model folder or a model.keras"
    ]


def test_read_card_of_a_card_that_is_broken(tmp_path):
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(InputError, match=r"card\.json: is not JSON"):
        Card.read(tmp_path)
    (tmp_path / "card.json").write_text('{"audio": {}}')
    with pytest.raises(InputError, match=r"card\.json: has no 'layer_names'; export the model again"):
        Card.read(tmp_path)
    with pytest.raises(InputError, match="is not a folder; expected a model folder"):
        Card.read(tmp_path / "nothing")


def test_latest_saved_model_counts_versions_as_numbers(tmp_path):
    with pytest.raises(InputError, match="holds no SavedModel"):
        latest_saved_model(tmp_path)
    for name in ("2", "10", "tensorboard", "11"):
        (tmp_path / name).mkdir()
        if name != "11":  # an empty folder is no version
            (tmp_path / name / "saved_model.pb").touch()
    assert latest_saved_model(tmp_path) == tmp_path / "10"
