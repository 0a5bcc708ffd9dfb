"""Fetch a file whose checksum is known, and unpack it; only ever called when the user asks for it."""

import errno
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path, PureWindowsPath

from keras_audio_transfer.errors import InputError

# How many times its own size an archive may unpack to: of audio and tables it is a few times. And what any may.
MOST_TIMES, AT_LEAST = 50, 2**20
_CHUNK = 2**20


def fetch(what: str, url: str, checksum: str, folder: Path, progress: object = True, **pooch_options) -> None:
    """Download a file into a folder, through pooch.

    Args:
        what: begins the error messages.
        url: of the file.
        checksum: as `algorithm:hex`.
        folder: to put it in; where it already holds the file with that checksum, nothing is fetched.
        progress: whether to show a progress bar on stderr; or a bar of one's own, as pooch takes it.
        **pooch_options: further arguments of `pooch.retrieve`, such as `fname`.

    Raises:
        InputError: no network, or another checksum; then nothing is kept.
    """
    import pooch  # needed by nobody who has the data, and slow to import

    pooch.get_logger().setLevel("WARNING")
    new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        pooch.retrieve(url, known_hash=checksum, path=folder, progressbar=progress, **pooch_options)
    except ValueError as error:
        raise InputError(
            f"{what}: {url} does not have the checksum {checksum}; nothing was kept, try again later"
        ) from error
    except OSError as error:
        if _is_full(error):
            raise
        why = error.strerror or type(error).__name__  # the text is a paragraph if there was no connection
        if getattr(error, "response", None) is not None:
            why = f"{error.response.status_code} {error.response.reason}"
        raise InputError(
            f"{what}: {url} could not be downloaded ({why}); check the network, or get it by hand"
        ) from error
    finally:
        with suppress(OSError):  # not empty: the file is there
            for path in new_folders:
                path.rmdir()


def unpack(what: str, archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive as a new folder. Plain files and folders are made, and nothing outside it.

    Args:
        what: begins the error messages.
        archive: its name says whether it is a zip archive.
        folder: must not exist; is left as far as it came where this fails.

    Raises:
        InputError: it is damaged; or it holds something else, such as a link, or a path that leads out of the folder;
            or it unpacks to more than `MOST_TIMES` its size, or than there is room for.
    """
    size, free = archive.stat().st_size, shutil.disk_usage(archive.parent).free
    allowed, total = max(AT_LEAST, MOST_TIMES * size), 0
    folder.mkdir()
    try:
        for name, n_bytes, open_member in (_of_zip if archive.suffix == ".zip" else _of_tar)(archive):
            total += n_bytes
            if not _is_inside(name):
                raise InputError(f"holds {name!r}, which leads out of the folder")
            if total > allowed:
                raise InputError(f"unpacks to more than {MOST_TIMES} times its size of {size} bytes")
            if total > free:
                raise InputError(f"unpacks to more than the {free} bytes that are free here")
            _write_member(folder / name, n_bytes, open_member)
    except Exception as error:  # of tarfile, zipfile, zlib, lzma, the disk
        if _is_full(error):
            raise
        why = " ".join(str(error).split())
        if not isinstance(error, InputError):
            why = f"cannot be unpacked ({type(error).__name__}: {why})"
        raise InputError(f"{what} {why}; nothing was kept, get the data by hand") from error


def _of_zip(archive: Path) -> Iterator[tuple[str, int, Callable | None]]:
    """Each member's name, size, and what opens it; None for a folder. A link is a small file there."""
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            yield member.filename, member.file_size, None if member.is_dir() else partial(file.open, member)


def _of_tar(archive: Path) -> Iterator[tuple[str, int, Callable | None]]:
    with tarfile.open(archive) as file:
        for member in file:
            if not (member.isreg() or member.isdir()):
                raise InputError(f"holds {member.name!r}, a link or device; expected files and folders")
            yield member.name, member.size, partial(file.extractfile, member) if member.isreg() else None


def _is_inside(name: str) -> bool:
    """Whether a member's path stays in the folder that it is unpacked to, on every system."""
    windows = PureWindowsPath(name)
    return not (name.startswith("/") or windows.drive or windows.root or ".." in windows.parts)


def _write_member(path: Path, n_bytes: int, open_member: Callable | None) -> None:
    if open_member is None:
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_member() as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, _CHUNK)
        if target.tell() != n_bytes:
            raise InputError(f"is damaged: of {path.name} {target.tell()} of {n_bytes} bytes are there")


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
