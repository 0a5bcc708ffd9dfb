"""Scores over time -> segments, and the commands that write them."""

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import forked
import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import ROOT, read_card, run_main
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sounds import CONFIG

from keras_audio_transfer.answers import segment_rule
from keras_audio_transfer.commands import predict
from keras_audio_transfer.datasets.clip import Clip, Recorded
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.segments import Segment, SegmentRule, as_audacity, as_raven, seconds_inside

RATE = 16000
ALONE = SegmentRule(threshold=0.5, lower_threshold=0.25, smooth=1)


def column(*scores):
    return np.array(scores)[:, np.newaxis]


def times(rule, scores, hop=1.0, names=("owl",)):
    return [(segment.label, segment.start, segment.end) for segment in rule.segments(scores, hop, names)]


SCORES = {
    "nothing reaches the threshold": (column(0.4, 0.49, 0.3), []),
    "it goes on above the lower one": (column(0.1, 0.3, 0.6, 0.3, 0.1), [(0.5, 3.5)]),
    "one segment over two peaks": (column(0.6, 0.3, 0.7), [(0, 2.5)]),
    "two segments": (column(0.6, 0.2, 0.7, 0.1), [(0, 0.5), (1.5, 2.5)]),
    "exactly the thresholds": (column(0.25, 0.5, 0.25, 0.2), [(0, 2.5)]),
    "one window": (column(0.9), [(0, 0.5)]),
    "all of it": (column(0.9, 0.9), [(0, 1.5)]),
}


@pytest.mark.parametrize("kind", SCORES)
def test_a_threshold_with_hysteresis(kind):
    scores, expected = SCORES[kind]
    assert times(ALONE, scores) == [("owl", *pair) for pair in expected]
    assert times(ALONE, scores, hop=0.2) == [("owl", 0.2 * start, pytest.approx(0.2 * end)) for start, end in expected]


def test_labels_overlap_and_are_sorted_by_their_start():
    scores = np.array([[0.1, 0.9], [0.8, 0.9], [0.8, 0.1], [0.9, 0.7]])
    expected = [("rain", 0, 1.5), ("owl", 0.5, 3.5), ("rain", 2.5, 3.5)]
    assert times(ALONE, scores, names=("owl", "rain")) == expected
    first = ALONE.segments(scores, 1.0, ("owl", "rain"))[1]
    assert first.score == pytest.approx(np.mean([0.8, 0.8, 0.9]))


def test_each_label_has_its_own_thresholds():
    scores = np.array([[0.1, 0.1], [0.3, 0.3], [0.4, 0.4], [0.1, 0.1]])
    rule = SegmentRule(threshold=(0.5, 0.35), lower_threshold=(0.25, 0.35))
    assert rule.segments(scores, 1.0, ["owl", "rain"]) == [Segment(1.5, 2.5, "rain", 0.4)]
    card = Card(CONFIG, labels=["owl", "rain"], scores_are="x", probe={"calibration": {}, "thresholds": {}})
    card.probe["thresholds"].update(owl=0.6, rain=0.2)
    rule = segment_rule(card, smooth=3)
    assert (rule.threshold, rule.lower_threshold, rule.smooth) == ([0.6, 0.2], [0.3, 0.1], 3)
    rule = segment_rule(card, threshold=0.7)
    assert (rule.threshold, rule.lower_threshold) == (0.7, 0.35)


def test_without_probabilities_a_segment_is_where_one_label_is_highest():
    rule = SegmentRule(threshold=None, smooth=1)
    scores = np.array([[3.0, 2.0], [2.0, 3.0], [2.0, 4.0], [5.0, 4.0]])
    assert times(rule, scores, names=("a", "b")) == [("a", 0, 0.5), ("b", 0.5, 2.5), ("a", 2.5, 3.5)]


@given(
    arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.floats(0, 1)), st.integers(0, 4)
)
def test_smoothed_is_the_mean_of_the_windows_that_are_there(scores, half):
    smoothed = SegmentRule(smooth=2 * half + 1).smoothed(scores)
    for row in range(len(scores)):
        expected = scores[max(row - half, 0) : row + half + 1].mean(axis=0)
        np.testing.assert_allclose(smoothed[row], expected, atol=1e-12)


def test_short_segments_are_left_out():
    scores = column(0.9, 0.1, 0.9, 0.9, 0.9, 0.1, 0.9)
    rule = SegmentRule(0.5, 0.25, 1, shortest_seconds=1.0)
    assert times(rule, scores) == [("owl", 1.5, 4.5), ("owl", 5.5, 6.5)]


