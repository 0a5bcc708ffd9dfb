"""Both published YAMNets give what their own programs give, and nothing else is taken for them."""

import os
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.pretrained import source, yamnet
from keras_audio_transfer.pretrained.catalogue import CATALOGUE
from keras_audio_transfer.pretrained.yamnet_labels import LABELS

PUBLISHED = os.environ.get("KAT_TEST_PRETRAINED")
needs_published = pytest.mark.skipif(
    not PUBLISHED, reason="KAT_TEST_PRETRAINED does not name a folder with yamnet.tflite and reference.npz"
)
STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
FILTERS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
TAPS = [f"layer{i}" for i in range(1, 15)]
CONVOLUTION, DEPTHWISE, DENSE = 3, 4, 9  # in a TensorFlow Lite file


@needs_published
def test_published_8_bit_network():
    """The reference computed in 8 bits and left the last, incomplete patch out."""
    network = yamnet.SOURCES["yamnet"]
    model = source.build(network, network.read(Path(PUBLISHED)))
    inner = {"patches": "patches", "embedding": "embedding_of_patches", "scores": "scores_of_patches"}
    inner = keras.Model(model.input, {name: model.get_layer(layer).output for name, layer in inner.items()})
    with np.load(Path(PUBLISHED) / "reference.npz") as reference:
        waveforms, lengths = reference["waveforms"], reference["num_samples"]
        for number, length in enumerate(lengths):
            patches, embedding, scores = (
                reference[f"yamnet/{number}/{name}"] for name in ("spectrogram", "embedding", "scores")
            )
            whole = 15600 + (length - 15600) // 7680 * 7680
            outputs = inner((waveforms[number : number + 1, :whole] / 32768).astype(np.float32))
            # 1e-3 only where a chord leaves bands nearly empty, down to the logarithm's offset; elsewhere 5e-5.
            np.testing.assert_allclose(outputs["patches"].numpy()[..., 0], patches, rtol=0, atol=2e-3)
            for got, expected in zip(outputs["embedding"].numpy(), embedding, strict=True):
                assert np.corrcoef(got, expected)[0, 1] > 0.998
            np.testing.assert_allclose(outputs["scores"], scores, rtol=0, atol=0.06)
            got = outputs["scores"].numpy()
            assert got.mean(axis=0).argmax() == scores.mean(axis=0).argmax()
            for row, expected in zip(got, scores, strict=True):
                second, first = np.sort(expected)[-2:]
                if first - second > 0.1:
                    assert row.argmax() == expected.argmax()


@needs_published
def test_labels_are_those_in_the_published_file():
    with zipfile.ZipFile(Path(PUBLISHED) / "yamnet.tflite") as file:
        assert file.read("yamnet_label_list.txt").decode().splitlines() == [*LABELS]
    assert all(network.labels is LABELS for network in yamnet.SOURCES.values())


def random_arrays(seed=0):
    """Published name -> weights that keep the maps in range; the dense layer's last."""
    rng, channels, arrays = np.random.default_rng(seed), 1, {}

    def add(name, shape, fan_in, outputs, kind="kernel"):
        arrays[f"{name}/{kind}"] = rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
        arrays[f"{name}/bn/beta"] = rng.normal(0, 0.3, outputs).astype(np.float32)
        arrays[f"{name}/bn/moving_mean"] = rng.normal(0, 0.1, outputs).astype(np.float32)
        arrays[f"{name}/bn/moving_variance"] = rng.uniform(0.5, 2, outputs).astype(np.float32)

    for tap, filters in zip(TAPS, FILTERS, strict=True):
        if tap == "layer1":
            add("layer1/conv", (3, 3, 1, filters), 9, filters)
        else:
            add(f"{tap}/depthwise_conv", (3, 3, channels, 1), 9, channels, "depthwise_kernel")
            add(f"{tap}/pointwise_conv", (1, 1, channels, filters), channels, filters)
        channels = filters
    arrays["dense/kernel"] = rng.normal(0, 0.03, (channels, 521)).astype(np.float32)
    arrays["dense/bias"] = rng.normal(0, 1, 521).astype(np.float32)
    return arrays


