"""What the networks with a normalisation around every convolution share."""

import keras


def conv2d(x, filters: int, size: int, name: str, strides: int = 1):
    """A convolution of `size` frames and mels without bias, which a normalisation would take away again."""
    return keras.layers.Conv2D(
        filters, size, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )(x)


def batch_norm(x, name: str):
    """Batch normalisation. Momentum 0.9: a small data set has too few batches for Keras's 0.99."""
    return keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_normalisation")(x)
