"""What each layer brings to the score of layers joined: its Shapley value. Without TensorFlow.

The mean, over all orders in which the layers may be joined one by one, of how much the score rises when the layer comes
(Shapley 1953: A value for n-person games).
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np

from keras_audio_transfer.config import checked_whole, number, shown
from keras_audio_transfer.errors import InputError


class Estimate(NamedTuple):
    """A layer's Shapley value, estimated.

    Attributes:
        value: in the unit of the scores; those of all layers add up to the score of all, minus chance.
        standard_error: of the value.
    """

    value: float
    standard_error: float


def exact(scores: Mapping[tuple[str, ...], float], chance: float) -> dict[str, float]:
    """The Shapley value of each layer from the scores of all combinations.

    Args:
        scores: names of layers that are joined, in any order -> their score; all 2^n - 1 combinations of n layers.
        chance: the score without any layer.

    Returns:
        layer -> value, in the order in which the layers are first named.

    Raises:
        InputError: a combination is missing or there twice, or a score is not finite.

    >>> values = exact({("low",): 0.5, ("high",): 0.7, ("low", "high"): 0.8}, chance=0.1)
    >>> round(values["low"], 3), round(values["high"], 3)
    (0.25, 0.45)
    """
    if any(isinstance(joined, str) for joined in scores):
        raise InputError("scores: have a text as a key; expected tuples of names, such as ('layer1', 'layer2')")
    layers = [*dict.fromkeys(layer for joined in scores for layer in joined)]
    worth = {frozenset(joined): _checked(joined, score) for joined, score in scores.items()}
    if not layers or len(worth) < len(scores):
        raise InputError("scores: name no layer, or a combination twice; expected each combination of layers once")
    worth[frozenset()] = _checked((), chance)
    values = {}
    for layer in layers:
        others = [other for other in layers if other != layer]
        values[layer] = 0.0
        for size in range(len(layers)):
            gains = [_gain(worth, layer, joined) for joined in combinations(others, size)]
            values[layer] += sum(gains) / comb(len(others), size) / len(layers)
    return values


def _gain(worth, layer, joined):
    try:
        return worth[frozenset((*joined, layer))] - worth[frozenset(joined)]
    except KeyError as error:
        (missing,) = error.args
        raise InputError(
            f"scores: lack {'+'.join(sorted(missing))}; expected all combinations of the layers; probe it, or "
            "estimate the values with `sampled`"
        ) from error


def sampled(
    score: Callable[[tuple[str, ...]], float],
    layers: Sequence[str],
    chance: float,
    permutations: int = 100,
    seed: int = 0,
) -> dict[str, Estimate]:
    """The Shapley value of each layer, estimated on random orders of the layers.

    After Castro et al. 2009 (Polynomial calculation of the Shapley value based on sampling, Computers & Operations
    Research 36). Each combination is scored once at most.

    Args:
        score: of layers joined, which it is given in the order of `layers`.
        layers: their names.
        chance: the score without any layer.
        permutations: how many orders, two or more; each scores up to as many combinations as there are layers.
        seed: of the orders.

    Returns:
        layer -> value and standard error, in the order of `layers`.

    Raises:
        InputError: no layers, or one twice; fewer than two orders; or a score that is not finite.

    >>> values = sampled(lambda joined: 0.1 + 0.2 * len(joined), ["low", "high"], chance=0.1, permutations=4)
    >>> round(values["low"].value, 3)
    0.2
    """
    if not layers or len({*layers}) < len(layers):
        raise InputError(f"layers: are {shown([*layers])}; expected one or more, each once")
    checked_whole("permutations", permutations, 2, "a whole number of orders, 2 or more")
    worth, rng = {(): _checked((), chance)}, np.random.default_rng(seed)
    gains = np.empty((permutations, len(layers)))
    for of_order in gains:
        joined, before = [], worth[()]
        for place in rng.permutation(len(layers)):
            joined.append(place)
            names = tuple(layers[i] for i in sorted(joined))
            if names not in worth:
                worth[names] = _checked(names, score(names))
            of_order[place] = worth[names] - before
            before = worth[names]
    errors = gains.std(axis=0, ddof=1) / np.sqrt(permutations)
    return {
        layer: Estimate(*pair)
        for layer, *pair in zip(layers, gains.mean(axis=0).tolist(), errors.tolist(), strict=True)
    }


def _checked(joined, score):
    if not np.isfinite(number(score)):
        of = "+".join(joined) or "no layer (chance)"
        raise InputError(f"scores: that of {of} is {shown(score)}; expected a finite number")
    return float(score)
