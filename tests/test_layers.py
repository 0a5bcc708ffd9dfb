"""What holds for every layer; then, layer by layer, that it equals Keras and NumPy where these are defined."""

import ast
import inspect
import json
from pathlib import Path

import forked
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import some_quick

from keras_audio_transfer import layers
from keras_audio_transfer.config import FRAME_PADDINGS, AudioConfig
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.layers import (
    ClampedMaxPooling2D,
    FramePadding,
    GlobalMeanStdPooling2D,
    MultiscaleDilatedConv2D,
)

PACKAGE = Path(layers.__file__).parent
PATCHES = AudioConfig(
    8, 1.0, n_fft=8, hop_length=3, n_mels=1, mel_f_min=0.0, mel_f_max=4.0, patch_frames=9, patch_hop=4
)
MAPS, FREE_MAPS = (2, 12, 9, 3), (None, None, None, 3)
# Name: constructor's arguments; shape of the input; what of it has to be known; range of the input.
CASES = {
    "ApplyHtkFilterbank": (
        {"filterbank_kwargs": {"n_freq": 9, "n_mels": 4, "sample_rate": 8000, "f_min": 0.0, "f_max": 4000.0}},
        *((2, 12, 9, 1), (None, None, 9, 1), 1),
    ),
    "BatchStatisticsNormalization": ({"epsilon": 1e-2}, MAPS, FREE_MAPS, 10),
    "ChannelScaling": ({}, (2, 5), (None, 5), 10),
    "ClampedMaxPooling2D": ({"pool_size": (20, 4)}, MAPS, FREE_MAPS, 10),
    "ClipStandardisation": ({}, MAPS, (None,) * 4, 80),
    "Familiarity": ({"n_classes": 2, "n_components": 2, "n_clips": 3}, (2, 5), (None, 5), 1),
    "FramePadding": ({"n_fft": 8, "hop_length": 3, "frame_padding": "theano_half"}, (2, 31, 1), (None, None, 1), 1),
    "GlobalMeanStdPooling2D": ({}, MAPS, FREE_MAPS, 300),  # a variance that float16 does not have
    "LabelProbabilities": ({}, (2, 3), (None, 3), 1),
    "Logarithm": ({"scale": 2.0, "offset": 0.1}, MAPS, (None,) * 4, 1),
    "MagnitudeToPower": ({}, MAPS, (None,) * 4, 1000),
    "MultiscaleDilatedConv2D": ({"filters": 2, "dilations": (1, 3), "activation": "elu"}, MAPS, FREE_MAPS, 1),
    "OneVsRestSVM": ({"n_labels": 2, "n_vectors": 4, "gamma": 0.1}, (2, 5), (None, 5), 1),
    "PairProbabilities": ({"n_labels": 3, "slope": 1.0, "exponent": 0.5}, (2, 3), (None, 3), 1),
    "PairScores": ({"n_labels": 3}, (2, 3), (None, 3), 1),
    "PatchPadding": ({"audio": PATCHES.to_dict()}, (2, 31, 1), (None, None, 1), 1),
    "PowerToRelativeDecibel": ({"decibel_range": 90.0}, MAPS, (None,) * 4, 0.02),  # much of it 0 in float16
    "SeededSpecAugment": (
        {"freq_mask_param": 5, "time_mask_param": 6, "seed": 7},
        (2, 12, 9, 1),
        (None, None, 9, 1),
        1,
    ),
    "SeparateWindows": ({"size": 9, "hop": 4, "spacing": 12}, (2, 31, 1), (None, None, 1), 1),
    "SincResampling": ({"source_rate": 3, "target_rate": 2}, (2, 31), (None, None), 1),
    "SupportVectorClassifier": ({"n_support": [3, 2, 4], "gamma": 0.1}, (2, 5), (None, 5), 1),
    "TimeMaxPooling2D": ({}, (2, 3, 2, 3), (None, None, 2, 3), 10),  # few, so that no step makes another the largest
    "TimeMeanPooling2D": ({}, MAPS, (None, None, 9, 3), 10),
}
OF_OTHER_BATCHES = {"JoinedPatches", "Patches"}  # in test_published_front_ends.py
KEEPS = {
    **{"ApplyHtkFilterbank": "float32", "ChannelScaling": "float64", "MagnitudeToPower": "float32"},
    **{"SupportVectorClassifier": "float32", "PairScores": "float32", "PairProbabilities": "float32"},
    **{"Familiarity": "float32", "LabelProbabilities": "float32", "OneVsRestSVM": "float32"},
}
POSITIVE = ("Logarithm", "PowerToRelativeDecibel")
every_layer = pytest.mark.parametrize("name", CASES)


