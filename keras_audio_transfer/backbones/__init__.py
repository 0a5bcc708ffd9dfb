"""Networks: spectrogram -> a dict of feature maps, one entry per layer, in order of depth.

To add one: write a module with `CITATION` and a function `feature_maps(spectrogram, config)` like its neighbours', and
name it in `OWN`. `config` is for networks whose sizes follow from the clip's length or the decibel range; the others
have no use for it. The contract tests then run it on every clip length, save and reload it, and compare its declared
sizes with its real ones.

The names can be had without Keras, which is imported with a network.
"""

from functools import partial
from importlib import import_module

from keras_audio_transfer.errors import InputError, unknown

# A module each.
OWN = (
    "convnet5",
    "sbcnn",
    "densenet40",
    "resnet18",
)
KERAS_NETWORKS = ("densenet121", "densenet169", "densenet201", "resnet50")  # of keras.applications, see `applications`
IMAGENET = "imagenet"


def _own(name):
    return import_module(f"{__name__}.{name}")


def _application(name):
    return import_module(f"{__name__}.applications").APPLICATIONS[name]


# Name -> what imports the network.
BACKBONES = {name: partial(_own, name) for name in OWN} | {name: partial(_application, name) for name in KERAS_NETWORKS}


def backbone(name: str):
    """The module (or `Application`) of that network. Raises InputError for an unknown name."""
    if name not in BACKBONES:
        raise unknown("network", name, BACKBONES)
    return BACKBONES[name]()


def check_weights(weights: str, network: str, channels: int = 1) -> None:
    """Raise InputError unless there are published `weights` of the network of that name, for inputs of these channels.

    >>> check_weights("imagenet", "resnet50")
    >>> check_weights("imagenet", "convnet5")
    Traceback (most recent call last):
    keras_audio_transfer.errors.InputError: weights: imagenet exists for densenet121, ...
    """
    if weights != IMAGENET:
        raise unknown("weights", weights, [IMAGENET])
    if network not in KERAS_NETWORKS:
        raise InputError(
            f"weights: {IMAGENET} exists for {', '.join(KERAS_NETWORKS)} only, not for {network}; choose one of them, "
            "or leave weights out"
        )
    check_channels(channels)


def check_channels(channels: int) -> None:
    """Raise InputError unless ImageNet's weights can take that number of input channels."""
    if channels not in (1, 3):
        raise InputError(f"weights: {IMAGENET} takes 1 or 3 channels, not {channels}; leave the multiscale input out")
