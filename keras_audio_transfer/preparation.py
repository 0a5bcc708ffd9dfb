"""Clips -> shards of TFRecord and an index of them in Parquet, which the data set `prepared` reads.

    clips-00000.tfrecord, ...          a `tf.train.Example` a clip
    index.parquet/00000.parquet, ...   a row a clip, see `datasets.prepared.schema`; a file a shard, written after it
    index.parquet/_shards.json         how many shards there are; written last

While a shard is missing the index is called `index.unfinished`: what a run that was killed has finished is kept, and
nobody takes a part for the whole. Samples are float32, so that nothing is lost but what resampling loses.
"""

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

from keras_audio_transfer.audio.decoders import StoredSamples
from keras_audio_transfer.audio.loading import load_sound, low_rate, or_reason, ordered_map
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.datasets.prepared import (
    INDEX,
    SHARDS,
    UNFINISHED,
    parts,
    rows_of,
    shard_name,
    shards_in,
    stored_of,
    table_of,
)
from keras_audio_transfer.datasets.walk import text_of
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import atomic_write, read_json, stands_for, write_json
from keras_audio_transfer.fingerprints import Fingerprint, fingerprint, is_unchanged

# Of a record: its length and the length's checksum before it, its own checksum behind it.
_BEFORE, _BEHIND = 12, 4
SHARD_BYTES = 1 << 27
_log = logging.getLogger(__name__)
# In an index: a part, or how many there are.
_IS_OWN = re.compile(r"\d{5,}\.parquet|_shards\.json")
_NOTHING = {
    **dict.fromkeys(("source_bytes", "source_mtime_ns", "recorded_rate", "recorded_channels"), 0),
    **{"source_sha256": "", "samples": 0, "seconds": 0.0, "offset": 0, "checksum": "", "notes": []},
}

Record = tuple[dict[str, Any], bytes]  # a clip's row in the index, and what the shard holds of it
# From a function of a clip, clips, and a function of a clip and why it has no record, to the record of each clip.
Elsewhere = Callable[[Callable[[Clip], Record], Sequence[Clip], Callable[[Clip, str], Record]], Iterator[Record]]


def prepare(
    clips: Sequence[Clip],
    folder: Path,
    sample_rate: int,
    workers: int = 2,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int], Callable] = lambda total: iter,
    elsewhere: Elsewhere | None = None,
    checking: Callable[[Sequence[Path]], Iterable[Path]] = iter,
) -> tuple[list[dict[str, Any]], int]:
    """Decode and resample clips, and write them to a folder.

    What an earlier run has written there stays, up to the first shard that has other clips, whose sources have changed
    since, or that holds other samples than were written. A source that is gone has not changed.

    Args:
        clips: of one data set.
        folder: a new one, or one that was written by this.
        sample_rate: of the samples, in Hz.
        workers: clips worked on at the same time.
        shard_bytes: a shard ends behind the clip that makes it this large.
        progress: from how many clips have to be read to what wraps their iterator, e.g. `tqdm`.
        elsewhere: computes records on other machines. None: here.
        checking: wraps the parts of the index that is there, whose shards are read and checked.

    Returns:
        The rows of the index, and how many of them were there before.

    Raises:
        InputError: the folder holds another data set, or other things, or what would be lost.
    """
    _check(clips, folder, sample_rate)
    index, unfinished = folder / INDEX, folder / UNFINISHED
    there, spare, kept = _indices(clips, folder, sample_rate, checking)
    before = parts(there)
    rows = [row for of_shard in kept for row in of_shard]
    n_before = len(rows)
    rest = clips[n_before:]
    others = shards_in(folder)[len(kept) :]
    _check_sources(rest, folder, before[len(kept) :] + parts(spare))
    _remove_index(spare)
    if there == index and len(kept) == len(before) and not rest and not others:
        if not (index / SHARDS).is_file() or read_json(index / SHARDS) != {"shards": len(kept)}:
            write_json(index / SHARDS, {"shards": len(kept)})
        return rows, n_before
    if index.exists():
        index.rename(unfinished)
    unfinished.mkdir(parents=True, exist_ok=True)
    for part in parts(unfinished)[len(kept) :]:
        part.unlink()
    (unfinished / SHARDS).unlink(missing_ok=True)
    for shard in others:
        shard.unlink()
    of_clip = partial(_record, sample_rate)
    found = (
        elsewhere(of_clip, rest, partial(_failed, sample_rate)) if elsewhere else ordered_map(of_clip, rest, workers)
    )
    records = iter(progress(len(rest))(found))
    number = len(kept)
    while of_shard := _write_shard(records, folder, f"{number:05}", shard_bytes):
        rows += of_shard
        number += 1
    write_json(unfinished / SHARDS, {"shards": number})
    unfinished.rename(index)
    return rows, n_before


