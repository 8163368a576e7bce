"""python -m tests.support.site.night: one night in its own process, which may die at one point.

Reads {"folder", "mirrors", "source", "settings", "die"} from stdin; `die` is [place, "before" or
"after", which time].
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tasks.collect import frontier
from tasks.collect.crawl import Crawl
from tests.support.site import settings
from tidemill.engines.config.schema import OptOut, Source
from tidemill.records import warc

PLACES = {
    "commit": (frontier.Frontier, "commit"),
    "published": (frontier.Frontier, "published"),
    "end": (frontier.Frontier, "end"),
    "take": (frontier.Frontier, "take"),
    "sync": (warc.Segment, "sync"),
    "close": (warc.Segment, "close"),
    "add": (warc.Segment, "add"),
    "merge": (warc, "merge"),
    "table": (warc, "save_table"),
}


def dying(place: str, when: str, time: int) -> None:
    """Let the process kill itself, as kill -9 does, before or after a call."""
    owner, name = PLACES[place]
    work, left = getattr(owner, name), [time]

    def call(*args: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = work(*args, **named)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, call)


def main() -> None:
    given = json.load(sys.stdin)
    if given.get("die"):
        dying(*given["die"])
    folder = Path(given["folder"])
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    mirrors = {name: (address, port) for name, (address, port) in given["mirrors"].items()}
    crawl = Crawl(
        Source.model_validate(given["source"]),
        settings(**given["settings"]),
        OptOut(),
        folder / "raw",
        folder / "state",
        mirrors,
    )
    print(asyncio.run(crawl.run()).model_dump_json())  # noqa: T201


if __name__ == "__main__":
    main()
