"""Tables of several comparisons on a page."""

import pandas as pd
import pytest
from conftest import run_main

from keras_audio_transfer.commands.compare import read_scores
from keras_audio_transfer.errors import InputError


@pytest.fixture
def comparisons(tmp_path):
    """Two, of which one lacks a source; its folders."""
    rows = [("yamnet", "last layer", 0.5), ("yamnet", "chosen", 0.75), ("mfcc", "all layers", 0.25)]
    for name, kept in (("birds", rows), ("words", rows[:2])):
        table = pd.DataFrame(kept, columns=["source", "choice", "score"])
        table["chosen"], table["n_features"], table["metric"], table["deviation"] = "layer1", 32, "accuracy", 0.125
        table["interval_low"], table["interval_high"] = table["score"] - 0.125, table["score"] + 0.125
        table["chance"], table["chosen_on"], table["parameters"] = 0.5, "training parts", "linear C=0.1"
        table["fold_1"], table["fold_2"] = table["score"] - 0.25, table["score"] + 0.25
        table["chosen_by_round"] = ["layer1; layer2" if row[1] == "chosen" else "" for row in kept]
        (tmp_path / name).mkdir()
        table.to_csv(tmp_path / name / "scores.csv", index=False)
        (tmp_path / name / "differences.csv").write_text("a,b,difference\n")
    return tmp_path / "birds", tmp_path / "words"


def test_a_comparison_that_was_killed(comparisons, tmp_path):
    (comparisons[1] / "differences.csv").unlink()
    with pytest.raises(InputError, match=r"words: has no differences\.csv; expected a folder that 'compare' has writ"):
        run_main("summarise_sources", *comparisons, "--page", tmp_path / "page.md")
    assert not (tmp_path / "page.md").exists()


def test_tables(comparisons, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "Before.\n<!-- table: birds -->\nold\n<!-- end -->\n<!-- table: overview -->\n<!-- end -->\nAfter.\n"
    )
    for _ in range(2):
        assert run_main("summarise_sources", *comparisons, "--page", page) == 0
    assert (
        page.read_text()
        == """Before.
<!-- table: birds -->
| source | last layer | all layers | chosen |
| --- | --- | --- | --- |
| yamnet | 0.500 (0.375 to 0.625) |  | 0.750 (0.625 to 0.875) |
| mfcc |  | 0.250 (0.125 to 0.375) |  |
<!-- end -->
<!-- table: overview -->
| source | birds | words |
| --- | --- | --- |
| yamnet | 0.750 (0.625 to 0.875) | 0.750 (0.625 to 0.875) |
| mfcc | 0.250 (0.125 to 0.375) |  |
<!-- end -->
After.
"""
    )


