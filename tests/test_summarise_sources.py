"""Tables of several comparisons on a page."""

import pandas as pd
import pytest
from conftest import run_main

from keras_audio_transfer.errors import InputError


@pytest.fixture
def comparisons(tmp_path):
    """Two, of which one lacks a source; its folders."""
    rows = [("yamnet", "last layer", 0.5), ("yamnet", "chosen", 0.75), ("mfcc", "all layers", 0.25)]
    for name, kept in (("birds", rows), ("words", rows[:2])):
        table = pd.DataFrame(kept, columns=["source", "choice", "score"])
        table["interval_low"], table["interval_high"] = table["score"] - 0.125, table["score"] + 0.125
        (tmp_path / name).mkdir()
        table.to_csv(tmp_path / name / "scores.csv", index=False)
    return tmp_path / "birds", tmp_path / "words"


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
    (comparisons[0] / "scores.csv").write_text("source,score\na,1\n")
    with pytest.raises(InputError, match=r"scores\.csv: has no choice; expected the table that 'compare' writes"):
        run_main("summarise_sources", comparisons[0], "--page", page)
