"""The atlas of a network's layers: what it says of units and layers, what the page holds, and the command."""

import base64
import io
import json
import re
from dataclasses import replace
from functools import partial

import matplotlib.axes
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import soundfile
from browser import CHROMIUM, Browser
from conftest import run_main
from sounds import CONFIG, noise
from test_report import HOSTILE, Page, beep

from keras_audio_transfer.atlas import pictures
from keras_audio_transfer.atlas.page import CLIPS_A_UNIT, Atlas, labels_of, write
from keras_audio_transfer.atlas.units import selectivity, units_of
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.study import measures

NAMES = ["absent", HOSTILE, "مطر", "dog"]  # no clip has the first
FRAME = "(s => [s.borderTopStyle, s.borderTopColor])(getComputedStyle(document.querySelector('{}')))"
LABELS = np.array([1, 2, 3] * 5)
CARD = Card(CONFIG, {"near": 4, "far": 3}, network="sbcnn", network_citation="me & you", weights_sha256="abc123")


def atlas(**more):
    """Of 15 clips and two layers: unit 2 of `far` tells the last class from the others, and unit 1 is dead."""
    rng = np.random.default_rng(0)
    far = np.stack([rng.normal(size=15), np.full(15, 2.0), 9.0 * (LABELS == 3) + rng.uniform(size=15)], axis=1)
    layers = {"near": rng.normal(size=(15, 4)).astype(np.float32), "far": far.astype(np.float32)}
    clips = [
        Clip(f"{number}{HOSTILE}.wav", None, (NAMES[label],), synthesise=partial(beep, 300 + 50 * number, 0.2))
        for number, label in enumerate(LABELS)
    ]
    table = FeatureTable.of_clips(layers, clips, NAMES)
    return replace(Atlas(f"mine{HOSTILE}", CARD, "sounds", table, clips, "CC BY 4.0", "A. Author"), **more)


def made(folder, content, **how):
    """The page, and what its script is given."""
    write(folder / "atlas.html", content, **how)
    page = Page(folder / "atlas.html")
    return page, json.loads(re.search(r'<script type="application/json" id="atlas">(.*?)</script>', page.source)[1])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return made(tmp_path_factory.mktemp("page"), atlas(failures=[("x.wav", f"x.wav{HOSTILE}: is empty")]))


# ---- units


def test_selectivity_is_the_area_under_the_roc_curve():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), [3, 9, 14, 4])
    features = rng.integers(0, 6, (30, 7)).astype(np.float32)  # with ties
    expected = [[roc_auc_score(labels == label, unit) for unit in features.T] for label in range(4)]
    np.testing.assert_allclose(selectivity(features, labels, 4), expected, rtol=1e-12)


def test_the_loudest_clips_of_a_unit_the_first_of_equals_first():
    features = np.array([[1.0, 7.0], [5.0, 7.0], [5.0, 7.0], [3.0, 7.0]])
    units = units_of(features, np.array([0, 1, 1, 0]), 2, n_shown=3)
    assert units.loudest[:, 0].tolist() == [1, 2, 3]
    np.testing.assert_allclose(units.deviations[:, 0], (np.array([5, 5, 3]) - 3.5) / np.std([1, 5, 5, 3]))
    assert units.is_dead.tolist() == [False, True]
    assert units_of(features[:, 1:], np.array([0, 1, 1, 0]), 2, 3).best() == []


def test_the_best_unit_of_each_class_the_best_first():
    labels = np.repeat(np.arange(3), 4)
    features = noise(12, 6)
    features[:, 5] = 1.0  # dead, and no worse than any other where they tell nothing
    features[labels == 2, 3] += 9
    auc = selectivity(features, labels, 3)
    best = units_of(features, labels, 3, 1).best()
    assert best[0] == (2, 3)
    assert sorted(best) == [(label, int(auc[label, :5].argmax())) for label in range(3)]
    assert [auc[pair] for pair in best] == sorted((auc[pair] for pair in best), reverse=True)


# ---- pictures


