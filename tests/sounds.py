"""Arithmetic sounds, and the small front end that most tests of networks use."""

import numpy as np

from keras_audio_transfer.config import AudioConfig

CONFIG = AudioConfig(2000, 0.25, n_fft=64, hop_length=32, n_mels=8, mel_f_min=0.0, mel_f_max=1000.0)
LAYERS = ["layer1", "layer2", "layer3", "layer4", "layer5"]  # of ConvNet-5


def noise(*shape, seed=0):
    """White noise, float32 of that shape, standard deviation 0.1."""
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)
