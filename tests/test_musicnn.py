"""The published networks of musicnn give what their own program gives, and nothing else is taken for them."""

import os
import tempfile
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import some_quick

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.pretrained import musicnn, source

PUBLISHED = os.environ.get("KAT_TEST_PRETRAINED")
needs_published = pytest.mark.skipif(
    not PUBLISHED, reason=f"KAT_TEST_PRETRAINED does not name a folder with {musicnn.WHEEL} and reference.npz"
)
NAMES = [*musicnn.SOURCES]
CHANNELS = {
    "musicnn": {"timbral": 408, "temporal": 153, "cnn1": 64, "cnn2": 64, "cnn3": 64}
    | {"mean_pool": 753, "max_pool": 753, "penultimate": 200, "scores": 50},
    "vgg": {**{f"pool{i}": 128 for i in range(1, 6)}, "scores": 50},
}
LENGTH = 48_000  # 188 frames, of which one patch is made


@pytest.fixture(scope="module")
def reference():
    with np.load(Path(PUBLISHED) / "reference.npz") as file:
        return {name: file[name] for name in file.files}


@needs_published
@pytest.mark.parametrize("name", some_quick(NAMES, ["MTT_musicnn"]))
def test_published_networks(name, reference):
    network = musicnn.SOURCES[name]
    model = source.build(network, network.read(Path(PUBLISHED)))
    sounds = zip(reference["waveforms"], reference["num_samples"], strict=True)
    waveforms = np.stack([np.resize(samples[:length], LENGTH) for samples, length in sounds])
    taps = [tap for tap in model.output if tap != "scores"]
    # Also the maps, of which the features are the means: their maxima are known, too.
    maps = keras.Model(model.input, {tap: model.get_layer(tap).output for tap in taps} | {"features": model.output})
    outputs = maps((waveforms / 32768).astype(np.float32))
    for number in range(len(waveforms)):
        for tap in taps:
            expected, got = reference[f"{name}/{number}/{tap}"], outputs[tap][number].numpy()
            feature = outputs["features"][tap][number].numpy()
            if expected.ndim == 2:
                rows = got.reshape(-1, got.shape[-1])
                got = np.stack([rows.mean(0), rows.max(0)])
                assert_close(feature, expected[0])
            else:
                np.testing.assert_allclose(feature, got.reshape(-1, got.shape[-1]).mean(0), rtol=1e-5, atol=1e-6)
            assert_close(got.reshape(expected.shape), expected)
        assert_close(outputs["features"]["scores"][number].numpy(), reference[f"{name}/{number}/tags"])


def assert_close(got, expected):
    """To 1e-4 of the largest value: those near zero are differences of large ones."""
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["MTT_vgg", "MSD_musicnn"])
def test_random_weights_need_no_file(name):
    model = source.build(musicnn.SOURCES[name])
    assert {tap: output.shape[-1] for tap, output in model.output.items()} == CHANNELS[name[4:]]
    assert [*model.output] == [*CHANNELS[name[4:]]]
    outputs = model(np.random.default_rng(0).normal(0, 0.1, (2, 20_000)).astype(np.float32))
    for tap, channels in CHANNELS[name[4:]].items():
        assert outputs[tap].shape == (2, channels)
        assert np.isfinite(outputs[tap]).all()


def test_tags():
    assert NAMES == ["MTT_musicnn", "MSD_musicnn", "MTT_vgg", "MSD_vgg"]
    for name in NAMES:
        assert len(set(musicnn.TAGS[name])) == 50
    assert musicnn.TAGS["MTT_vgg"][:2] == ["guitar", "classical"]
    assert musicnn.TAGS["MSD_vgg"][:2] == ["rock", "pop"]


def checkpoint(folder, name="MTT_musicnn", damage=lambda arrays: None):
    """A checkpoint with random weights in the published layout; `damage` changes them first. Returns them."""
    rng, arrays = np.random.default_rng(0), {}
    shapes = musicnn._shapes(name)
    for layer, names in musicnn._variables(name).items():
        for variable, shape in zip(names, shapes[layer], strict=True):
            shape = (shape[0], shape[1], 1, shape[2]) if len(shape) == 3 else shape
            arrays[variable] = rng.uniform(0.1, 1, shape).astype(np.float32)
    damage(arrays)
    folder.mkdir(parents=True)
    tf.raw_ops.SaveV2(
        prefix=f"{folder}/", tensor_names=[*arrays], shape_and_slices=[""] * len(arrays), tensors=[*arrays.values()]
    )
    return arrays


