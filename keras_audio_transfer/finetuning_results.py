"""Tables of transfer: means over seeds with intervals, differences seed by seed, and how little data are enough.

A table has a row per training: see `COLUMNS`. Intervals are Student's t over the seeds, 95 %. All seeds of a transfer
share their test clips: an interval says how much depends on the seed (weights, order, choice of training clips), not on
the test.
"""

import csv
import io
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import number_in
from keras_audio_transfer.finetuning_config import STRATEGIES, fraction_name
from keras_audio_transfer.intervals import CONFIDENCE, t_half_width

KEY = ["source", "target", "network", "multiscale", "strategy", "fraction", "seed"]
MEASURES = ["train_clips", "accuracy", "f1_macro", "loss", "validation_accuracy", "epochs", "seconds"]
COLUMNS = [*KEY, *MEASURES]
CELL = [name for name in KEY if name != "seed"]  # what seeds are repetitions of
NOT_OF_A_PROBE = ("loss", "validation_accuracy", "epochs")


def read(paths: Sequence[Path]) -> pd.DataFrame:
    """The rows of several tables as `scripts/transfer.py` writes them; the index says in which table each stands.

    Raises:
        InputError: a file that is not there, is no such table, has been edited or cut, or holds a row that another one
            holds, too; or the seeds of one cell were trained on different numbers of clips.
    """
    rows, index, keys, train_clips = [], [], set(), {}
    for path in paths:
        for where, row in _rows(path):
            key = tuple(row[name] for name in KEY)
            if key in keys:
                raise InputError(f"{where}: is a second row of one cell ({_words(row, KEY)}); leave one of the two out")
            keys.add(key)
            before = train_clips.setdefault(tuple(row[name] for name in CELL), row["train_clips"])
            if row["train_clips"] != before:
                raise InputError(
                    f"{where}: has {row['train_clips']} train_clips, where another seed of its cell "
                    f"({_words(row, CELL)}) has {before}; expected as many for all; summarise them apart"
                )
            rows.append(row)
            index.append(path)
    return pd.DataFrame(rows, index, COLUMNS)


def _words(row, names):
    return ", ".join(f"{name} {row[name]}" for name in names)


def _rows(path: Path) -> Iterator[tuple[str, dict]]:
    """The rows of a table, each with where it stands."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected the results.csv of `transfer`")
    remedy = "put it back as it was, or remove it"
    try:
        # As spreadsheets write it, too: they put a byte order mark in front.
        text = path.read_bytes().decode("utf-8-sig")
        lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        header, *rows = [(f"{path}, line {lines.line_num}", fields) for fields in lines]
        is_table = header[1] == COLUMNS and rows
    except (ValueError, csv.Error):  # no text, or no lines of a table
        is_table = False
    if not is_table:
        raise InputError(f"{path}: is not a table of `transfer`; expected rows of {', '.join(COLUMNS)}; {remedy}")
    if not text.endswith("\n"):  # a number that is cut may still be one
        raise InputError(f"{path}: is not the whole table, its last line does not end; {remedy}")
    for where, fields in rows:
        if len(fields) != len(COLUMNS):
            what = f"has {len(fields)} fields; expected {len(COLUMNS)}, {', '.join(COLUMNS)}"
            raise InputError(f"{where}: {what}; put the row back as it was, or remove it")
        yield where, _row(where, dict(zip(COLUMNS, fields, strict=True)))


def _row(where: str, fields: dict[str, str]) -> dict:
    row = {}
    for name, text in fields.items():
        value_of, expected = _FIELDS[name]
        if text == "" and name in NOT_OF_A_PROBE and row["strategy"] == "probe":
            row[name] = np.nan
            continue
        row[name] = value_of(text)
        if row[name] is None:
            was = f"{name} is {text[:60]!r}; expected {expected}"
            raise InputError(f"{where}: {was}; put the row back as it was, or remove it")
    return row


def _whole(text):
    """What fits 64 bits."""
    return int(text) if re.fullmatch("[0-9]{1,19}", text) and int(text) < 2**63 else None


def _number(is_allowed: Callable[[float], bool]) -> Callable[[str], float | None]:
    def of(text):
        number = number_in(text)
        return number if is_allowed(number) else None

    return of


# Of each column what a field says, None where it cannot say that; and what is expected.
_NAME = (lambda text: text or None), "a name"
_OF_ONE = _number(lambda number: 0 <= number <= 1), "a number of 0 to 1"
_COUNT = _whole, "a whole number of 0 to 2^63 - 1"
_POSITIVE = _number(lambda number: 0 <= number <= sys.float_info.max), "a number of 0 or more"
_FIELDS = {
    **dict.fromkeys(("source", "target", "network"), _NAME),
    "multiscale": ({"True": True, "False": False}.get, "True or False"),
    "strategy": ({name: name for name in STRATEGIES}.get, f"one of {', '.join(STRATEGIES)}"),
    "fraction": (_number(lambda number: 0 < number <= 1), "a number above 0, up to 1"),
    **dict.fromkeys(("seed", "train_clips", "epochs"), _COUNT),
    **dict.fromkeys(("accuracy", "f1_macro", "validation_accuracy"), _OF_ONE),
    **dict.fromkeys(("loss", "seconds"), _POSITIVE),
}


def means(table: pd.DataFrame) -> pd.DataFrame:
    """One row for all seeds of a cell: their number; means, of accuracy and macro F1 with half the interval's width."""
    groups = table.groupby(CELL, sort=False)
    return groups.agg(
        seeds=("seed", "size"),
        train_clips=("train_clips", "mean"),
        accuracy=("accuracy", "mean"),
        accuracy_interval=("accuracy", t_half_width),
        f1_macro=("f1_macro", "mean"),
        f1_macro_interval=("f1_macro", t_half_width),
        epochs=("epochs", "mean"),
        seconds=("seconds", "mean"),
    ).reset_index()


