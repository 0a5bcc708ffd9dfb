"""Features that are kept shard by shard: as in memory, and as undisturbed after a kill, a full disk, changed files."""

import errno
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from itertools import chain

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import ROOT, run_main
from pyarrow import parquet
from sounds import noise

from keras_audio_transfer.audio.loading import as_heard, load_sound, or_reason
from keras_audio_transfer.datasets.clip import Clip, segment_id
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables import run as feature_run
from keras_audio_transfer.feature_tables import shards as feature_shards
from keras_audio_transfer.feature_tables.table import FeatureTable, Row
from keras_audio_transfer.files import only_writer

SETTINGS = {"weights_sha256": {"sizes": "abc", "low": ""}}
NAMES = ["cat", "dog"]
OUTPUTS = ["f.npz", "f.parquet"]
RETRIED = ["4.wav"]  # what cannot be read, whenever its shard is kept
COLUMNS = ["clip_id", "label", "fold", "split", "group", "notes", "sizes", "low"]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(feature_run, "CLIPS_A_SHARD", 3)
    monkeypatch.setattr(feature_shards, "CLIPS_A_SHARD", 3)


def row_of(clip):
    sound = or_reason(lambda clip: load_sound(clip, 2000), clip)
    if isinstance(sound, str):
        return Row(clip, sound)
    sizes = np.abs(np.fft.rfft(sound.waveform, 16)).astype(np.float32)
    return Row(as_heard(clip, sound), {"sizes": sizes, "low": sizes[:2] / 3})


def rows_of(clips):
    return ([row_of(clip)] for clip in clips)


def windows_of(clips):
    """As many windows as the clip's name says."""
    for clip in clips:
        row, count = row_of(clip), int(clip.clip_id[0])
        names = [replace(clip, clip_id=segment_id(clip.clip_id, at), group=clip.clip_id) for at in range(count)]
        failed = isinstance(row.features, str)
        yield [row] if failed else [Row(name, row.features, float(at)) for at, name in enumerate(names)]


class Counted:
    """`rows_of`, and which clips it was asked for; after `stop` of them it fails as a full disk or a bug does."""

    def __init__(self, stop=None, error=RuntimeError, inner=rows_of):
        self.asked, self.stop, self.error, self.inner = [], stop, error, inner

    def __call__(self, clips):
        for rows in self.inner(clips):
            if len(self.asked) == self.stop:
                raise self.error
            self.asked.append(rows[0].clip.clip_id)
            yield rows


@pytest.fixture
def clips(tmp_path):
    """Eleven: one is no audio, one silent, one computed; two are copies of one recording, in different shards."""
    result = []
    (tmp_path / "audio").mkdir()
    for number in range(11):
        path = tmp_path / "audio" / f"{number}.wav"
        sound = np.zeros(100, np.float32) if number == 5 else noise(100 + 9 * number, seed=0 if number == 9 else number)
        soundfile.write(path, noise(100, seed=0) if number in (0, 9) else sound, 2000, subtype="FLOAT")
        result.append(Clip(path.name, path, (NAMES[number % 2],), fold=number % 3, split="train", group="é" * number))
    (tmp_path / "audio" / "4.wav").write_text("no audio")
    result[9] = replace(result[9], labels=("cat",), group="")
    computed = Clip("=computed", None, ("cat",), synthesise=lambda: (noise(50), 2000))
    return [*result[:7], computed, *result[7:]]


def keep(output, clips, names=NAMES, rows_of=rows_of, settings=SETTINGS, **more):
    found = feature_run.compute(output, clips, names, settings, rows_of, **more)
    return found, feature_run.publish(output)


def in_memory(clips, names=NAMES, rows_of=rows_of):
    table, failures = FeatureTable.from_rows(chain.from_iterable(rows_of(clips)), names)
    return replace(table, weights_sha256={"sizes": "abc"}), failures