def _check(clips, folder, sample_rate):
    if not folder.is_dir():
        return
    indices = [folder / INDEX, folder / UNFINISHED]
    if not any(map(Path.is_dir, indices)) and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise InputError(f"output_dir: {folder} holds other things than prepared clips; name a new folder")
    for path in indices:
        if path.exists() and not path.is_dir():
            raise InputError(f"{path}: is a file, where the index of prepared clips is kept; move it away")
    for path in [*shards_in(folder), *chain.from_iterable(map(parts, indices))]:
        if path.is_dir():
            raise InputError(f"{path}: is a folder, where a file of prepared clips is kept; move it away")
    for part in chain.from_iterable(parts(index)[:1] for index in indices):
        rows = rows_of(part)
        theirs, ours = (rows[0]["dataset"], rows[0]["sample_rate"]), (clips[0].dataset, sample_rate)
        what = f"holds {theirs[0]} at {theirs[1]} Hz, not {ours[0]} at {ours[1]}"
        if theirs == ours and {row["clip_id"] for row in rows}.isdisjoint(clip.clip_id for clip in clips):
            what = f"holds other clips, such as {rows[0]['clip_id']}"
        elif theirs == ours:
            continue
        raise InputError(f"output_dir: {folder} {what}; name another folder, or remove it")


def _check_sources(clips, folder, dropped):
    """Refuse to read clips again that are stored in shards that are dropped, and are nowhere else any more."""
    stored = {row["clip_id"] for part in dropped for row in rows_of(part) if row["samples"]}
    for clip in clips:
        if clip.clip_id in stored and clip.path is not None and not clip.path.exists():
            what = f"{clip.path} is gone, and what {folder} holds of it would be lost, as its shard is written again"
            raise InputError(f"output_dir: {what}; put it back, or name another folder")


# ---- what is there


def _indices(clips, folder, sample_rate, checking):
    """The index by which most clips stay, the other one, and the rows of each shard that stays.

    Both are there where a folder was copied while a run wrote to it, and once more afterwards.
    """
    kept = {}
    for index in (folder / INDEX, folder / UNFINISHED):
        of_index = checking(there) if (there := parts(index)) else ()
        kept[index] = [*_kept(clips, folder, of_index, sample_rate)]
    there = max(kept, key=lambda index: (sum(map(len, kept[index])), index.exists()))
    (spare,) = kept.keys() - {there}
    return there, spare, kept[there]


def _remove_index(index):
    """Remove an index, unless it holds something else."""
    if not index.exists():
        return
    inside = [*index.iterdir()]
    for path in inside:
        if path.is_dir() or not _IS_OWN.fullmatch(stands_for(path.name) or path.name):
            raise InputError(f"{path}: is not of {index.name}, which is left over and to be removed; move it away")
    for path in inside:
        path.unlink()
    index.rmdir()


def _kept(clips, folder, before, sample_rate) -> Iterator[list[dict]]:
    """The rows of each shard that stays."""
    place = 0
    for number, part in enumerate(before):
        shard = folder / shard_name(f"{number:05}")
        if part.stem != f"{number:05}":
            return
        rows = rows_of(part)
        of_shard = clips[place : place + len(rows)]
        if len(of_shard) < len(rows) or not all(map(partial(_is_current, sample_rate), rows, of_shard)):
            return
        if not _is_whole(shard, rows):
            _log.warning("%s: is gone or damaged; its clips and those behind it are prepared again", shard)
            return
        yield rows
        place += len(rows)


def _is_current(sample_rate, row, clip):
    """Whether a row is what would be written today, or its source is gone. What could not be read is tried again."""
    if any(row[name] != value for name, value in _about(clip, sample_rate).items()):
        return False
    if row["failure"]:
        return isinstance(or_reason(partial(load_sound, sample_rate=sample_rate), clip), str)
    if clip.path is None or not clip.path.exists():
        return True
    before = Fingerprint(row["source_bytes"], row["source_mtime_ns"], row["source_sha256"])
    return is_unchanged(clip.path, before)


