"""Which networks a test is tried on. Those that take long to build are left to the slow tests."""

from collections.abc import Iterable

import keras
import numpy as np
import pytest
from conftest import some_quick
from sounds import CONFIG

from keras_audio_transfer.backbones import BACKBONES
from keras_audio_transfer.backbones.applications import APPLICATIONS
from keras_audio_transfer.extractor import build_extractor
from keras_audio_transfer.training.heads import add_head

LABELS = ["a", "b", "ç"]  # of the small classifier

QUICK = ("sbcnn",)  # ConvNet-5 is what most other tests are of
# One of each module: those of keras.applications differ in numbers only, and resnet50 is the quickest of them.
ONE_A_MODULE = ("convnet5", "sbcnn", "resnet18", "densenet40", "resnet50")
OWN = [network for network in BACKBONES if network not in APPLICATIONS]
# One of each of Keras's architectures, whose others differ in the number of blocks: for what takes long.
ARCHITECTURES = ("densenet121", "resnet50")


def each_network(names: Iterable[str] = BACKBONES, default_tier: Iterable[str] = QUICK):
    """A test of each of these networks; the default tier has it of some only."""
    return pytest.mark.parametrize("network", some_quick(names, default_tier))


each_architecture = each_network([*OWN, *ARCHITECTURES])


def randomise(model, seed, variances):
    """Give the normalisations statistics and scales that are all different, negative scales among them."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (weight.shape for weight in layer.weights)
            drawn = rng.normal(1, 1, gamma), rng.normal(0, 1, beta), rng.normal(0, 1, mean)
            layer.set_weights([*drawn, rng.uniform(*variances, variance)])


def small_classifier():
    """ConvNet-5 with the small front end and a head; its normalisation is as a training leaves it.

    Folding that into the weights can go wrong.
    """
    keras.utils.set_random_seed(0)
    model = add_head(build_extractor(CONFIG, pooling="mean_deviation", spec_augment=2), len(LABELS))
    randomise(model, seed=0, variances=(1, 2))
    return model
