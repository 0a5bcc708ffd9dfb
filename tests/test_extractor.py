"""The extractor: every layer under its name, pooled as asked for, in a graph whose inner layers can be reached."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import sounds
from sounds import LAYERS, noise

from keras_audio_transfer import backbones, config
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export.saved_model import layer_names
from keras_audio_transfer.extractor import POOLINGS, build_extractor, scale_to_unit_variance, select_layers
from keras_audio_transfer.training.heads import add_head

CONFIG = sounds.CONFIG.with_clip_seconds(0.5)


def two_layers_in_no_alphabetical_order(spectrogram, config):
    first = keras.layers.Conv2D(3, 3, padding="same", name="stem")(spectrogram)
    second = keras.layers.Conv2D(5, 3, padding="same", name="block10")(first)
    return {
        "stem": first,
        "block10": second,
        "block2": keras.layers.Conv2D(2, 3, name="block2", padding="same")(second),
    }


def test_outputs_are_every_layer_in_order():
    model = build_extractor(CONFIG)
    assert model.input.name == "waveform"
    assert model.input.shape == (None, None)
    assert model.input.dtype == "float32"
    assert list(model.output) == LAYERS
    features = model(noise(3, CONFIG.n_samples))
    assert list(features) == LAYERS
    assert {tuple(values.shape) for values in features.values()} == {(3, 32)}


# Pooling -> the same in NumPy, of feature maps (batch, frames, bands, channels).
BY_HAND = {
    "mean": lambda x: x.mean(axis=(1, 2)),
    "max": lambda x: x.max(axis=(1, 2)),
    "mean_deviation": lambda x: np.concatenate([x.mean(axis=(1, 2)), np.sqrt(x.var(axis=(1, 2)) + 1e-6)], axis=1),
    "time_mean": lambda x: x.mean(axis=1).reshape(len(x), -1),
    "time_max": lambda x: x.max(axis=1).reshape(len(x), -1),
}


@pytest.mark.parametrize("pooling", BY_HAND)
def test_features_are_pooled_maps(pooling):
    model = build_extractor(CONFIG, pooling=pooling)
    maps = keras.Model(model.input, {name: model.get_layer(name).output for name in LAYERS})
    waveforms = noise(2, 2 * CONFIG.n_samples + 7)
    features = model(waveforms)
    for name, x in maps(waveforms).items():
        np.testing.assert_allclose(features[name], BY_HAND[pooling](x.numpy()), rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("pooling", sorted({*POOLINGS, *config.POOLINGS, *BY_HAND}))
def test_every_pooling_is_known_everywhere(pooling):
    assert pooling in POOLINGS, f"extractor.POOLINGS has no layer for {pooling}; name it there"
    assert pooling in config.POOLINGS, f"config.POOLINGS does not name {pooling}, so that no command takes it; add it"
    assert pooling in BY_HAND, f"BY_HAND in test_extractor.py has no {pooling}; add what it computes, in NumPy"


def test_the_poolings():
    assert {"mean", "max", "mean_deviation"} <= set(POOLINGS)
    assert [*POOLINGS] == [*config.POOLINGS], "extractor.POOLINGS and config.POOLINGS differ; name both in one order"


def test_unknown_pooling():
    with pytest.raises(
        InputError, match="pooling: 'meann' is unknown; did you mean mean\\? choose from mean, max, mean_deviation"
    ):
        build_extractor(CONFIG, pooling="meann")


def test_unknown_network():
    with pytest.raises(InputError, match=r"network: 'nosuch' is unknown; .*choose from .*convnet5"):
        build_extractor(CONFIG, "nosuch")


def test_order_of_depth_is_kept_where_it_is_not_alphabetical(monkeypatch, tmp_path):
    module = SimpleNamespace(feature_maps=two_layers_in_no_alphabetical_order)
    monkeypatch.setitem(backbones.BACKBONES, "odd", lambda: module)
    model = build_extractor(CONFIG, "odd")
    assert list(model.output) == ["stem", "block10", "block2"]
    with_head = add_head(model, n_labels=4)
    assert layer_names(with_head) == ["stem", "block10", "block2"]
    assert with_head.get_layer("scores").input.shape == (None, 2), "the head sits on the deepest layer"
    with_head.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert layer_names(loaded) == ["stem", "block10", "block2"]
    assert {name: values.shape[-1] for name, values in loaded(noise(1, 900)).items()} == {
        "stem": 3,
        "block10": 5,
        "block2": 2,
        "scores": 4,
    }


@pytest.mark.parametrize("names", [["layer2"], ["layer1", "layer5"], ["layer4", "layer3"], LAYERS])
def test_selected_layers_give_the_same_numbers(names):
    model = build_extractor(CONFIG)
    waveforms = noise(2, 1234)
    everything = model(waveforms)
    selected = select_layers(model, names)(waveforms)
    assert list(selected) == names
    for name in names:
        np.testing.assert_allclose(selected[name], everything[name], rtol=1e-6, atol=1e-6)


def test_selected_layers_share_weights_and_compute_nothing_deeper():
    model = build_extractor(CONFIG)
    selected = select_layers(model, ["layer2"])
    names = {layer.name for layer in selected.layers}
    assert "layer2_convolution" in names
    assert not any(name.startswith(("layer3", "layer4", "layer5")) for name in names)
    assert selected.get_layer("layer1_convolution") is model.get_layer("layer1_convolution")


def test_unknown_layer():
    model = build_extractor(CONFIG)
    with pytest.raises(InputError, match=r"layer: 'layer6' is unknown; did you mean .*choose from layer1, .*layer5"):
        select_layers(model, ["layer1", "layer6"])


def test_inner_layers_can_be_reached():
    model = build_extractor(CONFIG)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers), "the graph is not flat"
    inner = keras.Model(model.input, model.get_layer("layer3_convolution").output)
    assert inner(noise(1, 3000)).shape[-1] == 32
    spectrogram = keras.Model(model.input, model.get_layer("power_to_decibel").output)
    assert spectrogram(noise(1, 3200)).shape == (1, 101, 8, 1)


def test_a_cut_model_keeps_training_the_same_weights():
    model = build_extractor(CONFIG)
    inner = keras.Model(model.input, model.get_layer("layer1").output)
    waveforms = noise(1, 1000)
    before = inner(waveforms).numpy()
    kernel = model.get_layer("layer1_convolution")
    kernel.set_weights([2 * weight for weight in kernel.get_weights()])
    assert np.abs(inner(waveforms).numpy() - before).max() > 1e-3


def test_spec_augment_masks_in_training_only():
    keras.utils.set_random_seed(0)
    plain = build_extractor(CONFIG)
    masked = build_extractor(CONFIG, spec_augment=2, seed=3)
    masked.set_weights(plain.get_weights())
    waveforms = noise(4, CONFIG.n_samples)
    spectrogram = keras.Model(masked.input, masked.get_layer("spec_augment").output)
    untouched = spectrogram(waveforms, training=False).numpy()
    for name, values in masked(waveforms, training=False).items():
        np.testing.assert_array_equal(values, plain(waveforms, training=False)[name])
    assert (spectrogram(waveforms, training=True).numpy() != untouched).any()
    assert "spec_augment" not in {layer.name for layer in plain.layers}


def test_extractor_survives_saving(tmp_path):
    model = build_extractor(CONFIG, pooling="mean_deviation", spec_augment=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    waveforms = noise(2, 777)
    features = loaded(waveforms, training=False)
    assert list(features) == LAYERS
    for name, values in model(waveforms, training=False).items():
        np.testing.assert_array_equal(features[name], values)


def of_many_convolutions(normalised_up_to):
    """Twelve convolutions, with batch normalisation behind the first ones."""
    x = maps = keras.Input((6, 6, 2))
    for number in range(12):
        x = keras.layers.Conv2D(8, 3, padding="same", name=f"conv{number}")(x)
        if number < normalised_up_to:
            x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
    return keras.Model(maps, x)


def test_what_no_normalisation_follows_gets_a_variance_of_one():
    keras.utils.set_random_seed(0)
    model = of_many_convolutions(normalised_up_to=2)
    batches = [noise(4, 6, 6, 2, seed=seed) for seed in range(3)]
    before = {layer.name: layer.get_weights() for layer in model.layers if layer.name.startswith("conv")}

    def deviations():
        outputs = keras.Model(model.input, [model.get_layer(name).output for name in before])
        given = [
            np.concatenate(parts)
            for parts in zip(*(outputs.predict(batch, verbose=0) for batch in batches), strict=True)
        ]
        return [values.std() for values in given]

    assert deviations()[-1] < 0.05  # what is to be mended
    scale_to_unit_variance(model, batches)
    np.testing.assert_allclose(deviations()[2:], 1, rtol=1e-4)
    for number, (name, weights) in enumerate(before.items()):
        scaled = model.get_layer(name).get_weights()[0] / weights[0]
        np.testing.assert_allclose(scaled, scaled.mean(), rtol=1e-4)
        assert (scaled.mean() == 1) == (number < 2)


def test_a_network_that_ends_in_a_normalisation_stays_as_it_is():
    model = of_many_convolutions(normalised_up_to=12)
    before = model.get_weights()
    scale_to_unit_variance(model, [noise(4, 6, 6, 2)])
    assert all(map(np.array_equal, before, model.get_weights()))


def test_inputs_that_are_all_the_same_scale_nothing():
    model = of_many_convolutions(normalised_up_to=0)
    before = model.get_weights()
    scale_to_unit_variance(model, [np.zeros((4, 6, 6, 2), np.float32)])
    assert all(map(np.array_equal, before, model.get_weights()))
