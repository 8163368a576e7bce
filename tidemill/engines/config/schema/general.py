"""conf/config.yaml and conf/runtime: what holds for every application."""

import re
from typing import Literal

from pydantic import Field, field_validator

from tidemill.engines.config.schema.base import Strict

ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-f:.]+\](:\d{1,5})?")


class Runtime(Strict):
    name: str = "local"
    kind: Literal["local"]
    processes: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="of a data step side by side; 0: one for each processor",
    )


def comes(cron: str, timezone: str) -> None:
    """Raise ValueError where a cron never fires, or its time zone does not exist."""
    from datetime import datetime
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from croniter import CroniterBadCronError, CroniterBadDateError, croniter

    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"timezone {timezone!r} does not exist; name one as Europe/Berlin or UTC"
        ) from error
    try:
        croniter(cron, datetime.now(zone), max_years_between_matches=5).get_next(datetime)
    except CroniterBadDateError as error:
        raise ValueError(f"cron {cron!r} never comes; 0 3 * * * is every night at three") from error
    except (CroniterBadCronError, ValueError, KeyError) as error:
        raise ValueError(
            f"cron {cron!r} is no cron ({error}); 0 3 * * * is every night at three"
        ) from error


class StepPolicy(Strict):
    retries: int = Field(ge=0, le=10)
    retry_delay_s: tuple[float, ...]
    timeout_minutes: float = Field(
        gt=0,
        description="without a line of progress, after which a step is stopped and tried again; a "
        "step that goes on may take any time",
    )


class OptOut(Strict):
    """Whose no is heard, and what silence means."""

    heed: tuple[
        Literal[
            "robots.txt",
            "content-usage",
            "content-signal",
            "tdm-reservation",
            "noai",
            "noimageai",
            "noindex",
            "rsl",
            "ai.txt",
        ],
        ...,
    ] = (
        "robots.txt",
        "content-usage",
        "content-signal",
        "tdm-reservation",
        "noai",
        "noimageai",
        "noindex",
        "rsl",
        "ai.txt",
    )
    unknown: Literal["allowed", "refused"] = Field(
        default="allowed", description="of a page of which nothing says yes or no"
    )


class Collect(Strict):
    user_agent: str
    contact: str | None
    timeout_s: float = Field(gt=0)
    attempts: int = Field(ge=1, le=10)
    max_page_mb: float = Field(gt=0)
    parallel: int = Field(
        default=64, ge=1, le=1024, description="requests at a time, all hosts together"
    )
    per_address: int = Field(
        default=2,
        ge=1,
        le=64,
        description="requests at a time to one IP address, whatever hosts are on it",
    )
    latency_factor: float = Field(
        default=2.0,
        ge=0,
        description="a host is asked again after so many times what it took "
        "to answer, where that is longer than delay_s",
    )
    max_wait_minutes: float = Field(
        default=10.0,
        ge=0,
        description="a host that asks for more patience is left for the next night",
    )
    give_up: int = Field(
        default=10,
        ge=1,
        description="failures of a host in a row after which it is left alone for the night",
    )
    gone: int = Field(
        default=3,
        ge=1,
        description="nights in a row a page must answer 404 or 410 to leave the snapshot",
    )
    same_shape: int = Field(
        default=1_000,
        ge=1,
        description="linked addresses that differ by their numbers "
        "alone, of one host; more is a trap",
    )
    same_text: int = Field(
        default=20, ge=1, description="pages of one host with the same words; more is a soft 404"
    )


class Approve(Strict):
    timeout_minutes: float = Field(
        gt=0, description="how long a run that asks waits for a person's form"
    )


class NightLimits(Strict):
    """What one night may cost; reaching a limit ends it properly."""

    minutes: float = Field(gt=0)
    price_per_hour: float = Field(ge=0, description="of this machine, in whatever money")
    price: float = Field(ge=0, description="of a night, in the same money; 0: no limit")
    disk_free_gb: float = Field(ge=0, description="must stay free")


class Notices(Strict):
    """Who is told, and of what."""

    blocks: tuple[str, ...] = Field(
        description="Prefect's notification blocks, as slack-webhook/team"
    )
    tell: tuple[
        Literal["Promoted", "Held", "Rejected", "Unchanged", "DryRun", "Failed", "Overdue"], ...
    ]
    no_night_hours: float = Field(gt=0)


class Serving(Strict):
    """The prediction server of `tidemill serve`."""

    host: str = Field(
        default="127.0.0.1", description="elsewhere than loopback only with TIDEMILL_TOKENS"
    )
    port: int = Field(default=8000, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=64, description="processes that answer")
    poll_s: float = Field(
        default=5.0,
        ge=0.2,
        le=300,
        description="how often the registry is asked for another champion",
    )
    head_s: float = Field(
        default=10.0,
        gt=0,
        description="in which a client must have sent its request's head, "
        "and in which it must take its answer",
    )
    body_s: float = Field(
        default=20.0, gt=0, description="in which a client must have sent its body"
    )
    connections: int = Field(default=1000, ge=1, description="open at once; more are closed")
    cors_origins: tuple[str, ...] = Field(
        default=(), description="whose pages may ask from a browser, as https://host:port; no '*'"
    )
    watch_cron: str = Field(
        default="15 */6 * * *",
        description="when served questions are looked at, in UTC, where a recipe samples them",
    )

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin; write it as https://host:port")
        return origins


class Retention(Strict):
    """How long what is not needed stays.

    What a live version, the ledger or its lineage needs is never removed.
    """

    days: float = Field(ge=0)


class Up(Strict):
    """The servers of `tidemill up`."""

    ready_s: float = Field(
        default=300, gt=0, description="in which all services must answer, or `up` gives up"
    )


class General(Strict):
    """conf/config.yaml"""

    application: str = Field(description="what `tidemill run` takes where none is named")
    seed: int
    collect: Collect
    optout: OptOut = OptOut()
    step: StepPolicy
    approval: Approve
    night: NightLimits
    notices: Notices
    keep: Retention
    serve: Serving = Serving()
    up: Up = Up()
