"""What the parts of the benchmark share."""

import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from keras_audio_transfer.errors import InputError

PASSES = 3  # over all clips, of which the median counts: other work on the machine comes and goes
ROUNDS = 7  # of a whole and its parts
ALONE = 20  # clips that are timed alone


def in_a_process(function, *parameters):
    """`function(*parameters)` in a fresh process, so that TensorFlow's settings and memory are its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *parameters).result()


def cost_of(*command):
    """Seconds of a command, its start included; those of all cores together; and its highest memory use."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "keras_audio_transfer", *map(str, command), "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise InputError(f"{command[3]}: has failed; see its message above")
    return {
        "seconds": time.perf_counter() - start,
        "core_seconds": usage.ru_utime + usage.ru_stime,
        "peak_megabytes": usage.ru_maxrss / 1024,
    }


def largest_difference(values, expected):
    """Relative to 1 or, where larger, to what is expected."""
    return float(np.max(np.abs(values - expected) / np.maximum(1.0, np.abs(expected))))


def speed(run, clips, audio_seconds, workers):
    """The figures of this process for one way to compute something of clips.

    Args:
        run: takes some of the clips.
        clips: any list.
        audio_seconds: of all of them.
        workers: on how many clips it works side by side; as many are worked on before anything is measured.

    Returns:
        Clips a second and times real time, the median of some passes; milliseconds of a core that a clip takes, and
        of one clip when it is alone, medians; the highest memory use so far.
    """
    run(clips[:workers])
    passes = [_seconds(run, clips) for _ in range(PASSES)]
    alone = [_seconds(run, [clip])[0] for clip in clips[:ALONE]]
    seconds, of_cores = map(statistics.median, zip(*passes, strict=True))
    return {
        "clips_a_second": len(clips) / seconds,
        "audio_seconds_a_second": audio_seconds / seconds,
        "core_milliseconds_a_clip": 1000 * of_cores / len(clips),
        "milliseconds_of_a_clip_alone": 1000 * statistics.median(alone),
        "peak_megabytes": peak_megabytes(),
    }


def peak_megabytes():
    """The highest memory use of this process so far."""
    import resource  # Windows has none

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def times_the_sum(whole, parts):
    """How many times as long a whole takes as its parts together, by the clock and by the time of cores.

    The median of rounds in which each is run in turn, so that other work on the machine slows all of them.

    Args:
        whole: what to run, and the clips that it takes.
        parts: a list of such.
    """
    ratios = []
    for _ in range(ROUNDS):
        of_whole, *of_parts = (_seconds(run, clips) for run, clips in (whole, *parts))
        ratios.append(np.divide(of_whole, np.sum(of_parts, axis=0)))
    return np.median(ratios, axis=0).tolist()


def _seconds(run, clips):
    """Of the clock, and of all cores together."""
    start, of_cores = time.perf_counter(), time.process_time()
    run(clips)
    return time.perf_counter() - start, time.process_time() - of_cores