def made(name, /, **arguments):
    """The layer with weights of its own; the same ones in every call."""
    layer = getattr(layers, name)(**CASES[name][0], **arguments)
    layer.build(CASES[name][2])
    rng = np.random.default_rng(0)
    layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return layer


def called(layer, x, training):
    """The layer's output, with the argument `training` where it has one."""
    return layer(x, training=training) if "training" in inspect.signature(layer.call).parameters else layer(x)


def sound(name):
    """An input of the layer, float32, of both signs where it may be."""
    _, shape, _, size = CASES[name]
    values = np.random.default_rng(1).normal(0, size, shape).astype(np.float32)
    return np.abs(values) ** 3 if name in POSITIVE else values


def test_all_layers_are_in_one_place_and_tested_here():
    registered = {
        node.name
        for source in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and any(getattr(d, "id", "") == "_register" for d in node.decorator_list)
    }
    named, tested = {*layers.__all__}, {*CASES} | OF_OTHER_BATCHES
    assert registered == named, f"__all__ lacks {registered - named}, @_register {named - registered}; add it"
    assert tested == named, f"CASES in test_layers.py lacks {named - tested}, and __all__ {tested - named}; add it"
    assert [*layers.__all__] == sorted(layers.__all__), "sort __all__ of layers.py"


@every_layer
def test_shapes_are_declared_as_they_are(name):
    layer, x, free = made(name), sound(name), CASES[name][2]
    real = tuple(layer(x).shape)
    assert layer.compute_output_shape(x.shape) == real
    assert tuple(layer(x[:1]).shape) == (1, *real[1:])
    symbolic = layer(keras.Input(x.shape[1:]))
    assert symbolic.shape == (None, *real[1:])
    assert symbolic.dtype == layer(x).dtype
    symbolic = layer(keras.Input(free[1:]))
    assert symbolic.shape == layer.compute_output_shape(free)
    assert len(symbolic.shape) == len(real)
    assert all(size in (None, is_size) for size, is_size in zip(symbolic.shape, real, strict=True))
    assert len(real) == 1 or symbolic.shape[-1] == (real[-1] if free[-1] else None)


@pytest.mark.parametrize("frame_padding", FRAME_PADDINGS)
def test_padded_waveforms_are_as_long_as_declared(frame_padding):
    layer = FramePadding(8, 3, frame_padding)
    shortest = 5 if frame_padding == "centre_reflect" else 1  # what is reflected has to be there
    for n_samples in (n for n in (1, 2, 3, 8, 20) if n >= shortest):
        shape = (1, n_samples, 1)
        assert layer.compute_output_shape(shape) == tuple(layer(np.zeros(shape, np.float32)).shape)


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (9, 3), (17, 23)])
@pytest.mark.parametrize("pool", [(1, 1), (4, 5), (30, 30)])
def test_pooled_maps_are_as_large_as_declared(size, pool):
    x = maps(*size)
    layer = ClampedMaxPooling2D(pool)
    assert layer.compute_output_shape(x.shape) == tuple(layer(x).shape)


@every_layer
def test_comes_back_from_its_config(name):
    layer = made(name, name="given")
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
    plain = type(layer).from_config(layer.get_config())
    for again in (copy, plain):
        assert again.name == "given"
        if not again.built:
            again.build(CASES[name][2])
        again.set_weights(layer.get_weights())
        for training in (False, True):
            np.testing.assert_array_equal(
                called(again, sound(name), training), called(made(name), sound(name), training)
            )


_LOAD = """
import sys
import keras_audio_transfer, keras
import numpy as np
model = keras.models.load_model(sys.argv[1])
inputs = dict(np.load(sys.argv[2]))
outputs = {f"{name} {t}": y.numpy() for t in (0, 1) for name, y in model(inputs, training=bool(t)).items()}
np.savez(sys.argv[3], **outputs)
"""