def test_the_map_has_the_principal_components(monkeypatch):
    drawn, real = [], matplotlib.axes.Axes.scatter

    def scatter(axis, x, y, **look):
        drawn.append((np.stack([x, y], axis=1), look["color"], look["marker"]))
        return real(axis, x, y, **look)

    monkeypatch.setattr(matplotlib.axes.Axes, "scatter", scatter)
    features, labels = noise(40, 6) * np.arange(1, 7), np.arange(40) % 20
    picture = pictures.class_map(features, labels, [f"class {label}" for label in range(20)])
    assert matplotlib.image.imread(io.BytesIO(picture), format="png").shape[0] > 300
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    u, scale, _ = np.linalg.svd(scaled.astype(float), full_matrices=False)
    points = np.concatenate([points for points, *_ in drawn])[np.argsort(np.argsort(labels, kind="stable"))]
    np.testing.assert_allclose(np.abs(points), np.abs(u[:, :2] * scale[:2]), rtol=1e-4, atol=1e-5)
    assert len({(colour, marker) for _, colour, marker in drawn}) == 20


def test_the_map_names_every_class_and_keeps_its_room(monkeypatch):
    monkeypatch.setattr(pictures.plots, "png", lambda figure, *_: figure)
    names = ["_background", "y" * 200]
    figure = pictures.class_map(noise(4, 3), np.array([0, 0, 1, 1]), names)
    assert [text.get_text() for text in figure.legends[0].texts] == ["_background", "y" * 29 + "…"]
    figure.canvas.draw()
    assert figure.axes[0].get_window_extent().width > figure.bbox.width / 3
    matplotlib.pyplot.close(figure)


@pytest.mark.parametrize("features", [np.zeros((4, 3)), noise(4, 1), np.zeros((4, 1))])
def test_layers_that_fill_no_plane_have_maps(features):
    assert pictures.class_map(features, np.array([0, 0, 1, 1]), ["a", "b"]).startswith(b"\x89PNG")


def test_a_layer_that_is_like_none_is_drawn():
    assert pictures.likeness(np.array([[1, np.nan], [np.nan, np.nan]]), ["a", "b"]).startswith(b"\x89PNG")


# ---- the page


def test_the_answer_comes_first(page):
    (said,) = (text for attributes, text in page[0].all("p") if attributes.get("class") == "verdict")
    assert said == "Of its 2 layers, far keeps the 3 classes of"
    assert re.search(r"best by itself is unit 2 of far: +dog *, AUC 1\.00", page[0].text)


def with_silhouettes(monkeypatch, *silhouettes):
    """The layers' silhouettes are these."""
    given = iter(silhouettes)
    monkeypatch.setattr(measures, "centroid_silhouette", lambda *_: next(given))


@pytest.mark.parametrize(
    ("silhouettes", "said", "printed"),
    [
        ((0.1732, 0.1694), "near keeps the 3 classes of sounds apart best (silhouette 0.173).", ["0.173", "0.169"]),
        ((0.17321, 0.17324), "near and far keep the 3 classes of sounds apart best (silhouette 0.1732 each).", None),
        ((0.2, 0.2), "near and far keep the 3 classes of sounds apart best (silhouette 0.2000 each).", None),
        ((0.12, 0.31), "far keeps the 3 classes of sounds apart best (silhouette 0.31).", ["0.12", "0.31"]),
    ],
)
def test_what_is_called_the_best_layer_differs_in_print(silhouettes, said, printed, tmp_path, monkeypatch):
    with_silhouettes(monkeypatch, *silhouettes)
    page, _ = made(tmp_path, atlas(), n_players=0)
    assert f"Of its 2 layers, {said}" in page.text
    cells = [text for attributes, text in page.all("td") if attributes.get("class") == "number"]
    assert printed is None or cells[::4] == printed
    is_open = ["open" in attributes for attributes, _ in page.all("details")]
    assert [place for place, this in enumerate(is_open) if this] == [silhouettes.index(max(silhouettes))]


def test_a_silhouette_below_0_has_no_empty_bar(tmp_path, monkeypatch):
    with_silhouettes(monkeypatch, -0.03, 0.4)
    page, _ = made(tmp_path, atlas(), n_players=0)
    below, above = ((attributes, text) for attributes, text in page.all("td") if "data-value" in attributes)
    assert below == ({"data-value": "-0.030000"}, "-0.03, below 0")
    assert above == ({"data-value": "0.400000"}, "")
    assert [bar["width"] for bar, _ in page.all("rect")] == ["100", "40.0"]


