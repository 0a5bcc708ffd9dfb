"""The head: scores per label on the last layer, beside every layer's features."""

import keras
import numpy as np
import pytest
from sounds import CONFIG, noise

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.extractor import build_extractor, select_layers
from keras_audio_transfer.training.heads import SCORES, add_head, compile_settings


@pytest.mark.parametrize(("multi_label", "n_labels"), [(False, 2), (False, 7), (True, 1), (True, 50)])
def test_scores_stand_beside_the_features(multi_label, n_labels):
    extractor = build_extractor(CONFIG)
    model = add_head(extractor, n_labels, multi_label)
    assert list(model.output) == [*extractor.output, SCORES]
    waveforms = noise(3, CONFIG.n_samples)
    outputs = model(waveforms)
    scores = outputs[SCORES].numpy()
    assert scores.shape == (3, n_labels)
    assert (scores >= 0).all()
    assert (scores <= 1).all()
    if not multi_label:
        np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    for name, values in extractor(waveforms).items():
        np.testing.assert_array_equal(outputs[name], values)


def test_scores_by_hand():
    model = add_head(build_extractor(CONFIG), 4)
    outputs = model(noise(2, 600))
    kernel, bias = model.get_layer(SCORES).get_weights()
    logits = outputs["layer5"].numpy() @ kernel + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(outputs[SCORES], expected, rtol=1e-4, atol=1e-6)


def test_tags_are_independent_of_each_other():
    model = add_head(build_extractor(CONFIG), 3, multi_label=True)
    outputs = model(noise(2, 600))
    kernel, bias = model.get_layer(SCORES).get_weights()
    expected = 1 / (1 + np.exp(-(outputs["layer5"].numpy() @ kernel + bias)))
    np.testing.assert_allclose(outputs[SCORES], expected, rtol=1e-4, atol=1e-6)


def test_dropout_in_training_only():
    keras.utils.set_random_seed(0)
    model = add_head(build_extractor(CONFIG), 3, dropout=0.5)
    features = keras.Input((32,))
    drops = keras.Model(features, model.get_layer("head_dropout")(features))
    x = np.ones((4, 32), np.float32)
    np.testing.assert_array_equal(drops(x, training=False), x)
    assert set(np.unique(drops(x, training=True))) == {0.0, 2.0}


@pytest.mark.parametrize(("n_labels", "multi_label", "fewest"), [(1, False, 2), (0, False, 2), (0, True, 1)])
def test_too_few_labels(n_labels, multi_label, fewest):
    with pytest.raises(InputError, match=f"labels: {n_labels} found; expected at least {fewest}; add clips"):
        add_head(build_extractor(CONFIG), n_labels, multi_label)


@pytest.mark.parametrize("multi_label", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_compile_settings_fit_the_head(multi_label):
    model = add_head(select_layers(build_extractor(CONFIG), ["layer1"]), 3, multi_label)
    trained = keras.Model(model.input, model.output[SCORES])
    trained.compile(optimizer="adam", **compile_settings(multi_label))
    targets = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]], np.float32)
    results = trained.evaluate(noise(4, 500), targets, verbose=0, return_dict=True)
    expected = {"roc_auc_micro", "roc_auc_macro", "pr_auc_micro", "pr_auc_macro"} if multi_label else {"accuracy"}
    assert set(results) == expected | {"loss"}
    assert np.isfinite([*results.values()]).all()
