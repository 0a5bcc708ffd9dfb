"""Which layers to combine: by trying all combinations, or step by step where there are too many."""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, pairwise

from keras_audio_transfer.errors import InputError, is_unknown, near_miss

Combination = tuple[str, ...]
Evaluate = Callable[[list[Combination]], dict[Combination, float]]
_STEPS_IN_VAIN = 2
EXHAUSTIVE_LAYERS = 10  # up to so many, 'best' tries all combinations


def all_combinations(names: Sequence[str], largest: int | None = None) -> list[Combination]:
    """All combinations of up to `largest` names (of any number, if None), fewest first, names in their order."""
    sizes = range(1, (len(names) if largest is None else min(largest, len(names))) + 1)
    return [chosen for size in sizes for chosen in combinations(names, size)]


def exhaustive(names: Sequence[str], evaluate: Evaluate) -> Combination:
    """The best of all 2^n - 1 combinations; of equals the one with the fewest names."""
    return _best(evaluate(all_combinations(names)))


def single(names: Sequence[str], evaluate: Evaluate) -> Combination:
    """The best name alone."""
    return _best(evaluate([(name,) for name in names]))


def blocks(names: Sequence[str], evaluate: Evaluate) -> Combination:
    """The best of `all_blocks`: about twice as many as there are names, and four."""
    return _best(evaluate(all_blocks(names)))


def all_blocks(names: Sequence[str]) -> list[Combination]:
    """Each name, each two neighbours, each of four groups of neighbours, and all; the fewest names first.

    Of names SOURCE/LAYER each source has its own blocks, all of its names among them.
    """
    found = []
    for layers in _by_source(names).values():
        ends = [round(quarter * len(layers) / 4) for quarter in range(5)]
        spans = [(start, start + size) for size in (1, 2) for start in range(len(layers) - size + 1)]
        spans += [*pairwise(ends), (0, len(layers))]
        found += [tuple(layers[start:end]) for start, end in spans if start < end]
    return sorted(dict.fromkeys([*found, tuple(names)]), key=len)


def forward(names: Sequence[str], evaluate: Evaluate) -> Combination:
    """The best combination on the way from the best single name to all, adding each time the one that helps most."""
    scores, chosen = {}, ()
    while len(chosen) < len(names):
        chosen = _step(_with_one_more(names, chosen), scores, evaluate)
    return _best(scores)


def greedy(names: Sequence[str], evaluate: Evaluate) -> Combination:
    """As `forward`, but given up when two steps in a row have not helped: for many names."""
    scores, chosen, best = {}, (), ()
    while len(chosen) < min(len(names), len(best) + _STEPS_IN_VAIN):
        chosen = _step(_with_one_more(names, chosen), scores, evaluate)
        best = _best(scores)
    return best


def within_sources(names: Sequence[str], evaluate: Evaluate) -> Combination:
    """The best combination of the layers of one source: of names SOURCE/LAYER, of all sources.

    Of up to 10 layers all combinations are tried, of more `greedy` is the way.
    """
    scores = {}

    def evaluated(combinations):
        found = evaluate(combinations)
        scores.update(found)
        return found

    for layers in _by_source(names).values():
        thorough(layers)(layers, evaluated)
    return _best(scores)


def single_or_all(names: Sequence[str], evaluate: Evaluate) -> Combination:
    """The best of each name alone and all names of each source together: of names SOURCE/LAYER, of all sources."""
    return _best(evaluate(all_single_or_all(names)))


def all_single_or_all(names: Sequence[str]) -> list[Combination]:
    """Each name, and all names of each source; the fewest names first."""
    found = [*((name,) for name in names), *map(tuple, _by_source(names).values())]
    return sorted(dict.fromkeys(found), key=len)


def _by_source(names):
    result: dict[str, list[str]] = {}
    for name in names:
        result.setdefault(name.rpartition("/")[0], []).append(name)
    return result


def thorough(names: Sequence[str]) -> Callable:
    """The method that tries as many combinations of these names as are worth the time."""
    return exhaustive if len(names) <= EXHAUSTIVE_LAYERS else greedy


def backward(names: Sequence[str], evaluate: Evaluate) -> Combination:
    """The best combination on the way from all names to one, leaving out each time the one that is missed least."""
    chosen = tuple(names)
    scores = evaluate([chosen])
    while len(chosen) > 1:
        chosen = _step((tuple(n for n in chosen if n != old) for old in chosen), scores, evaluate)
    return _best(scores)


