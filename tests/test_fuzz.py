"""Damaged files of every kind are read or refused; and what fuzz.py is to notice, it notices."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("resource", reason="limits of processes are those of POSIX")
import fuzz
from fuzz_kinds import KINDS, Kind

from keras_audio_transfer.errors import InputError


@pytest.mark.parametrize("name", [name for name in KINDS if name != "wav"])
def test_each_is_read_or_refused(name):
    said = []
    counts = fuzz.run(KINDS[name](), 0, range(100), say=said.append)
    assert said == []
    assert counts["accepted"] > 10
    assert counts["refused"] > 10
    assert counts.total() == 100


@pytest.mark.slow
def test_wav_files_in_the_graph_are_read_or_refused():
    """In a process of its own: one that has used TensorFlow cannot be copied."""
    command = [sys.executable, fuzz.__file__, "wav", "--count", "600"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert re.fullmatch(
        r"wav: 600 inputs, \d{3} accepted, \d{3} refused, 0 crash, .* 0 disagreement; \d+ s\n", run.stdout
    )
    assert run.returncode == 0, run.stderr


def test_an_input_depends_on_its_kind_seed_and_number():
    card, table = KINDS["card"](), KINDS["manifest"]()
    assert fuzz.case(card, 0, 7) == fuzz.case(KINDS["card"](), 0, 7)
    assert len({fuzz.case(kind, seed, n) for kind in (card, table) for seed in (0, 1) for n in (7, 8)}) == 8


class Target(Kind):
    """Half of its inputs are bad: what is done with those is given."""

    name = "target"
    seeds = (("a.txt", b"good"),)

    def __init__(self, read=lambda: None, examine=lambda: None):
        self.functions = read, examine

    def mutated(self, rng):
        return "a.txt", b"bad" if rng.integers(2) else b"good"

    def read(self, path):
        if path.read_bytes() == b"bad":
            self.functions[0]()

    def examine(self, path, result):
        if path.read_bytes() == b"bad":
            self.functions[1]()


def refuse():
    raise InputError("no")


def fail():
    raise KeyError("a")


def differ():
    raise AssertionError("1 is not 2")


def grow():
    np.ones(20_000_000)


def hang():
    time.sleep(60)


def ask_for_too_much():
    np.empty(6 << 30, np.uint8)


WRONG = {
    "crash": (Target(os.abort), r"exit code -6; File .*"),
    "hang": (Target(hang), r'no answer in 1 s; File ".*", line \d+ in hang'),
    "growth": (Target(grow), r"1\d\d MB more than after the start; accepted "),
    "exception": (Target(fail), r"KeyError: 'a' \(.*test_fuzz.py:\d+\)"),
    "exception afterwards": (Target(examine=fail), r"KeyError: 'a' \(.*"),
    "exception of memory": (Target(ask_for_too_much), r"\w*MemoryError: Unable to allocate 6\.00 GiB .*"),
    "disagreement": (Target(examine=differ), r"AssertionError: 1 is not 2 \(.*"),
    "disagreement by a refusal": (Target(examine=refuse), r"InputError: no \(.*"),
}


if sys.platform != "linux":  # elsewhere nothing limits what is asked for and not used
    del WRONG["exception of memory"]


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_noticed_and_the_next_input_is_tried(tmp_path, name):
    (target, message), outcome, said = WRONG[name], name.split()[0], []
    bad = [number for number in range(6) if fuzz.case(target, 3, number)[1] == b"bad"]
    assert 0 < len(bad) < 5
    limits = fuzz.Limits(seconds=1 if outcome == "hang" else 60, growth_mb=100)
    counts = fuzz.run(target, 3, range(6), limits, tmp_path / "kept", said.append)
    assert counts == {outcome: len(bad), "accepted": 6 - len(bad)}
    for number, line in zip(bad, said, strict=True):
        assert re.fullmatch(rf"target --seed 3 --only {number}: {outcome}: {message}", line)
        assert (tmp_path / "kept" / f"target-3-{number}-a.txt").read_bytes() == b"bad"


def test_a_refusal_is_no_violation():
    assert fuzz.run(Target(refuse), 3, range(6)).keys() == {"accepted", "refused"}


def test_an_intact_file_that_is_refused_is_said_at_the_start():
    target = Target(refuse)
    target.seeds = (("a.txt", b"good"), ("b.txt", b"bad"))
    with pytest.raises(RuntimeError, match=r"^target: does not start, or does not accept what is intact .*: b\.txt\)$"):
        fuzz.run(target, 0, range(3))


def test_the_exit_code_says_whether_there_was_a_violation(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(KINDS, "target", lambda: Target(examine=differ))
    assert fuzz.main(["state", "--count", "5"]) == 0
    assert re.fullmatch(r"state: 5 inputs, \d accepted, \d refused, 0 crash, .*; \d+ s\n", capsys.readouterr().out)
    assert fuzz.main(["target", "--seed", "3", "--count", "6", "--keep", str(tmp_path)]) == 1
    *violations, summary = capsys.readouterr().out.splitlines()
    assert len(violations) == len([*Path(tmp_path).iterdir()]) > 0
    assert f"{len(violations)} disagreement; " in summary
    number = re.search(r"--only (\d+)", violations[0])[1]
    assert fuzz.main(["target", "--seed", "3", "--only", number]) == 1
    assert capsys.readouterr().out.splitlines()[0] == violations[0]


def test_an_unknown_kind_is_named(capsys):
    with pytest.raises(SystemExit, match="2"):
        fuzz.main(["sounds"])
    assert "unknown KIND sounds; choose from audio, card, " in capsys.readouterr().err
