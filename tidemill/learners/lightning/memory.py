"""Out of memory: how it is known, and what is tried once.

Half the batch at a time, twice as often a step.
"""

import gc
import json
import logging
from dataclasses import replace
from pathlib import Path

from tidemill.contract import Fitted, Learner, Run
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import write

log = logging.getLogger(__name__)
FILE = "parts.json"


def kernel_kills(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """How many processes of our control group the kernel has killed for want of memory.

    Of the whole machine where there is no group that counts them, and 0 where nothing does.
    """
    for counts in (*_group_counts(proc, cgroup), proc / "vmstat"):
        try:
            lines = counts.read_text().splitlines()
        except OSError:
            continue
        if kills := [line.split()[1] for line in lines if line.startswith("oom_kill ")]:
            return int(kills[0])
    return 0


def _group_counts(proc: Path, cgroup: Path) -> list[Path]:
    """The files in which the kernel counts the kills of our own group, by either version.

    `oom_kill` there is of the group's processes, by whatever limit they were killed, and of no
    other's (Documentation/admin-guide/cgroup-v2.rst).
    """
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    counts = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if not controllers:
            counts.append(cgroup / place.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            counts.append(cgroup / "memory" / place.lstrip("/") / "memory.oom_control")
            counts.append(cgroup / "memory" / "memory.oom_control")  # as a container sees its own
    return counts


def exhausted(error: BaseException) -> bool:
    """Whether this is Python's or torch's way to say that there is no memory."""
    words = str(error)
    return (
        isinstance(error, MemoryError)
        or (type(error).__name__ in ("OutOfMemoryError", "AcceleratorError") and "memory" in words)
        or "can't allocate memory" in words
        or "Unable to allocate" in words
    )


def fitted(learner: Learner, run: Run) -> Fitted:
    """Train; once more by half batches where the memory does not suffice. No checkpoint is kept.

    Raises Fault where half batches do not fit either.
    """
    for parts in (1, 2):
        try:
            return learner.fit(replace(run, parts=parts))
        except Exception as error:
            if not exhausted(error):
                raise
            words = " ".join(str(error).split())[:200]
        # Outside of `except`, where nothing holds the frames that hold the tensors.
        gc.collect()
        log.warning("%s ran out of memory with a batch in %d (%s)", run.what, parts, words)
    raise Fault(too_little(run.what))


def too_little(what: str) -> str:
    return (
        f"{what} ran out of memory with half a batch at a time as well; lower "
        "model.batch, or the model's size"
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
        raise Fault(too_little(what))
    write(folder / FILE, json.dumps({"parts": 2}) + "\n")
    return (
        f"{what} ran out of memory; trying again with half the batch at a time and twice as many "
        "of them in a step"
    )
