"""Damaged files of every kind that the package reads: each is read, or refused with an `InputError`; nothing else.

    python tests/fuzz.py                                      # all kinds, 1000 inputs of each
    python tests/fuzz.py audio card --seed 3 --count 20000 --keep damaged
    python tests/fuzz.py audio --seed 3 --only 1234           # one of them again

Violations are crashes, hangs, exceptions of other types, memory beyond what a file is worth, and files that are read in
two ways with two results. An input depends on its kind, the seed and its number only, as long as the libraries that
encode the intact sounds are the same. The exit code is 1 where there is a violation.
"""

import argparse
import faulthandler
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fuzz_kinds import KINDS, Kind

from keras_audio_transfer.errors import InputError

VIOLATIONS = ("crash", "hang", "exception", "growth", "disagreement")
_FORK = multiprocessing.get_context("fork")  # what the kinds hold need not be made again after a crash
_SECONDS_TO_START = 120
_ADDRESS_SPACE = 4 << 30  # bytes beyond those at the start, so that a wrong size does not take the machine's memory


# ---- the process that reads


def case(kind: Kind, seed: int, number: int) -> tuple[str, bytes]:
    """Name and content of an input, which depends on nothing else."""
    return kind.mutated(np.random.default_rng([seed, zlib.crc32(kind.name.encode()), number]))


def _tried(kind, folder, name, content, after_step=lambda: None):
    """What becomes of an input, and what is to be said of it."""
    path = folder / "input" / name
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    path.write_bytes(content)
    try:
        result = kind.read(path)
    except InputError:
        return "refused", ""
    except Exception as error:
        return "exception", _one_line(error)
    try:
        for _ in kind.examine(path, result) or ():
            after_step()
    except (AssertionError, InputError) as error:
        return "disagreement", _one_line(error)
    except Exception as error:
        return "exception", _one_line(error)
    return "accepted", ""


def _one_line(error):
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]} ({frames[-1].filename}:{frames[-1].lineno})"


def _memory():
    """The most that this process has taken so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 2**20)


def _work(connection, others_end, kind, seed, folder):
    """Answer numbers with what becomes of these inputs."""
    others_end.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (1, 2):  # the libraries write to both
        os.dup2(os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    faulthandler.enable(2)
    kind.start(folder)
    refused = [name for name, content in kind.seeds if _tried(kind, folder, name, content)[0] != "accepted"]
    if sys.platform == "linux":
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + _ADDRESS_SPACE,) * 2)
    connection.send(("started", ", ".join(refused), _memory()))
    with suppress(EOFError):
        while True:
            name, content = case(kind, seed, connection.recv())
            os.ftruncate(2, 0)
            outcome = _tried(kind, folder, name, content, lambda: connection.send(None))
            connection.send((*outcome, _memory()))


class _Worker:
    """A process that reads inputs, seen from the one that watches it."""

    def __init__(self, kind, seed, folder):
        self._folder = folder
        (folder / "said").write_bytes(b"")
        self._connection, others_end = _FORK.Pipe()
        self._process = _FORK.Process(
            target=_work, args=(others_end, self._connection, kind, seed, folder), daemon=True
        )
        self._process.start()
        others_end.close()
        outcome, said, self._memory = self._answer(_SECONDS_TO_START)
        if outcome != "started" or said:
            self.close()
            raise RuntimeError(f"{kind.name}: does not start, or does not accept what is intact ({outcome}: {said})")

    def try_input(self, number, limits):
        self._connection.send(number)
        outcome, said, memory = self._answer(limits.seconds)
        if memory - self._memory > limits.growth_mb:
            return "growth", f"{memory - self._memory:.0f} MB more than after the start; {outcome} {said}"
        return outcome, said

    def _answer(self, seconds):
        try:
            while self._connection.poll(seconds):
                if (answer := self._connection.recv()) is not None:
                    return answer
            os.kill(self._process.pid, signal.SIGABRT)  # its last words are then where it was
            self._process.join(1)
            return "hang", f"no answer in {seconds:g} s; {self._last_words()}", 0
        except (EOFError, ConnectionError):
            self._process.join(10)
            return "crash", f"exit code {self._process.exitcode}; {self._last_words()}", 0

    def _last_words(self):
        text = (self._folder / "said").read_text(errors="replace")
        where = re.search(r"most recent call first\):\n\s*(.*)", text)
        return where[1] if where else " ".join(text[-300:].split())

    def close(self):
        self._process.kill()
        self._process.join()
        self._connection.close()


# ---- the process that watches


class Limits(NamedTuple):
    """What an input may take."""

    seconds: float = 5.0
    growth_mb: float = 300.0


LIMITS = Limits()


def run(
    kind: Kind,
    seed: int,
    numbers: Iterable[int],
    limits: Limits = LIMITS,
    keep: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Counter:
    """Try these inputs; how many came to which outcome.

    Args:
        kind: of input.
        seed: of all inputs together.
        numbers: of the inputs.
        limits: on each input; memory counts from the start of the process.
        keep: the folder for inputs that are violations.
        say: is told of each violation.
    """
    counts, worker = Counter(), None
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        try:
            for number in numbers:
                worker = worker or _Worker(kind, seed, Path(folder))
                outcome, said = worker.try_input(number, limits)
                counts[outcome] += 1
                if outcome not in VIOLATIONS:
                    continue
                say(f"{kind.name} --seed {seed} --only {number}: {outcome}: {said}")
                if keep is not None:
                    _keep(Path(folder), keep, f"{kind.name}-{seed}-{number}")
                if outcome in ("crash", "hang", "growth"):
                    worker.close()
                    worker = None
        finally:
            if worker:
                worker.close()
    return counts


def _keep(folder, keep, name):
    keep.mkdir(parents=True, exist_ok=True)
    for path in (folder / "input").iterdir():
        shutil.copy(path, keep / f"{name}-{path.name}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"some of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000, help="inputs of each kind")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this input alone")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="folder for the inputs that are violations")
    parser.add_argument("--seconds", type=float, default=LIMITS.seconds, help="the longest that an input may take")
    parser.add_argument("--growth-mb", type=float, default=LIMITS.growth_mb, help="the most that memory may grow by")
    options = parser.parse_args(arguments)
    if unknown := {*options.kinds} - {*KINDS}:
        parser.error(f"unknown KIND {', '.join(sorted(unknown))}; choose from {', '.join(KINDS)}")
    numbers = range(options.count) if options.only is None else [options.only]
    n_violations = 0
    for name in options.kinds or KINDS:
        start = time.monotonic()
        limits = Limits(options.seconds, options.growth_mb)
        counts = run(KINDS[name](), options.seed, numbers, limits, options.keep, partial(print, flush=True))
        parts = [f"{counts[outcome]} {outcome}" for outcome in ("accepted", "refused", *VIOLATIONS)]
        print(f"{name}: {len(numbers)} inputs, {', '.join(parts)}; {time.monotonic() - start:.0f} s", flush=True)
        n_violations += sum(counts[outcome] for outcome in VIOLATIONS)
    return int(n_violations > 0)


if __name__ == "__main__":
    sys.exit(main())
