"""Pictures of layers: how their features lie by class, and which layers are alike."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np

from keras_audio_transfer import plots

_MARKERS = "os^Dv*PX<>p"  # with as many colours as there are, no two of 77 classes look alike
_LONGEST = 30  # letters of a class's name
_DPI = 120


def class_map(features: np.ndarray, labels: np.ndarray, names: Sequence[str], seed: int = 0) -> bytes:
    """The clips in the plane of a layer in which they differ most, by class.

    Principal components of the features, each unit brought to mean 0 and standard deviation 1 first, as SVMs get them.

    Args:
        features: (clips, units), two clips or more.
        labels: (clips,), an index into `names`.
        names: of the classes.
        seed: of the solver, which is a random one where there are many clips and units.

    Returns:
        A PNG file.
    """
    from sklearn.decomposition import PCA  # takes a second
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit_transform(np.asarray(features, dtype=np.float64))
    scaled = np.pad(scaled, ((0, 0), (0, max(0, 2 - scaled.shape[1]))))  # of a single unit: on a line
    total = scaled.var(axis=0, ddof=1).sum()
    points = PCA(2, random_state=seed).fit_transform(scaled) if total else scaled[:, :2]
    fractions = points.var(axis=0, ddof=1) / total if total else np.zeros(2)
    figure, axis = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
    drawn = []
    for index in range(len(names)):
        look = {"color": plots.COLOURS[index % len(plots.COLOURS)], "marker": _MARKERS[index % len(_MARKERS)]}
        drawn.append(axis.scatter(*points[labels == index].T, **look, s=24, alpha=0.75, linewidths=0))
    for axis_of, number, fraction in zip((axis.xaxis, axis.yaxis), (1, 2), fractions, strict=True):
        axis_of.set_label_text(f"principal component {number} ({fraction:.0%} of the variance)")
    n_columns = -(-len(names) // 25)
    shown = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in names]  # leaves the map room
    figure.legend(drawn, shown, loc="outside right upper", fontsize=8 if n_columns == 1 else 6, ncols=n_columns)
    return plots.png(figure, _DPI)


def likeness(similarity: np.ndarray, names: Sequence[str]) -> bytes:
    """A map of layers by layers, from 0 to 1.

    Args:
        similarity: (layers, layers); NaN where it is not defined.
        names: of the layers.

    Returns:
        A PNG file.
    """
    side = 0.42 * len(names) + 2.0
    figure, axis = plt.subplots(figsize=(side + 1, side), layout="constrained")
    image = axis.imshow(similarity, cmap="cividis", vmin=0, vmax=1)
    if len(names) <= 20:
        for (row, column), value in np.ndenumerate(similarity):
            look = {"color": "black" if value > 0.55 else "white", "size": 6.5}
            axis.text(column, row, "–" if np.isnan(value) else f"{value:.2f}", ha="center", va="center", **look)
    axis.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", size=8)
    axis.set_yticks(range(len(names)), names, size=8)
    figure.colorbar(image, ax=axis, label="linear CKA", shrink=0.8)
    return plots.png(figure, _DPI)
