"""Files and folders elsewhere, such as s3://bucket/clips: read from local copies, and written when they are whole.

Through fsspec (extra `remote`), which is imported only for an address. It finds the credentials in the environment, and
it tries again, a few times, where an answer is slow, cut or refused. Without TensorFlow.
"""

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

from keras_audio_transfer.config import checked_path, shown
from keras_audio_transfer.errors import InputError, is_full
from keras_audio_transfer.remote_cache import COPIES, changing, make_room, use, version_file
from keras_audio_transfer.remote_paths import ENVIRONMENT, address_in, cache_dir, is_url

_AT_ONCE = 32  # files
_HERE = re.compile(r"(?:file|local):(/+)(.*)", re.DOTALL | re.IGNORECASE)
_FINGERPRINTS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")
# Without these, what lies beside them is not read.
_LAST = re.compile(r"(.*/)?(card\.json|_index\.json|index\.parquet/.*)")
_UNREACHED = re.compile("Connect|Timeout|Endpoint|Closed|Payload|IncompleteRead|DNS")
_BUSY = ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "500", "502", "503", "504")
# The last: boto asks for ever, where the answers do not name the region.
_MOVED = ("PermanentRedirect", "TemporaryRedirect", "301", "307", "AuthorizationHeaderMalformed", "RecursionError")
_URL = r"((?i:https?)://([^\s/@:?#\[\]]+|\[[0-9a-fA-F:.]+\])(:[0-9]+)?(/[^\s?#]*)?)?"
_IN_HEADER = re.compile(r"[^\x00-\x1f\x7f]*").fullmatch
# What boto reads in the environment -> whether a value can be right, and what one is.
_SETTINGS: dict[str, tuple[Callable[[str], object], str]] = {
    "AWS_MAX_ATTEMPTS": (re.compile(r"\s*0*[1-9][0-9]*\s*").fullmatch, "a whole number, at least 1"),
    "AWS_RETRY_MODE": (re.compile("legacy|standard|adaptive").fullmatch, "legacy, standard or adaptive"),
    "AWS_DEFAULT_REGION": (re.compile(r"([a-zA-Z0-9-]{1,63})?").fullmatch, "the name of a region, such as eu-west-1"),
    "AWS_ENDPOINT_URL_S3": (re.compile(_URL).fullmatch, "such as https://host:9000, without user and password"),
    "AWS_ENDPOINT_URL": (re.compile(_URL).fullmatch, "such as https://host:9000, without user and password"),
    "AWS_CA_BUNDLE": (os.path.isfile, "a file of certificates"),
    "AWS_ACCESS_KEY_ID": (_IN_HEADER, "a key without an end of line in it"),
    "AWS_SESSION_TOKEN": (_IN_HEADER, "a token without an end of line in it"),
}
_PROFILES = dict.fromkeys(
    ("AWS_DEFAULT_PROFILE", "AWS_PROFILE"),  # of which boto has said that it knows none
    (lambda value: False, "a profile that ~/.aws/config or ~/.aws/credentials has"),
)

_log = logging.getLogger(__name__)


# ---- addresses


def place_of(url: str, area: str = COPIES) -> Path:
    """The local place that stands for an address; nothing is fetched. An address of this machine stands for itself.

    Raises:
        InputError: the address holds a password or a signature, its parts are no names of files, or it is of this
            machine and not absolute.

    >>> place_of("s3://bucket/clips/a.wav").relative_to(cache_dir()).as_posix()
    'copies/s3/bucket/clips/a.wav'
    """
    if found := _HERE.fullmatch(url):
        if len(found[1]) != 3:  # relative to what, or of which machine?
            raise InputError(f"{url}: is not absolute; expected such as file:///folder/file, or a path without file://")
        return Path(url2pathname(f"/{found[2]}"))
    scheme, rest = address_in(url) or ("", "")
    if ":" in rest.partition("/")[0].rpartition("@")[0] or (scheme in ("http", "https") and "?" in rest):
        what = "holds a key, a password or a signature, which would get into files and messages"
        raise InputError(f"{scheme}://...: {what}; expected them in the environment")
    parts = rest.split("/")
    if {"", ".", ".."} & {*parts}:
        raise InputError(f"{url}: has an empty part, '.' or '..'; expected such as s3://bucket/folder/file")
    return cache_dir().joinpath(area, scheme, *parts)


