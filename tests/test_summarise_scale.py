"""What many hours cost, from what was measured."""

import json
import math

import pytest
from conftest import ROOT, run_main

from keras_audio_transfer.commands import pages, summarise_scale
from keras_audio_transfer.errors import InputError

PAGE, FIGURES = ROOT / "docs" / "scale.md", sorted((ROOT / "docs" / "scale").glob("*.json"))


def figures(**more):
    """Of clips of 4 s: a start, and a cost a clip."""
    rows = []
    for verb, varied, seconds, megabytes in (
        *(("prepare", "clips", 0.001, 0.0), ("extract", "clips", 0.02, 0.0)),
        ("extract", "clips not heard", 0.0004, 0.002),
    ):
        rows += [
            {
                **{"verb": verb, "varied": varied, "value": n, "core_seconds": 5 + seconds * n},
                **{"peak_megabytes": 300 + megabytes * n, "output_bytes": 2000 * n},
            }
            for n in (100, 300, 1000)
        ]
    return {"growth": {"clip_seconds": 4.0, "rows": rows}, **more}


def test_costs_are_slopes_and_prices(tmp_path):
    ours = {"core_milliseconds_a_clip": 72, "feature_bytes_a_clip": 640}
    of_sources = {"clips": 10, "audio_seconds": 50, "floor": {"mfcc": {}}, "yamnet": {"ours": ours}}
    (tmp_path / "figures.json").write_text(json.dumps(figures()))
    (tmp_path / "sources.json").write_text(json.dumps({"sources": of_sources}))
    prices = ["--hours", 1000, "--core-hour-price", 3, "--gigabyte-month-price", 10]
    page = tmp_path / "page.md"
    of_both = tmp_path / "figures.json", tmp_path / "sources.json"
    assert run_main("summarise_scale", *of_both, "--page", page, *prices) == 0
    lines = page.read_text().splitlines()
    # 900,000 clips of 4 s, 720,000 of 5 s
    assert [line for line in lines if line.startswith("| `")] == [
        "| `prepare` | 0 | 0.00 | 1 | 18 |",
        "| `extract` | 5 | 0.00 | 15 | 18 |",
    ]
    assert "| yamnet | 14 | 0.00 | 43 | 5 |" in lines
    limits = [line.split(" | ")[1].strip(" |") for line in lines if line.startswith("| ") and line.count("|") == 3]
    assert limits == ["how much", "---", "1,000", "900,000", "0", "2", "0", "7,031", "13", "9,000"]


@pytest.mark.parametrize(
    "content",
    [
        *("{", "{}", "[]", '{"growth": {"clip_seconds": 0, "rows": []}}'),
        '{"growth": {"clip_seconds": 4, "rows": [1]}}',
        json.dumps(figures()).replace('"core_seconds": 5.1, ', "", 1),
        json.dumps(figures()).replace("4.0", "NaN"),
        json.dumps(figures()).replace("4.0", "9" * 400),
        *(json.dumps(figures(sources=of)) for of in (None, {"clips": 1, "audio_seconds": math.nan, "a": {"ours": {}}})),
    ],
)
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "figures.json").write_text(content)
    (tmp_path / "other.json").write_text("{}")
    files = tmp_path / "figures.json", tmp_path / "other.json"
    message = (
        r"figures\.json or .*other\.json: is not the --output of `benchmark --growth` or --sources \(\w+\); measure"
    )
    with pytest.raises(InputError, match=message):
        run_main("summarise_scale", *files, "--page", tmp_path / "page.md")
    assert not (tmp_path / "page.md").exists()


def test_the_page_is_made_from_the_committed_figures():
    options = summarise_scale.arguments().parse_args([*map(str, FIGURES), "--page", str(PAGE)])
    how = options.hours, options.core_hour_price, options.gigabyte_month_price
    tables = summarise_scale.tables_of(summarise_scale.figures_in(FIGURES), *how)
    assert PAGE.read_text(encoding="utf-8") == pages.with_tables(PAGE, tables, {})
