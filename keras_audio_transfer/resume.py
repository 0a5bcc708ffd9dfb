"""What a long computation has finished, so that a killed run continues where it stopped."""

import json
import os
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from pathlib import Path
from threading import Lock

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import naming_where_full, parsed_json, read_json, write_json

STATE = "state.npz"  # of a training, in the folder of its run
_SECONDS_BETWEEN_SYNCS = 1.0
_REMEDY = "remove it together with the results beside it, or choose another place"


def _are_numbers(values: list) -> bool:
    return {*map(type, values)} <= {float}


def _checksum(key: str, values: list) -> int:
    return zlib.crc32(json.dumps([key, values]).encode())


class Journal(MutableMapping):
    """A dict of lists, of numbers mostly, that is in a file, line by line, as soon as a value is set. For threads.

    A line that a killed run left half written does not count. A power cut costs the last second's values at most. Each
    line ends in its own checksum.

    Args:
        path: a file of JSON lines; it is made if it is not there.
        are_values: whether a list, as JSON has it, is one of this journal's.

    Raises:
        InputError: a whole line is none of a journal's.
    """

    def __init__(self, path: Path, are_values: Callable[[list], bool] = _are_numbers):
        self._lock, self._values, self._synced = Lock(), {}, -_SECONDS_BETWEEN_SYNCS
        *lines, half = path.read_bytes().split(b"\n") if path.exists() else [b""]
        for number, line in enumerate(lines, 1):
            match parsed_json(line):
                case [str(key), [*values], *rest] if are_values(values) and rest in ([], [_checksum(key, values)]):
                    self._values[key] = values  # without a checksum: an older version's
                case _:
                    raise InputError(f"{path}, line {number}: is damaged; remove the file to start again")
        self._path, self._file = path, path.open("ab")
        if half:
            self._file.truncate(self._file.tell() - len(half))

    def __setitem__(self, key: str, value):
        with self._lock, naming_where_full(self._path):
            self._values[key] = value
            self._file.write(json.dumps([key, value, _checksum(key, value)]).encode() + b"\n")
            self._file.flush()
            if time.monotonic() - self._synced >= _SECONDS_BETWEEN_SYNCS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()

    def __getitem__(self, key: str):
        return self._values[key]

    def __delitem__(self, key: str):
        raise TypeError("what is finished stays finished")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error) -> None:
        with naming_where_full(self._path), self._file:
            os.fsync(self._file.fileno())


def check_settings(
    path: Path, settings: dict, renamed: Mapping[str, str] | None = None, added: Collection[str] = ()
) -> None:
    """Write a run's settings to `path`, or compare them with those of the run that is being continued.

    Args:
        path: of the JSON file.
        settings: everything that the results depend on; JSON values.
        renamed: former name of a setting -> its name today, for files that an older version of the package wrote.
        added: settings that an older version did not write; where they are missing, they are not compared.

    Raises:
        InputError: `path` holds other settings.
    """
    settings = json.loads(json.dumps(settings))
    if not path.exists():
        write_json(path, settings)
    elif found := difference(read_settings(path), settings, renamed, added):
        raise InputError(f"{path}: is of another run ({found}); {_REMEDY}")


def read_settings(path: Path) -> dict:
    """The settings of a run. Raises InputError where the file holds none."""
    settings = read_json(path)
    if not isinstance(settings, dict):
        raise InputError(f"{path}: not the settings of a run; {_REMEDY}")
    return settings


def difference(
    before: dict, now: dict, renamed: Mapping[str, str] | None = None, added: Collection[str] = ()
) -> str | None:
    """The first setting that two runs do not share, in a few words; None where they share all.

    Args:
        before: the settings of one, as `read_settings` gives them.
        now: those of the other, in the same way.
        renamed: see `check_settings`.
        added: see `check_settings`.
    """
    of_today = renamed or {}
    before, now = ({of_today.get(name, name): value for name, value in settings.items()} for settings in (before, now))
    for name in dict.fromkeys([*now, *before]):
        compared = name not in added or (name in now and name in before)
        if compared and now.get(name) != before.get(name):
            was, is_now = _brief(before.get(name), now.get(name))
            return f"{name[:60]} was {was}, is {is_now}"
    return None


def _brief(was, now):
    """Both as text; long ones from shortly before they begin to differ."""
    try:
        texts = json.dumps(was), json.dumps(now)
    except RecursionError:
        return "nested too deeply", "not"
    if max(map(len, texts)) <= 60:
        return texts
    same = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), 0)
    start = max(0, same - 20)
    return [f"{'...' * (start > 0)}{text[start : start + 54]}{'...' * (len(text) > start + 54)}" for text in texts]
