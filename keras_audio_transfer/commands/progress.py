"""What a run says on stderr while it works: its numbered phases, how far each of them is, how long all will take."""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from threading import Lock

_SOON_SECONDS = 30.0  # after which a first line says how long it takes, before ten per cent are done
_MEASURED = 10.0  # seconds from which an estimate is made, behind as many in which all is loaded
_SHORT = 60.0  # seconds; of less nothing is estimated


class Phases:
    """The phases of a run, in order: '2/4 extracting', unless `--quiet`.

    Args:
        options: with `quiet`.
        *names: of the phases. One alone gets no number.
    """

    def __init__(self, options: argparse.Namespace, *names: str):
        self._options = options
        numbered = {name: f"{number}/{len(names)} {name}" for number, name in enumerate(names, 1)}
        self._titles = numbered if len(names) > 1 else {name: name for name in names}

    def begin(self, name: str) -> None:
        """Say that a phase begins that has no bar."""
        if not self._options.quiet:
            print(self._titles[name], file=sys.stderr, flush=True)

    def bar(self, name: str, total: int, unit: str = "clip") -> Callable:
        """A function that wraps an iterable and reports its progress.

        Without an iterable its result is told of each step by `update()`, and of the end by `close()`.
        """
        return lambda iterable=None: _bar(self._options, iterable, self._titles[name], total, unit)


class Estimate:
    """How long a run takes and how large its output gets: said once, after its first steps, and compared at its end.

    Nothing is said of a run of less than a minute, or with `--quiet`.

    Args:
        options: with `quiet`.
        name: of the run, with which the lines begin.
    """

    def __init__(self, options: argparse.Namespace, name: str):
        self._options, self._name, self._start, self._said = options, name, 0.0, ""

    def watch(self, steps: Iterable, total: int, bytes_of: Callable) -> Iterator:
        """The steps as they are.

        Args:
            steps: of the run.
            total: their number.
            bytes_of: from a step to what has been added to the output since the one before, 0 where that is not known
                yet; None of a step that an earlier run has done.
        """
        self._start = time.monotonic()
        n_left, n_new, n_sized, n_bytes, warm = total, 0, 0, 0, None
        is_due = True
        for step in steps:
            size, seconds = bytes_of(step), time.monotonic() - self._start
            n_left -= 1
            if size is not None:
                n_new, n_bytes = n_new + 1, n_bytes + size
                n_sized = n_new if size else n_sized
                if warm is None:
                    warm = (seconds, n_new) if seconds >= _MEASURED else None
                elif is_due and n_bytes and seconds >= warm[0] + _MEASURED:
                    is_due = False
                    expected = seconds + n_left * (seconds - warm[0]) / (n_new - warm[1])
                    self._expect(expected, n_bytes * total / n_sized)
            yield step

    def counter(self, total: int, measured: int) -> Callable:
        """What is told of steps, from threads, too. From the time of the first `measured` follows that of all."""
        self._start = time.monotonic()
        lock, n_done = Lock(), 0

        def count(number: int = 1) -> None:
            nonlocal n_done
            with lock:
                before, n_done = n_done, n_done + number
                if before < measured <= n_done:
                    self._expect((time.monotonic() - self._start) * total / n_done)

        return count

    def _expect(self, seconds, n_bytes=None):
        if seconds >= _SHORT and not self._options.quiet:
            self._said = _cost(seconds, n_bytes)
            self._say(f"about {self._said} in all")

    def compare(self, n_bytes: int | None = None) -> None:
        """Say what it was in the end, where anything was said before. `n_bytes`: of the output; None for none."""
        if self._said:
            self._say(f"took {_cost(time.monotonic() - self._start, n_bytes)}; estimated: {self._said}")

    def _say(self, text):
        from tqdm import tqdm

        tqdm.write(f"{self._name}: {text}", file=sys.stderr)  # above a bar, where there is one


def _cost(seconds, n_bytes):
    from tqdm import tqdm

    size = "" if n_bytes is None else f" and {tqdm.format_sizeof(n_bytes, 'B')}"
    return f"{timedelta(seconds=round(seconds))}{size}"


def of_download(options: argparse.Namespace, name: str) -> object:
    """What `datasets.download` takes as `progress`: whether there is a bar, or where stderr is no terminal, lines."""
    if options.quiet or sys.stderr.isatty():
        return not options.quiet
    return _Lines(None, f"downloading {name}", 0, "byte", quiet=False)


def _bar(options, iterable, title, total, unit):
    if options.quiet or not sys.stderr.isatty():
        return _Lines(iterable, title, total, unit, options.quiet)
    from tqdm import tqdm

    return tqdm(iterable, desc=title, total=total, unit=unit, file=sys.stderr)


class _Lines:
    """Progress for files and pipes: a line at the start, soon after, and every ten per cent. For threads.

    Args:
        iterable: what is wrapped; None where `update` is called instead.
        title: begins every line.
        total: number of steps; 0 where it is set later.
        unit: what a step is.
        quiet: say nothing.
    """

    def __init__(self, iterable: Iterable | None, title: str, total: int, unit: str, quiet: bool):
        self._iterable, self._title, self.total, self._quiet = iterable, title, total, quiet
        self._lock, self._done, self._tenths, self._start = Lock(), 0, 0, time.monotonic()
        self._soon = True  # whether no line has said yet how long it takes
        self._first = None  # when the first steps were done, which may have had to wait for more, and how many
        if not quiet:
            size = f": {total} {unit}{'s' * (total != 1)}" if total else ""
            print(f"{title}{size}", file=sys.stderr, flush=True)

    def __iter__(self) -> Iterator:
        for item in self._iterable:
            yield item
            self.update()
        self.close()

    def update(self, steps: int = 1) -> None:
        """Count steps that are done."""
        with self._lock:
            self._done += steps
            self._first = self._first or (time.monotonic(), self._done)
            tenths = 10 * self._done // self.total if self.total else 0
            seconds = time.monotonic() - self._start
            is_soon = self._soon and self.total and self._done > self._first[1] and seconds >= _SOON_SECONDS
            if (tenths > self._tenths or is_soon) and not self._quiet:
                self._tenths, self._soon = tenths, False
                how_far = f"{100 * self._done // self.total} % ({self._done} of {self.total}{self._left()})"
                print(f"{self._title}: {how_far}", file=sys.stderr, flush=True)

    def _left(self):
        begin, before = self._first
        steps = self.total - self._done
        if steps and self._done <= before:
            return ""
        a_step = (time.monotonic() - begin) / max(self._done - before, 1)
        return f", {a_step * steps:.0f} s left"

    def reset(self) -> None:
        """Count from the start again: a download does so at each try, and then adds what it has."""
        self._done, self._first = 0, None

    def close(self) -> None:
        """What ends a bar has nothing to do here."""
