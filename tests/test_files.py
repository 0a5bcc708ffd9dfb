"""What is written is whole or not there."""

import csv
import errno
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT

from keras_audio_transfer import files
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import (
    atomic_publish,
    atomic_write,
    beside,
    only_writer,
    read_json,
    scratch_folder,
    temporary_files_beside,
    write_failures,
    write_json,
    write_table,
)

# ---- atomic_publish


def test_what_is_added_appears_whole_and_the_rest_stays_in_its_place(tmp_path):
    folder = tmp_path / "served"
    with atomic_publish(folder) as partial:
        (partial / "1").mkdir()
        (partial / "1" / "saved_model.pb").write_text("first")
        (partial / "card.json").write_text("old")
    first, ended, seen = (folder / "1").stat().st_ino, threading.Event(), []

    def poll():  # as a server does
        while not ended.is_set():
            seen.append([path.name for path in folder.iterdir() if path.name.isdecimal()])
            assert (folder / "1" / "saved_model.pb").read_text() == "first"
            if (folder / "2").exists():
                assert len([*(folder / "2").iterdir()]) == 100

    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(poll)
        with atomic_publish(folder) as partial:
            (partial / "2").mkdir()
            for number in range(100):
                (partial / "2" / str(number)).write_text("second")
            (partial / "card.json").write_text("new")
        n_seen = len(seen)
        while len(seen) < n_seen + 2 and not polling.done():
            time.sleep(0.001)
        ended.set()
        polling.result()
    assert (seen[0], sorted(seen[-1])) == (["1"], ["1", "2"])
    assert (folder / "1").stat().st_ino == first
    assert (folder / "card.json").read_text() == "new"
    assert {path.name for path in folder.iterdir()} == {"1", "2", "card.json"}


@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_is_replaced_only_if_told_so(tmp_path, replace):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "old").touch()

    def add():
        with atomic_publish(tmp_path, replace) as partial:
            (partial / "1").mkdir()
            (partial / "1" / "new").touch()

    if replace:
        add()
    else:
        with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path / '1'))}: exists; expected to add it"):
            add()
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["new" if replace else "old"]
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_nothing_is_added_where_the_block_fails(tmp_path):
    with pytest.raises(OSError, match="half way"), atomic_publish(tmp_path) as partial:  # noqa: PT012
        (partial / "2").mkdir()
        raise OSError("half way")
    assert [*tmp_path.iterdir()] == []


# ---- atomic_write


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "deep" / "er" / "a.txt"
    with atomic_write(path) as partial:
        partial.write_text("new")
        assert not path.exists()
        assert partial.parent == path.parent  # the last step is a rename on one disk
    assert path.read_text() == "new"
    assert names_in(path.parent) == ["a.txt"]


def test_a_file_is_replaced_when_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names_in(tmp_path) == ["a.txt"]


def test_a_folder_is_replaced_when_the_new_one_is_complete(tmp_path):
    path = tmp_path / "model"
    for content in ("old", "new"):
        with atomic_write(path) as partial:
            (partial / "1").mkdir(parents=True)
            (partial / "1" / f"{content}.pb").write_text(content)
            assert content == "old" or names_in(path / "1") == ["old.pb"]
    assert names_in(path / "1") == ["new.pb"]
    assert names_in(tmp_path) == ["model"]


class Interrupted(BaseException):
    """As a KeyboardInterrupt: no Exception."""


@pytest.mark.parametrize("error", [ValueError, OSError, Interrupted])
@pytest.mark.parametrize("old", [None, "file", "folder"])
@pytest.mark.parametrize("new", [None, "file", "folder"])
def test_after_an_exception_only_the_old_content_is_left(tmp_path, old, new, error):
    path = tmp_path / "a"
    if old == "file":
        path.write_text("old")
    elif old == "folder":
        path.mkdir()
        (path / "old.txt").write_text("old")
    with pytest.raises(error, match="half way"), atomic_write(path) as partial:  # noqa: PT012
        if new == "file":
            partial.write_text("half")
        elif new == "folder":
            (partial / "sub").mkdir(parents=True)
            (partial / "sub" / "half.txt").write_text("half")
        raise error("half way")
    assert names_in(tmp_path) == ([] if old is None else ["a"])
    if old:
        assert (path if old == "file" else path / "old.txt").read_text() == "old"