def contrast(table: pd.DataFrame, column: str, first, second) -> pd.DataFrame:
    """Seed by seed, how much more accurate the rows with one value are than those with another, all else being equal.

    Args:
        table: as `read` returns it, or a contrast of another column (for interactions).
        column: the one that differs, such as 'strategy'.
        first, second: its values.

    Returns:
        The columns of the key but `column`, and accuracy: the difference.
    """
    same = [name for name in KEY if name in table and name != column]
    pairs = table[table[column] == first].merge(table[table[column] == second], on=same, suffixes=("", "_second"))
    return pairs[same].assign(accuracy=pairs["accuracy"] - pairs["accuracy_second"])


def mean_contrast(differences: pd.DataFrame) -> pd.DataFrame:
    """A contrast's mean over the seeds, with half the width of its interval: accuracy, accuracy_interval, seeds."""
    groups = differences.groupby([name for name in differences if name not in ("seed", "accuracy")], sort=False)
    return groups["accuracy"].agg(accuracy="mean", accuracy_interval=t_half_width, seeds="size").reset_index()


def overall(differences: pd.DataFrame) -> pd.DataFrame:
    """A contrast's mean over all fractions, inputs and strategies of a source, target and network, seed by seed.

    Args:
        differences: of `contrast`. Seeds that lack a cell which another seed has are left out.

    Returns:
        As `mean_contrast`, of the mean; none where there is one cell alone, or one seed.
    """
    names = ["source", "target", "network"]
    by_seed = differences.groupby([*names, "seed"], sort=False)["accuracy"].agg(accuracy="mean", cells="size")
    whole = by_seed.groupby(names)["cells"].transform("max")
    by_seed = by_seed[(by_seed["cells"] == whole) & (whole > 1)].drop(columns="cells")
    means = mean_contrast(by_seed.reset_index())
    return means[means["seeds"] > 1]


def matching_fraction(curve: Mapping[float, Sequence[float]], goal: Sequence[float], seed: int = 0) -> tuple:
    """The fraction of the training clips at which a curve reaches a goal, interpolated linearly between the fractions.

    Args:
        curve: fraction -> accuracies, one a seed.
        goal: accuracies, one a seed (those of training from scratch on all clips).
        seed: of the draws.

    Returns:
        (estimate, low, high): the fraction, and a 95 % interval. Each mean is drawn 10,000 times from the t
        distribution that its seeds give it; NaN as the interval where a cell has one seed. `inf`: it does not reach the
        goal at the largest fraction; the smallest fraction: it is above the goal there already, and the true value may
        be smaller.
    """
    fractions = np.array(sorted(curve))
    means_of_curve = np.array([[np.mean(curve[fraction]) for fraction in fractions]])
    (estimate,) = first_crossing(fractions, means_of_curve, np.array([np.mean(goal)]))
    samples = [*(curve[fraction] for fraction in fractions), goal]
    if min(map(len, samples)) < 2:
        return float(estimate), np.nan, np.nan
    rng = np.random.default_rng(seed)
    draws = [
        np.mean(values) + np.std(values, ddof=1) / np.sqrt(len(values)) * rng.standard_t(len(values) - 1, 10_000)
        for values in samples
    ]
    crossings = first_crossing(fractions, np.stack(draws[:-1], axis=1), draws[-1])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(crossings, [tail, 1 - tail], method="inverted_cdf")
    return float(estimate), float(low), float(high)


