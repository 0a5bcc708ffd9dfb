"""Every picture. Colours that the colour-blind can tell apart (Okabe and Ito 2008)."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

from keras_audio_transfer.files import written_whole

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#666666"
_METRIC_NAMES = {
    "loss": "loss (cross-entropy)",
    "accuracy": "accuracy",
    "roc_auc_micro": "ROC AUC, micro",
    "roc_auc_macro": "ROC AUC, macro",
    "pr_auc_micro": "PR AUC, micro",
    "pr_auc_macro": "PR AUC, macro",
}


def _save(figure, path: Path) -> None:
    with written_whole(path) as partial:
        figure.savefig(partial, format=path.suffix[1:], dpi=150, bbox_inches="tight")
    plt.close(figure)


def learning_curves(history: pd.DataFrame, path: Path, title: str) -> None:
    """Loss and metrics by epoch, training and validation, the best epoch marked.

    Args:
        history: what `training.fit` returned.
        path: of the PNG or SVG file.
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
        axes[0, 0].text(0.5, 0.5, "not trained: random weights", ha="center", va="center")
    figure.suptitle(title)
    _save(figure, path)


def score_bars(scores: pd.DataFrame, path: Path, title: str) -> None:
    """One horizontal bar per feature set: mean score, deviation over folds as a whisker, each fold as a dot.

    Args:
        scores: columns layers, score, deviation, metric, chance, and `fold_...` for each fold.
        path: of the PNG or SVG file.
        title: above the picture.
    """
    folds = [column for column in scores if column.startswith("fold_")]
    figure, axis = plt.subplots(figsize=(7, 0.42 * len(scores) + 1.5), layout="constrained")
    positions = range(len(scores))[::-1]
    single = ["+" not in layers for layers in scores["layers"]]
    colours = [BLUE if one else ORANGE for one in single]
    axis.barh(positions, scores["score"], color=colours, alpha=0.85, height=0.7)
    for position, (_, row) in zip(positions, scores.iterrows(), strict=True):
        if len(folds) > 1:
            axis.errorbar(row["score"], position, xerr=row["deviation"], color="black", capsize=3, linewidth=1)
            axis.plot(row[folds], [position] * len(folds), "o", color="black", markersize=2.5, alpha=0.6)
        axis.text(1.01, position, f"{row['score']:.3f}", va="center")
    chance = scores["chance"].iloc[0]
    axis.axvline(chance, color=GREY, linestyle=":")
    axis.annotate("most frequent class", (chance, 1), (3, 3), ("data", "axes fraction"), "offset points", color=GREY)
    axis.set_yticks(list(positions), [_short(layers) for layers in scores["layers"]])
    spread = "; whisker: deviation, dots: folds" if len(folds) > 1 else ""
    axis.set(xlabel=f"{scores['metric'].iloc[0]}{spread}", xlim=(0, 1))
    figure.suptitle(title)
    _save(figure, path)


def _short(layers: str) -> str:
    names = layers.split("+")
    return layers if len(names) <= 3 else f"{names[0]} + ... + {names[-1]} ({len(names)} layers)"
