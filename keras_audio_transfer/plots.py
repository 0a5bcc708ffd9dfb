"""Pictures of probes, and what all pictures share. The colour-blind can tell the colours apart (Okabe and Ito 2008)."""

import textwrap
import warnings
from collections.abc import Mapping
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from keras_audio_transfer import picture_labels
from keras_audio_transfer.files import atomic_write

if TYPE_CHECKING:
    from keras_audio_transfer.probing.learning_curve import LearningCurve

plt.rcParams["text.parse_math"] = False  # a class may be called cash_$_to_$
plt.rcParams["svg.hashsalt"] = "keras_audio_transfer"  # the same picture has the same bytes

BLUE, ORANGE, VERMILION, GREEN, GREY = "#0072B2", "#E69F00", "#D55E00", "#009E73", "#666666"
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, "#CC79A7", "#56B4E9", "black")  # Okabe and Ito's, without yellow
_CHOICE_STYLES = {
    "last layer": (GREY, "v", -0.24),
    "best single layer": (ORANGE, "^", -0.08),
    "all layers": (GREEN, "s", 0.08),
    "chosen": (BLUE, "o", 0.24),
}
FORMATS = ("png", "svg")


def save(figure, path: Path) -> None:
    """Write a picture and close it; `NAME.*` for all formats."""
    for each in [path.with_suffix(f".{name}") for name in FORMATS] if path.suffix == ".*" else [path]:
        with atomic_write(each) as partial:
            _draw(figure, partial, each.suffix[1:])
        figure.set_layout_engine("none")  # all formats have the first one's layout, which takes as long as drawing
    plt.close(figure)


def png(figure, dpi: int = 150) -> bytes:
    """A picture as a PNG file; it is closed."""
    content = BytesIO()
    _draw(figure, content, "png", dpi)
    plt.close(figure)
    return content.getvalue()


def _draw(figure, to, kind, dpi=150):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a box in the picture says it
        warnings.filterwarnings("ignore", "constrained_layout not applied")  # names that leave no room
        figure.savefig(to, format=kind, dpi=dpi, bbox_inches="tight", metadata={"Date": None})


def ranked(
    scores: pd.DataFrame,
    path: Path,
    title: str,
    lines: Mapping[str, float] | None = None,
    published: Mapping[str, float] | None = None,
) -> None:
    """All combinations from the best to the worst, coloured by their number of layers.

    Args:
        scores: columns layers, score, metric, chance, and interval_low and interval_high (NaN where there is none).
        path: of the PNG or SVG file; `NAME.*` for both.
        title: above the picture.
        lines: name -> a score to compare with, drawn across.
        published: layers -> the score that was published for them.
    """
    labels = picture_labels.unique(scores["layers"])
    width = 7.5 + 0.06 * max(0, max(map(len, labels.values())) - 30)
    scores = scores.sort_values("score", ascending=False, kind="stable")
    figure, axis = plt.subplots(figsize=(width, 0.19 * len(scores) + 2.2), layout="constrained")
    positions = np.arange(len(scores))
    colours = _colours(scores["layers"])
    axis.hlines(positions, scores["interval_low"], scores["interval_high"], color=colours, linewidth=1.2)
    _dots(axis, scores["score"], positions, scores["layers"], colours, lines or {})
    for position, score in zip(positions, scores["score"], strict=True):  # beside the axes, where no line crosses them
        place = {"xycoords": ("axes fraction", "data"), "xytext": (4, 0), "textcoords": "offset points"}
        axis.annotate(f"{score:.3f}", (1, position), **place, va="center", size=7)
    if published:
        values = [published.get(layers, np.nan) for layers in scores["layers"]]
        axis.scatter(
            values, positions, marker="D", facecolors="none", edgecolors="black", s=44, linewidths=0.8, zorder=4
        )
    _draw_lines(axis.axvline, lines or {}, scores)
    axis.set_yticks(positions, [labels[layers] for layers in scores["layers"]], size=7.5)
    axis.set_ylim(len(scores) - 0.5, -0.5)
    axis.margins(x=0.05)
    axis.set(xlabel=_metric(scores), ylabel="combination of layers")
    axis.grid(axis="x", alpha=0.3)
    handles = _layer_handles(scores["layers"], lines or {})
    if scores["interval_low"].notna().any():
        handles.append(Line2D([], [], color=GREY, label="95 % interval"))
    if published:
        handles.append(
            Line2D([], [], marker="D", markerfacecolor="none", color="black", linestyle="", label="published")
        )
    handles += axis.get_legend_handles_labels()[0]
    _legend(figure, handles, 3, picture_labels.key(scores["layers"], labels.values()))
    add_title(figure, title)
    save(figure, path)