def first_crossing(fractions: np.ndarray, curves: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """The first fraction at which each curve (draws, fractions) is at its goal (draws,); inf where it never is."""
    result = np.full(len(goals), np.inf)
    for right in reversed(range(len(fractions))):
        reached = curves[:, right] >= goals
        crossing = np.full(len(goals), fractions[right])
        if right:
            rise = curves[:, right] - curves[:, right - 1]
            with np.errstate(divide="ignore", invalid="ignore"):
                part = (goals - curves[:, right - 1]) / rise
            between = np.where((part > 0) & (part < 1), part, 1.0)
            crossing = fractions[right - 1] + between * (fractions[right] - fractions[right - 1])
        result = np.where(reached, crossing, result)
    return result


def matching_fractions(table: pd.DataFrame) -> pd.DataFrame:
    """`matching_fraction` of fine-tuning for each source, target, network and input that has a scratch at 1.0, too.

    Returns:
        source, target, network, multiscale, scratch (its mean accuracy on all clips), fraction, low, high.
    """
    rows = []
    names = ["source", "target", "network", "multiscale"]
    for key, group in table.groupby(names, sort=False):
        by_fraction = {
            strategy: {fraction: [*part["accuracy"]] for fraction, part in rows.groupby("fraction")}
            for strategy, rows in group.groupby("strategy")
        }
        goal = by_fraction.get("scratch", {}).get(1.0)
        if goal and len(by_fraction.get("finetune", {})) > 1:
            found = matching_fraction(by_fraction["finetune"], goal)
            rows.append([*key, np.mean(goal), *found])
    return pd.DataFrame(rows, columns=[*names, "scratch", "fraction", "low", "high"])


def fraction_text(value: float, low: float, high: float, smallest: float) -> str:
    """A matching fraction in words."""

    def one(fraction):
        if np.isinf(fraction):
            return "never"
        return f"at most {fraction:.2f}" if fraction <= smallest else f"{fraction:.2f}"

    return one(value) + ("" if np.isnan(low) else f" ({one(low)} to {one(high)})")


def tables(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What a page about a comparison shows, as text: name -> table; those without rows are left out.

    accuracy: of every cell. transfer: fine-tuning minus scratch. multiscale: multiscale minus plain input. interaction:
    what transfer brings with multiscale input minus what it brings without. overall: these three over all cells.
    network: each network minus the one with the most rows. against_all: fine-tuning on a fraction minus scratch on all
    clips. enough: `matching_fractions`. effort: clips, epochs and minutes.
    """
    transfer = contrast(table, "strategy", "finetune", "scratch")
    first, *others = table["network"].value_counts().index
    on_all = table[(table["strategy"] == "scratch") & (table["fraction"] == 1.0)].drop(columns="fraction")
    finetuned = table[table["strategy"] == "finetune"]
    fractions = finetuned["fraction"].unique()
    repeated = pd.concat([finetuned, *(on_all.assign(fraction=fraction) for fraction in fractions)])
    networks = [contrast(table, "network", other, first).assign(network=f"{other} - {first}") for other in others]
    differences = {
        "transfer": transfer,
        "multiscale": contrast(table, "multiscale", True, False),
        "interaction": contrast(transfer, "multiscale", True, False),
        "network": pd.concat(networks, ignore_index=True) if networks else table[:0],
        "against_all": contrast(repeated, "strategy", "finetune", "scratch"),
    }
    summary = means(table)
    result = {"accuracy": _by_fraction(summary, "{:.3f}")}
    for name, rows in differences.items():
        if len(rows):
            result[name] = _by_fraction(mean_contrast(rows), "{:+.3f}")
    means_over_all = {name: overall(differences[name]) for name in ("transfer", "multiscale", "interaction")}
    of_all = pd.concat([rows.assign(difference=name) for name, rows in means_over_all.items()], ignore_index=True)
    if len(of_all):
        names = ["source", "target", "network", "difference"]
        result["overall"] = of_all[names].assign(mean=_cells(of_all, "{:+.3f}"))
    enough = matching_fractions(table)
    if len(enough):
        smallest = table[table["strategy"] == "finetune"].groupby(["source", "target", "network", "multiscale"])
        smallest = smallest["fraction"].min()
        names = [*smallest.index.names]
        text = [
            fraction_text(row.fraction, row.low, row.high, smallest[tuple(getattr(row, name) for name in names)])
            for row in enough.itertuples()
        ]
        result["enough"] = _worded(enough[names]).assign(
            **{"scratch on all clips": enough["scratch"].map("{:.3f}".format), "fraction that matches it": text}
        )
    effort = summary.drop(columns=[name for name in summary if name.startswith(("accuracy", "f1"))])
    effort["minutes"] = (effort.pop("seconds") / 60).map("{:.1f}".format)
    effort["epochs"] = effort["epochs"].map(lambda epochs: "" if pd.isna(epochs) else f"{epochs:.1f}")
    effort["train_clips"] = effort["train_clips"].map("{:.0f}".format)
    result["effort"] = _worded(effort)
    return result


def _by_fraction(rows, number):
    """A column a fraction."""
    names = [name for name in KEY if name in rows and name != "fraction"]
    wide = rows.assign(cell=_cells(rows, number)).pivot(index=names, columns="fraction", values="cell")
    wide = wide.reindex(pd.MultiIndex.from_frame(rows[names].drop_duplicates())).fillna("")
    wide.columns = [*map(fraction_name, wide.columns)]
    return _worded(wide.reset_index())


def _cells(rows, number):
    """Mean, half the interval's width, and in brackets the seeds."""
    return [
        number.format(row.accuracy)
        + ("" if np.isnan(row.accuracy_interval) else f" ± {row.accuracy_interval:.3f}")
        + f" ({row.seeds})"
        for row in rows.itertuples()
    ]


def _worded(rows):
    """With words for whether the input is multiscale."""
    if "multiscale" not in rows:
        return rows
    rows = rows.rename(columns={"multiscale": "input"})
    return rows.assign(input=rows["input"].map({True: "multiscale", False: "plain"}))
