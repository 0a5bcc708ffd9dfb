"""The published weights give what an independent float64 computation of the published networks gives."""

import hashlib
import json
import os
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import soundfile

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.extractor import calibrate
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.pretrained import choi2017

PUBLISHED = os.environ.get("KAT_TEST_CHOI2017")
needs_published = pytest.mark.skipif(
    not PUBLISHED, reason="KAT_TEST_CHOI2017 does not name a folder with transfer_learning_music/ and reference.npz"
)
LAYERS = [f"layer{i}" for i in range(1, 6)]


def repository():
    return Path(PUBLISHED) / "transfer_learning_music"


@pytest.fixture(scope="module")
def reference():
    with np.load(Path(PUBLISHED) / "reference.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def waveforms(reference):
    return (reference["waveforms"] / 32768).astype(np.float32)


def in_batches(model, waveforms, size):
    outputs = [model(waveforms[i : i + size]) for i in range(0, len(waveforms), size)]
    return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}


@needs_published
@pytest.mark.parametrize(("form", "batch"), [("v1_published", 8), ("v2", 1)])
def test_published_networks(form, batch, reference, waveforms):
    version = form[:2]
    model = choi2017.build(form, choi2017.read_weights(repository(), version))
    outputs = in_batches(model, waveforms, batch)
    for name in LAYERS:
        np.testing.assert_allclose(outputs[name], reference[f"{version}_{name}"], rtol=0, atol=2e-3)
    np.testing.assert_allclose(outputs["scores"], reference[f"{version}_tags"], rtol=0, atol=1e-3)
    decibels = keras.Model(model.input, {"decibels": model.get_layer("power_to_decibel").output})
    got = in_batches(decibels, waveforms if batch > 1 else waveforms[:2], batch)["decibels"][:2, :, :, 0]
    np.testing.assert_allclose(got, reference[f"{version}_melgram_db"], rtol=0, atol=0.02)


@pytest.mark.slow
@needs_published
def test_version_1_as_published_through_the_scripts(run_script, reference, waveforms, tmp_path):
    """The clips of one batch are taken together, in the order they are named."""
    run = run_script("import_choi2017", repository(), "--weights", "v1", "--output-dir", tmp_path / "v1")
    assert run.returncode == 0, run.stderr
    card = json.loads((tmp_path / "v1" / "card.json").read_text())
    assert card["batch_clips"] == 256
    assert card["labels"] == choi2017.TAGS
    paths = [tmp_path / f"{number}.wav" for number in range(len(waveforms))]
    for path, samples in zip(paths, reference["waveforms"], strict=True):
        soundfile.write(path, samples, 12000, subtype="PCM_16")
    run = run_script("extract", tmp_path / "v1", *paths, "--output", tmp_path / "features.npz")
    assert run.returncode == 0, run.stderr
    features = FeatureTable.load(tmp_path / "features.npz")
    for name in LAYERS:
        np.testing.assert_allclose(features.layers[name], reference[f"v1_{name}"], rtol=0, atol=2e-3)


@pytest.mark.slow
@needs_published
def test_version_1_calibrated_is_an_ordinary_extractor(run_script, tmp_path):
    arguments = ("--dataset", "synthetic", "--limit", 3, "--output-dir", tmp_path / "v1")
    run = run_script("import_choi2017", repository(), "--weights", "v1", *arguments)
    assert run.returncode == 0, run.stderr
    card = json.loads((tmp_path / "v1" / "card.json").read_text())
    assert "batch_clips" not in card
    assert card["calibration"] == {"dataset": "synthetic", "clips": 3}
    model = keras.models.load_model(tmp_path / "v1" / "model.keras")
    clips = np.random.default_rng(0).normal(0, 0.1, (2, 30000)).astype(np.float32)
    together, alone = model(clips), model(clips[:1])
    for name in (*LAYERS, "scores"):
        np.testing.assert_allclose(together[name][:1], alone[name], rtol=1e-4, atol=1e-4)


def random_weights(seed=0):
    """Weights of the right shapes, with deviations that keep the maps in range."""
    rng = np.random.default_rng(seed)
    weights = {}
    for i in range(1, 6):
        channels = 1 if i == 1 else 32
        weights[f"layer{i}_convolution"] = [rng.normal(0, 0.1, (3, 3, channels, 32)), rng.normal(0, 0.1, 32)]
        weights[f"layer{i}_normalisation"] = [rng.uniform(0.5, 1.5, 32), rng.normal(0, 1, 32), *np.eye(2, 32)]
    return {**weights, "scores": [rng.normal(0, 1, (32, 50)), np.zeros(50)]}


@pytest.mark.slow
def test_calibration_gives_the_statistics_of_one_batch():
    """Calibrated on some clips, a network gives what one that takes the statistics of its batch gives for them."""
    clips = np.random.default_rng(1).normal(0, [[0.1], [0.3], [0.01]], (3, 24000)).astype(np.float32)
    clips[1, 5000:] = 0
    calibrated, published = (choi2017.build(form, random_weights()) for form in ("v1", "v1_published"))
    calibrate(calibrated, [clips[:2], clips[2:]])
    published.get_layer("power_to_decibel").maximum = "clip"  # the statistics are what is compared
    expected = published(clips)
    for name, values in calibrated(clips).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-3, atol=1e-3, err_msg=name)


