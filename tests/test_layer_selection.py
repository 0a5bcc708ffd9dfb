"""Step by step finds what trying everything finds, wherever the layers add up; never more than it may evaluate."""

from itertools import pairwise

import numpy as np
import pytest

from keras_audio_transfer.probing import layer_selection

NAMES = [f"layer{i}" for i in range(1, 9)]
METHODS = [layer_selection.exhaustive, layer_selection.forward, layer_selection.backward]


def evaluator(score):
    """What a method calls, and the list of the combinations it asked for."""
    asked = []

    def evaluate(combinations):
        asked.extend(combinations)
        return {layers: score(layers) for layers in combinations}

    return evaluate, asked


def test_all_combinations():
    every = layer_selection.all_combinations("abc")
    assert ["".join(layers) for layers in every] == ["a", "b", "c", "ab", "ac", "bc", "abc"]
    assert layer_selection.all_combinations("abc", 2) == every[:6]
    assert layer_selection.all_combinations("abc", 7) == every


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(5))
def test_where_layers_add_up_all_methods_find_the_best(method, seed):
    worth = dict(zip(NAMES, np.random.default_rng(seed).normal(size=8), strict=True))
    evaluate, _ = evaluator(lambda layers: sum(worth[name] for name in layers))
    good = tuple(name for name in NAMES if worth[name] > 0)
    assert method(NAMES, evaluate) == good


@pytest.mark.parametrize("method", METHODS)
def test_a_step_down_does_not_end_the_search(method):
    # Two layers are worse than one, three of a kind are best: who stops at the first step down never sees them.
    worth = {1: 0.5, 2: 0.4, 3: 0.9}
    liked = dict.fromkeys("ace", 0.01)
    evaluate, _ = evaluator(lambda layers: worth.get(len(layers), 0.1) + sum(liked.get(n, -0.01) for n in layers))
    assert method("abcde", evaluate) == tuple("ace")


@pytest.mark.parametrize("method", METHODS)
def test_of_equals_the_smallest_is_taken(method):
    evaluate, _ = evaluator(lambda layers: float("c" in layers))
    assert method("abcd", evaluate) == ("c",)


@pytest.mark.parametrize("method", METHODS)
def test_number_of_evaluations(method):
    evaluate, asked = evaluator(lambda layers: -len(layers))
    method(NAMES, evaluate)
    assert len(asked) == len(set(asked)) == layer_selection.n_evaluations(method, NAMES)
    assert all(list(layers) == sorted(layers) for layers in asked)


@pytest.mark.parametrize("method", METHODS)
def test_a_single_layer(method):
    evaluate, _ = evaluator(lambda layers: 0.0)
    assert method(["mfcc"], evaluate) == ("mfcc",)


def test_the_best_single_layer():
    evaluate, asked = evaluator(lambda layers: 1.0 if layers == ("c",) else len(layers) / 10)
    assert layer_selection.single("abcd", evaluate) == ("c",)
    assert len(asked) == layer_selection.n_evaluations(layer_selection.single, "abcd") == 4


def test_blocks():
    names = "abcdefghij"
    every = ["".join(layers) for layers in layer_selection.all_blocks(names)]
    assert every == [*names, *map("".join, pairwise(names)), "cde", "fgh", names]
    assert len(layer_selection.all_blocks([f"layer{i}" for i in range(20)])) == 2 * 20 + 4
    assert layer_selection.all_blocks("ab") == [("a",), ("b",), ("a", "b")]
    assert layer_selection.all_blocks(["mfcc"]) == [("mfcc",)]
    of_two = layer_selection.all_blocks(["x/a", "x/b", "y/a"])
    assert of_two == [("x/a",), ("x/b",), ("y/a",), ("x/a", "x/b"), ("x/a", "x/b", "y/a")]


def test_the_best_block():
    evaluate, asked = evaluator(lambda layers: 1.0 if {"c", "d"} <= {*layers} else 0.5)
    assert layer_selection.blocks("abcdefgh", evaluate) == ("c", "d")
    assert len(asked) == layer_selection.n_evaluations(layer_selection.blocks, "abcdefgh") == 8 + 7 + 1


def test_greedy_gives_up_when_two_steps_have_not_helped():
    evaluate, asked = evaluator(lambda layers: {1: 0.5, 2: 0.6}.get(len(layers), 0.1) + 0.01 * ("c" in layers))
    assert layer_selection.greedy("abcdefgh", evaluate) == ("a", "c")
    assert len(asked) == 8 + 7 + 6 + 5
    assert layer_selection.greedy("abcdefgh", evaluator(lambda layers: len(layers))[0]) == tuple("abcdefgh")


def test_within_sources_layers_of_two_are_never_joined():
    names = [f"one/{n}" for n in "abc"] + [f"two/{n}" for n in "abcdefghijk"]
    evaluate, asked = evaluator(lambda layers: 0.9 if layers == ("one/a", "one/c") else 0.5)
    assert layer_selection.within_sources(names, evaluate) == ("one/a", "one/c")
    assert all(len({name.partition("/")[0] for name in layers}) == 1 for layers in asked)
    most = layer_selection.n_evaluations(layer_selection.within_sources, names)
    assert len(asked) <= most == 7 + 66
    assert layer_selection.within_sources("ab", evaluator(len)[0]) == ("a", "b")