def test_what_is_said_of_the_table_is_not_in_what_scrolls_sideways(page):
    tags = [(tag, attributes.get("class")) for tag, attributes, _ in page[0].elements]
    (about,) = (
        place for place, (_, attributes, _) in enumerate(page[0].elements) if attributes.get("id") == "about-layers"
    )
    assert "Silhouette: how much nearer clips are" in page[0].elements[about][2]
    assert about < tags.index(("div", "scroll"))
    assert page[0].all("caption") == []


def test_long_names_go_on_in_the_next_line_where_a_part_ends(tmp_path):
    page, _ = made(tmp_path, atlas(title="my_net..5.mp3<b>_"), n_players=0)
    assert "<h1><bdi>my_<wbr>net..<wbr>5.<wbr>mp3&lt;b&gt;_</bdi>:" in page.source


def test_each_layer_has_its_numbers(page):
    table, labels = atlas().table, LABELS - 1
    cells = [text for attributes, text in page[0].all("td") if attributes.get("class") == "number"]
    for row, (name, dead) in zip(np.reshape(cells, (2, 4)), {"near": 0, "far": 1}.items(), strict=True):
        values = table.layers[name]
        apart = measures.centroid_silhouette(values, labels), measures.fisher_ratio(values, labels)
        assert [*row] == [*(f"{value:.2f}" for value in apart), str(values.shape[1]), str(dead)]


def test_the_likeness_of_layers_is_drawn(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "likeness", lambda *given: drawn.append(given) or b"")
    made(tmp_path, atlas(), n_players=0)
    ((similarity, names),) = drawn
    alike = measures.linear_cka(*atlas().table.layers.values(), debiased=True)
    np.testing.assert_allclose(similarity, [[1, alike], [alike, 1]])
    assert names == ["near", "far"]


def test_every_live_unit_has_the_clips_that_excite_it_most(page):
    _, data = page
    for (name, values), units in zip(atlas().table.layers.items(), data["layers"], strict=True):
        assert [unit for unit, *_ in units] == [i for i in range(values.shape[1]) if (name, i) != ("far", 1)]
        for unit, label, auc, clips, deviations in units:
            loudest = np.argsort(-values[:, unit])[:CLIPS_A_UNIT]
            assert [data["clips"][clip]["id"] for clip in clips] == [f"{row}{HOSTILE}.wav" for row in loudest]
            scaled = (values[loudest, unit] - values[:, unit].mean()) / values[:, unit].std()
            np.testing.assert_allclose(deviations, scaled, atol=0.051)
            of_classes = selectivity(values[:, [unit]], LABELS - 1, 3)[:, 0]
            assert (label, auc) == (NAMES[1:][of_classes.argmax()], pytest.approx(of_classes.max(), abs=6e-4))


def test_each_clip_is_in_the_page_once_and_plays(page):
    clips = page[1]["clips"]
    assert len({clip["id"] for clip in clips}) == len(clips)
    for clip in clips:
        assert page[0].source.count(clip["sound"]) == 1
        sound, rate = soundfile.read(io.BytesIO(base64.b64decode(clip["sound"].partition(",")[2])))
        row = int(clip["id"].partition("<")[0])
        assert clip["label"] == NAMES[LABELS[row]]
        spectrum = np.abs(np.fft.rfft(sound))
        assert np.argmax(spectrum) * rate / len(sound) == pytest.approx(300 + 50 * row, abs=15)


def test_names_are_texts_and_licences_are_said(page):
    page, _ = page
    assert [attributes.get("type") for attributes, _ in page.all("script")] == ["application/json", None]
    assert {name for _, attributes, _ in page.elements for name in attributes if name.startswith("on")} == set()
    assert page.texts("title") == [f"mine{HOSTILE}: atlas of its layers"]
    assert f"x.wav{HOSTILE}: is empty" in page.texts("li")
    for text in ("15 clips; licence of the sounds on this page: CC BY 4.0", "me & you", "A. Author", "sbcnn", "abc123"):
        assert text in page.text


def test_the_clips_that_most_units_name_have_players(tmp_path):
    everything = made(tmp_path, atlas())[1]
    page, data = made(tmp_path, atlas(), n_players=2)
    players = [clip for clip in data["clips"] if "sound" in clip]
    assert players == everything["clips"][:2]
    assert data["clips"][2]["why"] == "--clips 2 asked for"
    assert [clip["id"] for clip in data["clips"]] == [clip["id"] for clip in everything["clips"]]
    shown = {attributes["data-unit"]: attributes for attributes, _ in page.all("ol") if "data-unit" in attributes}
    assert shown["2"]["data-label"] == "dog"


