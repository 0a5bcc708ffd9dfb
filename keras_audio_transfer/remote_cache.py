"""Copies of files elsewhere, below a size: those go first that were used longest ago. Without TensorFlow."""

import math
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import atomic_write
from keras_audio_transfer.remote_paths import cache_dir

COPIES, _VERSIONS, _RUNS = "copies", "versions", "runs"
LIMIT = "KERAS_AUDIO_TRANSFER_CACHE_GB"
GB = 50.0  # unless the environment says otherwise


def changing() -> Any:
    """The lock to hold while copies are looked at, added or removed."""
    from filelock import FileLock

    cache_dir().mkdir(parents=True, exist_ok=True)
    return FileLock(cache_dir() / ".lock")


def version_file(place: Path) -> Path:
    """Beside a copy: what tells whether it is of today, last written or touched when it was last used."""
    return cache_dir() / _VERSIONS / place.relative_to(cache_dir() / COPIES)


def use(places: Iterable[Path]) -> None:
    """Note that this process uses copies that are there: they stay as long as it lasts. In `changing`.

    Raises:
        InputError: the environment names a limit that is none.
    """
    _limit()
    run = cache_dir() / _RUNS, os.getpid()
    if not Path(_own_run(*run).lock_file).exists():  # the cache was emptied meanwhile
        _own_run.cache_clear()
        _own_run(*run)
    for version in map(version_file, places):
        now = (time.time_ns(),) * 2
        try:
            os.utime(version, ns=now)
        except PermissionError:  # it is of another user, with whom the cache is shared
            with atomic_write(version) as partial:
                shutil.copyfile(version, partial)
                os.utime(partial, ns=now)


def make_room() -> None:
    """Remove copies until the others are within the limit, but none that a running process has used. In `changing`."""
    found = []
    for place in (cache_dir() / COPIES).rglob("*"):
        if place.is_file():
            version = version_file(place)
            used = version.stat().st_mtime_ns if version.exists() else 0
            found.append((used, place.stat().st_size, place))
    too_much, first_run = sum(size for _, size, _ in found) - _limit(), _first_run()
    for used, size, place in sorted(found):
        if too_much <= 0 or used >= first_run:
            return
        version_file(place).unlink(missing_ok=True)
        place.unlink()
        too_much -= size


def _limit() -> float:
    """In bytes."""
    text = os.environ.get(LIMIT) or f"{GB}"
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not limit > 0:
        raise InputError(f"{LIMIT}: {text!r} in the environment is no size; expected GB above 0, such as {GB:g}")
    return limit * 1e9


@lru_cache
def _own_run(folder: Path, process: int) -> Any:
    """A lock that says since when this process runs; the system lets go of it when the process ends."""
    from filelock import FileLock

    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / f"{time.time_ns()}.{process}")
    lock.acquire()
    return lock


def _first_run() -> int:
    """When the first of the processes that are running had its first copy, in ns."""
    from filelock import FileLock, Timeout

    begun = []
    for path in (cache_dir() / _RUNS).iterdir():
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            begun.append(int(path.stem))
            continue
        with suppress(OSError):  # on Windows, where it is open
            path.unlink()
        lock.release()
    return min(begun)