def _with_one_more(names, chosen):
    """What the chosen names and one of the others make, in the order of all names."""
    return (tuple(n for n in names if n in chosen or n == new) for new in names if new not in chosen)


def _step(candidates: Iterable[Combination], scores: dict, evaluate: Evaluate) -> Combination:
    """The best candidate; the scores of all are added to `scores`."""
    new = evaluate(list(candidates))
    scores.update(new)
    return _best(new)


def _best(scores):
    return max(scores, key=lambda chosen: (scores[chosen], -len(chosen)))


def n_evaluations(method: Callable, names: Sequence[str]) -> int:
    """How many combinations of these names `method` evaluates, at most."""
    n = len(names)
    if method is within_sources:
        return sum(n_evaluations(thorough(layers), layers) for layers in _by_source(names).values())
    return {exhaustive: 2**n - 1, single: n, blocks: len(all_blocks(names))}.get(method, n * (n + 1) // 2)


METHODS = {"single": single, "blocks": blocks, "forward": forward, "greedy": greedy, "backward": backward}
KEYWORDS = ("layers", "all", "<=N", "best", *METHODS)


def parse_combinations(text: str, layer_names: Sequence[str]) -> list[Combination] | Callable:
    """The layer combinations that a user asked for, or the method that is to find one.

    Args:
        text: 'layers' (each layer alone, and all together), 'all' (all 2^n - 1 combinations, fewest layers first),
            '<=N' (all of at most N layers), or a list such as 'layer1,layer2+layer3', in any order; or a method of
            this module: 'single', 'blocks', 'forward', 'greedy', 'backward', or 'best', which is exhaustive for up to
            10 layers and forward for more.
        layer_names: the layers there are.

    Raises:
        InputError: an unknown layer, or one twice in a combination; all combinations of too many layers.
    """
    every = tuple(layer_names)
    if text == "best":
        return exhaustive if len(every) <= EXHAUSTIVE_LAYERS else forward
    if text in METHODS:
        return METHODS[text]
    if text == "layers":
        return list(dict.fromkeys([*((name,) for name in every), every]))
    if text == "all":
        if len(every) > 2 * EXHAUSTIVE_LAYERS:
            raise InputError(f"combinations: all of {len(every)} layers are too many; pass forward, backward or <=2")
        return all_combinations(every)
    if text.startswith("<="):
        if not text[2:].strip().isdecimal() or int(text[2:]) < 1:
            raise InputError(f"combinations: {text!r} is not allowed; expected <= and a number from 1 up, as in <=2")
        return all_combinations(every, int(text[2:]))
    chosen = [tuple(part.strip() for part in item.split("+")) for item in text.split(",")]
    for layers in chosen:
        for name in layers:
            if name not in every:
                meant = every if near_miss(name, every) else [*every, *KEYWORDS]
                raise InputError(f"combinations: layer {is_unknown(name, meant)}")
        if len(set(layers)) < len(layers):
            raise InputError(f"combinations: {'+'.join(layers)!r} names a layer twice; name each once")
    return list(dict.fromkeys(tuple(sorted(layers, key=every.index)) for layers in chosen))


def wanted_combinations(
    text: str, layer_names: Sequence[str], baseline: tuple[str, ...] = ()
) -> list[Combination] | Callable:
    """The combinations that a user asked for, or the method that is to find one, beside a baseline's layers.

    Args:
        text, layer_names: see `parse_combinations`.
        baseline: layers of other features: they come alone as well, and joined to each combination; a method chooses
            among them, too.

    Raises:
        InputError: nothing, an empty name, a keyword among layers, and see `parse_combinations`.
    """
    if not text.strip():
        raise InputError(f"combinations: is empty; expected one of {', '.join(KEYWORDS)}, or a list of layers")
    names = [name.strip() for name in re.split("[,+]", text)]
    for name in names if len(names) > 1 else ():
        if not name:
            raise InputError(f"combinations: {text!r} lacks a name beside a comma or plus; expected a layer there")
        if name not in layer_names and (name in KEYWORDS or name.startswith("<=")):
            raise InputError(f"combinations: {name!r} stands beside others in {text!r}; expected it alone, or layers")
    wanted = parse_combinations(text, layer_names)
    if callable(wanted):
        return parse_combinations(text, (*layer_names, *baseline))
    return [*wanted, baseline, *(layers + baseline for layers in wanted)] if baseline else wanted
