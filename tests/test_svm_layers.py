"""The probe in the graph says what scikit-learn says: decision values, classes, ties, and again after loading."""

from dataclasses import replace

import forked
import keras
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sounds import CONFIG

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export.saved_model import write_saved_model
from keras_audio_transfer.extraction import SavedExtractor
from keras_audio_transfer.extractor import build_extractor
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.probing import familiarity
from keras_audio_transfer.probing.calibration import Calibration, PairValues
from keras_audio_transfer.probing.precomputed_kernels import SVMParams
from keras_audio_transfer.probing.prober import Certainty, fit_svm
from keras_audio_transfer.svm_layers import SupportVectorClassifier, add_probe, layers_of_probe

MACHINES = {
    "linear": {"kernel": "linear", "C": 0.1},
    "hard linear": {"kernel": "linear", "C": 32.0},
    "rbf": {"kernel": "rbf", "C": 8.0, "gamma": 2.0**-7},
    "narrow rbf": {"kernel": "rbf", "C": 2.0, "gamma": 2.0**-3},
    "wide rbf": {"kernel": "rbf", "C": 32.0, "gamma": 2.0**-13},
}


def clips(n_labels, seed=0, unbalanced=False, n=30, channels=12):
    """FeatureTable in the units of decibels, far from 0, whose classes overlap; float32, and labels."""
    rng = np.random.default_rng(seed)
    counts = [n // (1 + label if unbalanced else 1) + 2 for label in range(n_labels)]
    labels = np.repeat(np.arange(n_labels), counts)
    centres = rng.normal(0, 1, (n_labels, channels))
    features = (centres[labels] + rng.normal(0, 1, (len(labels), channels))) * rng.uniform(0.01, 50, channels) - 60
    return features.astype(np.float32), labels


def fitted(features, labels, **parameters):
    scaler = StandardScaler().fit(features.astype(np.float64))
    return scaler, SVC(**parameters).fit(scaler.transform(features.astype(np.float64)), labels)


def certainty(scaler, machine, features, labels):
    """As of held-out clips, which these are not."""
    scaled = scaler.transform(features.astype(np.float64))
    found = familiarity.fit(scaled, labels)
    return Certainty(Calibration(0.7, 0.4), found.with_distances(found.distance(scaled)))


def compare(scaler, machine, features):
    """All that the layers compute, beside scikit-learn; returns how many clips have a tie of the most votes."""
    scaling, classifier = layers_of_probe(scaler, machine)
    scaled = scaler.transform(features.astype(np.float64))
    np.testing.assert_allclose(scaling(features), scaled, rtol=1e-12, atol=1e-12)
    n_labels = len(machine.classes_)
    values = classifier.decision_values(scaling(features)).numpy()
    machine.decision_function_shape = "ovo"
    expected = machine.decision_function(scaled)
    expected = -expected[:, np.newaxis] if n_labels == 2 else expected
    assert values.shape == (len(features), n_labels * (n_labels - 1) // 2)
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9)
    scores = classifier(scaling(features)).numpy()
    assert scores.dtype == np.float32
    assert scores.shape == (len(features), n_labels)
    assert (scores >= -1 / 3).all()
    np.testing.assert_array_equal(machine.classes_[scores.argmax(axis=1)], machine.predict(scaled))
    assert (np.sort(scores, axis=1)[:, -1] > np.sort(scores, axis=1)[:, -2]).all()  # whoever takes the largest: one
    votes = np.zeros((len(features), n_labels))
    for column, (first, second) in zip(expected.T, classifier.pairs, strict=True):
        np.add.at(votes, (np.arange(len(features)), np.where(column > 0, first, second)), 1)
    tied = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) > 1
    if n_labels > 2:
        machine.decision_function_shape = "ovr"
        np.testing.assert_allclose(scores[~tied], machine.decision_function(scaled)[~tied], rtol=1e-6, atol=1e-6)
    return tied.sum()


@pytest.mark.parametrize("unbalanced", [False, True], ids=["balanced", "unbalanced"])
@pytest.mark.parametrize("n_labels", [2, 3, 10])
@pytest.mark.parametrize("machine", MACHINES)
def test_the_layers_equal_scikit_learn(machine, n_labels, unbalanced):
    scaler, svc = fitted(*clips(n_labels, unbalanced=unbalanced), **MACHINES[machine])
    near, _ = clips(n_labels, seed=1)
    far = 1000 * near
    ties = compare(scaler, svc, np.concatenate([near, far]))
    assert n_labels > 2 or ties == 0