def assert_same(table, other):
    assert [*table.layers] == [*other.layers]
    for name, values in table.layers.items():
        assert (values.dtype, values.tobytes()) == (np.float32, other.layers[name].tobytes())
    for name in ("clip_ids", "labels", "folds", "splits", "times", "groups", "notes"):
        mine, its = getattr(table, name), getattr(other, name)
        assert (mine is None) == (its is None), name
        assert mine is None or (mine.dtype.kind == its.dtype.kind and mine.tolist() == its.tolist()), name
    assert (table.label_names, table.weights_sha256) == (other.label_names, other.weights_sha256)


def content_of(output):
    """Every byte of an output."""
    return {path.name: path.read_bytes() for path in ([*output.iterdir()] if output.is_dir() else [output])}


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


# ---- what is written


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_table_is_the_one_in_memory(clips, tmp_path, name):
    found, n_rows = keep(tmp_path / name, clips)
    table, failures = in_memory(clips)
    assert table.groups[[0, 9]].tolist() == ["copies of 0.wav"] * 2
    assert_same(FeatureTable.load(tmp_path / name), table)
    assert found.failures == failures
    assert failures[0][0] == "4.wav"
    assert ["; ".join(notes) for notes in found.notes] == table.notes.tolist()
    assert n_rows == len(table) == 11
    assert names_in(tmp_path) == ["audio", name]


KINDS = {
    "tags": ([("a", "b"), (), ("b",), (), (), ()], ["a", "b"], [[1, 1], [0, 0], [0, 1], [0, 0], [0, 0], [0, 0]]),
    "unlabelled": ([()] * 6, [], [-1] * 6),
    "target": ([0.5, -1 / 3, 0.0, 1.0, 2.0, 3.0], ["mood"], [0.5, -1 / 3, 0.0, 1.0, 2.0, 3.0]),
    "targets": ([(1 / 3, n) for n in range(6)], ["a", "b"], [[1 / 3, n] for n in range(6)]),
}


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_every_kind(clips, tmp_path, kind, name):
    of_clips, names, expected = KINDS[kind]
    which = "targets" if "target" in kind else "labels"
    values = [(value,) if isinstance(value, float) else value for value in of_clips]
    few = [replace(clip, **({"labels": ()} | {which: value})) for clip, value in zip(clips[5:11], values, strict=True)]
    keep(tmp_path / name, few, names)
    loaded = FeatureTable.load(tmp_path / name)
    assert loaded.labels.tolist() == expected
    assert_same(loaded, in_memory(few, names)[0])


@pytest.mark.parametrize("name", OUTPUTS)
def test_windows_of_recordings(clips, tmp_path, name):
    few = [clips[1], clips[4], clips[3], clips[2], clips[6], clips[5]]
    keep(tmp_path / name, few, rows_of=windows_of)
    table = FeatureTable.load(tmp_path / name)
    assert_same(table, in_memory(few, rows_of=windows_of)[0])
    assert table.times.tolist() == [*chain.from_iterable(map(float, range(n)) for n in (1, 3, 2, 6, 5))]


def test_other_programs_read_the_folder(clips, tmp_path):
    keep(tmp_path / "f.parquet", clips)
    frame, table = pd.read_parquet(tmp_path / "f.parquet"), in_memory(clips)[0]
    assert [*frame] == COLUMNS
    for column, values in (("clip_id", table.clip_ids), ("fold", table.folds), ("group", table.groups)):
        assert frame[column].tolist() == values.tolist()
    assert frame["label"].tolist() == [NAMES[label] for label in table.labels]
    np.testing.assert_array_equal(np.stack([*frame["sizes"]]), table.layers["sizes"])
    schema = parquet.read_schema(tmp_path / "f.parquet" / "part-00000.parquet")
    assert [str(schema.field(name).type) for name in ("fold", "sizes")] == [
        "int64",
        "fixed_size_list<element: float>[9]",
    ]


