"""Children that read records, each with a time limit a record.

One that hangs or dies costs its record and not the night.

A request and its answer are a JSON head and the bytes that go with it. A child is asked for one
thing at a time, so what is in memory is one record a child, whatever the size of the source.
"""

import json
import os
import selectors
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import IO, Any

from tasks.clean.rows import MessageHead
from tidemill.runtime import process
from tidemill.runtime.lifetimes import kernel

HEAD = struct.Struct(">IQ")
MB = 2**20

Request = tuple[Any, MessageHead, bytes]  # what it is for, head, bytes
Answer = tuple[
    Any, MessageHead | None, bytes
]  # what it was for; None where the child gave no answer: the bytes say why

NOTHING: Request = (None, {}, b"")


def send(stream: IO[bytes], head: MessageHead, body: bytes) -> None:
    first = json.dumps(head).encode()
    stream.write(HEAD.pack(len(first), len(body)) + first)
    stream.write(body)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[MessageHead, bytes] | None:
    """The next message; None where the other side is gone."""
    sizes = stream.read(HEAD.size)
    if len(sizes) < HEAD.size:
        return None
    first, second = HEAD.unpack(sizes)
    head, body = stream.read(first), stream.read(second)
    if len(head) < first or len(body) < second:
        return None
    return json.loads(head), body


class Worker:
    def __init__(self, module: str, settings: str) -> None:
        variables = {**process.variables(), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.child = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=variables,
            preexec_fn=kernel.die_with_parent,
        )
        assert self.child.stdin and self.child.stdout
        self.stdin, self.stdout = self.child.stdin, self.child.stdout
        self.task: Any = None
        self.until, self.waited = 0.0, 0.0
        send(self.stdin, {"settings": settings}, b"")

    def ask(self, task: Any, head: MessageHead, body: bytes, limit_s: float) -> None:
        self.task, self.until = task, time.monotonic() + limit_s
        self.waited = kernel.waited_s(self.child.pid)
        with suppress(BrokenPipeError):  # it is found dead when its answer is read
            send(self.stdin, head, body)

    def late(self) -> bool:
        """Whether the time for its record is over.

        What it waited for a processor is given back to it: else which records are read would
        depend on what else this machine does.
        """
        if time.monotonic() < self.until:
            return False
        waited = kernel.waited_s(self.child.pid)
        self.until, self.waited = self.until + waited - self.waited, waited
        return time.monotonic() >= self.until

    def end(self) -> int:
        """Kill it; gives the signal it had died of before, or 0."""
        code = self.child.poll()
        self.child.kill()
        self.child.wait()
        self.stdout.close()
        with suppress(BrokenPipeError):
            self.stdin.close()
        return -code if code is not None and code < 0 else 0


class Pool:
    """Children that are started as they are needed, and end when the block does."""

    def __init__(self, module: str, settings: str, limit_s: float) -> None:
        self.module, self.settings, self.limit_s = module, settings, limit_s
        self.busy: list[Worker] = []
        self.idle: list[Worker] = []

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *how: object) -> None:
        for worker in (*self.busy, *self.idle):
            worker.end()

    def asked(self, requests: Iterable[Request], processes: int) -> Iterator[Answer]:
        """Answers in whatever order they come.

        A record may take `limit_s`, and as much again for each further MB; time in which its
        child waited for a processor does not count.
        """
        waiting, busy = iter(requests), self.busy
        with selectors.DefaultSelector() as chooser:
            while True:
                while len(busy) < processes:
                    task, head, body = next(waiting, NOTHING)
                    if task is None:
                        break
                    worker = self.idle.pop() if self.idle else Worker(self.module, self.settings)
                    worker.ask(task, head, body, self.limit_s * max(1.0, len(body) / MB))
                    busy.append(worker)
                    chooser.register(worker.stdout, selectors.EVENT_READ, worker)
                if not busy:
                    return
                soonest = min(worker.until for worker in busy)
                ready = [
                    key.data for key, _ in chooser.select(max(0.0, soonest - time.monotonic()))
                ]
                late = [worker for worker in busy if worker not in ready and worker.late()]
                for worker in (*ready, *late):
                    chooser.unregister(worker.stdout)
                    busy.remove(worker)
                    yield self._answer(worker, worker in ready)

    def _answer(self, worker: Worker, ready: bool) -> Answer:
        answer = receive(worker.stdout) if ready else None
        if answer:
            self.idle.append(worker)
            return worker.task, *answer
        if ready:  # its pipe is closed: let the system say how it ended
            worker.child.wait()
        died_of = worker.end()
        if not ready:
            return worker.task, None, f"took longer than {self.limit_s:g} s to read".encode()
        return (
            worker.task,
            None,
            f"its reader died{f' of {signal.Signals(died_of).name}' if died_of else ''}".encode(),
        )


def processes(wanted: int) -> int:
    """How many children; 0 wanted: one for each processor this process may use."""
    return wanted or len(os.sched_getaffinity(0))
