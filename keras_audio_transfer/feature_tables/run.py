"""A run that computes the features of many clips shard by shard, and goes on where it was killed. Without TensorFlow.

What is finished lies in a folder beside the output, `NAME.unfinished`, until all of it is there.
"""

import hashlib
import json
import logging
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from keras_audio_transfer.copies import keep_copies_together
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.shards import (
    BYTES_A_SHARD,
    CLIPS_A_SHARD,
    INDEX,
    RUN,
    SUFFIX,
    UNFINISHED,
    check_replaceable,
    check_unfinished,
    read_shard,
    remove_temporaries,
    shard_name,
    shards_in,
    write_groups,
    write_index,
    write_shard,
)
from keras_audio_transfer.feature_tables.table import FeatureTable, Row, check_table
from keras_audio_transfer.files import atomic_replace, atomic_write, beside, read_json, scratch_folder
from keras_audio_transfer.fingerprints import Fingerprint, fingerprint, is_unchanged
from keras_audio_transfer.resume import check_settings

_log = logging.getLogger(__name__)
RowsOf = Callable[[Iterable[Clip]], Iterator[list[Row]]]


@dataclass
class Found:
    """What a run has found of its clips.

    Attributes:
        failures: (clip id, reason) of those that could not be read.
        notes: what was found when the others were read, a row of the table each.
    """

    failures: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, ...]] = field(default_factory=list)


