"""What a transfer trains, and how: strategies, trials and their settings. Without TensorFlow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from keras_audio_transfer.errors import InputError, unknown
from keras_audio_transfer.layer_names import selected_layers

STRATEGIES = ("finetune", "scratch", "head", "probe", "random")


def fraction_name(fraction: float) -> str:
    """A fraction in as few digits as tell it from every other one: two that differ never share a name.

    >>> fraction_name(1.0), fraction_name(0.4), fraction_name(0.2499999)
    ('1', '0.4', '0.2499999')
    """
    return f"{float(fraction)}".removesuffix(".0")


@dataclass(frozen=True)
class Trial:
    """One training: its strategy (of `STRATEGIES`), its fraction of the target's training clips, its seed."""

    strategy: str
    fraction: float
    seed: int

    def __str__(self):
        return f"{self.strategy}, fraction {fraction_name(self.fraction)}, seed {self.seed}"

    @property
    def file_name(self) -> str:
        """A name for its files; no other trial has it."""
        return f"{self.strategy}.{fraction_name(self.fraction)}.seed{self.seed}"


@dataclass(frozen=True)
class FinetuningConfig:
    """How trials are trained.

    Attributes:
        epochs: maximum number of them.
        min_steps: batches an epoch at least: a small subset goes round several times, so that its training is not over
            after a few steps.
        patience: epochs without a lower validation loss after which a training stops.
        batch_size: clips a batch.
        learning_rate: of Adam at the start; falls to 0 by half a cosine.
        head_learning_rate: the same for head and random, which train few weights on features of any size.
        backbone_learning_rate_factor: finetune: what the learning rate of the weights below the head is multiplied by.
        finetune_from: finetune: the lowest layer that is trained, with all above it; None for all.
        unfreeze_epochs: finetune: gradual unfreezing; the head is trained alone for that number of epochs, then with
            the layer below it for as many, and so on. 0: all at once.
        label_smoothing: see `training.heads.compile_settings`.
        dropout: see `training.heads.add_head`.
        spec_augment: masks of frames, and as many of bands, wherever the network is trained from the spectrogram on.
        layers: probe: the combination of layers, such as 'stage1+stage3'; None for all of them.
    """

    epochs: int = 12
    min_steps: int = 40
    patience: int = 8
    batch_size: int = 32
    learning_rate: float = 5e-3
    head_learning_rate: float = 2e-2
    backbone_learning_rate_factor: float = 1.0
    finetune_from: str | None = None
    unfreeze_epochs: int = 0
    label_smoothing: float = 0.0
    dropout: float = 0.0
    spec_augment: int = 0
    layers: str | None = None

    def __post_init__(self):
        for name, at_least in {"epochs": 1, "min_steps": 1, "patience": 1, "batch_size": 1}.items():
            self._check(name, getattr(self, name) >= at_least, f"at least {at_least}")
        for name in ("unfreeze_epochs", "spec_augment"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        for name in ("learning_rate", "head_learning_rate", "backbone_learning_rate_factor"):
            self._check(name, 0 < getattr(self, name) < math.inf, "a number above 0")
        for name in ("label_smoothing", "dropout"):
            self._check(name, 0 <= getattr(self, name) < 1, "0 to below 1")

    def _check(self, name, kept, rule):
        if not kept:
            raise InputError(f"{name}: {getattr(self, name)} is not allowed; expected {rule}")

    def check_layers(self, names: Sequence[str]) -> None:
        """Raise InputError where it names layers that the network, with these layers, does not have, or one twice."""
        if self.finetune_from is not None and self.finetune_from not in names:
            raise unknown("finetune_from", self.finetune_from, names)
        lowest = names.index(self.finetune_from or names[0])
        last = (len(names) - lowest) * self.unfreeze_epochs
        if last >= self.epochs:
            raise InputError(
                f"unfreeze_epochs: {self.unfreeze_epochs} would train {names[lowest]} from epoch {last + 1} on, of "
                f"{self.epochs}; choose fewer, or more `epochs`"
            )
        selected_layers(self.probed(names), names)

    def probed(self, names: Sequence[str]) -> list[str]:
        """The layers that a probe sees."""
        return [*names] if self.layers is None else [name.strip() for name in self.layers.split("+")]
