"""What is written is whole or not there."""

import csv
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import atomic_publish, atomic_write, write_failures, write_json, write_table

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


# ---- tables and cards


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


def test_no_failures_no_list(tmp_path):
    output = tmp_path / "features.npz"
    write_failures(output, [])
    assert names_in(tmp_path) == []
    write_failures(output, [("a", "b")])
    write_failures(output, [])  # of an earlier run
    assert names_in(tmp_path) == []
