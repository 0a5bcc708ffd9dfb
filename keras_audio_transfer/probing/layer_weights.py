"""How much each layer counts where layers are joined. Without TensorFlow.

The kernel of a concatenation is a function of the sum of its layers' inner products, to which a scaled layer
contributes in proportion to its channels: in all layers of YAMNet the last one counts 32 times as much as the first.
"""

from collections.abc import Sequence

CHANNELS, EQUAL, CHOSEN = LAYER_WEIGHTS = ("channels", "equal", "chosen")


def layer_factors(n_channels: Sequence[int], layer_weights: str) -> tuple[float, ...]:
    """What each layer's inner products are multiplied by; its features by the square root.

    Args:
        n_channels: of each layer of a combination.
        layer_weights: 'channels': 1, every channel counts alike. 'equal': every layer counts alike. A layer of c
            channels gets n / (k * c), where the k layers have n channels together: scaled features keep their mean
            squared length, n, so that the same C and gamma, 1 / n among them, fit both. One layer, and layers of one
            width, get 1.
    """
    mean = sum(n_channels) / len(n_channels)
    return tuple(mean / n if layer_weights == EQUAL else 1.0 for n in n_channels)
