"""Files and folders that are either whole or not there, after a kill and a power cut, too. Without TensorFlow."""

import csv
import errno
import json
import math
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from threading import Lock, get_ident
from typing import Any

from keras_audio_transfer.errors import InputError, is_full

_LONGEST, _SHORT = 255, 60  # bytes of a name: what file systems take; what leaves room for more beside it
_LEFTOVER = re.compile(
    r"\.(?:(?P<name>.+)\.)?(?P<host>[0-9a-f]{8})\.(?P<process>\d+)\.\d+\.(partial|replaced)", re.DOTALL
)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_OF_FAILURES = ["clip", "reason"]
_swept: set[Path] = set()
_sweeping = Lock()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, it replaces `path`; else nothing is left of it.

    For files and for folders. A folder that is replaced stays until the new one is complete. What is written is on the
    disk before it gets its name. What a process that was killed has left beside `path` is removed.

    Raises:
        InputError: a file would replace a folder, or a folder a file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporaries(path.parent, path.name) as (partial, replaced):
        yield partial
        if path.exists() and partial.exists() and path.is_dir() != partial.is_dir():
            there, new = ("folder", "file") if path.is_dir() else ("file", "folder")
            raise InputError(f"{path}: is a {there}; name another place for the {new} that is to be written")
        _sync(partial)
        _put(partial, path, replaced)


def atomic_replace(folder: Path, path: Path) -> None:
    """Give a folder another name in its place. A folder of that name goes; after a kill between, it is back."""
    _sync(folder)
    with _temporaries(path.parent, path.name) as (_, replaced):
        _put(folder, path, replaced)


def _put(new, path, replaced):
    if path.is_dir():  # a folder cannot be renamed onto another
        replaced.mkdir()
        path.rename(replaced / path.name)
    new.replace(path)
    _sync_entries(path.parent)


@contextmanager
def atomic_publish(folder: Path, replace_folders: bool = False) -> Iterator[Path]:
    """Give a temporary folder; when the block ends well, all that is in it moves into `folder`; else nothing is left.

    `folder` and what else it holds stay in their places all the time, because a server may watch it. Each file and
    folder appears at once, whole: folders first. A folder that is replaced is gone for a moment.

    Raises:
        InputError: a folder of that name is there, and `replace_folders` is not set.
    """
    if not folder.is_dir():
        with atomic_write(folder) as partial:
            partial.mkdir()
            yield partial
        return
    with _temporaries(folder, "") as (partial, replaced):  # inside: `folder` may be a file system of its own
        partial.mkdir()
        yield partial
        _sync(partial)
        for path in sorted(partial.iterdir(), key=Path.is_file):
            target = folder / path.name
            if path.is_dir() and target.exists():
                if not replace_folders:
                    raise InputError(f"{target}: exists; expected to add it, not to replace it")
                replaced.mkdir(exist_ok=True)
                target.rename(replaced / path.name)
            path.replace(target)
        _sync_entries(folder)


@contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """Give an empty folder on the disk of `beside`; when the block ends, it is gone."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    with _temporaries(beside.parent, beside.name) as (folder, _):
        folder.mkdir()
        yield folder


@contextmanager
def temporary_files_beside(path: Path) -> Iterator[None]:
    """Have this process put all its temporary files, also those of libraries, into a `scratch_folder` of `path`.

    What is left of them in the system's own folder when a process is killed nobody removes.
    """
    before = tempfile.tempdir
    with scratch_folder(path) as folder:
        tempfile.tempdir = str(folder.absolute())
        try:
            yield
        finally:
            tempfile.tempdir = before


@contextmanager
def only_writer(path: Path, what: str = "folder") -> Iterator[None]:
    """Keep other runs of the package away from an output, which need not be there, as long as the block lasts.

    The lock is a hidden file beside the output, or in it where nothing may be written beside it; the system lets go of
    it when the process ends, however it does. When the block ends, nothing is left of it.

    Args:
        path: of the file or folder.
        what: is named as the way out.

    Raises:
        InputError: another run has it.
    """
    real = path.resolve()
    new_folders = [folder for folder in real.parents if not folder.exists()]
    real.parent.mkdir(parents=True, exist_ok=True)
    try:
        place = real.parent / f".{_short(real.name)}.lock"
        try:
            lock = _locked(place)
        except OSError:
            if not real.is_dir():
                raise
            place = real / ".lock"
            lock = _locked(place)
        if lock is None:
            raise InputError(f"{path}: another run writes there; wait for it, or name another {what}")
        try:
            yield
        finally:
            with suppress(OSError):  # on Windows, where releasing it removes it
                place.unlink()
            lock.release()
    finally:
        with suppress(OSError):  # not empty: something was written
            for folder in new_folders:
                folder.rmdir()


def _locked(place: Path):
    """The lock of that file; None where another run has it. Where the disk knows no locks, it locks nothing."""
    from filelock import FileLock, SoftFileLock, Timeout

    while True:
        with place.open("ab") as file:
            lock = FileLock(place)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                pass
            except (NotImplementedError, OSError) as error:
                if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                    raise
                return lock
            if isinstance(lock, SoftFileLock) or os.fstat(file.fileno()).st_nlink:
                return lock if lock.is_locked else None
        lock.release()  # who had it has just removed the file: what others lock is another one


# ---- names, leftovers, disks


def beside(path: Path, suffix: str) -> Path:
    """What lies beside a path: its name with a suffix, and where that would be too long, a hash instead of the name."""
    name = path.name + suffix
    return path.parent / (name if len(os.fsencode(name)) <= _LONGEST else _short(path.name) + suffix)


def _short(name: str) -> str:
    encoded = os.fsencode(name)
    return name if len(encoded) <= _SHORT else sha256(encoded).hexdigest()[:32]


@cache
def _host() -> str:
    """Where the numbers of processes mean the same: the machine, and on it the container."""
    try:
        container = os.readlink("/proc/self/ns/pid")
    except OSError:
        container = ""
    return sha256(f"{platform.node()} {container}".encode()).hexdigest()[:8]


@contextmanager
def _temporaries(folder: Path, name: str) -> Iterator[tuple[Path, Path]]:
    """Two hidden places in a folder, for what is new and for what it replaces.

    When the block ends, what has been moved to the second and not replaced goes back, and the rest is removed.
    """
    _sweep(folder)
    of_process = f"{_host()}.{os.getpid()}.{get_ident()}"
    stem = f".{_short(name)}.{of_process}" if name else f".{of_process}"
    partial, replaced = folder / f"{stem}.partial", folder / f"{stem}.replaced"
    try:
        with naming_where_full(folder / name, partial, replaced):
            yield partial, replaced
    finally:
        _remove(replaced)
        _remove(partial)


def stands_for(name: str) -> str | None:
    """The name of what a temporary file or folder is to become, or was; None where it is no temporary one of these."""
    leftover = _LEFTOVER.fullmatch(name)
    return leftover and leftover["name"]


@contextmanager
def naming_where_full(place: Path, *standing_for_it: Path) -> Iterator[None]:
    """Where a disk is full, the error names the place. What a write raises names none.

    What names another place keeps it, but for the temporary ones that stand for this.
    """
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        where = getattr(error, "filename", None)
        if where is None or str(where).startswith(tuple(map(str, standing_for_it))):
            where = place
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(where)) from error


def _sweep(folder: Path) -> None:
    """Remove what processes of this host and user that no longer live have left; once a folder and process."""
    with _sweeping:
        if folder.absolute() in _swept:
            return
        _swept.add(folder.absolute())
    try:
        paths = [*folder.iterdir()]
    except OSError:  # may be written to, not read
        return
    for path in paths:
        leftover = _LEFTOVER.fullmatch(path.name)
        if leftover and leftover["host"] == _host() and not _lives(int(leftover["process"])):
            with suppress(OSError):
                if not hasattr(os, "geteuid") or path.lstat().st_uid == os.geteuid():
                    _remove(path)


def _lives(process: int) -> bool:
    if os.name == "nt":  # to ask there with `os.kill` would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # it is another user's; or none that there can be
        pass
    return True


def _remove(path: Path) -> None:
    """Remove a temporary file or folder; what was moved into it from beside it, and is missing there, goes back."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if path.name.endswith(".replaced"):
        for moved in path.iterdir():
            if not (path.parent / moved.name).exists():
                moved.rename(path.parent / moved.name)
    shutil.rmtree(path)


def _sync(path: Path) -> None:
    """Have a file, or all that is in a folder, on the disk: after a power cut no name is without its content."""
    if path.is_dir():
        for inside in path.iterdir():
            _sync(inside)
        _sync_entries(path)
    elif not path.is_symlink():
        with path.open("rb+" if os.name == "nt" else "rb") as file:
            os.fsync(file.fileno())


def _sync_entries(folder: Path) -> None:
    with suppress(OSError):  # Windows opens no folder, and some file systems refuse
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files in a folder; 0 where nothing is."""
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


# ---- JSON and tables


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where it is damaged, or no JSON.

    Raises:
        OSError: it cannot be read.
    """
    return parsed_json(path.read_bytes())


def parsed_json(content: bytes) -> Any:
    """What JSON text says; None where it is none.

    >>> parsed_json(b'{"a": 1}'), parsed_json(b'{"a":'), parsed_json(b"[" * 100_000)
    ({'a': 1}, None, None)
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def write_json(path: Path, content: dict) -> None:
    """Write a dict as indented UTF-8 JSON."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def cell(value: object) -> object:
    """A value as a cell of a CSV file: a spreadsheet would run a text that begins like a formula.

    >>> cell("=HYPERLINK(1)"), cell("a.wav"), cell(-1.5)
    ("'=HYPERLINK(1)", 'a.wav', -1.5)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def number_in(text: str) -> float:
    """The number that a cell holds; NaN for none. `float` would read more: `1_0`, digits of other scripts, `inf`.

    >>> number_in("-1.5e-3"), number_in("1_0")
    (-0.0015, nan)
    """
    return float(text) if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?", text) else math.nan


def write_table(path: Path, header: list[str], rows: list[list]) -> None:
    """Write a CSV file with a header line; see `cell`."""
    with atomic_write(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([[cell(value) for value in row] for row in rows])


def write_failures(output: Path, failures: list[tuple[str, str]]) -> None:
    """Write `failed.csv` (clip, reason) beside `output`; where nothing failed, remove an older one.

    Raises:
        InputError: a file of that name is no such list.
    """
    path = failures_beside(output)
    if failures:
        write_table(path, _OF_FAILURES, [*map(list, failures)])
    else:
        path.unlink(missing_ok=True)


def failures_beside(output: Path) -> Path:
    """Where `write_failures` writes. Raises InputError where a file of the user's has that name."""
    path = output.parent / "failed.csv"
    if path.exists():
        with path.open("rb") as file:
            if file.read(20).splitlines()[:1] != [",".join(_OF_FAILURES).encode()]:
                what = "is no list of failed clips, and one would be written there"
                raise InputError(f"{path}: {what}; rename it, or write elsewhere")
    return path