def url_of(place: Path) -> str | None:
    """The address that a local place stands for; None for any other place."""
    _, scheme, *parts = place.relative_to(cache_dir()).parts if place.is_relative_to(cache_dir()) else ("", "")
    return f"{scheme}://{'/'.join(parts)}" if parts else None


def named_in(table: Path, name: str) -> Path:
    """The file that a table names: by its address, or by a path, absolute or from the table's folder on."""
    return place_of(name) if is_url(name) else table.parent / name


# ---- reading


def checked_input(name: str, value: object, expected: str) -> Path:
    """`config.checked_path` for an input: an address is fetched, and its copy's path is returned.

    Raises:
        InputError: see `config.checked_path` and `fetch`.
    """
    if not is_url(value):
        return checked_path(name, value, expected)
    place = place_of(str(value))
    if url_of(place) is None:
        return checked_path(name, place, expected)
    fetch(place)
    return place


def fetch(place: Path, only: Collection[Path] | None = None, bar: Callable[[int], Any] | None = None) -> None:
    """Bring a copy up to date. Where nothing is at its address, there is no copy, either.

    Args:
        place: of `place_of`: of a file, or of a folder with all that is in it.
        only: the files of the folder that are wanted; None for all.
        bar: makes a progress bar, of a number of files; None for none.

    Raises:
        InputError: the bucket does not exist, the credentials are refused or missing, the server cannot be reached, or
            what is needed to ask it is not installed.
    """
    with _file_system(str(url_of(place))) as (file_system, path):
        files = _found(file_system, path, place)
        there = only if only is not None else [place, *place.rglob("*")]
        for local in [local for local in there if local.is_file() and local not in files]:
            local.unlink()
            version_file(local).unlink(missing_ok=True)
        for folder in sorted((place, *place.rglob("*")), reverse=True) if only is None else ():
            with suppress(OSError):  # not empty, or no folder
                folder.rmdir()
        _update(file_system, {p: of_file for p, of_file in files.items() if only is None or p in only}, bar)


def fetch_files(places: Iterable[Path]) -> None:
    """Bring the copies of files up to date, of those places that stand for addresses; see `fetch`."""
    by_folder: dict[Path, set[Path]] = {}
    for place in places:
        if url_of(place) is not None:
            by_folder.setdefault(place.parent, set()).add(place)
    for folder, files in by_folder.items():
        fetch(folder, files)


def _found(file_system: Any, path: str, place: Path) -> dict[Path, tuple[str, Mapping[str, Any]]]:
    """Local place -> name there and what is known of it, of a file or of all files in a folder."""
    listed = file_system.find(path, detail=True)
    if not listed:
        with suppress(FileNotFoundError):  # some list nothing where they were refused, too; this tells
            file_system.info(path)
    files = {}
    for name, about in listed.items():
        parts = name.removeprefix(path).strip("/").split("/") if name != path else []
        if name.endswith("/"):
            continue
        if {"", ".", ".."} & {*parts}:
            _log.warning("%s: left out: %s, which is no name of a file here", url_of(place), name)
            continue
        files[place.joinpath(*parts)] = name, about
    folders = {folder for local in files for folder in local.parents}  # for which storage may have an empty file, too
    return {local: of_file for local, of_file in files.items() if local not in folders}


def _update(file_system: Any, files: Mapping[Path, tuple[str, Mapping[str, Any]]], bar: Any) -> None:
    with changing():
        stale = [place for place, (_, about) in files.items() if not _is_current(place, about)]
        use(files.keys() - {*stale})
    shown = bar(len(stale)) if bar and stale else None
    for start in range(0, len(stale), _AT_ONCE):
        batch = stale[start : start + _AT_ONCE]
        with tempfile.TemporaryDirectory(prefix="fetching.", dir=cache_dir()) as folder:
            fetched = [Path(folder, str(number)) for number in range(len(batch))]
            file_system.get([files[place][0] for place in batch], [*map(str, fetched)])
            with changing():  # a copy and its version together
                for place, new in zip(batch, fetched, strict=True):
                    _keep(new, place, files[place][1])
        if shown:
            shown.update(len(batch))
    if shown:
        shown.close()
    if stale:
        with changing():
            make_room()


