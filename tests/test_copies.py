"""A recording that is there twice is named, kept on one side, or refused; and what is to be known of clips is said."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
from conftest import run_main
from sounds import CONFIG, noise

import keras_audio_transfer as kat
from keras_audio_transfer.audio.decoders import UNCLOSED
from keras_audio_transfer.audio.loading import WaveformStore, load_sound, readable_clips
from keras_audio_transfer.copies import copies_of, keep_copies_together
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.mfcc import extract_mfcc
from keras_audio_transfer.probing.cross_validation import outer_folds

CLIPS = [
    Clip("a0", None, ("a",), dataset="folder"),
    Clip("a1", None, ("a",), dataset="folder"),
    Clip("b0", None, ("b",), dataset="folder"),
    Clip("b1", None, ("b",), dataset="folder"),
]


def heard(clips, *checksums):
    return [replace(clip, checksum=checksum) for clip, checksum in zip(clips, checksums, strict=True)]


def test_silence_and_what_was_not_read_are_no_copies():
    assert copies_of(heard(CLIPS[:3], "", "", "x")) == []


def test_copies_of_a_class_are_a_group():
    kept = keep_copies_together(heard(CLIPS, "x", "x", "y", "z"))
    assert [clip.group for clip in kept] == ["copies of a0", "copies of a0", "", ""]


def test_copies_with_other_labels_are_refused_or_named_once(caplog):
    clips = heard(CLIPS, "x", "y", "x", "y")
    message = r"b0: is a copy of a0 with other labels \(2 such copies\)"
    with pytest.raises(InputError, match=rf"{message}; expected each recording in one; remove the wrong ones, or `all"):
        keep_copies_together(clips)
    kept = keep_copies_together(clips, allow=True)
    assert keep_copies_together(kept) == kept
    assert caplog.messages == ["b0: is a copy of a0 with other labels (2 such copies)"]


def test_copies_that_have_groups_keep_them_and_are_named(caplog):
    clips = [replace(clip, group="night") for clip in heard(CLIPS, "x", "y", "x", "z")]
    assert [clip.group for clip in keep_copies_together(clips, allow=True)] == ["night"] * 4
    assert caplog.messages == ["b0: is a copy of a0 with other labels"]


def test_copies_in_several_groups_make_them_one():
    """Else the folds keep recordings together and divide their copies. In others' data sets, the authors decide."""
    names = dict(zip("012345", ["ann", "bob", "bob", "cem", "", "dan"], strict=True))
    clips = [Clip(name, None, ("a",), group=group, dataset="folder") for name, group in names.items()]
    kept = keep_copies_together(heard(clips, "x", "x", "y", "y", "y", "z"))
    assert [clip.group for clip in kept] == [*["ann"] * 5, "dan"]
    assert keep_copies_together(kept) == kept
    others = [replace(clip, dataset="esc10") for clip in heard(clips, "x", "x", "y", "y", "y", "z")]
    assert keep_copies_together(others) == others


def test_both_kinds_of_wrong_copies_are_named():
    clips = [Clip("a0", None, ("a",), split="train", dataset="folder")]
    clips += [Clip("a1", None, ("a",), split="test", dataset="folder")]
    clips += [Clip("b0", None, ("b",), split="train", dataset="folder")]
    with pytest.raises(
        InputError, match=r"^b0: is a copy of a0 with other labels; a1: is a copy of a0 with other splits"
    ):
        keep_copies_together(heard(clips, "x", "x", "x"))


@pytest.mark.parametrize("place", [{"split": "train"}, {"fold": 3}])
def test_copies_in_several_parts_are_refused_in_data_of_ones_own(place, caplog):
    for dataset in ("folder", "manifest", "esc10"):
        clips = [Clip("a0", None, ("a",), split="test", dataset=dataset)]
        clips += [Clip("a1", None, ("a",), **{"split": "test", **place}, dataset=dataset)]
        if dataset == "esc10":
            keep_copies_together(heard(clips, "x", "x"))
            assert caplog.messages == ["a1: is a copy of a0 with other splits or folds"]
        else:
            with pytest.raises(InputError, match="a1: is a copy of a0 with other splits or folds; expected each recor"):
                keep_copies_together(heard(clips, "x", "x"))