def against_dimensions(scores: pd.DataFrame, path: Path, title: str, lines: Mapping[str, float] | None = None) -> None:
    """Score against the number of features; the best, and the cheapest within one standard error of it, are marked.

    Args:
        scores: columns layers, n_features, score, deviation, metric, chance and `fold_...` for each fold.
        path: of the PNG or SVG file; `NAME.*` for both.
        title: above the picture.
        lines: name -> a score to compare with, drawn across.
    """
    labels, shown = picture_labels.unique(scores["layers"]), []
    figure, axis = plt.subplots(figsize=(7.5, 5), layout="constrained")
    _dots(axis, scores["n_features"], scores["score"], scores["layers"], _colours(scores["layers"]), lines or {})
    best = scores.loc[scores["score"].idxmax()]
    error = best["deviation"] / np.sqrt(sum(column.startswith("fold_") for column in scores))
    near = scores[scores["score"] >= best["score"] - (0 if np.isnan(error) else error)]
    cheapest = near.sort_values(["n_features", "score"], ascending=[True, False], kind="stable").iloc[0]
    handles = _layer_handles(scores["layers"], lines or {})
    if not np.isnan(error):
        axis.axhspan(best["score"] - error, best["score"], color=GREY, alpha=0.18, linewidth=0)
        handles.append(Patch(color=GREY, alpha=0.18, label="within one standard error of the best"))
    marked = [(best, "s", "best")] + ([] if np.isnan(error) else [(cheapest, "o", "cheapest of those")])
    for row, marker, what in marked:
        axis.scatter(
            row["n_features"], row["score"], marker=marker, s=130, facecolors="none", edgecolors="black", zorder=4
        )
        shown.append(labels[row["layers"]])
        text = f"{what}: {shown[-1]}, {row['n_features']} features, {row['score']:.3f}"
        handles.append(
            Line2D([], [], marker=marker, markersize=9, markerfacecolor="none", color="black", linestyle="", label=text)
        )
    _draw_lines(axis.axhline, lines or {}, scores)
    axis.set(xlabel="number of features", ylabel=_metric(scores))
    axis.set_xlim(left=0)
    axis.grid(alpha=0.3)
    handles += axis.get_legend_handles_labels()[0]
    _legend(figure, handles, 2, picture_labels.key(scores["layers"], shown))
    add_title(figure, title)
    save(figure, path)


def depth(scores: pd.DataFrame, path: Path, title: str, lines: Mapping[str, float] | None = None) -> None:
    """The score of each single layer over depth.

    Args:
        scores: columns layers, score, metric, chance, interval_low and interval_high; rows of single layers are drawn,
            in their order, and the row with the most layers as a line.
        path: of the PNG or SVG file; `NAME.*` for both.
        title: above the picture.
        lines: name -> a score to compare with; a layer of such a name is not drawn as a point.
    """
    lines, labels = dict(lines or {}), picture_labels.unique(scores["layers"])
    without = scores[[not _joined(layers, lines) for layers in scores["layers"]]]
    sizes = without["layers"].map(_n_layers)
    single, most = without[sizes == 1], without.loc[sizes.idxmax()]
    if sizes.max() > 1:
        lines = {labels[most["layers"]]: most["score"], **lines}
    longest = max(map(len, single["layers"]))
    slanted = longest * len(single) > 60
    size = (max(6, 0.4 * len(single) + 2), 4.4 + 0.07 * longest * slanted)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    positions = np.arange(len(single))
    axis.plot(positions, single["score"], color=BLUE, marker="o")
    axis.vlines(positions, single["interval_low"], single["interval_high"], color=BLUE, linewidth=1.2)
    _draw_lines(axis.axhline, lines, scores)
    ticks = single["layers"] + ("  " if slanted else "\n") + single["score"].map("{:.3f}".format)
    axis.set_xticks(positions, ticks, size=9, rotation=60 * slanted, ha="right" if slanted else "center")
    if slanted:
        plt.setp(axis.get_xticklabels(), rotation_mode="anchor")
    axis.set(xlabel="layer, from the input to the output, and its score", ylabel=_metric(scores))
    axis.margins(x=0.08)
    axis.grid(alpha=0.3)
    label = "one layer" + ("; bar: 95 % interval" if single["interval_low"].notna().any() else "")
    handles = [Line2D([], [], color=BLUE, marker="o", label=label), *axis.get_legend_handles_labels()[0]]
    _legend(figure, handles, 2, picture_labels.key(scores["layers"], lines))
    add_title(figure, title)
    save(figure, path)


