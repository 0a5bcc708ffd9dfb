"""Requests that come at about the same time are computed in one call, and divided again. Without TensorFlow."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from keras_audio_transfer.rest_messages import Refused

Arrays = dict[str, np.ndarray]


class Batcher:
    """Computes requests in threads, those of one kind together.

    A request waits for others only while others are on their way. Where a joined call fails, each of its requests is
    computed by itself, so that none fails for another one. Objects (strings) are not joined: files have lengths of
    their own, and are computed one by one in any case.

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
        self._pool = ThreadPoolExecutor(threads)
        self._coming = 0  # requests that have been read and not been answered
        self._groups: dict[Any, list[tuple[Arrays, asyncio.Future]]] = {}  # those of a kind that wait for others
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
        """Call a function where it does not keep other requests waiting."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    async def ask(self, signature: str, inputs: Arrays) -> Arrays:
        """The outputs for inputs, computed together with others. Raises what `run` raises for them alone."""
        loop = asyncio.get_running_loop()
        rows = _rows(inputs)
        if rows is None or rows >= self.max_rows:
            return await self.in_thread(self.run, signature, inputs)
        kind = signature, tuple((name, array.dtype, array.shape[1:]) for name, array in sorted(inputs.items()))
        group = self._groups.get(kind, [])
        if group and sum(_rows(others) for others, _ in group) + rows > self.max_rows:
            self._compute(kind, group)
        if kind not in self._groups:
            group = self._groups[kind] = []
            loop.call_later(self.wait_seconds, self._compute, kind, group)
        answer = loop.create_future()
        group.append((inputs, answer))
        self._compute_if_all_have_come()
        return await answer

    def close(self) -> None:
        """Let the threads end; what waits is not computed."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _compute_if_all_have_come(self):
        if sum(map(len, self._groups.values())) >= self._coming:  # nobody is left who could join
            for waiting in [*self._groups.items()]:
                self._compute(*waiting)

    def _compute(self, kind, group):
        """Begin to compute a group, unless that has been done."""
        if self._groups.get(kind) is not group:
            return
        del self._groups[kind]
        task = asyncio.get_running_loop().create_task(self._answer(kind[0], group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, signature, group):
        group = [(inputs, answer) for inputs, answer in group if not answer.done()]  # others have gone away
        if len(group) > 1:
            try:
                outputs = await self.in_thread(self._run_joined, signature, [inputs for inputs, _ in group])
            except Exception:  # whatever it is, the one that it comes from gets it below
                pass
            else:
                for (_, answer), values in zip(group, outputs, strict=True):
                    _settle(answer.set_result, answer, values)
                return
        await asyncio.gather(*(self._answer_alone(signature, *request) for request in group))

    async def _answer_alone(self, signature, inputs, answer):
        try:
            outputs = await self.in_thread(self.run, signature, inputs)
        except Exception as error:
            _settle(answer.set_exception, answer, error)
        else:
            _settle(answer.set_result, answer, outputs)

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