def _keep(new: Path, place: Path, about: Mapping[str, Any]) -> None:
    if about.get("size") not in (None, new.stat().st_size):
        raise InputError(f"{place}: {new.stat().st_size} of {about['size']} bytes arrived; try again")
    version = version_file(place)
    for folder in (place.parent, version.parent):
        folder.mkdir(parents=True, exist_ok=True)
    version.unlink(missing_ok=True)
    new.replace(place)
    version.write_text(_version(about), encoding="utf-8")
    use([place])


def _version(about: Mapping[str, Any]) -> str:
    """What tells one content of a file from another; '' where nothing does."""
    return next((f"{about.get('size')} {about[name]}" for name in _FINGERPRINTS if about.get(name)), "")


def _is_current(place: Path, about: Mapping[str, Any]) -> bool:
    try:
        known, size = version_file(place).read_text(encoding="utf-8"), place.stat().st_size
    except OSError:
        return False
    return known != "" and known == _version(about) and about.get("size") in (None, size)


# ---- writing


class NotWritten(InputError):
    """Results that are whole and on this machine, but could not be written to their address."""


@contextmanager
def checked_output(name: str, value: object, expected: str) -> Iterator[Path]:
    """`config.checked_path` for an output: for an address, it gives what `published` does."""
    place = place_of(str(value)) if is_url(value) else None
    if place is not None and url_of(place) is not None:
        with published(str(value)) as place:
            yield place
    else:
        yield checked_path(name, place or value, expected)


@contextmanager
def published(url: str) -> Iterator[Path]:
    """Give a local place for what is to be written to an address; when the block ends well, what is new goes there.

    The place holds what is at the address, and the list of failures beside it. Each file appears whole. The file
    without which a folder is not read (its `card.json`, the index of prepared shards) is removed before the others are
    written and written after them.

    Raises:
        NotWritten: the results cannot be written in the end; the message says where they are. Of an interruption, a
            warning does.
        InputError: see `fetch`; it is found out first whether the address can be written to.
    """
    with _file_system(url):
        cache_dir().mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix="writing.", dir=cache_dir()))
    try:
        place = place_of(url, staging.name)
        if place.parent.parent == staging:
            raise InputError(f"{url}: is a whole bucket; name a file or folder in it")
        place.parent.mkdir(parents=True)
        with _file_system(url) as (file_system, path):
            folder = path.rpartition("/")[0]
            beside = _found(file_system, f"{folder}/failed.csv", place.parent / "failed.csv")
            files = {local: name for local, (name, _) in (_found(file_system, path, place) | beside).items()}
            if files:
                file_system.get([*files.values()], [*map(str, files)])
            file_system.pipe_file(f"{folder}/.{place.name}.trial", b"")
            file_system.rm_file(f"{folder}/.{place.name}.trial")
        before = _stamps(staging)
        yield place
    except NotWritten as error:  # of another output of the same run, whose results are as whole
        raise NotWritten(f"{error}; what was to be written to {url} is in {_kept(staging)}") from error
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    try:
        with _file_system(url) as (file_system, path):
            _put(file_system, folder, place.parent, before, _stamps(staging))
    except InputError as error:
        raise NotWritten(f"{error}; what was to be written is in {_kept(staging)}") from error
    except BaseException:
        _log.warning("%s: not written; what was to be written is in %s", url, _kept(staging))
        raise
    shutil.rmtree(staging, ignore_errors=True)


def _kept(staging: Path) -> Path:
    """Where the results now are: out of the cache, whose paths messages call by address."""
    kept = cache_dir().with_name("not_written") / staging.name
    kept.parent.mkdir(exist_ok=True)
    return staging.rename(kept)


