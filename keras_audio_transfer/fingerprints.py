"""What a file was, so that a later run can tell whether it still is: its size, date and SHA-256."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple


class Fingerprint(NamedTuple):
    """Of a file.

    Attributes:
        size: in bytes.
        mtime_ns: when it was last changed.
        sha256: of its content.
    """

    size: int
    mtime_ns: int
    sha256: str


def fingerprint(path: Path) -> Fingerprint:
    """The fingerprint of a file, which is read once, however many clips are parts of it. Raises OSError."""
    status = path.stat()
    return Fingerprint(status.st_size, status.st_mtime_ns, _sha256(path, status.st_size, status.st_mtime_ns))


def is_unchanged(path: Path, before: Fingerprint) -> bool:
    """Whether a file is as it was: of that size, and of that date or, where it has another, that content.

    Raises OSError.
    """
    status = path.stat()
    if status.st_size != before.size:
        return False
    return status.st_mtime_ns == before.mtime_ns or fingerprint(path).sha256 == before.sha256


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits; memory does not follow its size. Raises OSError."""
    result = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            result.update(block)
    return result.hexdigest()


@lru_cache(maxsize=256)
def _sha256(path, *_):
    return sha256_of(path)