@pytest.mark.parametrize("silhouettes", [(0.1, 0.3), (0.3, 0.1)])
def test_the_clips_of_the_layer_that_is_open_have_players_first(silhouettes, tmp_path, monkeypatch):
    with_silhouettes(monkeypatch, *silhouettes)
    page, data = made(tmp_path, atlas(), n_players=0)
    (is_open,) = (number for number, (attributes, _) in enumerate(page.all("details")) if "open" in attributes)
    values = [*atlas().table.layers.values()][is_open]
    units = [unit for _, unit in units_of(values, LABELS - 1, 3, CLIPS_A_UNIT).best()]
    # The loudest clip of each unit that is shown, then the second of each, and so on.
    loudest = np.argsort(-values[:, units], axis=0)[:CLIPS_A_UNIT]
    expected = [f"{row}{HOSTILE}.wav" for row in dict.fromkeys(loudest.ravel().tolist())]
    assert [clip["id"] for clip in data["clips"][: len(expected)]] == expected
    # Then those that most of the shown units of all layers name.
    everywhere = [units_of(v, LABELS - 1, 3, CLIPS_A_UNIT) for v in atlas().table.layers.values()]
    shown = np.concatenate([of.loudest[:, [unit for _, unit in of.best()]].ravel() for of in everywhere])
    others = [int(clip["id"].partition("<")[0]) for clip in data["clips"][len(expected) :]]
    assert len(others) > 1
    assert sorted(others, key=lambda row: -np.sum(shown == row)) == others


def test_a_page_has_a_size(tmp_path, monkeypatch):
    without = made(tmp_path, atlas(), n_players=0)[0]
    monkeypatch.setattr("keras_audio_transfer.atlas.page.MEGABYTES", len(without.source) / 1e6 + 0.02)
    page, data = made(tmp_path, atlas())
    assert 0 < sum("sound" in clip for clip in data["clips"]) < len(data["clips"])
    assert {clip.get("why") for clip in data["clips"]} == {None, "left out, to keep the page small"}
    assert len(page.source) < len(without.source) + 20000


def test_the_same_input_gives_the_same_bytes(page, tmp_path):
    again = made(tmp_path, atlas(failures=[("x.wav", f"x.wav{HOSTILE}: is empty")]), workers=1)[0]
    assert again.source == page[0].source


def test_a_clip_that_is_gone_says_so(tmp_path):
    content = atlas()
    gone = [replace(clip, synthesise=None, path=tmp_path / "gone.wav") for clip in content.clips]
    assert all("gone.wav" in clip["why"] for clip in made(tmp_path, replace(content, clips=gone))[1]["clips"])


def test_a_network_that_says_the_same_of_all_clips(tmp_path):
    content = atlas()
    table = replace(content.table, layers={name: np.zeros_like(v) for name, v in content.table.layers.items()})
    page, data = made(tmp_path, replace(content, table=table))
    assert data == {"clips": [], "layers": [[], []]}
    assert page.texts("p").count("All its units are dead: the same for all clips.") == 2