@pytest.mark.parametrize("write", [atomic_write, atomic_publish, scratch_folder])
@pytest.mark.parametrize(
    ("filled", "named"),
    [
        (lambda partial: OSError(errno.ENOSPC, "No space left on device"), "new"),
        (lambda partial: OSError(errno.EDQUOT, "Disk quota exceeded", str(partial / "a" / "b")), "new"),
        (lambda partial: RuntimeError("UNKNOWN: x; No space left on device [Op:SaveV2]"), "new"),
        (lambda partial: OSError(errno.ENOSPC, "No space left on device", "/elsewhere/c"), "/elsewhere/c"),
    ],
)
def test_a_full_disk_is_told_with_the_place_that_was_to_be_written(tmp_path, write, filled, named):
    with pytest.raises(OSError, match="No space left") as error, write(tmp_path / "new") as partial:
        raise filled(partial)
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == str(tmp_path / named)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("old", ["file", "folder"])
def test_the_old_content_stays_where_nothing_was_written(tmp_path, old):
    path = tmp_path / "a"
    inside = path if old == "file" else path / "old.txt"
    inside.parent.mkdir(exist_ok=True)
    inside.write_text("old")
    with pytest.raises(OSError, match="partial"), atomic_write(path):
        pass
    assert inside.read_text() == "old"
    assert names_in(tmp_path) == ["a"]


@pytest.mark.parametrize(("old", "new"), [("folder", "file"), ("file", "folder")])
def test_a_file_replaces_no_folder_and_a_folder_no_file(tmp_path, old, new):
    path = tmp_path / "a"
    inside = path if old == "file" else path / "old.txt"
    inside.parent.mkdir(exist_ok=True)
    inside.write_text("old")
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: is a {old}; "), atomic_write(path) as partial:  # noqa: PT012
        if new == "folder":
            partial.mkdir()
        else:
            partial.write_text("new")
    assert inside.read_text() == "old"
    assert names_in(tmp_path) == ["a"]


def test_a_folder_comes_back_where_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").touch()
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(Interrupted("between the two renames")))
    with pytest.raises(Interrupted), atomic_write(path) as partial:
        partial.mkdir()
    assert names_in(path) == ["old"]
    assert names_in(tmp_path) == ["model"]


