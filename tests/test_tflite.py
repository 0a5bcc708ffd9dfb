"""The TensorFlow Lite twin has the outputs of its model, in built-in operations only; what has no twin is refused."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
import sounds
import tensorflow as tf
from conftest import run_main
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sounds import LAYERS, noise

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export import tflite
from keras_audio_transfer.export.batchnorm_folding import folded
from keras_audio_transfer.export.signatures import serving_outputs
from keras_audio_transfer.extractor import build_extractor
from keras_audio_transfer.one_vs_rest_layers import add_label_probe
from keras_audio_transfer.probing import familiarity
from keras_audio_transfer.probing.calibration import Calibration
from keras_audio_transfer.probing.label_thresholds import LabelCalibration
from keras_audio_transfer.probing.multi_label import LabelProbe
from keras_audio_transfer.probing.prober import Certainty
from keras_audio_transfer.svm_layers import add_probe
from keras_audio_transfer.training.heads import add_head

SCRIPT = Path(__file__).parent.parent / "scripts" / "export.py"
CONFIG = replace(sounds.CONFIG, frame_padding="tensorflow_same")


export_script = partial(run_main, "export")


def new_extractor():
    """Five layers at once, dilations in front, and statistics as after training."""
    keras.utils.set_random_seed(0)
    extractor = build_extractor(CONFIG, dilations=(1, 3), pooling="mean_deviation", spec_augment=1)
    for layer in extractor.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(noise(32))
            layer.moving_variance.assign(1 + noise(32) ** 2)
    return extractor


@pytest.fixture(scope="module")
def model():
    return add_head(new_extractor(), 3)


@pytest.fixture(scope="module")
def model_dir(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model.save(folder / "model.keras")
    (folder / "card.json").write_text(json.dumps({"audio": CONFIG.to_dict(), "layer_names": LAYERS}))
    return folder


@pytest.fixture(scope="module")
def exported(model_dir, tmp_path_factory):
    """Of another length than the model was made for: 0.3 s."""
    folder = tmp_path_factory.mktemp("twin") / "new"
    assert export_script(model_dir, "--output-dir", folder, "--tflite", "--clip-seconds", 0.3) == 0
    return folder / "model.tflite"


@pytest.fixture(scope="module")
def twin(exported):
    return tf.lite.Interpreter(str(exported))


def largest_difference(outputs, expected):
    assert outputs.keys() == expected.keys()
    expected = {name: values.numpy() for name, values in expected.items()}
    return max(
        np.max(np.abs(outputs[name] - values) / np.maximum(1, np.abs(values))) for name, values in expected.items()
    )


def test_names_and_shapes(twin, exported):
    names = [*LAYERS, "features", "scores"]
    assert twin.get_signature_list() == {"serving_default": {"inputs": ["waveform"], "outputs": sorted(names)}}
    runner = twin.get_signature_runner("serving_default")
    (details,) = runner.get_input_details().values()
    assert (details["shape"].tolist(), details["dtype"]) == ([1, 600], np.float32)
    outputs = runner(waveform=noise(1, 600))
    sizes = {**dict.fromkeys(LAYERS, (1, 64)), "features": (1, 320), "scores": (1, 3)}
    assert {name: values.shape for name, values in outputs.items()} == sizes
    assert [path.name for path in exported.parent.iterdir()] == ["model.tflite"]


@pytest.mark.parametrize("seed", [1, 2])
def test_outputs_are_those_of_the_model(twin, model, seed):
    waveform = noise(1, 600, seed=seed)
    outputs = twin.get_signature_runner("serving_default")(waveform=waveform)
    assert largest_difference(outputs, serving_outputs(model, waveform)) <= 1e-4


def test_all_operations_are_built_in(twin):
    operations = {operation["op_name"] for operation in twin._get_ops_details()}
    assert "RFFT2D" in operations
    assert "CONV_2D" in operations
    assert not [name for name in operations if name.startswith(("Flex", "Custom", "CUSTOM"))]


MACHINES = [
    pytest.param(SVC(kernel="linear", C=0.1), 2, marks=pytest.mark.slow, id="linear"),
    pytest.param(SVC(gamma=0.005, C=8.0), 4, id="rbf"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("machine", "n_labels"), MACHINES)
def test_a_probe_names_the_same_class(machine, n_labels, tmp_path):
    extractor = new_extractor()
    labels = np.arange(60) % n_labels
    waveforms = noise(60, CONFIG.n_samples) * np.float32(1 + labels[:, None])
    waveforms += np.sin(np.outer(0.2 + 0.3 * labels, np.arange(CONFIG.n_samples))).astype(np.float32) / 3
    outputs = extractor(waveforms, training=False)
    features = np.concatenate([outputs[name] for name in ("layer2", "layer4")], axis=1)
    scaler = StandardScaler().fit(features)
    machine.fit(scaler.transform(features), labels)
    found = familiarity.fit(scaler.transform(features), labels)
    sure = Certainty(Calibration(0.7, 0.4), found.with_distances(found.distance(scaler.transform(features))))
    model = add_probe(extractor, ["layer2", "layer4"], scaler, machine, sure)
    assert tflite.write_tflite(tmp_path / "model.tflite", model, CONFIG) <= 1e-3
    runner = tf.lite.Interpreter(str(tmp_path / "model.tflite")).get_signature_runner("serving_default")
    classes = [runner(waveform=waveform[None])["scores"].argmax() for waveform in waveforms]
    np.testing.assert_array_equal(classes, machine.predict(scaler.transform(features)))
    answer, expected = runner(waveform=waveforms[:1]), model(waveforms[:1])
    for name in ("probabilities", "known"):
        np.testing.assert_allclose(answer[name], expected[name], atol=1e-3)
    assert len({*classes}) == n_labels


@pytest.mark.slow
@pytest.mark.parametrize("machine", [SVC(kernel="linear", C=0.1), SVC(gamma=0.005, C=8.0)], ids=["linear", "rbf"])
def test_a_probe_of_several_labels_says_the_same(machine, tmp_path):
    extractor = new_extractor()
    waveforms = noise(40, CONFIG.n_samples) * np.float32(1 + np.arange(40) % 3)[:, None]
    features = extractor(waveforms, training=False)["layer2"].numpy()
    scaler = StandardScaler().fit(features)
    x, level = scaler.transform(features), np.arange(40) % 3
    labels = [level == 2, level > 0, np.arange(40) % 2]
    svms = [clone(machine).fit(x, of_label) for of_label in labels]
    calibration = LabelCalibration(np.array([2.0, 1.5, 3.0]), np.array([0.1, -0.4, 0.0]), np.full(3, 0.5))
    model = add_label_probe(extractor, ["layer2"], LabelProbe(("layer2",), None, scaler, svms, calibration))
    assert tflite.write_tflite(tmp_path / "model.tflite", model, CONFIG) <= 1e-3
    runner = tf.lite.Interpreter(str(tmp_path / "model.tflite")).get_signature_runner("serving_default")
    answers = [runner(waveform=waveform[None]) for waveform in waveforms[:6]]
    expected = np.stack([svm.decision_function(x[:6]) for svm in svms], axis=1)
    np.testing.assert_allclose(np.concatenate([answer["scores"] for answer in answers]), expected, atol=1e-3)
    probabilities = np.concatenate([answer["probabilities"] for answer in answers])
    np.testing.assert_allclose(probabilities, calibration.probabilities(expected), atol=1e-3)


@pytest.mark.slow
def test_a_twin_that_differs_is_not_exported(model, monkeypatch, tmp_path):
    monkeypatch.setattr(
        tflite, "folded", lambda model, others: folded(keras.models.clone_model(model))
    )  # other weights
    with pytest.raises(
        InputError, match=r"^export: the TensorFlow Lite model differs by .*; expected at most 1e-03; not"
    ):
        tflite.write_tflite(tmp_path / "model.tflite", model, CONFIG)


def test_what_tensorflow_lite_lacks_is_named(tmp_path):
    waveform = keras.Input((None,), name="waveform")
    features = keras.layers.Lambda(lambda x: tf.math.digamma(x)[:, :2], output_shape=(2,))(waveform)
    with pytest.raises(
        InputError, match=r"^export: TensorFlow Lite cannot compute this model by itself \(Custom ops: Digamma\)$"
    ):
        tflite.write_tflite(tmp_path / "model.tflite", keras.Model(waveform, {"layer": features}), CONFIG)


REFUSED = [
    ({"decibel_maximum": "batch"}, [], "features depend on the whole batch, which a TensorFlow Lite model of one clip"),
    ({"n_fft": 48}, [], "n_fft: 48 is no power of two, and TensorFlow Lite transforms no other window"),
    ({}, ["--clip-seconds", 0.01], "--clip-seconds: 0.01 is shorter than a frame; expected at least 0.032"),
]


@pytest.mark.parametrize(("audio", "arguments", "message"), REFUSED)
def test_what_has_no_twin_is_refused(model_dir, tmp_path, audio, arguments, message):
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.keras").symlink_to(model_dir / "model.keras")
    card = {"audio": {**CONFIG.to_dict(), **audio}, "layer_names": LAYERS}
    (source / "card.json").write_text(json.dumps(card))
    with pytest.raises(InputError) as error:
        export_script(source, "--output-dir", tmp_path / "new", "--tflite", *arguments)
    assert message in str(error.value)
    assert not [*tmp_path.rglob("*.tflite*")]


def test_an_existing_file_is_not_replaced(model_dir, exported):
    before = exported.read_bytes()
    with pytest.raises(InputError, match=r"model\.tflite: exists; pass --overwrite to replace it or another"):
        export_script(model_dir, "--output-dir", exported.parent, "--tflite")
    assert exported.read_bytes() == before


def test_clip_seconds_belongs_to_tflite(model_dir, tmp_path):
    with pytest.raises(InputError, match="--clip-seconds: belongs to --tflite; a SavedModel takes clips of any length"):
        export_script(model_dir, "--output-dir", tmp_path / "new", "--clip-seconds", 1)


def test_a_version_does_not_belong_to_tflite(model_dir, tmp_path):
    with pytest.raises(InputError, match=r"^--version: belongs to a SavedModel; model\.tflite has none; leave"):
        export_script(model_dir, "--output-dir", tmp_path / "new", "--tflite", "--version", 2)
