"""The report of a study: what stands in its files, that it is safe to open, and that numbers lead to their cells."""

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace

import pytest
import studies
from browser import CHROMIUM, Browser
from test_report import HOSTILE, Page

from keras_audio_transfer.study import illustrations, pictures, report
from keras_audio_transfer.study.evidence import EVERY, Cells
from keras_audio_transfer.study.findings import answers, clips_enough, contributions, finetuning, layers, multiscale

STUDY = SimpleNamespace(name=HOSTILE, path=Path("studies") / "my study.toml", beside=())
PICTURES = ["chosen", "classifiers", "clips", "depth", "layers", "mfcc", "sources", "transfer", "why"]


def results():
    return studies.table().replace({"source_kind": {"music": HOSTILE}, "target_kind": {"music": HOSTILE}})


@pytest.fixture(scope="module")
def found():
    return answers(results(), studies.measures())


@pytest.fixture(scope="module")
def folder(tmp_path_factory, found):
    folder = tmp_path_factory.mktemp("study") / "mine"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "answers", lambda *tables: found)  # which takes seconds
        report.write(results(), studies.measures(), STUDY, folder)
    return folder


@pytest.mark.parametrize(
    ("answer", "rows", "shown"),
    [
        *((answer, studies.trainings, ("loud", "talk")) for answer in (finetuning, clips_enough, multiscale)),
        (contributions, studies.combinations, ("loud: layer1", "loud: layer3", "Shapley value")),
    ],
)
def test_what_is_not_in_every_study_has_pictures(answer, rows, shown, tmp_path):
    ((title, draw),) = illustrations.of(answer(Cells.of(rows()))).items()
    draw(path=tmp_path / "picture.*", title=title)
    for text in shown:
        assert text in (tmp_path / "picture.svg").read_text()