def _stamps(folder: Path) -> dict[Path, tuple[int, int, int]]:
    stats = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {path: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


def _put(file_system: Any, folder: str, root: Path, before: dict[Path, Any], after: dict[Path, Any]) -> None:
    names = {path: path.relative_to(root).as_posix() for path in before | after}
    new = [path for path in after if after[path] != before.get(path)]
    last = [path for path in new if _LAST.fullmatch(names[path])]
    gone = [path for path in before if path not in after or path in last]
    first = [path for path in new if path not in last]
    for path in gone:  # one by one: `rm` would take names with brackets for patterns
        file_system.rm_file(f"{folder}/{names[path]}")
    for paths in (first, last):
        if paths:
            file_system.put([*map(str, paths)], [f"{folder}/{names[path]}" for path in paths])


# ---- file systems, and what can be wrong with them


@contextmanager
def _file_system(url: str) -> Iterator[tuple[Any, str]]:
    """fsspec's file system of an address, and the path in it; what goes wrong in the block becomes an InputError."""
    try:
        from fsspec.core import url_to_fs

        file_system, path = url_to_fs(url)
        file_system.invalidate_cache()
        yield file_system, path.rstrip("/")
    except InputError:
        raise
    except Exception as error:  # there are as many kinds as file systems
        if is_full(error):
            raise
        if isinstance(error, OSError) and _is_of_cache(error.filename):
            what = f"{error.strerror}; expected a folder for copies; name another in the environment, {ENVIRONMENT}"
            raise InputError(f"{error.filename}: {what}") from error
        # Without what the file system itself says, which may hold a key.
        raise InputError(f"{url}: {_why(error, url.partition(':')[0])}") from error


def _is_of_cache(name: object) -> bool:
    """Whether a file that an error names is in the cache, or a folder that should hold it: not in the storage."""
    return isinstance(name, str) and (Path(name).is_relative_to(cache_dir()) or cache_dir().is_relative_to(name))


def _why(error: Exception, scheme: str) -> str:
    kind, code = type(error).__name__, _code(error)
    if isinstance(error, ImportError):
        remedy = "pip install 'keras_audio_transfer[remote]'" if scheme == "s3" else f"{error}"
        return f"a package that reads {scheme}:// is not installed; {remedy}"
    if isinstance(error, ValueError) and "Protocol" in str(error):
        return f"no storage is known by {scheme}://; expected s3://, gs:// or another scheme of fsspec"
    if code == "RequestTimeTooSkewed":
        return "was refused, because this machine's clock is not the server's; set the clock"
    if "Credential" in kind:
        return "no credentials were found for it; set them in the environment, such as AWS_ACCESS_KEY_ID"
    if (code or kind) in _MOVED:
        what = "its bucket is in another region, or at another endpoint"
        return f"{what} ({code or kind}); name the region in AWS_DEFAULT_REGION, or check the endpoint"
    if isinstance(error, PermissionError):
        return f"was refused ({code or kind}); expected credentials in the environment that may do this; check them"
    if isinstance(error, FileNotFoundError) or code == "InvalidBucketName" or kind == "ParamValidationError":
        return "its bucket does not exist, or it was removed meanwhile; check the address and the endpoint"
    if scheme == "s3" and (wrong := _wrong_setting(kind)):
        return wrong
    if kind == "HTTPClientError":
        return f"no storage answers there ({kind}); check the endpoint, and what is before it, such as a log-in page"
    if code in _BUSY or _UNREACHED.search(kind):
        return f"the storage does not answer ({code or kind}), after several tries; check the endpoint, or try later"
    return f"failed ({code or kind}); check the address and the endpoint"


def _code(error: BaseException | None) -> str:
    """What S3 calls an error; '' where it says nothing."""
    while error is not None:
        response = getattr(error, "response", None)  # other libraries have something else there
        if isinstance(response, Mapping) and (code := response.get("Error", {}).get("Code")):
            return str(code)
        error = error.__cause__
    return ""


def _wrong_setting(kind: str) -> str | None:
    """Which setting of boto in the environment cannot be right, after an error of a kind; None where all can."""
    settings = _PROFILES if kind == "ProfileNotFound" else _SETTINGS
    for name in [name for name in settings if name in os.environ]:
        can_be, expected = settings[name]
        if not can_be(value := os.environ[name]):
            secret = "@" in value or name.endswith(("KEY_ID", "TOKEN"))
            received = "not shown, as it may hold a password" if secret else shown(value)
            return f"{name} in the environment ({received}) is not allowed; expected {expected}; change or unset it"
    return None
