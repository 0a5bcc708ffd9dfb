"""The report of a study: a page, the same in Markdown, and in JSON. Without TensorFlow."""

import json
import shlex
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import pandas as pd

from keras_audio_transfer.files import atomic_write
from keras_audio_transfer.report.players import data_uri
from keras_audio_transfer.report.self_contained import SORTING, STYLE, self_contained
from keras_audio_transfer.study import illustrations
from keras_audio_transfer.study.comparisons import SCORES, by_target
from keras_audio_transfer.study.evidence import Cells, Finding, counted, listed, rounded
from keras_audio_transfer.study.findings import answers
from keras_audio_transfer.study.other_studies import SUMMARY, answers_beside

if TYPE_CHECKING:
    from keras_audio_transfer.study.study_file import Study

PAGE, MARKDOWN, PICTURES = "index.html", "README.md", "pictures"
OUTPUTS = (PAGE, MARKDOWN, SUMMARY, PICTURES)
_HERE = Path(__file__).resolve().parent
_PACKAGES = ("keras_audio_transfer", "numpy", "pandas", "scikit-learn", "scipy", "tensorflow", "keras")
_MARKDOWN = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_[]<>|#"} | {"\n": " ", "\r": " "})
_METHOD = (
    "Both sides of a comparison were fitted on the same clips, and scored on the same clips. Intervals over targets "
    "are of a bootstrap over targets, seeds and folds, with the sources taken for fixed; tests of one source and "
    "target are corrected for shared training clips (Nadeau and Bengio 2003), and p_holm for all rows of its table "
    "(Holm 1979), significant below 0.05. With few folds and many rows such a test hardly ever is: sentences rest on "
    "the intervals over targets. A single fold and seed cannot be tested. Layers and parameters were chosen inside the "
    "training clips."
)
_DETAILS = "Each source and target. Intervals are of the corrected t-test over folds and seeds."


def write(results: pd.DataFrame, measures: pd.DataFrame, study: "Study", folder: Path) -> None:
    """Write `index.html`, `README.md`, `summary.json` and `pictures/` of a study.

    The same tables give the same files.

    Args:
        results: the table of cells, a row a cell and fold: docs/studies.md has the columns.
        measures: source, target, layer, measure, value.
        study: what was asked for.
        folder: of the study; older files of these names are replaced.
    """
    findings = answers(results, measures)
    pictures = _draw(findings, folder / PICTURES)
    others = answers_beside(study.beside, folder)
    elsewhere = {
        finding.name: [other for other in others if finding.summary is None and other.name == finding.name]
        for finding in findings
    }
    content = _content(results, study, folder, findings) | {
        "pictures": pictures,
        "elsewhere": elsewhere,
        "others": dict.fromkeys((other.study, other.folder) for other in others),
    }
    page = self_contained(
        _HERE / "report.html.jinja",
        content,
        {"shown": _shown},
        [STYLE, _HERE / "report.css"],
        [SORTING, _HERE / "report.js"],
    )
    _write(folder / PAGE, page)
    _write(folder / MARKDOWN, _markdown(content))
    _write(folder / SUMMARY, _summary(content))


def _write(path, content):
    with atomic_write(path) as partial:
        partial.write_bytes(content)


def _draw(findings: list[Finding], folder: Path) -> dict[str, list[dict[str, str]]]:
    """Draw all pictures, as PNG and SVG; of each finding their titles, their places and their contents."""
    made = {}
    with atomic_write(folder) as partial:
        partial.mkdir()
        for finding in findings:
            made[finding.name] = []
            for number, (title, draw) in enumerate(illustrations.of(finding).items(), 1):
                name = f"{finding.name}_{number}"
                draw(path=partial / f"{name}.*", title=title)
                uri = data_uri("image/svg+xml", (partial / f"{name}.svg").read_bytes())
                made[finding.name].append({"title": title, "path": f"{PICTURES}/{name}.png", "uri": uri})
    return made


def _content(results: pd.DataFrame, study: "Study", folder: Path, findings: list[Finding]) -> dict[str, Any]:
    cells = Cells.of(results)
    done = pd.concat([cells.every, cells.trainings])
    failed = results[results["status"] != "done"]
    n_cells = done["cell"].nunique()
    metrics = done.groupby("metric", sort=False)["target"].unique().map(listed)
    return {
        "name": study.name,
        "command": shlex.join(
            ["keras-audio-transfer", "study", study.path.name, "--output-dir", folder.resolve().name]
        ),
        "findings": findings,
        "about": {
            "cells": f"{counted(n_cells, 'cell')} were scored, {failed['cell'].nunique()} failed",
            "scores": "; ".join(f"Scores are {metric} of {targets}" for metric, targets in metrics.items())
            or "No score",
            "method": _METHOD,
            "details": _DETAILS,
        },
        "cells": _cells(done),
        "failed": [*failed[["cell", "why"]].itertuples(index=False, name=None)],
        "made": {
            "Sources by kind": _by_kind(done, "source"),
            "Targets by kind": _by_kind(done, "target"),
            "Seeds": ", ".join(map(str, sorted({*done["seed"]}))),
            "Hours of all cells": f"{done['seconds'].sum() / 3600:.2f}",
            "Versions": ", ".join(f"{name} {number}" for name, number in _versions().items()),
        },
    }


def _by_kind(rows, what):
    names = rows.groupby(f"{what}_kind", sort=False)[what].unique().map(listed)
    return "; ".join(f"{kind}: {these}" for kind, these in names.items())


def _cells(done):
    """A row for all seeds of a cell."""
    rows = done.assign(value=done["score"], of=done["cell"].str.rsplit("|", n=1).str[0])
    table = by_target(rows, ["of", "target"], SCORES)[["mean", "low", "high", "folds", "seeds", "cells"]]
    return table[["cells", "mean", "low", "high", "folds", "seeds"]]


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _shown(value: float, name: str) -> str:
    """A number of a column."""
    if isinstance(value, int | np.integer):
        return str(value)
    if np.isnan(value):
        return "–"
    return "never" if np.isinf(value) else f"{value:.2g}" if name in ("p", "p_holm") else f"{rounded(value):.3f}"


def _escaped(text: str) -> str:
    """A text that Markdown shows as it is, in one line."""
    return text.translate(_MARKDOWN)


def _markdown(content: Mapping[str, Any]) -> bytes:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"shown": _shown, "text": _escaped}
    return environment.get_template("report.md.jinja").render(content).encode("utf-8", "backslashreplace")


def _summary(content: Mapping[str, Any]) -> bytes:
    """All answers as JSON; null is not known, or of clips not within those that there are."""

    def records(table):
        return None if table is None else json.loads(table.to_json(orient="records", double_precision=10))

    summary = {name: content[name] for name in ("name", "command", "made")}
    summary["answers"] = [
        finding._asdict()
        | {"summary": records(finding.summary), "details": records(finding.details)}
        | {"elsewhere": [other._asdict() for other in content["elsewhere"][finding.name]]}
        for finding in content["findings"]
    ]
    summary["failed"] = [{"cell": cell, "why": why} for cell, why in content["failed"]]
    return (json.dumps(summary, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
