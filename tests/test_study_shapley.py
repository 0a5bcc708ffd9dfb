"""Shapley values: known games, their axioms, and the estimate against the exact values."""

from itertools import combinations, permutations

import numpy as np
import pytest
from conftest import assert_refused

from keras_audio_transfer.study.shapley import exact, sampled

LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5"]


def game(n_layers=5, seed=0):
    """The score of each combination of layers, at random."""
    rng = np.random.default_rng(seed)
    layers = LAYERS[:n_layers]
    joined = [some for size in range(1, n_layers + 1) for some in combinations(layers, size)]
    return dict(zip(joined, rng.uniform(0.2, 0.9, len(joined)), strict=True))


def test_exact_values_are_means_over_all_orders():
    scores, chance = game(), 0.1
    values = exact(scores, chance)
    assert [*values] == LAYERS
    worth = {frozenset(joined): score for joined, score in scores.items()} | {frozenset(): chance}
    orders = [*permutations(LAYERS)]
    for layer in LAYERS:
        before = [frozenset(order[: order.index(layer)]) for order in orders]
        assert values[layer] == pytest.approx(np.mean([worth[some | {layer}] - worth[some] for some in before]))


def test_values_add_up_to_the_score_of_all_layers_minus_chance():
    for n_layers in range(1, 6):
        scores = game(n_layers, seed=n_layers)
        assert sum(exact(scores, 0.1).values()) == pytest.approx(scores[tuple(LAYERS[:n_layers])] - 0.1)


def test_a_layer_that_brings_nothing_has_no_value_and_equals_are_equal():
    # The glove game: a left glove and either of two right ones make a pair; conv4 is none.
    scores = {
        some: float("conv1" in some and bool({"conv2", "conv3"} & {*some}))
        for size in range(1, 5)
        for some in combinations(LAYERS[:4], size)
    }
    expected = {"conv1": 2 / 3, "conv2": 1 / 6, "conv3": 1 / 6, "conv4": 0}
    assert exact(scores, 0) == pytest.approx(expected)
    assert exact({some[::-1]: score for some, score in scores.items()}, 0) == pytest.approx(expected)


def test_sampled_values_are_the_exact_ones_within_their_error():
    scores = game()
    calls = []

    def score(joined):
        calls.append(joined)
        return scores[joined]

    values, expected = sampled(score, LAYERS, 0.1, permutations=400, seed=1), exact(scores, 0.1)
    assert len({*calls}) == len(calls) <= 2**5 - 1
    assert [*values] == LAYERS
    assert sum(share.value for share in values.values()) == pytest.approx(scores[tuple(LAYERS)] - 0.1)
    away = [(share.value - expected[layer]) / share.standard_error for layer, share in values.items()]
    assert max(map(abs, away)) < 3
    many = sampled(score, LAYERS, 0.1, permutations=1600, seed=1)
    assert many["conv1"].standard_error == pytest.approx(values["conv1"].standard_error / 2, rel=0.1)


def test_standard_errors_are_of_the_spread_between_seeds():
    scores = game()
    runs = [sampled(scores.get, LAYERS, 0.1, permutations=20, seed=seed)["conv3"] for seed in range(100)]
    spread = np.std([run.value for run in runs], ddof=1)
    assert np.mean([run.standard_error for run in runs]) == pytest.approx(spread, rel=0.25)


BAD = {
    "scores: lack a+b; expected all combinations of the layers; probe it, or estimate the values with `sampled`": (
        lambda: exact({("a",): 0.5, ("b",): 0.6}, 0.1)
    ),
    "scores: name no layer, or a combination twice; ": lambda: exact({("a", "b"): 0.5, ("b", "a"): 0.5}, 0.1),
    "scores: have a text as a key; expected tuples of names, ": lambda: exact({"a": 0.5}, 0.1),
    "scores: that of a is nan; expected a finite number": lambda: exact({("a",): np.nan}, 0.1),
    "scores: that of no layer (chance) is nan; ": lambda: exact({("a",): 0.5}, np.nan),
    "layers: are []; expected one or more, each once": lambda: sampled(len, [], 0.1),
    "permutations: 1 is not allowed; expected a whole number of orders, 2 or more": (
        lambda: sampled(len, ["a"], 0.1, permutations=1)
    ),
    "scores: that of a is 'high'; expected a finite number": lambda: sampled(lambda joined: "high", ["a"], 0.1),
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_is_said_in_one_line(message):
    assert_refused(message, BAD[message])