@pytest.mark.parametrize("is_tagged", [False, True])
def test_a_table_in_memory_is_saved_as_a_folder(clips, tmp_path, is_tagged):
    table = in_memory(clips)[0]
    if is_tagged:
        table = replace(table, labels=np.eye(2, dtype=np.int64)[table.labels])
    table.save(tmp_path / "f.parquet")
    assert len(names_in(tmp_path / "f.parquet")) == 5
    assert_same(FeatureTable.load(tmp_path / "f.parquet"), table)
    table.save(tmp_path / "f.parquet")
    with pytest.raises(InputError, match="a layer is called 'fold', as another column"):
        table.with_layer_names({"sizes": "fold", "low": "low"}).save(tmp_path / "f.parquet")
    assert_same(FeatureTable.load(tmp_path / "f.parquet"), table)


def test_a_table_without_clips_is_no_folder(clips, tmp_path):
    with pytest.raises(InputError, match=r"^table: has no clips, .* save it as \.npz$"):
        FeatureTable.of_clips({"low": np.zeros((0, 2), np.float32)}, [], NAMES).save(tmp_path / "f.parquet")
    assert names_in(tmp_path) == ["audio"]


def test_nothing_that_can_be_read(clips, tmp_path):
    assert keep(tmp_path / "f.parquet", [clips[4]])[1] == 0
    assert names_in(tmp_path) == ["audio"]


