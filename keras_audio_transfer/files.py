"""Files and folders that are either whole or not there. Without TensorFlow."""

import csv
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident

from keras_audio_transfer.errors import InputError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, it replaces `path`; else nothing is left of it.

    For files and for folders. A folder that is replaced stays until the new one is complete.

    Raises:
        InputError: a file would replace a folder, or a folder a file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{get_ident()}.partial")
    replaced = path.with_name(f".{path.name}.{os.getpid()}.replaced")
    try:
        yield partial
        if path.exists() and partial.exists() and path.is_dir() != partial.is_dir():
            there, new = ("folder", "file") if path.is_dir() else ("file", "folder")
            raise InputError(f"{path}: is a {there}; name another place for the {new} that is to be written")
        if path.is_dir() and partial.exists():
            path.rename(replaced)  # a folder cannot be renamed onto another
        partial.replace(path)
    finally:
        for leftover in (partial, replaced):
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)


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
    partial = folder / f".{os.getpid()}.{get_ident()}.partial"  # inside: `folder` may be a file system of its own
    partial.mkdir()
    try:
        yield partial
        for path in sorted(partial.iterdir(), key=Path.is_file):
            target = folder / path.name
            if path.is_dir() and target.exists():
                if not replace_folders:
                    raise InputError(f"{target}: exists; expected to add it, not to replace it")
                target.rename(partial / f"{path.name}.replaced")
            path.rename(target)
    finally:
        shutil.rmtree(partial)


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


def write_table(path: Path, header: list[str], rows: list[list]) -> None:
    """Write a CSV file with a header line; see `cell`."""
    with atomic_write(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([[cell(value) for value in row] for row in rows])


def write_failures(output: Path, failures: list[tuple[str, str]]) -> None:
    """Write `failed.csv` (clip, reason) beside `output`; where nothing failed, remove an older one."""
    path = output.parent / "failed.csv"
    if failures:
        write_table(path, ["clip", "reason"], [*map(list, failures)])
    else:
        path.unlink(missing_ok=True)
