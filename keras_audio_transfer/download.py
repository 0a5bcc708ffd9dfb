"""Fetch a file whose checksum is known; only ever called when the user asks for it."""

from contextlib import suppress
from pathlib import Path

from keras_audio_transfer.errors import InputError


def fetch(what: str, url: str, checksum: str, folder: Path, progress: object = True, **pooch_options) -> None:
    """Download a file into a folder, through pooch.

    Args:
        what: begins the error messages.
        url: of the file.
        checksum: as `algorithm:hex`.
        folder: to put it in; where it already holds the file with that checksum, nothing is fetched.
        progress: whether to show a progress bar on stderr; or a bar of one's own, as pooch takes it.
        **pooch_options: further arguments of `pooch.retrieve`, such as `fname` or `processor`.

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


def unpacker(url: str, extract_dir: str):
    """A `processor` for `fetch` that unpacks a zip or tar archive into a folder beside it."""
    import pooch

    return (pooch.Unzip if url.endswith(".zip") else pooch.Untar)(extract_dir=extract_dir)
