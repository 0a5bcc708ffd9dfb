"""The pooling layers equal Keras and NumPy where these are defined, and are defined where these are not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.layers import (
    ClampedMaxPooling2D,
    GlobalMeanAndDeviationPooling2D,
    MultiscaleDilatedConv2D,
)


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


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (9, 3), (17, 23)])
@pytest.mark.parametrize("pool", [(1, 1), (4, 5), (30, 30)])
def test_clamped_pooling_declares_its_real_shape(size, pool):
    layer = ClampedMaxPooling2D(pool)
    x = maps(*size)
    real = layer(x).shape
    assert layer.compute_output_shape(x.shape) == tuple(real)
    model_input = keras.Input((*size, 3))
    assert layer(model_input).shape == (None, *real[1:])
    free = layer(keras.Input((None, None, 3)))
    assert free.shape == (None, None, None, 3)


def test_clamped_pooling_of_any_length_in_one_model():
    model_input = keras.Input((None, 6, 2))
    model = keras.Model(model_input, ClampedMaxPooling2D((4, 2))(model_input))
    for frames in (1, 3, 4, 11):
        x = maps(frames, 6, channels=2)
        np.testing.assert_array_equal(model.predict(x, verbose=0), numpy_pool(x, (4, 2)))


def test_clamped_pooling_passes_gradients_to_real_cells_only():
    import tensorflow as tf

    x = tf.Variable(maps(2, 3, batch=1, shift=-5.0))
    with tf.GradientTape() as tape:
        pooled = tf.reduce_sum(ClampedMaxPooling2D((4, 4))(x))
    gradient = tape.gradient(pooled, x).numpy()
    assert gradient.sum() == 3  # one cell a channel
    np.testing.assert_array_equal(gradient.max(axis=(1, 2)), [[1, 1, 1]])


def test_global_mean_and_deviation():
    x = maps(7, 5, channels=4, shift=3.0)
    got = GlobalMeanAndDeviationPooling2D()(x).numpy()
    expected = np.concatenate([x.mean(axis=(1, 2)), np.sqrt(x.var(axis=(1, 2)) + 1e-6)], axis=1)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_global_deviation_of_constant_maps_is_nearly_nothing_and_has_a_gradient():
    import tensorflow as tf

    x = tf.Variable(np.full((1, 4, 4, 2), -3.0, np.float32))
    with tf.GradientTape() as tape:
        got = GlobalMeanAndDeviationPooling2D()(x)
        total = tf.reduce_sum(got)
    np.testing.assert_allclose(got.numpy(), [[-3.0, -3.0, 1e-3, 1e-3]], rtol=1e-4)
    assert np.isfinite(tape.gradient(total, x).numpy()).all()


def test_global_mean_and_deviation_declares_its_real_shape():
    layer = GlobalMeanAndDeviationPooling2D()
    assert layer.compute_output_shape((None, None, None, 6)) == (None, 12)
    assert layer(keras.Input((None, None, 6))).shape == (None, 12)
    assert layer(maps(2, 3, channels=6)).shape == (2, 12)


LAYERS = {
    "ClampedMaxPooling2D": lambda: ClampedMaxPooling2D((4, 3), name="pool"),
    "GlobalMeanAndDeviationPooling2D": lambda: GlobalMeanAndDeviationPooling2D(name="both"),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
def test_round_trips(make, tmp_path):
    layer = make()
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    model_input = keras.Input((None, None, 2))
    model = keras.Model(model_input, layer(model_input))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for size in ((2, 2), (9, 10)):
        x = maps(*size, channels=2)
        expected = layer(x).numpy()
        np.testing.assert_array_equal(copy(x).numpy(), expected)
        np.testing.assert_array_equal(loaded(x).numpy(), expected)


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


@pytest.mark.parametrize("activation", [None, "relu"])
def test_multiscale_comes_back_from_its_config(activation):
    layer = MultiscaleDilatedConv2D(filters=3, kernel_size=5, dilations=[1, 6], activation=activation, name="scales")
    copy = MultiscaleDilatedConv2D.from_config(layer.get_config())
    x = maps(7, 8)
    layer.build(x.shape)
    copy.build(x.shape)
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(copy(x), layer(x))
    assert copy.get_config() == layer.get_config()
    if activation:
        assert (layer(x).numpy() >= 0).all()


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
