"""Which process is meant: its number alone is given again."""

import os
import socket
from pathlib import Path
from typing import TypedDict


class Identity(TypedDict):
    """What tells one process from every other, before and after a restart of its machine."""

    host: str
    boot: str
    pid: int
    began: int | None  # in ticks since the machine did


def me() -> Identity:
    """This process."""
    return {
        "host": socket.gethostname(),
        "boot": boot(),
        "pid": os.getpid(),
        "began": began(os.getpid()),
    }


def lives(who: Identity) -> bool:
    """Whether a process of this machine that said `me` is still there."""
    return who.get("boot") == boot() and began(who.get("pid", 0)) == who.get("began", 0)


def boot() -> str:
    """The id of this start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def began(pid: int) -> int | None:
    """When a process began, in ticks since the machine did (proc(5)).

    A clock that is set does not move it.

    None where it is no more, or dead and not yet waited for.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])
