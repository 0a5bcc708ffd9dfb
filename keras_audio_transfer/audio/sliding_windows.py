"""Recordings of any length -> windows around regular times, chunk by chunk. Without TensorFlow."""

from collections.abc import Iterator

import numpy as np

from keras_audio_transfer.audio.files import open_audio
from keras_audio_transfer.audio.loading import StreamResampler, check_start, crop_or_pad, load_waveform, part_of
from keras_audio_transfer.config import LONGEST_HOP, SHORTEST_HOP, AudioConfig, number, shown
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError

Window = tuple[float, np.ndarray]


class SlidingWindows:
    """The windows of `config.clip_seconds` around every multiple of `hop_seconds` before a recording's end.

    At both ends the recording is reflected; one shorter than a window is padded first, as `config.short_clips` says.
    The same as the signature `timestamps` of a SavedModel. A window is returned when its last sample has come, the
    first ones when a whole window has. Memory depends on the window and the chunks, not on the recording.

    Args:
        config: the front end.
        hop_seconds: from window to window.
    """

    def __init__(self, config: AudioConfig, hop_seconds: float):
        self._config, self._hop_seconds, self._hop = config, hop_seconds, hop_seconds * config.sample_rate
        self._before = config.n_samples // 2
        self._after = config.n_samples - self._before - 1
        self._buffer = np.empty(0, np.float32)  # of the recording with its reflected ends, from `_first_sample` on
        self._first_sample = self._number = self._n_samples = 0
        self._has_begun = False

    def push(self, waveform: np.ndarray) -> list[Window]:
        """The windows that are whole after these samples, float32 (samples,), at the front end's rate.

        Returns:
            (seconds from the recording's start to the window's centre, float32 (config.n_samples,)) of each.
        """
        self._n_samples += len(waveform)
        self._buffer = np.concatenate([self._buffer, waveform])
        if not self._has_begun and self._n_samples < self._config.n_samples:
            return []
        if not self._has_begun:
            self._has_begun = True
            self._buffer = np.concatenate([self._buffer[self._before : 0 : -1], self._buffer])
        return self._whole_windows()

    def flush(self) -> list[Window]:
        """The rest of the windows. The recording is over then."""
        if self._has_begun:
            reflected = self._buffer[-self._after - 1 : -1][::-1]
            self._buffer = np.concatenate([self._buffer, reflected])
        elif self._n_samples:
            padded = crop_or_pad(self._buffer, self._config.n_samples, self._config.short_clips)
            self._buffer = np.pad(padded, (self._before, self._after), mode="reflect")
        return self._whole_windows()

    def _whole_windows(self) -> list[Window]:
        found = []
        # The end itself is no time, whatever the rounding.
        while self._number * self._hop < self._n_samples * (1 - 1e-7):
            window = self._buffer[self._start() :][: self._config.n_samples]
            if len(window) < self._config.n_samples:
                break
            found.append((self._number * self._hop_seconds, window))
            self._number += 1
        passed = min(self._start(), len(self._buffer))
        self._buffer, self._first_sample = self._buffer[passed:], self._first_sample + passed
        return found

    def _start(self) -> int:
        """Where the next window starts in the buffer."""
        return max(min(round(self._number * self._hop), self._n_samples - 1) - self._first_sample, 0)


def windows(clip: Clip, config: AudioConfig, hop_seconds: float) -> Iterator[Window]:
    """The `SlidingWindows` of a recording, which is read block by block.

    Args:
        clip: the recording.
        config, hop_seconds: see `SlidingWindows`.

    Yields:
        What `SlidingWindows.push` returns.

    Raises:
        InputError: see `audio.loading.load_waveform`.
    """
    sliding = SlidingWindows(config, hop_seconds)
    for waveform in _blocks(clip, config.sample_rate):
        yield from sliding.push(waveform)
    yield from sliding.flush()


def _blocks(clip, sample_rate):
    """The recording's waveform, a block of its file at a time."""
    if clip.synthesise is not None:
        yield load_waveform(clip, sample_rate)
        return
    part, passed = part_of(clip, sample_rate, clip.duration_seconds), 0
    with open_audio(clip.path, part.skipped, clip.stored) as file:
        for block in _resampled(file, sample_rate, part.seconds):
            yield block[max(part.first - passed, 0) : None if part.end is None else max(part.end - passed, 0)]
            passed += len(block)
    check_start(clip, part.first, passed)


def _resampled(file, sample_rate, seconds):
    resampler = StreamResampler(file.sample_rate, sample_rate)
    for block in file.blocks(None if seconds is None else round(seconds * file.sample_rate) + 1):
        yield resampler.push(block)
    yield resampler.flush()


def check_hop(hop_seconds: object) -> float:
    """A hop in seconds, a real number of any type, as a float.

    Raises InputError for one below a millisecond or above an hour.
    """
    seconds = number(hop_seconds)
    if not SHORTEST_HOP <= seconds <= LONGEST_HOP:
        expected = f"expected seconds from {SHORTEST_HOP} to {LONGEST_HOP}"
        raise InputError(f"hop_seconds: {shown(hop_seconds)} is not allowed; {expected}")
    return seconds
