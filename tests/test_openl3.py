"""OpenL3 from its published layout, and nothing else is taken for it. The trained files could not be had here."""

import gzip

import h5py
import keras
import librosa
import numpy as np
import pytest
import tensorflow as tf
from sounds import noise

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export.saved_model import write_model
from keras_audio_transfer.export.tflite import write_tflite
from keras_audio_transfer.model import load_model
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.pretrained import openl3, source
from keras_audio_transfer.pretrained.catalogue import CATALOGUE

NAME = "openl3_mel128_music"
NETWORK = openl3.SOURCES[NAME]
FILE = "openl3_audio_mel128_music.h5"
FILTERS = (64, 64, 128, 128, 256, 256, 512, 512)
TAPS = ("conv1_1", "conv1_2", "pool1", "conv2_1", "conv2_2", "pool2", "conv3_1", "conv3_2", "pool3", "conv4_1")
TAPS = (*TAPS, "conv4_2", "embedding_6144", "embedding")
SECOND, FRAMES, HOP, N_FFT = 48000, 199, 242, 2048


def random_layers():
    """Of each kind of layer in order, its weights, which keep the maps in range."""
    rng, convolutions, normalisations = np.random.default_rng(0), [], []

    def normalisation(n, mean, variance):
        moments = rng.normal(mean, 0.1, n), rng.uniform(0.5, 2, n) * variance
        values = rng.uniform(0.5, 1.5, n), rng.normal(0, 0.3, n), *moments
        kinds = "gamma", "beta", "moving_mean", "moving_variance"
        return {kind: value.astype(np.float32) for kind, value in zip(kinds, values, strict=True)}

    normalisations.append(normalisation(1, -40, 400))
    for channels, filters in zip((1, *FILTERS), FILTERS, strict=False):
        kernel = rng.normal(0, np.sqrt(2 / (9 * channels)), (3, 3, channels, filters))
        bias = rng.normal(0, 0.3, filters)
        convolutions.append({"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)})
        normalisations.append(normalisation(filters, 0, 1))
    return convolutions, normalisations[:-1]


def named(first=0):
    """As Keras 2 named them in a session that had made other layers before."""
    convolutions, normalisations = random_layers()

    def name(kind, number):
        return f"{kind}_{number}" if number else kind

    layers = {name("conv2d", first + i): arrays for i, arrays in enumerate(convolutions[:-1])}
    layers |= {name("batch_normalization", first + i): arrays for i, arrays in enumerate(normalisations)}
    return {**layers, "audio_embedding_layer": convolutions[-1]}


def write_h5(path, layers, root=""):
    with h5py.File(path, "w") as file:
        for empty in ("input_1", "melspectrogram", "activation", "max_pooling2d"):
            file.create_group(f"{root}{empty}")
        for layer, arrays in layers.items():
            for kind, array in arrays.items():
                file[f"{root}{layer}/{layer}/{kind}:0"] = array
    return path


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_h5(tmp_path_factory.mktemp("published") / FILE, named(first=8))


def decibels(window):
    """Of a second: frames begin at each hop, with zeros behind the second."""
    padded = np.pad(window.astype(np.float64), (0, N_FFT))
    frames = np.stack([padded[HOP * i : HOP * i + N_FFT] for i in range(FRAMES)])
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    mel = librosa.filters.mel(sr=SECOND, n_fft=N_FFT, n_mels=128)
    values = 10 * np.log10(np.maximum(np.abs(np.fft.rfft(frames * hann)) @ mel.T, 1e-10))
    return np.maximum(values - values.max(), -80)


def independent(patches):
    """OpenL3 as published, over bands and frames, in float64: every tap, over frames and bands."""
    convolutions, normalisations = random_layers()

    def normalised(x, arrays):
        gamma, beta, mean, variance = (arrays[kind].astype(np.float64) for kind in arrays)
        return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta

    def pooled(x, bands, frames):
        n, height, width, channels = x.shape
        x = x[:, : height // bands * bands, : width // frames * frames]
        return np.asarray(x).reshape(n, height // bands, bands, width // frames, frames, channels).max(axis=(2, 4))

    x, taps = normalised(np.transpose(patches, (0, 2, 1))[..., None], normalisations[0]), {}
    for number, arrays in enumerate(convolutions):
        block, second = divmod(number, 2)
        x = np.asarray(tf.nn.conv2d(x, arrays["kernel"].astype(np.float64), 1, "SAME")) + arrays["bias"]
        if number < 7:
            x = np.maximum(normalised(x, normalisations[number + 1]), 0)
        taps[f"conv{block + 1}_{second + 1}"] = x
        if second and block < 3:
            taps[f"pool{block + 1}"] = x = pooled(x, 2, 2)
    taps = {name: np.transpose(maps, (0, 2, 1, 3)) for name, maps in taps.items()}
    return {**taps, "embedding_6144": pooled(x, 4, 8).reshape(len(x), 6144), "embedding": x.max(axis=(1, 2))}


def sound(n_samples):
    """Louder and louder, so that windows have loudest cells of their own."""
    return np.linspace(0.01, 1, n_samples, dtype=np.float32) * noise(n_samples)


@pytest.mark.slow
def test_network_by_an_independent_computation(published):
    model = source.build(NETWORK, NETWORK.read(published))
    assert tuple(model.output) == TAPS
    maps = {tap: model.get_layer(tap).output for tap in TAPS}
    patches = model.get_layer("patches").output
    both = keras.Model(model.input, {"patches": patches, "maps": maps, "features": model.output})
    waveform = sound(SECOND + 1000)
    outputs = both(waveform[None])
    padded = np.pad(waveform, (0, 23000))
    windows = np.stack([decibels(padded[:SECOND]), decibels(padded[24000:])])
    np.testing.assert_allclose(outputs["patches"][..., 0], windows, rtol=0, atol=2e-3)
    for name, values in independent(windows).items():
        scale = np.abs(values).max()
        np.testing.assert_allclose(outputs["maps"][name], values, rtol=0, atol=1e-4 * scale, err_msg=name)
        features = values.reshape(-1, values.shape[-1]).mean(axis=0)
        np.testing.assert_allclose(outputs["features"][name][0], features, rtol=0, atol=1e-4 * scale, err_msg=name)
    short = sound(20000)  # no whole window
    filled = np.pad(short, (0, SECOND - 20000))[None]
    for name, features in model(short[None]).items():
        np.testing.assert_array_equal(features, model(filled)[name], err_msg=name)


def test_a_window_every_half_second():
    for network in openl3.SOURCES.values():
        config = network.config
        assert config.n_frames == FRAMES
        assert [config.patches_of(n) for n in (1, SECOND, SECOND + 1, 2 * SECOND)] == [1, 1, 2, 3]
    assert [*openl3.SOURCES] == [name for name in CATALOGUE if name.startswith("openl3_")]


def test_files_as_they_may_be(published, tmp_path):
    """Packed or not, in a folder or by themselves, with names that are numbered from anywhere."""
    expected = NETWORK.read(published.parent)
    convolutions, normalisations = random_layers()
    np.testing.assert_array_equal(expected["input_normalisation"][2], normalisations[0]["moving_mean"])
    np.testing.assert_array_equal(expected["conv2_1_normalisation"][0], normalisations[3]["gamma"])
    kernel = convolutions[7]["kernel"].transpose(1, 0, 2, 3)
    np.testing.assert_array_equal(expected["conv4_2"][0], kernel)
    packed = tmp_path / CATALOGUE[NAME].file
    packed.write_bytes(gzip.compress(published.read_bytes(), 1))
    others = [packed, tmp_path, write_h5(tmp_path / "renamed.h5", named()), published]
    others.append(write_h5(tmp_path / "whole.h5", named(first=95), root="model_weights/"))
    for path in others:
        weights = NETWORK.read(path)
        assert [*weights] == [*expected]
        for layer, arrays in expected.items():
            for got, array in zip(weights[layer], arrays, strict=True):
                np.testing.assert_array_equal(got, array)


def refused(path, message):
    """Refused in one line that begins with the path."""
    with pytest.raises(InputError, match=message) as error:
        NETWORK.read(path)
    assert str(error.value).startswith(str(path))
    assert str(error.value).endswith((CATALOGUE[NAME].url, "; get it again", "get the file again"))
    assert len(str(error.value).splitlines()) == 1


def small():
    """All layers, of other shapes."""
    return {layer: {kind: np.zeros(2) for kind in arrays} for layer, arrays in named().items()}


def damaged(layer, **arrays):
    layers = named()
    layers[layer] = {**layers[layer], **arrays}
    return layers


DAMAGES = {
    "shapes": (small, r"is another network \(input_normalisation is \[\(2,\), .*; expected \[\(1,\)"),
    "a layer less": (
        lambda: {layer: arrays for layer, arrays in small().items() if layer != "conv2d_3"},
        r"is not the published network \(6 convolutions, 8 normalisations and an audio_embedding_layer\)",
    ),
    "the other half, of pictures": (
        lambda: {layer: arrays for layer, arrays in small().items() if layer != "audio_embedding_layer"},
        r"is not the published network \(7 convolutions, 8 normalisations and no audio_embedding_layer\)",
    ),
    "an array less": (
        lambda: {**small(), "conv2d_2": {"kernel": np.zeros(2)}},
        r"is not the published network \(conv2d_2/bias is missing\)",
    ),
    "NaN": (lambda: damaged("conv2d", bias=np.full(64, np.nan)), "conv1_1_convolution holds NaN or infinite values"),
    "text": (lambda: damaged("conv2d", bias="bias"), "is not the published network"),
    "yamnet": (lambda: {"layer1": {"kernel": np.zeros((3, 3, 1, 32))}}, r"\(0 convolutions, 0 normalisations and no"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_other_networks(what, tmp_path):
    layers, message = DAMAGES[what]
    refused(write_h5(tmp_path / FILE, layers()), message)


def test_a_file_that_is_named_as_another(published, tmp_path):
    """Of all four, the weights have the same shapes."""
    for name in (
        "openl3_audio_mel256_music-v0_4_0.h5.gz",
        "openl3_audio_mel128_env.h5",
        "openl3_image_mel128_music.h5",
    ):
        path = tmp_path / name
        path.write_bytes(published.read_bytes())
        refused(path, r"is by its name another network than openl3_mel128_music, openl3_audio_mel128_music; get it")


def test_truncated_and_damaged_files(published, tmp_path):
    whole = published.read_bytes()
    packed = gzip.compress(whole, 1)
    for file, data in ((FILE, whole), (CATALOGUE[NAME].file, packed)):
        path = tmp_path / file
        for size in (0, 2, 9, len(data) // 2, len(data) - 1):
            path.write_bytes(data[:size])
            refused(path, "is not the published network")
    path.write_bytes(packed[:5000] + bytes(300) + packed[5300:])
    refused(path, "is not the published network")


def test_an_array_that_cannot_be_opened(tmp_path):
    """Of which h5py says so with a KeyError, and of other damage with an OSError or a RuntimeError."""
    path = write_h5(tmp_path / FILE, small())
    content = path.read_bytes()
    place = content.index(b"\x01\x00\x18\x00\x00\x00\x00\x00\x01\x01\x01") + 8  # of the version of a dataspace
    path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
    refused(path, "is not the published network")


def test_no_such_file(tmp_path):
    with pytest.raises(
        InputError, match=r"music-v0_4_0\.h5\.gz: does not exist; expected the file of https://.*a folder"
    ):
        NETWORK.read(tmp_path)
    path = tmp_path / "other.h5"
    with pytest.raises(InputError, match=r"other\.h5: does not exist"):
        NETWORK.read(path)
    path.write_bytes(b"no network\n" * 99)
    refused(path, "is not the published network")
    path.write_bytes(gzip.compress(bytes(2**27), 1))  # a few bytes that become many
    refused(path, rf"^{path}: is too large for this network; get it again from [^ ]+$")
    with path.open("wb") as large:
        large.truncate(2**27)
    refused(path, "is too large for this network")


def test_many_arrays_of_a_permitted_size(tmp_path):
    """A few bytes that become many, each within the bound."""
    with h5py.File(tmp_path / FILE, "w") as file:
        for number in range(8):
            file.create_dataset(f"array{number}", (2**22,), "float32", compression="gzip", fillvalue=0)
    refused(tmp_path / FILE, r"array\d is of shape \(4194304,\), too large beside the others")


def test_arrays_that_lie_in_another_file(tmp_path):
    """Of which the file's checksum says nothing."""
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    with h5py.File(tmp_path / FILE, "w") as file:
        file.create_dataset("array", (4,), "float32", external=[(tmp_path / "secret.bin", 0, 16)])
    refused(tmp_path / FILE, "array is in another file")
    layout = h5py.VirtualLayout((4,), "float32")
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "array", (4,))
    with h5py.File(tmp_path / FILE, "w") as file:
        file.create_virtual_dataset("array", layout)
    refused(tmp_path / FILE, "array is in another file")


def test_a_negative_variance(tmp_path):
    arrays = dict(NETWORK.read(write_h5(tmp_path / FILE, named())))
    arrays["conv2_1_normalisation"][3][0] = -1
    with pytest.raises(InputError, match=r"openl3.*: a variance of conv2_1_normalisation is negative; get the publ"):
        source.build(NETWORK, arrays)


@pytest.mark.slow
def test_a_model_folder(tmp_path):
    """Windows of a clip, windows at every time, and a TensorFlow Lite twin."""
    model = source.build(NETWORK, NETWORK.read(write_h5(tmp_path / FILE, named())))
    (tmp_path / "model").mkdir()
    write_model(tmp_path / "model", model, Card(NETWORK.config, network=NAME))
    loaded, waveform = load_model(tmp_path / "model"), sound(6 * SECOND)  # more windows than are computed at once
    features = loaded.features(waveform, SECOND)
    for name, expected in model(waveform[None]).items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(features[name], expected[0], rtol=0, atol=1e-4 * scale, err_msg=name)
    over_time = loaded.features(waveform, SECOND, hop_seconds=1.0)
    assert over_time["embedding"].shape == (6, 512)
    third = model(waveform[None, 5 * SECOND // 2 : 7 * SECOND // 2])  # the second around 3 s
    np.testing.assert_allclose(over_time["embedding"][3], third["embedding"][0], rtol=0, atol=1e-3)
    assert write_tflite(tmp_path / "model.tflite", model, NETWORK.config) <= 1e-3