@pytest.mark.parametrize("gamma", [None, "auto"], ids=["linear", "rbf"])
def test_weights_of_layers_are_served(gamma):
    x, labels = clips(3)
    params = SVMParams("rbf" if gamma else "linear", 8.0, gamma, "equal")
    nowhere = np.full(len(x), -1), np.full(len(x), "")
    table = FeatureTable({"narrow": x[:, :2], "wide": x[:, 2:]}, np.arange(len(x)).astype(str), labels, "abc", *nowhere)
    scaler, svc = fit_svm(table, ("narrow", "wide"), params)
    assert scaler.transform(x)[:, :2].std() == pytest.approx(np.sqrt(3))
    compare(scaler, svc, clips(3, seed=1)[0])


def test_ties_of_votes_go_to_the_first_label():
    """Three rays a third of a turn apart, each clip halfway between two: some ties, where confidence says otherwise."""
    angles = np.linspace(0, 2 * np.pi, 3, endpoint=False)
    centres = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    features = (2 * centres[labels] + rng.normal(0, 2, (120, 2))).astype(np.float32)
    scaler, machine = fitted(features, labels, kernel="rbf", C=32.0, gamma=2.0)
    grid = np.stack(np.meshgrid(*[np.linspace(-6, 6, 80)] * 2), axis=-1).reshape(-1, 2).astype(np.float32)
    assert compare(scaler, machine, grid) > 10
    scaled = scaler.transform(grid.astype(np.float64))
    by_confidence = machine.decision_function(scaled).argmax(axis=1)
    assert (by_confidence != machine.predict(scaled)).any()  # the case is not vacuous


@pytest.mark.parametrize(
    ("values", "votes", "named"),
    [
        ([1, -1, 1], [1, 1, 1], 0),  # in a circle
        ([1e6, -5e6, 5e6], [1, 1, 1], 0),  # as decidedly for the last
        ([0, 0, 0], [0, 1, 2], 2),  # not above 0: for the second of the pair
        ([-1, -1, 0], [0, 1, 2], 2),
        ([1, 1, 1], [2, 1, 0], 0),
        ([-1, 3, 1], [1, 2, 0], 1),
    ],
)
def test_votes_by_hand(values, votes, named):
    """The machines' intercepts are the decision values where every coefficient is 0."""
    layer = SupportVectorClassifier([0, 0, 0], "linear")
    layer.build((None, 1))
    layer.set_weights([np.zeros((3, 1)), np.array(values, dtype=float)])
    (scores,) = layer(np.zeros((1, 1), np.float32)).numpy()
    a, b, c = values
    sums = np.array([a + b, c - a, -b - c])
    expected = votes + sums / (3 * (np.abs(sums) + 1))
    expected[named] += 2 / 3 * (np.sum(np.array(votes) == max(votes)) > 1)
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    assert scores.argmax() == named


_PREDICT = """
import sys
import keras_audio_transfer, keras
import numpy as np
model, clips, outputs = sys.argv[1:]
served = keras.models.load_model(model, compile=False)(np.load(clips))
np.savez(outputs, **{name: value.numpy() for name, value in served.items()})
"""


