"""Which networks a test is tried on. Those that take long to build are left to the slow tests."""

from collections.abc import Iterable

import pytest

from keras_audio_transfer.backbones import BACKBONES

QUICK = ("convnet5", "sbcnn")
# One of each module: those of keras.applications differ in numbers only, and resnet50 is the quickest of them.
ONE_A_MODULE = (*QUICK, "resnet18", "densenet40", "resnet50")


def each_network(names: Iterable[str] = BACKBONES, default_tier: Iterable[str] = QUICK):
    """A test of each of these networks; the default tier has it of some only."""
    networks = [name if name in default_tier else pytest.param(name, marks=pytest.mark.slow) for name in names]
    return pytest.mark.parametrize("network", networks)
