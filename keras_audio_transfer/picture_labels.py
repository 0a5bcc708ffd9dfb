"""Combinations of layers in few words, for pictures. Without TensorFlow."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

LONGEST = 48  # letters of a label beside a picture
_NUMBERED = "no. "  # begins a label that has numbers for names


def label(layers: str, between: str = " + ") -> str:
    """One combination; neighbours that differ in one number share their name.

    >>> label("stem+layer1+layer2+layer3+layer5+mfcc")
    'stem + layers 1-3 5 + mfcc'
    >>> label("conv_1_out+conv_2_out")
    'conv_{1 2}_out'
    """
    groups = []  # the names of each, cut at their numbers, and which of the pieces differs
    for name in layers.split("+"):
        pieces = re.split(r"([0-9]+)", name)
        names, place = groups[-1] if groups else ([[]], None)
        differ = [i for i, (one, other) in enumerate(zip(names[-1], pieces, strict=False)) if one != other]
        if len(names[-1]) == len(pieces) and len(differ) == 1 and differ[0] % 2 and place in (None, differ[0]):
            groups[-1] = [*names, pieces], differ[0]
        else:
            groups.append(([pieces], None))
    return between.join("".join(names[0]) if place is None else _together(names, place) for names, place in groups)


def _together(names, place):
    before, after = "".join(names[0][:place]), "".join(names[0][place + 1 :])
    numbers = _runs([pieces[place] for pieces in names])
    return f"{before}s {numbers}" if before[-1:].isalpha() and not after else f"{before}{{{numbers}}}{after}"


def _runs(numbers):
    """`1`, `2`, `3`, `5` -> `1-3 5`."""
    runs = []
    for number in numbers:
        if runs and int(number) == int(runs[-1][-1]) + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else " ".join(run) for run in runs)


def unique(all_layers: Iterable[str]) -> dict[str, str]:
    """The label of each combination in a picture, no two alike.

    Instead of more than `LONGEST` letters it says what is missing of all names in the picture, and where that is too
    long as well, the numbers of its names, for `key`.
    """
    all_layers = [*all_layers]
    names, labels = _names(all_layers), {layers: label(layers) for layers in all_layers}
    for layers in labels:
        if len(labels[layers]) > LONGEST:
            missing = "+".join(name for name in names if name not in layers.split("+"))
            labels[layers] = f"all {len(names)}" + (f" without {label(missing, ' and ')}" if missing else "")
    often = Counter(labels.values())
    for layers, text in labels.items():
        if len(text) > LONGEST or often[text] > 1:
            labels[layers] = _NUMBERED + _runs([f"{names.index(name) + 1}" for name in layers.split("+")])
    return labels


def key(all_layers: Iterable[str], shown: Iterable[str]) -> str:
    """The name of each number, if one of the labels that are shown, of those of `unique`, has numbers; or else ''."""
    if not any(text.startswith(_NUMBERED) for text in shown):
        return ""
    numbers = (f"{number}\N{NO-BREAK SPACE}{name}" for number, name in enumerate(_names(all_layers), 1))
    return _NUMBERED + ", ".join(numbers)


def _names(all_layers):
    return [*dict.fromkeys(name for layers in all_layers for name in layers.split("+"))]


def of_row(row: Mapping, n_combinations: int = 1) -> str:
    """Which combination a row of `Prober.rows` is of, and how it became the one that is shown.

    Args:
        row: of a combination, or of a method that chose some.
        n_combinations: number of rows of which it has the best score.
    """
    if "chosen_by_round" not in row:
        best = f": best of {n_combinations} combinations on the scored clips" if n_combinations > 1 else ""
        return f"{label(row['layers'])}{best}"
    rounds = Counter(row["chosen_by_round"].split("; "))
    total = sum(rounds.values())
    texts = [label(layers) + f" ({times} of {total})" * (total > 1) for layers, times in rounds.most_common()]
    where = {"training parts": "inside each training part", "reported folds": "on the scored clips"}
    return f"chosen {where[row['chosen_on']]}: {', '.join(texts)}"
