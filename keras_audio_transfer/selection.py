"""Which layers to combine: by trying all combinations, or step by step where there are too many."""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

Combination = tuple[str, ...]
Evaluate = Callable[[list[Combination]], dict[Combination, float]]


def all_combinations(names: Sequence[str], largest: int | None = None) -> list[Combination]:
    """All combinations of up to `largest` names (of any number, if None), fewest first, names in their order."""
    sizes = range(1, (len(names) if largest is None else min(largest, len(names))) + 1)
    return [chosen for size in sizes for chosen in combinations(names, size)]


def exhaustive(names: Sequence[str], evaluate: Evaluate) -> Combination:
    """The best of all 2^n - 1 combinations; of equals the one with the fewest names."""
    return _best(evaluate(all_combinations(names)))


def forward(names: Sequence[str], evaluate: Evaluate) -> Combination:
    """The best combination on the way from the best single name to all, adding each time the one that helps most."""
    scores, chosen = {}, ()
    while len(chosen) < len(names):
        chosen = _step(
            (tuple(n for n in names if n in chosen or n == new) for new in names if new not in chosen), scores, evaluate
        )
    return _best(scores)


def backward(names: Sequence[str], evaluate: Evaluate) -> Combination:
    """The best combination on the way from all names to one, leaving out each time the one that is missed least."""
    chosen = tuple(names)
    scores = evaluate([chosen])
    while len(chosen) > 1:
        chosen = _step((tuple(n for n in chosen if n != old) for old in chosen), scores, evaluate)
    return _best(scores)


def _step(candidates: Iterable[Combination], scores: dict, evaluate: Evaluate) -> Combination:
    """The best candidate; the scores of all are added to `scores`."""
    new = evaluate(list(candidates))
    scores.update(new)
    return _best(new)


def _best(scores):
    return max(scores, key=lambda chosen: (scores[chosen], -len(chosen)))


def n_evaluations(method: Callable, n_names: int) -> int:
    """How many combinations `method` evaluates, of 2^n_names - 1."""
    return 2**n_names - 1 if method is exhaustive else n_names * (n_names + 1) // 2
