"""Which of the processes of a training this one is.

Lightning starts the command again for each further device, and torchrun and Slurm start it on every
machine. All of them compute; one takes locks, writes files, logs and answers.
"""

import os

GLOBAL = ("RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Set by torchrun, Slurm and LSF: the number among all processes of all machines."""
SCHEDULERS = ("SLURM_PROCID", "JSM_NAMESPACE_RANK")
LOCAL = ("LOCAL_RANK", "NODE_RANK")
"""Set by Lightning: the number on this machine, and the machine's own."""


def rank() -> int:
    """0 for the process that takes locks and has effects; another number for every other one.

    Who starts several processes says where they meet (`MASTER_ADDR`); a lone `RANK` that a person's
    shell holds for another purpose numbers nothing. (Lightning removes `WORLD_SIZE` after a fit.)
    """
    if "MASTER_ADDR" not in os.environ and not any(name in os.environ for name in SCHEDULERS):
        return 0
    if "RANK" not in os.environ and any(name in os.environ for name in LOCAL):
        return sum(_number(name) or 0 for name in LOCAL)
    numbers = (_number(name) for name in GLOBAL)
    return next((number for number in numbers if number is not None), 0)


def _number(name: str) -> int | None:
    """The variable's number; None where it has none, since a person may use its name otherwise."""
    value = os.environ.get(name, "")
    return int(value) if value.isascii() and value.isdigit() else None