@pytest.mark.parametrize("cache", [None, "memory", "folder"])
def test_copies_are_found_by_what_is_decoded(tmp_path, cache):
    soundfile.write(tmp_path / "a.wav", noise(1000), 2000, subtype="FLOAT")
    soundfile.write(tmp_path / "b.w64", noise(1000), 2000, subtype="FLOAT")
    soundfile.write(tmp_path / "c.wav", noise(1000, seed=1), 2000, subtype="FLOAT")
    soundfile.write(tmp_path / "d.wav", np.zeros(1000), 2000)
    clips = [Clip(path.name, path, ("x",)) for path in sorted(tmp_path.iterdir())]
    for _ in range(2):
        store = WaveformStore(CONFIG, cache=tmp_path / "cache" if cache == "folder" else cache)
        readable, _, _ = readable_clips(clips, store)
        assert readable == clips
        assert [[clip.clip_id for clip in several] for several in copies_of(readable)] == [["a.wav", "b.w64"]]
        assert readable[-1].checksum == ""
        # What is heard of them is the first half.
        assert {name: notes for name, notes in store.notes.items() if name != "d.wav"} == dict.fromkeys(
            ("a.wav", "b.w64", "c.wav"), ("cut to its first 0.25 s",)
        )
        assert store.notes["d.wav"] == ("digital silence", "cut to its first 0.25 s")


@pytest.mark.parametrize(
    ("samples", "rate", "notes"),
    [
        (noise(900), 2000, ()),
        (np.zeros(900), 2000, ("digital silence",)),
        (np.zeros((900, 2)), 2000, ("digital silence",)),
        (np.stack([noise(900), -noise(900)], 1), 2000, ("no signal: its channels cancel each other",)),
        (np.stack([noise(900), noise(900, seed=1)], 1), 2000, ()),
        ((30 * noise(900)).clip(-1, 1), 2000, ("clipped",)),
        (noise(900), 1000, ("its sample rate, 1000 Hz, is far below the model's, 2000 Hz",)),
        (noise(900), 1500, ()),
        (noise(9000), 44100, ()),
    ],
    ids=["noise", "silence", "stereo silence", "cancel", "stereo", "clipped", "low", "lower", "higher"],
)
def test_what_is_found_in_a_clip_is_said(tmp_path, samples, rate, notes):
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    assert load_sound(Clip("a", tmp_path / "a.wav"), 2000).notes == notes


def test_an_unclosed_file_is_said(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(900), 2000)
    content = bytearray(path.read_bytes())
    content[4:8] = (36).to_bytes(4, "little")
    content[40:44] = bytes(4)
    path.write_bytes(content)
    assert load_sound(Clip("a", path), 2000).notes == (UNCLOSED,)


def test_notes_are_a_column_and_a_line(tmp_path, capsys):
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", np.zeros(4000) if number else noise(4000), 2000)
    table, _ = extract_mfcc([Clip(f"{n}", tmp_path / f"{n}.wav") for n in range(3)], [])
    low = "its sample rate, 2000 Hz, is far below the model's, 12000 Hz"
    assert table.notes.tolist() == [low, f"digital silence; {low}", f"digital silence; {low}"]
    assert run_main("mfcc", tmp_path, "--output", tmp_path / "f.npz") == 0
    assert f"notes on clips: 3 of 3 {low}; 2 of 3 digital silence\n" in capsys.readouterr().err
    assert run_main("mfcc", tmp_path, "--output", tmp_path / "f.npz", "--quiet") == 0
    assert "notes on clips" not in capsys.readouterr().err


def test_the_command_refuses_copies_until_told_to_go_on(tmp_path, capsys):
    for name in ("train/dog/0", "train/rain/1", "test/dog/2", "test/rain/3", "dev/dog/4", "dev/rain/5"):
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(4000, seed=2 if name[-1] == "3" else int(name[-1])), 16000)
    arguments = ["--dataset", "folder", "--data-dir", tmp_path, "--output-dir", tmp_path / "out", "--epochs", 0]
    with pytest.raises(InputError, match=r"test/rain/3.wav: is a copy of test/dog/2.wav .*, or --allow-duplicates$"):
        run_main("train", *arguments)


