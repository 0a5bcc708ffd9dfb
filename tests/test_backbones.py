"""Every network keeps the same contract; ConvNet-5 is the network of Choi et al. 2017."""

import functools
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import forked
import keras
import networks
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import ARCHITECTURES, ONE_A_MODULE, OWN, each_architecture, each_network
from sounds import noise

from keras_audio_transfer import backbones
from keras_audio_transfer.backbones import BACKBONES, backbone
from keras_audio_transfer.backbones.applications import APPLICATIONS, TAPS
from keras_audio_transfer.config import PRESETS, AudioConfig, fitted_pools, preset
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export.batchnorm_folding import folded
from keras_audio_transfer.export.chunked_inference import tiled
from keras_audio_transfer.export.saved_model import largest_difference, write_saved_model
from keras_audio_transfer.extractor import build_extractor
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.training.fitting import weights_hash
from keras_audio_transfer.training.heads import add_head

# One second at 2 kHz: 32 frames of 8 mels. Ten minutes are 18,751 frames.
SMALL = AudioConfig(2000, 1.0, n_fft=128, hop_length=64, n_mels=8, mel_f_min=0.0, mel_f_max=1000.0)
MINUTES = 150 * SMALL.sample_rate  # maps of them are computed in slabs

# Loads models that `test_a_fresh_process_loads_every_architecture` saved, and writes their features. In a copy of a
# process: that the imports find the layers in any order is tested in test_saved_model.py.
LOAD = """
import sys
from pathlib import Path
import keras, numpy as np
import keras_audio_transfer
folder, *networks = sys.argv[1:]
waveforms = np.load(Path(folder) / "waveforms.npy")
for network in networks:
    model = keras.models.load_model(Path(folder) / f"{network}.keras")
    np.savez(Path(folder) / f"{network}.npz", **model(waveforms, training=False))
"""

slow = pytest.mark.slow
every_network = each_network()
one_a_module = each_network(default_tier=ONE_A_MODULE)
every_application = each_network(APPLICATIONS, ["resnet50"])


def with_n_mels(n_mels):
    return AudioConfig(2000, 1.0, n_fft=128, hop_length=64, n_mels=n_mels, mel_f_min=0.0, mel_f_max=1000.0)


@pytest.fixture(scope="module", autouse=True)
def made_once_by_keras():
    """Let Keras make each of its own networks once: of random weights only the shapes are asked for."""
    with pytest.MonkeyPatch.context() as patch:
        for application in APPLICATIONS.values():
            constructor = getattr(keras.applications, application.constructor)
            patch.setattr(keras.applications, application.constructor, functools.cache(constructor))
        yield
    for cached in (application_model, maps_model, _graph):
        cached.cache_clear()  # gigabytes, which no other module asks for


@pytest.fixture(scope="module", autouse=True)
def graphs_as_they_are():
    """Optimising a graph of hundreds of layers takes longer than to run it as often as here."""
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": before["disable_meta_optimizer"]})


def computed(network, model, inputs):
    """The outputs of a model of the network, for inference.

    Those of hundreds of layers are computed as one graph for inputs of any size: layer by layer, a call takes seconds.
    """
    return _graph(model)(inputs) if network in APPLICATIONS else model(inputs, training=False)


@functools.cache
def _graph(model):
    inputs = tf.TensorSpec(model.input.shape, tf.float32)
    return tf.function(functools.partial(model, training=False), input_signature=[inputs], autograph=False)


@functools.cache
def maps_model(network, config):
    """Spectrogram (batch, frames, mels, 1) -> the maps of every layer, with weights that are all different.

    Not to be changed.
    """
    if network in APPLICATIONS:
        return application_model(network)
    spectrogram = keras.Input((None, config.n_mels, 1))
    model = keras.Model(spectrogram, backbone(network).feature_maps(spectrogram, config))
    randomise(model)
    return model


