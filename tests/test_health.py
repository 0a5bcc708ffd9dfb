"""What is said of a data set before a score on it is believed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from sounds import CONFIG, noise

from keras_audio_transfer import health
from keras_audio_transfer.audio.loading import WaveformStore, readable_clips
from keras_audio_transfer.datasets.clip import Clip, Recorded


def clips_of(label, number, rate=16000, channels=1, seconds=2.0, suffix="wav", **of_clip):
    """So many clips of a class; what is a function is called with each clip's number."""
    clips = []
    for i in range(number):
        given = (rate, channels, seconds, suffix)
        rate_i, channels_i, seconds_i, suffix_i = (value(i) if callable(value) else value for value in given)
        path = Path(f"{label}/{i}.{suffix_i}")
        recorded = Recorded(rate_i, channels_i, seconds_i)
        clips.append(Clip(str(path), path, (label,), dataset="folder", recorded=recorded, **of_clip))
    return clips


def warnings(*classes, sample_rate=16000):
    clips = [clip for of_class in classes for clip in of_class]
    return health.warnings(clips, [of_class[0].labels[0] for of_class in classes], sample_rate)


GOOD = [clips_of(label, 20) for label in ("bat", "cat", "owl")]


def test_nothing_is_said_of_classes_that_are_alike():
    assert warnings(*GOOD) == []


def test_the_table_says_how_each_class_is_recorded(tmp_path):
    loud = (30 * noise(1000)).clip(-1, 1)
    sounds = {
        "=owl/a.wav": (noise(1000), 2000),
        "=owl/b.flac": (np.stack([noise(3000), noise(3000, seed=1)], 1), 4000),
        "=owl/c.wav": (noise(1000), 2000),
        "bat/a.WAV": (loud, 2000),
        "bat/b.wav": (np.zeros(500), 2000),
        "bat/c.wav": (np.stack([noise(500), -noise(500)], 1), 2000),
    }
    clips = []
    for name, (samples, rate) in sounds.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, samples, rate)
        clips.append(Clip(name, tmp_path / name, (name.split("/")[0],), group="night" if name[1:4] == "owl" else ""))
    readable, failures, _ = readable_clips(clips, WaveformStore(replace(CONFIG, long_clips="whole")))
    assert not failures
    rows = health.table(readable, ["=owl", "bat"])
    health.write(tmp_path, rows)
    assert pd.read_csv(tmp_path / "health.csv").to_dict("list") == {
        "label": ["'=owl", "bat"],
        "clips": [3, 3],
        "groups": [1, 3],
        "seconds_min": [0.5, 0.25],
        "seconds_median": [0.5, 0.25],
        "seconds_max": [0.75, 0.5],
        "sample_rates": ["2000 (2), 4000 (1)", "2000 (3)"],
        "channels": ["1 (2), 2 (1)", "1 (2), 2 (1)"],
        "formats": ["wav (2), flac (1)", "wav (3)"],
        "silent": [0, 2],
        "clipped": [0, 1],
        "copies": [2, 0],
    }


TELL = {
    "sample rate": ({"rate": lambda i: 48000 if i else 16000}, "the recorder"),
    "channels": ({"channels": lambda i: 2 if i else 1}, "the recorder"),
    "format": ({"suffix": lambda i: "mp3" if i else "wav"}, "how files are stored"),
    "length": ({"seconds": lambda i: 3.0 if i else 2.0}, "how clips are cut"),
}


@pytest.mark.parametrize("name", TELL)
def test_one_property_of_the_files_tells_a_class(name):
    how, learnt = TELL[name]
    assert warnings(*GOOD[:2], clips_of("owl", 20, **how)) == [
        f"{name} alone tells 'owl' from the others (95 % of the clips of 'owl' are found, 0 % of others taken for it): "
        f"a network may learn {learnt} instead of the sound; record, store and cut all classes alike"
    ]


def test_several_classes_and_two_classes_are_told():
    low = [clips_of(label, 20, rate) for label, rate in (("a", 44100), ("b", 48000), ("c", 16000))]
    (line,) = warnings(*low)
    assert line.startswith(
        "sample rate alone tells 'a' and 2 more from the others (100 % of the clips of 'a' are found"
    )
    (line,) = warnings(*low[:2])
    assert line.startswith("sample rate alone tells 'a' from 'b' (100 % of the clips of 'a' are found, 0 % of others")


def test_of_several_labels_each_is_looked_at():
    owls = [replace(clip, labels=("owl", "bat")[: 1 + (i > 4)]) for i, clip in enumerate(clips_of("owl", 20, 48000))]
    first, *bats = clips_of("bat", 21)
    clips = [*owls, replace(first, notes=("digital silence",)), *bats]
    (line,) = health.warnings(clips, ["bat", "owl"], 16000)
    assert line.startswith("sample rate alone tells 'owl' from the others (100 % of the clips of 'owl' are found, 0 %")
    rows = health.table(clips, ["bat", "owl"]).set_index("label")
    assert rows["clips"].to_dict() == {"bat": 36, "owl": 20}
    assert rows["sample_rates"].to_dict() == {"bat": "16000 (21), 48000 (15)", "owl": "48000 (20)"}
    assert rows["silent"].to_dict() == {"bat": 1, "owl": 0}