@pytest.mark.slow
@pytest.mark.parametrize("layers", [pytest.param(("layer2",), marks=pytest.mark.slow), ("layer4", "layer1")])
@pytest.mark.parametrize("machine", [pytest.param("linear", marks=pytest.mark.slow), "rbf"])
def test_a_model_with_a_probe(machine, layers, tmp_path):
    """In Keras, loaded by Keras in a fresh process, and as a SavedModel: the same as scikit-learn on the features."""
    keras.utils.set_random_seed(0)
    extractor = build_extractor(CONFIG)
    waveforms = np.random.default_rng(0).normal(0, np.geomspace(0.001, 1, 24)[:, None], (24, 400)).astype(np.float32)
    outputs = extractor(waveforms)
    features = np.concatenate([outputs[name].numpy() for name in layers], axis=1)
    scaler, svc = fitted(features, np.arange(24) // 6, **MACHINES[machine])
    expected = svc.predict(scaler.transform(features.astype(np.float64)))
    assert len(np.unique(expected)) > 1
    model = add_probe(extractor, layers, scaler, svc, certainty(scaler, svc, features, np.arange(24) // 6))
    assert [*model.output] == [*extractor.output, "scores", "probabilities", "known"]
    assert model.output["scores"].shape == (None, 4)
    assert model.output["scores"].dtype == "float32"
    assert not set(map(id, model.get_layer("scores").weights)) & set(map(id, model.trainable_weights))
    scores = model(waveforms)["scores"].numpy()
    np.testing.assert_array_equal(scores.argmax(axis=1), expected)

    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "clips.npy", waveforms)
    arguments = [str(tmp_path / name) for name in ("model.keras", "clips.npy", "outputs.npz")]
    script = tmp_path / "predict.py"
    script.write_text(_PREDICT)
    run = forked.script(script, arguments)
    assert run.returncode == 0, run.stderr
    with np.load(tmp_path / "outputs.npz") as loaded:
        np.testing.assert_allclose(loaded["scores"], scores, atol=1e-4)

        np.testing.assert_allclose(loaded["known"], model(waveforms)["known"], atol=1e-4)

    # By a card of features that depend on the batch two signatures are served instead of seven: here one is asked.
    write_saved_model(model, tmp_path / "1", Card(replace(CONFIG, decibel_maximum="batch")))
    np.testing.assert_allclose(SavedExtractor(tmp_path / "1")(waveforms)["scores"], scores, atol=1e-4)


@pytest.mark.parametrize("n_labels", [2, 3, 10])
@pytest.mark.parametrize("machine", ["linear", "rbf"])
def test_certainty_is_that_of_the_library(machine, n_labels):
    """Probabilities and familiarity of the graph equal those that were calibrated, near the clips and far from them."""
    features, labels = clips(n_labels)
    scaler, svc = fitted(features, labels, **MACHINES[machine])
    sure = certainty(scaler, svc, features, labels)
    x = keras.Input((features.shape[1],))
    model = add_probe(keras.Model(x, {"layer": keras.layers.Identity()(x)}), ["layer"], scaler, svc, sure)
    new = np.concatenate([features, clips(n_labels, seed=1)[0], clips(n_labels, seed=2)[0] * 3, np.zeros((2, 12))])
    scaled = scaler.transform(new.astype(np.float64))
    svc.decision_function_shape = "ovo"
    values = svc.decision_function(scaled)
    values = PairValues(-values[:, None] if n_labels == 2 else values, svc.classes_)
    outputs = model(new)
    probabilities = outputs["probabilities"].numpy()
    np.testing.assert_allclose(probabilities, sure.calibration.probabilities(values, n_labels), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), svc.predict(scaled))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(outputs["known"], sure.familiarity.known(scaled), atol=1e-5)
    assert outputs["known"].shape == (len(new),)
    of_clips, of_nothing_like_them = np.split(outputs["known"].numpy(), [len(features)])
    assert of_nothing_like_them[-1] < 0.01 < np.quantile(of_clips, 0.05)


def test_the_weights_have_libsvms_shapes_and_float64():
    layer = SupportVectorClassifier(np.array([3, 4, 5]), "rbf", 0.5, name="scores")
    config = layer.get_config()
    assert (config["n_support"], config["kernel"], config["gamma"]) == ([3, 4, 5], "rbf", 0.5)
    layer.build((None, 7))
    assert [tuple(weight.shape) for weight in layer.weights] == [(12, 7), (2, 12), (3,)]
    assert {weight.dtype for weight in layer.weights} == {"float64"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([3],), r"n_support: \[3\] is of 1 labels; expected two or more"),
        (([3, 3], "poly", 1.0), "kernel: 'poly' is unknown; choose from linear, rbf"),
        (([3, 3], "rbf"), "gamma: None is not allowed; expected a number above 0 for rbf"),
        (([3, 3], "rbf", 0.0), "gamma: 0.0 is not allowed"),
        (([3, 3], "rbf", "scale"), "gamma: 'scale' is not allowed"),
        (([0, 0], "linear", 1.0), "gamma: 1.0 is not allowed; expected .* None for linear"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        SupportVectorClassifier(*arguments)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kernel": "poly", "gamma": 1.0}, "kernel: 'poly' is unknown"),
        ({"gamma": "scale"}, "gamma: 'scale' is not allowed"),
        ({"gamma": 1.0, "break_ties": True, "decision_function_shape": "ovr"}, "svm: breaks ties by confidence"),
    ],
)
def test_machines_that_are_something_else_are_refused(parameters, message):
    scaler, machine = fitted(*clips(3), **parameters)
    with pytest.raises(InputError, match=message):
        layers_of_probe(scaler, machine)