@pytest.fixture(scope="module")
def arrays():
    return random_arrays()


def write_h5(path, arrays, grouped=True):
    """As Keras 2 saves weights: a group a layer, in it the weight's name, which begins with the layer's."""
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            layer = name.rpartition("/")[0]
            file[f"{layer}/{name}:0" if grouped else f"{name}:0"] = array
    return path


def independent(patches, arrays):
    """MobileNet v1 from the published arrays, in float64: every tap and the scores."""
    taps, x = {}, tf.cast(patches, tf.float64)
    arrays = {name: tf.cast(array, tf.float64) for name, array in arrays.items()}

    def normalised(x, name):
        mean, variance, beta = (arrays[f"{name}/bn/{kind}"] for kind in ("moving_mean", "moving_variance", "beta"))
        return tf.nn.relu((x - mean) / tf.sqrt(variance + 1e-4) + beta)

    for tap, stride in zip(TAPS, STRIDES, strict=True):
        strides = [1, stride, stride, 1]
        if tap == "layer1":
            x = normalised(tf.nn.conv2d(x, arrays["layer1/conv/kernel"], strides, "SAME"), "layer1/conv")
        else:
            kernel = arrays[f"{tap}/depthwise_conv/depthwise_kernel"]
            x = normalised(tf.nn.depthwise_conv2d(x, kernel, strides, "SAME"), f"{tap}/depthwise_conv")
            x = tf.einsum("bfmc,cd->bfmd", x, arrays[f"{tap}/pointwise_conv/kernel"][0, 0])
            x = normalised(x, f"{tap}/pointwise_conv")
        taps[tap] = x
    logits = tf.reduce_mean(x, (1, 2)) @ arrays["dense/kernel"] + arrays["dense/bias"]
    return {**taps, "scores": tf.sigmoid(logits)}


def test_float_network_by_an_independent_computation(arrays, tmp_path):
    network = yamnet.SOURCES["yamnet_float"]
    weights = network.read(write_h5(tmp_path / "yamnet.h5", arrays))
    model = source.build(network, weights)
    maps = {tap: model.get_layer(tap).output for tap in TAPS}
    maps["scores"] = model.get_layer("scores_of_patches").output
    both = keras.Model(
        model.input, {"patches": model.get_layer("patches").output, "maps": maps, "features": model.output}
    )
    outputs = both(np.random.default_rng(1).normal(0, 0.1, (1, 20000)).astype(np.float32))
    assert outputs["patches"].shape == (2, 96, 64, 1)
    expected = independent(outputs["patches"], arrays)
    assert [*model.output] == [*expected] == [*TAPS, "scores"]
    for name, values in expected.items():
        scale = np.abs(values).max()
        np.testing.assert_allclose(outputs["maps"][name], values, rtol=0, atol=1e-4 * scale, err_msg=name)
        features = values.numpy().reshape(-1, values.shape[-1]).mean(axis=0)
        np.testing.assert_allclose(outputs["features"][name][0], features, rtol=1e-4, atol=1e-5, err_msg=name)


def test_float_file_without_groups(arrays, tmp_path):
    grouped = yamnet.read_float(write_h5(tmp_path / "a.h5", arrays))
    renamed = {name.replace("dense/", "logits/"): array for name, array in arrays.items()}
    flat = yamnet.read_float(write_h5(tmp_path / "b.h5", renamed, grouped=False))
    for layer in grouped:
        assert all(np.array_equal(a, b) for a, b in zip(grouped[layer], flat[layer], strict=True))


