"""One SVM a label in the graph says what scikit-learn says, near the clips and far from them."""

import keras
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.one_vs_rest_layers import OneVsRestSVM, add_label_probe
from keras_audio_transfer.probing import label_thresholds
from keras_audio_transfer.probing.multi_label import LabelProbe
from keras_audio_transfer.probing.precomputed_kernels import SVMParams


@pytest.mark.parametrize("params", [SVMParams("linear", 2.0), SVMParams("rbf", 8.0, 2.0**-5)], ids=str)
def test_scores_and_probabilities_equal_scikit_learns(params):
    rng = np.random.default_rng(0)
    labels = (rng.random((40, 3)) < 0.4).astype(int)
    layers = {"a": rng.normal(-60, 20, (40, 4)), "b": labels + rng.normal(0, 1, (40, 3))}
    x = np.concatenate([*layers.values()], axis=1)
    scaler = StandardScaler().fit(x)
    svms = [SVC(**params.of_svm()).fit(scaler.transform(x), of_label) for of_label in labels.T]
    values = np.stack([svm.decision_function(scaler.transform(x)) for svm in svms], axis=1)
    probe = LabelProbe(("a", "b"), params, scaler, svms, label_thresholds.fit(values, labels))

    inputs = keras.Input((7,))
    outputs = {"b": inputs[:, 4:], "a": inputs[:, :4]}
    model = add_label_probe(keras.Model(inputs, outputs), ["a", "b"], probe)
    new = np.concatenate([x, x + rng.normal(0, 5, x.shape), 10 * x])
    expected = np.stack([svm.decision_function(scaler.transform(new)) for svm in svms], axis=1)
    found = model(new)
    assert [*found] == ["b", "a", "scores", "probabilities"]
    np.testing.assert_allclose(found["scores"], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["probabilities"], probe.calibration.probabilities(expected), atol=1e-5)
    assert not model.get_layer("scores").trainable_weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 3, "poly", 1.0), "kernel: 'poly' is unknown; choose from linear, rbf"),
        ((3, 3, "rbf"), "gamma: None is not allowed; expected a number above 0 for rbf"),
        ((3, 0, "linear", 1.0), "gamma: 1.0 is not allowed; expected .* None for linear"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        OneVsRestSVM(*arguments)
