"""What a run is called in Prefect's lists.

A name a person gave is kept, any other says what and when.
"""

import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

Parameters = dict[str, Any]


def named(words: Callable[[Parameters], str]) -> Callable[[], str]:
    """For a flow's `flow_run_name`: `words` of the parameters, unless a person named the run."""

    def name() -> str:
        from prefect.runtime import flow_run

        given = flow_run.name or ""
        return words(flow_run.parameters) if made_up(given) else given

    return name


def made_up(name: str) -> bool:
    """Whether Prefect drew the name, as in "gentle-otter": two words of its list."""
    parts = name.split("-")
    return not name or (
        re.fullmatch(r"[a-z]+-[a-z]+", name) is not None and set(parts) <= _drawn_from()
    )


@lru_cache
def _drawn_from() -> frozenset[str]:
    from coolname.data import config

    parts: Any = config.values()
    lists = [part.get("words", ()) for part in parts if part["type"] == "words"]
    return frozenset(word for words in lists for word in words)


def hour() -> str:
    """This minute, as a list of runs shows it; several runs of one day have several names."""
    return f"{datetime.now():%a %d %b %H:%M}"