@functools.cache
def application_model(network):
    """The same for any front end and number of mels, because building it takes seconds. Not to be changed."""
    spectrogram = keras.Input((None, None, 1))
    model = keras.Model(spectrogram, backbone(network).feature_maps(spectrogram, config=None))
    randomise(model)
    return model


# The variances are those of damped maps: in a random deep network, unlike a trained one, rounding grows with depth.
randomise = functools.partial(networks.randomise, seed=1, variances=(3, 5))


def with_seed(seed, network):
    keras.utils.set_random_seed(seed)
    return build_extractor(SMALL, network)


class Extractors(dict):
    """The extractor of each network at the small settings, made when it is first asked for.

    `hashes` has the hash of the weights that seed 0 gave it.
    """

    def __init__(self):
        self.hashes = {}

    def __missing__(self, network):
        if network in APPLICATIONS:
            application_model(network)  # what Keras then makes, once, draws no numbers after the seed is set
        model = self[network] = with_seed(0, network)
        self.hashes[network] = weights_hash(model)
        randomise(model)
        return model


@pytest.fixture(scope="module")
def extractors():
    return Extractors()


@every_network
@pytest.mark.parametrize("n_samples", [1, 200, SMALL.n_samples], ids=["1 sample", "0.1 s", "1 s"])
def test_features_are_finite_at_any_length(extractors, network, n_samples):
    check_finite(extractors, network, n_samples)


@each_network(default_tier=["convnet5"])
def test_features_of_minutes_are_finite(extractors, network):
    check_finite(extractors, network, MINUTES)


def check_finite(extractors, network, n_samples):
    model = extractors[network]
    features = computed(network, model, noise(1, n_samples))
    assert list(features) == list(model.output)
    for name, values in features.items():
        assert tuple(values.shape) == (1, model.output[name].shape[-1])
        assert np.isfinite(values).all(), name


@every_network
def test_silence_and_clicks_give_finite_features(extractors, network):
    sounds = np.zeros((2, 500), np.float32)
    sounds[1, 250] = 1.0
    # Layer by layer, as Keras calls a model: all networks once.
    for name, values in extractors[network](sounds, training=False).items():
        assert np.isfinite(values).all(), name


@every_network
def test_features_can_be_told_apart(extractors, network):
    time = np.arange(2000) / 2000
    sounds = np.stack([noise(2000), np.sin(2 * np.pi * 200 * time), np.sin(2 * np.pi * 800 * time)]).astype(np.float32)
    for name, values in computed(network, extractors[network], sounds).items():
        assert values.numpy().std(axis=0).max() > 1e-3, f"{name} is the same for noise, a low and a high tone"


@each_network()
def test_declared_sizes_are_the_real_ones(network):
    model = maps_model(network, SMALL)
    real = computed(network, model, noise(2, SMALL.n_frames, SMALL.n_mels, 1))
    assert list(real) == list(model.output)
    for name, declared in model.output.items():
        assert declared.shape[-1] == real[name].shape[-1], name
        for size, real_size in zip(declared.shape[1:3], real[name].shape[1:3], strict=True):
            assert size in (None, real_size), name


@every_network
def test_maps_with_static_shapes_declare_them(network):
    spectrogram = keras.Input((SMALL.n_frames, SMALL.n_mels, 1))
    if network in APPLICATIONS:
        declared = application_model(network)(spectrogram)
        model = application_model(network)
    else:
        declared = backbone(network).feature_maps(spectrogram, SMALL)
        model = keras.Model(spectrogram, declared)
    for name, values in computed(network, model, noise(2, SMALL.n_frames, SMALL.n_mels, 1)).items():
        assert declared[name].shape[1:] == values.shape[1:], name


@one_a_module
def test_layers_are_named_and_stand_in_order_of_depth(network):
    model = maps_model(network, SMALL)
    names = list(model.output)
    assert len(names) >= 2, f"feature_maps returns {names}; expected two layers at least"
    ancestors = [{layer.name for layer in keras.Model(model.input, model.output[name]).layers} for name in names]
    for earlier, later in pairwise(ancestors):
        assert len(earlier) < len(later), f"feature_maps returns {names}; expected them in order of depth"
    for name, inner in zip(names, ancestors, strict=True):
        assert name in inner, f"{name}: a tap is an inner layer of the same name; pass name={name!r} to the Keras layer"
        assert model.get_layer(name).output is model.output[name]


