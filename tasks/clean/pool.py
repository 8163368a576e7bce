"""Children that read records, each with a time limit a record: one that hangs or dies costs its record and not the night.

A request and its answer are a JSON head and the bytes that go with it. A child is asked for one thing at a time,
so what is in memory is one record a child, whatever the size of the source.
"""

import ctypes
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

from tasks import process

HEAD = struct.Struct(">IQ")
MB = 2**20

Request = tuple[Any, dict[str, Any], bytes]          # what it is for, head, bytes
Answer = tuple[Any, dict[str, Any] | None, bytes]    # what it was for; None where the child gave no answer: the bytes say why


def send(stream: IO[bytes], head: dict[str, Any], body: bytes) -> None:
    told = json.dumps(head).encode()
    stream.write(HEAD.pack(len(told), len(body)) + told)
    stream.write(body)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """The next message; None where the other side is gone."""
    sizes = stream.read(HEAD.size)
    if len(sizes) < HEAD.size:
        return None
    first, second = HEAD.unpack(sizes)
    told, body = stream.read(first), stream.read(second)
    if len(told) < first or len(body) < second:
        return None
    return json.loads(told), body


def _dies_with_us() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Worker:
    def __init__(self, module: str, settings: str) -> None:
        variables = {**process.variables(), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.child = subprocess.Popen([sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables, preexec_fn=_dies_with_us)
        assert self.child.stdin and self.child.stdout
        self.stdin, self.stdout = self.child.stdin, self.child.stdout
        self.task: Any = None
        self.until = 0.0
        send(self.stdin, {"settings": settings}, b"")

    def ask(self, task: Any, head: dict[str, Any], body: bytes, limit_s: float) -> None:
        self.task, self.until = task, time.monotonic() + limit_s
        with suppress(BrokenPipeError):  # it is found dead when its answer is read
            send(self.stdin, head, body)

    def end(self) -> int:
        """Kill it; gives the signal it had died of before, or 0."""
        code = self.child.poll()
        self.child.kill()
        self.child.wait()
        self.stdout.close()
        with suppress(BrokenPipeError):
            self.stdin.close()
        return -code if code is not None and code < 0 else 0


def asked(requests: Iterable[Request], module: str, settings: str, processes: int, limit_s: float) -> Iterator[Answer]:
    """Answers in whatever order they come. A record may take `limit_s`, and as much again for each further MB."""
    waiting = iter(requests)
    busy: list[Worker] = []
    idle: list[Worker] = []
    chooser = selectors.DefaultSelector()
    try:
        while True:
            while len(busy) < processes:
                task, head, body = next(waiting, (None, {}, b""))
                if task is None:
                    break
                worker = idle.pop() if idle else Worker(module, settings)
                worker.ask(task, head, body, limit_s * max(1.0, len(body) / MB))
                busy.append(worker)
                chooser.register(worker.stdout, selectors.EVENT_READ, worker)
            if not busy:
                return
            soonest = min(worker.until for worker in busy)
            ready = [key.data for key, _ in chooser.select(max(0.0, soonest - time.monotonic()))]
            late = [worker for worker in busy if worker not in ready and worker.until <= time.monotonic()]
            for worker in (*ready, *late):
                chooser.unregister(worker.stdout)
                busy.remove(worker)
                found = receive(worker.stdout) if worker in ready else None
                if found:
                    idle.append(worker)
                    yield worker.task, *found
                    continue
                if worker in ready:      # its pipe is closed: let the system say how it ended
                    worker.child.wait()
                died_of = worker.end()
                why = f"its reader died of {signal.Signals(died_of).name}" if worker in ready and died_of else "its reader died" if worker in ready else f"took longer than {limit_s:g} s to read"
                yield worker.task, None, why.encode()
    finally:
        chooser.close()
        for worker in (*busy, *idle):
            worker.end()


def processes(wanted: int) -> int:
    """How many children; 0 wanted: one for each processor this process may use."""
    return wanted or len(os.sched_getaffinity(0))
