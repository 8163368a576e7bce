"""A function over the parts of a table, in processes of this machine.

What it gives is the same, and in the same order, however many processes there are and in whatever
order they end. A part whose process is killed is tried again. Few results wait at a time, so memory
is that of some parts and not of all.
"""

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Generic, TypeVar

from tidemill.runtime import process
from tidemill.runtime.errors import Fault
from tidemill.runtime.lifetimes import kernel

P = TypeVar("P")
R = TypeVar("R")

TRIES = 3  # of a part whose process is killed, the last ones with no other beside it
WORTH_S = 15.0  # processes take some seconds to begin; 0: they always are worth it
AHEAD = 2  # parts for each process that are worked on or wait to be taken


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def mapped(
    work: Callable[[P], R],
    parts: Sequence[P],
    what: str,
    processes: int = 0,
    are_large: bool = False,
) -> Iterator[R]:
    """What `work` gives for each part, in the order of the parts.

    `work` and what it takes and gives are pickled for other processes; it must not lie in a module
    that is run as `__main__`. `processes`: 0 is one for each processor. They are started where
    parts are large, or where the first ones show that the others would take this process more than
    `WORTH_S`. An error of `work` is raised where its part's result would be. Raises Fault where a
    part's process is killed `TRIES` times; `what` is how the message names a part.
    """
    count, waiting = processes or processors(), deque(parts)
    are_large |= not WORTH_S
    while waiting and (count == 1 or not are_large):
        began = time.monotonic()
        result = work(waiting.popleft())
        are_large = len(waiting) * (time.monotonic() - began) > WORTH_S
        yield result
    done = len(parts) - len(waiting)
    if waiting:
        with _Pool(work, [*waiting], what, min(count, len(waiting)), done) as pool:
            yield from pool.results()


def progressed(results: Iterator[R], sizes: Sequence[int], unit: str, done: int = 0) -> Iterator[R]:
    """The same results, with the rows of their parts as progress; `done` rows were before."""
    total = done + sum(sizes)
    for result, size in zip(results, sizes, strict=True):
        done += size
        process.progress(done, total, unit)
        yield result


class _Pool(Generic[P, R]):
    """Processes that work on parts.

    When one is killed all that was begun is begun again, by one process: it has what memory there
    is, and a part that is killed again is known.
    """

    def __init__(
        self, work: Callable[[P], R], parts: Sequence[P], what: str, processes: int, done: int
    ) -> None:
        self.work, self.parts, self.what, self.processes = work, parts, what, processes
        self.done = done  # parts before these
        self.kills = 0  # one after the other, without a part that ended
        self.started: deque[tuple[int, Future[R]]] = deque()
        self.executor = self._executor()

    def _executor(self) -> ProcessPoolExecutor:
        # A forked child would have this process's threads' locks, and none of the threads.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.processes, context, kernel.die_with_parent)

    def __enter__(self) -> "_Pool[P, R]":
        return self

    def __exit__(self, *how: object) -> None:
        self.executor.shutdown(wait=True, cancel_futures=True)

    def results(self) -> Iterator[R]:
        waiting = deque(range(len(self.parts)))
        while waiting or self.started:
            while waiting and len(self.started) < AHEAD * self.processes:
                self._start(waiting.popleft())
            part, future = self.started.popleft()
            try:
                result = future.result()
            except BrokenProcessPool as error:
                self._again([part, *(number for number, _ in self.started)], error)
                continue
            self.kills = 0
            yield result

    def _start(self, part: int) -> None:
        try:
            future = self.executor.submit(self.work, self.parts[part])
        except BrokenProcessPool as error:
            future = Future()
            future.set_exception(error)
        self.started.append((part, future))

    def _again(self, unfinished: list[int], error: BrokenProcessPool) -> None:
        """Begin the parts again that did not end."""
        self.executor.shutdown(wait=True, cancel_futures=True)
        self.kills += 1
        if self.kills >= TRIES:
            raise Fault(
                f"{self.what} {self.done + unfinished[0] + 1} of {self.done + len(self.parts)}: "
                f"its process was killed "
                f"{TRIES} times, probably for want of memory; free some and run again",
                killed=True,
            ) from error
        self.processes = 1
        self.executor = self._executor()
        self.started.clear()
        for part in unfinished:
            self._start(part)