@every_network
def test_features_do_not_depend_on_the_neighbours(extractors, network):
    sounds = np.stack([noise(1500), 100 * noise(1500, seed=1), np.zeros(1500, np.float32), noise(1500, seed=2)])
    together = computed(network, extractors[network], sounds)
    for i in range(len(sounds)):
        alone = computed(network, extractors[network], sounds[i : i + 1])
        for name, values in alone.items():
            # Rounding grows with what is summed: features of an untrained network reach 30 and more.
            atol = 2e-6 * max(5.0, np.abs(values).max())
            np.testing.assert_allclose(together[name][i], values[0], rtol=1e-5, atol=atol, err_msg=name)


@every_network
@pytest.mark.parametrize("n_mels", [1, 40, *(pytest.param(n, marks=slow) for n in (2, 3, 63))])
def test_any_number_of_mels(network, n_mels):
    config = with_n_mels(n_mels)
    model = maps_model(network, config)
    for n_frames in (1, config.n_frames, 3 * config.n_frames):
        for name, values in computed(network, model, noise(1, n_frames, n_mels, 1)).items():
            assert min(values.shape) >= 1
            assert np.isfinite(values).all(), name


@every_network
@pytest.mark.parametrize("clip_seconds", [0.064, 0.1, 10.0])
def test_the_deepest_layer_sees_a_clip_of_the_length_it_was_made_for(network, clip_seconds):
    config = SMALL.with_clip_seconds(clip_seconds)
    model = maps_model(network, config)
    deepest = [*computed(network, model, noise(1, config.n_frames, config.n_mels, 1)).values()][-1]
    assert min(deepest.shape) >= 1


@every_network
def test_an_input_of_another_length_needs_no_new_weights(network):
    weights = [
        [weight.shape for weight in maps_model(network, SMALL.with_clip_seconds(seconds)).weights]
        for seconds in (0.1, 1.0, 30.0)
    ]
    assert weights[0] == weights[1] == weights[2]


@each_architecture
def test_seeds_decide_the_random_weights(extractors, network):
    assert extractors[network]
    assert weights_hash(with_seed(0, network)) == extractors.hashes[network]
    assert weights_hash(with_seed(1, network)) != extractors.hashes[network]


@every_network
def test_networks_cite_their_source(network):
    citation = getattr(backbone(network), "CITATION", "")
    assert len(citation) > 20, f"backbones/{network}.py has no CITATION; say in it which paper describes the network"


