"""Pictures of a study's answers. Without TensorFlow."""

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from keras_audio_transfer import plots
from keras_audio_transfer.mfcc import FLOORS
from keras_audio_transfer.plots import COLOURS, GREY, VERMILION, plt
from keras_audio_transfer.study.comparisons import SIGNIFICANT
from keras_audio_transfer.study.evidence import rounded
from keras_audio_transfer.study.study_file import TWIN

_MARKERS, _LINES = "osD^vPX*", ("-", "--", ":", "-.")  # one more than colours: no two lines are alike
_BARS = "bars: 95 % intervals, cut where they are wide"
_PANELS = 3  # beside each other
_LONGEST = 34  # letters of a panel's title in a line


def curves(table: pd.DataFrame, path: Path, title: str, panel: str, line: str, x: tuple, y: tuple) -> None:
    """Lines in panels of one scale, with 95 % intervals where there are few lines.

    Args:
        table: columns `low` and `high`, and those that are named here.
        path: of the PNG or SVG file; `NAME.*` for both.
        title: above the picture.
        panel, line: columns; a panel and a line in it for each of their values.
        x, y: a column, and what it is; texts are drawn evenly, in the order in which they come.
    """
    panels, names, (x, x_label), (y, y_label) = [*table[panel].unique()], [*table[line].unique()], x, y
    n_columns = min(_PANELS, len(panels))
    n_rows = -(-len(panels) // n_columns)
    legend_rows = -(-len(names) // 3)
    size = (max(6.5, 3.4 * n_columns), 2.7 * n_rows + 0.2 * legend_rows + 1.1)
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=size, squeeze=False, sharex=True, sharey=True, layout="constrained"
    )
    ticks = None if pd.api.types.is_numeric_dtype(table[x]) else [*table[x].unique()]
    low, high = _window(table, y)
    styles = _styles(names)
    for number, axis in enumerate(axes.flat):
        if number >= len(panels):
            axis.set_axis_off()
            continue
        rows = table[table[panel] == panels[number]]
        for place, name in enumerate(names):
            _draw_line(axis, rows[rows[line] == name], x, y, ticks, (place, len(names)), styles[name])
        if low < 0 < high:
            axis.axhline(0, color=GREY, linewidth=0.8)
        axis.set_title(textwrap.fill(str(panels[number]), _LONGEST), size=9)
        axis.grid(alpha=0.3)
        if number + n_columns >= len(panels):  # none is below it
            axis.tick_params(labelbottom=True)
            axis.set_xlabel(x_label, size=9)
        if number % n_columns == 0:
            axis.set_ylabel(y_label, size=9)
    if ticks:
        axes[0, 0].set_xticks(range(len(ticks)), ticks)
    axes[0, 0].set_ylim(low, high)
    handles = [Line2D([], [], **style, label=name) for name, style in styles.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)
    bars = _BARS if len(names) <= len(COLOURS) else "intervals: in the table"
    plots.add_title(figure, f"{title}; {bars}")
    plots.save(figure, path)


def _window(table, y):
    """What is shown of y: all values, and as much of the intervals as leaves them apart."""
    bottom, top = table[y].min(), table[y].max()
    room = max(top - bottom, 0.02)
    ends = table[["low", "high"]].clip(bottom - room, top + room)
    low, high = np.nanmin([bottom, ends["low"].min()]), np.nanmax([top, ends["high"].max()])
    edge = 0.05 * max(high - low, 0.02)
    return low - edge, high + edge


def _style(place):
    line = _LINES[place // len(COLOURS) % len(_LINES)]
    about = {"color": COLOURS[place % len(COLOURS)], "marker": _MARKERS[place % len(_MARKERS)], "linestyle": line}
    return {**about, "markersize": 4, "linewidth": 1.2}


def _styles(names):
    """Each name's style: a twin is dotted and hollow in its network's colour, floors are grey."""
    networks = [name for name in names if name not in FLOORS and name.removesuffix(TWIN) not in {*names} - {name}]
    styles = {name: _style(place) for place, name in enumerate(networks)}
    floors = {name: {**_style(place), "color": "0.4", "marker": "x+"[place]} for place, name in enumerate(FLOORS)}
    hollow = {"linestyle": ":", "markerfacecolor": "white", "linewidth": 1}
    return {name: styles.get(name) or floors.get(name) or styles[name.removesuffix(TWIN)] | hollow for name in names}


def _draw_line(axis, rows, x, y, ticks, which, style):
    place, n_lines = which
    at = rows[x].to_numpy(float) if ticks is None else np.array([ticks.index(value) for value in rows[x]], float)
    has_bars = n_lines <= len(COLOURS)
    if has_bars and ticks is not None:  # so that intervals do not hide each other
        at += 0.4 * ((place + 0.5) / n_lines - 0.5)
    axis.plot(at, rows[y], **style)
    if has_bars:
        axis.vlines(at, rows["low"], rows["high"], color=style["color"], linewidth=1, alpha=0.7)


def forest(table: pd.DataFrame, path: Path, title: str, label: str, group: str, x_label: str) -> None:
    """Differences with their 95 % intervals, a row each, against a line at none.

    Args:
        table: columns `mean`, `low`, `high`, and those that are named here.
        path: of the PNG or SVG file; `NAME.*` for both.
        title: above the picture.
        label: a column; what stands beside a row.
        group: a column; rows of one value have one colour.
        x_label: what the difference is.
    """
    labels, groups = [*table[label].unique()], [*table[group].unique()]
    most = table[label].value_counts().max()
    height = 0.14 * len(labels) * max(2, most) + 0.1 * len(groups) + 1.5
    figure, axis = plt.subplots(figsize=(6 + 0.065 * max(map(len, labels)), height), layout="constrained")
    order = table.groupby(label, sort=False).cumcount()
    at = table[label].map(labels.index) + 0.7 * ((order + 0.5) / most - 0.5)
    for name, style in _styles(groups).items():
        rows = table[table[group] == name]
        axis.hlines(at[rows.index], rows["low"], rows["high"], color=style["color"], linewidth=1.2)
        axis.plot(rows["mean"], at[rows.index], **{**style, "linestyle": "", "label": name})
    low, high = _window(table, "mean")
    axis.set_xlim(min(low, 0), max(high, 0))
    axis.axvline(0, color=GREY, linewidth=0.8)
    axis.set_yticks(range(len(labels)), labels, size=8)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    for between in range(1, len(labels)):
        axis.axhline(between - 0.5, color=GREY, linewidth=0.3)
    bars = f"; {_BARS}" if table["low"].notna().any() else ""
    axis.set_xlabel(x_label + bars, size=9)
    axis.grid(axis="x", alpha=0.3)
    if len(groups) > 1:
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    plots.add_title(figure, title)
    plots.save(figure, path)


def gains(table: pd.DataFrame, path: Path, title: str) -> None:
    """Sources (rows) against targets (columns): gains, blue above none and red below; bold: significant.

    Args:
        table: columns source, source_kind, target, target_kind, mean, p_holm.
        path: of the PNG or SVG file; `NAME.*` for both.
        title: above the picture.
    """
    table = table.sort_values(["source_kind", "target_kind"], kind="stable")
    sources, targets = (table.drop_duplicates(name).set_index(name)[f"{name}_kind"] for name in ("source", "target"))
    largest = table["mean"].abs().max() or 1.0
    texts = [f"{name}\n({kind})" for name, kind in sources.items()]
    size = (1.1 * len(targets) + 1.6 + 0.065 * max(map(len, sources.index)), 0.5 * len(sources) + 2)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    values = table.pivot(index="source", columns="target", values="mean").reindex(sources.index)[targets.index]
    image = axis.imshow(values, cmap="RdBu", vmin=-largest, vmax=largest, aspect="auto")
    for row in table.itertuples():
        place = targets.index.get_loc(row.target), sources.index.get_loc(row.source)
        colour = "white" if abs(row.mean) > 0.6 * largest else "black"
        weight = "bold" if row.p_holm < SIGNIFICANT else "normal"
        text = f"{rounded(row.mean, 2):+.2f}"
        axis.text(*place, text, ha="center", va="center", color=colour, weight=weight, size=8)
    axis.set_yticks(range(len(sources)), texts, size=8)
    axis.set_xticks(range(len(targets)), [f"{name}\n({kind})" for name, kind in targets.items()], size=8)
    if max(map(len, targets.index)) > 12:
        plt.setp(axis.get_xticklabels(), rotation=40, ha="right", rotation_mode="anchor")
    figure.colorbar(image, ax=axis, label="difference of scores")
    axis.set(xlabel="target", ylabel="source")
    plots.add_title(figure, title)
    plots.save(figure, path)


def critical_difference(ranks: pd.Series, reach: float, groups: list, path: Path, title: str) -> None:
    """Mean ranks on a line, the best on the left; bars join what is not told apart (Demsar 2006).

    Args:
        ranks: name -> mean rank, the best first.
        reach: the critical difference.
        groups: of the names that a bar joins.
        path: of the PNG or SVG file; `NAME.*` for both.
        title: above the picture.
    """
    half = -(-len(ranks) // 2)
    bars_end = 0.4 + 0.25 * len(groups)
    figure, axis = plt.subplots(figsize=(7.5, 0.9 + 0.28 * (half + bars_end / 0.5)), layout="constrained")
    low, high = 1.0, float(len(ranks))
    for place, (name, rank) in enumerate(ranks.items()):
        left = place < half
        depth = bars_end + 0.5 * ((place if left else len(ranks) - 1 - place) + 1)
        end = low - 0.02 * (high - low) if left else high + 0.02 * (high - low)
        axis.plot([rank, rank, end], [0, depth, depth], color=GREY, linewidth=0.9)
        axis.annotate(
            f"{name}  {rank:.2f}" if left else f"{rank:.2f}  {name}",
            (end, depth), xytext=(-3 if left else 3, 0), textcoords="offset points",
            ha="right" if left else "left", va="center", size=8, annotation_clip=False,
        )  # fmt: skip
    for place, group in enumerate(groups):
        ends = [ranks[name] for name in group]
        axis.plot([min(ends) - 0.03, max(ends) + 0.03], [0.3 + 0.25 * place] * 2, color="black", linewidth=3)
    axis.plot([low, low + reach], [-0.9] * 2, color=VERMILION, linewidth=1.5, marker="|")
    axis.text(low + reach / 2, -1.0, f"critical difference {reach:.2f}", ha="center", va="bottom", size=8)
    axis.set(xlim=(low, high), ylim=(bars_end + 0.5 * half + 0.3, -1.7), yticks=[])
    axis.xaxis.set_ticks_position("top")
    for side in ("left", "right", "bottom"):
        axis.spines[side].set_visible(False)
    axis.spines["top"].set_position(("data", 0))
    axis.tick_params(axis="x", labelsize=8)
    plots.add_title(figure, title)
    plots.save(figure, path)


def scatter(table: pd.DataFrame, path: Path, title: str) -> None:
    """Gain against each measure, a panel each, a dot a source and target; colours are kinds of sources.

    Args:
        table: columns measure, source_kind, value, gain.
        path: of the PNG or SVG file; `NAME.*` for both.
        title: above the picture.
    """
    measures, kinds = [*table["measure"].unique()], [*table["source_kind"].unique()]
    n_columns = min(_PANELS, len(measures))
    n_rows = -(-len(measures) // n_columns)
    size = (max(5, 2.9 * n_columns), 2.6 * n_rows + 1.2)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False, sharey=True, layout="constrained")
    for number, axis in enumerate(axes.flat):
        if number >= len(measures):
            axis.set_axis_off()
            continue
        rows = table[table["measure"] == measures[number]]
        for place, kind in enumerate(kinds):
            these = rows[rows["source_kind"] == kind]
            axis.plot(these["value"], these["gain"], **{**_style(place), "linestyle": ""})
        axis.axhline(0, color=GREY, linewidth=0.8)
        axis.set_xlabel(measures[number].replace("_", " "), size=9)
        axis.grid(alpha=0.3)
    figure.supylabel("gain over MFCC (difference of scores)", size=9)
    handles = [Line2D([], [], **{**_style(place), "linestyle": ""}, label=kind) for place, kind in enumerate(kinds)]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8)
    plots.add_title(figure, title)
    plots.save(figure, path)
