"""One walk over folders: what is taken, what is left out and said, and what clips and labels are called."""

import json
import logging
import os
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from keras_audio_transfer.audio.loading import WaveformStore, readable_clips
from keras_audio_transfer.clip_inputs import clips_below
from keras_audio_transfer.commands import own_sounds, predict
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.datasets import folder, load
from keras_audio_transfer.datasets.clip import Clip, split_of, with_unique_ids
from keras_audio_transfer.datasets.walk import AUDIO_SUFFIXES, SUFFIXES_TEXT, audio_below, text_of
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import write_failures

CONFIG = AudioConfig(2000, 0.25, n_fft=64, hop_length=32, n_mels=8, mel_f_min=0.0, mel_f_max=1000.0)


def write_sounds(root, *names, value=0.1):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.full(600, value), 2000, format="WAV")
    return root


def ids(clips):
    return [clip.clip_id for clip in clips]


def reasons(clips):
    good, failures, _ = readable_clips(clips, WaveformStore(CONFIG))
    return ids(good), dict(failures)


def test_hidden_files_and_folders_are_left_out_everywhere(tmp_path):
    write_sounds(tmp_path, "dog/0.wav", "dog/._0.wav", "rain/0.wav", ".Trash/old.wav", "rain/.cache/1.wav")
    assert ids(load("folder", tmp_path)) == ["dog/0.wav", "rain/0.wav"]
    assert ids(clips_below([tmp_path])) == [str(tmp_path / name) for name in ("dog/0.wav", "rain/0.wav")]


def test_links_are_followed_and_those_that_lead_nowhere_are_set_aside(tmp_path):
    root = write_sounds(tmp_path / "links", "dog/0.wav", "rain/0.wav")
    write_sounds(tmp_path / "elsewhere", "1.wav", "below/2.wav")
    (root / "dog" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "dog" / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    (root / "rain" / "round").symlink_to(root)
    (root / "rain" / "self.wav").symlink_to(root / "rain" / "self.wav")
    for clips, begin in ((load("folder", root), ""), (clips_below([root]), f"{root}/")):
        good, failed = reasons(clips)
        assert good == [begin + name for name in ("dog/0.wav", "dog/more/1.wav", "dog/more/below/2.wav", "rain/0.wav")]
        assert {*failed} == {begin + name for name in ("dog/gone.wav", "rain/round", "rain/self.wav")}
        assert "gone.wav: is a link to" in failed[begin + "dog/gone.wav"]
        assert "nowhere.wav, which does not exist" in failed[begin + "dog/gone.wav"]
        assert "round: is a link to a folder that it is in" in failed[begin + "rain/round"]


def test_a_folder_that_may_not_be_read_is_set_aside(tmp_path, monkeypatch):
    write_sounds(tmp_path, "dog/0.wav", "dog/closed/1.wav", "rain/0.wav")
    scan = os.scandir

    def refuse(path):  # root may read everything
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("closed"))
    good, failed = reasons(load("folder", tmp_path))
    assert good == ["dog/0.wav", "rain/0.wav"]
    assert [*failed] == ["dog/closed"]
    assert "closed: is a folder that may not be read; give yourself the permission" in failed["dog/closed"]


@pytest.mark.skipif(os.name != "posix", reason="names are text there")
def test_names_that_are_no_utf8_are_read_by_their_bytes(tmp_path):
    write_sounds(tmp_path, "dog/0.wav", "rain/0.wav")
    os.replace(tmp_path / "dog" / "0.wav", os.fsencode(tmp_path / "dog") + b"/caf\xe9.wav")
    clips = load("folder", tmp_path)
    assert ids(clips) == ["dog/caf\\xe9.wav", "rain/0.wav"]
    assert reasons(clips) == (ids(clips), {})
    for clip_id in ids(clips):
        clip_id.encode()
    os.truncate(clips[0].path, 0)
    _, failed = reasons(clips)
    write_failures(tmp_path / "o.npz", [*failed.items()])
    assert "dog/caf\\xe9.wav: empty file (0 bytes)" in (tmp_path / "failed.csv").read_text()


