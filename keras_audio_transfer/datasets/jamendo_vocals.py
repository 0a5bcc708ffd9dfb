"""Jamendo vocal detection (Ramona 2008): 93 songs, cut where singing begins and ends into 4,086 parts.

A clip is a part of a song: "sing" or "nosing". The official split is by song: 61 for training, 16 for validation and
16 for test; `group` is the song. Splits shorter than a millisecond are left out.

`data_dir` has either the author's folders `train/`, `valid/`, `test/` (the songs) and `jamendo_lab/` (for each song a
text file of the same name that ends in .lab: a line per part with start, end and label), or, as others arrange them,
`audio/`, `labels/` and the lists `filelists/train`, `valid` and `test` (a line per song).
"""

from pathlib import Path

from keras_audio_transfer.datasets.clip import Clip, read_number, require, segment_id
from keras_audio_transfer.datasets.walk import AUDIO_SUFFIXES, audio_in
from keras_audio_transfer.errors import InputError

CITATION = (
    "M. Ramona, G. Richard, B. David. Vocal detection in music with support vector machines. "
    "IEEE International Conference on Acoustics, Speech and Signal Processing 2008, 1885-1888."
)
LICENSE = "Creative Commons, each song its own"
REMOTES = {}
NO_DOWNLOAD = "the author publishes no checksums"
LABELS = ("nosing", "sing")
_SPLITS = {"train": "train", "valid": "validation", "test": "test"}
_SHORTEST_SECONDS = 0.001


def clips(data_dir: Path) -> list[Clip]:
    """Return the parts of the songs, in the order of their `clip_id`.

    Raises:
        InputError: a folder, a song or its label file is missing, or a line of a label file is wrong.
    """
    remedy = "get it from https://zenodo.org/records/2585988"
    if (data_dir / "filelists").is_dir():
        songs, labels = _listed_songs(data_dir, remedy), "labels"
    else:
        require(data_dir, [*_SPLITS, "jamendo_lab"], "jamendo_vocals", remedy)
        songs = [(path, split) for name, split in _SPLITS.items() for path in audio_in(data_dir / name)]
        labels = "jamendo_lab"
    require(data_dir, [f"{labels}/{path.stem}.lab" for path, _ in songs], "jamendo_vocals", remedy)
    found = []
    for path, split in songs:
        song = path.relative_to(data_dir).as_posix()
        for start, end, label in _parts(data_dir / labels / f"{path.stem}.lab"):
            part = {"start_seconds": start, "duration_seconds": end - start}
            found.append(Clip(segment_id(song, start), path, labels=(label,), split=split, group=song, **part))
    return sorted(found, key=lambda clip: clip.clip_id)


def _listed_songs(data_dir: Path, remedy: str) -> list[tuple[Path, str]]:
    """The songs that the lists name, with or without the ending of an audio file or label file, and their splits."""
    require(data_dir, ["audio", "labels", *(f"filelists/{name}" for name in _SPLITS)], "jamendo_vocals", remedy)
    path_of = {path.stem: path for path in audio_in(data_dir / "audio")}
    songs = []
    for name, split in _SPLITS.items():
        for line in (data_dir / "filelists" / name).read_text(encoding="utf-8").splitlines():
            song = Path(line.strip())
            stem = song.stem if song.suffix.lower() in (*AUDIO_SUFFIXES, ".lab", ".trs") else song.name
            if not stem:
                continue
            if stem not in path_of:
                raise InputError(f"jamendo_vocals: {data_dir / 'audio'} has no {stem!r}, which {name} lists; {remedy}")
            songs.append((path_of[stem], split))
    return songs


def _parts(path: Path) -> list[tuple[float, float, str]]:
    """The start and end in seconds and the label of each line of a label file."""
    parts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where, words = f"{path}, line {number}", line.split()
        if not words:
            continue
        if len(words) != 3 or words[2] not in LABELS:
            raise InputError(f"{where}: {line!r} received; expected start and end in seconds, then sing or nosing")
        start, end = read_number(words[0], "start", where), read_number(words[1], "end", where)
        if not 0 <= start <= end:
            raise InputError(f"{where}: from {start:g} to {end:g} s; expected a start from 0 up and an end after it")
        if end - start >= _SHORTEST_SECONDS:
            parts.append((start, end, words[2]))
    return parts
