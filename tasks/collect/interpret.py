"""What an answer means: stored, unchanged, gone, refused, moved, or to be asked again. And when a page is asked next.

Pure, so a record that a killed night left in its segment is understood as it would have been then.
"""

import fnmatch
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.collect import links, sitemaps
from tasks.collect.fetch import Answer
from tasks.collect.frontier import FEED, KINDS, PAGE, Found, Lease
from tidemill.engines.config.schema import Collect, OptOut, Source
from tidemill.web import optout, urls

DAY_S = 86_400.0
HOPS = 5
AGAIN = (408, 429, 500, 502, 503, 504)
LINK = re.compile(r"<([^>]*)>([^<]*)")
LIKELY = 0.3  # a page is due when it has changed with this probability


@dataclass
class Outcome:
    """What became of one visit, and what it found."""

    kind: str  # stored, unchanged, gone, refused, failed, moved, listed
    why: str = ""
    body: bytes = b""  # to be stored
    row: dict[str, Any] | None = (
        None  # of the manifest; raw_file and raw_locator are filled in when it is stored
    )
    changed: dict[str, Any] = field(default_factory=dict)  # in the frontier
    found: list[Found] = field(default_factory=list)
    refused: int = 0  # of what was found: not of this source


def understood(
    lease: Lease,
    answer: Answer,
    said: Sequence[optout.Signal],
    source: Source,
    settings: Collect,
    policy: OptOut,
    token: str,
    at: float,
    fetched: str,
) -> Outcome:
    """What an answer means that is not to be asked for again. `said` is what the site's files say of this address."""
    if answer.status == 304 and lease.sha256:
        return Outcome("unchanged", "304", changed=_seen(lease, False, source, at))
    if answer.status in (301, 302, 303, 307, 308):
        return _moved(lease, answer, at)
    if answer.status in (404, 410):
        return _gone(lease, answer.status, settings, at)
    if answer.status != 200:
        return Outcome(
            "failed", f"status {answer.status}", changed={"status": -1, "visited": at, "due": at}
        )
    if lease.kind != PAGE:
        return _list(lease, answer, at)
    return _page(lease, answer, said, source, settings, policy, token, at, fetched)


def _moved(lease: Lease, answer: Answer, at: float) -> Outcome:
    there = urls.joined(lease.uri, answer.get("location") or "")
    changed = {"status": answer.status, "visited": at, "due": at}
    if there is None:
        return Outcome("failed", "redirect to no address", changed={**changed, "status": -1})
    if there == lease.uri or lease.hops >= HOPS:
        return Outcome("failed", "redirects without end", changed={**changed, "status": -1})
    return Outcome(
        "moved",
        there,
        changed=changed,
        found=[
            Found(
                there,
                lease.kind,
                lease.rank + (1 if lease.kind else 0),
                lease.hops + 1,
                lease.listed > 0,
            )
        ],
    )


def _gone(lease: Lease, status: int, settings: Collect, at: float) -> Outcome:
    """A page leaves once it was not there several nights in a row; one bad deployment takes nothing away."""
    times = lease.gone + 1
    changed: dict[str, Any] = {
        "status": status,
        "gone": times,
        "visited": at,
        "due": at + (DAY_S * 30 if times >= settings.gone else 0),
    }
    if lease.stored and times >= settings.gone:
        row = {**json.loads(lease.stored), "status": status}
        return Outcome(
            "gone",
            f"status {status}",
            row=row,
            changed={
                **changed,
                "sha256": None,
                "etag": None,
                "modified": None,
                "text": None,
                "stored": None,
            },
        )
    return Outcome("gone", f"status {status}", changed=changed)


def _list(lease: Lease, answer: Answer, at: float) -> Outcome:
    changed = {"status": 200, "visited": at}
    try:
        entries = sitemaps.listed(answer.body, answer.media()[0] or "")
    except sitemaps.NotAList as error:
        return Outcome(
            "failed",
            f"{'feed' if lease.kind == FEED else 'sitemap'} cannot be read: {error}",
            changed={**changed, "status": -1},
        )
    what = "feed" if lease.kind == FEED else "sitemap"
    outcome = (
        Outcome("failed", f"{what} is broken: {entries.broken}", changed={**changed, "status": -1})
        if entries.broken
        else Outcome("listed", changed=changed)
    )
    for entry in entries:
        there = urls.joined(lease.uri, entry.uri)
        if there is None:
            outcome.refused += 1
        elif entry.kind == "page" or lease.hops < HOPS:
            outcome.found.append(
                Found(
                    there,
                    KINDS[entry.kind],
                    0,
                    lease.hops + 1 if entry.kind != "page" else 0,
                    entry.kind == "page",
                    entry.modified,
                )
            )
    return outcome


