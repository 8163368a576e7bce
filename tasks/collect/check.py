"""What a site allows of one address, asked now, politely, and kept nowhere; and how each source's last night went."""

import asyncio
import json
import sqlite3
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidemill.engines import config
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault, Refused
from tidemill.web import optout, urls


def check(name: str, uri: str) -> dict[str, Any]:
    """Whether an address may be fetched and trained on, and by whose word. The page is asked for where the site's files allow it."""
    from tasks.collect.crawl import Crawl
    from tasks.collect.mirror import served
    from tidemill.engines.config.schema import Budget

    source, general = config.source(name), config.general()
    if source.kind not in ("web", "feed"):
        raise Refused(
            f"source {name} is of kind {source.kind}; robots.txt and signals are of web pages"
        )
    there = urls.canonical(uri)
    if there is None:
        raise Refused(f"{uri!r} is no address of http or https")
    alone = source.model_copy(
        update={
            "kind": "web",
            "seeds": (
                there.rsplit("/", 1)[0] + "/"
                if there.rsplit("/", 1)[1].startswith("sitemap")
                else there,
            ),
            "hosts": (*source.hosts, urls.host(there)),
            "depth": 0,
            "sitemaps": False,
            "allow": (),
            "deny": (),
            "budget": Budget(pages=6, minutes=2),
            "max_failed": 1.0,
        }
    )

    async def ask(folder: Path) -> None:
        if source.mirror is None:
            await Crawl(
                alone, general.collect, general.optout, folder / "raw", folder / "state", quiet=True
            ).run()
            return
        async with served(source.mirror) as port:
            await Crawl(
                alone,
                general.collect,
                general.optout,
                folder / "raw",
                folder / "state",
                {source.mirror.host: ("127.0.0.1", port)},
                quiet=True,
            ).run()

    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with suppress(Fault):  # what was found is read below
            asyncio.run(ask(folder))
        return {"source": name, "url": there, **_found(folder / "state" / "frontier.db", there)}


def _found(path: Path, uri: str) -> dict[str, Any]:
    db = sqlite3.connect(path)
    try:
        page = db.execute(
            "SELECT decision, reason, signals, status FROM pages WHERE uri = ?", (uri,)
        ).fetchone() or (None, None, None, None)
        host = db.execute(
            "SELECT id, standing, delay FROM hosts WHERE site = ?", (urls.site(uri),)
        ).fetchone() or (0, "", 0.0)
        files = dict(
            db.execute("SELECT name, status FROM files WHERE host = ?", (host[0],)).fetchall()
        )
        bodies = dict(
            db.execute("SELECT name, body FROM files WHERE host = ? AND status = 200", (host[0],))
        )
        moved = [
            row[0]
            for row in db.execute("SELECT uri FROM pages WHERE uri <> ? AND hops > 0", (uri,))
        ]
        why = [
            row[0].partition(":")[2]
            for row in db.execute("SELECT reason FROM counts WHERE reason LIKE '%:%'")
        ]
    finally:
        db.close()
    agent = config.general().collect.user_agent.split("/")[0]
    signals = optout.read(page[2]) or optout.of_site(bodies, uri, agent)
    meant = {True: "yes", False: "no", None: "nothing"}
    return {
        "decision": page[0] or ("moved" if moved else "not had"),
        "because": page[1] or ", ".join([*moved, *why]) or "no answer",
        "robots": {
            "rules": "its rules are read",
            "all": "it has none, so all is allowed",
            "nothing": "it cannot be had, so nothing is allowed",
        }.get(host[1], host[1] or "not asked"),
        "delay_s": host[2],
        "files": files,
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


def nights() -> list[dict[str, Any]]:
    """Each source's last night: when, how long, pages, what failed and what was refused."""
    found = []
    for name in config.files("source"):
        try:
            kind = config.source(name).kind
        except Refused as error:
            found.append(
                {
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
                    "why": str(error),
                }
            )
            continue
        row: dict[str, Any] = {
            "source": name,
            "kind": kind,
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
        report = _last(paths.state("collect", name, "frontier.db"))
        if report:
            row |= {
                "night": report["ended"],
                "pages": report["records"],
                "waiting": len(report["waiting"]),
                "why": "; ".join(
                    f"{count} {why}" for why, count in list(report["reasons"].items())[:3]
                ),
                **{
                    field: report[field]
                    for field in ("fetched", "unchanged", "failed", "refused", "gone")
                },
            }
        row |= _noted(paths.state("collect", f"{name}.night.json"), row)
        found.append(row)
    return found


def _noted(path: Path, row: dict[str, Any]) -> dict[str, Any]:
    """What the last night left beside: all there is of sources that are no pages, and of any source why it failed."""
    try:
        told = json.loads(path.read_text())
        if not told["ok"]:
            return {"night": told["at"], "why": told["why"]}
        if row["night"]:
            return {}
        return {
            "night": told["at"],
            "pages": told["records"],
            "why": "; ".join(f"{count} {why}" for why, count in list(told["reasons"].items())[:3]),
            **{
                field: told[field]
                for field in ("fetched", "unchanged", "failed", "refused", "gone")
            },
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _last(path: Path) -> dict[str, Any] | None:
    """The report of the last night that ended; None where there is none, or another process writes its first."""
    if not path.is_file():
        return None
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            row = db.execute(
                "SELECT ended, report FROM nights WHERE report IS NOT NULL ORDER BY id DESC LIMIT 1"
            ).fetchone()
        finally:
            db.close()
    except sqlite3.DatabaseError:
        return None
    return (
        {
            **json.loads(row[1]),
            "ended": datetime.fromtimestamp(row[0], UTC).isoformat(timespec="seconds"),
        }
        if row
        else None
    )
