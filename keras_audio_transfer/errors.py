"""The one exception that means: the user can put this right; and what it says of a name that does not exist."""

import errno
import os
from collections.abc import Iterable

from keras_audio_transfer.remote_paths import with_urls


class InputError(ValueError):
    """A file, a folder or an argument that cannot be used as it is.

    The message is one line: the file or argument, what was received, what was expected, what to do. The commands print
    it without a traceback and exit with status 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(with_urls(" ".join(message.splitlines())))


def readable(text: str) -> str:
    r"""Text that can be written: of a name that is no UTF-8, the bytes are written out; copies have their addresses.

    >>> readable("caf\udce9.wav")
    'caf\\xe9.wav'
    """
    return with_urls(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_full(error: BaseException) -> bool:
    """Whether it says that a disk is full; TensorFlow says so by an error of its own.

    >>> is_full(OSError(errno.ENOSPC, "No space left on device")), is_full(OSError(errno.EACCES, "Permission denied"))
    (True, False)
    """
    by_number = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return by_number or os.strerror(errno.ENOSPC) in str(error)


def reason_of(error: Exception, clip_id: str) -> str:
    """Why a clip is set aside, in one line, whatever went wrong with it.

    Raises:
        OSError: `error` itself, where no other clip can do better: no space is left.

    >>> reason_of(InputError("a.wav: empty file"), "a.wav")
    'a.wav: empty file'
    >>> reason_of(PermissionError(13, "Permission denied", "b/a.wav"), "a.wav")
    'b/a.wav: cannot be read (Permission denied); expected an audio file; check the path and its permissions'
    """
    if isinstance(error, InputError):
        return readable(str(error))
    if is_full(error):
        raise error
    if isinstance(error, OSError) and error.strerror:
        where = readable(str(error.filename or clip_id))
        return f"{where}: cannot be read ({error.strerror}); expected an audio file; check the path and its permissions"
    first, *_ = f"{error}".splitlines() or [""]
    return f"{clip_id}: failed ({type(error).__name__}: {first[:200]}); leave it out, and report it if the clip is good"


def near_miss(name: object, choices: Iterable[str], alike: float = 0.6) -> str | None:
    """The choice that was probably meant by a name that is none; None where no choice is like it.

    Args:
        name: what was received.
        choices: the names there are.
        alike: the least likeness, from 0 to 1: `ratio` of difflib's SequenceMatcher.

    >>> near_miss("Densnet40", ["convnet5", "densenet40"])
    'densenet40'
    """
    from difflib import get_close_matches

    by_lower = {str(choice).lower(): str(choice) for choice in choices}
    return next((by_lower[lower] for lower in get_close_matches(str(name).lower(), by_lower, 1, alike)), None)


def is_unknown(name: object, choices: Iterable[str]) -> str:
    """Say that a name does not exist, which one may have been meant, and which ones there are.

    >>> is_unknown("densnet40", ["convnet5", "densenet40"])
    "'densnet40' is unknown; did you mean densenet40? choose from convnet5, densenet40"
    >>> is_unknown("x", ["convnet5", "densenet40"])
    "'x' is unknown; choose from convnet5, densenet40"
    """
    choices = [*map(str, choices)]
    near = near_miss(name, choices)
    hint = f"did you mean {near}? " if near else ""
    return f"{str(name)!r} is unknown; {hint}choose from {', '.join(choices)}"


def unknown(argument: str, name: object, choices: Iterable[str]) -> InputError:
    """The error to raise where an argument names what does not exist: see `is_unknown`.

    >>> str(unknown("preset", "short16", ["choi2017", "short16k"]))
    "preset: 'short16' is unknown; did you mean short16k? choose from choi2017, short16k"
    """
    return InputError(f"{argument}: {is_unknown(name, choices)}")
