"""Clips -> waveforms at the sample rate of the model: decode, downmix, resample, crop or pad. Without TensorFlow."""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import soxr

from keras_audio_transfer.audio.files import open_audio, peak, read_audio  # noqa: F401 - its former place
from keras_audio_transfer.config import LONG_CLIPS, AudioConfig
from keras_audio_transfer.datasets.clip import Clip, Recorded
from keras_audio_transfer.errors import InputError, reason_of
from keras_audio_transfer.files import atomic_write

# What is read before and after the wanted part, so that the resampler's filter never meets the ends of the excerpt.
MARGIN_SECONDS = 0.1
SILENT = ("digital silence", "no signal: its channels cancel each other")
CLIPPED = "clipped"
CUT = "cut to its"
_CANCELLED = 1e-3  # of the loudest channel: 60 dB below it
_FULL_SCALE, _OFTEN = 0.9999, 1e-3  # a sample, and the share of them from which on it is heard
Result = TypeVar("Result")


def mix_and_resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Mean of the channels, resampled by soxr at its high quality.

    Args:
        samples: float32 (samples,) or (samples, channels).
        from_rate, to_rate: in Hz.

    Returns:
        float32 (samples,), at least one.
    """
    mono = _mono(samples)
    if from_rate == to_rate:
        return mono
    resampled = soxr.resample(mono, from_rate, to_rate, quality="HQ")
    return resampled if len(resampled) else mono[:1]  # a few samples can round down to none


def _mono(samples):
    is_mono = samples.ndim == 1 or samples.shape[1] == 1  # the mean of one channel takes as long as that of many
    return samples.reshape(-1) if is_mono else samples.mean(axis=1)


class StreamResampler:
    """`mix_and_resample` of a sound that comes in chunks: what is returned, joined, is what that gives for the whole.

    soxr returns a sample when it has heard at most 1500 more, counted at the lower of the two rates.

    Args:
        from_rate, to_rate: in Hz.
    """

    def __init__(self, from_rate: int, to_rate: int):
        self._stream = None if from_rate == to_rate else soxr.ResampleStream(from_rate, to_rate, 1, quality="HQ")
        self._first, self._has_returned = np.empty(0, np.float32), False

    def push(self, samples: np.ndarray) -> np.ndarray:
        """What can be said of the sound after this chunk of it, float32 (samples,) or (samples, channels)."""
        return self._next(_mono(samples))

    def flush(self) -> np.ndarray:
        """The rest. The sound is over then."""
        rest = self._next(np.empty(0, np.float32), last=True)
        return rest if self._has_returned else self._first

    def _next(self, mono, last=False):
        if not len(self._first):
            self._first = mono[:1]
        resampled = mono if self._stream is None else self._stream.resample_chunk(mono, last)
        self._has_returned |= len(resampled) > 0
        return resampled


class Part(NamedTuple):
    """Where a clip lies in its file.

    Attributes:
        skipped: seconds of the file; whole ones, so that what is decoded is resampled at the same moments as in the
            whole file.
        seconds: that are read from there on; None for all.
        first, end: of the clip's samples in the waveform of what is read; an `end` of None is that of the file.
    """

    skipped: int
    seconds: float | None
    first: int
    end: int | None


def part_of(clip: Clip, sample_rate: int, seconds: float | None) -> Part:
    """Where in a waveform of this rate a clip lies, `seconds` of which are wanted; None for all."""
    start, duration = clip.start_seconds, clip.duration_seconds
    skipped = 0 if clip.synthesise is not None else max(0, math.floor(start - MARGIN_SECONDS))
    first = round(start * sample_rate) - skipped * sample_rate
    end = None if duration is None else round((start + duration) * sample_rate) - skipped * sample_rate
    wanted = None if seconds is None else start - skipped + seconds + MARGIN_SECONDS
    return Part(skipped, wanted, first, None if end is None else max(end, first + 1))


class Sound(NamedTuple):
    """A clip's waveform, float32 (samples,), what was found when it was read, in words, and how it was recorded."""

    waveform: np.ndarray
    notes: tuple[str, ...]
    recorded: Recorded


def load_waveform(clip: Clip, sample_rate: int, seconds: float | None = None) -> np.ndarray:
    """The waveform of `load_sound`."""
    return load_sound(clip, sample_rate, seconds).waveform


