"""Clips of one recording or speaker, as their names say."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
from conftest import run_main

from keras_audio_transfer.datasets import Clip
from keras_audio_transfer.datasets.groups import grouped
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_table import FeatureTable
from keras_audio_transfer.probing.prober import Prober

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
    for pattern in (r"\.wav$", "(yes|no)/"):
        command = ("mfcc", "--dataset", "folder", "--data-dir", sounds, "--output", tmp_path / "f.npz")
        assert run_main(*command, "--group-by", pattern) == 0
        with pytest.raises(InputError, match=r"^groups: 1 (of a class )?(is|are) too few for 5 folds"):
            Prober(FeatureTable.load(tmp_path / "f.npz"))


def test_the_flag_is_named(sounds, tmp_path):
    with pytest.raises(InputError, match=r"^--group-by: '\[' is no regular expression"):
        run_main("mfcc", "--dataset", "folder", "--data-dir", sounds, "--output", tmp_path / "f.npz", "--group-by", "[")
