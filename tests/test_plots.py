"""Every picture is drawn for few and for many rows, for one score and for folds, as PNG and as SVG."""

import numpy as np
import pandas as pd
import pytest

from keras_audio_transfer import plots
from keras_audio_transfer.probing.layer_selection import all_combinations


def table(names, folds=5, metric="accuracy"):
    """Scores of all combinations, as probe.py writes them; without folds there is no deviation."""
    rng = np.random.default_rng(0)
    rows = []
    for layers in all_combinations(names):
        scores = rng.uniform(0.4, 0.9, max(1, folds))
        half = 0.05 if folds else np.nan
        row = {"layers": "+".join(layers), "n_features": 32 * len(layers), "metric": metric, "score": scores.mean()}
        row |= {"deviation": 0.04 if folds else np.nan, "chance": 0.1}
        row |= {"interval_low": scores.mean() - half, "interval_high": scores.mean() + half}
        rows.append(row | ({f"fold_{i}": score for i, score in enumerate(scores)} if folds else {"test": scores[0]}))
    return pd.DataFrame(rows)


FIVE = [f"layer{i}" for i in range(1, 6)]
TABLES = {"five layers": table(FIVE), "splits": table(FIVE[:2], folds=0), "one row": table(["mfcc"], metric="r2")}


@pytest.mark.parametrize("scores", TABLES.values(), ids=TABLES.keys())
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_pictures_of_a_table(scores, suffix, tmp_path):
    lines = {"MFCC": 0.5, "random weights": 0.3}
    plots.ranked(scores, tmp_path / f"a.{suffix}", "title", lines, published={"layer1": 0.5})
    plots.against_dimensions(scores, tmp_path / f"b.{suffix}", "title", lines)
    plots.depth(scores, tmp_path / f"c.{suffix}", "title", lines)
    plots.heat_map(plots.side_by_side({"x": scores.set_index("layers")["score"]}), tmp_path / f"d.{suffix}", "title")
    counts = np.arange(9).reshape(3, 3)
    plots.confusion(counts, ["one", "two", "three"], tmp_path / f"e.{suffix}", "title")
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == [f"{letter}.{suffix}" for letter in "abcde"]
    begin = b"\x89PNG" if suffix == "png" else b"<?xml"
    assert all(path.read_bytes().startswith(begin) for path in files)


def test_side_by_side_keeps_the_order_and_leaves_gaps():
    columns = {"x": pd.Series({"layer1": 0.1, "layer1+layer2": 0.2}), "y": pd.Series({"layer2": 0.3, "layer1": 0.4})}
    heat = plots.side_by_side(columns)
    assert [*heat.index] == ["layer1", "layer1+layer2", "layer2"]
    assert [*heat.columns] == ["x", "y"]
    assert heat.isna().sum().sum() == 2


@pytest.mark.parametrize(
    ("layers", "short"),
    [
        ("layer1", "layer1"),
        ("layer1+layer3", "layers 1 3"),
        ("layer1+layer3+mfcc", "layers 1 3 + mfcc"),
        ("mfcc+layer2", "mfcc + layer2"),
        ("a+b+c", "a + b + c"),
        ("a+b+c+d", "a + ... + d (4 layers)"),
    ],
)
def test_short_names(layers, short):
    assert plots._short(layers) == short
