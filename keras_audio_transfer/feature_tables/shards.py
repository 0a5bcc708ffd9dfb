"""A table of features as a folder of Parquet files (shards), which pandas, Dask, Spark and DuckDB read, too."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.arrays import Array
from keras_audio_transfer.files import atomic_write, read_json, stands_for, write_json

SUFFIX = ".parquet"
INDEX, RUN = "_index.json", "_run.json"  # programs that read Parquet pass over names with an underscore
UNFINISHED = ".unfinished"  # behind the name of the output of a run that has not ended
CLIPS_A_SHARD, BYTES_A_SHARD = 128, 2**24
_ABOUT = b"keras_audio_transfer"  # the key of what a shard says of itself
_IS_SHARD = re.compile(r"part-\d{5,}\.parquet")
_TEXTS = {"clip_id": "clip_ids", "split": "splits", "group": "groups", "notes": "notes"}  # column -> array
_REMEDY = "extract it again, which computes only what is missing"
Choose = Callable[[list[str]], list[str]]  # from the names of all layers to those that are wanted


class Shard(NamedTuple):
    """A shard's columns, the arrays of its layers among them, and what it says of itself.

    Attributes:
        columns: name -> a list of texts, None, or lists of texts; or numbers, (rows,) or (rows, channels).
        about: `label_names`, `weights_sha256`, `columns` (name -> SHA-256 of its content), what its run has added, and
            `sha256`, of all that.
    """

    columns: dict[str, Any]
    about: dict[str, Any]


def shard_name(number: int) -> str:
    """The name of a shard's file: they sort by number."""
    return f"part-{number:05d}{SUFFIX}"


def shards_in(folder: Path) -> list[Path]:
    """The files of a folder that are called as shards are, in their order."""
    return sorted((path for path in folder.glob("*") if _IS_SHARD.fullmatch(path.name)), key=lambda p: (len(p.name), p))


# ---- one shard


def write_shard(path: Path, content: Mapping[str, Array], added: Mapping[str, Any] | None = None) -> None:
    """Write a shard, whole or not at all.

    Args:
        path: of the file.
        content: the arrays of a features file, by their names there.
        added: what a run keeps beside `label_names` and `weights_sha256`; JSON values.

    Raises:
        InputError: a layer has the name of another column.
    """
    import pyarrow as pa

    layers = [*map(str, content["layer_names"])]
    names = [*map(str, content["label_names"])]
    rows = len(content["clip_ids"])
    columns: dict[str, Any] = {"clip_id": content["clip_ids"].tolist(), "label": _labels(content["labels"], names)}
    columns["fold"] = content["folds"]
    for column in ("split", "group", "notes"):
        columns[column] = content[_TEXTS[column]].tolist() if _TEXTS[column] in content else [""] * rows
    if "times" in content:
        columns["time"] = content["times"]
    for name in layers:
        if name in (*columns, "time"):
            raise InputError(f"table: a layer is called {name!r}, as another column of the file; rename it")
    columns |= {name: content[name] for name in layers}
    weights = [*map(str, content.get("weights_sha256", [""] * len(layers)))]
    about = {"label_names": names, "weights_sha256": dict(zip(layers, weights, strict=True)), **(added or {})}
    about |= {"columns": {name: _sha256(values) for name, values in columns.items()}}
    text = pa.string()
    label = pa.list_(text) if content["labels"].ndim == 2 else text
    arrays = {name: _arrow(values, label if name == "label" else text) for name, values in columns.items()}
    _write(path, pa.table(arrays), about)


def write_groups(path: Path, groups: list[str]) -> None:
    """Give the rows of a shard these groups, where they have others."""
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        if file.read(["group"])["group"].to_pylist() == groups:
            return
        table = file.read()
    about = json.loads(table.schema.metadata[_ABOUT])
    about["columns"]["group"] = _sha256(groups)
    table = table.set_column(table.column_names.index("group"), "group", _arrow(groups, pa.string()))
    _write(path, table, about)


def _write(path, table, about):
    import pyarrow as pa
    from pyarrow import parquet

    about |= {"sha256": _sha256_of_about(about)}
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    table = table.replace_schema_metadata({_ABOUT: json.dumps(about)})
    with atomic_write(path) as partial:
        parquet.write_table(table, partial, compression="zstd", use_dictionary=texts, row_group_size=max(1, len(table)))


def read_about(path: Path) -> dict[str, Any]:
    """What a whole shard says of itself."""
    from pyarrow import parquet

    return json.loads(parquet.read_metadata(path).metadata[_ABOUT])


