"""Prepared data sets: what is stored is what is read from the files, is kept by every accident, and checked."""

import errno
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import forked
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import soundfile
from conftest import read_card, run_main
from sounds import CONFIG, noise

from keras_audio_transfer import files
from keras_audio_transfer.audio.loading import WaveformStore, load_sound, mix_and_resample
from keras_audio_transfer.audio.sliding_windows import windows
from keras_audio_transfer.datasets import Clip, load
from keras_audio_transfer.datasets.prepared import INDEX, UNFINISHED
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.preparation import prepare

RATE = CONFIG.sample_rate
SOUNDS = {"a.wav": (8000, 2), "b.flac": (16000, 1), "c.ogg": (44100, 1), "d.mp3": (22050, 2), "e.wav": (RATE, 1)}
CLIPS = """path,label,fold,group,start,duration
a.wav,dog,1,a,,
b.flac,cat,2,b,,
c.ogg,dog|cat,1,c,0.25,0.5
c.ogg,cat,1,c,0.75,
d.mp3,dog,2,d,,
e.wav,dog,3,e,,
"""


@pytest.fixture
def manifest(tmp_path):
    """A table of sounds of several formats, rates and channels, of a second each."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for seed, (name, (rate, channels)) in enumerate(SOUNDS.items()):
        soundfile.write(folder / name, noise(rate, channels, seed=seed), rate)
    (folder / "clips.csv").write_text(CLIPS)
    return folder / "clips.csv"


def prepared(clips, folder, **how):
    """The clips of a folder that was just prepared, in shards of two to four clips, and how many were there before."""
    _, n_before = prepare(clips, folder, RATE, shard_bytes=16_000, **how)
    return load("prepared", folder), n_before


def state(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def assert_stored(clips, stored):
    """All that is known of the clips, and all that is heard."""
    assert [replace(clip, path=None, stored=None) for clip in stored] == [
        replace(clip, path=None, synthesise=None, start_seconds=0, duration_seconds=None) for clip in clips
    ]
    assert [clip.dataset for clip in stored] == [clip.dataset for clip in clips]
    for clip, of_prepared in zip(clips, stored, strict=True):
        sound, again = load_sound(clip, RATE), load_sound(of_prepared, RATE)
        np.testing.assert_array_equal(again.waveform, sound.waveform)
        assert again[1:] == sound[1:]


def test_what_is_stored_is_what_the_files_hold(manifest, tmp_path):
    clips = load("manifest", manifest)
    stored, n_before = prepared(clips, tmp_path / "p")
    assert n_before == 0
    assert len(stored) == 6
    assert len({clip.path for clip in stored}) > 1
    assert_stored(clips, stored)
    for clip, of_prepared in zip(clips, stored, strict=True):
        for seconds, there in zip(*(windows(c, CONFIG, 0.1) for c in (clip, of_prepared)), strict=True):
            assert seconds[0] == there[0]
            np.testing.assert_array_equal(there[1], seconds[1])
    index = pd.read_parquet(tmp_path / "p" / INDEX)
    assert [*index.clip_id] == [clip.clip_id for clip in clips]
    assert [*index.recorded_rate] == [8000, 16000, 44100, 44100, 22050, RATE]
    assert index.seconds.to_numpy() == pytest.approx([1, 1, 0.5, 0.25, 1, 1], abs=1 / RATE)


def test_computed_sounds_targets_and_splits(tmp_path):
    clips = load("synthetic")[::60]
    assert_stored(clips, prepared(clips, tmp_path / "p")[0])
    of_numbers = [replace(clip, labels=(), targets=(0.1, -2.0), dataset="emomusic") for clip in clips]
    assert_stored(of_numbers, prepared(of_numbers, tmp_path / "n")[0])
    assert prepared(clips, tmp_path / "p")[1] == len(clips)


def test_another_rate_is_resampled_and_a_low_one_is_said(manifest, tmp_path):
    clips = load("manifest", manifest)
    stored, _ = prepared(clips, tmp_path / "p")
    sound = load_sound(stored[1], 5000)
    np.testing.assert_array_equal(sound.waveform, mix_and_resample(load_sound(clips[1], RATE).waveform, RATE, 5000))
    assert sound.notes == (f"its sample rate, {RATE} Hz, is far below the model's, 5000 Hz",)
    assert sound.recorded == load_sound(clips[1], 5000).recorded
    prepare(clips, tmp_path / "high", 8000)
    low = load("prepared", tmp_path / "high")[-1]
    for rate in (8000, RATE):
        assert load_sound(low, rate).notes == load_sound(clips[-1], rate).notes


def test_notes_of_a_file_are_kept(manifest, tmp_path):
    soundfile.write(manifest.parent / "a.wav", np.stack([noise(8000), -noise(8000)], axis=1), 8000)
    soundfile.write(manifest.parent / "e.wav", np.clip(50 * noise(RATE), -1, 1), RATE)
    clips = load("manifest", manifest)
    stored, _ = prepared(clips, tmp_path / "p")
    assert_stored(clips, stored)
    assert load_sound(stored[0], RATE).notes == ("no signal: its channels cancel each other",)
    assert load_sound(stored[-1], RATE).notes == ("clipped",)


def test_stores_tell_the_clips_of_a_shard_apart(manifest, tmp_path):
    clips = load("manifest", manifest)
    stored, _ = prepared(clips, tmp_path / "p")
    for whole_clips in (True, False):
        for cache in (None, "memory", tmp_path / "cache", tmp_path / "cache"):
            of_files, of_shards = (WaveformStore(CONFIG, whole_clips, cache) for _ in range(2))
            for clip, of_prepared in zip(clips, stored, strict=True):
                # Of a file of which only the beginning is heard, no more is resampled: that is rounded in another way.
                tolerance = 0 if whole_clips else 1e-6
                np.testing.assert_allclose(of_shards.load(of_prepared), of_files.load(clip), rtol=0, atol=tolerance)
            assert of_shards.notes == of_files.notes


def test_tensorflow_reads_the_shards(manifest, tmp_path):
    import tensorflow as tf

    clips = load("manifest", manifest)
    prepared(clips, tmp_path / "p")
    kinds = {"clip_id": tf.io.FixedLenFeature([], tf.string), "waveform": tf.io.FixedLenFeature([], tf.string)}
    kinds |= {"labels": tf.io.VarLenFeature(tf.string), "fold": tf.io.FixedLenFeature([], tf.int64)}
    records = tf.data.TFRecordDataset(sorted(map(str, (tmp_path / "p").glob("*.tfrecord"))))  # which checks the CRC
    for clip, record in zip(clips, records, strict=True):
        example = tf.io.parse_single_example(record, kinds)
        waveform = tf.io.decode_raw(example["waveform"], tf.float32)
        np.testing.assert_array_equal(waveform, load_sound(clip, RATE).waveform)
        assert example["clip_id"] == clip.clip_id
        assert tuple(label.decode() for label in example["labels"].values.numpy()) == clip.labels
        assert example["fold"] == clip.fold


# What stays, and what is done again


def test_a_second_run_does_nothing(manifest, tmp_path, monkeypatch):
    clips, folder = load("manifest", manifest), tmp_path / "p"
    prepared(clips, folder)
    before = state(folder)
    os.utime(clips[0].path, ns=(1, 1))  # copied elsewhere and back: its content is the same
    clips[1].path.unlink()  # what is gone has not changed
    monkeypatch.setattr("keras_audio_transfer.preparation.load_sound", None)
    stored, n_before = prepared(clips, folder)
    assert (n_before, len(stored)) == (6, 6)
    assert state(folder) == before


def test_each_shard_is_opened_once_to_be_checked(manifest, tmp_path, monkeypatch):
    """However many clips it holds."""
    clips, folder = load("manifest", manifest), tmp_path / "p"
    stored, _ = prepared(clips, folder)
    opened, path_open = [], Path.open

    def counted(path, *how, **more):
        opened.append(path)
        return path_open(path, *how, **more)

    monkeypatch.setattr(Path, "open", counted)
    assert prepare(clips, folder, RATE, shard_bytes=16_000)[1] == len(clips)
    shards = sorted({clip.path for clip in stored})
    assert len(shards) < len(clips)
    assert [path for path in opened if path.suffix == ".tfrecord"] == shards


@pytest.mark.parametrize("change", ["sound", "label", "added", "removed", "shard gone", "shard cut", "index damaged"])
def test_what_has_changed_is_done_again(change, manifest, tmp_path):
    clips, folder = load("manifest", manifest), tmp_path / "p"
    stored, _ = prepared(clips, folder)
    first, *_, last = sorted({clip.path for clip in stored})
    part = folder / INDEX / "00001.parquet"
    if change == "sound":
        soundfile.write(clips[-1].path, noise(RATE, seed=9), RATE)
    elif change == "label":
        manifest.write_text(CLIPS.replace("e.wav,dog", "e.wav,owl"))
    elif change == "added":
        soundfile.write(manifest.parent / "f.wav", noise(RATE, seed=9), RATE)
        manifest.write_text(f"{CLIPS}f.wav,dog,3,f,,\n")
    elif change == "removed":
        manifest.write_text("".join(CLIPS.splitlines(keepends=True)[:-1]))
    elif change == "shard gone":
        last.unlink()
    elif change == "shard cut":
        os.truncate(last, last.stat().st_size - 1)
    else:
        part.unlink()
    kept = first.stat().st_mtime_ns
    clips = load("manifest", manifest)
    stored, n_before = prepared(clips, folder)
    assert 0 < n_before < len(clips) or change == "added"
    assert first.stat().st_mtime_ns == kept
    assert_stored(clips, stored)
    assert {path.name for path in folder.iterdir()} == {INDEX, *(clip.path.name for clip in stored)}
    assert len([*(folder / INDEX).glob("*.parquet")]) == len({clip.path for clip in stored})


@pytest.mark.parametrize("damage", ["a bit", "swapped", "gone"])
def test_a_shard_that_holds_other_samples_is_written_again(damage, manifest, tmp_path, caplog):
    """So that all that `prepare` has called whole can be read."""
    clips, folder = load("manifest", manifest), tmp_path / "p"
    stored, _ = prepared(clips, folder)
    first, second, *_ = sorted({clip.path for clip in stored})
    match damage:
        case "a bit":
            content = bytearray(second.read_bytes())
            content[stored[-1].stored.offset + 2] ^= 4
            second.write_bytes(content)
        case "swapped":
            first.rename(folder / "x")
            second.rename(first)
            (folder / "x").rename(second)
        case "gone":
            second.unlink()
    again, n_before = prepared(clips, folder)
    assert again == stored
    assert (n_before == 0) == (damage == "swapped")
    assert_stored(clips, again)
    wrong = first if damage == "swapped" else second
    assert caplog.messages == [f"{wrong}: is gone or damaged; its clips and those behind it are prepared again"]


def test_what_is_nowhere_else_is_not_lost(manifest, tmp_path):
    clips, folder = load("manifest", manifest), tmp_path / "p"
    prepared(clips, folder)
    before = state(folder)
    clips[-1].path.unlink()
    manifest.write_text(CLIPS.replace("a.wav,dog", "a.wav,owl"))
    with pytest.raises(InputError, match=r"^output_dir: .*e\.wav is gone, and what .*p holds of it would be lost, as"):
        prepared(load("manifest", manifest), folder)
    assert state(folder) == before


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_killed_run_is_not_taken_for_whole_and_goes_on(tmp_path):
    folder = tmp_path / "p"
    arguments = ["--dataset", "synthetic", "--output-dir", folder, "--shard-mib", "0.5", "--quiet"]
    script = Path(__file__).parents[1] / "scripts" / "prepare.py"
    run = forked.killed(script, [*map(str, arguments)], (folder / UNFINISHED / "00003.parquet").exists)
    assert run.returncode == -signal.SIGKILL, run.stderr
    with pytest.raises(InputError, match=r"^prepared: .* is not complete: .* or was ended before; wait for it, or run"):
        load("prepared", folder)
    before = {path: date for path, date in state(folder).items() if path.suffix == ".parquet"}
    run_main("prepare", *arguments)
    assert not [path for path in folder.rglob(".*")]
    after = state(folder)
    assert {path.name: date for path, date in before.items()}.items() <= {p.name: d for p, d in after.items()}.items()
    assert_stored(load("synthetic")[::50], load("prepared", folder)[::50])


def test_a_full_disk_loses_nothing(manifest, tmp_path, monkeypatch):
    clips, folder, synced = load("manifest", manifest), tmp_path / "p", []

    def sync(path):
        synced.append(path)
        if len(synced) == 3:  # the second shard
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(files, "_sync", sync)
        with pytest.raises(OSError, match="No space left"):
            prepared(clips, folder)
    assert {path.name for path in folder.iterdir()} == {UNFINISHED, "clips-00000.tfrecord"}
    stored, n_before = prepared(clips, folder)
    assert n_before > 0
    assert_stored(clips, stored)


# Bad input


def test_bad_clips_are_listed_and_tried_again(manifest, tmp_path, capsys):
    clips = load("manifest", manifest)
    content = clips[1].path.read_bytes()
    clips[1].path.write_bytes(content[:100])
    (manifest.parent / "d.mp3").unlink()
    arguments = ["prepare", "--dataset", "manifest", "--data-dir", manifest, "--sample-rate", RATE, "--quiet"]
    arguments += ["--output-dir", tmp_path / "p", "--shard-mib", 0.015]
    for _ in range(2):
        assert run_main(*arguments) == 1
        failed = pd.read_csv(tmp_path / "failed.csv")
        assert [*failed["clip"]] == ["b.flac", "d.mp3"]
        assert "4 clips, 3 s at 2000 Hz" in capsys.readouterr().out
    assert [clip.clip_id[:5] for clip in load("prepared", tmp_path / "p")] == ["a.wav", "c.ogg", "c.ogg", "e.wav"]
    before = clips[1].path.stat()
    clips[1].path.write_bytes(content)
    os.utime(clips[1].path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run_main(*arguments) == 1
    assert len(load("prepared", tmp_path / "p")) == 5


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    ((row,), _) = prepare([Clip("a.wav", tmp_path / "a.wav", ("dog",))], tmp_path / "p", RATE)
    assert "a.wav: is no file; expected an audio file" in row["failure"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "does not exist; put it back, or run `prepare` once more"),
        (lambda path: os.truncate(path, path.stat().st_size - 1001), "is cut short; run `prepare` once more"),
        (lambda path: os.truncate(path, 0), r"empty file \(0 bytes\)"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-100] + bytes(100)),
            "holds other samples than its index says; run `prepare` once more",
        ),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-100] + np.full(25, np.nan, np.float32).tobytes()),
            "holds other samples than its index says; run `prepare` once more",  # not that the sound has NaN
        ),
    ],
)
def test_a_damaged_shard_fails_its_clips_only(damage, message, manifest, tmp_path):
    stored, _ = prepared(load("manifest", manifest), tmp_path / "p")
    damage(stored[-1].path)
    for read in (load_sound, lambda clip, _: [*windows(clip, CONFIG, 0.1)]):
        with pytest.raises(InputError, match=message) as error:
            read(stored[-1], RATE)
        assert str(error.value).startswith(str(stored[-1].path))
        assert "\n" not in str(error.value)
    load_sound(stored[0], RATE)
    output = tmp_path / "f.npz"
    assert run_main("mfcc", "--dataset", "prepared", "--data-dir", tmp_path / "p", "--output", output, "--quiet") == 1
    failed = pd.read_csv(tmp_path / "failed.csv")
    assert "e.wav" in [*failed["clip"]]
    assert (
        failed["reason"].str.startswith(tuple(failed["clip"])).all()
    )  # which shard it lies in does not tell which it is
    assert "a.wav" in FeatureTable.load(output).clip_ids


def test_a_damaged_index_is_refused(manifest, tmp_path):
    prepared(load("manifest", manifest), tmp_path / "p")
    part = tmp_path / "p" / INDEX / "00000.parquet"
    content, table = part.read_bytes(), pyarrow.parquet.read_table(part)
    rows = table.to_pylist()
    outside = [{**rows[0], "shard": "../sounds/a.wav"}, {**rows[0], "samples": 0}, {**rows[0], "split": "x"}]
    tables = [pyarrow.Table.from_pylist([row], table.schema) for row in outside]
    tables += [table.drop_columns(["group"]), table.slice(0, 0)]
    for damaged in [content[:-20], content[:200] + b"\0\1" + content[202:], b"", *tables]:
        if isinstance(damaged, bytes):
            part.write_bytes(damaged)
        else:
            pyarrow.parquet.write_table(damaged, part)
        with pytest.raises(InputError, match=r"00000\.parquet: is no part of an index, or damaged \(.*run `prepare`"):
            load("prepared", tmp_path / "p")


def test_an_index_that_was_edited_is_refused(manifest, tmp_path):
    clips = load("manifest", manifest)
    stored, _ = prepared(clips, tmp_path / "p")
    part = tmp_path / "p" / INDEX / "00000.parquet"
    table = pyarrow.parquet.read_table(part)
    pyarrow.parquet.write_table(table.replace_schema_metadata(), part)  # as older versions wrote it
    assert load("prepared", tmp_path / "p") == stored
    first, *others = table.to_pylist()
    edited = pyarrow.Table.from_pylist([{**first, "labels": ["owl"]}, *others], table.schema)
    pyarrow.parquet.write_table(edited, part)
    for read in (lambda: load("prepared", tmp_path / "p"), lambda: prepared(clips, tmp_path / "p")):
        with pytest.raises(
            InputError, match=r"00000\.parquet: .* \(it was edited\); remove it, and run `prepare` once"
        ):
            read()
    part.unlink()
    assert prepared(clips, tmp_path / "p")[0] == stored


# What others have put there


def test_files_of_the_users_stay(manifest, tmp_path):
    clips, folder = load("manifest", manifest), tmp_path / "p"
    stored, _ = prepared(clips, folder)
    mine = [folder / "clips-backup.tfrecord", folder / "notes.txt", folder / INDEX / "notes.txt"]
    for path in mine:
        path.write_text("mine")
    assert load("prepared", folder) == stored
    assert prepared(clips, folder) == (stored, 6)
    manifest.write_text(CLIPS.replace("a.wav,dog", "a.wav,owl"))
    assert prepared(load("manifest", manifest), folder)[1] == 0
    assert [path.read_text() for path in mine] == ["mine"] * 3
    shutil.copy(folder / INDEX / "00000.parquet", folder / INDEX / "copy.parquet")
    before = state(folder)
    for read in (lambda: load("prepared", folder), lambda: prepared(clips, folder)):
        with pytest.raises(
            InputError, match=r"index\.parquet/copy\.parquet: is no part of the index, .*; move it away$"
        ):
            read()
    assert state(folder) == before


@pytest.mark.parametrize("name", ["clips-00001.tfrecord", "clips-00009.tfrecord", f"{INDEX}/00001.parquet", UNFINISHED])
def test_what_is_no_file_or_no_folder_is_refused_first(name, manifest, tmp_path):
    clips, folder = load("manifest", manifest), tmp_path / "p"
    prepared(clips, folder)
    (folder / name).unlink(missing_ok=True)
    if name == UNFINISHED:
        (folder / name).touch()
    else:
        (folder / name).mkdir()
    manifest.write_text(CLIPS.replace("a.wav,dog", "a.wav,owl"))
    before = state(folder)
    with pytest.raises(
        InputError, match=rf"{name}: is a (file|folder), where .* of prepared clips is kept; move it away$"
    ):
        prepared(load("manifest", manifest), folder)
    assert state(folder) == before


@pytest.mark.parametrize("change", [None, "changed", "of the first", "damaged"])
def test_an_index_copied_during_a_run_beside_the_one_copied_behind_it(change, manifest, tmp_path):
    clips, folder = load("manifest", manifest), tmp_path / "p"
    stored, _ = prepared(clips, folder)
    index, unfinished = folder / INDEX, folder / UNFINISHED
    unfinished.mkdir()
    shutil.copy(index / "00000.parquet", unfinished)
    (unfinished / ".00001.parquet.0123abcd.7.8.partial").touch()
    if change == "changed":
        soundfile.write(clips[-1].path, noise(RATE, seed=9), RATE)
    elif change == "of the first":  # the other way about: what is unfinished is the newer one
        manifest.write_text(CLIPS.replace("e.wav,dog", "e.wav,owl"))
        clips = load("manifest", manifest)
        shutil.rmtree(unfinished)
        shutil.copytree(index, tmp_path / "old")
        prepared(clips, folder)
        index.rename(unfinished)
        (unfinished / "_shards.json").unlink()
        (tmp_path / "old").rename(index)
    elif change == "damaged":
        os.truncate(stored[-1].path, 100)
    with pytest.raises(InputError, match=r"^prepared: .* is not complete: .*; wait for it, or run it once more$"):
        load("prepared", folder)
    again, n_before = prepared(clips, folder)
    assert (n_before == 6) == (change in (None, "of the first"))
    assert n_before > 0
    assert_stored(clips, again)
    assert not unfinished.exists()
    assert len([*index.glob("*.parquet")]) == len([*folder.glob("*.tfrecord")])


def test_an_index_that_is_left_over_is_removed_without_files_of_the_users(manifest, tmp_path):
    clips, folder = load("manifest", manifest), tmp_path / "p"
    stored, _ = prepared(clips, folder)
    (folder / UNFINISHED).mkdir()
    (folder / UNFINISHED / ".mine").touch()
    before = state(folder)
    with pytest.raises(InputError, match=r"index\.unfinished/\.mine: is not of index\.unfinished, .*; move it away$"):
        prepared(clips, folder)
    assert state(folder) == before
    (folder / UNFINISHED / ".mine").unlink()
    assert prepared(clips, folder) == (stored, 6)


@pytest.mark.parametrize(
    "accident", ["first gone", "last gone", "last shard gone", "copied", "shard copied", "swapped"]
)
def test_a_part_of_the_clips_is_not_taken_for_all(accident, manifest, tmp_path):
    clips = load("manifest", manifest)
    folder = tmp_path / "p"
    stored, _ = prepared(clips, folder)
    index = sorted((folder / INDEX).glob("*.parquet"))
    match accident:
        case "first gone":
            index[0].unlink()
        case "last gone" | "last shard gone":
            index[-1].unlink()
            if accident == "last shard gone":
                stored[-1].path.unlink()
        case "copied":
            shutil.copy(index[0], folder / INDEX / f"{len(index):05}.parquet")
        case "shard copied":
            shutil.copy(folder / stored[0].path.name, folder / "clips-00007.tfrecord")
        case "swapped":
            first, second = (path.read_bytes() for path in index[:2])
            index[0].write_bytes(second)
            index[1].write_bytes(first)
    with pytest.raises(InputError, match=r"\.parquet(: .* remove it, and| is gone; .* or) run `prepare` once more$"):
        load("prepared", folder)
    if accident in ("copied", "swapped"):
        for part in index[:2] if accident == "swapped" else [folder / INDEX / f"{len(index):05}.parquet"]:
            part.unlink()
    assert prepared(clips, folder)[0] == stored


def test_how_many_shards_there_are_is_said_since_a_later_version(manifest, tmp_path):
    clips, folder = load("manifest", manifest), tmp_path / "p"
    stored, _ = prepared(clips, folder)
    said = folder / INDEX / "_shards.json"
    content = said.read_bytes()
    assert json.loads(content) == {"shards": len([*folder.glob("*.tfrecord")])}
    said.unlink()
    assert load("prepared", folder) == stored
    for damaged in (b"", b'{"shards": "3"}', b"[]"):
        said.write_bytes(damaged)
        with pytest.raises(InputError, match=r"_shards\.json: is damaged; run `prepare` once more$"):
            load("prepared", folder)
        assert prepared(clips, folder) == (stored, 6)
        assert said.read_bytes() == content
    assert len(pd.read_parquet(folder / INDEX)) == 6


def test_other_folders_are_refused(manifest, tmp_path):
    clips = load("manifest", manifest)
    prepared(clips, tmp_path / "p")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").touch()
    before = state(tmp_path / "p")
    others = [replace(clip, clip_id=f"other/{clip.clip_id}") for clip in clips]
    for folder, of_clips, rate, message in (
        ("mine", clips, RATE, "holds other things than prepared clips; name a new folder"),
        ("p", clips, 4000, "holds manifest at 2000 Hz, not manifest at 4000; name another folder, or remove it"),
        ("p", load("synthetic"), RATE, "holds manifest at 2000 Hz, not synthetic at 2000; name another folder"),
        ("p", others, RATE, r"holds other clips, such as a\.wav; name another folder"),
    ):
        with pytest.raises(InputError, match=rf"^output_dir: .*{folder} {message}"):
            prepare(of_clips, tmp_path / folder, rate)
    assert state(tmp_path / "p") == before
    for folder, message in (("mine", rf"has no {INDEX}; pass the folder"), ("gone", "is not a folder; pass the one")):
        with pytest.raises(InputError, match=rf"^prepared: .*{folder} {message}"):
            load("prepared", tmp_path / folder)


def test_what_the_command_refuses(manifest, tmp_path):
    of_manifest = ["--dataset", "manifest", "--data-dir", manifest]
    for arguments, message in (
        ([], "--dataset: is missing; name a data set"),
        (["--dataset", "prepared", "--data-dir", tmp_path], "--dataset: prepared is what this makes; name a data set"),
        ([*of_manifest, "--sample-rate", "12"], "--sample-rate: 12 is not allowed; expected 100 to 768000 Hz"),
        ([*of_manifest, "--output-dir", manifest.parent], "--output-dir: .* holds an input"),
        ([*of_manifest, "--output-dir", manifest], "--output-dir: .* is a file"),
    ):
        with pytest.raises(InputError, match=f"^{message}"):
            run_main("prepare", "--output-dir", tmp_path / "p", *arguments)
    with (
        files.only_writer(tmp_path / "p"),
        pytest.raises(InputError, match="another run writes there; wait for it, or name another folder"),
    ):
        run_main("prepare", *of_manifest, "--output-dir", tmp_path / "p")
    assert not (tmp_path / "p").exists()


# What reads it


def test_features_of_a_prepared_data_set_are_those_of_its_files(manifest, tmp_path):
    """With the names of the labels in the order of the data set that was prepared."""
    for name, place in (("manifest", manifest), ("fsdd", write_fsdd(tmp_path / "fsdd"))):
        of_files = ["--dataset", name, "--data-dir", place]
        of_shards = ["--dataset", "prepared", "--data-dir", tmp_path / f"p_{name}"]
        assert run_main("prepare", *of_files, "--sample-rate", 12000, "--output-dir", of_shards[-1], "--quiet") == 0
        tables = []
        for arguments in (of_files, of_shards):
            assert run_main("mfcc", *arguments, "--output", tmp_path / "f.npz", "--quiet") == 0
            tables.append(FeatureTable.load(tmp_path / "f.npz"))
        for column in ("clip_ids", "labels", "folds", "splits", "groups", "label_names"):
            np.testing.assert_array_equal(*(getattr(table, column) for table in tables))
        np.testing.assert_array_equal(*(table.layers["mfcc"] for table in tables))


def write_fsdd(root):
    (root / "recordings").mkdir(parents=True)
    for number in range(12):
        digit, take = number % 3, number // 3
        soundfile.write(root / f"recordings/{digit}_ada_{4 + take}.wav", noise(4000, seed=number), 8000)
    return root


@pytest.mark.slow
def test_training_on_a_prepared_data_set_is_training_on_its_files(tmp_path, run_script):
    clips = load("synthetic")[::5]
    for clip in clips:
        path = tmp_path / "files" / f"{clip.clip_id}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, clip.synthesise()[0], 16000, subtype="FLOAT")
    rows = [f"files/{clip.clip_id}.wav,{clip.labels[0]},{clip.split},{clip.group}" for clip in clips]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label,split,group", *rows]) + "\n")
    prepare(load("manifest", tmp_path / "clips.csv"), tmp_path / "m", 16000)
    cards = []
    for dataset, place in (("manifest", "clips.csv"), ("prepared", "m")):
        output = tmp_path / f"model_{dataset}"
        arguments = "--dataset", dataset, "--data-dir", tmp_path / place, "--epochs", 1, "--output-dir", output
        run = run_script("train", *arguments, before=forked.FEW_SIGNATURES)
        assert run.returncode == 0, run.stderr
        cards.append(read_card(output))
    assert cards[1]["training_data"]["dataset"] == "manifest"
    for entry in ("weights_sha256", "labels", "training_data", "scores"):
        assert cards[0][entry] == cards[1][entry]
