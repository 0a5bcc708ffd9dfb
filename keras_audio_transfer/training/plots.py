"""Pictures of trainings."""

from pathlib import Path

import pandas as pd

from keras_audio_transfer import finetuning_results, plots
from keras_audio_transfer.finetuning_config import STRATEGIES, fraction_name
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.plots import BLUE, GREEN, GREY, ORANGE, VERMILION, plt

_STRATEGY_STYLES = {
    "finetune": (BLUE, "o"),
    "scratch": (VERMILION, "s"),
    "head": (ORANGE, "^"),
    "probe": (GREEN, "D"),
    "random": (GREY, "v"),
}
_METRIC_NAMES = {
    "loss": "loss (cross-entropy)",
    "accuracy": "accuracy",
    "roc_auc_micro": "ROC AUC, micro",
    "roc_auc_macro": "ROC AUC, macro",
    "pr_auc_micro": "PR AUC, micro",
    "pr_auc_macro": "PR AUC, macro",
}


def learning_curves(history: pd.DataFrame, path: Path, title: str) -> None:
    """Loss and metrics by epoch, training and validation, the best epoch marked.

    Args:
        history: what `training.fitting.fit` returned.
        path: of the PNG or SVG file; `NAME.*` for both.
        title: above the picture.
    """
    names = [name for name in _METRIC_NAMES if name in history and len(history)]
    columns = min(3, max(1, len(names)))
    rows = -(-len(names) // columns) or 1
    figure, axes = plt.subplots(rows, columns, figsize=(4.5 * columns, 3.4 * rows), squeeze=False, layout="constrained")
    for axis, name in zip(axes.flat, names, strict=False):
        axis.plot(history["epoch"], history[name], color=BLUE, label="training")
        decides = "loss"
        if f"val_{name}" in history:
            axis.plot(history["epoch"], history[f"val_{name}"], color=ORANGE, linestyle="--", label="validation")
            decides = "val_loss"
        best = history["epoch"][history[decides].idxmin()]
        axis.axvline(best, color=GREY, linestyle=":", label=f"best epoch ({best})")
        axis.set(xlabel="epoch", ylabel=_METRIC_NAMES[name])
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    for axis in list(axes.flat)[len(names) :]:
        axis.set_axis_off()
    if names:
        axes[0, 0].legend()
    else:
        axes[0, 0].text(0.5, 0.5, "not trained: initial weights", ha="center", va="center")
    plots.add_title(figure, title)
    plots.save(figure, path)


def transfer_curves(table: pd.DataFrame, path: Path, title: str) -> None:
    """Accuracy against the fraction of the training clips: a line a strategy, dots for seeds, 95 % intervals.

    Args:
        table: of one source and target, as `finetuning_results.read` returns it; a plain and a multiscale network of
            one name are drawn solid and dashed.
        path: of the PNG or SVG file; `NAME.*` for both.
        title: above the picture.
    """
    figure, axis = plt.subplots(figsize=(7.0, 4.6), layout="constrained")
    summary = finetuning_results.means(table)
    both = summary["multiscale"].nunique() > 1
    groups = [*summary.groupby(["strategy", "multiscale"])]
    order = {name: place for place, name in enumerate(STRATEGIES)}
    groups.sort(key=lambda group: (order[group[0][0]], group[0][1]))
    for place, ((strategy, multiscale), rows) in enumerate(groups):
        colour, marker = _STRATEGY_STYLES[strategy]
        dashed = bool(both and multiscale)
        shift = 0.007 * (place - (len(groups) - 1) / 2)  # so that intervals of equal fractions do not hide each other
        label = strategy + (", multiscale" if dashed else ", plain" if both else "")
        seeds = table[(table["strategy"] == strategy) & (table["multiscale"] == multiscale)]
        axis.plot(seeds["fraction"] + shift, seeds["accuracy"], ".", color=colour, alpha=0.45, markersize=4)
        axis.errorbar(
            rows["fraction"] + shift,
            rows["accuracy"],
            yerr=rows["accuracy_interval"].fillna(0.0),
            color=colour,
            marker=marker,
            markersize=6,
            markerfacecolor="white" if dashed else colour,
            linestyle="--" if dashed else "-",
            capsize=3,
            linewidth=1.5,
            label=label,
        )
    fractions = sorted(table["fraction"].unique())
    axis.set_xticks(fractions, [*map(fraction_name, fractions)])
    axis.set(xlabel="fraction of the training clips", ylabel="accuracy on the test clips")
    axis.set_xlim(0.0, 1.05)
    low, high = axis.get_ylim()
    axis.set_ylim(max(low, -0.02), min(high, 1.02))  # of two seeds an interval can go beyond what an accuracy can be
    axis.grid(alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    seeds = sorted(map(int, summary["seeds"].unique()))
    of_seeds = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    how = "mean and 95 % interval" if seeds[-1] > 1 else "accuracy"
    axis.set_title(f"{how} of {of_seeds} seed{'s' * (seeds[-1] > 1)}", fontsize="small", color=GREY)
    figure.suptitle(title)
    plots.save(figure, path)


def of_card(card: Card) -> str:
    """What a card knows of a network and of the clips it was trained on, as the title of its `learning_curves`."""
    data, source = card.training_data or {}, card.transferred_from or {}
    network = [card.network or "network", *(["multiscale"] if card.multiscale else [])]
    network += [f"{card.initial_weights} weights"] if card.initial_weights else []
    network += [f"from {source['dataset']}"] if "dataset" in source else []
    clips = f" ({data['clips']['train']} training clips)" if "train" in data.get("clips", {}) else ""
    return f"{', '.join(network)} on {data.get('dataset', 'unknown data')}{clips}"
