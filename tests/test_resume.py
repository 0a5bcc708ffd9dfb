"""What was recorded is there after a kill; a half-written line does not count; other settings are refused."""

import errno
import json
import os
import time

import pytest

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.resume import Journal, check_settings


def test_values_come_back_exactly(tmp_path):
    values = {"a": [0.1 + 0.2, 1 / 3], "b": [1e-300], "Käse": []}
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.update(values)
        assert dict(journal) == values
    with Journal(tmp_path / "j.jsonl") as journal:
        assert dict(journal) == values
        assert "c" not in journal


def test_values_are_on_disk_at_once(tmp_path):
    journal = Journal(tmp_path / "j.jsonl")
    journal["a"] = [1.5]
    with Journal(tmp_path / "j.jsonl") as other:
        assert other["a"] == [1.5]


@pytest.mark.parametrize("torn", [b'["b", [2.', b'["b", [2.0]]', b"\xff"])
def test_a_half_written_line_does_not_count(tmp_path, torn):
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'["a", [1.0]]\n' + torn)
    with Journal(path) as journal:
        assert dict(journal) == {"a": [1.0]}
        journal["c"] = [3.0]
    with Journal(path) as journal:
        assert dict(journal) == {"a": [1.0], "c": [3.0]}


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b"\0" * 100,
        b'["b", [1]]',
        b'["b", [true]]',
        b'["b", [1.0], 2]',
        b"null",
        b"7",
        b'"ab"',
        b"",
        b"a\r",
    ],
)
def test_other_content_is_refused(tmp_path, line):
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'["a", [1.0]]\n' + line + b'\n["c", [1.0]]\n')
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"j.jsonl, line 2: is damaged; remove the file to start again$"):
        Journal(path)
    assert path.read_bytes() == before


def test_a_changed_value_is_seen(tmp_path):
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.update({"a": [0.25, 1.0], "b": [2.0]})
    whole = path.read_bytes()
    for change in ((b"0.25", b"0.26"), (b"0.25, ", b""), (b'"a"', b'"c"')):
        path.write_bytes(whole.replace(*change))
        with pytest.raises(InputError, match=r"j.jsonl, line 1: is damaged"):
            Journal(path)


def test_an_empty_journal_is_one(tmp_path):
    (tmp_path / "j.jsonl").touch()
    with Journal(tmp_path / "j.jsonl") as journal:
        assert dict(journal) == {}


def test_values_are_synced_at_the_first_then_every_second_and_at_the_end(tmp_path, monkeypatch):
    synced, now = [], [100.0]
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(len((tmp_path / "j.jsonl").read_bytes().splitlines())))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Journal(tmp_path / "j.jsonl") as journal:
        for number in range(1, 8):
            journal[str(number)] = [1.0]
            now[0] += 0.4
    assert synced == [1, 4, 7, 7]


@pytest.mark.parametrize(
    "line", [b"garbage", b"\xff", b'{"a": 1}', b"[1]", b'["b", 2]', b'["b", "2"]', b'["b", ["x"]]', b"[[], []]"]
)
def test_a_damaged_line_is_refused(tmp_path, line):
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'["a", [1.0]]\n' + line + b"\n")
    with pytest.raises(InputError, match=r"j.jsonl, line 2: is damaged; remove the file to start again"):
        Journal(path)
    assert path.read_bytes().startswith(b'["a", [1.0]]\n' + line)


def test_settings(tmp_path):
    path = tmp_path / "deep" / "config.json"
    settings = {"protocol": "nested", "scale": True, "grid": [0.1, "auto"]}
    check_settings(path, settings)
    assert json.loads(path.read_text()) == settings
    check_settings(path, settings)
    remedy = "remove it together with the results beside it, or choose another place"
    message = rf"config.json: is of another run \(scale was true, is false\); {remedy}"
    with pytest.raises(InputError, match=message):
        check_settings(path, {**settings, "scale": False})
    with pytest.raises(InputError, match="seed was null, is 1"):
        check_settings(path, {**settings, "seed": 1})
    path.write_text("[]")
    with pytest.raises(InputError, match=f"config.json: not the settings of a run; {remedy}"):
        check_settings(path, settings)


def test_a_setting_that_an_older_version_did_not_write(tmp_path):
    path = tmp_path / "settings.json"
    check_settings(path, {"a": 1})
    check_settings(path, {"a": 1, "clips": "x"}, added=["clips"])
    with pytest.raises(InputError, match="is of another run"):
        check_settings(path, {"a": 1, "clips": "x"})
    path.unlink()
    check_settings(path, {"a": 1, "clips": "x"}, added=["clips"])
    with pytest.raises(InputError, match=r'is of another run \(clips was "x", is "y"\)'):
        check_settings(path, {"a": 1, "clips": "y"}, added=["clips"])


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"[]", b"null", b"7", b'"a"', b"\xff\0", b"[" * 100_000])
def test_damaged_settings_are_refused(tmp_path, content):
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"settings.json: not the settings of a run; remove it together with the"):
        check_settings(path, {"a": 1})
    assert path.read_bytes() == content


@pytest.mark.parametrize("depth", [10, 500, 900, 950, 980, 990, 995])
def test_settings_as_deep_as_can_be_read_are_refused_too(tmp_path, depth):
    path = tmp_path / "settings.json"
    path.write_text('{"a": ' + "[" * depth + "]" * depth + ', "' + "b" * 500 + '": 1}')
    with pytest.raises(InputError, match=r"settings.json: (is of another run|not the settings of a run)") as error:
        check_settings(path, {"a": 1})
    assert len(str(error.value)) < len(str(path)) + 300


@pytest.mark.parametrize("same", [0, 10, 57, 200])
@pytest.mark.parametrize("rest", ["", " and more" * 10])
def test_long_settings_are_shown_where_they_differ(tmp_path, same, rest):
    was, now = (f"{'x' * same}{number}{rest}" for number in (4, 5))
    check_settings(tmp_path / "config.json", {"a": was})
    with pytest.raises(InputError, match=r"\(a was (.*4.*), is (.*5.*)\);") as error:
        check_settings(tmp_path / "config.json", {"a": now})
    assert len(str(error.value)) < len(str(tmp_path)) + 300


def test_a_full_disk_is_told_with_the_journal(tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    journal = Journal(tmp_path / "journal")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        journal["a"] = [1.0]
    assert error.value.filename == str(tmp_path / "journal")