def load_sound(clip: Clip, sample_rate: int, seconds: float | None = None) -> Sound:
    """A clip's waveform, and what the user may not know of it: that it is silent, clipped, of a low rate, unclosed.

    Of a part of a file no more is decoded than needed, and the result is what a slice of the whole file's waveform
    would be.

    Args:
        clip: a file, a part of one or a synthesised sound.
        sample_rate: of the result, in Hz.
        seconds: only the result's first seconds are needed, this many (much faster for long files); None for all.

    Returns:
        The waveform is longer than `seconds` by a moment, or shorter if the clip is.

    Raises:
        InputError: see `audio.files.open_audio`; or the clip starts after the end of its file.
    """
    wanted = min((length for length in (clip.duration_seconds, seconds) if length is not None), default=None)
    of_file: tuple[str, ...] = ()
    part = part_of(clip, sample_rate, wanted)
    if clip.synthesise is not None:
        samples, from_rate = clip.synthesise()
        if part.seconds is not None:  # then a sound in memory has the waveform that it has when it is read from a file
            samples = samples[: int(part.seconds * from_rate) + 1]
    else:
        with open_audio(clip.path, part.skipped, clip.stored) as file:
            # What is stored is read to its end, where it is checked.
            samples = file.read(None if clip.stored else part.seconds)
            from_rate, of_file = file.sample_rate, file.notes
    waveform = mix_and_resample(samples, from_rate, sample_rate)
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    recorded_rate = from_rate
    if clip.stored is None:
        of_file += tuple(_notes(samples, waveform))
    else:
        recorded_rate, channels, _ = clip.stored.recorded
    of_rate = low_rate(min(recorded_rate, from_rate), sample_rate)
    if clip.is_segment:
        check_start(clip, part.first, len(waveform))
        waveform = waveform[part.first : part.end]
    length = len(waveform) / sample_rate
    recorded = Recorded(recorded_rate, channels, length if wanted is None else min(length, wanted))
    return Sound(waveform, of_file + of_rate, recorded)


def low_rate(from_rate: int, to_rate: int) -> tuple[str, ...]:
    """The note on a sample rate that leaves half of a model's bands empty or more; none on any other."""
    note = f"its sample rate, {from_rate} Hz, is far below the model's, {to_rate} Hz"
    return (note,) if 2 * from_rate <= to_rate else ()


def _notes(samples, waveform):
    """What is to be heard, or not, in samples as they are in the file and as the model gets them."""
    loudest = peak(samples)
    if not loudest:
        yield SILENT[0]
    elif samples.ndim == 2 and samples.shape[1] > 1 and np.abs(waveform).max() < _CANCELLED * loudest:
        yield SILENT[1]
    if loudest >= _FULL_SCALE and np.mean(np.abs(samples) >= _FULL_SCALE) > _OFTEN:
        yield CLIPPED


def seconds_needed(config: AudioConfig) -> float | None:
    """How much of a clip, from its start, the front end needs; None for all of it."""
    return config.clip_seconds if config.long_clips == "start" else None


def load_for(clip: Clip, config: AudioConfig) -> Sound:
    """The sound of `load_sound`, as much of it as the front end needs; whether it is then cut is one of its notes."""
    sound = load_sound(clip, config.sample_rate, seconds_needed(config))
    if len(sound.waveform) <= config.n_samples or config.long_clips == "whole":
        return sound
    part = "first" if config.long_clips == "start" else "middle"
    return sound._replace(notes=(*sound.notes, f"{CUT} {part} {config.clip_seconds:g} s"))


def checksum_of(waveform: np.ndarray) -> str:
    """The SHA-256 of a waveform, which copies of one recording have in common; '' of silence, which is no recording."""
    return hashlib.sha256(waveform.tobytes()).hexdigest() if waveform.any() else ""


def as_heard(clip: Clip, sound: Sound) -> Clip:
    """The clip, with what was found when this was heard of it."""
    return replace(clip, notes=sound.notes, recorded=sound.recorded, checksum=checksum_of(sound.waveform))


def check_start(clip: Clip, first: int, n_samples: int) -> None:
    """Refuse a clip whose first sample is not among those of its file's waveform."""
    if first >= n_samples:
        message = f"the file is over before {clip.start_seconds:g} s; correct the start of the clip"
        raise InputError(f"{clip.clip_id}: {message}")


def crop_or_pad(
    waveform: np.ndarray, n_samples: int, short_clips: str, long_clips: str = "start", crop: float | None = None
) -> np.ndarray:
    """Crop or pad a waveform to exactly `n_samples`; or pad it to no less.

    Args:
        waveform: float32 (samples,), at least one sample.
        n_samples: the length wanted.
        short_clips: 'repeat' (from the start again, then cut: Choi et al. 2017) or 'zero_pad' (zeros at the end).
        long_clips: 'start' or 'centre': the part that is kept; 'whole': all of it.
        crop: where to cut instead, from 0 (start) to 1 (end); None for `long_clips`.

    Returns:
        float32 (n_samples,), or more if whole.
    """
    surplus = len(waveform) - n_samples
    if surplus >= 0 and long_clips == "whole" and crop is None:
        return waveform
    if surplus >= 0:
        position = crop if crop is not None else LONG_CLIPS[long_clips]
        start = round(position * surplus)
        return waveform[start : start + n_samples]
    if short_clips == "repeat":
        return np.resize(waveform, n_samples)
    return np.pad(waveform, (0, -surplus))


