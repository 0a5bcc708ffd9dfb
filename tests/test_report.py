"""The page of a classifier: what it says, and that nothing in it comes from elsewhere."""

import base64
import hashlib
import io
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import librosa
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import soundfile
from browser import CHROMIUM, Browser
from sounds import CONFIG, noise

from keras_audio_transfer import plots
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.files import cell
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.report import page as report_page
from keras_audio_transfer.report.page import Report, write
from keras_audio_transfer.report.players import player_of
from keras_audio_transfer.report.verdict import verdict

HOSTILE = "<script>window.hacked = 1</script>"
NAMES = ["=dog", HOSTILE, "مطر", '犬"\' onload="hacked=1"\n&amp;']
TRUE = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3]
SAID = [0, 0, 1, 1, 1, 1, 1, 2, 0, 0]  # the last class is never predicted
SCORES = {"accuracy": 0.5, "interval_low": 0.4, "interval_high": 0.7, "chance": 0.3, "mfcc": 0.25, "log_mel": 0.2}
MINE = {"dataset": "folder", "licence": "mine", "citation": "me & you", "division": "5 folds"}
CARD = Card(
    CONFIG,
    {"layer1": 4},
    network="sbcnn",
    labels=NAMES,
    probe={"layers": ["layer1"], "C": 32.0, "gamma": None, "calibration": {"slope": 1.5, "bounds": [0, 2]}},
    training_data={**MINE, "transferred_from": {"dataset": "urban", "licence": "CC BY-NC", "citation": "Salamon"}},
    scores={"cross-validation": SCORES},
    settings={"group_by": HOSTILE, "clip_seconds": None},
    versions={"numpy": "2.0"},
    seed=7,
)


