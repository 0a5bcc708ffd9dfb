"""Clips of one recording or speaker, as their names say."""

import os
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import run_main

from keras_audio_transfer.datasets import Clip, load
from keras_audio_transfer.datasets.groups import are_enough, found, grouped, in_words
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.probing.cross_validation import outer_folds
from keras_audio_transfer.probing.prober import Prober

REAL_DATA = os.environ.get("KAT_TEST_DATA")

CLIPS = [Clip(f"{word}/{speaker}_{take}.wav", None) for word in ("yes", "no") for speaker in "ab" for take in (1, 2)]


@pytest.mark.parametrize("pattern", ["/([a-z])_", "[ab](?=_)", "(?P<who>[ab])_([0-9])"])
def test_the_first_parentheses_or_the_whole_match(pattern):
    clips = grouped(CLIPS, pattern)
    assert [clip.group for clip in clips] == ["a", "a", "b", "b"] * 2
    assert [replace(clip, group="") for clip in clips] == CLIPS
    assert grouped(CLIPS, None) == CLIPS


BAD = {
    "no expression": ("(", CLIPS, r"'\(' is no regular expression \(missing \), .*\); expected one such as"),
    "finds nothing": (
        "/(c)_",
        CLIPS,
        r"'/\(c\)_' finds nothing in yes/a_1\.wav; expected a group in every clip's path$",
    ),
    "finds an empty text": ("(x?)", CLIPS, r"'\(x\?\)' finds nothing in yes/a_1\.wav"),
    "optional parentheses": ("yes|(no)", CLIPS, r"'yes\|\(no\)' finds nothing in yes/a_1\.wav"),
    "groups already": ("[ab]", [replace(CLIPS[0], group="x")], r"yes/a_1\.wav is of the group 'x' already; leave the "),
    "splits": (
        "/([ab])",
        [replace(CLIPS[0], split="train"), replace(CLIPS[1], split="test")],
        r"the data set divides the group 'a': yes/a_1\.wav and yes/a_2\.wav are in different splits or folds; move one",
    ),
    "folds": ("/([ab])", [replace(CLIPS[0], fold=1), replace(CLIPS[1], fold=2)], "the data set divides the group 'a'"),
}


