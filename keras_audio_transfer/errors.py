"""The one exception that means: the user can put this right."""


class InputError(ValueError):
    """A file, a folder or an argument that cannot be used as it is.

    The message is one line: the file or argument, what was received, what was expected, what to do. The scripts print
    it without a traceback and exit with status 2.
    """
