"""Every picture is drawn for few and for many rows, for one score and for folds, as PNG and as SVG."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from keras_audio_transfer import finetuning_results as results
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


ROOT = Path(__file__).parents[1]
FIVE = [f"layer{i}" for i in range(1, 6)]
TABLES = {"five layers": table(FIVE), "splits": table(FIVE[:2], folds=0), "one row": table(["mfcc"], metric="r2")}


@pytest.mark.parametrize("scores", TABLES.values(), ids=TABLES.keys())
def test_pictures_of_a_table(scores, tmp_path):
    lines = {"MFCC": 0.5, "random weights": 0.3}
    plots.ranked(scores, tmp_path / "a.*", "title", lines, published={"layer1": 0.5})
    plots.against_dimensions(scores, tmp_path / "b.*", "title", lines)
    plots.depth(scores, tmp_path / "c.*", "title", lines)
    plots.heat_map(plots.side_by_side({"x": scores.set_index("layers")["score"]}), tmp_path / "d.*", "title")
    counts = np.arange(9).reshape(3, 3)
    plots.confusion(counts, ["one", "two", "three"], tmp_path / "e.*", "title")
    assert {path.name for path in tmp_path.iterdir()} == {f"{a}.{b}" for a in "abcde" for b in ("png", "svg")}
    begin = {".png": b"\x89PNG", ".svg": b"<?xml"}
    assert all(path.read_bytes().startswith(begin[path.suffix]) for path in tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_picture_in_one_format(suffix, tmp_path):
    plots.confusion(np.arange(4).reshape(2, 2), ["one", "two"], tmp_path / f"version.1.{suffix}", "title")
    assert [path.name for path in tmp_path.iterdir()] == [f"version.1.{suffix}"]


def test_transfer_curves(tmp_path):
    table = results.read([*(ROOT / "docs" / "mcmahan2018").glob("densenet*/results.csv")])
    rows = max((rows for _, rows in table.groupby(["source", "target", "network"])), key=len)
    assert rows["seed"].nunique() > 1
    assert rows["fraction"].nunique() > 1
    plots.transfer_curves(rows, tmp_path / "t.*", "title")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.png", "t.svg"]


@pytest.mark.parametrize(
    "name", ["cash_$_to_$", "$", "$x^", "a\\b{c", "\u6708\u66dc\u65e5", "\u0639\u0631", "\U0001f436", "%d & <b>"]
)
def test_names_of_classes_are_no_mathematics(name, tmp_path, recwarn):
    plots.confusion(np.arange(4).reshape(2, 2), [name, f"{name} {name}"], tmp_path / "a.*", name)
    rows = table([name, "layer1"])
    plots.ranked(rows, tmp_path / "b.*", name, {name: 0.5})
    plots.heat_map(plots.side_by_side({name: rows.set_index("layers")["score"]}), tmp_path / "c.*", name)
    assert len([*tmp_path.iterdir()]) == 6
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


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