@pytest.mark.parametrize("n_bytes", [1, 59, 60, 61, 200, 255])
@pytest.mark.parametrize("letter", ["a", "ä"])
def test_a_name_of_any_length_that_the_disk_takes(tmp_path, letter, n_bytes):
    path = tmp_path / (letter * (n_bytes // len(letter.encode())) or "a")
    for content in ("old", "new"):
        with atomic_write(path) as partial:
            assert len(os.fsencode(partial.name)) <= 143  # what encrypted disks take
            partial.write_text(content)
        with only_writer(path):
            pass
    assert path.read_text() == "new"
    assert names_in(tmp_path) == [path.name]
    state = beside(path, ".training")
    state.touch()
    assert state.name == f"{path.name}.training" or n_bytes > 200


def test_what_is_written_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    path, synced = tmp_path / "model", []
    real = os.fsync

    def fsync(handle):
        synced.append((os.readlink(f"/proc/self/fd/{handle}"), path.exists()))
        real(handle)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("the system does not say which file a handle is")
    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_write(path) as partial:
        (partial / "1").mkdir(parents=True)
        for name in ("card.json", "1/saved_model.pb"):
            (partial / name).write_text("new")
    before = [Path(place).relative_to(partial).as_posix() for place, named in synced if not named]
    assert sorted(before) == [".", "1", "1/saved_model.pb", "card.json"]
    assert before.index("1") > before.index("1/saved_model.pb")
    assert [(place, named) for place, named in synced if named] == [(str(tmp_path), True)]
    synced.clear()
    with atomic_publish(path) as partial:
        (partial / "card.json").write_text("newer")
    assert [place.rpartition("/")[2] for place, _ in synced] == ["card.json", partial.name, "model"]


# ---- what killed processes leave


KILLED = """
import os, signal, sys
from pathlib import Path
from keras_audio_transfer.files import atomic_publish, atomic_write, only_writer, scratch_folder
kind, path = sys.argv[1], Path(sys.argv[2])
kinds = {"write": atomic_write, "publish": atomic_publish, "scratch": scratch_folder, "lock": only_writer}
with kinds[kind](path) as new:
    if kind == "write":
        new.mkdir()
        if len(sys.argv) > 3:  # between its two renames
            Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    if kind == "lock":
        print("locked", flush=True)
        sys.stdin.read()
    else:
        (new / "half").write_text("half")
    if len(sys.argv) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
"""
needs_signals = pytest.mark.skipif(os.name == "nt", reason="no process can be killed by a signal there")


def killed(*arguments):
    """Run `KILLED` to its end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, *map(str, arguments)]
    run = subprocess.run(command, env=environment, check=False, stdin=subprocess.DEVNULL)
    assert run.returncode == -signal.SIGKILL


def write(path, content="new"):
    with atomic_write(path) as partial:
        partial.write_text(content)


@needs_signals
@pytest.mark.parametrize("kind", ["write", "publish", "scratch"])
def test_the_next_write_removes_what_a_killed_process_left(kind, tmp_path):
    path = tmp_path / "a"
    if kind == "publish":
        path.mkdir()
    killed(kind, path)
    folder = path if kind == "publish" else tmp_path
    assert any(name.endswith(".partial") for name in names_in(folder))
    write(folder / "other")
    assert names_in(folder) == ["other"]


@needs_signals
def test_a_folder_that_a_killed_process_had_moved_away_comes_back(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").touch()
    killed("write", path, "between")
    assert not path.exists()
    write(tmp_path / "other")
    assert names_in(tmp_path) == ["model", "other"]
    assert names_in(path) == ["old"]


def test_nothing_else_is_removed(tmp_path):
    host, pid = files._host(), os.getpid()
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], check=True, capture_output=True)
    dead = int(dead.stdout)
    kept = {
        f".a.{host}.{pid}.1.partial": "it lives",
        f".a.{'0' * 8}.{dead}.1.partial": "of another host",
        f".a.{dead}.1.partial": "names no host",
        f".a.{host}.{dead}.1.partial.txt": "of another form",
        f"a.{host}.{dead}.1.partial": "not hidden",
        f".a.{host}.{dead}.partial": "of another form",
    }
    for name, content in kept.items():
        (tmp_path / name).write_text(content)
    gone = tmp_path / f".a\nb.{host}.{dead}.1.partial"
    if os.name != "nt":
        gone.touch()
    write(tmp_path / "new")
    assert names_in(tmp_path) == sorted([*kept, "new"])


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owner there")
def test_what_another_user_left_stays(tmp_path, monkeypatch):
    left = tmp_path / f".a.{files._host()}.{2**22 + 1}.1.partial"
    left.touch()
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    write(tmp_path / "new")
    assert left.exists()


def test_a_folder_is_searched_once_however_many_files_are_written(tmp_path, monkeypatch):
    searched = []
    real = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: searched.append(path) or real(path))
    for number in range(5):
        write(tmp_path / str(number))
    assert searched == [tmp_path]


def test_temporary_files_of_all_libraries_lie_beside_what_is_written(tmp_path):
    before = tempfile.gettempdir()
    with suppress(KeyboardInterrupt), temporary_files_beside(tmp_path / "model"):
        assert Path(tempfile.mkdtemp()).is_relative_to(tmp_path)
        assert [path.name.startswith(".model.") for path in tmp_path.iterdir()] == [True]
        raise KeyboardInterrupt
    assert not any(tmp_path.iterdir())
    assert tempfile.gettempdir() == before


def test_a_scratch_folder_is_on_the_same_disk_and_leaves_nothing(tmp_path):
    with scratch_folder(tmp_path / "deep" / "data") as folder:
        assert folder.parent == tmp_path / "deep"
        (folder / "a").mkdir()
        (folder / "a" / "b").touch()
        (folder / "a").rename(tmp_path / "deep" / "data")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [
        "deep",
        "deep/data",
        "deep/data/b",
    ]


# ---- one run at a time


REFUSED = r": another run writes there; wait for it, or name another folder$"


def test_a_second_writer_is_refused_until_the_first_has_ended(tmp_path, monkeypatch):
    path = tmp_path / "new" / "out"
    with only_writer(path):
        assert names_in(path.parent) == [".out.lock"]
        with pytest.raises(InputError, match=f"^{re.escape(str(path))}{REFUSED}"), only_writer(path):
            pass
        assert names_in(path.parent) == [".out.lock"], "the refused one took the lock away"
        with only_writer(path.with_name("other")):
            pass
        (tmp_path / "link").symlink_to(path)
        with pytest.raises(InputError, match=REFUSED), only_writer(tmp_path / "link"):
            pass
        monkeypatch.chdir(path.parent)
        with pytest.raises(InputError, match=f"^out{REFUSED}"), only_writer(Path("out")):
            pass
    assert names_in(tmp_path) == ["link"]
    with pytest.raises(Interrupted), only_writer(path):
        raise Interrupted
    with only_writer(path):
        path.mkdir()
    assert names_in(path.parent) == ["out"]


@needs_signals
def test_the_lock_ends_with_a_process_that_is_killed(tmp_path):
    path = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, "lock", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(InputError, match=REFUSED), only_writer(path):
            pass
        process.kill()
    with only_writer(path):
        pass
    assert names_in(tmp_path) == []


def contend(path, n_times):
    """Take the lock over and over; the number of times that somebody else had it, too."""
    wrong, inside = 0, Path(path).with_name("inside")
    for _ in range(n_times):
        try:
            with only_writer(Path(path)):
                try:
                    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    wrong += 1
                inside.unlink(missing_ok=True)
        except InputError:
            pass
    return wrong


def test_the_lock_is_one_however_often_it_is_made_and_removed(tmp_path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert pool.starmap(contend, [(str(tmp_path / "out"), 500)] * 4) == [0] * 4
    assert names_in(tmp_path) == []


def test_where_nothing_can_be_written_beside_a_folder_its_lock_is_in_it(tmp_path, monkeypatch):
    path = tmp_path / "mounted"
    path.mkdir()
    real = Path.open

    def refuse(self, *args, **kwargs):
        if self.parent == tmp_path:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    with only_writer(path):
        assert names_in(path) == [".lock"]
        with pytest.raises(InputError, match=REFUSED), only_writer(path):
            pass
    assert names_in(path) == []
    with pytest.raises(PermissionError), only_writer(tmp_path / "gone"):
        pass


# ---- tables and cards


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"\xff\xfe\x00", b"[" * 100_000, b"\0" * 100, b"nul"])
def test_json_that_is_none_is_told_apart(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    assert read_json(tmp_path / "a.json") is None


def test_json_is_readable_text(tmp_path):
    path = tmp_path / "card.json"
    write_json(path, {"labels": ["Käse", "鳥"], "n": 1})
    assert path.read_text(encoding="utf-8") == '{\n  "labels": [\n    "Käse",\n    "鳥"\n  ],\n  "n": 1\n}\n'


def test_json_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "card.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"a": 1, "b": object()})
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert names_in(tmp_path) == ["card.json"]


def test_a_table_quotes_what_needs_it(tmp_path):
    path = tmp_path / "table.csv"
    rows = [["a, b", 'said "no"'], ["Käse", "two\nlines"]]
    write_table(path, ["clip", "reason"], rows)
    with path.open(encoding="utf-8", newline="") as file:
        assert [*csv.reader(file)] == [["clip", "reason"], *rows]
    assert b"\r" not in path.read_bytes()


def test_failures_are_listed_beside_the_output(tmp_path):
    output = tmp_path / "out" / "features.npz"
    write_failures(output, [("b.wav", "b.wav: empty file"), ("ä, ö.wav", "ä, ö.wav: truncated; copy it")])
    with (tmp_path / "out" / "failed.csv").open(encoding="utf-8", newline="") as file:
        table = [*csv.reader(file)]
    assert table == [
        ["clip", "reason"],
        ["b.wav", "b.wav: empty file"],
        ["ä, ö.wav", "ä, ö.wav: truncated; copy it"],
    ]


@pytest.mark.parametrize("failures", [[], [("a", "b")]])
def test_a_file_of_the_users_with_that_name_stays(tmp_path, failures):
    (tmp_path / "failed.csv").write_text("exam,grade\n")
    with pytest.raises(InputError, match=r"failed\.csv: is no list of failed clips, and one would be written"):
        write_failures(tmp_path / "features.npz", failures)
    assert (tmp_path / "failed.csv").read_text() == "exam,grade\n"


def test_no_failures_no_list(tmp_path):
    output = tmp_path / "features.npz"
    write_failures(output, [])
    assert names_in(tmp_path) == []
    write_failures(output, [("a", "b")])
    write_failures(output, [])  # of an earlier run
    assert names_in(tmp_path) == []