def side_by_side(columns: Mapping[str, pd.Series]) -> pd.DataFrame:
    """A table for `heat_map` of each task's scores by combination; combinations in the order they first come."""
    order = dict.fromkeys(layers for column in columns.values() for layers in column.index)
    return pd.DataFrame(dict(columns)).reindex([*order])


def heat_map(table: pd.DataFrame, path: Path, title: str) -> None:
    """Combinations of layers (rows) against tasks (columns); colours compare within a task, the numbers are the scores.

    Args:
        table: scores, NaN where there is none.
        path: of the PNG or SVG file; `NAME.*` for both.
        title: above the picture.
    """
    values = table.to_numpy(dtype=float)
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    shade = (values - low) / np.where(high > low, high - low, 1)
    labels = picture_labels.unique(table.index)
    size = (1.25 * table.shape[1] + 1.2 + 0.06 * max(20, *map(len, labels.values())), 0.25 * table.shape[0] + 1.9)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    image = axis.imshow(shade, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "black" if shade[row, column] > 0.55 else "white"
            weight = "bold" if value == high[column] else "normal"
            axis.text(column, row, f"{value:.3f}", ha="center", va="center", color=colour, size=8, weight=weight)
    axis.set_xticks(range(table.shape[1]), [name.replace("_", "\n", 1) for name in table.columns], size=8)
    axis.set_yticks(range(table.shape[0]), [*labels.values()], size=8)
    axis.set(xlabel="task", ylabel="combination of layers")
    bar = figure.colorbar(image, ax=axis, ticks=[0, 1], shrink=min(1, 6 / size[1]))
    bar.ax.set_yticklabels(["worst\nof the task", "best\nof the task"], size=8)
    figure.supxlabel(_wrapped(picture_labels.key(table.index, labels.values()), figure, 17), size=7)
    add_title(figure, title)
    save(figure, path)


def confusion(counts: np.ndarray, label_names: list[str], path: Path, title: str, about: str = "") -> None:
    """Which class was taken for which: colours are fractions of the true class, numbers are clips.

    Args:
        counts: (classes, classes), true class first.
        label_names: the classes in order.
        path: of the PNG or SVG file; `NAME.*` for both.
        title: above the picture; the number of clips that are right stands behind it.
        about: a second line, such as `picture_labels.of_row`'s: whose predictions these are.
    """
    fraction = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 0.45 * len(label_names) + 2.5
    figure, axis = plt.subplots(figsize=(side + 1, side), layout="constrained")
    image = axis.imshow(fraction, cmap="cividis", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(counts):
        if value and len(label_names) <= 30:
            colour = "black" if fraction[row, column] > 0.55 else "white"
            axis.text(column, row, value, ha="center", va="center", color=colour, size=8)
    axis.set_xticks(range(len(label_names)), label_names, rotation=60, ha="right", rotation_mode="anchor", size=8)
    axis.set_yticks(range(len(label_names)), label_names, size=8)
    axis.set(xlabel="predicted class", ylabel="true class")
    figure.colorbar(image, ax=axis, label="fraction of the true class", shrink=0.8)
    add_title(figure, f"{title}: {np.trace(counts)} of {counts.sum()} clips right\n{about}")
    save(figure, path)


def more_clips(curve: "LearningCurve", path: Path, title: str, score: str = "accuracy") -> None:
    """The score against the number of clips that are fitted on, and what is expected of twice as many.

    Args:
        curve: of `probing.learning_curve`; its sentence stands below the title.
        path: of the PNG or SVG file; `NAME.*` for both.
        title: above the picture.
        score: what is measured.
    """
    figure, axis = plt.subplots(figsize=(7.0, 4.4), layout="constrained")
    sizes, points = curve.sizes, [(curve.sizes, BLUE, "o", "-", "measured, with 95 % interval")]
    axis.fill_between(
        sizes["clips"], sizes["interval_low"], sizes["interval_high"], color=BLUE, alpha=0.12, linewidth=0
    )
    if curve.twice is not None:
        twice = pd.DataFrame([curve.twice])
        axis.plot(
            [sizes["clips"].iloc[-1], curve.twice["clips"]],
            [sizes["score"].iloc[-1], curve.twice["score"]],
            ":",
            color=VERMILION,
        )
        points.append((twice, VERMILION, "D", "", "expected of twice as many, with 95 % interval"))
    for rows, colour, marker, line, label in points:
        ends = np.abs(rows[["interval_low", "interval_high"]].to_numpy().T - rows["score"].to_numpy())
        face = "white" if marker == "D" else colour
        axis.errorbar(
            rows["clips"],
            rows["score"],
            ends,
            color=colour,
            marker=marker,
            mfc=face,
            linestyle=line,
            capsize=3,
            label=label,
        )
    axis.set_xscale("log")
    ticks = [round(n) for rows, *_ in points for n in rows["clips"]]
    axis.set_xticks(ticks, ticks)
    axis.minorticks_off()
    axis.set(xlabel="clips that are fitted on, without those that are scored", ylabel=score)
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")
    add_title(figure, f"{title}\n{curve.sentence}")
    save(figure, path)


def reliability(table: pd.DataFrame, path: Path, title: str) -> None:
    """How often labels were right that were given with a probability: `calibration.reliability`."""
    figure, axis = plt.subplots(figsize=(4.5, 4.5), layout="constrained")
    ends = table["share_right"] - table["share_right_low"], table["share_right_high"] - table["share_right"]
    axis.plot([0, 1], [0, 1], color="grey", linestyle="--", label="as it should be")
    axis.errorbar(
        table["probability"], table["share_right"], ends, fmt="o", capsize=3, label="held-out clips, 95 % interval"
    )
    axis.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    axis.set(xlabel="probability of a label", ylabel="fraction of clips that have it")
    axis.legend(loc="upper left")
    add_title(figure, title)
    save(figure, path)


def kept(table: pd.DataFrame, path: Path, title: str) -> None:
    """What is kept where the answer may be "none of these": how right it is, and the unknown sounds that get a label.

    Args:
        table: of `probing.rejection.table`.
        path: of the PNG or SVG file; `NAME.*` for both.
        title: above the picture.
    """
    figure, axis = plt.subplots(figsize=(5.2, 4.6), layout="constrained")
    by_known, by_probability = table[table["coverage"].isna()], table[table["coverage"].notna()]
    for name, colour, what in (
        ("precision", BLUE, "labels that are right"),
        ("false_alarms", VERMILION, "unknown sounds that get a label"),
    ):
        for rows, marker, line, limit in (
            (by_probability, "o", "-", "the probability"),
            (by_known, "s", "--", "what is known"),
        ):
            if rows[name].notna().any():
                look = {"color": colour, "marker": marker, "linestyle": line, "label": f"{what}, limit on {limit}"}
                axis.plot(rows["kept"], rows[name], **look)
    low, high = by_probability["precision_low"], by_probability["precision_high"]
    axis.fill_between(by_probability["kept"], low, high, color=BLUE, alpha=0.12, linewidth=0, label="95 % interval")
    axis.set(xlabel="sounds of the classes that get a label", ylabel="share", ylim=(-0.02, 1.02))
    for each in (axis.xaxis, axis.yaxis):
        each.set_major_formatter(PercentFormatter(1))
    axis.grid(alpha=0.3)
    _legend(figure, axis.get_legend_handles_labels()[0], 1, "")
    add_title(figure, title)
    save(figure, path)


def sources(scores: pd.DataFrame, path: Path, title: str) -> None:
    """Several networks on one task, the best choice of layers first, the floors as lines.

    Args:
        scores: columns source, choice, score, interval_low, interval_high, metric, chance; a source's best choice last.
        path: of the PNG or SVG file; `NAME.*` for both.
        title: above the picture.
    """
    is_floor = scores["source"].isin(("mfcc", "log_mel"))
    shown, floors = scores[~is_floor], scores[is_floor]
    best = shown.groupby("source", sort=False)["score"].last().sort_values(ascending=False, kind="stable")
    figure, axis = plt.subplots(figsize=(7.5, 0.45 * len(best) + 2.2), layout="constrained")
    for choice, (colour, marker, shift) in _CHOICE_STYLES.items():
        rows = shown[shown["choice"] == choice].set_index("source")
        places = np.array([place + shift for place, name in enumerate(best.index) if name in rows.index])
        rows = rows.loc[[name for name in best.index if name in rows.index]]
        axis.hlines(places, rows["interval_low"], rows["interval_high"], color=colour, linewidth=1.2)
        axis.scatter(rows["score"], places, color=colour, marker=marker, s=30, label=choice, zorder=3)
    lines = {name: score for name, score in zip(floors["source"], floors["score"], strict=True)}
    _draw_lines(axis.axvline, lines, scores)
    axis.set_yticks(range(len(best)), best.index, size=8)
    axis.set_ylim(max(len(best), 1) - 0.5, -0.5)  # there may be floors only
    axis.margins(x=0.05)
    axis.set(xlabel=_metric(scores))
    axis.grid(axis="x", alpha=0.3)
    handles = [*axis.get_legend_handles_labels()[0], Line2D([], [], color=GREY, label="95 % interval")]
    _legend(figure, handles, 3, "")
    add_title(figure, title)
    save(figure, path)


def add_title(figure, title: str) -> None:
    """Above a picture, in lines no longer than it is wide."""
    figure.suptitle(_wrapped(title, figure, 13.5), size=10)


def _wrapped(text, figure, letters_an_inch):
    """Lines no longer than the picture is wide."""
    width = max(40, int(letters_an_inch * figure.get_figwidth()))
    return "\n".join(part for line in text.splitlines() for part in textwrap.wrap(line, width))


def _legend(figure, handles, columns, key):
    """Below a picture; above its entries the key to the numbers in labels."""
    place = {"loc": "outside lower center", "ncols": columns, "fontsize": 8}
    figure.legend(handles=handles, title=_wrapped(key, figure, 17), title_fontsize=7, **place)


def _joined(layers, lines):
    """Whether a combination contains features that are drawn as a line, such as a baseline."""
    return any(name in lines for name in layers.split("+"))


def _dots(axis, x, y, all_layers, colours, lines):
    """A dot a combination; a square if it contains a baseline."""
    joined = np.array([_joined(layers, lines) for layers in all_layers])
    colours = np.array(colours)
    for chosen, marker in ((~joined, "o"), (joined, "s")):
        axis.scatter(np.asarray(x)[chosen], np.asarray(y)[chosen], c=colours[chosen], marker=marker, s=26, zorder=3)


def _draw_lines(draw, lines, scores):
    """Lines across, and what chance scores; only in the legend where it is so far off that it squeezes the rest."""
    what = "the mean" if scores["metric"].iloc[0] == "r2" else "the most frequent class"
    chance, values = scores["chance"].iloc[0], [*scores["score"], *lines.values()]
    near = chance >= min(values) - (max(values) - min(values))
    lines = {**lines, f"always predicting {what}": chance}
    styles = zip(cycle((":", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))), cycle(("black", VERMILION, GREY)), strict=False)
    for number, ((name, score), (style, colour)) in enumerate(zip(lines.items(), styles, strict=False), 1):
        if number < len(lines) or near:
            draw(score, linestyle=style, color=colour, linewidth=1.2, label=f"{name}: {score:.3f}", zorder=1)
        else:
            draw(values[0], linewidth=0, label=f"{name}: {score:.3f}, outside")


def _metric(scores):
    return {"r2": "r2 (coefficient of determination)"}.get(scores["metric"].iloc[0], scores["metric"].iloc[0])


def _n_layers(layers):
    return layers.count("+") + 1


def _colours(all_layers):
    """One colour for each number of layers, dark to light, and none so light that it is hard to see on white."""
    numbers = [_n_layers(layers) for layers in all_layers]
    return [plt.get_cmap("inferno")(0.12 + 0.55 * (number - 1) / max(1, max(numbers) - 1)) for number in numbers]


def _layer_handles(all_layers, lines):
    first = dict(zip(map(_n_layers, all_layers), _colours(all_layers), strict=True))
    numbers = sorted(first)
    shown = numbers if len(numbers) <= 8 else [numbers[0], numbers[len(numbers) // 2], numbers[-1]]
    handles = [
        Line2D([], [], marker="o", linestyle="", color=first[n], label="one alone" if n == 1 else f"{n} joined")
        for n in shown
    ]
    parts = {part for layers in all_layers for part in layers.split("+")}
    names = ", ".join(name for name in lines if name in parts)
    return handles + ([Line2D([], [], marker="s", linestyle="", color=GREY, label=f"with {names}")] if names else [])
