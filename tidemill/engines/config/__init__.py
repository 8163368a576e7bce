"""conf/: every number a person may change, checked when it is read. The only door to OmegaConf."""

from tidemill.engines.config.load import (
    check_hardware,
    files,
    general,
    nightly,
    problems,
    quality,
    recipe,
    runtime,
    sound,
    source,
    sources,
)

__all__ = [
    "check_hardware",
    "files",
    "general",
    "nightly",
    "problems",
    "quality",
    "recipe",
    "runtime",
    "sound",
    "source",
    "sources",
]
