"""Addresses such as s3://bucket/clip.wav, and the local places that stand for them, which messages call by address."""

import os
import re
from functools import lru_cache
from pathlib import Path

import platformdirs

ENVIRONMENT = "KERAS_AUDIO_TRANSFER_CACHE"
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):(/+)(.*)", re.DOTALL | re.IGNORECASE)  # a drive has one letter


def is_url(value: object) -> bool:
    """Whether a text is the address of a file or folder elsewhere.

    >>> is_url("s3://bucket/clip.wav"), is_url("clip.wav"), is_url("C:/clip.wav")
    (True, False, False)
    """
    return isinstance(value, str) and address_in(value) is not None and "://" in value


def address_in(text: str) -> tuple[str, str] | None:
    """The scheme of an address and the rest, also of one that has lost a slash in a `pathlib.Path`; None for a path."""
    found = _ADDRESS.fullmatch(text)
    return found and (found[1].lower(), found[3].strip("/"))


def cache_dir() -> Path:
    """The folder that holds one folder of copies, and one for each run that writes elsewhere.

    In the user's cache, or where the environment says.
    """
    return _cache_dir(os.environ.get(ENVIRONMENT))


@lru_cache
def _cache_dir(given: str | None) -> Path:
    try:
        folder = Path(given).expanduser() if given else platformdirs.user_cache_path("keras_audio_transfer")
        return (folder / "remote").resolve()
    except RuntimeError:  # the user has no home, as in a container: a place where nothing is, and nothing can be
        return Path(os.devnull) / "remote"


def with_urls(text: str) -> str:
    """A text with addresses in the place of the local places that stand for them.

    >>> with_urls(f"{cache_dir() / 'copies' / 's3' / 'bucket' / 'clip.wav'}: is empty").replace(os.sep, "/")
    's3://bucket/clip.wav: is empty'
    """
    if (root := str(cache_dir())) not in text:
        return text
    separator = re.escape(os.sep)
    pattern = rf"{re.escape(root)}{separator}[^{separator}]+{separator}([a-z0-9+.-]+){separator}"
    return re.sub(pattern, r"\1://", text)
