"""PANNs from their published layout, and nothing else is taken for them. The trained files could not be had here."""

import os
import pickle
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import some_quick
from sounds import noise

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.pretrained import audioset_labels, panns, pytorch, source

NETWORKS = panns.SOURCES
FILES = {"panns_cnn14": "Cnn14_mAP=0.431.pth", "panns_mobilenet": "MobileNetV1_mAP=0.389.pth"}
CNN14 = (64, 128, 256, 512, 1024, 2048)
STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
MOBILENET = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
SIZES = {
    "panns_cnn14": {**{f"block{i}": n for i, n in enumerate(CNN14, 1)}, "embedding": 2048, "scores": 527},
    "panns_mobilenet": {**{f"layer{i}": n for i, n in enumerate(MOBILENET, 1)}, "embedding": 1024, "scores": 527},
}


def random_arrays(name, seed=0):
    """Name in the checkpoint -> weights that keep the maps in range, in PyTorch's order of axes."""
    rng, channels, arrays = np.random.default_rng(seed), 1, {}

    def convolution(name, *shape):
        kernel = rng.standard_normal(shape, np.float32)
        arrays[f"{name}.weight"] = kernel * np.float32(np.sqrt(2 / np.prod(shape[1:])))

    def normalisation(name, channels, mean=0.0, variance=1.0):
        arrays[f"{name}.weight"] = rng.uniform(0.5, 1.5, channels).astype(np.float32)
        arrays[f"{name}.bias"] = rng.normal(0, 0.3, channels).astype(np.float32)
        arrays[f"{name}.running_mean"] = rng.normal(mean, 0.1, channels).astype(np.float32)
        arrays[f"{name}.running_var"] = (variance * rng.uniform(0.5, 2, channels)).astype(np.float32)
        arrays[f"{name}.num_batches_tracked"] = np.int64(7)

    normalisation("bn0", 64, -30.0, 400.0)
    for i, filters in enumerate(CNN14 if name == "panns_cnn14" else MOBILENET):
        if name == "panns_cnn14":
            for number in (1, 2):
                convolution(f"conv_block{i + 1}.conv{number}", filters, channels, 3, 3)
                normalisation(f"conv_block{i + 1}.bn{number}", filters)
                channels = filters
        elif i == 0:
            convolution("features.0.0", filters, 1, 3, 3)
            normalisation("features.0.2", filters)
        else:
            convolution(f"features.{i}.0", channels, 1, 3, 3)
            normalisation(f"features.{i}.2", channels)
            convolution(f"features.{i}.4", filters, channels, 1, 1)
            normalisation(f"features.{i}.5", filters)
        channels = filters
    for layer, outputs in (("fc1", channels), ("fc_audioset", 527)):
        convolution(layer, outputs, channels)
        arrays[f"{layer}.bias"] = rng.normal(0, 0.3, outputs).astype(np.float32)
    return arrays