DAMAGES = {
    "missing": (lambda arrays: arrays.pop("layer9/pointwise_conv/kernel"), "is not the published network .*0 arrays"),
    "two heads": (lambda arrays: arrays.update({"other/bias": arrays["dense/bias"]}), "is not the published network"),
    "shape": (lambda arrays: arrays.update({"dense/bias": np.zeros(527)}), r"another network \(scores_of_patches is"),
    "NaN": (lambda arrays: arrays.update({"layer2/depthwise_conv/bn/beta": np.full(32, np.nan)}), "layer2_.* NaN"),
    "text": (lambda arrays: arrays.update({"dense/bias": "bias"}), "is not the published network"),
}


def refused(read, path, message):
    """Refused in one line that begins with the path."""
    with pytest.raises(InputError, match=message) as error:
        read(path)
    assert str(error.value).startswith(str(path))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("what", DAMAGES)
def test_damaged_float_file(what, arrays, tmp_path):
    damage, message = DAMAGES[what]
    damaged = dict(arrays)
    damage(damaged)
    refused(yamnet.read_float, write_h5(tmp_path / "yamnet.h5", damaged), message)


def test_truncated_float_file(arrays, tmp_path):
    path = write_h5(tmp_path / "yamnet.h5", arrays)
    whole = path.read_bytes()
    for size in (9, 2000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(yamnet.read_float, path, "is not the published network")


def random_operations(seed=0):
    """Of each layer of a TensorFlow Lite file: kind, 8-bit kernel, its scales, 32-bit bias, its scales."""
    rng, channels, operations = np.random.default_rng(seed), 1, []

    def add(kind, shape, outputs, scales):
        kernel, bias = rng.integers(-127, 128, shape, np.int8), rng.integers(-9999, 9999, outputs, np.int32)
        operations.append([kind, kernel, rng.uniform(0.001, 0.01, scales), bias, rng.uniform(1e-5, 1e-4, scales)])

    for filters in FILTERS:
        if channels == 1:
            add(CONVOLUTION, (filters, 3, 3, 1), filters, filters)
        else:
            add(DEPTHWISE, (1, 3, 3, channels), channels, channels)
            add(CONVOLUTION, (filters, 1, 1, channels), filters, filters)
        channels = filters
    add(DENSE, (521, channels), 521, 1)
    return operations


def write_lite(path, operations, zero_point=0):
    """What is read of a TensorFlow Lite file, and a dense layer in float32 in front, as the published one's mels."""
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    graph, model = schema.SubGraphT(), schema.ModelT()
    model.subgraphs, model.buffers, graph.tensors, graph.operators = [graph], [], [], []
    model.operatorCodes = []
    for kind in (CONVOLUTION, DEPTHWISE, DENSE):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        model.operatorCodes.append(code)

    def add(array, scales, number_type):
        tensor, buffer, quantisation = schema.TensorT(), schema.BufferT(), schema.QuantizationParametersT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        tensor.shape, tensor.type, tensor.buffer = [*array.shape], number_type, len(model.buffers)
        quantisation.scale, quantisation.zeroPoint = [*map(float, scales)], [zero_point] * len(scales)
        tensor.quantization = quantisation
        model.buffers.append(buffer)
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    in_float = [DENSE, np.zeros((64, 257), np.float32), [], np.zeros(64, np.float32), []]
    for kind, kernel, scales, bias, bias_scales in [in_float, *operations]:
        operation = schema.OperatorT()
        operation.opcodeIndex = (CONVOLUTION, DEPTHWISE, DENSE).index(kind)
        kernel_type, bias_type = (0, 0) if kernel.dtype == np.float32 else (9, 2)
        operation.inputs = [0, add(kernel, scales, kernel_type), add(bias, bias_scales, bias_type)]
        graph.operators.append(operation)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    return path


def test_8_bit_file_is_dequantised(tmp_path):
    operations = random_operations()
    weights = yamnet.read_lite(write_lite(tmp_path / "yamnet.tflite", operations))
    for name, number, axes, by_channel in (
        ("layer1", 0, (1, 2, 3, 0), (-1, 1, 1, 1)),
        ("layer2_depthwise", 1, (1, 2, 3, 0), (-1,)),
        ("layer14_pointwise", -2, (1, 2, 3, 0), (-1, 1, 1, 1)),
        ("scores_of_patches", -1, (1, 0), (-1, 1)),
    ):
        _, kernel, scales, bias, bias_scales = operations[number]
        expected = (kernel * scales.reshape(by_channel)).transpose(axes)
        np.testing.assert_allclose(weights["layer1_convolution" if number == 0 else name][0], expected, rtol=1e-6)
        biases = weights[name][1] if number == -1 else weights[f"{name}_normalisation"][0]
        np.testing.assert_allclose(biases, bias * bias_scales, rtol=1e-6)
    normalisation, maps = yamnet._normalisation("any"), np.random.default_rng(0).normal(0, 1, (1, 3, 2, 32))
    normalisation.build(maps.shape)
    normalisation.set_weights([np.zeros(32), *weights["layer1_normalisation"][1:]])
    np.testing.assert_array_equal(normalisation(maps.astype(np.float32)), maps.astype(np.float32))


def test_activations_of_the_8_bit_network_end_at_6():
    patches = keras.Input((96, 64, 1))
    activations = {
        name: {layer.max_value for layer in keras.Model(patches, network.maps(patches)).layers if "ReLU" in str(layer)}
        for name, network in yamnet.SOURCES.items()
    }
    assert activations == {"yamnet": {6.0}, "yamnet_float": {None}}


def changed(number, **kinds):
    operations = random_operations()
    for column, value in kinds.items():
        operations[number][["kind", "kernel", "scales", "bias", "bias_scales"].index(column)] = value
    return operations


DAMAGED_LITE = {
    "another network": (lambda: random_operations()[:-3], "is another network"),
    "none": (lambda: [], "is another network"),
    "shape": (
        lambda: changed(-1, kernel=np.zeros((527, 1024), np.int8), bias=np.zeros(527, np.int32)),
        r"is another network \(scores_of_patches is",
    ),
    "NaN": (lambda: changed(3, scales=np.full(64, np.nan)), "layer3_depthwise holds NaN"),
    "too few scales": (lambda: changed(0, scales=np.ones(31)), "is not the published network"),
    "no scales": (lambda: changed(0, scales=[]), "is not the published network"),
}


@pytest.mark.parametrize("what", DAMAGED_LITE)
def test_damaged_8_bit_file(what, tmp_path):
    operations, message = DAMAGED_LITE[what]
    refused(yamnet.read_lite, write_lite(tmp_path / "yamnet.tflite", operations()), message)


def test_truncated_8_bit_file(tmp_path):
    path = write_lite(tmp_path / "yamnet.tflite", random_operations())
    refused(yamnet.read_lite, write_lite(tmp_path / "zero.tflite", random_operations(), 3), "is not the published net")
    whole = path.read_bytes()
    for size in (8, 50, 1000, 5000, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:size])
        refused(yamnet.read_lite, path, "is not the published network")


@pytest.mark.parametrize("name", yamnet.SOURCES)
def test_no_such_network(name, tmp_path):
    read, file = yamnet.SOURCES[name].read, CATALOGUE[name].file
    with pytest.raises(InputError, match=rf"{file}: does not exist; expected the file of https://"):
        read(tmp_path)
    refused(read, tmp_path / "other.h5", "does not exist")
    for content in (b"", b"no network\n" * 9):
        (tmp_path / file).write_bytes(content)
        refused(read, tmp_path / file, r"is not (an HDF5|a TensorFlow Lite) file; get it again from https://")
    with (tmp_path / file).open("wb") as large:
        large.truncate(2**26)
    refused(read, tmp_path / file, "is too large")


def test_the_other_network(arrays, tmp_path):
    in_float, in_8_bits = tmp_path / "yamnet.h5", tmp_path / "yamnet.tflite"
    refused(yamnet.read_lite, write_h5(in_float, arrays), "is a Keras file.*import it as yamnet_float$")
    refused(yamnet.read_float, write_lite(in_8_bits, []), "is a TensorFlow Lite file.*import it as yamnet$")