@pytest.mark.parametrize(("sources", "panels"), [(["loud"], ["loud"]), (["loud", "talk"], [EVERY, "loud", "talk"])])
def test_the_picture_of_one_network_shows_it_once(sources, panels, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(pictures, "curves", lambda table, panel, **how: drawn.extend(table[panel].unique()))
    rows = results()
    finding = layers(Cells.of(rows[rows["source"].isin([*sources, "mfcc"])]))
    assert EVERY in finding.summary["source"].tolist()
    for title, draw in illustrations.of(finding).items():
        draw(path=tmp_path / "picture.*", title=title)
    assert drawn == panels


def test_what_is_written(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "index.html", "pictures", "summary.json"]
    names = {path.name for path in (folder / "pictures").iterdir()}
    assert sorted({name.partition("_")[0] for name in names}) == PICTURES
    assert {f"{Path(name).stem}.{kind}" for name in names for kind in ("png", "svg")} == names


def test_answers_come_first_with_their_sentences(folder, found):
    page = Page(folder / "index.html")
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert page.texts("bdi") == [HOSTILE]
    assert page.texts("h2") == [
        *(finding.question for finding in found if finding.summary is not None),
        *("The cells", "Cells that failed: 1", "How it was made"),
    ]
    for finding in found:
        assert finding.sentence in page.text
        assert f"- **{finding.question}** " in readme.partition("\n## ")[0]
    assert page.source.index(found[-1].question) < page.source.index("<img")


def test_names_are_texts_and_nothing_comes_from_elsewhere(folder):
    page = Page(folder / "index.html")
    assert [tag for tag, *_ in page.elements].count("script") == 1
    assert all(a["src"].startswith("data:image/svg+xml;base64,") for a, _ in page.all("img"))
    assert all(a["href"].startswith("#") for a, _ in page.all("a"))
    assert {a["href"][1:] for a, _ in page.all("a")} <= {a.get("id") for _, a, _ in page.elements}
    assert all(text for text in page.texts("caption"))
    assert all("scope" in a for a, _ in page.all("th"))
    assert "class <rock>: 40 clips; 50 were asked for" in page.text
    assert "<script>" not in (folder / "README.md").read_text(encoding="utf-8").replace("\\<", "")


def test_every_number_leads_to_cells(folder):
    cells = {*results()["cell"]}
    page = Page(folder / "index.html")
    links = {text for a, text in page.all("a") if a.get("class") == "cells"}
    assert len(links) > 100
    assert all(any(fnmatchcase(cell, link) for cell in cells) for link in links)
    rows = [a["data-cell"] for a, _ in page.all("tr") if "data-cell" in a]
    done = cells - {"talk|songs|all|mean|svm|50|0"}
    assert sorted({cell.rpartition("|")[0] + "|*" for cell in done}) == sorted(rows)
    (command,) = (a["data-study"] for a, _ in page.all("code") if "data-study" in a)
    assert command == "keras-audio-transfer study 'my study.toml' --output-dir mine"


def test_the_mean_of_a_cell_is_right(folder):
    page = Page(folder / "index.html")
    row = page.source[page.source.index('data-cell="talk|words|last|mean|svm|20|*"') :]
    shown = re.findall(r'data-value="([^"]+)"', row)[:3]
    scores = results().query("cell.str.startswith('talk|words|last|mean|svm|20|')")["score"]
    assert float(shown[0]) == pytest.approx(scores.mean())
    assert float(shown[1]) < scores.mean() < float(shown[2])


def test_the_summary_has_what_the_page_has(folder, found):
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["name"] == HOSTILE
    assert [answer["sentence"] for answer in summary["answers"]] == [finding.sentence for finding in found]
    of = {answer["name"]: answer for answer in summary["answers"]}
    expected = found[1].summary
    assert [row["mean"] for row in of["layers"]["summary"]] == pytest.approx(expected["mean"].tolist(), abs=1e-9)
    assert [row["cells"] for row in of["layers"]["summary"]] == expected["cells"].tolist()
    assert of["poolings"]["summary"] is None
    assert [row["clips"] for row in of["clips"]["summary"]].count(None) == 1  # never
    assert summary["failed"] == [
        {"cell": "talk|songs|all|mean|svm|50|0", "why": "class <rock>: 40 clips; 50 were asked for"}
    ]


def test_what_was_not_run_is_answered_by_the_studies_beside_it(folder, found, tmp_path, monkeypatch):
    pooled = "mean scored 0.5 <b>higher</b>"
    others = {"all of it": [("poolings", pooled, [{"mean": 0.5}]), ("layers", "not this one", [{}])]}
    others["none"] = [("poolings", "Not run: no cells", None)]
    for name, answers_there in others.items():
        (tmp_path / "others" / name).mkdir(parents=True)
        content = [dict(zip(("name", "sentence", "summary"), answer, strict=True)) for answer in answers_there]
        (tmp_path / "others" / name / "summary.json").write_text(json.dumps({"answers": content}))
    monkeypatch.setattr(report, "answers", lambda *tables: [f for f in found if f.name in ("layers", "poolings")])
    study = SimpleNamespace(**{**vars(STUDY), "beside": [tmp_path / "others" / name for name in others]})
    report.write(results(), studies.measures(), study, tmp_path / "mine")

    page = Page(tmp_path / "mine" / "index.html")
    assert "not this one" not in page.text
    assert "Not run" not in page.text
    assert pooled in page.text
    links = {a["href"]: text for a, text in page.all("a") if not a["href"].startswith("#")}
    assert links == {"../others/all%20of%20it/index.html": "all of it"}
    readme = (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
    assert f"In [all of it](../others/all%20of%20it/README.md): {report._escaped(pooled)}\n" in readme
    summary = json.loads((tmp_path / "mine" / "summary.json").read_text(encoding="utf-8"))
    where = [{"name": "poolings", "study": "all of it", "folder": "../others/all of it", "sentence": pooled}]
    assert [answer["elsewhere"] for answer in summary["answers"]] == [[], where]
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["answers"][0]["elsewhere"] == []


def test_markdown_tables_are_whole(folder):
    readme = (folder / "README.md").read_text(encoding="utf-8")
    tables = re.findall(r"(?:^\|.*\n)+", readme, flags=re.MULTILINE)
    assert len(tables) == 10
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", readme):
        assert (folder / picture).is_file()


@pytest.mark.slow
def test_the_same_tables_give_the_same_files(tmp_path, monkeypatch):
    small = results().query("source != 'talk' and clips_a_class == 'all'")
    monkeypatch.setattr(report, "answers", lambda *tables: answers(*tables)[:2])  # all have many pictures
    for name in "ab":
        report.write(small, studies.measures(), STUDY, tmp_path / name / "mine")
    paths = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*")]
    assert len(paths) == 9
    for path in paths:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path.name


def test_a_study_that_failed_everywhere_has_a_report(tmp_path):
    failed = results().query("status == 'failed'")
    report.write(failed, studies.measures().iloc[:0], STUDY, tmp_path)
    assert "0 cells were scored, 1 failed" in Page(tmp_path / "index.html").text


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_in_a_browser(folder):
    address = (folder / "index.html").as_uri()
    with Browser() as browser:
        browser.open_on_phone(address, 360)
        assert browser.evaluate("window.hacked") is None
        browser.evaluate("document.querySelectorAll('#layers ~ .scroll a.cells')[0].click()")
        assert browser.evaluate("document.getElementById('only').value") == "*|*|all|mean|svm|5|*"
        assert browser.evaluate("document.getElementById('count').textContent").startswith("9 of ")
        assert browser.evaluate("document.getElementById('command').textContent").endswith(
            "--output-dir mine --only '*|*|all|mean|svm|5|*'"
        )
        assert {*browser.requests} == {address, "data:image/svg+xml"}
        assert browser.messages == []
