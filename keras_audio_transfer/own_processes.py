"""Calls in processes of their own, with one thread of TensorFlow each. Without TensorFlow in this one.

What comes of a call then depends on nothing that runs before it or beside it.
"""

import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from keras_audio_transfer.errors import InputError

Key = TypeVar("Key", bound=Hashable)


def as_they_end(function: Callable, calls: Mapping[Key, tuple], jobs: int) -> Iterator[tuple[Key, Future]]:
    """Call a function for each key, several at a time; all that are left are ended when the iterator is closed.

    Args:
        function: of a module.
        calls: key -> arguments, which can be pickled.
        jobs: calls at a time.

    Returns:
        Each key with what has come of its call: what `function` returned or raised, or an `InputError` where its
        process was killed.
    """
    context = _context()

    def in_its_process(arguments):
        with (
            tempfile.TemporaryDirectory(prefix="keras_audio_transfer_") as scratch,
            ProcessPoolExecutor(1, context, _start, (scratch,)) as process,
        ):
            try:
                return process.submit(function, *arguments).result()
            except BrokenProcessPool as error:
                what = "its process was killed, by a lack of memory perhaps"
                again = "repeat the command with fewer `jobs`, and it continues"
                raise InputError(f"{what}; {again}; or begin anew with a lower `batch_size`") from error

    threads = ThreadPoolExecutor(jobs)
    futures = {threads.submit(in_its_process, arguments): key for key, arguments in calls.items()}
    try:
        for future in as_completed(futures):
            yield futures[future], future
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in futures):
            for process in multiprocessing.active_children():
                process.terminate()
            time.sleep(0.1)


def _context():
    """Where the processes come from: on Linux each is a copy of one that has imported TensorFlow and no more."""
    if sys.platform != "linux":  # a copy of a process with TensorFlow in it may crash
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["keras_audio_transfer.finetuning"])
    return context


def _start(scratch):
    """No life without the process that started it, which may be gone already; and one thread of TensorFlow.

    What TensorFlow writes for itself it removes when a program ends, but a process like this ends in another way.
    """
    tempfile.tempdir = scratch

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
