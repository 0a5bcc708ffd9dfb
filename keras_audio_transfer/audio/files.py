"""Audio files -> blocks of samples, read in order. Lengths are measured, never believed. Without TensorFlow."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from keras_audio_transfer.audio.decoders import BLOCK, EXPECTED, Decoder, StoredSamples, open_decoder
from keras_audio_transfer.config import HIGHEST_RATE, LOWEST_RATE
from keras_audio_transfer.datasets.clip import Stored
from keras_audio_transfer.errors import InputError

# What the largest integer format holds, in case a float file was never scaled. More overflows inside a network.
LARGEST_SAMPLE = 2.0**31


class AudioFile:
    """An audio file that is being read, from `start_seconds` on.

    Attributes:
        sample_rate: in Hz.
    """

    def __init__(self, path: Path, decoder: Decoder, start: int):
        self.path, self._decoder, self._start = path, decoder, start
        self.sample_rate: int = decoder.sample_rate

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of it, in words; complete when it has been read."""
        return self._decoder.notes

    def read(self, seconds: float | None = None) -> np.ndarray:
        """The file's samples of the first `seconds` and up to one more, float32 (samples, channels); see `blocks`."""
        samples = None if seconds is None else int(seconds * self.sample_rate) + 1
        blocks = [*self.blocks(samples)]
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def blocks(self, samples: int | None = None) -> Iterator[np.ndarray]:
        """The file's samples, float32 (samples, channels), at most so many; with None up to its end, and checked there.

        Raises:
            InputError: truncated, without samples, over before the start, or with samples that are NaN, infinite or
                beyond any format.
        """
        read = 0
        while samples is None or read < samples:
            wanted = BLOCK if samples is None else min(BLOCK, samples - read)
            block = self._decoder.read(wanted)
            if not len(block):
                self._decoder.check_end()
                break
            read += len(block)
            self._check(block)
            yield block
        if not read and self._start:
            seconds = f"{self._start / self.sample_rate:g}"
            raise InputError(f"{self.path}: the file is over before {seconds} s; correct the start of the clip")
        if not read:
            remedy = "remove it, copy it again or repair its header"
            raise InputError(f"{self.path}: holds no samples; expected at least one; {remedy}")

    def _check(self, block):
        largest = peak(block)
        if not largest <= LARGEST_SAMPLE:
            self._decoder.check_content()
        if not np.isfinite(largest):
            raise InputError(f"{self.path}: holds NaN or infinite samples; expected finite ones; repair or remove it")
        if largest > LARGEST_SAMPLE:
            raise InputError(f"{self.path}: holds a sample of {largest:.1e}; expected -1 to 1; repair or remove it")


def peak(samples: np.ndarray) -> float:
    """The largest absolute value, NaN if one is; quicker than by `np.abs`, which copies them."""
    return max(samples.max(), -samples.min())


@contextmanager
def open_audio(path: Path, start_seconds: int = 0, stored: Stored | None = None) -> Iterator[AudioFile]:
    """Open an audio file for reading.

    Args:
        path: see `datasets.walk.AUDIO_SUFFIXES`; any sample format, rate and number of channels.
        start_seconds: where to start; whole seconds, which are whole numbers of samples at any rate.
        stored: where in a shard a clip's samples lie that `prepare` has stored. They are checked where they end.

    Raises:
        InputError: not there, not audio, or of no rate that a recording has.
    """
    if not path.is_file():
        gone = "does not exist; put it back, or run `prepare` once more"
        raise InputError(f"{path}: {gone if stored else _why_no_file(path)}")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: empty file (0 bytes); {EXPECTED}; copy the file again")
    with closing(StoredSamples(path, stored) if stored else open_decoder(path)) as decoder:
        rate = decoder.sample_rate
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            expected = f"expected {LOWEST_RATE} to {HIGHEST_RATE} Hz"
            raise InputError(f"{path}: its sample rate is {rate} Hz; {expected}; repair its header or remove it")
        start = start_seconds * rate
        decoder.skip(start)
        yield AudioFile(path, decoder, start)


def _why_no_file(path):
    expected = "expected an audio file; check the path"
    if path.is_symlink():
        target = "a folder that it is in" if path.is_dir() else f"{os.readlink(path)}, which does not exist"
        return f"is a link to {target}; {expected}"
    if path.is_dir():
        if not os.access(path, os.R_OK | os.X_OK):
            return "is a folder that may not be read; give yourself the permission, or leave it out"
        return f"is a folder; {expected}"
    return f"{'is no file' if path.exists() else 'does not exist'}; {expected}"


def read_audio(path: Path, seconds: float | None = None, start_seconds: int = 0) -> tuple[np.ndarray, int]:
    """Read an audio file as it is.

    Args:
        path, start_seconds: see `open_audio`.
        seconds: read no more than this; None for up to the file's end.

    Returns:
        Samples float32 (samples, channels), integers scaled to [-1, 1], and the sample rate in Hz.

    Raises:
        InputError: see `open_audio` and `AudioFile.blocks`.
    """
    with open_audio(path, start_seconds) as file:
        return file.read(seconds), file.sample_rate