@pytest.mark.parametrize("kind", BAD)
def test_patterns_that_cannot_be(kind):
    pattern, clips, message = BAD[kind]
    with pytest.raises(InputError, match=f"^group_by: {message}"):
        grouped(clips, pattern)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Two words by six speakers, three takes each."""
    folder, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    for word in ("yes", "no"):
        (folder / word).mkdir()
        for speaker in "abcdef":
            for take in range(3):
                soundfile.write(folder / word / f"{speaker}_{take}.wav", rng.normal(0, 0.1, 2000), 4000)
    return folder


def test_no_fold_divides_a_speaker(sounds, tmp_path):
    command = ("mfcc", "--dataset", "folder", "--data-dir", sounds, "--output", tmp_path / "f.npz")
    assert run_main(*command, "--group-by", r"/([a-f])_[0-9]\.wav$") == 0
    features = FeatureTable.load(tmp_path / "f.npz")
    assert sorted(set(features.groups)) == [*"abcdef"]
    prober = Prober(features)
    assert ", which divide no group, " in prober.description
    for fold in prober.outer_folds:
        assert not {*features.groups[fold.outer.fit]} & {*features.groups[fold.outer.score]}
        for part in fold.inner:
            assert not {*features.groups[part.fit]} & {*features.groups[part.score]}


def test_groups_that_leave_nothing_to_divide(sounds, tmp_path):
    """All clips of one group; and each class of a group of its own, so that one side has never heard it."""
    for pattern, group in ((r"\.wav$", r"\.wav"), ("(yes|no)/", "no")):
        command = ("mfcc", "--dataset", "folder", "--data-dir", sounds, "--output", tmp_path / "f.npz")
        assert run_main(*command, "--group-by", pattern) == 0
        with pytest.raises(
            InputError, match=rf"^groups: class 'no' is of one group only \({group}\), and 5 folds that"
        ):
            Prober(FeatureTable.load(tmp_path / "f.npz"))


def test_the_flag_is_named(sounds, tmp_path):
    with pytest.raises(InputError, match=r"^--group-by: '\[' is no regular expression"):
        run_main("mfcc", "--dataset", "folder", "--data-dir", sounds, "--output", tmp_path / "f.npz", "--group-by", "[")


def clips_named(name, labels="xy", **of_each):
    """Clips of the data set `folder`: one a combination of what each part of the name may be; `label` is the class."""
    parts = [of_each[part] for part in of_each]
    return [
        Clip(f"{label}/{name.format(label=label, **dict(zip(of_each, values, strict=True)))}", None, (label,))
        for label in labels
        for values in product(*parts)
    ]


WHO, TAKES = ["ann", "bob", "cem", "dan", "eve"], range(1, 4)
IDS = ["100032", "9032", "17092", "4918", "24074"]
# Names, what their parts may be, and the group that is to be found in them.
NAMED = {
    "ESC-50": ("1-{who}-{take}-0.wav", {"who": IDS, "take": "AB"}, "{who}"),
    "UrbanSound8K": ("{who}-3-0-{take}.wav", {"who": IDS, "take": TAKES}, "{who}"),
    "Speech Commands": ("0a7c2a{who}_nohash_{take}.wav", {"who": range(10, 15), "take": TAKES}, "0a7c2a{who}"),
    "EmoDB": ("{who}a0{take}Fa.wav", {"who": range(10, 15), "take": TAKES}, "{who}"),
    "RAVDESS": ("03-01-05-01-0{take}-01-{who}.wav", {"who": range(10, 15), "take": (1, 2)}, "{who}"),
    "CREMA-D": ("{who}_{take}_ANG_XX.wav", {"who": range(1001, 1006), "take": ["DFA", "IEO"]}, "{who}"),
    "Freesound": ("{take}__{who}__a-dog.wav", {"who": WHO, "take": TAKES}, "{who}"),
    "FSDD": ("{label}_{who}_{take}.wav", {"who": WHO, "take": TAKES}, "{who}"),
    "takes": ("{who}_{take}.wav", {"who": WHO, "take": TAKES}, "{who}"),
    "takes without a stroke": ("{who}{take}.WAV", {"who": WHO, "take": TAKES}, "{who}"),
    "takes in brackets": ("{who} ({take}).wav", {"who": WHO, "take": TAKES}, "{who}"),
    "recordings cut": ("XC{who}_{take}.ogg", {"who": IDS, "take": TAKES}, "XC{who}"),
    "more behind it": ("{who}-kitchen.take{take}.wav", {"who": WHO, "take": TAKES}, "{who}"),
    "few places, many days": (
        "{place}_{day}_{take}.wav",
        {"place": ["hut", "lake"], "day": [1, 2, 3], "take": TAKES},
        "{place}_{day}",
    ),
    "few places, and the class": (
        "{place}_{label}{number}_{take}.wav",
        {"place": ["hut", "lake"], "number": [1, 2, 3], "take": TAKES},
        "{place}_{label}{number}",
    ),
    "sub-folders": ("{who}/{take}.wav", {"who": IDS, "take": TAKES}, "{who}"),
}


@pytest.mark.parametrize("kind", NAMED)
def test_names_that_say_the_recording_or_the_speaker(kind):
    name, parts, group = NAMED[kind]
    clips = clips_named(name, **parts)
    kept = grouped(clips, found(clips))
    assert [f"{clip.labels[0]}/{clip.group}" for clip in kept] == [c.clip_id for c in clips_named(group, **parts)]
    folds, _ = outer_folds(FeatureTable.of_clips({}, kept, ["x", "y"]))  # there is enough for them
    assert len(folds) == 5
    assert found(kept) is None


NOT_NAMED = {
    "running numbers": ("img_{n:04}.wav", {"n": range(20)}),
    "running numbers alone": ("{n}.wav", {"n": range(20)}),
    "the class and a number": ("{label}_{n}.wav", {"n": range(20)}),
    "the class and a number in one": ("{label}{n}.wav", {"n": range(20)}),
    "GTZAN": ("{label}.{n:05}.wav", {"n": range(20)}),
    "numbers beside names": ("{who}_{n}.wav", {"who": ["a1", 12, 13, 14, 15], "n": range(4)}),
    "days": ("2024-05-{day:02}_{n}.wav", {"day": range(1, 20), "n": range(4)}),
    "days and times": ("REC_202405{day:02}_{n}.wav", {"day": range(10, 20), "n": range(4)}),
    "numbers that may be anything": ("{a}-{b}-{n}.wav", {"a": range(6), "b": range(6), "n": range(2)}),
    "times that look like UrbanSound8K": ("{day}-5-2024-{n}.wav", {"day": range(1, 9), "n": range(3)}),
    "one clip a name": ("{who}_1.wav", {"who": [*WHO, "fay"]}),
    "too few for five folds": ("{who}_{n}.wav", {"who": WHO[:4], "n": range(5)}),
    "too few of a known kind": ("{who}-3-0-{n}.wav", {"who": IDS[:4], "n": range(5)}),
    "one ESC-50 clip a recording": ("1-{who}-A-0.wav", {"who": range(1000, 1020), "labels": "x"}),
    "names of their own": ("{a}{b}.wav", {"a": "qwertz", "b": "uiopas"}),
    "one sub-folder": ("wav/{n}.wav", {"n": range(20)}),
    "only the class before the take, and what is said": ("{label}_{n}_{what}.wav", {"n": range(6), "what": "abc"}),
}


@pytest.mark.parametrize("kind", NOT_NAMED)
def test_names_that_say_nothing(kind):
    name, parts = NOT_NAMED[kind]
    assert found(clips_named(name, **parts)) is None


def test_names_of_which_one_says_nothing_or_most_are_of_one_group():
    clips = clips_named("{who}_{take}.wav", who=WHO, take=TAKES)
    kept = grouped(clips, found(clips))
    assert are_enough(kept)
    assert not are_enough([clip for clip in kept if clip.group != "ann"])
    assert found([*clips, Clip("x/a note.wav", None, ("x",))]) is None
    assert found([*clips, *clips_named("ann_{take}.wav", take=range(10, 30))]) is None


def test_of_several_labels_each_has_to_be_divided():
    clips = [replace(clip, labels=("x", "y")) for clip in clips_named("{who}_{take}.wav", who=WHO, take=TAKES)]
    kept = grouped(clips, found(clips))
    assert {clip.group for clip in kept} == {*map(str, WHO)}
    assert are_enough(kept)
    of_one = [replace(clip, labels=("x", "rare") if clip.group == "ann" else ("x",)) for clip in kept]
    assert not are_enough(of_one)


@pytest.mark.parametrize("given", [{"group": "a"}, {"split": "train"}, {"fold": 1}, {"labels": ()}])
def test_nothing_is_found_where_the_data_set_says_more(given):
    clips = clips_named("{who}_{take}.wav", who=WHO, take=TAKES)
    assert found([*clips[1:], replace(clips[0], **given)]) is None


@pytest.mark.skipif(not REAL_DATA, reason="KAT_TEST_DATA does not name a folder with the data sets")
def test_the_groups_of_real_sets_are_what_their_tables_say():
    clips = load("esc10", Path(REAL_DATA) / "ESC-50")
    bare = [replace(clip, clip_id=f"{clip.labels[0]}/{clip.path.name}", fold=-1, group="") for clip in clips]
    kept = grouped(bare, found(bare))
    pairs = {(before.group, now.group) for before, now in zip(clips, kept, strict=True)}
    assert len(pairs) == len({before for before, _ in pairs}) == len({now for _, now in pairs})
    numbers = f"{len(pairs)} recordings or speakers in {len(clips)} clips"
    assert in_words(kept) == f"{numbers}, as the names of the files say"