def _page(
    lease: Lease,
    answer: Answer,
    said: Sequence[optout.Signal],
    source: Source,
    settings: Collect,
    policy: OptOut,
    token: str,
    at: float,
    fetched: str,
) -> Outcome:
    media, declared = answer.media()
    if not kept(media, source):
        return Outcome(
            "refused",
            f"media type {media or 'none'}",
            changed={
                "status": 200,
                "visited": at,
                "due": at + source.revisit_days[1] * DAY_S,
                "decision": "refused",
                "reason": f"media type {media or 'none'}",
            },
        )
    body_digest = hashlib.sha256(answer.body).hexdigest()
    follow = lease.rank < source.depth
    html = media in links.HTML
    page = (
        links.read(answer.body, lease.uri, declared, token, follow)
        if html
        else links.Page(text=body_digest)
    )
    signals = [*said, *optout.of_headers(answer.headers, token), *optout.of_page(page.metas, token)]
    decision = optout.decide(signals, policy)
    kept_signals = optout.written(signals)
    if any(
        {"nofollow", "none"} & set(optout.words(value, token))
        for name, value in answer.headers
        if name.lower() == "x-robots-tag"
    ):
        page.links = []
    found = [Found(there, PAGE, lease.rank + 1) for there in page.links]
    if page.refresh and lease.hops < HOPS:
        found.append(Found(page.refresh, PAGE, lease.rank, lease.hops + 1, lease.listed > 0))
    if not decision.allowed:
        # What we have of it leaves at the next clean; what it says now stays with the record.
        row = (
            {**json.loads(lease.stored), "status": 451, "signals": kept_signals}
            if lease.stored
            else None
        )
        changed = {
            "status": 200,
            "visited": at,
            "due": at + min(source.revisit_days[1], 1.0) * DAY_S,
            "decision": "refused",
            "reason": decision.reason,
            "signals": kept_signals,
            "sha256": None,
            "etag": None,
            "modified": None,
            "text": None,
            "stored": None,
        }
        return Outcome(
            "refused", decision.reason.partition(":")[0], row=row, changed=changed, found=found
        )
    changed = {"decision": "allowed", "reason": decision.reason, "signals": kept_signals}
    if (
        page.canonical
        and page.canonical != lease.uri
        and lease.hops < HOPS
        and not lease.sha256
        and urls.host(page.canonical) == urls.host(lease.uri)
    ):
        return Outcome(
            "moved",
            page.canonical,
            changed={
                **changed,
                "status": 200,
                "visited": at,
                "due": at + source.revisit_days[1] * DAY_S,
                "reason": f"a copy of {page.canonical}",
            },
            found=[
                *found,
                Found(page.canonical, PAGE, lease.rank, lease.hops + 1, lease.listed > 0),
            ],
        )
    etag, modified = answer.get("etag"), answer.get("last-modified")
    same = lease.sha256 == body_digest
    changed |= {
        "etag": etag,
        "modified": modified,
        "text": page.text,
        **_seen(lease, not same and lease.text != page.text, source, at),
    }
    if same and lease.stored and json.loads(lease.stored).get("signals") == kept_signals:
        return Outcome("unchanged", "same body", changed=changed, found=found)
    row = {
        "uri": lease.uri,
        "fetched": fetched,
        "status": 200,
        "media": media,
        "charset": declared,
        "etag": etag,
        "modified": modified,
        "sha256": body_digest,
        "raw_file": "",
        "raw_locator": "",
        "signals": kept_signals,
    }
    return Outcome(
        "stored", body=answer.body, row=row, changed={**changed, "sha256": body_digest}, found=found
    )


def licences(answer: Answer, uri: str, token: str) -> list[str]:
    """The RSL documents that a page names, in its `Link` header or in its head."""
    found = [
        there
        for name, value in answer.headers
        if name.lower() == "link"
        for place, about in LINK.findall(value)
        if "application/rsl+xml" in about.lower()
        and re.search(r"""rel\s*=\s*["']?[^;"']*\blicense\b""", about, re.IGNORECASE)
        and (there := urls.joined(uri, place))
    ]
    if b"application/rsl+xml" in answer.body and answer.media()[0] in links.HTML:
        found += links.read(answer.body, uri, answer.media()[1], token, False).licences
    return found


def kept(media: str | None, source: Source) -> bool:
    return not source.media or any(
        fnmatch.fnmatchcase(media or "", pattern) for pattern in source.media
    )


def _seen(lease: Lease, changed: bool, source: Source, at: float) -> dict[str, Any]:
    """The frontier's columns after a page was there: how often it was looked at and had changed, and when it is due."""
    first = lease.first or at
    visits = lease.visits + (1 if lease.first else 0)
    changes = lease.changes + (1 if changed and lease.first else 0)
    return {
        "status": 200,
        "gone": 0,
        "visited": at,
        "first": first,
        "visits": visits,
        "changes": changes,
        "due": at + wait_days(visits, changes, (at - first) / DAY_S, source.revisit_days) * DAY_S,
    }


def wait_days(visits: int, changes: int, days: float, bounds: tuple[float, float]) -> float:
    """How long until a page has changed with probability `LIKELY`, in days, within bounds.

    The rate is estimated from whether, not how often, it had changed between visits, so a bias of the naive ratio
    is taken out (Cho and Garcia-Molina 2003, "Estimating frequency of change", 4.2): -log((n - X + .5) / (n + .5)) per interval.
    With no change seen the prior of half a change in one more visit keeps the estimate from nought.
    """
    least, most = bounds
    if not visits:
        return least
    rate = -math.log((visits - changes + 0.5) / (visits + (0.5 if changes else 1.0))) / max(
        days / visits, 1e-6
    )
    return min(max(-math.log(1 - LIKELY) / rate, least), most)
