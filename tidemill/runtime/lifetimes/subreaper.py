"""Run a COMMAND, and leave nothing of it behind.

    python -m tidemill.runtime.lifetimes.subreaper COMMAND ...

COMMAND keeps services, and a service has processes of its own (the runner its runs). Killed by -9 a
service would leave them to nobody, with its port. Here they fall to this process
(PR_SET_CHILD_SUBREAPER), which ends them once the service is gone, and ends everything before it
ends itself.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tidemill.runtime.lifetimes import kernel

PATIENCE_S, LOOK_EVERY_S = 2.0, 0.5


def children(pid: int) -> set[int]:
    """The numbers of a process's children; none where it is gone."""
    numbers: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            numbers |= {int(number) for number in path.read_text().split()}
    return numbers


def end(pids: set[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def bury() -> None:
    """Wait for the adopted children that have ended."""
    for pid in children(os.getpid()) - _own:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


_own: set[int] = set()  # COMMAND, which subprocess waits for


def sweep() -> None:
    """End what was left to this process: politely, then by force."""
    until = time.monotonic() + PATIENCE_S
    while orphans := children(os.getpid()) - _own:
        end(orphans, signal.SIGTERM if time.monotonic() < until else signal.SIGKILL)
        bury()
        time.sleep(0.05)


def follow(command: subprocess.Popen[bytes]) -> int:
    """Until COMMAND ends: what a service of its left is ended once that service is gone.

    Its exit code.
    """
    services: set[int] = set()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return command.wait(LOOK_EVERY_S)
        now = children(command.pid)
        if services - now:
            sweep()
        services = now
        bury()


def main() -> None:
    parent = os.getppid()
    kernel.die_with_parent(signal.SIGTERM)
    kernel.adopt_orphans()
    if os.getppid() != parent:  # it ended in between
        sys.exit(1)
    command = subprocess.Popen(
        sys.argv[1:], preexec_fn=lambda: kernel.die_with_parent(signal.SIGTERM)
    )
    _own.add(command.pid)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: command.send_signal(number))
    code = follow(command)
    _own.clear()
    sweep()
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
