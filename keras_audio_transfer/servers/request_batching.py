"""Requests that come at about the same time are computed in one call, and divided again. Without TensorFlow."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_audio_transfer.servers.rest_messages import Refused

Arrays = dict[str, np.ndarray]


@dataclass
class _Group:
    """Requests of one kind that can be joined, and whether they only wait for a thread now."""

    requests: list[tuple[Arrays, asyncio.Future]] = field(default_factory=list)
    is_due: bool = False


class Batcher:
    """Computes requests in threads, those of one kind together.

    A request waits for others only while others are on their way, or all threads work. Where a joined call fails, each
    of its requests is computed by itself, so that none fails for another one. Objects (strings) are not joined: files
    have lengths of their own, and are computed one by one in any case.

    Args:
        run: a signature's name and its inputs -> outputs, both arrays with the batch first. Called in threads.
        threads: calls at the same time.
        max_rows: of a joined call. A larger request is computed by itself.
        wait_seconds: the longest that a request waits for others.
        most_waiting: requests that are answered or wait at a time; further ones are refused.
    """

    def __init__(
        self, run: Callable[[str, Arrays], Arrays], threads: int, max_rows: int, wait_seconds: float, most_waiting: int
    ):
        self.run, self.max_rows, self.wait_seconds, self.most_waiting = run, max_rows, wait_seconds, most_waiting
        # Messages have threads of their own: what is computed does not wait until all others have been read.
        self._reading, self._computing = ThreadPoolExecutor(threads), ThreadPoolExecutor(threads)
        self._idle = asyncio.Semaphore(threads)
        self._coming = 0  # requests that have been read and not been answered
        self._groups: dict[Any, _Group] = {}  # of each kind, what can still be joined
        self._tasks: set[asyncio.Task] = set()  # the event loop itself would let go of them

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Around all work for a request. Raises Refused (503) where too many wait."""
        if self._coming >= self.most_waiting:
            raise Refused(503, f"{self.most_waiting} requests wait already; ask again later")
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1
            self._compute_if_all_have_come()

    async def in_thread(self, function: Callable, *arguments: Any) -> Any:
        """Call a function that reads or writes a message, where it does not keep other requests waiting."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, function, *arguments)

    async def ask(self, signature: str, inputs: Arrays) -> Arrays:
        """The outputs for inputs, computed together with others. Raises what `run` raises for them alone."""
        loop = asyncio.get_running_loop()
        rows = _rows(inputs)
        if rows is None or rows >= self.max_rows:
            async with self._idle:
                return await self._computed(self.run, signature, inputs)
        kind = signature, tuple((name, array.dtype, array.shape[1:]) for name, array in sorted(inputs.items()))
        group = self._groups.get(kind)
        if group and sum(_rows(others) for others, _ in group.requests) + rows > self.max_rows:
            self._compute(self._groups.pop(kind), kind)
        if kind not in self._groups:
            group = self._groups[kind] = _Group()
            loop.call_later(self.wait_seconds, self._compute, group, kind)
        answer = loop.create_future()
        group.requests.append((inputs, answer))
        self._compute_if_all_have_come()
        return await answer

    def close(self) -> None:
        """Let the threads end; what waits is not computed."""
        for pool in (self._reading, self._computing):
            pool.shutdown(wait=False, cancel_futures=True)

    def _computed(self, function, *arguments):
        return asyncio.get_running_loop().run_in_executor(self._computing, function, *arguments)

    def _compute_if_all_have_come(self):
        if sum(len(group.requests) for group in self._groups.values()) >= self._coming:  # nobody is left who could join
            for kind, group in self._groups.items():
                self._compute(group, kind)

    def _compute(self, group, kind):
        """Compute a group when a thread is idle, until when it can be joined."""
        if not group.is_due:
            group.is_due = True
            task = asyncio.get_running_loop().create_task(self._answer(group, kind))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, group, kind):
        async with self._idle:
            if self._groups.get(kind) is group:
                del self._groups[kind]
            requests = [request for request in group.requests if not request[1].done()]  # the others have gone away
            if len(requests) > 1:
                try:
                    outputs = await self._computed(self._run_joined, kind[0], [inputs for inputs, _ in requests])
                except Exception:  # whatever it is, the one that it comes from gets it below
                    pass
                else:
                    for (_, answer), values in zip(requests, outputs, strict=True):
                        _settle(answer.set_result, answer, values)
            for inputs, answer in requests:
                if not answer.done():
                    try:
                        _settle(answer.set_result, answer, await self._computed(self.run, kind[0], inputs))
                    except Exception as error:
                        _settle(answer.set_exception, answer, error)

    def _run_joined(self, signature, requests):
        """The outputs of each of these requests, of one call."""
        joined = {name: np.concatenate([inputs[name] for inputs in requests]) for name in requests[0]}
        outputs = self.run(signature, joined)
        ends = np.cumsum([_rows(inputs) for inputs in requests])[:-1]
        parts = {name: np.split(values, ends) for name, values in outputs.items()}
        return [{name: of_all[i] for name, of_all in parts.items()} for i in range(len(requests))]


def _rows(inputs: Mapping[str, np.ndarray]) -> int | None:
    """The number of rows; None for what is not joined, such as no rows at all, which is an error."""
    if any(array.dtype == object or not array.ndim for array in inputs.values()):
        return None
    rows = {len(array) for array in inputs.values()}
    return (rows.pop() or None) if len(rows) == 1 else None


def _settle(how, answer, value):
    if not answer.done():  # whoever asked may have gone away
        how(value)
