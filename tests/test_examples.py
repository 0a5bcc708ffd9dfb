"""Clips that a model folder keeps: which are kept, and which of them are most like a sound."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sounds import CONFIG

from keras_audio_transfer import examples
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.model_folder import Card

LAYERS = {"mine/low": "low", "mine/high": "high"}
SIZES = {"low": 4, "high": 8, "other": 2}
CARD = Card(CONFIG, SIZES, labels=["cat", "dog", "owl"], probe={"layers": ["low", "high"]})


def table(labels):
    rng = np.random.default_rng(0)
    n = len(labels)
    layers = {
        f"mine/{name}": (rng.normal(0, 1, (n, size)) * rng.uniform(0.1, 50, size)).astype(np.float32)
        for name, size in SIZES.items()
    }
    ids = np.array([f"{i}.wav" for i in range(n)])
    return FeatureTable(layers, ids, np.array(labels), ["cat", "dog", "owl"], np.full(n, -1), np.full(n, ""))


def test_of_each_label_its_share_is_kept():
    features = table([0] * 20 + [1] * 30 + [2] * 10)
    kept = examples.keep(features, LAYERS, 12)
    assert [*np.bincount(kept.labels)] == [4, 6, 2]
    rows = [int(clip.removesuffix(".wav")) for clip in kept.clip_ids]
    np.testing.assert_array_equal(kept.layers["high"], features.layers["mine/high"][rows])
    assert [*kept.layers] == ["low", "high"]
    assert len(examples.keep(features, LAYERS, 1000)) == 60
    one_hot = replace(features, labels=np.eye(3, dtype=np.int64)[features.labels])
    assert examples.keep(one_hot, LAYERS, 12).labels.sum(axis=0).tolist() == pytest.approx([4, 6, 2], abs=1)


@pytest.mark.parametrize("layer_weights", ["channels", "equal"])
def test_the_nearest_are_scikit_learns(layer_weights, tmp_path):
    features = table([0, 1, 2] * 10)
    examples.keep(features, LAYERS, 30).save(tmp_path / examples.EXAMPLES)
    probe = {"layers": ["low", "high"], "layer_weights": layer_weights}
    found = examples.read(tmp_path, replace(CARD, probe=probe))
    x = np.concatenate([features.layers[name] for name in LAYERS], axis=1).astype(np.float64)
    scaler = StandardScaler().fit(x)
    weights = np.repeat(np.sqrt([6 / 4, 6 / 8] if layer_weights == "equal" else [1, 1]), [4, 8])
    neighbours = NearestNeighbors(n_neighbors=3).fit(scaler.transform(x) * weights)
    new = np.random.default_rng(1).normal(0, 20, (5, 12))
    for row in new:
        (expected,) = neighbours.kneighbors([scaler.transform([row])[0] * weights], return_distance=False)
        nearest = found.nearest({"high": row[np.newaxis, 4:], "low": row[np.newaxis, :4]})
        assert nearest == [(f"{i}.wav", (features.label_names[i % 3],)) for i in expected]


def test_of_several_labels_all_are_said(tmp_path):
    features = replace(table([0, 1, 2]), labels=np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1]]))
    kept = examples.keep(features, LAYERS, 3)
    found = examples.Examples(kept).nearest({name: values[2:] for name, values in kept.layers.items()}, 1)
    assert found == [("2.wav", ("cat", "dog", "owl"))]


def test_what_is_no_examples_file_of_the_model_is_refused(tmp_path):
    assert examples.read(tmp_path, CARD) is None
    path = tmp_path / examples.EXAMPLES
    kept = examples.keep(table([0, 1, 2]), LAYERS, 3)
    kept.save(path)
    for other in (
        replace(CARD, layer_sizes={"low": 4, "high": 9}),
        replace(CARD, labels=["cat", "dog", "cow"]),
        replace(CARD, probe=None),
    ):
        with pytest.raises(InputError, match=r"examples\.npz: is not of this model; expected clips with the layers"):
            examples.read(tmp_path, other)
    replace(kept, labels=kept.labels - 1).save(path)  # one clip has none
    with pytest.raises(InputError, match=r"examples\.npz: is not of this model"):
        examples.read(tmp_path, CARD)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"examples\.npz: not a features file \(\.npz\), or damaged"):
        examples.read(tmp_path, CARD)
