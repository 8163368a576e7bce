"""Telling people, through Prefect's notification blocks.

They know e-mail, Slack, webhooks and others (Apprise).
"""

import json
import logging
import time
from datetime import UTC, datetime
from typing import Any

from tidemill.engines import config
from tidemill.runtime import paths
from tidemill.runtime.files import write

log = logging.getLogger(__name__)


def notify(subject: str, body: str, state: str) -> int:
    """Tell every block that conf/config.yaml names, if this kind of end is to be told.

    Gives how many were reached.

    A notice that does not arrive is logged and fails nothing.
    """
    settings = config.general().notices
    if state not in settings.tell:
        return 0
    reached = 0
    for name in settings.blocks:
        try:
            from prefect.blocks.core import Block

            import tidemill.engines.prefect.mail  # noqa: F401  (a block is known by its class)

            block: Any = Block.load(name)
            block.notify(body=body, subject=f"Tidemill: {subject}")
            reached += 1
        except Exception as error:
            # Whatever a mail server or a webhook does, the night is not its hostage.
            log.warning("notice through %s failed: %s: %s", name, type(error).__name__, error)
    return reached


def overdue(now: datetime | None = None) -> bool:
    """Tell, once a day, that no night ended for 26 hours although one is scheduled.

    Whether it was told.
    """
    settings = config.general().notices
    if not config.nightly():
        return False
    now = now or datetime.now(UTC)
    last = paths.state("night.json")
    began = paths.state("up", "runner.ready")
    times = [datetime.fromisoformat(json.loads(last.read_text())["at"])] if last.is_file() else []
    if not times and began.is_file():
        times = [datetime.fromtimestamp(began.stat().st_mtime, UTC)]
    if not times:
        return False
    hours = (now - max(times)).total_seconds() / 3600
    mark = paths.state("overdue.told")
    if hours < settings.no_night_hours or (
        mark.is_file() and time.time() - mark.stat().st_mtime < 86_400
    ):
        return False
    write(mark, now.isoformat() + "\n")
    notify(
        f"no night for {hours:.0f} hours",
        f"The last one ended {max(times).isoformat(timespec='minutes')}. tidemill status says "
        "more.",
        "Overdue",
    )
    return True
