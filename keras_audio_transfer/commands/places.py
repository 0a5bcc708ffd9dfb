"""Places that a command line names: inputs that have to be there, outputs that can be written and destroy no input.

All of it is found out before any work is done. Without TensorFlow.
"""

import argparse
import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from keras_audio_transfer import remote
from keras_audio_transfer.commands.progress import Phases
from keras_audio_transfer.config import shown
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.shards import (
    SUFFIX,
    UNFINISHED,
    check_replaceable,
    check_suffix,
    check_unfinished,
)
from keras_audio_transfer.files import beside, failures_beside, only_writer
from keras_audio_transfer.layer_names import check_joinable
from keras_audio_transfer.model_folder import versions
from keras_audio_transfer.pretrained import imported
from keras_audio_transfer.remote_paths import address_in

OUTPUTS = {"output", "output_dir", "page", "pictures"}  # what verbs call the places that they write to
Resource = TypeVar("Resource")
_until_the_end: ContextVar[ExitStack] = ContextVar("what is undone when the command ends")
_held_back: ContextVar[list[Callable[[], None]]] = ContextVar("what is said when outputs are where they are to be")


@contextmanager
def of_command() -> Iterator[None]:
    """Let go of the places that a command has locked, when the block ends."""
    with ExitStack() as stack:
        token = _until_the_end.set(stack)
        try:
            yield
        finally:
            _until_the_end.reset(token)


def lock(place: Path, what: str = "folder") -> None:
    """Keep other runs away from an output until the command ends; see `files.only_writer`."""
    closed_at_the_end(only_writer(place, what))


def closed_at_the_end(resource: AbstractContextManager[Resource]) -> Resource:
    """What is entered here, and left when the command ends."""
    return _until_the_end.get().enter_context(resource)


@contextmanager
def _saying_it_afterwards() -> Iterator[None]:
    """Say what `held_back` got in the block when it has ended well; else, never."""
    says: list[Callable[[], None]] = []
    token = _held_back.set(says)
    try:
        yield
    finally:
        _held_back.reset(token)
    for say in says:
        say()


def held_back(text: str, show: Callable[[str], None]) -> bool:
    """Whether a line says that something was written which is still to go elsewhere; it is shown when that is there."""
    says = _held_back.get(None)
    if says is None or not text.startswith("written: "):
        return False
    says.append(lambda: show(text))
    return True