@pytest.mark.skipif(os.name != "posix", reason="names are text there")
def test_a_place_whose_name_is_no_utf8_can_be_written():
    place = Path(os.fsdecode(b"caf\xe9"))
    options = SimpleNamespace(unknown=place, labelled=place, clip_seconds=1, layer_weights="", group_by=None)
    options.keep_examples = 0
    settings = own_sounds.settings(options, "m", ["m"])
    assert settings["unknown"] == settings["labelled"] == "caf\\xe9"
    assert json.loads(predict.as_json(SimpleNamespace(model_dir=place, output=None), ""))["model"] == "caf\\xe9"


def test_two_spellings_of_a_name_are_one_class_and_two_clips(tmp_path):
    for form, value in (("NFC", 0.1), ("NFD", -0.2)):
        write_sounds(tmp_path, unicodedata.normalize(form, "\u00e9/0.wav"), value=value)
    if len([*tmp_path.iterdir()]) == 1:
        pytest.skip("this file system has one form of names")
    write_sounds(tmp_path, "dog/0.wav")
    clips = load("folder", tmp_path)
    assert {label for clip in clips for label in clip.labels} == {"\u00e9", "dog"}
    assert ids(clips) == ["dog/0.wav", "\u00e9/0.wav", "\u00e9/0.wav (2)"]
    store = WaveformStore(CONFIG, cache="memory")
    assert {round(float(store.load(clip)[0]), 1) for clip in clips[1:]} == {0.1, -0.2}


def test_ids_are_unique_whatever_they_are():
    clips = with_unique_ids([Clip(name, None) for name in ("a", "a (2)", "a", "a", "b")])
    assert ids(clips) == ["a", "a (2)", "a (3)", "a (4)", "b"]


SPELLINGS = {
    "train": ("Train", "TRAINING"),
    "validation": ("val", "Dev", "valid", "val_set"),
    "test": ("Testing", " test ", "Eval", "testset", "Test Data"),
    None: ("tests", "dog", ""),
}


@pytest.mark.parametrize(("split", "name"), [(split, name) for split, names in SPELLINGS.items() for name in names])
def test_spellings_of_splits(name, split):
    assert split_of(name) == split


def test_splits_in_other_spellings(tmp_path):
    write_sounds(tmp_path, *(f"{split}/{name}/0.wav" for split in ("Train", "Dev", "TEST") for name in ("dog", "rain")))
    clips = load("folder", tmp_path)
    assert {(clip.split, *clip.labels) for clip in clips} == {
        (split, name) for split in ("train", "validation", "test") for name in ("dog", "rain")
    }
    (tmp_path / "c.csv").write_text("path,label,split\nTrain/dog/0.wav,dog,Training\nTEST/dog/0.wav,dog,test\n")
    assert [clip.split for clip in load("manifest", tmp_path / "c.csv")] == ["train", "test"]


