"""conf/: every number a person may change, checked when it is read."""

from tidemill.engines.config.load import (
    check_machine,
    files,
    general,
    gpus,
    nightly,
    processes,
    quality,
    recipe,
    runtime,
    sound,
    source,
    sources,
    weights,
)
from tidemill.engines.config.problems import problems

__all__ = [
    "check_machine",
    "files",
    "general",
    "gpus",
    "nightly",
    "problems",
    "processes",
    "quality",
    "recipe",
    "runtime",
    "sound",
    "source",
    "sources",
    "weights",
]