class WaveformStore:
    """Decoded, mixed and resampled waveforms by clip, kept or made again each time.

    Args:
        config: the front end; only the part of a clip that it uses is kept.
        whole_clips: keep clips of any length whole (random crops need that).
        cache: None: decode at every call; 'memory'; or a folder, where each waveform is a `.npy` file named after the
            clip's path, size, date and part of the file, so that a changed file is decoded again.

    Attributes:
        notes: clip id -> what was found when it was read.
        recorded: clip id -> how it was recorded, of those that were decoded.
    """

    def __init__(self, config: AudioConfig, whole_clips: bool = False, cache: str | Path | None = None):
        self.config, self.whole_clips = config, whole_clips
        self.notes: dict[str, tuple[str, ...]] = {}
        self.recorded: dict[str, Recorded] = {}
        self.sample_rate, self.n_samples = config.sample_rate, config.n_samples
        self.seconds = None if whole_clips else seconds_needed(config)
        self.in_memory = {} if cache == "memory" else None
        self.folder = Path(cache) if cache not in (None, "memory") else None
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"cache: {self.folder} is a file; expected memory, none, or a folder")

    def load(self, clip: Clip) -> np.ndarray:
        """The clip's waveform, float32 (samples,). Raises InputError where it cannot be read."""
        if self.in_memory is not None:
            if clip.clip_id not in self.in_memory:
                self.in_memory[clip.clip_id] = self._decode(clip)
            return self.in_memory[clip.clip_id]
        if self.folder is not None and clip.path is not None and clip.path.is_file():
            return self._load_from_folder(clip)
        return self._decode(clip)

    def _decode(self, clip):
        sound = load_sound(clip, self.sample_rate) if self.whole_clips else load_for(clip, self.config)
        waveform, self.notes[clip.clip_id], self.recorded[clip.clip_id] = sound
        # A copy, so that a short excerpt does not keep the whole file's memory.
        return waveform if self.seconds is None else waveform[: self.n_samples].copy()

    def _load_from_folder(self, clip):
        status = clip.path.stat()
        key = (clip.path.resolve(), status.st_size, status.st_mtime_ns, self.sample_rate, self.seconds)
        if clip.is_segment:
            key += (clip.start_seconds, clip.duration_seconds)
        if clip.stored:
            key += (clip.stored,)
        path = self.folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.npy"
        said = path.with_suffix(".txt")
        if not path.exists():
            waveform = self._decode(clip)
            with atomic_write(path) as partial, open(partial, "wb") as file:
                np.save(file, waveform)
            if self.notes[clip.clip_id]:
                with atomic_write(said) as partial:
                    partial.write_text("\n".join(self.notes[clip.clip_id]), encoding="utf-8")
        elif clip.clip_id not in self.notes:
            lines = said.read_text(encoding="utf-8").splitlines() if said.exists() else []
            self.notes[clip.clip_id] = tuple(lines)
        return np.load(path)


def ordered_map(function, items: Iterable, workers: int = 2) -> Iterator:
    """`map(function, items)` on `workers` threads, in order, with only a few results waiting.

    Unlike `ThreadPoolExecutor.map` it does not run ahead of a slow consumer, so memory does not grow with the number
    of items.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def or_reason(function: Callable[[Clip], Result], clip: Clip) -> Result | str:
    """`function(clip)`, or, whatever goes wrong with this clip, why it is set aside."""
    try:
        return function(clip)
    except Exception as error:
        reason, name = reason_of(error, clip.clip_id), clip.clip_id
        # A shard is one of many clips.
        return reason if clip.stored is None or reason.startswith(name) else f"{name}: {reason}"


def readable_clips(
    clips: list[Clip], store: WaveformStore, progress=iter
) -> tuple[list[Clip], list[tuple[str, str]], int]:
    """Decode every clip once, to find the bad files before a long run and to fill the store's cache.

    Args:
        clips: to check.
        store: loads them.
        progress: wraps the iterator of results, e.g. `tqdm`.

    Returns:
        The clips that can be read, with their notes, checksums and how they were recorded, (clip id, reason) of those
        that cannot, and the length of the longest in samples.
    """

    def heard(clip):
        waveform = store.load(clip)
        notes, recorded = store.notes.get(clip.clip_id, ()), store.recorded.get(clip.clip_id)
        return len(waveform), replace(clip, notes=notes, recorded=recorded, checksum=checksum_of(waveform))

    results = progress(ordered_map(partial(or_reason, heard), clips))
    readable, failures, longest = [], [], 0
    for clip, result in zip(clips, results, strict=True):
        if isinstance(result, str):
            failures.append((clip.clip_id, result))
            continue
        length, clip_heard = result
        readable.append(clip_heard)
        longest = max(longest, length)
    return readable, failures, longest