def test_splits_beside_classes_are_refused(tmp_path):
    write_sounds(tmp_path, *(f"{folder}/dog/0.wav" for folder in ("train", "Test", "unlabelled")))
    said = rf"^folder: {tmp_path} has splits \(Test, train\) beside other folders \(unlabelled\); expected splits only"
    with pytest.raises(InputError, match=said):
        load("folder", tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    write_sounds(tmp_path, "train/0.wav", "bus/0.wav")
    assert [clip.labels for clip in load("folder", tmp_path)] == [("bus",), ("train",)]


def test_spaces_and_what_is_not_seen_of_a_class_do_not_count(tmp_path):
    write_sounds(tmp_path, "dog/0.wav", "dog /1.wav", "dog\u200b/2.wav", "night rain/0.wav", "night\u00a0rain/1.wav")
    assert {clip.labels for clip in load("folder", tmp_path)} == {("dog",), ("night rain",)}
    (tmp_path / "c.csv").write_text("path,label\na.wav,night\u00a0 rain\nb.wav, dog\u2060|\u200b\n", encoding="utf-8")
    assert [clip.labels for clip in load("manifest", tmp_path / "c.csv")] == [("night rain",), ("dog",)]


def test_labels_of_a_table_are_in_one_form(tmp_path):
    (tmp_path / "c.csv").write_text("path,label\na.wav,caf\u00e9\nb.wav,cafe\u0301|dog\n", encoding="utf-8")
    assert [clip.labels for clip in load("manifest", tmp_path / "c.csv")] == [("caf\u00e9",), ("caf\u00e9", "dog")]


def test_every_format_that_can_be_read_is_taken_and_the_rest_named(tmp_path, caplog):
    for name, how in {
        "0.wav": {},
        "1.opus": {"format": "OGG", "subtype": "OPUS"},
        "2.w64": {},
        "3.rf64": {},
        "4.caf": {},
        "5.FLAC": {},
    }.items():
        (tmp_path / "all").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "all" / name, 0.1 * np.ones(4800), 48000, **how)
    (tmp_path / "all" / "notes.txt").write_text("notes")
    (tmp_path / "stray.wav").write_bytes(b"")
    for clips in (load("folder", tmp_path), clips_below([tmp_path / "all"])):
        assert len(clips) == 6
        assert reasons(clips)[1] == {}
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert messages == [
        f"folder: left out: 2 files that are not {SUFFIXES_TEXT} or lie in no class folder; "
        f"the first: {tmp_path}/all/notes.txt",
        f"{tmp_path}/all: left out: 1 file that is not {SUFFIXES_TEXT}; the first: {tmp_path}/all/notes.txt",
    ]


@pytest.mark.parametrize("name", [".", "..", "../below"])
def test_folders_named_from_where_one_is(name, tmp_path, monkeypatch):
    write_sounds(tmp_path, "below/a.wav")
    monkeypatch.chdir(tmp_path / "below")
    assert len(clips_below([Path(name)])) == 1


def test_what_is_no_file_is_no_clip(tmp_path):
    write_sounds(tmp_path, "0.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    good, failed = reasons(clips_below([tmp_path]))
    assert good == [f"{tmp_path}/0.wav"]
    assert "pipe.wav: is no file; expected an audio file" in failed[f"{tmp_path}/pipe.wav"]


def test_a_path_that_is_too_long_is_set_aside(tmp_path):
    write_sounds(tmp_path, "a.wav")
    (tmp_path / "c.csv").write_text(f"path,label\na.wav,a\n{'x' * 300}.wav,b\n")
    good, failed = reasons(load("manifest", tmp_path / "c.csv"))
    assert good == ["a.wav"]
    assert "cannot be read (File name too long)" in failed[f"{'x' * 300}.wav"]


def test_suffixes_in_words_are_all_suffixes():
    assert [word.strip(",") for word in SUFFIXES_TEXT.split() if word.startswith(".")] == [*AUDIO_SUFFIXES]
    assert SUFFIXES_TEXT.endswith(", .wma or .webm")
    assert audio_below.__doc__
    assert text_of("a\\b") == "a\\b"


def test_a_folder_of_classes_is_walked_once(tmp_path, monkeypatch, caplog):
    write_sounds(tmp_path, "train/dog/0.wav", "train/rain/deep/1.wav", "test/dog/2.wav", "test/rain/3.wav")
    write_sounds(tmp_path, "test/stray.wav", "stray.wav")
    (tmp_path / "test" / "dog" / "notes.txt").write_text("notes")
    walked = []
    monkeypatch.setattr(folder, "audio_below", lambda path: walked.append(path) or audio_below(path))
    clips = load("folder", tmp_path)
    assert ids(clips) == ["test/dog/2.wav", "test/rain/3.wav", "train/dog/0.wav", "train/rain/deep/1.wav"]
    assert [(clip.split, *clip.labels) for clip in clips] == [
        (split, name) for split in ("test", "train") for name in ("dog", "rain")
    ]
    assert walked == [tmp_path]
    assert "3 files" in caplog.text
    assert f"; the first: {tmp_path}/stray.wav" in caplog.text
    (tmp_path / "train" / "empty").mkdir()
    with pytest.raises(InputError, match=r"train/empty has no audio"):
        load("folder", tmp_path)