def path(text: str) -> Path:
    """The type of an argument that names a place: an empty one would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("'' is no path; expected the name of a file or folder")
    if address_in(text) and not remote.is_url(text):  # as a path, it would be in the current folder
        raise argparse.ArgumentTypeError(f"{text} has lost a slash; expected such as s3://bucket/file")
    try:
        return remote.place_of(text) if remote.is_url(text) else Path(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def with_copies(options: argparse.Namespace) -> argparse.Namespace:
    """Options with local places only: inputs elsewhere are fetched; outputs are written there when the command ends.

    Raises:
        InputError: see `remote.fetch` and `remote.published`; or an output is an input, or would hold one.
    """
    given = {name: value if isinstance(value, list) else [value] for name, value in vars(options).items()}
    inputs = [
        place for name, values in given.items() if name not in OUTPUTS for place in values if _url_of(place) is not None
    ]
    outputs = {name: given[name][0] for name in OUTPUTS & given.keys() if _url_of(given[name][0]) is not None}
    if outputs:
        closed_at_the_end(_saying_it_afterwards())  # first, and so the last that is left
    for name, output in outputs.items():
        url = remote.url_of(output)
        for place in inputs:
            if place.is_relative_to(output):
                what = f"{url} is or holds an input, {_url_of(place)}, which could be lost; name another place"
                raise InputError(f"{name}: {what}")
        setattr(options, name, closed_at_the_end(remote.published(url)))
    for place in inputs:
        remote.fetch(place, bar=lambda total: Phases(options, "fetching").bar("fetching", total, "file")())
    return options


def _url_of(value):
    return remote.url_of(value) if isinstance(value, Path) else None


# ---- inputs


def check_audio(inputs: Iterable[Path]) -> None:
    """Refuse files and folders of which none is there. Of several, those that are not are listed as failed."""
    missing, there = [], False
    for place in inputs:
        if place.exists():
            there = True
        else:
            missing.append(place)
    if missing and not there:
        raise InputError(f"{missing[0]}: does not exist; expected an audio file or a folder of them; check the path")


def by_name(flag: str, paths: Iterable[Path]) -> dict[str, Path]:
    """Model folders by their names, with which those of their layers can begin.

    Raises:
        InputError: two are called alike; or of several, one as no layer can be called.
    """
    result: dict[str, Path] = {}
    listed = [*paths]
    for path in listed:
        name = path.resolve().name
        if len(listed) > 1:
            check_joinable(name, flag)
        if name in result:
            same = result[name].resolve() == path.resolve()
            alike = f"{path} and {result[name]} have the same name; rename one"
            raise InputError(f"{flag}: {f'{path} is given twice; leave one out' if same else alike}")
        result[name] = path
    return result


def model_folder(text: str) -> Path:
    """The type of an argument that names a model folder; see `imported.find`."""
    path(text)
    try:
        return imported.find(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


# ---- outputs


def check_file(flag: str, place: Path, inputs: Iterable[Path | None] = ()) -> None:
    """Refuse the place of a file that cannot be written, or is an input. `inputs`: see `check_no_input`."""
    _check_name(flag, place)
    if place.is_dir():
        raise InputError(f"{flag}: {place} is a folder; name a file")
    if place.exists() and not place.is_file():
        raise InputError(f"{flag}: {place} is a device or pipe; name a file")
    check_no_input(flag, place, inputs)
    _check_writable(flag, place)


def check_folder(flag: str, place: Path, inputs: Iterable[Path | None] = ()) -> None:
    """Refuse the place of a folder of results that cannot be written, or would become a part of an input."""
    _check_name(flag, place)
    if place.exists() and not place.is_dir():
        raise InputError(f"{flag}: {place} is a file; name a folder")
    for given in inputs:
        if given is not None and place.resolve().is_relative_to(given.resolve()):
            raise InputError(f"{flag}: {place} is in an input, {given}, and would become a part of it; name another")
    _check_writable(flag, place / "results")


def check_features(place: Path, inputs: Iterable[Path | None]) -> None:
    """Refuse an `--output` that can be no features, or holds something else; keep others away. `inputs`: of the run."""
    _check_name("--output", place)
    inputs, unfinished = [*inputs], beside(place, UNFINISHED)
    if place.suffix == SUFFIX:
        check_no_input("--output", place, inputs)
        check_folder("--output", place)
        check_replaceable(place)
    else:
        check_file("--output", place, inputs)
        check_suffix("--output", place)
    for folder in (place, unfinished):
        check_holds_no_input("--output", folder, inputs)
    check_unfinished(unfinished)
    lock(place, "file" if place.suffix == ".npz" else "folder")


def check_model_folder(options: argparse.Namespace) -> None:
    """Refuse `--output-dir` where no model folder can be written, or something is and is to stay; keep others away."""
    folder, data_dir = options.output_dir, getattr(options, "data_dir", None)
    if folder.name in ("", ".."):
        raise InputError(f"--output-dir: {folder} is the current folder; name a new one, such as saved_models/mine")
    _check_name("--output-dir", folder)
    is_empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not (is_empty or options.overwrite):
        raise InputError(f"{folder}: exists; pass --overwrite to replace it or another --output-dir")
    check_holds_model(folder)
    if os.path.ismount(folder):
        raise InputError(f"--output-dir: {folder} is mounted, and cannot be replaced; name a folder in it")
    models = getattr(options, "model", None)  # `classify` takes several
    given = [getattr(options, name, None) for name in ("folder", "repository", "file", "labelled", "unknown")]
    given += models if isinstance(models, list) else [models]
    check_holds_no_input("--output-dir", folder, [data_dir, *given])
    check_no_input("--output-dir", folder, [data_dir])
    _check_writable("--output-dir", folder)
    lock(folder)


def check_holds_model(folder: Path) -> None:
    """Refuse to add a model to a folder, or to replace it, that holds other things."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"--output-dir: {folder} is a file; name a folder")
    is_model = (folder / "card.json").is_file() or any((v / "saved_model.pb").is_file() for v in versions(folder))
    if not is_model and {*folder.iterdir()} - {*versions(folder)}:
        raise InputError(f"{folder}: has no card.json; expected a model folder or an empty one; name another folder")


