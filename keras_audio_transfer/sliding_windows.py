"""Recordings of any length -> windows around regular times, read block by block. Without TensorFlow."""

import math
from collections.abc import Iterator

import numpy as np

from keras_audio_transfer.audio import MARGIN_SECONDS, check_start, crop_or_pad, load_waveform, mix_and_resample
from keras_audio_transfer.audio_files import open_audio
from keras_audio_transfer.config import AudioConfig, number, shown
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
        InputError: see `audio.load_waveform`.
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
    start = clip.start_seconds
    end = math.inf if clip.duration_seconds is None else start + clip.duration_seconds
    skipped = math.floor(max(start - MARGIN_SECONDS, 0))  # whole seconds, as in `load_waveform`
    with open_audio(clip.path, skipped, clip.stored) as file:
        rate = file.sample_rate
        samples = None if end == math.inf else round((end - skipped + MARGIN_SECONDS) * rate) + 1
        pieces = (block.mean(axis=1) for block in file.blocks(samples))
        held = np.empty(0, np.float32)  # from second `skipped` of the file on
        while True:
            stop = start + seconds
            held = _filled(held, pieces, (stop + 1 - skipped) * rate)
            is_last = len(held) < (stop + 1 - skipped) * rate or stop + 1 >= end
            waveform = mix_and_resample(held, rate, sample_rate)
            first = round(start * sample_rate) - skipped * sample_rate
            if is_last:
                last = len(waveform) if end == math.inf else round(end * sample_rate) - skipped * sample_rate
                check_start(clip, first, waveform)
                yield waveform[first : max(last, first + 1)]
                return
            yield waveform[first : round(stop * sample_rate) - skipped * sample_rate]
            start, passed = stop, math.floor(stop - MARGIN_SECONDS)
            held, skipped = held[(passed - skipped) * rate :], passed


def _filled(held, pieces, samples):
    """What is held, and so many of the next pieces that it is at least this long, or all that there is."""
    parts, length = [held], len(held)
    while length < samples and (piece := next(pieces, None)) is not None:
        parts.append(piece)
        length += len(piece)
    return np.concatenate(parts)


def check_hop(hop_seconds: object) -> float:
    """A hop in seconds, a real number of any type, as a float.

    Raises InputError for one below a millisecond: clip ids tell windows by their milliseconds.
    """
    seconds = number(hop_seconds)
    if not 0.001 <= seconds < math.inf:
        raise InputError(f"hop_seconds: {shown(hop_seconds)} is not allowed; expected seconds, at least 0.001")
    return seconds
