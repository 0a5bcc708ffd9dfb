"""Every picture is drawn for few and for many rows, for one score and for folds, as PNG and as SVG."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import some_quick
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb

from keras_audio_transfer import export, plots
from keras_audio_transfer import finetuning_results as results
from keras_audio_transfer.commands import train
from keras_audio_transfer.config import preset
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.probing.layer_selection import all_combinations
from keras_audio_transfer.training import plots as training_plots


def table(names, folds=5, metric="accuracy", combinations=None):
    """Scores of these or all combinations, as probe.py writes them; without folds there is no deviation."""
    rng = np.random.default_rng(0)
    rows = []
    for layers in combinations or all_combinations(names):
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


@pytest.mark.parametrize("kind", some_quick(TABLES, ["five layers"]))
def test_pictures_of_a_table(kind, tmp_path):
    scores = TABLES[kind]
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
    training_plots.transfer_curves(rows, tmp_path / "t.*", "title")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.png", "t.svg"]


NAMES = ["cash_$_to_$", "\u6708\u66dc\u65e5", "$", "$x^", "a\\b{c", "\u0639\u0631", "\U0001f436", "%d & <b>"]


@pytest.mark.parametrize("name", some_quick(NAMES, NAMES[:1]))
def test_names_of_classes_are_no_mathematics(name, tmp_path, recwarn):
    plots.confusion(np.arange(4).reshape(2, 2), [name, f"{name} {name}"], tmp_path / "a.*", name)
    rows = table([name, "layer1"])
    plots.ranked(rows, tmp_path / "b.*", name, {name: 0.5})
    plots.heat_map(plots.side_by_side({name: rows.set_index("layers")["score"]}), tmp_path / "c.*", name)
    assert len([*tmp_path.iterdir()]) == 6
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_floors_only(tmp_path, recwarn):
    rows = [("mfcc", "all", 0.5), ("log_mel", "all", 0.4)]
    scores = pd.DataFrame(rows, columns=["source", "choice", "score"])
    scores = scores.assign(interval_low=0.3, interval_high=0.6, metric="accuracy", chance=0.1)
    plots.sources(scores, tmp_path / "a.*", "title")
    assert not [warning for warning in recwarn if "limits" in str(warning.message)]
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_side_by_side_keeps_the_order_and_leaves_gaps():
    columns = {"x": pd.Series({"layer1": 0.1, "layer1+layer2": 0.2}), "y": pd.Series({"layer2": 0.3, "layer1": 0.4})}
    heat = plots.side_by_side(columns)
    assert [*heat.index] == ["layer1", "layer1+layer2", "layer2"]
    assert [*heat.columns] == ["x", "y"]
    assert heat.isna().sum().sum() == 2


# ---- what is in a picture


@pytest.fixture
def figures(monkeypatch):
    """Name of the file -> the figure that would have been saved there, drawn."""
    drawn = {}

    def keep(figure, path):
        figure.canvas.draw()
        drawn[path.name] = figure

    monkeypatch.setattr(plots, "save", keep)
    yield drawn
    for figure in drawn.values():
        plt.close(figure)


def box(artist):
    return artist.get_window_extent()


LONG = [f"convolution_block_{number:02d}_activation" for number in range(1, 15)]
WORDS = [f"{letter * 20}_convolution" for letter in "abcdefghij"]


def many_layers(names):
    combinations = [*((name,) for name in names), *(names[i::step] for step in (2, 3, 4) for i in range(step)), names]
    return table([], combinations=combinations)


def test_rows_have_labels_of_their_own_and_numbers_a_key(figures):
    for number, scores in enumerate([TABLES["five layers"], many_layers(LONG), many_layers(WORDS)]):
        plots.ranked(scores, Path(f"ranked{number}"), "title")
        plots.heat_map(plots.side_by_side({"x": scores.set_index("layers")["score"]}), Path(f"heat{number}"), "title")
        for kind in ("ranked", "heat"):
            axis = figures[f"{kind}{number}"].axes[0]
            labels = [label.get_text() for label in axis.get_yticklabels()]
            assert len({*labels}) == len(labels) == len(scores)
    key = figures["ranked2"].legends[0].get_title().get_text()
    assert f"10\N{NO-BREAK SPACE}{WORDS[9]}" in key
    assert f"10\N{NO-BREAK SPACE}{WORDS[9]}" in figures["heat2"].get_supxlabel()
    assert figures["ranked0"].legends[0].get_title().get_text() == figures["heat0"].get_supxlabel() == ""


def luminance(colour):
    """Relative luminance of WCAG 2.1, 0 (black) to 1 (white)."""
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("most", range(1, 16))
def test_colours_are_seen_on_white_and_differ_in_lightness(most):
    colours = plots._colours(["+".join("x" * number) for number in range(1, most + 1)])
    light = [*map(luminance, colours)]
    assert 1.05 / (max(light) + 0.05) >= 3  # the contrast that WCAG 2.1 asks of graphical objects
    assert (np.diff(light) > 0).all()  # so that they need no hue to be told apart


def test_intervals_are_as_dark_as_their_dots(figures):
    plots.ranked(TABLES["five layers"], Path("a"), "title")
    (intervals,) = (each for each in figures["a"].axes[0].collections if isinstance(each, LineCollection))
    assert (intervals.get_colors()[:, 3] == 1).all()


@pytest.mark.parametrize("names", some_quick([FIVE, LONG, ["stem"]], [LONG, ["stem"]]), ids=["few", "long", "one"])
def test_no_line_crosses_a_label(names, figures):
    scores = TABLES["five layers"] if names is FIVE else table([], combinations=[*((name,) for name in names), names])
    lines = {"MFCC": 0.62, "random weights": 0.6}
    plots.depth(scores, Path("depth"), "title", lines)
    plots.ranked(scores, Path("ranked"), "title", lines)
    for figure in figures.values():
        (axis,) = figure.axes
        labels = [*axis.texts, *axis.get_xticklabels(), *axis.get_yticklabels()]
        inside = axis.get_window_extent()
        for label in labels:
            assert not inside.overlaps(box(label)), label.get_text()
    (depth,), (ranked,) = figures["depth"].axes, figures["ranked"].axes
    assert not depth.texts
    single = scores[~scores["layers"].str.contains("+", regex=False)]
    ticks = [label.get_text().split() for label in depth.get_xticklabels()]
    assert ticks == [[layers, f"{score:.3f}"] for layers, score in zip(single["layers"], single["score"], strict=True)]
    assert [text.get_text() for text in ranked.texts] == [f"{s:.3f}" for s in sorted(scores["score"], reverse=True)]


def test_the_title_of_a_confusion_says_whose_it_is(figures):
    plots.confusion(np.arange(4).reshape(2, 2), ["a", "b"], Path("a"), "sounds", "layers 1 2: best of 3")
    assert figures["a"].get_suptitle() == "sounds: 3 of 6 clips right\nlayers 1 2: best of 3"


def test_titles_of_networks_differ_as_their_cards_do():
    card = Card(
        preset("short16k"), network="densenet40", training_data={"dataset": "fsdd", "clips": {"train": 9, "test": 3}}
    )
    assert training_plots.of_card(card) == "densenet40 on fsdd (9 training clips)"
    source = {"dataset": "urbansound8k"}
    other = replace(card, multiscale=(1, 2, 4), initial_weights="imagenet", transferred_from=source)
    assert training_plots.of_card(other) == (
        "densenet40, multiscale, imagenet weights, from urbansound8k on fsdd (9 training clips)"
    )
    assert training_plots.of_card(Card(preset("short16k"))) == "network on unknown data"


def test_the_title_of_a_training_names_folder_network_data_and_seed(monkeypatch, tmp_path):
    titles = []
    nothing_written = SimpleNamespace(write_model=lambda *arguments: 0.0)
    monkeypatch.setattr(export, "saved_model", nothing_written, raising=False)
    monkeypatch.setattr(training_plots, "learning_curves", lambda history, path, title: titles.append(title))
    data = {"dataset": "fsdd", "clips": {"train": 9}}
    for name, seed, dilations in (("a", 0, ()), ("b", 1, (1, 2))):
        card = Card(preset("short16k"), network="sbcnn", multiscale=dilations, training_data=data, seed=seed)
        (tmp_path / "run").mkdir()
        job = SimpleNamespace(run_dir=tmp_path / "run")
        train.write(SimpleNamespace(output_dir=tmp_path / name), job, None, card, pd.DataFrame({"epoch": []}))
    assert titles == [
        "a: sbcnn on fsdd (9 training clips), seed 0",
        "b: sbcnn, multiscale on fsdd (9 training clips), seed 1",
    ]


def test_a_title_is_no_wider_than_its_picture(figures):
    plots.confusion(np.arange(4).reshape(2, 2), ["a", "b"], Path("a"), "sounds", "word " * 40)
    training_plots.learning_curves(pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0]}), Path("b"), "word " * 60)
    for figure in figures.values():
        assert box(figure._suptitle).width <= 1.05 * figure.bbox.width
