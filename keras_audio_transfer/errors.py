"""The one exception that means: the user can put this right; and what it says of a name that does not exist."""

from collections.abc import Iterable


class InputError(ValueError):
    """A file, a folder or an argument that cannot be used as it is.

    The message is one line: the file or argument, what was received, what was expected, what to do. The commands print
    it without a traceback and exit with status 2.
    """


def is_unknown(value: object, choices: Iterable[str]) -> str:
    """Say that a name does not exist, which one may have been meant, and which ones there are.

    >>> is_unknown("densnet40", ["convnet5", "densenet40"])
    "'densnet40' is unknown; did you mean densenet40? choose from convnet5, densenet40"
    >>> is_unknown("x", ["convnet5", "densenet40"])
    "'x' is unknown; choose from convnet5, densenet40"
    """
    from difflib import get_close_matches

    choices = [*map(str, choices)]
    by_lower = {choice.lower(): choice for choice in choices}
    near = get_close_matches(str(value).lower(), by_lower, n=1)
    hint = f"did you mean {by_lower[near[0]]}? " if near else ""
    return f"{str(value)!r} is unknown; {hint}choose from {', '.join(choices)}"


def unknown(argument: str, value: object, choices: Iterable[str]) -> InputError:
    """The error to raise where an argument names what does not exist: see `is_unknown`.

    >>> str(unknown("preset", "short16", ["choi2017", "short16k"]))
    "preset: 'short16' is unknown; did you mean short16k? choose from choi2017, short16k"
    """
    return InputError(f"{argument}: {is_unknown(value, choices)}")
