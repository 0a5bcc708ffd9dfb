"""Work on the machines of a Dask cluster: tasks of a second or two, their results in order. Without TensorFlow."""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from platform import python_version
from typing import TypeVar

from keras_audio_transfer.errors import InputError

Item, Result = TypeVar("Item"), TypeVar("Result")
TASK_SECONDS = 2.0  # what is lost with a worker, and long beside what the scheduler spends on a task
ITEMS_A_TASK = 128
ANSWERS_IN = 10.0  # seconds
WORKERS_IN = 60.0  # seconds
_log = logging.getLogger(__name__)
_PACKAGES = (
    "keras_audio_transfer",
    "tensorflow",
    "numpy",
    "scipy",
    "scikit-learn",
    "librosa",
    "soundfile",
    "soxr",
    "av",
)


class Cluster(AbstractContextManager):
    """The workers of a Dask scheduler.

    Args:
        address: of the scheduler, such as 'tcp://10.0.0.1:8786'.
        workers_in: seconds that it may be without workers while there is work.

    Raises:
        InputError: Dask is not installed, or no scheduler of its version answers there.
    """

    def __init__(self, address: str, workers_in: float = WORKERS_IN):
        try:
            import distributed
        except ImportError as error:
            remedy = "pip install 'keras_audio_transfer[dask]'"
            raise InputError(f"scheduler: needs Dask, which is not installed ({error}); {remedy}") from error
        for name in ("distributed", "distributed.client"):  # what is fatal is said here, in a line
            logging.getLogger(name).setLevel("CRITICAL")
        self.address, self._workers_in = address, workers_in
        there = _scheduler_version(address)
        if there != distributed.__version__:
            what = f"{address} has Dask {there}, and this machine {distributed.__version__}"
            raise InputError(f"scheduler: {what}; install the same versions on all machines")
        self._client = distributed.Client(address, timeout=ANSWERS_IN, set_as_default=False)
        if not self._client.nthreads():
            _log.warning("%s: has no workers yet; waiting %g s for them", address, workers_in)

    def __exit__(self, *_):
        self._client.close()

    def map(
        self,
        function: Callable[[Sequence[Item]], Iterable[Result]],
        items: Iterable[Item],
        killed: Callable[[Item, str], Result],
        paths: Sequence[Path] = (),
        batch: int = 1,
    ) -> Iterator[Result]:
        """The result of each item, in order; items are taken as workers become free.

        A task whose worker dies is given to another. One that several workers have died of is divided. What they die of
        once more, while the cluster does nothing else for this run, has no result.

        Args:
            function: from items to a result of each, on a worker.
            items: what tasks are made of.
            killed: from an item without a result, and why, to what stands in its place.
            paths: absolute, of what every machine has to see.
            batch: a task has this many consecutive items, or a multiple.

        Raises:
            InputError: the scheduler is gone, or has had no workers for too long; or it or a worker has not the same
                packages, or does not see a path.
        """
        import distributed
        from distributed.comm import CommClosedError
        from distributed.protocol.pickle import dumps

        # Read by workers alone, and when TensorFlow's variables are set: it may import TensorFlow.
        pickled = dumps(function)
        items, waiting, size = iter(items), deque(), batch

        def submit(some):
            return self._client.submit(_run, pickled, some, _versions(), _of_tensorflow(), paths, pure=False)

        def alone(some):
            try:
                return self._result(submit(some))[0]
            except distributed.KilledWorker as error:
                reason = (
                    f"all {error.allowed_failures + 1} workers that tried it were killed, by a lack of memory perhaps"
                )
                return [killed(item, reason) for item in some]

        try:
            while True:
                while len(waiting) <= self._places() and (some := [*islice(items, size)]):
                    waiting.append((some, submit(some)))
                if not waiting:
                    return
                some, future = waiting.popleft()
                try:
                    results, seconds = self._result(future)
                    fit = int(min(2 * len(some), ITEMS_A_TASK, len(some) * TASK_SECONDS / max(seconds, 1e-3)))
                    size = max(1, fit // batch) * batch
                except distributed.KilledWorker:
                    for _, of_others in waiting:
                        self._wait_for(of_others)
                    parts = (some[start : start + batch] for start in range(0, len(some), batch))
                    results = [result for part in parts for result in alone(part)]
                yield from results
        except (CancelledError, CommClosedError) as error:
            what = f"{self.address} does not answer any more"
            raise InputError(f"scheduler: {what}; start it again, and run the same command, which goes on") from error
        except (ImportError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "deserialization of the task" not in f"{error}":
                raise
            first, *_ = f"{error.__cause__ or error}".splitlines()
            what = f"{self.address}, or one of its workers, lacks what this machine has ({first[:200]})"
            raise InputError(f"scheduler: {what}; install the same packages and versions on all machines") from error
        finally:
            for _, future in waiting:
                future.cancel()

    def _result(self, future):
        self._wait_for(future)
        return future.result()

    def _wait_for(self, future):
        """Until it has ended, but not where nobody is there to compute it."""
        import distributed

        seen = time.monotonic()
        while not future.done():
            with suppress(distributed.TimeoutError):
                future.exception(timeout=min(1.0, self._workers_in))
            try:
                has_workers = any(self._client.nthreads())
            except OSError as error:
                raise CancelledError from error
            if has_workers:
                seen = time.monotonic()
            elif time.monotonic() - seen > self._workers_in:
                what = f"{self.address} has had no workers for {self._workers_in:g} s"
                remedy = f"start some with `dask worker {self.address}`, or wait longer (`workers_in`)"
                raise InputError(f"scheduler: {what}; {remedy}, and run the same command, which goes on")

    def _places(self):
        """How many tasks keep the workers busy; some where there are none, for clusters that grow with the tasks."""
        return max(8, 2 * sum(self._client.nthreads().values()))


def _scheduler_version(address):
    """Of Dask. Asked without a `Client`, one of which that has failed says so at length when it is deleted."""
    from distributed import rpc

    async def ask():
        async with rpc(address, timeout=ANSWERS_IN) as scheduler:
            if (kind := (await scheduler.identity())["type"]) != "Scheduler":
                raise ValueError(f"it is a {kind}")
            return (await scheduler.versions())["packages"]["distributed"]

    try:
        return asyncio.run(asyncio.wait_for(ask(), ANSWERS_IN))
    except Exception as error:  # of addresses that are none there are several kinds
        first, *_ = f"{error}".splitlines() or [f"not in {ANSWERS_IN:.0f} s"]
        remedy = "start one with `dask scheduler`, and give the address that it prints"
        raise InputError(f"scheduler: no Dask scheduler answers at {address} ({first[:200]}); {remedy}") from error


def _run(pickled, items, versions, of_tensorflow, paths):
    """The results of some items, and the seconds that they took; on a worker."""
    from distributed import get_worker
    from distributed.protocol.pickle import loads

    where = f"scheduler: its worker {get_worker().address}"
    for name, there in _versions().items():
        if there != versions[name]:
            what = f"has {name} {there or '(none)'}, and this machine {versions[name] or '(none)'}"
            raise InputError(f"{where} {what}; install the same versions on all machines")
    for path in paths:
        if not path.exists():
            what = f"does not see {path}"
            raise InputError(f"{where} {what}; share it, so that it has the same path on all machines")
    for name, value in of_tensorflow.items():
        os.environ.setdefault(name, value)
    function = loads(pickled)
    begin = time.monotonic()
    results = [*function(items)]
    return results, time.monotonic() - begin


@lru_cache(maxsize=1)
def _versions() -> dict[str, str | None]:
    """Of what decides the numbers."""
    found: dict[str, str | None] = {"Python": ".".join(python_version().split(".")[:2])}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _of_tensorflow() -> dict[str, str]:
    """The environment's variables that decide which kernels it takes, and how many digits they keep."""
    names = [name for name in os.environ if name.startswith(("TF_", "NVIDIA_TF32_")) and name != "TF_CONFIG"]
    return {name: os.environ[name] for name in names}