@pytest.mark.parametrize(
    ("labels", "rule"),
    [
        (
            [1, 1, 1, 1],
            "the 4 clips that can be read have 1 labels; expected four clips or more, of two",
        ),
        ([1, 2, 3], "the 3 clips that can be read have 3 labels; expected four"),
        ([1, 2, 3, -1], "not every clip has exactly one; expected one label each"),
        ([0.5, 1.0, 2.0, 3.0], "not every clip has exactly one"),
        ([[0, 1, 1]] * 4, "not every clip has exactly one"),
    ],
)
def test_clips_that_have_not_one_label_each_are_refused(labels, rule):
    table = replace(atlas().table, labels=np.array(labels), clip_ids=np.arange(len(labels)).astype(str))
    with pytest.raises(InputError, match=f"^labels: {rule}"):
        labels_of(table)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_in_a_browser(tmp_path):
    _, data = made(tmp_path, atlas())
    address = (tmp_path / "atlas.html").as_uri()
    names = "[...{}.querySelectorAll('.faint')].map(e => e.textContent)"
    near, any_unit = "document.querySelectorAll('.layer')[0]", "document.querySelectorAll('.layer')[0].lastElementChild"
    with Browser() as browser:
        browser.open_on_phone(address, 390)
        own, other = (browser.evaluate(FRAME.format(kind)) for kind in ("li:not(.other)", "li.other"))
        assert all(mine != others for mine, others in zip(own, other, strict=True))
        for kind, frame in (("span.own", own), ("span.other", other)):  # what the text says of them
            assert browser.evaluate(FRAME.format(kind)) == frame
        # The layer that keeps the classes apart best is open; the other's cards are made when it is opened.
        assert browser.evaluate("[...document.querySelectorAll('.layer')].map(e => e.open)") == [False, True]
        assert browser.evaluate(f"{near}.querySelectorAll('audio').length") == 0
        browser.evaluate(f"{near}.querySelector('summary').click(); new Promise(done => setTimeout(done, 100))")
        assert browser.evaluate(f"{near}.querySelectorAll('audio').length") == 4 * CLIPS_A_UNIT
        options = browser.evaluate(f"[...{near}.querySelectorAll('option')].map(e => Number(e.value))")
        assert options == [unit for unit, *_ in sorted(data["layers"][0], key=lambda unit: -unit[2])]
        browser.evaluate(f"s = {near}.querySelector('select'); s.value = 3; s.dispatchEvent(new Event('change'))")
        *_, clips, _ = data["layers"][0][3]
        assert browser.evaluate(names.format(any_unit)) == [data["clips"][clip]["id"] for clip in clips]
        play = f"{any_unit}.querySelector('audio').play().then(() => {any_unit}.querySelector('audio').duration)"
        assert browser.evaluate(play) == pytest.approx(0.2, abs=0.15)
        assert browser.evaluate("window.hacked") is None
        assert {*browser.requests} <= {
            address,
            "data:image/png",
            "data:image/jpeg",
            "data:image/svg+xml",
            "data:audio/mpeg",
        }
        assert browser.messages == []  # such as what the policy refused


# ---- the command


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A manifest of six sounds of two classes, and a file that is no sound."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(6):
        sound = noise(600, seed=number) + (number % 2) * 0.3 * np.sin(np.arange(600) * (0.5 + 0.1 * number))
        soundfile.write(folder / f"{number}.wav", sound, 2000)
    (folder / "6.wav").write_text("no sound")
    rows = pd.DataFrame({"path": [f"{number}.wav" for number in range(7)], "label": [*["noise", "tone"] * 3, "tone"]})
    rows.to_csv(folder / "clips.csv", index=False)
    return folder / "clips.csv"


def test_the_command_writes_the_page(run_script, exported, clips, tmp_path):
    page = tmp_path / "atlas.html"
    run = run_script("atlas", exported, "--dataset", "manifest", "--data-dir", clips, "--output", page, "--clips", 1)
    assert (run.returncode, run.stdout) == (1, f"written: {page} (6 clips, 5 layers)\n")
    assert [*pd.read_csv(tmp_path / "failed.csv")["clip"]] == ["6.wav"]
    page = Page(page)
    assert page.texts("title") == ["tones: atlas of its layers"]
    assert "6.wav: cannot be decoded" in page.text
    data = json.loads(re.search(r'id="atlas">(.*?)</script>', page.source)[1])
    assert page.texts("h3") == Card.read(exported).layer_names
    assert sum("sound" in clip for clip in data["clips"]) == 1
    labels = pd.read_csv(clips, index_col="path")["label"]
    assert {clip["id"]: clip["label"] for clip in data["clips"]} == labels.iloc[:6].to_dict()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0.wav,tone\n1.wav,tone\n2.wav,tone\n3.wav,tone\n", "labels: the 4 clips that can be read have 1 labels; "),
        ("0.wav,a|b\n1.wav,a\n2.wav,b\n3.wav,b\n", "labels: not every clip has exactly one; "),
    ],
)
def test_clips_are_checked_before_any_work(rows, message, exported, clips, tmp_path):
    listed = clips.with_name("others.csv")
    listed.write_text(f"path,label\n{rows}")
    with pytest.raises(InputError) as error:
        run_main("atlas", exported, "--dataset", "manifest", "--data-dir", listed, "--output", tmp_path / "a.html")
    assert str(error.value).startswith(f"{listed}: {message}")
    assert not (tmp_path / "a.html").exists()


def test_a_data_set_is_asked_for(exported, tmp_path):
    with pytest.raises(InputError, match=r"^--dataset: is missing; name one"):
        run_main("atlas", exported, "--output", tmp_path / "a.html")