def _is_whole(shard, rows):
    """Whether a shard holds the samples that its rows say: it is read, which takes far less than decoding its clips."""
    rows = [row for row in rows if row["samples"]]
    size = max((row["offset"] + 4 * row["samples"] + _BEHIND for row in rows), default=0)
    if not shard.is_file() or shard.stat().st_size < size:
        return False
    with shard.open("rb") as file:  # once: on some disks that takes longer than to read a clip
        try:
            for row in rows:
                StoredSamples(shard, stored_of(row), file).check_content()
        except InputError:
            return False
    return True


# ---- what is written


def _write_shard(records, folder, number, shard_bytes):
    """Write the next clips as a shard, then its part of the index; their rows, none where no clip is left."""
    first = next(records, None)
    if first is None:
        return []
    import pyarrow.parquet
    import tensorflow as tf

    rows, size = [], 0
    shard = folder / shard_name(number)
    with atomic_write(shard) as partial, tf.io.TFRecordWriter(os.fsencode(partial)) as writer:
        for row, record in chain([first], records):
            rows.append({**row, "shard": shard.name, "offset": size + _BEFORE + row["offset"]})
            if record:
                writer.write(record)
                size += _BEFORE + len(record) + _BEHIND
            if size >= shard_bytes:
                break
    with atomic_write(folder / UNFINISHED / f"{number}.parquet") as partial:
        pyarrow.parquet.write_table(table_of(rows), partial, write_page_checksum=True)
    return rows


def _record(sample_rate, clip):
    """A clip's row, with its offset in its record; and the record, empty where it cannot be read."""
    result = or_reason(partial(_read, sample_rate), clip)
    if isinstance(result, str):
        return _failed(sample_rate, clip, result)
    found, record = result
    return {**_about(clip, sample_rate), **found}, record


def _failed(sample_rate, clip, reason):
    return {**_about(clip, sample_rate), **_NOTHING, "failure": text_of(reason)}, b""


def _about(clip, sample_rate):
    """What a clip says of itself, in the columns of the index."""
    return {
        "clip_id": clip.clip_id,
        "dataset": clip.dataset,
        "source": "" if clip.path is None else text_of(Path(os.path.abspath(clip.path))),
        "start_seconds": float(clip.start_seconds),
        "duration_seconds": float("inf") if clip.duration_seconds is None else float(clip.duration_seconds),
        "labels": [*clip.labels],
        "targets": [*map(float, clip.targets)],
        "split": clip.split,
        "fold": clip.fold,
        "group": text_of(clip.group),
        "sample_rate": sample_rate,
    }


def _read(sample_rate, clip):
    """What is found when a clip is read, in the columns of the index, and its record."""
    size, date, of_source = 0, 0, ""
    if clip.path is not None and clip.path.is_file():  # a named pipe never ends; `load_sound` says what it is
        size, date, of_source = fingerprint(clip.path)
    waveform, notes, recorded = load_sound(clip, sample_rate)
    of_rate = low_rate(recorded.sample_rate, sample_rate)  # that of the model counts, when it is known
    data = waveform.astype("<f4", copy=False).tobytes()
    record = _example(clip, sample_rate, data)
    found = {
        "source_bytes": size,
        "source_mtime_ns": date,
        "source_sha256": of_source,
        "recorded_rate": recorded.sample_rate,
        "recorded_channels": recorded.channels,
        "samples": len(waveform),
        "seconds": len(waveform) / sample_rate,
        "offset": record.rindex(data),
        "checksum": sha256(data).hexdigest(),
        "notes": [note for note in notes if note not in of_rate],
        "failure": "",
    }
    return found, record


def _example(clip, sample_rate, data):
    """The record of a clip: a `tf.train.Example`."""
    from tensorflow import train

    def texts(*values):
        return train.Feature(bytes_list=train.BytesList(value=[text_of(value).encode() for value in values]))

    def whole(value):
        return train.Feature(int64_list=train.Int64List(value=[value]))

    features = {
        "clip_id": texts(clip.clip_id),
        "fold": whole(clip.fold),
        "group": texts(clip.group),
        "labels": texts(*clip.labels),
        "sample_rate": whole(sample_rate),
        "split": texts(clip.split),
        "targets": train.Feature(float_list=train.FloatList(value=clip.targets)),
        "waveform": train.Feature(bytes_list=train.BytesList(value=[data])),
    }
    return train.Example(features=train.Features(feature=features)).SerializeToString(deterministic=True)