def read_shard(path: Path, choose: Choose = list) -> Shard | None:
    """What a shard holds; None where it is damaged, was changed, or is no shard.

    Args:
        path: of the file.
        choose: which layers are read.

    Raises:
        PermissionError: it may not be read.
        InputError: of `choose`.
    """
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            about = json.loads(file.metadata.metadata[_ABOUT])
            layers = [*about["weights_sha256"]]
            left_out = {*layers}.difference(choose(layers))
            table = file.read([name for name in file.schema_arrow.names if name not in left_out])
        columns = {name: _values(table[name]) for name in table.column_names if name not in left_out}
        is_whole = {*about["columns"]} == {*columns} | left_out
        is_whole = is_whole and all(about["columns"][name] == _sha256(values) for name, values in columns.items())
        is_whole = is_whole and about["sha256"] == _sha256_of_about(about)
    except (PermissionError, InputError):
        raise
    except Exception:  # there are as many kinds as ways to damage a file
        return None
    return Shard(columns, about) if is_whole else None


def _labels(labels: Array, names: list[str]) -> Any:
    """The column `label`: a name, or None; of tags a list of names; of a regression the numbers."""
    if labels.dtype.kind == "f":
        return labels
    if labels.ndim == 2:
        return [[names[i] for i in np.flatnonzero(row)] for row in labels]
    return [names[i] if i >= 0 else None for i in labels]


def _arrow(values: Any, text: Any) -> Any:
    """A column; `text` is the type of one that is a list. Without `pa.array`, which imports pandas."""
    import pyarrow as pa

    if isinstance(values, list) and pa.types.is_list(text):
        ends = np.cumsum([0, *map(len, values)], dtype=np.int32)
        texts = _arrow([*chain.from_iterable(values)], text.value_type)
        return pa.Array.from_buffers(text, len(values), [None, pa.py_buffer(ends)], children=[texts])
    if isinstance(values, list):
        builder = pa.lib.StringBuilder()
        builder.append_values(values)
        return builder.finish()
    content = pa.py_buffer(np.ascontiguousarray(values))
    numbers = pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), values.size, [None, content])
    return numbers if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(numbers, values.shape[1])


def _values(column: Any) -> Any:
    """The reverse of `_arrow`."""
    import pyarrow.types as types

    kind = column.type
    if types.is_fixed_size_list(kind):
        return np.from_dlpack(column.combine_chunks().flatten()).reshape(len(column), kind.list_size)
    is_number = types.is_floating(kind) or types.is_integer(kind)
    return np.from_dlpack(column.combine_chunks()) if is_number else column.to_pylist()


def _sha256(values: Any) -> str:
    content = json.dumps(values).encode() if isinstance(values, list) else np.ascontiguousarray(values).tobytes()
    return hashlib.sha256(content).hexdigest()


def _sha256_of_about(about: dict[str, Any]) -> str:
    return _sha256([[name, value] for name, value in about.items() if name != "sha256"])


# ---- a folder of them


def write_index(folder: Path) -> int:
    """Write down which shards are the table, when all are there; the number of its rows. Shards without rows go."""
    from pyarrow import parquet

    shards = {}
    for path in shards_in(folder):
        if n_rows := parquet.read_metadata(path).num_rows:
            shards[path.name] = [n_rows, read_about(path)["sha256"]]
        else:
            path.unlink()
    write_json(folder / INDEX, {"shards": shards})
    return sum(rows for rows, _ in shards.values())


def write_folder(path: Path, content: Mapping[str, Array]) -> None:
    """Write a table as a folder of shards; it appears whole or not at all. `content`: see `write_shard`.

    Raises:
        InputError: no row, or something else is there.
    """
    check_replaceable(path)
    if not (n_rows := len(content["clip_ids"])):
        raise InputError("table: has no clips, which a folder of features cannot say; save it as .npz")
    of_table = ("layer_names", "label_names", "weights_sha256")
    with atomic_write(path) as partial:
        partial.mkdir()
        for number, start in enumerate(range(0, n_rows, CLIPS_A_SHARD)):
            rows = slice(start, start + CLIPS_A_SHARD)
            part = {name: values if name in of_table else values[rows] for name, values in content.items()}
            write_shard(partial / shard_name(number), part)
        write_index(partial)


def check_suffix(name: str, path: Path) -> None:
    """Refuse a name that is neither of a features file nor of a folder of shards. Raises InputError of `name`."""
    if path.suffix not in (".npz", SUFFIX):
        raise InputError(f"{name}: {path} ends in neither .npz nor {SUFFIX}; name features to write")


