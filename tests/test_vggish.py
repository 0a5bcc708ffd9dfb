"""VGGish from its published layout, and nothing else is taken for it. The trained file could not be had here."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sounds import noise

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.pretrained import source, vggish
from keras_audio_transfer.pretrained.catalogue import CATALOGUE

FILE = CATALOGUE["vggish"].file
NETWORK = vggish.SOURCES["vggish"]
# Name in the checkpoint -> the kernel's shape; a pool is behind those of _POOLED.
KERNELS = {
    "conv1": (3, 3, 1, 64),
    "conv2": (3, 3, 64, 128),
    "conv3/conv3_1": (3, 3, 128, 256),
    "conv3/conv3_2": (3, 3, 256, 256),
    "conv4/conv4_1": (3, 3, 256, 512),
    "conv4/conv4_2": (3, 3, 512, 512),
    "fc1/fc1_1": (12288, 4096),
    "fc1/fc1_2": (4096, 4096),
    "fc2": (4096, 128),
}
POOLED = ("conv1", "conv2", "conv3/conv3_2", "conv4/conv4_2")
SIZES = {"pool1": 64, "pool2": 128, "pool3": 256, "pool4": 512, "fc1_1": 4096, "fc1_2": 4096, "embedding": 128}


def write_checkpoint(path, arrays):
    """As the original program's saver does: the first version of the format, which is one file."""
    tf.raw_ops.Save(filename=str(path), tensor_names=[*arrays], data=[*arrays.values()])
    return path


def random_arrays():
    """Weights that keep the maps in range, and a variable of training, which is not asked for."""
    rng, arrays = np.random.default_rng(0), {"global_step": np.int64(7)}
    for name, shape in KERNELS.items():
        kernel = np.resize(rng.standard_normal(1_000_003, np.float32), shape)  # drawing 72 million takes seconds
        arrays[f"vggish/{name}/weights"] = kernel * np.float32(np.sqrt(2 / np.prod(shape[:-1])))
        arrays[f"vggish/{name}/biases"] = rng.normal(0, 0.3, shape[-1]).astype(np.float32)
    return arrays


@pytest.fixture(scope="module")
def arrays():
    return random_arrays()


@pytest.fixture(scope="module")
def checkpoint(arrays, tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("published") / FILE, arrays)


