"""Which GPU of several a worker of a sweep has: each trial runs on one."""

import os

from tidemill.engines import config


def device(number: int) -> dict[str, str]:
    """The variable that names the GPU of a worker, from 1 on; nothing without several GPUs."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = named.split(",") if named else [str(each) for each in range(config.gpus())]
    return {"CUDA_VISIBLE_DEVICES": names[(number - 1) % len(names)]} if len(names) > 1 else {}