def check_replaceable(path: Path) -> None:
    """Refuse a place for a folder of shards where something else is. Raises InputError."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file; expected a folder of features, or nothing; name another place")
    names = [inside.name for inside in path.iterdir()] if path.exists() else []
    other = _others_in(path)
    if other or (names and INDEX not in names):
        why = f"holds {other[0].name}" if other else f"has no {INDEX}"
        raise InputError(f"{path}: is no folder of features ({why}), and would be replaced; name another place")


def check_unfinished(folder: Path) -> None:
    """Refuse a folder that is to hold what is finished, but holds something else. Raises InputError."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, where a run keeps what is finished; move it away")
    if any(not _is_temporary(path.name) for path in folder.glob("*")) and not (folder / RUN).is_file():
        raise InputError(f"{folder}: has no {RUN}, which says of which run it is; put that back, or move the folder")
    for path in _others_in(folder):
        what = "is a folder among the files of a run" if path.is_dir() else "is of no run, and would be lost with it"
        raise InputError(f"{path}: {what}; move it away")


def _others_in(folder):
    """What lies in a folder of shards, and no run has written."""
    inside = sorted(folder.glob("*"))
    return [path for path in inside if path.is_dir() or not (_is_own(path.name) or _is_temporary(path.name))]


def _is_own(name):
    return name in (INDEX, RUN) or _IS_SHARD.fullmatch(name) is not None


def _is_temporary(name):
    return _is_own(stands_for(name) or "")


def remove_temporaries(folder: Path) -> None:
    """Remove what runs that were killed have left half written in a folder that this run alone writes to."""
    for path in folder.glob("*"):
        if _is_temporary(path.name):
            path.unlink(missing_ok=True)


def read_folder(folder: Path, choose: Choose = list) -> dict[str, Array]:
    """The arrays of a features file, by their names there, from a folder of shards.

    Args:
        folder: of the shards.
        choose: which layers are read, in which order.

    Raises:
        InputError: it is not complete, or a shard is gone, damaged, was changed, or is of another table.
    """
    if not (folder / INDEX).is_file():
        if (folder / RUN).is_file():
            raise InputError(f"{folder}: is not finished; run the same command again, which goes on")
        raise InputError(f"{folder}: is a folder; expected a features file; make one with `extract`")
    index = read_json(folder / INDEX)
    named = index.get("shards") if isinstance(index, dict) else None
    if not isinstance(named, dict) or not all(_IS_SHARD.fullmatch(name) for name in named) or not named:
        raise InputError(f"{folder / INDEX}: is damaged; {_REMEDY}")
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if path.name not in named:
            raise InputError(f"{path}: is not of this table, says {INDEX} beside it; move it away")
    shards = []
    for name, row in named.items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{folder / INDEX}: names {name}, which is gone; {_REMEDY}")
        shard = read_shard(path, choose)
        if shard is None:
            raise InputError(f"{path}: is damaged, was changed, or is no shard of features; {_REMEDY}")
        first = shards[0] if shards else shard
        is_alike = all(first.about[what] == shard.about[what] for what in ("label_names", "weights_sha256"))
        is_alike = is_alike and [*first.columns] == [*shard.columns]
        if row != [len(shard.columns["clip_id"]), shard.about["sha256"]] or not is_alike:
            raise InputError(f"{path}: is of another table than {INDEX} says; {_REMEDY}")
        shards.append(shard)
    return _joined(shards, choose)


def _joined(shards: list[Shard], choose: Choose) -> dict[str, Array]:
    about = shards[0].about
    layers, names = choose([*about["weights_sha256"]]), about["label_names"]
    weights = [about["weights_sha256"][layer] for layer in layers]
    joined: dict[str, Any] = {}
    for column in [*shards[0].columns]:
        parts = [shard.columns.pop(column) for shard in shards]
        joined[column] = np.concatenate(parts) if isinstance(parts[0], np.ndarray) else [v for p in parts for v in p]
    content = {name: np.array(joined[column], dtype=str) for column, name in _TEXTS.items()}
    content = {name: values for name, values in content.items() if name not in ("groups", "notes") or "".join(values)}
    content |= {"labels": _indices(joined["label"], names), "folds": joined["fold"]}
    if "time" in joined:
        content["times"] = joined["time"]
    if any(weights):
        content["weights_sha256"] = np.array(weights, dtype=str)
    content |= {"layer_names": np.array(layers, dtype=str), "label_names": np.array(names, dtype=str)}
    return {name: joined[name] for name in layers} | content


def _indices(labels: Any, names: list[str]) -> Array:
    """The reverse of `_labels`."""
    if isinstance(labels, np.ndarray):
        return labels
    index = {name: i for i, name in enumerate(names)}
    if not any(isinstance(label, list) for label in labels):
        return np.array([-1 if label is None else index[label] for label in labels], dtype=np.int64)
    result = np.zeros((len(labels), len(names)), dtype=np.int64)
    for row, of_clip in zip(result, labels, strict=True):
        row[[index[label] for label in of_clip]] = 1
    return result