@pytest.mark.slow
def test_all_layers_in_one_functional_model_load_in_a_fresh_process(tmp_path):
    inputs = {name: keras.Input(CASES[name][2][1:], name=name) for name in CASES}
    model = keras.Model(inputs, {name: made(name)(x) for name, x in inputs.items()})
    sounds = {name: sound(name) for name in CASES}
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "inputs.npz", **sounds)
    paths = [tmp_path / name for name in ("model.keras", "inputs.npz", "outputs.npz")]
    run = forked.importing(_LOAD, Path(layers.__file__).parents[1], tmp_path, arguments=["-c", *paths])
    assert run.returncode == 0, run.stderr
    with np.load(tmp_path / "outputs.npz") as loaded:
        for training in (0, 1):
            for name, expected in model(sounds, training=bool(training)).items():
                np.testing.assert_allclose(loaded[f"{name} {training}"], expected, rtol=1e-6, err_msg=name)


@every_layer
def test_in_a_sequential_model(name):
    x = sound(name)
    model = keras.Sequential([keras.Input(CASES[name][2][1:]), made(name)])
    np.testing.assert_allclose(model(x), made(name)(x), rtol=1e-6)


@pytest.fixture
def policy(request):
    """The global policy that is asked for, while the test runs."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield keras.config.dtype_policy()
    keras.config.set_dtype_policy(before)


HALF = ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"]


@every_layer
@pytest.mark.parametrize("policy", HALF, indirect=True)
def test_half_precision(name, policy):
    """Close to float32 within what a result in half precision has; layers that say so keep their precision."""
    x = sound(name)
    layer, expected = made(name), made(name, dtype=KEEPS.get(name, "float32"))(x).numpy()
    result = layer(x)
    assert result.dtype == layer(keras.Input(x.shape[1:])).dtype == KEEPS.get(name, policy.compute_dtype)
    got = tf.cast(result, tf.float64).numpy()
    assert np.isfinite(got).all()
    epsilon = 0 if name in KEEPS else 2.0**-10 if policy.compute_dtype == "float16" else 2.0**-7
    np.testing.assert_allclose(got, expected, rtol=0, atol=2 * epsilon * np.abs(expected).max())


@every_layer
@pytest.mark.parametrize("value", [0.0, 1e-30])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"], indirect=True)
def test_silence_gives_finite_numbers_and_gradients(name, value, policy):
    x = tf.Variable(np.full((1, *CASES[name][1][1:]), value, np.float32))
    layer = made(name)
    with tf.GradientTape() as tape:
        result = called(layer, x, True)
        total = tf.reduce_sum(tf.cast(result, tf.float32))
    assert np.isfinite(tf.cast(result, tf.float32)).all()
    assert np.isfinite(tape.gradient(total, x)).all()


@every_layer
def test_gradients_are_slopes(name):
    """Along a random direction, against the difference of two values in that direction."""
    x = sound(name)
    rng = np.random.default_rng(2)
    direction, layer = (np.abs(x) * rng.normal(size=x.shape)).astype(np.float32), made(name)
    weights = rng.normal(size=layer(x).shape)

    def value(x):
        return tf.reduce_sum(tf.cast(layer(x), tf.float64) * weights)

    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        total = value(inputs)
    slope = np.sum(tape.gradient(total, inputs).numpy().astype(np.float64) * direction)
    step = 1e-2
    expected = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    assert abs(slope) > 0
    expected = pytest.approx(float(expected), rel=2e-3)
    assert slope == expected, "not the slope; a layer that picks values, such as a maximum, needs few of them in CASES"


@pytest.mark.parametrize("name", some_quick(CASES, [name for name in CASES if name != "SincResampling"]))
def test_xla_computes_the_same_where_a_layer_says_that_it_can(name):
    """On a GPU Keras compiles a model by XLA, unless one of its layers says that it cannot."""
    layer, x = made(name), tf.constant(sound(name))
    compiled = tf.function(lambda x: layer(x), jit_compile=True)
    if layer.supports_jit:
        for got, expected in zip(tf.nest.flatten(compiled(x)), tf.nest.flatten(layer(x)), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match="unsupported operations"):
            compiled(x)


@pytest.mark.parametrize("trainable", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_training_step_changes_what_is_trainable(trainable):
    """All layers in one model, each frozen or trainable from the start."""
    made_layers = {name: made(name, trainable=trainable) for name in CASES}
    inputs = {name: keras.Input(CASES[name][1][1:], name=name) for name in CASES}
    parts = [keras.layers.Flatten()(layer(inputs[name])) for name, layer in made_layers.items()]
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Concatenate()(parts)))
    model.compile("sgd", "mse")
    before = {name: layer.get_weights() for name, layer in made_layers.items()}
    model.train_on_batch({name: sound(name) for name in CASES}, np.ones(2))
    changed = {
        name: [w.name for w, old in zip(layer.weights, before[name], strict=True) if (w.numpy() != old).any()]
        for name, layer in made_layers.items()
    }
    expected = {"BatchStatisticsNormalization": ["gamma", "beta"], "MultiscaleDilatedConv2D": ["kernel", "bias"] * 2}
    assert changed == {name: expected.get(name, []) if trainable else [] for name in CASES}


def maps(frames, bands, channels=3, batch=2, shift=0.0):
    shape = (batch, frames, bands, channels)
    return (np.random.default_rng(0).normal(size=shape) + shift).astype(np.float32)


def numpy_pool(x, pool):
    """Maximum over windows that are cut to the size of the input; what is left over at the end is dropped."""
    frame_pool, band_pool = min(pool[0], x.shape[1]), min(pool[1], x.shape[2])
    frames, bands = x.shape[1] // frame_pool, x.shape[2] // band_pool
    x = x[:, : frames * frame_pool, : bands * band_pool]
    return x.reshape(len(x), frames, frame_pool, bands, band_pool, -1).max(axis=(2, 4))


@pytest.mark.parametrize("pool", [(1, 1), (2, 3), (4, 2), (5, 1), (1, 7)])
@pytest.mark.parametrize("size", [(5, 7), (8, 9), (13, 20)])
def test_clamped_pooling_is_max_pooling_where_the_window_fits(size, pool):
    x = maps(*size)
    expected = keras.layers.MaxPooling2D(pool, padding="valid")(x).numpy()
    np.testing.assert_array_equal(ClampedMaxPooling2D(pool)(x).numpy(), expected)


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (2, 10), (10, 2), (1, 20)])
@pytest.mark.parametrize("shift", [0.0, -1000.0])  # the padding must not win over negative numbers
def test_clamped_pooling_of_less_than_a_window(size, shift):
    x = maps(*size, shift=shift)
    got = ClampedMaxPooling2D((4, 5))(x).numpy()
    assert np.isfinite(got).all()
    np.testing.assert_array_equal(got, numpy_pool(x, (4, 5)))


def test_clamped_pooling_of_less_than_a_window_is_the_maximum_of_everything():
    x = maps(3, 2, shift=-50.0)
    got = ClampedMaxPooling2D((8, 8))(x).numpy()
    np.testing.assert_array_equal(got[:, 0, 0], x.max(axis=(1, 2)))


def test_clamped_pooling_of_a_single_cell_of_the_lowest_number():
    x = np.full((1, 1, 1, 1), np.finfo(np.float32).min)
    np.testing.assert_array_equal(ClampedMaxPooling2D((2, 2))(x).numpy(), x)


def test_clamped_pooling_of_any_length_in_one_model():
    model_input = keras.Input((None, 6, 2))
    model = keras.Model(model_input, ClampedMaxPooling2D((4, 2))(model_input))
    for frames in (1, 3, 4, 11):
        x = maps(frames, 6, channels=2)
        np.testing.assert_array_equal(model.predict(x, verbose=0), numpy_pool(x, (4, 2)))


def test_clamped_pooling_passes_gradients_to_real_cells_only():
    x = tf.Variable(maps(2, 3, batch=1, shift=-5.0))
    with tf.GradientTape() as tape:
        pooled = tf.reduce_sum(ClampedMaxPooling2D((4, 4))(x))
    gradient = tape.gradient(pooled, x).numpy()
    assert gradient.sum() == 3  # one cell a channel
    np.testing.assert_array_equal(gradient.max(axis=(1, 2)), [[1, 1, 1]])


def test_global_mean_and_deviation():
    x = maps(7, 5, channels=4, shift=3.0)
    got = GlobalMeanStdPooling2D()(x).numpy()
    expected = np.concatenate([x.mean(axis=(1, 2)), np.sqrt(x.var(axis=(1, 2)) + 1e-6)], axis=1)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_global_deviation_of_constant_maps_is_nearly_nothing_and_has_a_gradient():
    x = tf.Variable(np.full((1, 4, 4, 2), -3.0, np.float32))
    with tf.GradientTape() as tape:
        got = GlobalMeanStdPooling2D()(x)
        total = tf.reduce_sum(got)
    np.testing.assert_allclose(got.numpy(), [[-3.0, -3.0, 1e-3, 1e-3]], rtol=1e-4)
    assert np.isfinite(tape.gradient(total, x).numpy()).all()


def numpy_multiscale(x, kernels, biases, dilations):
    """The sum written out: every output cell from the input cells that its kernel reaches; beyond the edges is zero."""
    outputs = []
    for kernel, bias, dilation in zip(kernels, biases, dilations, strict=True):
        out = np.zeros((*x.shape[:3], kernel.shape[-1])) + bias
        half = kernel.shape[0] // 2
        for frame, band in np.ndindex(x.shape[1:3]):
            for i, j in np.ndindex(kernel.shape[:2]):
                from_frame, from_band = frame + dilation * (i - half), band + dilation * (j - half)
                if 0 <= from_frame < x.shape[1] and 0 <= from_band < x.shape[2]:
                    out[:, frame, band] += x[:, from_frame, from_band] @ kernel[i, j]
        outputs.append(out)
    return np.concatenate(outputs, axis=-1)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (12, 9)])
@pytest.mark.parametrize("dilations", [(1, 2, 3, 4), (2,), (5, 1)])
def test_multiscale_is_the_sum_written_out(size, dilations):
    x = maps(*size)
    layer = MultiscaleDilatedConv2D(filters=2, dilations=dilations)
    layer.build(x.shape)
    layer.set_weights([np.random.default_rng(i).normal(size=w.shape) for i, w in enumerate(layer.weights)])
    weights = [w.astype(np.float64) for w in layer.get_weights()]
    got = layer(x)
    assert got.shape == layer.compute_output_shape(x.shape) == (2, *size, 2 * len(dilations))
    np.testing.assert_allclose(got, numpy_multiscale(x, weights[::2], weights[1::2], dilations), atol=1e-4)


def test_gradients_of_multiscale_are_the_slopes_of_the_sum():
    x, dilations = maps(6, 5, channels=2, batch=1), (1, 3)
    layer = MultiscaleDilatedConv2D(dilations=dilations, activation="tanh")
    layer.build(x.shape)
    layer.set_weights([np.random.default_rng(i).normal(size=w.shape) / 5 for i, w in enumerate(layer.weights)])
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        loss = tf.reduce_sum(layer(inputs) ** 2)
    variables = [x, *layer.get_weights()]
    gradients = tape.gradient(loss, [inputs, *layer.trainable_weights])

    def loss_at(arrays):
        x, *weights = arrays
        return (np.tanh(numpy_multiscale(x, weights[::2], weights[1::2], dilations)) ** 2).sum()

    for number, gradient in enumerate(gradients):
        for place in list(np.ndindex(*gradient.shape))[::7]:
            ends = []
            for step in (1e-5, -1e-5):
                moved = [array.astype(np.float64) for array in variables]
                moved[number][place] += step
                ends.append(loss_at(moved))
            assert float(gradient[place]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dilations": ()}, r"dilations: \(\) is not allowed; expected one or more whole numbers from 1 up"),
        ({"dilations": (0, 1)}, r"dilations: \(0, 1\) is not allowed"),
        ({"filters": 0}, "filters: 0 is not allowed; expected a whole number from 1 up"),
        ({"kernel_size": 4}, "kernel_size: 4 is not allowed; expected an odd number from 1 up"),
    ],
)
def test_multiscale_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        MultiscaleDilatedConv2D(**arguments)