def test_a_repository_without_the_file(tmp_path):
    with pytest.raises(InputError, match=r"weights_theano.hdf5: does not exist; expected a copy of keunwoochoi/"):
        choi2017.read_weights(tmp_path, "v1")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_not_the_published_network(tmp_path, version):
    path = tmp_path / choi2017.FILES[version]
    path.parent.mkdir()
    path.write_bytes(b"not HDF5")
    with pytest.raises(InputError, match=r"hdf5: is not the published network"):
        choi2017.read_weights(tmp_path, version)
    with h5py.File(path, "w") as file:
        file["conv2d_1"] = np.zeros(3)
    with pytest.raises(InputError, match=r"hdf5: is not the published network"):
        choi2017.read_weights(tmp_path, version)


def write_weights(root, version, damage=None):
    """A file of the authors' layout, where `damage`, if any, stands instead of the first kernel."""
    path = root / choi2017.FILES[version]
    path.parent.mkdir(parents=True)
    names = choi2017._names_v1() if version == "v1" else choi2017._names_v2()
    with h5py.File(path, "w") as file:
        for layer, (*kernel, last) in random_weights().items():
            if version == "v1" and layer.endswith("_convolution"):
                kernel = [kernel[0].transpose(3, 2, 1, 0)]
            for name, array in zip(names[layer], [*kernel, last], strict=True):
                file[name] = array
        if damage is not None:
            name = names["layer1_convolution"][0]
            kernel = file.pop(name)[:]
            damage(file, name, kernel)


DAMAGES = {
    "fewer dimensions": (lambda file, name, kernel: file.update({name: kernel[0]}), "is not the published network"),
    "more dimensions": (lambda file, name, kernel: file.update({name: kernel[None]}), "is (not the pub|another netw)"),
    "other shape": (
        lambda file, name, kernel: file.update({name: np.repeat(kernel, 2, axis=2)}),
        r"is another network \(layer1_convolution is .*; expected \[\(3, 3, 1, 32\), \(32,\)\]\)",
    ),
    "text": (lambda file, name, kernel: file.update({name: "kernel"}), "is not the published network"),
    "a group": (lambda file, name, kernel: file.create_group(f"{name}/inner"), "is not the published network"),
    "an empty group": (lambda file, name, kernel: file.create_group(name), "is not the published network"),
    "NaN": (lambda file, name, kernel: file.update({name: kernel * np.nan}), "layer1_convolution holds NaN"),
    "infinity": (lambda file, name, kernel: file.update({name: kernel + np.inf}), "layer1_convolution holds NaN"),
}


@pytest.mark.parametrize(("version", "form"), [("v1", "v1_published"), ("v2", "v2")])
def test_weights_that_are_not_damaged(version, form, tmp_path):
    write_weights(tmp_path, version)
    choi2017.build(form, choi2017.read_weights(tmp_path, version))


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("what", DAMAGES)
def test_damaged_weights(version, what, tmp_path):
    damage, message = DAMAGES[what]
    write_weights(tmp_path, version, damage)
    with pytest.raises(InputError, match=rf"\.hdf5: {message}.*; copy the file again from https://raw") as error:
        choi2017.read_weights(tmp_path, version)
    assert str(error.value).startswith(str(tmp_path / choi2017.FILES[version]))


def test_of_damaged_weights_nothing_is_written(run_script, tmp_path):
    write_weights(tmp_path / "repository", "v1", DAMAGES["NaN"][0])
    arguments = ("--weights", "v1", "--output-dir", tmp_path / "deeper" / "model")
    run = run_script("import_choi2017", tmp_path / "repository", *arguments)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert "weights_theano.hdf5: layer1_convolution holds NaN" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["repository"]


@needs_published
@pytest.mark.parametrize(
    ("arguments", "begin"),
    [
        (["--weights", "v2", "--dataset", "synthetic"], "--dataset: v2 needs no clips to calibrate on"),
        (["--weights", "v1", "--dataset", "synthetic", "--limit", "501"], "--limit: 501 is not allowed; expected 1 to"),
    ],
)
def test_import_refused(run_script, tmp_path, arguments, begin):
    run = run_script("import_choi2017", repository(), *arguments, "--output-dir", tmp_path / "model")
    assert run.returncode == 2
    assert run.stderr.startswith(f"import_choi2017.py: error: {begin}")
    assert [*tmp_path.iterdir()] == []


def download(part, bar, url, path, _):
    Path(path).write_bytes(b"something")


def test_a_download_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_audio_transfer.download._download", download)
    monkeypatch.setitem(choi2017._CHECKSUMS, "v2", f"sha256:{hashlib.sha256(b'something').hexdigest()}")
    choi2017.download_weights(tmp_path / "mine", "v2", progress=False)
    assert (tmp_path / "mine" / choi2017.FILES["v2"]).read_bytes() == b"something"


@pytest.mark.parametrize("folder", ["", "keras2_model"])
def test_of_a_download_with_another_checksum_nothing_is_kept(folder, tmp_path, monkeypatch):
    (tmp_path / folder).mkdir(exist_ok=True)
    monkeypatch.setattr("keras_audio_transfer.download._download", download)
    with pytest.raises(InputError, match=r"weights: .*model_best.hdf5 does not have the checksum sha256:.*nothing was"):
        choi2017.download_weights(tmp_path, "v2", progress=False)
    assert [*tmp_path.rglob("*")] == ([tmp_path / folder] if folder else [])


def test_of_a_download_without_a_network_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("keras_audio_transfer.download.WAITS", ())
    monkeypatch.setattr(choi2017, "_URL", "http://127.0.0.1:9")
    with pytest.raises(InputError) as error:
        choi2017.download_weights(tmp_path / "mine", "v2", progress=False)
    assert str(error.value) == (
        "weights: http://127.0.0.1:9/keras2_model/model_best.hdf5 could not be downloaded (ConnectionError); "
        "check the network, or get it by hand"
    )
    assert [*tmp_path.iterdir()] == []
