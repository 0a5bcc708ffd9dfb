"""Fetch a file whose checksum is known, and unpack it; only ever called when the user asks for it."""

import errno
import os
import shutil
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

from keras_audio_transfer.errors import InputError, is_full
from keras_audio_transfer.files import beside, only_writer

# How many times its own size an archive may unpack to: of audio and tables it is a few times. And what any may.
MOST_TIMES, AT_LEAST = 50, 2**20
_CHUNK = 2**16
TIMEOUT = 30.0  # seconds until a server answers, and from then on between any two pieces of the file
WAITS = (1.0, 2.0, 4.0)  # seconds before the next try, of tries in a row that bring less than a chunk
_PASSING = (408, 429, 500, 502, 503, 504)  # what a server answers that may answer otherwise soon


def fetch(what: str, url: str, checksum: str, path: Path, progress: object = True, part: Path | None = None) -> None:
    """Download a file, through pooch and requests. What breaks off is gone on with, also by a later call.

    Args:
        what: begins the error messages.
        url: of the file. A redirect to another scheme is not followed.
        checksum: as `algorithm:hex`.
        path: where to put it; where the file with that checksum is there already, nothing is fetched.
        progress: whether to show a progress bar on stderr; or a bar of one's own, as pooch takes it.
        part: where what has come is kept until all has; None for beside `path`.

    Raises:
        InputError: no network, no such file, or a run beside this one; what has come is kept. Or another checksum; then
            nothing is.
    """
    import pooch  # needed by nobody who has the data, and slow to import

    pooch.get_logger().setLevel("WARNING")
    part = part or beside(path, ".part")
    options = {"fname": path.name, "path": path.parent, "downloader": partial(_download, part, progress)}
    with only_writer(part, "place"):
        is_resumed = part.exists()
        try:
            try:
                pooch.retrieve(url, checksum, **options)
            except ValueError as error:
                if isinstance(error, OSError) or not is_resumed:
                    raise
                pooch.retrieve(url, checksum, **options)  # what was left was of another file, and is gone
        except OSError as error:
            if is_full(error):
                raise
            kept = ""
            if _size(part):
                kept = f"; the {_size(part)} bytes that came are kept in {part}, to go on from"
            else:
                part.unlink(missing_ok=True)
            raise InputError(
                f"{what}: {url} could not be downloaded ({_reason(error)}); check the network, or get it by hand{kept}"
            ) from error
        except ValueError as error:
            raise InputError(
                f"{what}: {url} does not have the checksum {checksum}; nothing was kept, try again later"
            ) from error


def _download(part: Path, progress: Any, url: str, file: str, _: object) -> None:
    """Download a URL as a file, for pooch, and try again where that breaks off."""
    import requests
    from tqdm import tqdm

    bar = progress
    if isinstance(progress, bool):
        bar = tqdm(unit="B", unit_scale=True, ncols=79, disable=not progress)
    waits = iter(WAITS)
    with requests.Session() as session:
        session.adapters.clear()  # no redirect leads from https to anything else
        session.mount(f"{url.partition(':')[0]}://", requests.adapters.HTTPAdapter())
        while True:
            before = _size(part)
            try:
                _go_on(session, url, part, bar)
                break
            except requests.RequestException as error:
                if _size(part) >= before + _CHUNK:
                    waits = iter(WAITS)
                wait = next(waits, None)
                if wait is None or not _is_passing(error):
                    raise
                time.sleep(wait)
    bar.close()
    part.replace(file)


def _go_on(session: Any, url: str, part: Path, bar: Any) -> None:
    """Add to `part` what it lacks, or write it anew where the server sends all. The checksum tells if it fits."""
    from requests.exceptions import ChunkedEncodingError

    have = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if have and response.status_code == 416:  # there is no more
            return
        response.raise_for_status()
        said = response.headers
        if said.get("Content-Type", "").startswith("text/html"):
            raise OSError(errno.EBADMSG, "a web page came in its place; is there a page to log in to the network?")
        start = have if said.get("Content-Range", "").startswith(f"bytes {have}-") else 0
        length = said.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else 0
        if total - have > shutil.disk_usage(part.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(part))
        bar.reset()
        bar.total = total
        bar.update(start)
        with part.open("ab") as target:
            target.truncate(start)
            for chunk in response.iter_content(_CHUNK):
                target.write(chunk)
                bar.update(len(chunk))
    if _size(part) < total:  # which urllib3 notices from version 2 on
        raise ChunkedEncodingError


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_passing(error: Exception) -> bool:
    """Whether another try may bring more: not where an address is refused, or the server knows of no such file."""
    response = getattr(error, "response", None)
    return not isinstance(error, ValueError) and (response is None or response.status_code in _PASSING)


def _reason(error: OSError) -> str:
    from requests.exceptions import ChunkedEncodingError, InvalidSchema

    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason}"
    said = {ChunkedEncodingError: "it broke off", InvalidSchema: "it is redirected to another scheme"}
    return error.strerror or said.get(type(error), type(error).__name__)  # the text is a paragraph without a network


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
        if is_full(error):
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