BAD_RULES = [
    ({"threshold": 0}, "threshold: 0 is not allowed; expected more than 0 and less than 1"),
    ({"threshold": 1}, "threshold: 1 is not"),
    ({"threshold": np.nan}, "threshold: nan is not"),
    (
        {"lower_threshold": 0.6},
        "lower_threshold: 0.6 is not allowed; expected more than 0 and at most `threshold`, 0.5",
    ),
    ({"lower_threshold": -1}, "lower_threshold: -1 is not"),
    ({"threshold": (0.5, 0.2)}, "lower_threshold: 0.25 is not allowed; expected more than 0 and at most .*, 0.2"),
    ({"threshold": (0.5, 1.5)}, "threshold: 1.5 is not"),
    ({"smooth": 2}, "smooth: 2 is not allowed; expected an odd number of windows, 1 for none"),
    ({"smooth": -1}, "smooth: -1 is not"),
    ({"shortest_seconds": np.inf}, "shortest_seconds: inf is not allowed; expected 0 or more"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_RULES)
def test_rules_that_cannot_be(settings, message):
    with pytest.raises(InputError, match=f"^{message}"):
        SegmentRule(**settings)


def test_time_that_labels_share_counts_once():
    segments = [Segment(0, 4, "animal", 1), Segment(0, 2, "dog", 1), Segment(3, 5, "rain", 1), Segment(7, 8, "dog", 1)]
    assert seconds_inside(segments) == 6
    assert seconds_inside([]) == 0


def test_tracks_of_other_programs():
    segments = [Segment(0.5, 2, "owl\tand\nbat", 0.75), Segment(3, 4.25, "rain", 1)]
    assert as_audacity(segments) == "0.500\t2.000\towl and bat\n3.000\t4.250\train\n"
    head, first, second, rest = as_raven(segments, 8000.0).split("\n")
    assert rest == ""
    row = dict(zip(head.split("\t"), first.split("\t"), strict=True))
    assert (row["Begin Time (s)"], row["End Time (s)"]) == ("0.500", "2.000")
    assert (row["High Freq (Hz)"], row["Label"]) == ("8000", "owl and bat")
    assert second.startswith("2\tSpectrogram 1\t1\t3.000\t4.250\t0\t8000\train\t")


def names_of(*files):
    return {file: path.name for file, path in predict.track_places(Path("t"), files).items()}


def test_each_track_has_a_name_of_its_own():
    assert names_of("n/a.wav") == {"n/a.wav": "a.txt"}
    assert names_of("n/1/a.wav", "n/2/a.wav") == {"n/1/a.wav": "1_a.txt", "n/2/a.wav": "2_a.txt"}
    assert len({*names_of("/x/a.wav", "b.wav").values()}) == 2  # absolute beside relative
    files = ["n/a.flac", "n/a.wav", "n/A.wav", "n/b/c.wav", "n/b_c.wav", "n/d.wav"]
    names = names_of(*files)
    assert names["n/d.wav"] == "d.txt"
    assert len({name.casefold() for name in names.values()}) == len(files)
    assert names_of(*files[::-1]) == names


def test_what_failed_has_a_part_in_the_names_of_tracks(tmp_path):
    options = SimpleNamespace(output=tmp_path, format="audacity")
    long = f"n/{'x' * 240}/{'y' * 240}.wav"
    found = dict.fromkeys(["n/1/a.wav", long], ([], 1))
    predict.write_tracks(options, found, [("n/2/a.wav", "n/2/a.wav: empty")], CONFIG)
    alone, of_long = sorted((path.name for path in tmp_path.iterdir()), key=len)
    assert alone == "1_a.txt"
    assert re.fullmatch(r"[0-9a-f]{32}\.txt", of_long)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Two recordings, and a file that is none."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for name, seconds in (("long", 3), ("short", 1)):
        soundfile.write(folder / f"{name}.wav", rng.normal(0, 0.1, seconds * RATE), RATE)
    (folder / "text.wav").write_text("no audio")
    return folder


@pytest.mark.slow
def test_segments_of_recordings(model_dir, recordings, run_script, tmp_path):
    """The scores of the model are nearly alike for all labels: a low threshold finds some."""
    names = read_card(model_dir)["labels"]
    how = [model_dir, recordings, "--hop-seconds", 0.5, "--threshold", 0.02]
    output = tmp_path / "segments.json"
    run = forked.script(ROOT / "scripts" / "predict.py", [*map(str, how), "--format", "json", "--output", str(output)])
    assert run.returncode == 1
    assert "8 windows of 0.25 s; segments: " in run.stderr
    written = json.loads(output.read_text())
    assert (written["threshold"], written["lower_threshold"], written["hop_seconds"]) == (0.02, 0.01, 0.5)
    files = {file["file"].rpartition("/")[2]: file for file in written["files"]}
    assert {name: file["windows"] for name, file in files.items()} == {"long.wav": 6, "short.wav": 2}
    segments = files["long.wav"]["segments"]
    assert segments
    assert {segment["label"] for segment in segments} <= {*names}
    assert max(segment["end"] for segment in segments) <= 2.75
    assert "text.wav" in (tmp_path / "failed.csv").read_text()
    tracks = tmp_path / "tracks"
    assert run_script("predict", *how, "--format", "audacity", "--output", tracks).returncode == 1
    assert {path.name for path in tracks.iterdir()} == {"long.txt", "short.txt"}
    assert len((tracks / "long.txt").read_text().splitlines()) == len(segments)


def test_a_table_of_segments():
    options = SimpleNamespace(format="csv")
    found = {"=a.wav": ([Segment(0.5, 2, "owl", 0.75), Segment(3, 4.25, "rain", 1 / 3)], 9), "b.wav": ([], 4)}
    table = pd.read_csv(io.StringIO(predict.segments_as_text(options, found, None, "", "score")))
    assert table.to_dict("list") == {
        "file": ["'=a.wav"] * 2,
        "start": [0.5, 3.0],
        "end": [2.0, 4.25],
        "label": ["owl", "rain"],
        "score": [0.75, 0.333333],
    }
    options.format = "table"
    assert "0.500 2.000   owl  0.750" in predict.segments_as_text(options, found, None, "", "score")
    assert predict.segments_as_text(options, {"b.wav": ([], 4)}, None, "", "score") == "no segments\n"


@pytest.mark.parametrize(
    ("longest", "seconds", "notes", "said"),
    [
        (5.0, [10, 3, 75.25], (), "1 of 3, of up to 75.2 s, answered as one whole"),
        (60.0, [75], (), None),
        (None, [30, 31, 40], (), "2 of 3, of up to 40 s, answered as one whole"),  # not known, or no number
        ("5", [30], (), None),
        (5.0, [4, 4], ("clipped", "cut to its first 4 s"), "2 of 2, cut to its first 4 s"),
        (5.0, [], (), None),
    ],
)
def test_of_long_recordings_in_one_answer_it_is_said_that_there_are_segments(longest, seconds, notes, said, capsys):
    clips = [Clip("a.wav", None, notes=notes, recorded=Recorded(RATE, 1, length)) for length in seconds]
    card = Card(CONFIG, training_data=None if longest is None else {"longest_seconds": longest})
    predict.say_long(SimpleNamespace(quiet=False), card, clips)
    line = f"long recordings: {said}; --hop-seconds answers along time\n"
    assert capsys.readouterr().err == (line if said else "")


BAD_ARGUMENTS = [
    (["--threshold", 0.5], r"--threshold: is of segments; name a --hop-seconds, too$"),
    (["--format", "raven"], r"--format: raven is of segments; name a --hop-seconds, too$"),
    (["--hop-seconds", 1, "--top", 2], r"--top: is of whole files; leave it out, or --hop-seconds$"),
    (["--hop-seconds", 1, "--format", "audacity"], r"--format: audacity writes a file a recording; name their folder"),
    (["--hop-seconds", 1, "--threshold", 2], r"--threshold: 2 is not allowed; expected 0 to 1; see --help$"),
    (["--hop-seconds", 1, "--threshold", 1], r"--threshold: 1 is not allowed; expected more than 0 and less than 1$"),
    (
        ["--hop-seconds", 1, "--smooth", 2],
        r"--smooth: 2 is not allowed; expected an odd number of windows, 1 for none$",
    ),
    (
        ["--hop-seconds", 1, "--lower-threshold", 0.9],
        r"--lower-threshold: 0\.9 is not allowed; expected more than 0 and at most --threshold, 0\.5$",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS)
def test_arguments_that_cannot_be(model_dir, recordings, arguments, message):
    with pytest.raises(InputError, match=f"^{message}"):
        run_main("predict", model_dir, recordings / "long.wav", *arguments)


def test_a_model_without_probabilities_has_no_threshold(model_dir):
    card = read_card(model_dir)
    options = predict.arguments().parse_args([str(model_dir), "a.wav", "--hop-seconds", "1", "--threshold", "0.5"])
    votes = Card.from_dict(card | {"scores_are": "votes"})
    with pytest.raises(
        InputError, match=r"^threshold: needs probabilities; this model's scores are votes; leave it out"
    ):
        predict.rule_of(options, votes)
    options.threshold = None
    assert predict.rule_of(options, votes).threshold is None