def test_only_together_they_tell_a_class():
    others = [(48000, 1), (16000, 2), (16000, 1)]
    mixed = clips_of("bat", 60, lambda i: others[i % 3][0], lambda i: others[i % 3][1])
    (line,) = warnings(clips_of("owl", 60, 48000, 2), mixed)
    assert line.startswith(
        "sample rate and channels alone tell 'owl' from 'bat' (100 % of the clips of 'owl' are found, "
    )
    assert "a network may learn the recorder instead" in line


def test_what_differs_but_little_or_says_little_of_the_class_is_not_named():
    """Lengths of GTZAN's classes, which no network hears; and a property that tells a class from some others only."""
    assert warnings(clips_of("metal", 20, seconds=30.000187), clips_of("jazz", 20, seconds=30.013313)) == []
    assert warnings(*GOOD, clips_of("dog", 20, rate=lambda i: 16000 if i % 2 else 48000)) == []


def test_what_tells_the_clips_that_a_tree_was_fitted_on_only_is_not_named():
    fitted = [*clips_of("owl", 20, 48000, split="train"), *clips_of("bat", 20, split="train")]
    scored = [*clips_of("owl", 50, split="test"), *clips_of("bat", 50, 48000, split="test")]
    assert health.warnings(fitted + scored, ["owl", "bat"], 16000) == []


@pytest.mark.parametrize("seed", range(10))
def test_chance_is_not_named(seed):
    rng = np.random.default_rng(seed)
    random = {"rate": lambda i: int(rng.choice([16000, 48000])), "seconds": lambda i: rng.uniform(1, 5)}
    said = warnings(*[clips_of(label, 5, **random) for label in "abcd"])
    assert [line for line in said if "alone tell" in line] == []


def test_clips_of_a_recording_count_as_one():
    def recordings(label, rate, by_recording):
        clips = clips_of(label, 30, rate, channels=lambda i: 1 + i // 6 % 2)
        return [replace(clip, group=f"{label}{i // 6}") if by_recording else clip for i, clip in enumerate(clips)]

    (line,) = warnings(recordings("owl", 48000, False), recordings("bat", 16000, False))
    assert line.startswith("sample rate alone tells 'owl' from 'bat'")
    assert warnings(recordings("owl", 48000, True), recordings("bat", 16000, True)) == []


def noted(clips, number, note):
    return [replace(clip, notes=(note,)) if i < number else clip for i, clip in enumerate(clips)]


FOUND = {
    "silent": (
        [noted(GOOD[0], 3, "digital silence"), noted(GOOD[1], 2, "no signal: its channels cancel each other"), GOOD[2]],
        "'bat' and 1 more: 3 of 20 clips are silent; remove them",
    ),
    "clipped": (
        [GOOD[0], noted(GOOD[1], 2, "clipped")],
        "'cat': 2 of 20 clips are clipped; record them at a lower level",
    ),
    "alike": (
        [*GOOD, clips_of("Cat", 20)],
        "'cat' and 'Cat' differ in capitals only; where they are one class, give it one name",
    ),
    "few": (
        [*GOOD, clips_of("dog", 9)],
        "'dog': few clips (9); the estimate for such a class is a guess, so add some",
    ),
    "unbalanced": (
        [*GOOD, clips_of("dog", 100)],
        "'dog' has 100 clips, 'bat' 20: rare classes are found less often; see each class's recall, and add clips of "
        "the rare ones",
    ),
    "lengths": (
        [*GOOD, clips_of("dog", 20, seconds=lambda i: 8.5 if i < 11 else 2.0)],
        "median lengths are 'dog' 8.5 s, 'bat' 2 s: much of what is heard may be padding; cut all classes alike",
    ),
    "low rates": (
        [clips_of(label, 20, rate=lambda i: 16000 if i % 2 else 8000) for label in ("bat", "owl")],
        "20 of 40 clips have a lower sample rate than the model's 16000 Hz: of those at 8000 Hz it hears nothing above "
        "4000 Hz",
    ),
    "copies": (
        [[replace(GOOD[0][0], checksum="x"), *GOOD[0][1:]], [replace(GOOD[1][0], checksum="x"), *GOOD[1][1:]]],
        "cat/0.wav is a copy of bat/0.wav in another class; remove the wrong ones",
    ),
}


@pytest.mark.parametrize("kind", FOUND)
def test_what_is_wrong_with_clips_and_classes_is_said(kind):
    classes, said = FOUND[kind]
    assert warnings(*classes) == [said]


def test_the_most_serious_comes_first():
    silent = noted(clips_of("owl", 20, 48000), 20, "digital silence")
    said = warnings(silent, clips_of("bat", 9, 8000))
    assert [line.split()[0] for line in said] == ["sample", "'owl':", "'bat':", "9"]
