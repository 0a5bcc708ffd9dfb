"""Some of the clips that a classifier was fitted on: which of them are most like a sound. Without TensorFlow."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.probing.layer_weights import CHANNELS, layer_factors

EXAMPLES = "examples.npz"  # in a model folder
NEAREST = 3


class Example(NamedTuple):
    """A clip that was kept.

    Attributes:
        clip: its id.
        labels: those that it was fitted with.
    """

    clip: str
    labels: tuple[str, ...]


class Examples:
    """Clips to compare with, in the features that the SVM uses: its layers, joined, scaled and weighted.

    The scale is that of the clips that were kept.

    Args:
        table: of these clips, with the layers in the order of their concatenation.
        layer_weights: see `layer_factors`.
    """

    def __init__(self, table: FeatureTable, layer_weights: str = CHANNELS):
        from sklearn.preprocessing import StandardScaler  # takes a second to import

        self.table = table
        sizes = [values.shape[1] for values in table.layers.values()]
        scale = StandardScaler().fit(self._joined(table.layers)).scale_
        self._scale = scale / np.repeat(np.sqrt(layer_factors(sizes, layer_weights)), sizes)

    @property
    def layers(self) -> list[str]:
        """The layers whose features are compared."""
        return [*self.table.layers]

    def nearest(self, features: Mapping[str, np.ndarray], number: int = NEAREST) -> list[Example]:
        """The clips with the smallest Euclidean distance to a sound, the nearest first.

        Args:
            features: layer -> (1, channels).
            number: of clips, at most.
        """
        beyond = (self._joined(self.table.layers) - self._joined(features)) / self._scale
        order = np.argsort(np.square(beyond).sum(axis=1), kind="stable")[:number]
        names, labels = np.array(self.table.label_names, dtype=object), self.table.labels
        has = [names[labels[row] == 1] if labels.ndim == 2 else [names[labels[row]]] for row in order]
        return [Example(str(self.table.clip_ids[row]), tuple(of_row)) for row, of_row in zip(order, has, strict=True)]

    def _joined(self, layers):
        return np.concatenate([layers[name] for name in self.layers], axis=1).astype(np.float64)


def keep(features: FeatureTable, layers: Mapping[str, str], number: int, seed: int = 0) -> FeatureTable:
    """The features, labels and names of some clips.

    Args:
        features: of all clips that a classifier is fitted on.
        layers: their names there -> their names in the model, in the order of their concatenation.
        number: how many clips, at most; of each label the same fraction of its clips.
        seed: which.
    """
    from keras_audio_transfer.probing.learning_curve import nested_places  # takes a second to import

    order = np.argsort(nested_places(features, np.arange(len(features)), seed), kind="stable")
    rows = np.sort(order[:number])
    about = {name: getattr(features, name)[rows] for name in ("clip_ids", "labels", "folds", "splits")}
    of_layers = {name: features.layers[there][rows] for there, name in layers.items()}
    return FeatureTable(of_layers, label_names=features.label_names, **about)


def read(model_dir: Path, card: Card) -> Examples | None:
    """The clips that a model folder keeps; None where it keeps none.

    Raises:
        InputError: the file is damaged, or of another model.
    """
    path = model_dir / EXAMPLES
    if not path.exists():
        return None
    table, probe = FeatureTable.load(path), card.probe or {}
    sizes = {name: values.shape[1] for name, values in table.layers.items()}
    expected = {name: card.layer_sizes.get(name) for name in probe.get("layers") or ()}
    is_labelled = len(table) and table.labels.min() >= 0
    if sizes != expected or table.label_names != [*card.labels] or not is_labelled:
        raise InputError(
            f"{path}: is not of this model; expected clips with the layers and labels of its card.json; remove the "
            "file, or make the model again"
        )
    return Examples(table, probe.get("layer_weights") or CHANNELS)
