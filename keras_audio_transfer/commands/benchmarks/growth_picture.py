"""The picture of growth: time and memory of commands, a row a quantity that was varied."""

from pathlib import Path

from matplotlib.ticker import MaxNLocator

from keras_audio_transfer import plots

_ROW_OF = {"Dask workers": "workers", "jobs": "workers"}  # quantities that are drawn in the row of another
_STYLES = {"extract": (plots.BLUE, "o"), "prepare": (plots.GREEN, "s"), "probe": (plots.VERMILION, "^")}
_COSTS = {"seconds": "time (s)", "core_seconds": "time of all cores (s)", "peak_megabytes": "peak memory (MB)"}


def draw(rows: list[dict], path: Path) -> None:
    """Draw the cost of commands against each quantity that was varied.

    Args:
        rows: of `growth.growth`.
        path: of the picture; `NAME.*` for all formats.
    """
    lines: dict[str, dict[tuple[str, str], list[dict]]] = {}
    for row in rows:
        of_quantity = lines.setdefault(_ROW_OF.get(row["varied"], row["varied"]), {})
        of_quantity.setdefault((row["verb"], row["varied"]), []).append(row)
    size = 11, 2.1 * len(lines) + 0.5
    figure, axes = plots.plt.subplots(len(lines), len(_COSTS), figsize=size, layout="constrained", squeeze=False)
    for of_row, (quantity, of_quantity) in zip(axes, lines.items(), strict=True):
        for axis, (cost, name) in zip(of_row, _COSTS.items(), strict=True):
            for (verb, varied), points in of_quantity.items():
                colour, marker = _STYLES[verb]
                axis.plot(
                    [point["value"] for point in points],
                    [point[cost] for point in points],
                    color=colour,
                    marker=marker,
                    markersize=4,
                    linestyle="--" if varied == "Dask workers" else "-",
                    label=verb if varied == quantity else f"{verb}, {varied}",
                )
            highest = max(point[cost] for points in of_quantity.values() for point in points)
            axis.set(xlabel=quantity, ylabel=name, xlim=(0, None), ylim=(0, 1.1 * highest))
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axis.grid(alpha=0.3)
        of_row[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    plots.add_title(figure, "Cost of a command, its start included")
    plots.save(figure, path)