FILES = sorted(path.stem for path in Path(backbones.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("network", [name for name in FILES if name not in ("__init__", "applications", "blocks")])
def test_every_module_is_a_network(network):
    assert network in BACKBONES, f"OWN in backbones/__init__.py does not name {network}; add it"


def test_unknown_network():
    with pytest.raises(InputError, match=r"network: 'convnet6' is unknown; did you mean convnet5\? choose from "):
        backbone("convnet6")


@each_architecture
def test_one_to_four_channels(network):
    """All networks of `APPLICATIONS` have one channel in the tests above, and four in the next."""
    for n_channels in (2, 3) if network in APPLICATIONS else (1, 4):
        spectrogram = keras.Input((None, 8, n_channels))
        model = keras.Model(spectrogram, backbone(network).feature_maps(spectrogram, SMALL))
        for name, values in model(noise(1, 31, 8, n_channels)).items():
            assert np.isfinite(values).all(), name


@each_architecture
def test_one_step_of_training_moves_every_weight(network):
    keras.utils.set_random_seed(0)
    extractor = build_extractor(SMALL, network, dilations=(1, 2, 3, 4))
    model = add_head(extractor, 3)
    model = keras.Model(model.input, model.output["scores"])
    model.compile("sgd", "categorical_crossentropy", run_eagerly=True)  # tracing takes longer
    before = [weight.numpy() for weight in model.trainable_weights]
    model.train_on_batch(noise(6, SMALL.n_samples), np.eye(3)[[0, 1, 2, 0, 1, 2]])
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert np.isfinite(weight).all(), weight.path
        # A bias before a batch normalisation has no slope.
        assert (weight.numpy() != old).any() or "bias" in weight.path, weight.path


@slow
def test_a_fresh_process_loads_every_architecture(extractors, tmp_path):
    tried = [*OWN, *ARCHITECTURES]
    waveforms = noise(2, 700)
    np.save(tmp_path / "waveforms.npy", waveforms)
    for network in tried:
        extractors[network].save(tmp_path / f"{network}.keras")
    script = tmp_path / "load.py"
    script.write_text(LOAD)
    run = forked.script(script, [tmp_path, *tried])
    assert run.returncode == 0, run.stderr
    for network in tried:
        model = extractors[network]
        with np.load(tmp_path / f"{network}.npz") as loaded:
            assert loaded.files == list(model.output)
            for name, values in computed(network, model, waveforms).items():
                np.testing.assert_allclose(loaded[name], values, rtol=1e-5, atol=1e-5, err_msg=f"{network} {name}")


@each_architecture
def test_folding_and_tiling_change_no_feature(extractors, network):
    waveforms = noise(2, SMALL.n_samples)
    result = tiled(folded(extractors[network]))
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in result.layers)
    features = result(waveforms, training=False)
    assert list(features) == list(extractors[network].output)
    for name, values in computed(network, extractors[network], waveforms).items():
        expected = values.numpy()
        assert (np.abs(features[name] - expected) / np.maximum(1, np.abs(expected))).max() <= 1e-5, name


@each_network(ARCHITECTURES, [])
def test_a_saved_model_of_keras_networks_gives_the_same_features(extractors, network, tmp_path):
    # By a card of features that depend on the batch two signatures are served instead of seven: here one is compared.
    write_saved_model(extractors[network], tmp_path / "1", Card(replace(SMALL, decibel_maximum="batch")))
    assert largest_difference(extractors[network], SMALL, tmp_path / "1") <= 1e-4


def test_multiscale_input_stands_before_the_network():
    model = build_extractor(SMALL, "sbcnn", dilations=(1, 3))
    assert model.get_layer("multiscale").output.shape[-1] == 2
    assert model.get_layer("layer1_convolution").input is model.get_layer("multiscale").output


# The networks of keras.applications


@every_application
@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("clip_seconds", [0.5, pytest.param(None, marks=slow)])
def test_applications_at_the_presets(network, name, clip_seconds):
    config = preset(name).with_clip_seconds(clip_seconds)
    maps = computed(network, application_model(network), -80 * np.abs(noise(1, config.n_frames, config.n_mels, 1)))
    for tap, shrunk in (("stem", 4), ("stage1", 4), ("stage2", 8), ("stage3", 16), ("stage4", 32)):
        assert maps[tap].shape[1:3] == (math.ceil(config.n_frames / shrunk), math.ceil(config.n_mels / shrunk)), tap
        assert np.isfinite(maps[tap]).all(), tap


CHANNELS = {
    "densenet121": (64, 256, 512, 1024, 1024),
    "densenet169": (64, 256, 512, 1280, 1664),
    "densenet201": (64, 256, 512, 1792, 1920),
    "resnet50": (64, 256, 512, 1024, 2048),
}


@every_application
def test_applications_channels_are_those_of_the_papers(network):
    assert tuple(maps.shape[-1] for maps in application_model(network).output.values()) == CHANNELS[network]


@pytest.mark.slow
@every_application
def test_applications_are_flat_and_normalise_as_the_other_networks_do(extractors, network):
    layers = extractors[network].layers
    assert not any(isinstance(layer, keras.Model) for layer in layers)
    assert {layer.momentum for layer in layers if isinstance(layer, keras.layers.BatchNormalization)} == {0.9}


def as_published(monkeypatch, network):
    """Let Keras give random weights where it would download; the network with them is put into the list."""
    given = []
    constructor = getattr(keras.applications, APPLICATIONS[network].constructor)

    def constructed(weights, **settings):
        given.append(constructor(weights=None, **settings))
        assert weights == "imagenet"
        randomise(given[-1])
        return given[-1]

    monkeypatch.setattr(keras.applications, APPLICATIONS[network].constructor, constructed)
    return given


def assert_equal_maps(model, spectrogram, given, network, picture):
    """The model's maps of the spectrogram are those of Keras's own network of the picture."""
    inner = [given.get_layer(name).output for name in APPLICATIONS[network].last_layers]
    expected = keras.Model(given.input, inner)(picture, training=False)
    got = model(spectrogram, training=False)
    for (name, values), wanted in zip(got.items(), expected, strict=True):
        np.testing.assert_allclose(values, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max(), err_msg=name)
        assert np.std(wanted) > 0, name


@pytest.mark.slow
@each_network(ARCHITECTURES)
def test_imagenets_weights_give_the_maps_of_keras_own_network(monkeypatch, network):
    given = as_published(monkeypatch, network)
    model = build_extractor(with_n_mels(64), network, weights="imagenet")
    spectrogram = model.get_layer("power_to_decibel").output
    maps = keras.Model(spectrogram, {tap: model.get_layer(tap).output for tap in TAPS})
    decibel = np.random.default_rng(0).uniform(-80, 0, (1, 64, 64, 1)).astype(np.float32)
    largest = {"densenet121": 2.0, "resnet50": 128.0}[network]
    picture = np.repeat((decibel + 40) / 40 * largest, 3, axis=-1)
    assert_equal_maps(maps, decibel, given[0], network, picture)


@pytest.fixture
def tiny_network(monkeypatch):
    """Stands for Keras's ResNet-50 with published weights: five convolutions."""
    x = picture = keras.Input((None, None, 3))
    for name in APPLICATIONS["resnet50"].last_layers:
        x = keras.layers.Conv2D(4, 3, padding="same", name=name)(x)
    network = keras.Model(picture, x)
    monkeypatch.setattr(keras.applications, "ResNet50", lambda **settings: network)
    return network


def test_imagenets_weights_take_three_channels_as_they_are(tiny_network):
    spectrogram = keras.Input((None, None, 3))
    model = keras.Model(spectrogram, backbone("resnet50").feature_maps(spectrogram, SMALL, weights="imagenet"))
    decibel = np.random.default_rng(0).uniform(-80, 0, (1, 9, 8, 3)).astype(np.float32)
    assert_equal_maps(model, decibel, tiny_network, "resnet50", (decibel + 40) / 40 * 128)
    extractor = build_extractor(SMALL, "resnet50", dilations=(1, 2, 3), weights="imagenet")
    assert extractor.get_layer("stem").input.shape[-1] == 3


def test_imagenets_weights_take_a_standardised_spectrogram(tiny_network):
    spectrogram = keras.Input((None, None, 1))
    config = replace(SMALL, standardise=True)
    model = keras.Model(spectrogram, backbone("resnet50").feature_maps(spectrogram, config, weights="imagenet"))
    standardised = noise(1, 9, 8, 1)
    assert_equal_maps(model, standardised, tiny_network, "resnet50", np.repeat(standardised * 64, 3, axis=-1))


def test_a_model_with_imagenets_weights_survives_saving(tiny_network, tmp_path):
    model = build_extractor(SMALL, "resnet50", weights="imagenet")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    waveforms = noise(2, 700)
    for name, values in model(waveforms).items():
        np.testing.assert_array_equal(loaded(waveforms)[name], values)


@pytest.mark.parametrize("dilations", [(1, 2), (1, 2, 3, 4)])
def test_imagenets_weights_take_no_other_number_of_channels(dilations):
    with pytest.raises(InputError, match=rf"^weights: imagenet takes 1 or 3 channels, not {len(dilations)}; leave the"):
        build_extractor(SMALL, "resnet50", dilations=dilations, weights="imagenet")


@pytest.mark.parametrize("network", OWN)
def test_only_keras_networks_have_imagenets_weights(network):
    names = ", ".join(APPLICATIONS)
    with pytest.raises(InputError, match=f"^weights: imagenet exists for {names} only, not for {network}; choose one"):
        build_extractor(SMALL, network, weights="imagenet")


@pytest.mark.parametrize("weights", ["places365", "", "model.keras"])
def test_unknown_weights(weights):
    with pytest.raises(InputError, match=f"^weights: '{weights}' is unknown; choose from imagenet$"):
        build_extractor(SMALL, "resnet50", weights=weights)


def test_weights_that_cannot_be_downloaded(monkeypatch):
    def without_network(**settings):
        raise Exception("URL fetch failure on https://x/y.h5: None --\n [Errno -2] Name or service not known")

    monkeypatch.setattr(keras.applications, "DenseNet169", without_network)
    with pytest.raises(InputError) as error:
        build_extractor(SMALL, "densenet169", weights="imagenet")
    assert str(error.value) == (
        "weights: imagenet of DenseNet169 could not be downloaded (URL fetch failure on https://x/y.h5: None -- "
        "[Errno -2] Name or service not known); check the network, or leave weights out"
    )


# ConvNet-5


def test_convnet5_pools_after_elu_as_the_paper_does():
    model = maps_model("convnet5", SMALL)
    x = 10 * noise(2, 3 * SMALL.n_frames, SMALL.n_mels, 1)
    got = model(x, training=False)
    for name in got:
        x = model.get_layer(f"{name}_convolution")(x)
        x = model.get_layer(f"{name}_normalisation")(x, training=False)
        x = keras.layers.ELU()(x)
        x = keras.layers.MaxPooling2D(model.get_layer(f"{name}_pool").pool_size)(x)
        np.testing.assert_allclose(got[name], x, rtol=1e-5, atol=1e-5, err_msg=name)
    assert any((values.numpy() < 0).any() for values in got.values()), "ELU has not been tried below zero"


def test_convnet5_at_the_papers_settings():
    config = preset("choi2017")
    model = maps_model("convnet5", config)
    maps = model(10 * noise(1, config.n_frames, config.n_mels, 1) - 40)
    sizes = {name: tuple(values.shape[1:]) for name, values in maps.items()}
    assert sizes == {
        "layer1": (340, 48, 32),
        "layer2": (85, 16, 32),
        "layer3": (17, 8, 32),
        "layer4": (4, 4, 32),
        "layer5": (1, 1, 32),
    }


def test_convnet5_has_the_papers_39282_parameters():
    model = add_head(build_extractor(preset("choi2017")), n_labels=50, multi_label=True)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 39_282


@pytest.mark.parametrize("network", [name for name in BACKBONES if hasattr(backbone(name), "receptive_fields")])
@pytest.mark.parametrize("clip_seconds", [pytest.param(0.1, marks=pytest.mark.slow), 0.9, 1.0])
def test_receptive_fields_are_the_real_ones(network, clip_seconds):
    """An impulse in one frame at a time: with positive kernels, what sees it is above zero and all else is zero."""
    config = SMALL.with_clip_seconds(clip_seconds)
    fields = backbone(network).receptive_fields(config)
    spectrogram = keras.Input((None, config.n_mels, 1))
    model = keras.Model(spectrogram, backbone(network).feature_maps(spectrogram, config))
    assert list(fields) == list(model.output)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, *bias = layer.get_weights()
            layer.set_weights([np.full_like(kernel, 1 / kernel[..., 0].size), *map(np.zeros_like, bias)])
    n_frames = fields[list(fields)[-1]][0] + 4 * max(step for _, step in fields.values())
    impulses = np.eye(n_frames, dtype=np.float32)[:, :, None, None] * np.ones((config.n_mels, 1), np.float32)
    batches = [model(impulses[start : start + 64], training=False) for start in range(0, n_frames, 64)]
    for name in model.output:
        maps = np.concatenate([batch[name] for batch in batches])
        sees = maps.max(axis=(2, 3)) > 0  # (impulse's frame, cell)
        seen, step = fields[name]
        assert sees.sum(axis=0).max() == seen, name
        inner = np.flatnonzero(sees.sum(axis=0) == seen)  # cells whose field is all inside the clip
        assert len(inner) >= 2, name
        for cell in inner:
            frames = np.flatnonzero(sees[:, cell])
            assert frames[-1] - frames[0] + 1 == seen, f"{name}: the field has holes"
        starts = [np.flatnonzero(sees[:, cell])[0] for cell in inner]
        np.testing.assert_array_equal(np.diff(starts), step, err_msg=name)


def test_receptive_fields_at_the_papers_settings():
    fields = backbone("convnet5").receptive_fields(preset("choi2017"))
    # By hand: a convolution adds 2 steps, a pool p - 1 steps; then the step grows by p.
    assert fields["layer1"] == (1 + 2 + 3, 4)
    assert fields["layer2"] == (6 + 4 * (2 + 3), 16)
    assert fields["layer5"][1] == 4 * 4 * 5 * 4 * 4


pools_and_size = given(
    st.lists(st.integers(1, 9), min_size=1, max_size=7).map(tuple), st.one_of(st.integers(1, 40), st.integers(1, 10**6))
)


@settings(deadline=None)
@pools_and_size
def test_fitted_pools_fit_and_never_grow(pools, size):
    fitted = fitted_pools(pools, size)
    assert len(fitted) == len(pools)
    assert all(1 <= new <= old for new, old in zip(fitted, pools, strict=True))
    assert np.prod(fitted) <= size
    if np.prod(pools) <= size:
        assert fitted == pools


@settings(deadline=None)
@pools_and_size
def test_fitted_pools_take_no_more_than_they_must(pools, size):
    fitted = fitted_pools(pools, size)
    assert fitted_pools(fitted, size) == fitted
    if fitted != pools:
        one_less_reduced = [
            np.prod([*fitted[:i], fitted[i] + 1, *fitted[i + 1 :]]) for i in range(len(pools)) if fitted[i] < pools[i]
        ]
        assert max(one_less_reduced) > size


@settings(deadline=None)
@pools_and_size
def test_fitted_pools_reduce_the_largest_first(pools, size):
    fitted = fitted_pools(pools, size)
    reduced = [new for new, old in zip(fitted, pools, strict=True) if new < old]
    for new, old in zip(fitted, pools, strict=True):
        if reduced and new == old:
            assert new <= min(reduced) + 1  # never larger than a pool was before it was reduced


@settings(deadline=None)
@pools_and_size
def test_fitted_pools_grow_with_the_size(pools, size):
    smaller, larger = fitted_pools(pools, size), fitted_pools(pools, size + 1)
    assert all(a <= b for a, b in zip(smaller, larger, strict=True))


@pytest.mark.parametrize(
    ("pools", "size", "expected"),
    [
        ((4, 4, 5, 4, 4), 1360, (4, 4, 5, 4, 4)),
        ((2, 3, 2, 2, 4), 96, (2, 3, 2, 2, 4)),
        ((4, 4, 5, 4, 4), 1279, (4, 4, 4, 4, 4)),
        ((4, 4, 5, 4, 4), 1023, (4, 4, 4, 4, 3)),
        ((2, 3, 2, 2, 4), 64, (2, 3, 2, 2, 2)),
        ((4, 4), 1, (1, 1)),
    ],
)
def test_fitted_pools_by_hand(pools, size, expected):
    assert fitted_pools(pools, size) == expected
