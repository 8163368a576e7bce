"""What a site allows of one address, asked now, politely, and kept nowhere.

And how each source's last night went.
"""

import asyncio
import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from tasks.collect.frontier import NightReport, answered, last_report
from tidemill.engines import config
from tidemill.engines.config.schema import NightBudget, Source
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault, Refused
from tidemill.web import optout, urls
from tidemill.web.headers import product


class SignalFound(TypedDict):
    signal: str
    where: str
    value: str
    says: str  # yes, no or nothing


class Allowed(TypedDict):
    """What a site allows of an address."""

    decision: str
    because: str
    robots: str  # how its robots.txt stands, in words
    delay_s: float
    files: dict[str, int]  # the site's own, by their answers' status
    signals: list[SignalFound]


class CheckedAddress(Allowed):
    source: str
    url: str


class SourceNight(TypedDict):
    """A source's last night; None where a number is not known."""

    source: str
    kind: str
    night: str | None  # when: UTC, ISO 8601
    pages: int | None
    fetched: int | None
    unchanged: int | None
    failed: int | None
    refused: int | None
    gone: int | None
    waiting: int | None  # hosts with pages left
    why: str


def check(name: str, uri: str) -> CheckedAddress:
    """Whether an address may be fetched and trained on, and by whose word.

    The page is asked for where the site's files allow it.
    """
    from tasks.collect.crawl import Crawl
    from tasks.collect.mirror import served

    source, general = config.source(name), config.general()
    if source.kind not in ("web", "feed"):
        raise Refused(
            f"source {name} is of kind {source.kind}; robots.txt and signals are of web pages"
        )
    there = urls.canonical(uri)
    if there is None:
        raise Refused(f"{uri!r} is no address of http or https")
    alone, mirror = _alone(source, there), source.mirror

    async def ask(folder: Path, mirrors: dict[str, tuple[str, int]]) -> None:
        places = folder / "raw", folder / "state"
        crawl = Crawl(alone, general.collect, general.optout, *places, mirrors, quiet=True)
        await crawl.run()

    async def mirrored(folder: Path) -> None:
        if mirror is None:
            return await ask(folder, {})
        async with served(mirror) as port:
            await ask(folder, {mirror.host: ("127.0.0.1", port)})

    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with suppress(Fault):  # what was found is read below
            asyncio.run(mirrored(folder))
        return {"source": name, "url": there, **_allowed(folder / "state" / "frontier.db", there)}


def _alone(source: Source, uri: str) -> Source:
    """A source of this one address; for a sitemap, of the folder it lies in."""
    folder, _, last = uri.rpartition("/")
    return source.model_copy(
        update={
            "kind": "web",
            "seeds": (f"{folder}/" if last.startswith("sitemap") else uri,),
            "hosts": (*source.hosts, urls.host(uri)),
            "depth": 0,
            "sitemaps": False,
            "allow": (),
            "deny": (),
            "budget": NightBudget(pages=6, minutes=2),
            "max_failed": 1.0,
        }
    )


def _allowed(path: Path, uri: str) -> Allowed:
    page = answered(path, uri)
    agent = product(config.general().collect.user_agent)
    signals = optout.read(page.signals) or optout.of_site(page.bodies, uri, agent)
    meant = {True: "yes", False: "no", None: "nothing"}
    return {
        "decision": page.decision or ("moved" if page.moved else "not had"),
        "because": page.reason or ", ".join([*page.moved, *page.reasons]) or "no answer",
        "robots": {
            "rules": "its rules are read",
            "all": "it has none, so all is allowed",
            "nothing": "it cannot be had, so nothing is allowed",
        }.get(page.standing, page.standing or "not asked"),
        "delay_s": page.delay_s,
        "files": page.files,
        "signals": [
            {
                "signal": item.signal,
                "where": item.where,
                "value": item.value,
                "says": meant[optout.says(item)],
            }
            for item in signals
        ],
    }


def nights() -> list[SourceNight]:
    """Each source's last night: when, how long, pages, what failed and what was refused."""
    return [_night(name) for name in config.files("source")]


def _night(name: str) -> SourceNight:
    row: SourceNight = {
        "source": name,
        "kind": "?",
        "night": None,
        "pages": None,
        "fetched": None,
        "unchanged": None,
        "failed": None,
        "refused": None,
        "gone": None,
        "waiting": None,
        "why": "",
    }
    try:
        row["kind"] = config.source(name).kind
    except Refused as error:
        return {**row, "why": str(error)}
    report = last_report(paths.state("collect", name, "frontier.db"))
    if report:
        row = {
            **_counted(row, report),
            "night": report["ended"],
            "waiting": len(report["waiting"]),
        }
    return _noted(paths.state("collect", f"{name}.night.json"), row)


def _counted(row: SourceNight, report: NightReport) -> SourceNight:
    return {
        **row,
        "pages": report["records"],
        "fetched": report["fetched"],
        "unchanged": report["unchanged"],
        "failed": report["failed"],
        "refused": report["refused"],
        "gone": report["gone"],
        "why": _foremost(report["reasons"]),
    }


def _foremost(reasons: dict[str, int]) -> str:
    return "; ".join(f"{count} {why}" for why, count in list(reasons.items())[:3])


def _noted(path: Path, row: SourceNight) -> SourceNight:
    """The row with what the last night left beside.

    It is all there is of sources that are no pages, and of any source why it failed.
    """
    try:
        report = json.loads(path.read_text())
        if not report["ok"]:
            return {**row, "night": report["at"], "why": report["why"]}
        if row["night"]:
            return row
        return {**_counted(row, report), "night": report["at"]}
    except (OSError, ValueError, KeyError, TypeError):
        return row