def wheel(path, folder, name="MTT_musicnn"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("musicnn/extractor.py", "raise SystemExit")
        for file in musicnn.CHECKPOINT:
            archive.write(folder / file, f"musicnn/{name}/{file}")
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Root of an unpacked wheel, with random weights for MTT_musicnn."""
    root = tmp_path_factory.mktemp("whole")
    checkpoint(root / "musicnn" / "MTT_musicnn")
    return root


def refused(name, path):
    with pytest.raises(InputError) as error:
        musicnn.SOURCES[name].read(path)
    message = str(error.value)
    assert message.startswith(f"{path}")
    assert len(message.splitlines()) == 1
    assert any(remedy in message for remedy in ("; get it again", "; get the file again", "; give "))
    return message


def assert_same(weights, expected):
    assert weights.keys() == expected.keys()
    for layer, arrays in expected.items():
        for array, other in zip(arrays, weights[layer], strict=True):
            np.testing.assert_array_equal(array, other)


def test_the_layout_of_a_checkpoint(tmp_path):
    stored = checkpoint(tmp_path / "MTT_musicnn")
    weights = musicnn.SOURCES["MTT_musicnn"].read(tmp_path)
    np.testing.assert_array_equal(weights["timbral67_convolution"][0], stored["conv2d_1/kernel"])
    np.testing.assert_array_equal(weights["cnn1_convolution"][0], stored["conv2d_5/kernel"][:, :, 0])
    # There the maximum and the mean of one channel, here those of all.
    maxima, means = np.split(weights["pools_normalisation"][2], 2)
    np.testing.assert_array_equal(maxima, stored["batch_normalization_9/moving_mean"][::2])
    np.testing.assert_array_equal(means, stored["batch_normalization_9/moving_mean"][1::2])
    np.testing.assert_array_equal(weights["penultimate_dense"][0][753:], stored["dense/kernel"][1::2])
    model = source.build(musicnn.SOURCES["MTT_musicnn"], weights)
    np.testing.assert_array_equal(model.get_layer("scores_of_patches").get_weights()[1], stored["dense_1/bias"])


def test_a_wheel_and_a_folder_give_the_same(whole, tmp_path):
    read = musicnn.SOURCES["MTT_musicnn"].read
    expected = read(whole)
    folder = whole / "musicnn" / "MTT_musicnn"
    path = wheel(tmp_path / musicnn.WHEEL, folder)
    for place in (whole / "musicnn", folder, path, tmp_path):
        assert_same(read(place), expected)


@needs_published
def test_the_published_wheel_and_its_folder_give_the_same(tmp_path):
    with zipfile.ZipFile(Path(PUBLISHED) / musicnn.WHEEL) as archive:
        archive.extractall(tmp_path, [f"musicnn/{n}/{file}" for n in NAMES for file in musicnn.CHECKPOINT])
    for name in NAMES:
        assert_same(musicnn.SOURCES[name].read(tmp_path), musicnn.SOURCES[name].read(Path(PUBLISHED)))
    # The same shapes, but other tags.
    message = refused("MTT_musicnn", tmp_path / "musicnn" / "MSD_musicnn")
    assert "is MSD_musicnn; expected MTT_musicnn; give " in message
    assert "is another network (conv2d/kernel is missing)" in refused("MTT_musicnn", tmp_path / "musicnn" / "MTT_vgg")


def test_nothing_of_the_network(tmp_path, whole):
    message = refused("MTT_musicnn", tmp_path)
    assert "has no MTT_musicnn; expected musicnn-0.1.0-py3-none-any.whl, or musicnn/MTT_musicnn/ with .index" in message
    assert "has no MSD_vgg" in refused("MSD_vgg", whole)
    assert "has no MSD_vgg" in refused("MSD_vgg", tmp_path / "absent")


def test_a_wheel_with_something_large(whole, tmp_path, monkeypatch):
    path = wheel(tmp_path / "a.whl", whole / "musicnn" / "MTT_musicnn")
    monkeypatch.setattr(musicnn, "_LARGEST", 2**20)
    assert "MTT_musicnn is larger than as published" in refused("MTT_musicnn", path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_wheel_whose_compressed_files_are_damaged(compression, tmp_path):
    path = tmp_path / musicnn.WHEEL
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in musicnn.CHECKPOINT:
            archive.writestr(f"musicnn/MTT_musicnn/{file}", os.urandom(5000))
    content = path.read_bytes()
    for start in (60, 1000, 3000):
        path.write_bytes(content[:start] + bytes(range(200, 240)) + content[start + 40 :])
        assert "is not a whole wheel (" in refused("MTT_musicnn", path)


def test_a_damaged_wheel(whole, tmp_path):
    path = wheel(tmp_path / "a.whl", whole / "musicnn" / "MTT_musicnn")
    assert "has no MSD_vgg (There is no item named" in refused("MSD_vgg", path)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"no wheel"):
        path.write_bytes(damaged)
        assert "is not a whole wheel (" in refused("MTT_musicnn", path)
    path.write_bytes(content[:100_000] + bytes(1000) + content[101_000:])
    assert "is not a whole wheel (Bad CRC-32" in refused("MTT_musicnn", path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.txt", "text")
    assert "has no MTT_musicnn" in refused("MTT_musicnn", path)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        (".index", lambda content: b""),
        (".index", lambda content: content[:-200]),
        (".index", lambda content: bytes(len(content))),
        (".index", lambda content: content[:100] + bytes(100) + content[200:]),
        (".data-00000-of-00001", lambda content: content[:-200]),
        (".data-00000-of-00001", lambda content: content[:-200] + bytes(200)),
    ],
)
def test_a_damaged_checkpoint(file, damage, whole, tmp_path):
    folder = tmp_path / "MTT_musicnn"
    folder.mkdir()
    for part in musicnn.CHECKPOINT:
        content = (whole / "musicnn" / "MTT_musicnn" / part).read_bytes()
        (folder / part).write_bytes(damage(content) if part == file else content)
    assert "is not a whole checkpoint (" in refused("MTT_musicnn", folder)
    path = wheel(tmp_path / "a.whl", folder)
    message = refused("MTT_musicnn", path).removeprefix(str(path))
    assert message.startswith(": MTT_musicnn is not a whole checkpoint (")
    assert tempfile.gettempdir() not in message  # where the wheel's files were for a moment


@pytest.mark.parametrize(
    ("variable", "change", "message"),
    [
        ("conv2d/kernel", lambda array: array[:6], "is another network (timbral38_convolution is [(6, 38, 1, 204)"),
        ("conv2d_5/kernel", lambda array: np.repeat(array, 2, axis=2), "is another network (cannot select an axis"),
        ("batch_normalization_9/beta", lambda array: array[:-1], "is another network (cannot reshape"),
        ("batch_normalization_9/beta", lambda array: array[0], "is another network (cannot reshape"),
        ("dense/kernel", lambda array: array[:, 0], "is another network (penultimate_dense is [(1506,)"),
        ("dense_1/bias", lambda array: array * np.nan, "scores_of_patches holds NaN"),
        ("dense_1/bias", lambda array: np.array(["text"]), "is not a whole checkpoint ("),
    ],
)
def test_other_weights(variable, change, message, tmp_path):
    folder = tmp_path / "MTT_musicnn"
    checkpoint(folder, damage=lambda arrays: arrays.update({variable: change(arrays[variable])}))
    assert message in refused("MTT_musicnn", folder)


def test_a_checkpoint_of_another_network(tmp_path):
    checkpoint(tmp_path / "one", name="MTT_vgg")
    assert "is another network (conv2d/kernel is missing)" in refused("MTT_musicnn", tmp_path / "one")
    checkpoint(tmp_path / "two", damage=lambda arrays: arrays.pop("dense/bias"))
    assert "is another network (dense/bias is missing)" in refused("MTT_musicnn", tmp_path / "two")
