"""What a run says on stderr while it works: its numbered phases, and how far each of them is."""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from threading import Lock

_SOON_SECONDS = 30.0  # after which a first line says how long it takes, before ten per cent are done


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
        """Say that nothing is left to do, where less was needed than could have been."""
        if 0 < self._done < self.total and not self._quiet:
            print(f"{self._title}: done ({self._done} of at most {self.total})", file=sys.stderr, flush=True)
