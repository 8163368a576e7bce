"""python -m tidemill.runtime.lifetimes.subreaper COMMAND ...: run COMMAND, and leave nothing of it behind, however it or its owner ends.

A service has processes of its own (MLflow's server a worker, the runner its runs). Killed by -9 it would leave them
to nobody, with its port. Here they fall to this process (PR_SET_CHILD_SUBREAPER), which ends them before it ends.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PATIENCE_S = 2.0


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value)


def left() -> list[int]:
    """This process's children: what COMMAND left."""
    return [
        int(pid)
        for path in Path("/proc/self/task").glob("*/children")
        for pid in path.read_text().split()
    ]


def end(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def main() -> None:
    parent = os.getppid()
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != parent:  # it died in between
        sys.exit(1)
    child = subprocess.Popen(
        sys.argv[1:], preexec_fn=lambda: _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: child.send_signal(number))
    code = child.wait()
    until = time.monotonic() + PATIENCE_S
    while pids := left():
        end(pids, signal.SIGTERM if time.monotonic() < until else signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            break
        time.sleep(0.05)
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