def independent(patches, arrays):
    """VGG from the published arrays, in float64: every tap."""
    taps, x = {}, tf.cast(patches, tf.float64)
    for name in KERNELS:
        kernel, bias = (tf.cast(arrays[f"vggish/{name}/{kind}"], tf.float64) for kind in ("weights", "biases"))
        if name.startswith("conv"):
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME") + bias)
            if name in POOLED:
                batch, frames, bands, channels = x.shape
                x = tf.reduce_max(tf.reshape(x, (batch, frames // 2, 2, bands // 2, 2, channels)), (2, 4))
                taps[f"pool{len(taps) + 1}"] = x
        else:
            x = tf.reshape(x, (len(x), -1)) @ kernel + bias
            x = x if name == "fc2" else tf.nn.relu(x)
            taps["embedding" if name == "fc2" else name[4:]] = x
    return taps


@pytest.mark.slow
def test_network_by_an_independent_computation(arrays, checkpoint):
    model = source.build(NETWORK, NETWORK.read(checkpoint))
    assert {tap: output.shape[-1] for tap, output in model.output.items()} == SIZES
    assert [*model.output] == [*SIZES]
    maps = {tap: model.get_layer(tap).output for tap in SIZES}
    both = keras.Model(
        model.input, {"patches": model.get_layer("patches").output, "maps": maps, "features": model.output}
    )
    outputs = both(0.1 * noise(1, 40000))
    assert outputs["patches"].shape == (2, 96, 64, 1)  # of 248 frames
    expected = independent(outputs["patches"], arrays)
    for name, values in expected.items():
        scale = np.abs(values).max()
        np.testing.assert_allclose(outputs["maps"][name], values, rtol=0, atol=1e-5 * scale, err_msg=name)
        features = values.numpy().reshape(-1, values.shape[-1]).mean(axis=0)
        np.testing.assert_allclose(outputs["features"][name][0], features, rtol=0, atol=1e-5 * scale, err_msg=name)
    short = 0.1 * noise(1, 500)  # no whole patch
    padded = np.pad(short, ((0, 0), (0, 15600 - 500)))
    for name, features in model(short).items():
        np.testing.assert_array_equal(features, model(padded)[name], err_msg=name)


def test_whole_patches_side_by_side():
    config = NETWORK.config
    assert config.patch_samples == 15600  # 96 frames
    assert [config.patches_of(n) for n in (1, 15600, 15600 + 96 * 160 - 1, 15600 + 96 * 160)] == [1, 1, 1, 2]
    assert [config.zeros_behind(n) for n in (100, 15600, 20000)] == [15500, 0, 0]


@pytest.mark.slow  # 72 million weights; the small ones below are read in the same way
def test_a_folder_that_holds_it(arrays, checkpoint):
    weights = NETWORK.read(checkpoint.parent)
    np.testing.assert_array_equal(weights["conv3_2"][0], arrays["vggish/conv3/conv3_2/weights"])
    np.testing.assert_array_equal(weights["fc1_1"][1], arrays["vggish/fc1/fc1_1/biases"])
    np.testing.assert_array_equal(weights["embedding"][0], arrays["vggish/fc2/weights"])
    assert all(array.dtype == np.float32 for layer in weights.values() for array in layer)


def refused(path, message):
    """Refused in one line that begins with the path."""
    with pytest.raises(InputError, match=message) as error:
        NETWORK.read(path)
    assert str(error.value).startswith(str(path))
    assert str(error.value).endswith(("get it again from " + "https://storage.googleapis.com/audioset/" + FILE,
                                      "; get it again", "get the file again"))  # fmt: skip
    assert len(str(error.value).splitlines()) == 1


def small_arrays():
    """All names, of other shapes."""
    return {f"vggish/{name}/{kind}": np.zeros((2, 3), np.float32) for name in KERNELS for kind in ("weights", "biases")}


def test_other_networks(tmp_path):
    path = tmp_path / FILE
    refused(write_checkpoint(path, small_arrays()), r"is another network \(conv1 is \[\(2, 3\), \(2, 3\)\]; expected")
    without = {name: array for name, array in small_arrays().items() if name != "vggish/fc1/fc1_2/biases"}
    missing = r"is another network \(vggish/fc1/fc1_2/biases is missing\); expected vggish"
    refused(write_checkpoint(path, without), missing)
    musicnn = {"conv2d/kernel": np.zeros((7, 38, 1, 204), np.float32)}
    refused(write_checkpoint(path, musicnn), r"is another network \(vggish/conv1/weights is missing\)")
    texts = {**small_arrays(), "vggish/conv1/weights": np.array(["text"])}
    refused(write_checkpoint(path, texts), r"is not a whole checkpoint \(could not convert")
    kernel = {"vggish/conv1/weights": np.full(KERNELS["conv1"], np.nan), "vggish/conv1/biases": np.zeros(64)}
    refused(write_checkpoint(path, {**small_arrays(), **kernel}), "conv1 holds NaN or infinite values")


def test_truncated_and_damaged_files(tmp_path):
    path = write_checkpoint(tmp_path / FILE, {**small_arrays(), "vggish/conv2/weights": noise(100, 100)})
    whole = path.read_bytes()
    for size in (0, 9, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(path, r"vggish is not a whole checkpoint \(")
    for start in range(0, len(whole), len(whole) // 9):
        path.write_bytes(whole[:start] + bytes(300) + whole[start + 300 :])
        refused(path, "is not a whole checkpoint|is another network")


def test_no_such_network(tmp_path):
    with pytest.raises(InputError, match=rf"{FILE}: does not exist; expected the file of https://.*a folder"):
        NETWORK.read(tmp_path)
    path = tmp_path / "other.ckpt"
    with pytest.raises(InputError, match=r"other\.ckpt: does not exist"):
        NETWORK.read(path)
    path.write_bytes(b"no network\n" * 99)
    refused(path, "is not a whole checkpoint")
    with path.open("wb") as large:
        large.truncate(2**30)
    refused(path, "is too large for this network")
