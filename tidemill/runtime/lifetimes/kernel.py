"""What Linux does for us when a parent ends, prctl(2), and what it knows of a process, proc(5)."""

import ctypes
import signal
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value)


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """For a child before it runs: the kernel sends it this signal when its parent ends."""
    _prctl(PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """What descendants of this process leave behind falls to it, and not to init."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def waited_s(pid: int) -> float:
    """The seconds in which a process's first thread could have run, and others had the processors.

    0 where the kernel does not count it.
    """
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
