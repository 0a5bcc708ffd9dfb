"""Networks: spectrogram -> a dict of feature maps, one entry per layer, in order of depth.

To add one: write a module with `CITATION` and a function `feature_maps(spectrogram, config)` like its neighbours', and
name it in `BACKBONES`. `config` is for networks whose sizes follow from the clip's length or the decibel range; the
others have no use for it. The contract tests then run it on every clip length, save and reload it, and compare its
declared sizes with its real ones.
"""

from keras_audio_transfer.backbones import convnet5, densenet40, resnet18, sbcnn
from keras_audio_transfer.backbones.applications import APPLICATIONS
from keras_audio_transfer.errors import InputError

BACKBONES = {"convnet5": convnet5, "sbcnn": sbcnn, "densenet40": densenet40, "resnet18": resnet18, **APPLICATIONS}


def backbone(name: str):
    """The module (or `Application`) of that network. Raises InputError for an unknown name."""
    if name not in BACKBONES:
        raise InputError(f"network: {name!r} is unknown; choose from {', '.join(BACKBONES)}")
    return BACKBONES[name]