def check_state(flag: str, kept: Iterable[Path], settings: Path, inputs: Iterable[Path | None]) -> None:
    """Refuse files and folders that a run would take for its own, to continue and replace, but that are something else.

    Without the settings, nothing says which run they are of, and those of this one would vouch for them.
    """
    inputs = [*inputs]
    for place in kept:
        if place.exists() and not settings.is_file() and not (place.is_dir() and not any(place.iterdir())):
            what = f"{place} stands there without its {settings.name}, which says of which run it is"
            raise InputError(f"{flag}: {what}; put that back, move {place.name} away, or name another place")
        check_holds_no_input(flag, place, inputs)


def check_holds_no_input(flag: str, folder: Path, inputs: Iterable[Path | None]) -> None:
    """Refuse a folder that will be replaced or removed, and holds one of the inputs, or is one."""
    if not folder.exists():
        return
    for given in inputs:
        if given is not None and folder.resolve() in (given.resolve(), *given.resolve().parents):
            raise InputError(f"{flag}: {folder} holds an input, {given}, which would be lost; name another folder")


def check_no_input(flag: str, output: Path, inputs: Iterable[Path | None]) -> None:
    """Refuse an output that is one of the inputs, under whatever name; or whose list of failures would be."""
    outputs = [place for place in (output, output.parent / "failed.csv") if place.exists()]
    for given in inputs if outputs else ():
        for place in outputs:
            if given is not None and given.exists() and given.samefile(place):
                raise InputError(f"{flag}: {place} is an input, {given}, and would be replaced; name another place")


def check_beside_clips(output: Path, clips: Iterable[Clip]) -> None:
    """Refuse an `--output` that is the file of a clip, or whose list of failures would replace something else."""
    check_no_input("--output", output, (clip.path for clip in clips))
    failures_beside(output)


def model_files(model_dir: Path) -> list[Path]:
    """What is in a model folder, as inputs: the card, the models, and what is known of them."""
    return [*model_dir.rglob("*")]


def _check_name(flag, place):
    """Ask the disk, whose limit it is; first, as to ask whether such a place exists is an error, too."""
    try:
        os.lstat(place)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            what = f"{shown(str(place))} is not allowed ({error.strerror}); expected at most 255 bytes a name"
            raise InputError(f"{flag}: {what}; choose a shorter one") from error
    for link in (place, *place.parents):
        if link.is_symlink() and not link.exists():
            raise InputError(f"{flag}: {link} is a link to what is not there; remove it, or name another place")


def _check_writable(flag, place):
    """Try it: what the permissions say does not hold for everyone, nor on every disk."""
    there = next(parent for parent in place.absolute().parents if parent.exists())
    if not there.is_dir():
        raise InputError(f"{flag}: {there} is a file, so that {place} cannot be in it; name another place")
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".", suffix=".trial") as file:
            file.write(b"\0")
            file.flush()
    except OSError as error:
        why = error.strerror or error
        raise InputError(f"{flag}: {there} cannot be written to ({why}); name another place for {place}") from error