class Page(HTMLParser):
    """The elements of a page: [tag, attributes, text up to the next tag]."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.source = [], path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        self.elements.append(["", {}, ""])  # has what follows

    def handle_data(self, data):
        if self.elements:
            self.elements[-1][2] += data

    def all(self, tag):
        return [(attributes, text.strip()) for name, attributes, text in self.elements if name == tag]

    def texts(self, tag):
        return [text for _, text in self.all(tag)]

    @property
    def text(self):
        return " ".join(" ".join(text for *_, text in self.elements).split())


def beep(hertz, seconds, rate=22050):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32), rate


def clips_of(ids, seconds=0.3):
    return [Clip(clip_id, None, synthesise=partial(beep, 300 + 50 * i, seconds)) for i, clip_id in enumerate(ids)]


def report(probabilities=None, **more):
    ids = [f"{NAMES[label]}/{i}.wav" for i, label in enumerate(TRUE)]
    columns = {"clip": ids, "true": [NAMES[i] for i in TRUE], "predicted": [NAMES[i] for i in SAID]}
    rows = pd.DataFrame({name: [*map(cell, values)] for name, values in columns.items()})
    rows = rows.assign(fold="fold_1", notes=["clipped", *[""] * 9])
    if probabilities is not None:
        rows[[f"probability_{name}" for name in NAMES]] = probabilities
    return Report("mine", CARD, rows, **{"clips": clips_of(ids), **more})


def made(tmp_path, content, **how):
    write(tmp_path / "report.html", content, **how)
    return Page(tmp_path / "report.html")


KEPT = pd.DataFrame(
    {
        "known_at_least": [0.0, 0.02],
        "coverage": [np.nan, 0.8],
        "probability_at_least": [0.0, 0.625],
        "kept": [1.0, 0.81],
        "precision": [0.5, 0.93],
        "precision_low": [0.4, 0.87],
        "precision_high": [0.6, 0.97],
        "false_alarms": [1.0, 0.24],
    }
)
EVERYTHING = {
    "chosen": "layer1; layer2",
    "learning_curve": pd.DataFrame(
        {"clips": [4, 8], "score": [0.4, 0.5], "interval_low": [np.nan, 0.4], "interval_high": [np.nan, 0.7]}
    ),
    "more_clips": "twice as many clips: 0.6 instead of 0.5",
    "calibration": pd.DataFrame({"probability": [0.3, 0.9], "share_right": [0.25, 1.0], "clips": [4, 6]}),
    "calibration_error": 0.04,
    "kept": KEPT,
    "named_right": 0.938,
    "n_unknown": 2,
    "health": pd.DataFrame({"label": NAMES, "clips": [4, 3, 2, 1], "seconds": [0.3, 0.3, 0.3, np.nan]}),
    "warnings": [f"{HOSTILE}: 3 clips are silent"],
    "failures": [("x.wav", f"x.wav{HOSTILE}: is empty")],
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    rng = np.random.default_rng(0)
    return made(tmp_path_factory.mktemp("page"), report(rng.dirichlet(np.ones(4), 10), **EVERYTHING))


@pytest.mark.parametrize(
    ("low", "accuracy", "mfcc", "kind", "said"),
    [
        (0.79, 0.86, 0.78, "good", "about 86 (79 to 93) would be labelled right; MFCC alone would get 78."),
        (0.75, 0.86, 0.78, "doubtful", "MFCC alone would get 78, which lies within the interval."),
        (0.70, 0.75, 0.78, "bad", "Not better than MFCC alone: do not use."),
        (0.09, 0.20, 0.05, "bad", "Not distinguishable from chance: do not use."),
    ],
)
def test_the_verdict_is_honest(low, accuracy, mfcc, kind, said):
    scores = {"accuracy": accuracy, "interval_low": low, "interval_high": 0.93, "chance": 0.1}
    got = verdict(scores, {"log_mel": 0.01, "mfcc": mfcc})
    assert got.kind == kind
    assert said in got.sentence


def test_what_stands_on_the_page_in_order(page):
    assert page.texts("h2") == [
        "Before you believe it",
        "The estimate",
        "Which class was taken for which",
        "Class by class",
        "Mistakes: 4 of 10 clips",
        "Right, with the least certainty",
        "Would more clips help?",
        "Can the probabilities be believed?",
        "When is the answer “none of these”?",
        "The clips",
        "Files that could not be read: 1",
        "How it was made",
    ]
    (verdict_shown,) = (text for attributes, text in page.all("p") if "verdict" in attributes.get("class", ""))
    assert verdict_shown == verdict(SCORES, {"mfcc": 0.25, "log_mel": 0.2}).sentence
    for text in (
        "5 folds",
        "layers: layer1; C: 32; calibration: slope 1.5, bounds 0, 2",
        "numpy: 2.0",
        "mine; urban, CC BY-NC",
        "me & you",
        "Salamon",
    ):
        assert text in page.text
    assert "clip_seconds" not in page.text


def test_what_is_to_be_cited_stands_there_once():
    of_network = {"dataset": "AudioSet", "citation": "YAMNet"}
    card = replace(CARD, network_citation="YAMNet", training_data={**MINE, "transferred_from": of_network})
    assert report_page.citations(card) == ["YAMNet", "me & you"]
    assert report_page.citations(replace(CARD, training_data=None)) == []


def test_what_is_kept_is_drawn_and_listed(page, tmp_path):
    assert "Of the 2 unknown sounds, which are of none of the classes" in page.text
    assert "0.02 0.625 81 % 93 % (87 to 97) 24 %" in page.text.replace("\N{NO-BREAK SPACE}", " ")
    plots.kept(KEPT, tmp_path / "kept.png", "mine")
    drawn = made(tmp_path, report(kept=KEPT, kept_picture=tmp_path / "kept.png"))  # of classes only
    assert "unknown sounds" not in drawn.text
    with_limits = "says that a sound is none of the classes, about 94 of 100 get their label."
    assert (with_limits in page.text, with_limits in drawn.text) == (True, False)
    (picture,) = (attributes for attributes, _ in drawn.all("img") if attributes.get("class") == "picture")
    assert base64.b64decode(picture["src"].partition(",")[2]) == (tmp_path / "kept.png").read_bytes()


def test_what_is_not_known_is_left_out(tmp_path):
    titles = made(tmp_path, report()).texts("h2")
    assert [title.partition(":")[0] for title in titles] == [
        *("The estimate", "Which class was taken for which", "Class by class", "Mistakes", "How it was made")
    ]


def test_the_confusion_has_its_numbers(page):
    cells = [(a["class"].split()[0], text) for a, text in page.all("td") if "level" in a.get("class", "")]
    expected = pd.crosstab(pd.Categorical(TRUE, range(4)), pd.Categorical(SAID, range(4)), dropna=False).to_numpy()
    np.testing.assert_array_equal([int(text or 0) for _, text in cells], expected.ravel())
    assert [kind for kind, _ in cells] == ["right" if row == column else "wrong" for row, column in np.ndindex(4, 4)]


def test_the_classes_have_their_measures(page):
    values = [a["data-value"] for a, _ in page.all("td") if "data-value" in a][:12]
    precision, recall = (np.divide([2, 3, 1, 0], of) for of in ([4, 5, 1, np.nan], [4, 3, 2, 1]))
    expected = zip(precision, recall, 2 * np.array([2, 3, 1, 0]) / [8, 8, 3, 1], strict=True)
    np.testing.assert_allclose([float(v or "nan") for v in values], np.ravel([*expected]), rtol=1e-6)


def test_names_are_texts_and_nothing_else(page):
    tags = [tag for tag, *_ in page.elements]
    assert tags.count("script") == 1
    assert {name for _, attributes, _ in page.elements for name in attributes if name.startswith("on")} == set()
    assert HOSTILE in page.texts("strong")
    assert NAMES[3] in page.texts("strong")
    assert f"{HOSTILE}: 3 clips are silent" in page.texts("li")
    assert "=dog" in page.texts("strong")
    assert "'=dog" not in page.source


def test_nothing_comes_from_elsewhere(page):
    for tag, attributes, _ in page.elements:
        assert "href" not in attributes, tag
        assert attributes.get("src", "data:").startswith("data:")
    assert "url(" not in page.source
    ((_, style),), ((_, script),) = page.all("style"), page.all("script")
    policy = next(a["content"] for a, _ in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    (style,), (script,) = (re.findall(rf"<{tag}>(.*?)</{tag}>", page.source, re.S) for tag in ("style", "script"))
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    assert policy.startswith("default-src 'none'; ")
    assert [f"'sha256-{value}'" for value in hashes] == re.findall(r"(?:style|script)-src ([^;]+)", policy)


def test_who_cannot_see_is_told(page):
    assert page.all("html")[0][0]["lang"] == "en"
    assert len(page.texts("caption")) == len(page.texts("table")) == 7
    assert "by the number of clips learnt from, without those that are scored." in page.text
    assert all("scope" in attributes for attributes, _ in page.all("th"))
    assert all(attributes["alt"].startswith("Mel spectrogram of ") for attributes, _ in page.all("img"))
    assert all(attributes["aria-label"] for attributes, _ in page.all("audio"))


def test_mistakes_come_first_the_surest_first(tmp_path):
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.ones(4), 10)
    page = made(tmp_path, report(probabilities))
    certainty = probabilities[np.arange(10), SAID]
    wrong = sorted((i for i in range(10) if TRUE[i] != SAID[i]), key=lambda i: -certainty[i])
    right = sorted((i for i in range(10) if TRUE[i] == SAID[i]), key=lambda i: certainty[i])
    players = [attributes["aria-label"] for attributes, _ in page.all("audio")]
    assert [int(re.search(r"(\d)\.wav", name)[1]) for name in players] == wrong + right
    best = np.argsort(-probabilities[wrong[0]])[:3]
    guesses = ", ".join(f"{NAMES[i]} {100 * probabilities[wrong[0], i]:.0f} %" for i in best)
    assert " ".join(guesses.split()) in page.text


def test_of_equal_probabilities_that_of_the_label_predicted_comes_first():
    examples = report_page._examples(report(np.full((10, 4), 0.25)), several=False)
    assert [example.guesses[0][0] for example in examples] == [NAMES[i] for i in SAID]


def test_without_probabilities_the_most_frequent_mistake_comes_first(tmp_path):
    page = made(tmp_path, report())
    players = [attributes["aria-label"] for attributes, _ in page.all("audio")]
    assert [int(re.search(r"(\d)\.wav", name)[1]) for name in players][:2] == [2, 3]  # =dog for the second, twice
    assert "Right, with" not in page.source


@pytest.mark.parametrize(("seconds", "heard", "is_cut"), [(0.01, 0.01, False), (0.7, 0.7, False), (12, 10, True)])
def test_a_player_is_the_sound_and_its_picture(seconds, heard, is_cut):
    player = player_of(Clip("a", None, synthesise=partial(beep, 1000, seconds)))
    assert player.seconds == pytest.approx(heard, abs=1e-3)
    assert player.is_cut == is_cut
    contents = [base64.b64decode(uri.partition(",")[2], validate=True) for uri in player[:2]]
    assert [uri.partition(",")[0] for uri in player[:2]] == ["data:audio/mpeg;base64", "data:image/jpeg;base64"]
    sound, rate = soundfile.read(io.BytesIO(contents[0]))
    picture = matplotlib.image.imread(io.BytesIO(contents[1]), format="jpeg")  # (mels, frames, 3), high mels first
    assert (sound.ndim, rate) == (1, 16000)
    assert len(sound) / rate == pytest.approx(heard, abs=0.15)  # MP3 has whole frames
    assert picture.shape[0] == 64
    if seconds > 0.1:
        spectrum = np.abs(np.fft.rfft(sound))
        assert np.argmax(spectrum) * rate / len(sound) == pytest.approx(1000, abs=15)
        band = 63 - np.argmax(picture[:, picture.shape[1] // 2].sum(axis=1))
        assert librosa.mel_frequencies(66, fmax=8000)[band + 1] == pytest.approx(1000, rel=0.1)
    assert len(contents[0]) < 6000 * heard + 3000


def test_silence_has_a_player():
    assert player_of(Clip("a", None, synthesise=lambda: (np.zeros(800, np.float32), 8000))).seconds == 0.1


def test_a_clip_that_is_gone_says_so_and_the_others_play(tmp_path):
    content = report()
    gone = replace(content.clips[2], synthesise=None, path=tmp_path / "gone.wav")
    page = made(tmp_path, replace(content, clips=[*content.clips[:2], gone, *content.clips[3:]]))
    assert len(page.all("audio")) == 3
    assert "No player:" in page.text
    assert "gone.wav" in page.text


def test_without_clips_there_are_no_players(tmp_path):
    page = made(tmp_path, report(clips=()))
    assert page.all("audio") == []
    assert "have no player" not in page.source


def test_a_page_that_would_be_too_large_says_how_many_players_it_leaves_out(tmp_path):
    content = report()
    loud = [replace(clip, synthesise=lambda: (noise(60000), 16000)) for clip in content.clips]
    content = replace(content, clips=loud)
    whole = made(tmp_path, content)
    megabytes = 0.6 * len(whole.source) / 1e6
    page = made(tmp_path, content, megabytes=megabytes)
    assert 0 < len(page.all("audio")) < len(whole.all("audio")) == 4
    assert (tmp_path / "report.html").stat().st_size < megabytes * 1e6
    assert f"{4 - len(page.all('audio'))} clips have no player: the page would be too large." in page.text
    assert page.source.count(", was taken for") == 4


def test_of_very_many_mistakes_the_first_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(report_page, "MOST_MISTAKES", 3)
    page = made(tmp_path, report(clips=()))
    assert "Here are 3; all are in predictions.csv." in page.text
    assert page.source.count(", was taken for") == 3
    assert "Mistakes: 4 of 10 clips" in page.texts("h2")


def test_names_that_are_no_text_are_written_out(tmp_path):
    assert "caf\\udce9" in made(tmp_path, replace(report(clips=()), title="caf\udce9")).texts("title")[0]


def test_a_classifier_without_mistakes(tmp_path):
    content = report(clips=())
    page = made(tmp_path, replace(content, predictions=content.predictions.assign(predicted=lambda rows: rows["true"])))
    assert "Mistakes: 0 of 10 clips" in page.texts("h2")
    assert page.all("ol") == []


# ---- several labels a clip


HAS = ["a", "a|=b", "=b", "a|c", "c"]
GIVEN = ["a", "a", "", "a|c", "=b|c"]  # the second, third and last are wrong
PROBABLE = np.array([[0.9, 0.1, 0.2], [0.8, 0.3, 0.1], [0.4, 0.01, 0.4], [0.7, 0.2, 0.6], [0.1, 0.95, 0.9]])


def several(**scores):
    ids = [f"{i}.wav" for i in range(5)]
    rows = pd.DataFrame({"clip": ids, "true": [*map(cell, HAS)], "predicted": [*map(cell, GIVEN)]})
    rows = rows.assign(fold="fold_1", notes="")
    rows[["probability_a", "probability_=b", "probability_c"]] = PROBABLE
    by_label = pd.DataFrame({"label": ["a", "=b", "c"], "clips": [3, 2, 2], "threshold": 0.5, "mfcc": [0.3, 0.2, 0.1]})
    for place, name in enumerate(("average_precision", "auc", "precision", "recall", "f1")):
        by_label = by_label.assign(**{name: 0.9 - place / 10, f"{name}_low": 0.25, f"{name}_high": np.nan})
    scores = {"mean_average_precision": 0.5, "chance": 0.3, "mfcc": 0.4, **scores}
    card = replace(CARD, labels=["a", "=b", "c"], multi_label=True, scores={"test": scores})
    of_classes = {"chosen", "kept", "named_right", "n_unknown", "health"}
    more = {name: value for name, value in EVERYTHING.items() if name not in of_classes}
    return Report("tags", card, rows, clips=clips_of(ids), by_label=by_label, **more)


def test_of_several_labels_each_has_its_measures_beside_the_floors(tmp_path):
    page = made(tmp_path, several())
    titles = [title.partition(":")[0] for title in page.texts("h2")]
    assert titles[1:5] == [
        *("The estimate", "Label by label", "Clips with a wrong or a missing label", "Right, with the least certainty")
    ]
    assert "confusion" not in page.source.partition("<main>")[2]
    shown = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "would be about 50 %; MFCC alone would get 40 %." in shown
    assert "thin line is the 95 % interval" not in shown.partition("Label by label")[0]
    assert "a 3 90 % 30 % 80 % 50 % 70 % 60 % 50 % =b 2" in shown
    assert "Mean average precision, by the number of clips" in shown
    with_interval = made(tmp_path, several(interval_low=0.35, interval_high=0.6))
    assert "about 50 % (35 to 60); MFCC alone would get 40 %, which lies within the interval." in with_interval.text


def test_clips_whose_probabilities_of_all_labels_are_most_wrong_come_first(tmp_path):
    page = made(tmp_path, several())
    truth = np.array([[label in text.split("|") for label in ("a", "=b", "c")] for text in HAS])
    log_loss = -np.log(np.where(truth, PROBABLE, 1 - PROBABLE)).mean(axis=1)
    players = [attributes["aria-label"] for attributes, _ in page.all("audio")]
    assert players == [f"{i}.wav" for i in [*sorted((1, 2, 4), key=lambda i: -log_loss[i]), 3, 0]]
    assert "Clips with a wrong or a missing label: 3 of 5 clips" in page.texts("h2")
    shown = page.text.replace("\N{NO-BREAK SPACE}", " ")
    for text in ("Has =b , was given none", "a 40 %, c 40 %, =b 1 %", "Has c , was given =b , c", "Right: a , c"):
        assert text in shown


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_in_a_browser(tmp_path):
    content = report(np.random.default_rng(0).dirichlet(np.ones(4), 10), **EVERYTHING)
    write(tmp_path / "report.html", content)
    address = (tmp_path / "report.html").as_uri()
    with Browser() as browser:
        browser.open_on_phone(address, 360)
        assert browser.evaluate("window.hacked") is None
        play = "document.querySelector('audio').play().then(() => document.querySelector('audio').duration)"
        assert browser.evaluate(play) == pytest.approx(0.3, abs=0.15)

        def rows():
            return browser.evaluate(
                "[...document.querySelectorAll('.sortable')[0].rows].map(r => r.cells[2].innerText)"
            )

        def sort():
            browser.evaluate("document.querySelectorAll('.sortable')[0].querySelectorAll('button')[2].click()")
            header = "document.querySelectorAll('.sortable')[0].querySelectorAll('th')[2].ariaSort"
            return browser.evaluate(header), [row.partition("\N{NO-BREAK SPACE}")[0] for row in rows()[1:]]

        assert sort() == ("ascending", ["50", "60", "100", "–"])
        assert sort() == ("descending", ["100", "60", "50", "–"])

        def edge():
            """How bright the right end of a table's caption is."""
            place = browser.evaluate("(({right, top}) => [right - 1, top + scrollY])(wide.getBoundingClientRect())")
            clip = {**dict(zip("xy", place, strict=True)), "width": 1, "height": 10, "scale": 1}
            picture = base64.b64decode(browser.call("Page.captureScreenshot", clip=clip)["data"])
            return matplotlib.image.imread(io.BytesIO(picture), format="png")[..., :3].mean()

        browser.evaluate("wide = document.querySelector('.scroll'); wide.firstElementChild.style.width = '2000px'; 0")
        browser.evaluate("wide.scrollIntoView()")  # else nothing of it is drawn
        goes_on = edge()
        browser.evaluate("wide.scrollLeft = 2000")
        assert goes_on < 0.9 < edge() == 1
        assert {*browser.requests} <= {address, "data:image/jpeg", "data:audio/mpeg", "data:image/svg+xml"}
        assert browser.messages == []  # such as what the policy refused
