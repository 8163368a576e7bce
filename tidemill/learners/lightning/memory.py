"""Out of memory: how it is known, and what is tried once.

Half the batch at a time, twice as often a step.
"""

import json
from pathlib import Path

from tidemill.runtime.errors import Fault
from tidemill.runtime.files import write

FILE = "parts.json"


def kernel_kills() -> int:
    """How many processes the kernel has killed for want of memory.

    Those by limits of control groups are included; 0 where the kernel does not tell.
    """
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def exhausted(error: BaseException) -> bool:
    """Whether this is Python's or torch's way to say that there is no memory."""
    words = str(error)
    return (
        isinstance(error, MemoryError)
        or (type(error).__name__ in ("OutOfMemoryError", "AcceleratorError") and "memory" in words)
        or "can't allocate memory" in words
        or "Unable to allocate" in words
    )


def parts(folder: Path) -> int:
    """Into how many parts a batch is cut in this run."""
    path = folder / FILE
    return int(json.loads(path.read_text())["parts"]) if path.is_file() else 1


def halve(folder: Path, what: str) -> str:
    """Have the next attempt take half a batch at a time; what to say of it.

    Fault where that was tried.
    """
    if parts(folder) > 1:
        raise Fault(
            f"{what} ran out of memory with half a batch at a time as well; lower "
            "model.batch, or the model's size"
        )
    write(folder / FILE, json.dumps({"parts": 2}) + "\n")
    return (
        f"{what} ran out of memory; trying again with half the batch at a time and twice as many "
        "of them in a step"
    )
