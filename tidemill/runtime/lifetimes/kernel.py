"""What Linux does for us when a parent ends: prctl(2)."""

import ctypes
import signal

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value)


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """For a child before it runs: the kernel sends it this signal when its parent ends."""
    _prctl(PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """What descendants of this process leave behind falls to it, and not to init."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