# ---- going on


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("stop", [0, 2, 3, 7, 11])
def test_a_run_goes_on_where_it_ended(clips, tmp_path, name, stop):
    keep(tmp_path / "whole" / name, clips)
    with pytest.raises(RuntimeError):
        keep(tmp_path / "new" / name, clips, rows_of=Counted(stop))
    with pytest.raises(InputError, match=r"is not finished; .*run the same command again, which goes on"):
        FeatureTable.load(tmp_path / "new" / name)
    rest = Counted()
    keep(tmp_path / "new" / name, clips, rows_of=rest)
    assert rest.asked == RETRIED * (stop >= 6) + [clip.clip_id for clip in clips[stop // 3 * 3 :]]
    assert content_of(tmp_path / "new" / name) == content_of(tmp_path / "whole" / name)
    assert names_in(tmp_path / "new") == [name]


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
import test_feature_run as t
from keras_audio_transfer.feature_tables import run as feature_run
feature_run.CLIPS_A_SHARD = 3
folder, output = map(Path, sys.argv[3:])
print("ready", flush=True)
t.keep(output, t.many(folder), rows_of=t.slowly)
"""


def many(folder):
    return [Clip(f"{n}.wav", folder / f"{n}.wav", (NAMES[n % 2],)) for n in range(60)]


def slowly(clips):
    for rows in rows_of(clips):
        time.sleep(0.005)
        yield rows


def kill_after(seconds, folder, output):
    """Whether a run was killed so many seconds after it began to read, before it had ended."""
    command = [sys.executable, "-c", KILLED, ROOT, ROOT / "tests", folder, output]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(seconds)
        process.kill()
        return process.wait() == -signal.SIGKILL


@pytest.mark.skipif(os.name == "nt", reason="no process can be killed by a signal there")
@pytest.mark.slow
@pytest.mark.parametrize("name", OUTPUTS)
def test_killed_at_ten_random_moments(tmp_path, name):
    folder, was_killed = tmp_path / "audio", 0
    folder.mkdir()
    for number in range(60):
        soundfile.write(folder / f"{number}.wav", noise(100, seed=number % 50), 2000)
    keep(tmp_path / "whole" / name, many(folder))
    rng = np.random.default_rng()
    for number in range(10):
        output = tmp_path / str(number) / name
        for seconds in rng.uniform(0, 0.8, 2):
            was_killed += kill_after(seconds, folder, output)
        keep(output, many(folder))
        assert content_of(output) == content_of(tmp_path / "whole" / name)
        assert names_in(output.parent) == [name]
    assert was_killed >= 5


def test_a_full_disk_loses_nothing(clips, tmp_path, monkeypatch):
    keep(tmp_path / "whole.npz", clips)
    real, left = parquet.write_table, [2]

    def write(table, place, **settings):
        real(table, place, **settings)
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(parquet, "write_table", write)
    with pytest.raises(OSError, match="No space left"):
        keep(tmp_path / "f.npz", clips)
    assert names_in(tmp_path / "f.npz.unfinished") == ["_run.json", "part-00000.parquet", "part-00001.parquet"]
    left[0] = 100
    rest = Counted()
    keep(tmp_path / "f.npz", clips, rows_of=rest)
    assert len(rest.asked) == 7
    assert content_of(tmp_path / "f.npz")["f.npz"] == content_of(tmp_path / "whole.npz")["whole.npz"]


def test_whole_batches_are_computed_together(clips, tmp_path):
    for stop in (0, 5, 9):
        with pytest.raises(RuntimeError):
            keep(tmp_path / f"{stop}.npz", clips, rows_of=Counted(stop), batch_clips=4)
        rest = Counted()
        keep(tmp_path / f"{stop}.npz", clips, rows_of=rest, batch_clips=4)
        assert len(rest.asked) == 12 - stop // 4 * 4 + (stop == 9)


# ---- what has changed


def recomputed(output, clips, **more):
    again = Counted(**more)
    keep(output, clips, rows_of=again)
    expected, _ = in_memory(clips)
    assert_same(FeatureTable.load(output), expected)
    return again.asked


def test_a_finished_folder_is_computed_again_where_files_have_changed(clips, tmp_path):
    output, path = tmp_path / "f.parquet", clips[1].path
    keep(output, clips)
    of_shard = [clip.clip_id for clip in clips[:3]] + RETRIED
    assert recomputed(output, clips) == RETRIED
    os.utime(path, ns=(1, 1))  # another date, the same content
    assert recomputed(output, clips) == RETRIED
    status = path.stat()
    soundfile.write(path, noise(109, seed=77), 2000, subtype="FLOAT")
    assert path.stat().st_size == status.st_size
    assert recomputed(output, clips) == of_shard
    soundfile.write(path, noise(50, seed=77), 2000, subtype="FLOAT")
    assert recomputed(output, clips) == of_shard
    soundfile.write(clips[10].path, noise(300, seed=78), 2000)  # no copy of the first one any longer
    assert len(recomputed(output, clips)) == 4
    assert FeatureTable.load(output).groups[0] == ""
    path.unlink()
    assert recomputed(output, clips) == of_shard
    retried = ["1.wav", *RETRIED]
    other = [*clips[:7], replace(clips[7], synthesise=lambda: (noise(51), 2000)), *clips[8:]]
    assert recomputed(output, other) == retried + [clip.clip_id for clip in other[6:9]]
    relabelled = [*other[:-1], replace(other[-1], labels=("dog",))]
    assert recomputed(output, relabelled) == retried + [clip.clip_id for clip in other[9:]]
    assert recomputed(output, relabelled[:-1]) == retried + [clip.clip_id for clip in other[9:-1]]
    assert recomputed(output, relabelled[:6]) == retried
    assert len(names_in(output)) == 4


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_clip_that_failed_is_tried_again(clips, tmp_path, name):
    def interrupted(clips):
        """A file as it was, on a disk that was away for a moment."""
        for rows in rows_of(clips):
            yield [Row(rows[0].clip, "1.wav: the disk is away")] if rows[0].clip.clip_id == "1.wav" else rows

    found, n_rows = keep(tmp_path / name, clips, rows_of=interrupted)
    assert ([clip for clip, _ in found.failures], n_rows) == (["1.wav", "4.wav"], 10)
    again = Counted()
    found, n_rows = keep(tmp_path / name, clips, rows_of=again)
    assert ([clip for clip, _ in found.failures], n_rows) == (["4.wav"], 11)
    if name.endswith(".parquet"):
        assert again.asked == ["1.wav", "0.wav", "1.wav", "2.wav", "4.wav"]
    keep(tmp_path / "whole" / name, clips)
    assert content_of(tmp_path / name) == content_of(tmp_path / "whole" / name)


def test_other_settings_replace_a_finished_folder_and_refuse_an_unfinished_one(clips, tmp_path):
    output, other = tmp_path / "f.parquet", {**SETTINGS, "audio": {"sample_rate": 1}}
    keep(output, clips)
    again = Counted(4)
    with pytest.raises(RuntimeError):
        keep(output, clips, rows_of=again, settings=other)
    assert len(again.asked) == 4
    assert_same(FeatureTable.load(output), in_memory(clips)[0])
    with pytest.raises(InputError, match=r"unfinished/_run.json: is of another run \(audio was .*; remove it"):
        keep(output, clips)
    (shard,) = (tmp_path / "f.parquet.unfinished").glob("part*")
    shard.write_bytes((output / "part-00001.parquet").read_bytes())
    with pytest.raises(InputError, match=r"unfinished/part-00000.parquet: is of a run with other settings; move it"):
        keep(output, clips, settings=other)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)


def edit(path):
    table = parquet.read_table(path)
    values = table["fold"].to_pylist()
    parquet.write_table(table.set_column(2, "fold", [[values[0] + 1, *values[1:]]]), path)


def edit_metadata(path):
    table = parquet.read_table(path)
    ((key, text),) = table.schema.metadata.items()
    parquet.write_table(table.replace_schema_metadata({key: text.replace(b'"position": 3', b'"position": 4')}), path)


def strip(path):
    pd.read_parquet(path).to_parquet(path)


@pytest.mark.parametrize("damage", [cut, flip, edit, edit_metadata, strip, lambda path: path.write_bytes(b"")])
def test_a_damaged_shard(clips, tmp_path, caplog, damage):
    keep(tmp_path / "whole.parquet", clips)
    output = tmp_path / "f.parquet"
    keep(output, clips)
    damage(output / "part-00001.parquet")
    with pytest.raises(InputError, match=r"part-00001.parquet: is damaged, was changed, or is no shard of features; "):
        FeatureTable.load(output)
    assert recomputed(output, clips) == [clip.clip_id for clip in clips[3:6]]
    (said,) = caplog.messages
    assert said == f"{output / 'part-00001.parquet'}: is damaged or was changed; its clips are computed again"
    assert content_of(output) == content_of(tmp_path / "whole.parquet")


def test_folders_that_are_not_a_whole_table(clips, tmp_path):
    output, other = tmp_path / "f.parquet", tmp_path / "g.parquet"
    keep(output, clips)
    keep(other, clips[3:])
    first, last = output / "part-00000.parquet", output / "part-00003.parquet"
    content = first.read_bytes()
    first.write_bytes((other / first.name).read_bytes())
    with pytest.raises(InputError, match=r"part-00000.parquet: is of another table than _index.json says; extract it"):
        FeatureTable.load(output)
    first.write_bytes(content)
    last.rename(tmp_path / last.name)
    with pytest.raises(InputError, match=r"_index.json: names part-00003.parquet, which is gone; extract it again"):
        FeatureTable.load(output)
    (tmp_path / last.name).rename(output / "part-00007.parquet")
    with pytest.raises(InputError, match=r"part-00007.parquet: is not of this table, says _index.json"):
        FeatureTable.load(output)
    for content in ("", "[]", '{"shards": {}}', '{"shards": {"../f": [1, ""]}}'):
        (output / "_index.json").write_text(content)
        with pytest.raises(InputError, match=r"_index.json: is damaged; extract it again"):
            FeatureTable.load(output)
    (output / "_index.json").unlink()
    with pytest.raises(InputError, match=r"f.parquet: is not finished; run the same command again"):
        FeatureTable.load(output)


# ---- other things in the way


def test_what_is_not_the_packages_is_not_touched(clips, tmp_path):
    output = tmp_path / "f.parquet"
    output.mkdir()
    (output / "mine.parquet").touch()
    table = in_memory(clips)[0]
    for write in (lambda: table.save(output), lambda: keep(output, clips)):
        with pytest.raises(InputError, match=r"f.parquet: is no folder of features \(holds mine.parquet\), and would"):
            write()
    assert names_in(output) == ["mine.parquet"]
    (output / "mine.parquet").rename(output / "part-00000.parquet")
    with pytest.raises(InputError, match=r"is no folder of features \(has no _index.json\)"):
        table.save(output)
    (tmp_path / "g.npz.unfinished").mkdir()
    (tmp_path / "g.npz.unfinished" / "thesis").touch()
    with pytest.raises(InputError, match=r"g.npz.unfinished: has no _run.json, which says of which run it is"):
        keep(tmp_path / "g.npz", clips)
    (tmp_path / "h.parquet").touch()
    with pytest.raises(InputError, match=r"h.parquet: is a file; expected a folder of features, or nothing"):
        table.save(tmp_path / "h.parquet")


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("stray", ["notes.txt", "copy.parquet", ".mine"])
def test_a_file_of_the_users_is_not_taken_for_a_run_s(clips, tmp_path, name, stray):
    """Neither before the work nor when it came in the midst of it; and nothing of the work is lost."""
    unfinished = tmp_path / f"{name}.unfinished"
    with pytest.raises(RuntimeError):
        keep(tmp_path / name, clips, rows_of=Counted(4))
    (unfinished / stray).write_text("mine")
    before = content_of(unfinished)
    again = Counted()
    with pytest.raises(InputError, match=rf"{stray}: is of no run, and would be lost with it; move it away$"):
        keep(tmp_path / name, clips, rows_of=again)
    assert (again.asked, content_of(unfinished)) == ([], before)
    (unfinished / stray).unlink()

    def disturbed(clips):
        (unfinished / stray).write_text("mine")
        return rows_of(clips)

    with pytest.raises(InputError, match=rf"{stray}: is of no run"):
        keep(tmp_path / name, clips, rows_of=disturbed)
    (unfinished / stray).rename(tmp_path / "mine")
    assert recomputed(tmp_path / name, clips) == RETRIED
    assert names_in(tmp_path) == ["audio", name, "mine"]


@pytest.mark.parametrize("name", OUTPUTS)
def test_what_a_run_on_another_machine_has_left_half_written_goes(clips, tmp_path, name):
    unfinished = tmp_path / f"{name}.unfinished"
    unfinished.mkdir()
    for whole in ("_run.json", "_index.json", "part-00001.parquet"):
        (unfinished / f".{whole}.0123abcd.7.8.partial").touch()
    keep(tmp_path / name, clips)
    assert names_in(tmp_path) == ["audio", name]
    assert all(path.startswith(("_", "part-", name)) for path in content_of(tmp_path / name))
    recomputed(tmp_path / name, clips)


def test_a_folder_in_the_place_of_a_shard(clips, tmp_path):
    output = tmp_path / "f.parquet"
    with pytest.raises(RuntimeError):
        keep(output, clips, rows_of=Counted(4))
    (tmp_path / "f.parquet.unfinished" / "part-00002.parquet").mkdir()
    again = Counted()
    with pytest.raises(InputError, match=r"unfinished/part-00002\.parquet: is a folder among .* a run; move it away$"):
        keep(output, clips, rows_of=again)
    assert not again.asked
    (tmp_path / "f.parquet.unfinished" / "part-00002.parquet").rmdir()
    keep(output, clips)
    (output / "part-00009.parquet").mkdir()
    with pytest.raises(
        InputError, match=r"is no folder of features \(holds part-00009\.parquet\), and would be replaced"
    ):
        keep(output, clips)
    assert (output / "part-00009.parquet").is_dir()


@pytest.mark.parametrize("name", OUTPUTS)
def test_two_runs_at_once(tmp_path, name):
    with only_writer(tmp_path / name), pytest.raises(InputError, match="another run writes there; wait for it"):
        run_main("mfcc", "--dataset", "synthetic", "--output", tmp_path / name)


def test_parquet_is_imported_only_where_it_is_needed():
    code = "import sys, keras_audio_transfer.commands.extract; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_memory_does_not_grow_with_the_clips(tmp_path):
    def wide(clips):
        return ([Row(clip, {"a": np.ones(20_000, np.float32)})] for clip in clips)

    def peak(n_clips):
        clips = [Clip(f"{n}", None) for n in range(n_clips)]
        tracemalloc.start()
        keep(tmp_path / f"{n_clips}.parquet", clips, [], wide, {"weights_sha256": {"a": ""}})
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    peak(3)  # what is imported and cached counts once
    assert peak(120) < peak(12) + 20_000 * 4
