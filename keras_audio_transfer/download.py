"""Fetch a file whose checksum is known; only ever called when the user asks for it."""

from pathlib import Path

from keras_audio_transfer.errors import InputError


def fetch(what: str, url: str, checksum: str, folder: Path, progress: bool = True, **pooch_options) -> None:
    """Download a file into a folder, through pooch.

    Args:
        what: begins the error messages.
        url: of the file.
        checksum: as `algorithm:hex`.
        folder: to put it in; where it already holds the file with that checksum, nothing is fetched.
        progress: whether to show a progress bar on stderr.
        **pooch_options: further arguments of `pooch.retrieve`, such as `fname` or `processor`.

    Raises:
        InputError: no network, or another checksum; then nothing is kept.
    """
    import pooch  # needed by nobody who has the data, and slow to import

    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(url, known_hash=checksum, path=folder, progressbar=progress, **pooch_options)
    except ValueError as error:
        raise InputError(
            f"{what}: {url} does not have the checksum {checksum}; nothing was kept, try again later"
        ) from error
    except OSError as error:
        raise InputError(
            f"{what}: {url} could not be downloaded ({error}); check the network, or get it by hand"
        ) from error


def unpacker(url: str, extract_dir: str):
    """A `processor` for `fetch` that unpacks a zip or tar archive into a folder beside it."""
    import pooch

    return (pooch.Unzip if url.endswith(".zip") else pooch.Untar)(extract_dir=extract_dir)