# Of 0, 1 and 2, the last in another format; of 3 and 4, which are silent; and 5 alone.
SOUNDS = {"0.wav": 0, "1.wav": 0, "2.w64": 0, "3.wav": None, "4.wav": None, "5.wav": 1}


@pytest.fixture
def folder(tmp_path):
    for name, seed in SOUNDS.items():
        (tmp_path / "sounds").mkdir(exist_ok=True)
        samples = np.zeros(6000) if seed is None else noise(6000, seed=seed)
        soundfile.write(tmp_path / "sounds" / name, samples, 12000, subtype="FLOAT")
    return tmp_path / "sounds"


def extracted(clips, names):
    return kat.extract(clips, layers="layer1", clip_seconds=0.25, label_names=names or None)


def mfcc_of(clips, names):
    table, _ = extract_mfcc(clips, names)
    return table


@pytest.mark.parametrize("table_of", [extracted, mfcc_of])
def test_copies_are_a_group_of_the_features_and_wrong_ones_are_named(folder, table_of, caplog):
    clips = [Clip(name, folder / name, ("odd" if name == "2.w64" else "a",), fold=name == "1.wav") for name in SOUNDS]
    table = table_of(clips, ["a", "odd"])
    assert table.groups.tolist() == [*["copies of 0.wav"] * 3, "", "", ""]
    assert caplog.messages == [
        "2.w64: is a copy of 0.wav with other labels; 1.wav: is a copy of 0.wav with other splits or folds"
    ]
    grouped = table_of([replace(clip, group=clip.clip_id) for clip in clips], ["a", "odd"])
    assert grouped.groups.tolist() == [*SOUNDS]
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("table_of", [extracted, mfcc_of])
def test_copies_without_labels_are_a_group_and_no_more_is_said(folder, table_of, caplog):
    clips = [Clip(name, folder / name) for name in SOUNDS]
    assert table_of(clips, []).groups.tolist() == [*["copies of 0.wav"] * 3, "", "", ""]
    assert table_of(clips[2:], []).groups is None
    assert caplog.messages == []


@pytest.mark.parametrize("table_of", [extracted, mfcc_of])
def test_clips_that_differ_where_nothing_is_heard_are_copies(tmp_path, table_of):
    both = noise(31 * 1000)
    for name in ("a", "b"):
        both[-1] += 0.5
        soundfile.write(tmp_path / f"{name}.wav", both, 1000, subtype="FLOAT")
    groups = table_of([Clip(name, tmp_path / f"{name}.wav") for name in ("a", "b")], []).groups
    assert groups.tolist() == ["copies of a"] * 2


def test_no_fold_of_a_probe_divides_copies(folder, tmp_path, capsys):
    for number in range(6, 60):
        sound, name = noise(3000, seed=number // 2), f"{'dog' if number // 2 % 2 else 'rain'}/{number}.wav"
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "data" / name, sound, 12000, subtype="FLOAT")
    data = ["--dataset", "folder", "--data-dir", tmp_path / "data"]
    assert run_main("mfcc", *data, "--output", tmp_path / "f.npz", "--quiet") == 0
    table = kat.FeatureTable.load(tmp_path / "f.npz")
    assert {*np.unique(table.groups, return_counts=True)[1]} == {2}
    for fold in outer_folds(table)[0]:
        assert not {*table.groups[fold.outer.fit]} & {*table.groups[fold.outer.score]}


def test_the_command_names_wrong_copies_and_goes_on(folder, tmp_path, caplog):
    for place, name in (("dog", "0.wav"), ("rain", "1.wav"), ("rain", "5.wav")):
        (tmp_path / "data" / place).mkdir(parents=True, exist_ok=True)
        (folder / name).rename(tmp_path / "data" / place / name)
    data = ["--dataset", "folder", "--data-dir", tmp_path / "data"]
    assert run_main("mfcc", *data, "--output", tmp_path / "f.npz", "--quiet") == 0
    assert caplog.messages == ["rain/1.wav: is a copy of dog/0.wav with other labels"]
