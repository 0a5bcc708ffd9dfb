"""Recordings of any length -> windows around regular times, read block by block. Without TensorFlow."""

from collections.abc import Iterator
from dataclasses import replace
from numbers import Real

import numpy as np
import soundfile

from keras_audio_transfer.audio import crop_or_pad, load_waveform
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError

_BLOCK_SECONDS = 60


def windows(clip: Clip, config: AudioConfig, hop_seconds: float) -> Iterator[tuple[float, np.ndarray]]:
    """The windows of `config.clip_seconds` around every multiple of `hop_seconds` before the recording's end.

    At both ends the recording is reflected; one shorter than a window is padded first, as `config.short_clips` says.
    The same as the signature `timestamps` of a SavedModel. Memory depends on the window only, not on the recording.

    Args:
        clip: the recording.
        config: the front end.
        hop_seconds: from window to window.

    Yields:
        (seconds from the recording's start to the window's centre, float32 (config.n_samples,)).

    Raises:
        InputError: see `decoding.load_waveform`.
    """
    hop, window = hop_seconds * config.sample_rate, config.n_samples
    buffer, first_sample, number = np.empty(0, np.float32), 0, 0

    def start_in_buffer(n_samples):
        return min(round(number * hop), n_samples - 1) - first_sample

    for piece, n_samples in _padded(clip, config):
        buffer = np.concatenate([buffer, piece])
        while number * hop < n_samples * (1 - 1e-7):  # the end itself is no time, whatever the rounding
            start = start_in_buffer(n_samples)
            if start + window > len(buffer):
                break
            yield number * hop_seconds, buffer[start : start + window]
            number += 1
        passed = min(max(start_in_buffer(n_samples), 0), len(buffer))
        buffer, first_sample = buffer[passed:], first_sample + passed


def _padded(clip, config):
    """The recording with its reflected ends, in pieces, each with the number of the recording's samples so far."""
    before = config.n_samples // 2
    after = config.n_samples - before - 1
    blocks = _blocks(clip, config.sample_rate, max(_BLOCK_SECONDS, 2 * config.clip_seconds))
    tail, n_samples = next(blocks), 0
    if len(tail) < config.n_samples:  # then it is the only block
        padded = crop_or_pad(tail, config.n_samples, config.short_clips)
        yield np.pad(padded, (before, after), mode="reflect"), len(tail)
        return
    yield tail[before:0:-1], 0
    yield tail, (n_samples := len(tail))
    for block in blocks:
        n_samples += len(block)
        yield block, n_samples
        tail = np.concatenate([tail, block])[-after - 1 :]
    yield tail[-after - 1 : -1][::-1], n_samples


def _blocks(clip, sample_rate, seconds):
    """The recording's waveform in blocks of this number of seconds; the last one up to a second longer."""
    if clip.synthesise is not None:
        yield load_waveform(clip, sample_rate)
        return
    try:
        end = soundfile.info(clip.path).duration
    except soundfile.LibsndfileError:
        end = 0.0  # let the decoder say what is wrong
    if clip.duration_seconds is not None:
        end = min(end, clip.start_seconds + clip.duration_seconds)
    start = clip.start_seconds
    while True:
        stop = start + seconds if start + seconds < end - 1 else end
        part = replace(clip, start_seconds=start, duration_seconds=max(stop - start, 0.0)) if end else clip
        yield load_waveform(part, sample_rate)
        if stop == end:
            return
        start = stop


def check_hop(hop_seconds: float) -> None:
    """Raise InputError for a hop below a millisecond: clip ids tell windows by their milliseconds."""
    if not (isinstance(hop_seconds, Real) and 0.001 <= hop_seconds < float("inf")):
        raise InputError(f"hop_seconds: {hop_seconds!r} is not allowed; expected seconds, at least 0.001")
