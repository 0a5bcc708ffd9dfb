"""ConvNet-5: five blocks of convolution, normalisation, ELU and max-pooling (Choi et al. 2017, section 3, figure 2)."""

import keras

from keras_audio_transfer.config import AudioConfig, fitted_pools
from keras_audio_transfer.layers import ClampedMaxPooling2D

CITATION = (
    "K. Choi, G. Fazekas, M. Sandler, K. Cho: Transfer learning for music classification and regression tasks. "
    "ISMIR 2017, arXiv:1703.09179"
)
FILTERS = 32
KERNEL = 3
# One row a block: name, pool over frames, pool over mels, for 1360 frames and 96 mels.
BLOCKS = (
    ("layer1", 4, 2),
    ("layer2", 4, 3),
    ("layer3", 5, 2),
    ("layer4", 4, 2),
    ("layer5", 4, 4),
)


def _blocks(config: AudioConfig) -> list[tuple[str, int, int]]:
    """`BLOCKS` with pools that fit the clip; at the paper's settings, the paper's."""
    names, frame_pools, mel_pools = zip(*BLOCKS, strict=True)
    frame_pools = fitted_pools(frame_pools, config.n_frames)
    mel_pools = fitted_pools(mel_pools, config.n_mels)
    return [*zip(names, frame_pools, mel_pools, strict=True)]


def feature_maps(
    spectrogram, config: AudioConfig, tap: str = "pool", normalisation=keras.layers.BatchNormalization
) -> dict:
    """The maps of every block.

    Args:
        spectrogram: Keras tensor (batch, frames, mels, 1); any number of frames.
        config: the front end. Its clip length and mel bands decide the pools: the paper's where they fit, else smaller
            ones (`fitted_pools`).
        tap: 'pool': a block's maps are its output, after the pool. 'activation': those before the pool, as the
            published weights of version 2 are used.
        normalisation: class of the normalisation layers.

    Returns:
        {'layer1': (batch, frames, mels, 32), ... 'layer5'}.
    """
    taps = {}
    x = spectrogram
    for name, frame_pool, mel_pool in _blocks(config):
        x = keras.layers.Conv2D(
            FILTERS, KERNEL, padding="same", kernel_initializer="he_normal", name=f"{name}_convolution"
        )(x)
        # Momentum 0.9: a small data set has too few batches for Keras's 0.99.
        x = normalisation(momentum=0.9, epsilon=1e-3, name=f"{name}_normalisation")(x)
        activation, pool = keras.layers.ELU(name=name), ClampedMaxPooling2D((frame_pool, mel_pool), name=f"{name}_pool")
        if tap == "activation":
            x = taps[name] = activation(x)
            x = pool(x)
        else:
            # The paper pools after ELU. ELU is monotonic, so the maximum is the same, with fewer ELUs to compute.
            x = pool(x)
            x = taps[name] = activation(x)
    return taps


def receptive_fields(config: AudioConfig) -> dict[str, tuple[int, int]]:
    """For each layer, how many frames one of its cells sees, and by how many frames neighbouring cells are apart."""
    fields, seen, step = {}, 1, 1
    for name, frame_pool, _ in _blocks(config):
        seen += (KERNEL - 1) * step  # the convolution
        seen += (frame_pool - 1) * step  # the pool
        step *= frame_pool
        fields[name] = (seen, step)
    return fields
