"""What `prepare` has made of another data set: its clips decoded and resampled, in shards of TFRecord, and an index.

`data_dir` is the folder that it wrote, see `preparation`. Labels, folds, splits and groups are those of the data set
that was prepared, whose name the clips keep as their `dataset`; clips that could not be read are left out.
"""

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

from keras_audio_transfer.config import HIGHEST_RATE, LOWEST_RATE
from keras_audio_transfer.datasets.clip import SPLITS, Clip, Recorded, Stored
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import read_json

CITATION = "That of the data set that was prepared."
LICENSE = "That of the data set that was prepared."
REMOTES = {}
# Folders with a file a shard; the second while one is missing.
INDEX = "index.parquet"
UNFINISHED = "index.unfinished"
SHARDS = "_shards.json"  # in the first: how many there are; programs that read Parquet pass over an underscore
LABELS = ()
_IS_SHARD = re.compile(r"clips-\d{5,}\.tfrecord")
_IS_PART = re.compile(r"\d{5,}\.parquet")
_SHA256 = b"keras_audio_transfer"  # the key of what the rows of a part amount to


def clips(data_dir: Path) -> list[Clip]:
    """Return the clips in the index of `data_dir` that could be read, in the order of the data set that was prepared.

    Raises:
        InputError: no folder of `prepare`, one that is not complete, or an index that is damaged. Whether a shard is
            there and holds what it should shows when a clip is read.
    """
    if not data_dir.is_dir():
        raise InputError(f"prepared: {data_dir} is not a folder; pass the one that `prepare` has written")
    if (data_dir / UNFINISHED).exists():
        what = "is not complete: `prepare` writes there, or was ended before"
        raise InputError(f"prepared: {data_dir} {what}; wait for it, or run it once more")
    if not (data_dir / INDEX).is_dir():
        raise InputError(f"prepared: {data_dir} has no {INDEX}; pass the folder that `prepare` has written")
    there = parts(data_dir / INDEX)
    shards = {path.name for path in shards_in(data_dir)} | {shard_name(part.stem) for part in there}
    for number in range(max(len(shards), _n_shards(data_dir / INDEX / SHARDS))):
        if not (part := data_dir / INDEX / f"{number:05}.parquet").is_file():
            raise InputError(f"prepared: {part} is gone; copy the folder once more, or run `prepare` once more")
    rows = [row for part in there for row in rows_of(part)]
    return [_clip(data_dir, row) for row in rows if not row["failure"]]


def _n_shards(path):
    """How many shards a folder has to have; 0 where it does not say: `prepare` did not always write it."""
    content = read_json(path) if path.is_file() else {"shards": 0}
    if not isinstance(content, dict) or type(content.get("shards")) is not int:
        raise InputError(f"{path}: is damaged; run `prepare` once more")
    return content["shards"]


def schema() -> Any:
    """The columns of the index, and their types in Arrow."""
    import pyarrow as pa

    text, whole, number = pa.string(), pa.int64(), pa.float64()
    columns = {
        "clip_id": text,
        "dataset": text,
        "source": text,  # absolute path; '' of a sound that is computed
        "source_bytes": whole,
        "source_mtime_ns": whole,
        "source_sha256": text,
        "start_seconds": number,  # of the clip in its source
        "duration_seconds": number,  # inf: to the source's end
        "recorded_rate": whole,  # of the source, Hz
        "recorded_channels": whole,
        "labels": pa.list_(text),
        "targets": pa.list_(number),
        "split": text,
        "fold": whole,
        "group": text,
        "sample_rate": whole,  # of the samples that are stored, Hz
        "samples": whole,
        "seconds": number,
        "shard": text,
        "offset": whole,  # of the first sample in the shard, bytes
        "checksum": text,  # SHA-256 of the samples
        "notes": pa.list_(text),
        "failure": text,  # why the clip could not be read; then there are no samples
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


def shard_name(number: str) -> str:
    """The name of a shard; that of its part of the index has the same number."""
    return f"clips-{number}.tfrecord"


def shards_in(folder: Path) -> list[Path]:
    """The shards of a folder, in their order. What is called otherwise is not of `prepare`."""
    return _ordered(path for path in folder.glob("*") if _IS_SHARD.fullmatch(path.name))


def parts(index: Path) -> list[Path]:
    """The files of an index, in the order of their shards. Raises InputError where another table lies among them."""
    tables = _ordered(index.glob("*.parquet"))
    for path in tables:
        if not _IS_PART.fullmatch(path.name):
            raise InputError(f"{path}: is no part of the index, and would be taken for one; move it away")
    return tables


def _ordered(paths):
    return sorted(paths, key=lambda path: (len(path.name), path))


def table_of(rows: list[dict[str, Any]]) -> Any:
    """The clips of a shard as a table of Arrow, which says what its rows amount to, so that an edit shows."""
    import pyarrow as pa

    table = pa.Table.from_pylist(rows, schema())
    return table.replace_schema_metadata({_SHA256: _sha256_of(table.to_pylist())})


def _sha256_of(rows):
    return sha256(json.dumps(rows).encode()).hexdigest()


def stored_of(row: dict[str, Any]) -> Stored:
    """Where the samples of a row of the index lie in its shard."""
    recorded = Recorded(row["recorded_rate"], row["recorded_channels"], row["seconds"])
    return Stored(row["offset"], row["samples"], row["sample_rate"], row["checksum"], recorded, tuple(row["notes"]))


def rows_of(part: Path) -> list[dict[str, Any]]:
    """The clips of a shard: a dict each of what `schema` has.

    Raises:
        InputError: not there, damaged, or edited.
    """
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(part, page_checksum_verification=True) as file:
            table = file.read()
        if not table.schema.equals(schema()):
            raise ValueError("its columns are others")
        if not (rows := table.to_pylist()):
            raise ValueError("it has no rows")
        for row in rows:
            _check(row, shard_name(part.stem))
        said = (table.schema.metadata or {}).get(_SHA256)
        if said is not None and said.decode() != _sha256_of(rows):  # `prepare` did not always write it
            raise ValueError("it was edited")
    except PermissionError:
        raise
    except Exception as error:  # there are as many kinds as ways to damage a file
        first, *_ = f"{error}".splitlines() or [""]
        what = f"is no part of an index, or damaged ({first[:200]})"
        raise InputError(f"{part}: {what}; remove it, and run `prepare` once more") from error
    return rows


def _check(row, shard):
    """Refuse what no run has written, and nothing later would notice; the samples have their checksum."""
    holds = [row["shard"] == shard, row["split"] in ("", *SPLITS), row["fold"] >= -1]
    if not row["failure"]:
        holds += [row["samples"] >= 1, row["offset"] >= 0, LOWEST_RATE <= row["sample_rate"] <= HIGHEST_RATE]
    if not all(holds) or None in (*row["labels"], *row["targets"], *row["notes"]):
        raise ValueError(f"what it says of {row['clip_id']} cannot be")


def _clip(data_dir, row):
    return Clip(
        row["clip_id"],
        data_dir / row["shard"],
        labels=tuple(row["labels"]),
        fold=row["fold"],
        split=row["split"],
        group=row["group"],
        targets=tuple(row["targets"]),
        dataset=row["dataset"],
        stored=stored_of(row),
    )