def compute(
    output: Path,
    clips: list[Clip],
    label_names: list[str],
    settings: Mapping[str, Any],
    rows_of: RowsOf,
    batch_clips: int = 1,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> Found:
    """Compute what no earlier run has: of this output, with these settings, of these clips and files.

    A file is the same while its size and date are, else while its SHA-256 is. A clip that failed is tried again. Memory
    does not grow with the features.

    Args:
        output: the features file (`.npz`) or folder (`.parquet`) that `publish` will write.
        clips: in the order of the table.
        label_names: see `FeatureTable.from_rows`.
        settings: what the features depend on besides the clips, JSON values; `weights_sha256` by layer among them.
        rows_of: clips -> the rows of each, in order, taking clips as it goes.
        batch_clips: clips that are computed together, so that a shard holds whole batches.
        progress: wraps the iterator over the clips, e.g. `tqdm`. That gives None of a clip that an earlier run has
            computed; else how many bytes the output has grown by since the one before, a shard at a time.

    Raises:
        InputError: what is kept is of a run with other settings.
    """
    folder = beside(output, UNFINISHED)
    check_unfinished(folder)
    settings = json.loads(json.dumps({**settings, "labels": label_names}))
    check_settings(folder / RUN, settings)
    (folder / INDEX).unlink(missing_ok=True)
    run = _Run(output, folder, clips, label_names, settings, rows_of, batch_clips)
    deque(progress(run.clip_by_clip()), maxlen=0)
    for path in shards_in(folder)[len(run.sizes) :]:
        path.unlink()
    run.keep_copies_together()
    return run.found


def publish(output: Path) -> int:
    """Give the output its name, once `compute` has ended; the number of its rows. Without rows nothing is written.

    Raises:
        InputError: something has come to what `compute` has finished, which would become a part of the output or go.
    """
    folder = beside(output, UNFINISHED)
    check_unfinished(folder)
    remove_temporaries(folder)
    n_rows = write_index(folder)
    if n_rows and output.suffix == SUFFIX:
        check_replaceable(output)
        atomic_replace(folder, output)
        return n_rows
    if n_rows:
        FeatureTable.load(folder).save(output)
    with scratch_folder(folder) as gone:
        folder.rename(gone / folder.name)
    return n_rows


class _Run:
    def __init__(self, output, folder, clips, label_names, settings, rows_of, batch_clips):
        self.folder, self.clips, self.label_names, self.settings = folder, clips, label_names, settings
        self.rows_of, self.batch_clips = rows_of, batch_clips
        self.is_folder = output.suffix == SUFFIX
        self.is_tagged = any(len(clip.labels) > 1 for clip in clips)
        self.run_sha256 = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
        is_same = (output / RUN).is_file() and read_json(output / RUN) == settings
        self.finished = output if is_same else None
        self.found = Found()
        self.sizes: list[int] = []  # of the shards, in clips
        self.checksums: list[bytes | None] = []  # of each clip; None of one that failed
        self.sources: deque[Any] = deque()  # of the clips that are being computed

    def clip_by_clip(self) -> Iterator[int | None]:
        """Have every shard in the folder, one after the other; see `progress` of `compute`."""
        position, stream = 0, None
        while position < len(self.clips):
            place = self.folder / shard_name(len(self.sizes))
            about = self._kept(place, position)
            if about is not None:
                if stream is not None:
                    stream.close()
                    stream = None
                yield from (None for _ in about["checksums"])
            else:
                if stream is None:
                    self.sources.clear()
                    stream = self.rows_of(self._watched(position))
                about = yield from self._computed(place, position, stream)
            self.found.failures += map(tuple, about["failures"])
            self.found.notes += map(tuple, about["notes"])
            self.checksums += [None if text is None else bytes.fromhex(text) for text in about["checksums"]]
            self.sizes.append(len(about["checksums"]))
            position += self.sizes[-1]

    def _watched(self, position):
        """The clips from there on, each with what its file is before it is decoded."""
        for number in range(position, len(self.clips)):
            self.sources.append(_source(self.clips[number]))
            yield self.clips[number]

    def _computed(self, place, position, stream):
        """Write the shard of the next clips; what it says of itself."""
        of_clips, size, is_full = [], 0, False
        for rows in stream:
            of_clips.append(rows)
            size += sum(v.nbytes for row in rows if not isinstance(row.features, str) for v in row.features.values())
            is_full = len(of_clips) >= CLIPS_A_SHARD or size >= BYTES_A_SHARD
            is_full = is_full and len(of_clips) % self.batch_clips == 0
            if is_full:
                break
            yield 0
        rows = [row for rows in of_clips for row in rows]
        table, failures = FeatureTable.from_rows(rows, self.label_names, self.is_tagged, find_copies=False)
        about = {
            "run_sha256": self.run_sha256,
            "clips_sha256": _sha256_of_clips(self.clips[position : position + len(of_clips)]),
            "position": position,
            "sources": [self.sources.popleft() for _ in of_clips],
            "checksums": [None if isinstance(first.features, str) else first.clip.checksum for first, *_ in of_clips],
            "failures": failures,
            "notes": [row.clip.notes for row in rows if not isinstance(row.features, str)],
        }
        weights = {name: self.settings["weights_sha256"][name] for name in table.layers}
        if len(table):
            check_table(table, "table")
        arrays = replace(table, weights_sha256=weights).to_arrays()
        write_shard(place, arrays, about)
        if is_full:
            yield place.stat().st_size if self.is_folder else sum(array.nbytes for array in arrays.values())
        return about

    def _kept(self, place, position):
        """What the shard says of itself that an earlier run has left for the clips from there on; None for none."""
        for path in (place, *([self.finished / place.name] if self.finished else [])):
            if not path.is_file():
                continue
            shard = read_shard(path)
            if shard is None or "run_sha256" not in shard.about:
                _log.warning("%s: is damaged or was changed; its clips are computed again", path)
            elif shard.about["run_sha256"] != self.run_sha256:
                raise InputError(f"{path}: is of a run with other settings; move it away, and others that are")
            elif self._is_current(shard.about, position):
                if path != place:
                    _link(path, place)
                return shard.about
        return None

    def _is_current(self, about, position):
        clips = self.clips[position : position + len(about["sources"])]
        if not clips or about["position"] != position or about["clips_sha256"] != _sha256_of_clips(clips):
            return False
        if not all(map(_is_same, clips, about["sources"])):
            return False
        failed = [clip for clip, checksum in zip(clips, about["checksums"], strict=True) if checksum is None]
        return all(isinstance(first.features, str) for first, *_ in (self.rows_of(failed) if failed else ()))

    def keep_copies_together(self):
        """Copies of one recording become a group, now that all clips have been heard; see `copies`."""
        known = [checksum for checksum in self.checksums if checksum]
        if not known:  # of windows, whose recordings are groups already
            return
        groups: dict[str, str] = {}
        if len({*known}) < len(known):
            pairs = zip(self.clips, self.checksums, strict=True)
            heard = [replace(clip, checksum=checksum.hex()) for clip, checksum in pairs if checksum is not None]
            groups = {clip.clip_id: clip.group for clip in keep_copies_together(heard, allow=True)}
        position = 0
        for path, size in zip(shards_in(self.folder), self.sizes, strict=True):
            checksums = self.checksums[position : (end := position + size)]
            pairs = zip(self.clips[position:end], checksums, strict=True)
            of_rows = [groups.get(clip.clip_id, clip.group) for clip, checksum in pairs if checksum is not None]
            write_groups(path, of_rows)
            position = end


def _source(clip: Clip) -> Any:
    """Size, date and SHA-256 of a clip's file; of a sound in memory its SHA-256; None where there is no such thing."""
    try:
        if clip.synthesise is not None:
            samples, rate = clip.synthesise()
            return hashlib.sha256(repr((rate, samples.shape)).encode() + samples.tobytes()).hexdigest()
        if clip.path is None or not clip.path.is_file():
            return None
        return fingerprint(clip.path)
    except Exception:  # why the clip cannot be read is said when it is
        return None


def _is_same(clip: Clip, source: Any) -> bool:
    if isinstance(source, list) and clip.path is not None and clip.path.is_file():
        with suppress(OSError):  # why it cannot be read is said when it is
            return is_unchanged(clip.path, Fingerprint(*source))
        return False
    return _source(clip) == source


def _sha256_of_clips(clips: list[Clip]) -> str:
    """Of what clips say of themselves; see `_source` for their files."""
    names = [f.name for f in fields(Clip) if f.compare and f.name not in ("path", "synthesise")]
    about = [[getattr(clip, name) for name in names] for clip in clips]
    return hashlib.sha256(repr(about).encode("utf-8", "surrogateescape")).hexdigest()


def _link(path: Path, place: Path) -> None:
    with atomic_write(place) as partial:
        try:
            os.link(path, partial)
        except OSError:  # not every disk can
            shutil.copyfile(path, partial)