def test_a_new_page_has_every_table(comparisons, tmp_path):
    assert run_main("summarise_sources", *comparisons, "--page", tmp_path / "new.md") == 0
    text = (tmp_path / "new.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("##")] == ["## Overview", "## Birds", "## Words"]


def test_what_cannot_be(comparisons, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- table: frogs -->\n<!-- end -->\n")
    with pytest.raises(InputError, match=r"page\.md: wants a table 'frogs'; these results have overview, birds, words"):
        run_main("summarise_sources", *comparisons, "--page", page)
    with pytest.raises(InputError, match=r"birds: 'birds' is the name of another table; rename the folder"):
        run_main("summarise_sources", comparisons[0], comparisons[0], "--page", page)
    with pytest.raises(InputError, match=r"has no scores\.csv; expected a folder that 'compare' has written"):
        run_main("summarise_sources", tmp_path, "--page", page)
    page.write_text("<!-- table: birds -->\n<!-- table: words -->\n<!-- end -->\n")
    with pytest.raises(InputError, match=r"page\.md: a table does not end; put a line '<!-- end -->' behind each"):
        run_main("summarise_sources", *comparisons, "--page", page)
    page.write_bytes(b"<!-- table: birds -->\n\xff<!-- end -->\n")
    with pytest.raises(InputError, match=r"page\.md: is no text in UTF-8"):
        run_main("summarise_sources", *comparisons, "--page", page)


def test_names_that_would_break_a_page(comparisons, tmp_path):
    odd = tmp_path / "with - and . in it"
    comparisons[0].rename(odd)
    text = (odd / "scores.csv").read_text()
    (odd / "scores.csv").write_text(text.replace("yamnet", "NA").replace("mfcc", "a|b<!-- end -->"))
    page = tmp_path / "page.md"
    page.write_text(f"<!-- table: {odd.name} -->\n<!-- end -->\n")
    for _ in range(2):
        assert run_main("summarise_sources", odd, "--page", page) == 0
    assert [line.split(" | ")[0] for line in page.read_text().splitlines()[3:5]] == [
        "| NA",
        "| a\\|b&lt;!-- end -->",
    ]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "hi\n",
        lambda text: "source,score\na,1\n",
        lambda text: text[:-30],
        lambda text: text + text.splitlines()[1] + "\n",
        lambda text: text.replace("0.5", "half"),
        lambda text: text.replace("chosen", "picked"),
        lambda text: text + "a,b,c,d,e,f,g,h,i,j,k,l\n",
        lambda text: text.replace("yamnet", "\udcff"),
        lambda text: text.replace(",32,", ",3_2,"),
        lambda text: text.replace(",32,", ",\u0663\u0662,"),
        lambda text: text.replace(",32,", ",32.5,"),
        lambda text: text.replace(",0.75,", ",7,"),
        lambda text: text.replace(",0.75,", ",inf,"),
        lambda text: text.replace(",0.75,", ",-1,"),
        lambda text: text.replace(",0.75,", ",0.7500001,"),
        lambda text: text.replace(",0.125,0.625,0.875", ",0.125,0.875,0.625"),
        lambda text: text.replace(",0.125,0.625,0.875", ",0.125,0.625,1.25"),
        lambda text: text.replace(",0.125,0.625,0.875", ",0.125,,"),
        lambda text: text.replace("accuracy", "r2", 1),
        lambda text: text.replace("accuracy", "f1"),
        lambda text: text.replace("fold_1", "first").replace("fold_2", "second"),
        lambda text: text.replace("layer1; layer2", "layer1"),
        lambda text: text.replace(",chosen_by_round", "").replace(",layer1; layer2", "").replace(",\n", "\n"),
        lambda text: text.replace("parameters", "settings"),
    ],
)
def test_a_table_that_compare_did_not_write(comparisons, tmp_path, damage):
    path = comparisons[0] / "scores.csv"
    path.write_bytes(damage(path.read_text()).encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=rf"{path}: is no.* table.*; remove it$"):
        run_main("summarise_sources", comparisons[0], "--page", tmp_path / "page.md")
    assert not (tmp_path / "page.md").exists()


def test_sources_of_one_layer_have_no_choices(comparisons):
    path = comparisons[0] / "scores.csv"
    table = pd.read_csv(path)
    table[table["source"] == "mfcc"].drop(columns="chosen_by_round").to_csv(path, index=False)
    assert read_scores(path)["score"].tolist() == [0.25]


def test_a_regression_has_no_interval_of_a_single_fold(comparisons):
    path = comparisons[0] / "scores.csv"
    table = pd.read_csv(path).drop(columns=["fold_1", "fold_2"])
    table = table.replace({"accuracy": "r2", "layer1; layer2": "a"})
    table["score"] = table["test"] = -7.5
    table["interval_low"] = table["interval_high"] = table["deviation"] = None
    table.to_csv(path, index=False)
    assert read_scores(path)["score"].tolist() == [-7.5] * 3


@pytest.mark.parametrize("name", ["two\nlines", "a --> b", "a\rb"])
def test_a_folder_whose_name_no_line_can_hold(comparisons, tmp_path, name):
    comparisons[0].rename(tmp_path / name)
    with pytest.raises(
        InputError, match=r"page\.md: no line of it can name a table '.*'; expected a name without line"
    ):
        run_main("summarise_sources", tmp_path / name, "--page", tmp_path / "page.md")
    assert not (tmp_path / "page.md").exists()