def independent(spectrogram, arrays, name):
    """The network from the published arrays, in float64: every tap and the scores."""
    arrays = {key: tf.cast(array, tf.float64) for key, array in arrays.items()}

    def normalised(x, layer, axis=3):
        shape = [1] * 4
        shape[axis] = -1
        kinds = ("weight", "bias", "running_mean", "running_var")
        gamma, beta, mean, variance = (tf.reshape(arrays[f"{layer}.{kind}"], shape) for kind in kinds)
        return gamma * (x - mean) / tf.sqrt(variance + 1e-5) + beta

    def convolved(x, layer):
        return tf.nn.conv2d(x, tf.transpose(arrays[f"{layer}.weight"], (2, 3, 1, 0)), 1, "SAME")

    def pooled(x, size):
        batch, frames, bands, channels = x.shape
        whole = x[:, : frames // size * size]
        parts = tf.reshape(whole, (batch, frames // size, size, bands // size, size, channels))
        return tf.reduce_mean(parts, (2, 4))

    taps, x = {}, normalised(tf.cast(spectrogram, tf.float64), "bn0", axis=2)
    if name == "panns_cnn14":
        for block in range(1, 7):
            for number in (1, 2):
                x = convolved(x, f"conv_block{block}.conv{number}")
                x = tf.nn.relu(normalised(x, f"conv_block{block}.bn{number}"))
            x = taps[f"block{block}"] = pooled(x, 1 if block == 6 else 2)
    else:
        for i, stride in enumerate(STRIDES):
            if i == 0:
                x = normalised(pooled(convolved(x, "features.0.0"), stride), "features.0.2")
            else:
                kernel = tf.transpose(arrays[f"features.{i}.0.weight"], (2, 3, 0, 1))
                x = pooled(tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME"), stride)
                x = tf.nn.relu(normalised(x, f"features.{i}.2"))
                x = normalised(convolved(x, f"features.{i}.4"), f"features.{i}.5")
            x = taps[f"layer{i + 1}"] = tf.nn.relu(x)
    x = tf.reduce_mean(x, 2)
    for tap, layer, activation in (("embedding", "fc1", tf.nn.relu), ("scores", "fc_audioset", tf.sigmoid)):
        x = tf.reduce_max(x, 1) + tf.reduce_mean(x, 1) if tap == "embedding" else x
        x = activation(x @ tf.transpose(arrays[f"{layer}.weight"]) + arrays[f"{layer}.bias"])
        taps[tap] = x
    return taps


@pytest.mark.parametrize("name", some_quick(FILES, ["panns_mobilenet"]))
def test_networks_by_an_independent_computation(name):
    arrays = random_arrays(name)
    stored = {layer: pytorch.taken(arrays, *place) for layer, *place in panns._LAYERS[name]()}
    model = source.build(NETWORKS[name], stored)
    assert {tap: output.shape[-1] for tap, output in model.output.items()} == SIZES[name]
    assert [*model.output] == [*SIZES[name]]
    maps = {tap: model.get_layer(panns.HEAD if tap == "scores" else tap).output for tap in SIZES[name]}
    spectrogram = model.get_layer("power_to_decibel").output
    both = keras.Model(model.input, {"spectrogram": spectrogram, "maps": maps, "features": model.output})
    outputs = both(0.1 * noise(1, 14000))
    assert outputs["spectrogram"].shape == (1, 44, 64, 1)
    expected = independent(outputs["spectrogram"], arrays, name)
    for tap, values in expected.items():
        scale = np.abs(values).max()
        np.testing.assert_allclose(outputs["maps"][tap], values, rtol=0, atol=1e-5 * scale, err_msg=tap)
        features = values.numpy().reshape(-1, values.shape[-1]).mean(axis=0)
        np.testing.assert_allclose(outputs["features"][tap][0], features, rtol=0, atol=1e-5 * scale, err_msg=tap)
    short = 0.1 * noise(1, 500)  # nothing would be left of it
    padded = np.pad(short, ((0, 0), (0, 31 * 320 + 1 - 500)))
    for tap, features in model(short).items():
        np.testing.assert_array_equal(features, model(padded)[tap], err_msg=tap)


def test_labels():
    assert len({*audioset_labels.LABELS}) == len(audioset_labels.LABELS) == 527
    assert audioset_labels.LABELS[:2] == ("Speech", "Male speech, man speaking")
    assert audioset_labels.LABELS[-1] == "Field recording"
    assert all(network.labels is audioset_labels.LABELS for network in NETWORKS.values())


def checkpoint(path, arrays, legacy=False, **others):
    """As the original program saves: also where the training was, in arrays of whole numbers."""
    torch = pytest.importorskip("torch")
    sampler = {"sampler1": {"indexes": np.arange(9), "pointer": 3}, "queue": [1, 2]}
    model = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    content = {"iteration": 600000, "model": model, "sampler": sampler, **others}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.fixture(scope="module")
def arrays():
    return random_arrays("panns_mobilenet")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint(legacy, arrays, tmp_path):
    """Also as PyTorch wrote it in 2020."""
    path = checkpoint(tmp_path / FILES["panns_mobilenet"], arrays, legacy)
    weights = NETWORKS["panns_mobilenet"].read(path)
    kernel = arrays["features.3.4.weight"]
    np.testing.assert_array_equal(weights["layer4_pointwise"][0], kernel.transpose(2, 3, 1, 0))
    kernel = arrays["features.3.0.weight"]
    np.testing.assert_array_equal(weights["layer4_depthwise"][0], kernel.transpose(2, 3, 0, 1))
    np.testing.assert_array_equal(weights["layer4_depthwise_normalisation"][3], arrays["features.3.2.running_var"])
    np.testing.assert_array_equal(weights["embedding"][0], arrays["fc1.weight"].T)
    in_folder = NETWORKS["panns_mobilenet"].read(tmp_path)
    for layer, expected in weights.items():
        assert all(np.array_equal(a, b) for a, b in zip(expected, in_folder[layer], strict=True))


def refused(path, message, name="panns_mobilenet"):
    """Refused in one line that begins with the path and says what to do."""
    with pytest.raises(InputError, match=message) as error:
        NETWORKS[name].read(path)
    assert str(error.value).startswith(str(path))
    assert "get it again" in str(error.value) or "get the file again" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


OTHERS = {
    "another network": (
        "panns_cnn14",
        lambda arrays: None,
        r"is not the published network \('conv_block1.conv1.weight'",
    ),
    "shape": (
        "panns_mobilenet",
        lambda arrays: arrays.update({"fc_audioset.bias": np.zeros(521, np.float32)}),
        r"is another network \(scores_of_clip is \[\(1024, 527\), \(521,\)\]; expected",
    ),
    "axes": (
        "panns_mobilenet",
        lambda arrays: arrays.update({"fc1.weight": np.zeros(9)}),
        "is not the published network",
    ),
    "missing": ("panns_mobilenet", lambda arrays: arrays.pop("bn0.running_mean"), r"network \('bn0\.running_mean'\)"),
    "NaN": (
        "panns_mobilenet",
        lambda arrays: arrays.update({"bn0.bias": np.full(64, np.nan)}),
        "input_normalisation holds NaN or infinite values",
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_weights(what, arrays, tmp_path):
    name, damage, message = OTHERS[what]
    damaged = dict(arrays)
    damage(damaged)
    refused(checkpoint(tmp_path / FILES[name], damaged), message, name)


@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_files(legacy, arrays, tmp_path):
    path = checkpoint(tmp_path / "a.pth", arrays, legacy)
    whole = path.read_bytes()
    for size in (0, 9, 2000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(path, "is not the published network")


class Hostile:
    """What makes a folder where it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_pickle_is_not_run(legacy, tmp_path):
    trap, path = tmp_path / "trap", tmp_path / "a.pth"
    refused(checkpoint(path, {}, legacy, hostile=Hostile(trap)), "restricted reader refuses it")
    path.write_bytes(pickle.dumps({"model": Hostile(trap)}))
    refused(path, "is not the published network")
    assert not trap.exists()
    pickle.loads(pickle.dumps(Hostile(trap)))
    assert trap.exists()  # it would have been


def test_other_files(tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "other.pth"
    path.write_bytes(b"no network\n" * 99)
    refused(path, "is not the published network")
    with path.open("wb") as large:
        large.truncate(2**30)
    refused(path, "is too large for this network")


def test_more_than_the_file_holds_is_not_read(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    plain, packed = checkpoint(tmp_path / "plain.pth", {}), tmp_path / "packed.pth"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for record in source.infolist():
            target.writestr(record.filename, source.read(record))
        target.writestr("archive/data/0", bytes(2**24))
    views = tmp_path / "views.pth"
    torch.save({"model": {"bn0.weight": torch.zeros(1).expand(2**40)}}, views)
    refused(views, r"is not the published network \(its arrays are larger than the network's\)")
    monkeypatch.setattr(torch, "load", None)
    refused(packed, r"is not the published network \(its records are compressed, or overlap\)")


@pytest.mark.parametrize("name", FILES)
def test_no_such_network(name, tmp_path):
    with pytest.raises(InputError, match=rf"{FILES[name]}: does not exist; expected {FILES[name]}, or a folder"):
        NETWORKS[name].read(tmp_path)


def test_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "any.pth"
    path.write_bytes(b"any")
    message = r'cannot be read without the package torch; pip install "keras_audio_transfer\[torch\]"$'
    with pytest.raises(InputError, match=message) as error:
        NETWORKS["panns_cnn14"].read(path)
    assert str(error.value).startswith(str(path))
