"""What an answer means: stored, unchanged, gone, refused, moved, or to be asked again.

And when a page is asked next.

Pure, so a record that a killed night left in its segment is understood as it would have been then.
"""

import fnmatch
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.collect import links, sitemaps
from tasks.collect.fetch import Answer
from tasks.collect.frontier import FEED, KINDS, NOT_STORED, PAGE, Found, Lease, PageChange
from tidemill.engines.config.schema import Collect, OptOut, Source
from tidemill.records import warc
from tidemill.web import headers, optout, urls

DAY_S = 86_400.0
HOPS = 5
COPY = "a copy of "  # before its canonical address: why a page was not stored
HAD = (200, 203)  # 203: by way of a proxy that changed something (RFC 9110, 15.3.4)
AGAIN = (408, 429, 500, 502, 503, 504)
LIKELY = 0.3  # a page is due when it has changed with this probability


@dataclass
class Outcome:
    """What became of one visit, and what it found."""

    kind: str  # stored, unchanged, gone, refused, failed, moved, listed
    why: str = ""
    body: bytes = b""  # to be stored
    row: warc.ManifestRow | None = None  # raw_file and raw_locator are filled in when it is stored
    changed: PageChange = field(default_factory=PageChange)  # in the frontier
    found: list[Found] = field(default_factory=list)
    refused: int = 0  # of what was found: not of this source
    by_signal: bool = False  # refused by the words of the page or its site
    copy: bool = False  # moved to its canonical address, which may not be had
    licences: bytes = b""  # the RSL statements of a feed


@dataclass(frozen=True)
class Reader:
    """What one source makes of an answer that is not to be asked for again."""

    source: Source
    settings: Collect
    policy: OptOut
    token: str

    def understood(
        self,
        lease: Lease,
        answer: Answer,
        said: Sequence[optout.Signal],
        at: float,
        fetched: str,
        page: links.Page | None = None,
    ) -> Outcome:
        """What an answer means.

        `said` is what the site's files say of this address; `page` what was read of it already.
        """
        if answer.status == 304 and lease.sha256:
            return self._not_modified(lease, answer, said, at)
        if answer.status in (301, 302, 303, 307, 308):
            return _moved(lease, answer, at)
        if answer.status in (404, 410):
            return _gone(lease, answer.status, self.settings, at)
        if answer.status not in HAD:
            changed: PageChange = {"status": -1, "visited": at, "due": at}
            return Outcome("failed", f"status {answer.status}", changed=changed)
        if lease.kind != PAGE:
            return _list(lease, answer, at)
        if not kept(answer.media()[0], self.source):
            return self._not_kept(answer.media()[0], at)
        page = page or self.page(lease, answer)
        return self._page(lease, answer, said, page, at, fetched)

    def page(self, lease: Lease, answer: Answer) -> links.Page:
        """An answer's page, read once; what its headers say where the page says nothing."""
        page = self._body(lease, answer)
        if page.refresh is None and (match := links.REFRESH.match(answer.get("refresh") or "")):
            page.refresh = urls.joined(lease.uri, match[1])
        canonical = [link for link in answer.links() if "canonical" in link.relations]  # RFC 6596
        if page.canonical is None and canonical:
            page.canonical = urls.joined(lease.uri, canonical[0].target)
        return page

    def _body(self, lease: Lease, answer: Answer) -> links.Page:
        media, declared = answer.media()
        if not headers.is_html(media, answer.body):
            return links.Page(text=hashlib.sha256(answer.body).hexdigest())
        follow = lease.rank < self.source.depth
        page = links.read(answer.body, lease.uri, declared, self.token, follow)
        named = {"nofollow", "none"}
        values = answer.all("x-robots-tag")
        if any(named & set(optout.words(value, self.token)) for value in values):
            page.links = []
        return page

    def licences(self, lease: Lease, answer: Answer, page: links.Page) -> list[str]:
        """The RSL documents that a page names, in its `Link` header or in its head."""
        found = [
            urls.joined(lease.uri, link.target)
            for link in answer.links()
            if "license" in link.relations and link.media == links.RSL
        ]
        return [there for there in found if there] + page.licences

    def _not_kept(self, media: str | None, at: float) -> Outcome:
        reason = f"media type {media or 'none'}"
        due = at + self.source.revisit_days[1] * DAY_S
        changed: PageChange = {
            "status": 200,
            "visited": at,
            "due": due,
            "decision": "refused",
            "reason": reason,
        }
        return Outcome("refused", reason, changed=changed)

    def _not_modified(
        self, lease: Lease, answer: Answer, said: Sequence[optout.Signal], at: float
    ) -> Outcome:
        """A page that is as it was, but for its headers.

        Those of a 304 are the current ones (RFC 9110, 15.4.5).
        """
        changed = _seen(lease, False, self.source, at)
        if etag := answer.get("etag"):
            changed["etag"] = etag
        if modified := answer.get("last-modified"):
            changed["modified"] = modified
        if not lease.stored:
            return Outcome("unchanged", "304", changed=changed)
        row: warc.ManifestRow = json.loads(lease.stored)
        before = [item for item in optout.read(row["signals"]) if item.where in ("header", "page")]
        signals = [*said, *optout.renewed(before, answer.headers, self.token)]
        decision, words = optout.decide(signals, self.policy), optout.written(signals)
        if not decision.allowed:
            return self._refused(lease, decision.reason, words, at)
        if words == row["signals"]:
            return Outcome("unchanged", "304", changed=changed)
        changed |= {"decision": "allowed", "reason": decision.reason, "signals": words}
        return Outcome("unchanged", "304", row={**row, "signals": words}, changed=changed)

    def _refused(self, lease: Lease, reason: str, words: str | None, at: float) -> Outcome:
        """What we have of a page leaves at the next clean.

        What it says now stays with the record.
        """
        row: warc.ManifestRow | None = None
        if lease.stored:
            stored: warc.ManifestRow = json.loads(lease.stored)
            row = {**stored, "status": 451, "signals": words}
        changed: PageChange = {
            "status": 200,
            "visited": at,
            "due": at + min(self.source.revisit_days[1], 1.0) * DAY_S,
            "decision": "refused",
            "reason": reason,
            "signals": words,
            **NOT_STORED,
        }
        why = reason.partition(":")[0]
        return Outcome("refused", why, row=row, changed=changed, by_signal=True)

    def _page(
        self,
        lease: Lease,
        answer: Answer,
        said: Sequence[optout.Signal],
        page: links.Page,
        at: float,
        fetched: str,
    ) -> Outcome:
        signals = [
            *said,
            *optout.of_headers(answer.headers, self.token),
            *optout.of_page(page.metas, self.token),
            *optout.of_documents(page.statements, lease.uri),
        ]
        decision, words = optout.decide(signals, self.policy), optout.written(signals)
        found = [Found(there, PAGE, lease.rank + 1) for there in page.links]
        if page.refresh and lease.hops < HOPS:
            found.append(Found(page.refresh, PAGE, lease.rank, lease.hops + 1, lease.listed > 0))
        if not decision.allowed:
            outcome = self._refused(lease, decision.reason, words, at)
        elif page.canonical and self._is_a_copy(lease, page.canonical):
            outcome = self._copy(lease, page.canonical, at)
            outcome.changed["signals"] = words
        else:
            outcome = self._stored(lease, answer, page, words, at, fetched)
            outcome.changed |= {"decision": "allowed", "reason": decision.reason, "signals": words}
        outcome.found = [*found, *outcome.found]
        return outcome

    def _is_a_copy(self, lease: Lease, canonical: str) -> bool:
        if canonical == lease.uri or lease.hops >= HOPS or lease.sha256:
            return False
        return urls.host(canonical) == urls.host(lease.uri)

    def _copy(self, lease: Lease, canonical: str, at: float) -> Outcome:
        changed: PageChange = {
            "status": 200,
            "visited": at,
            "due": at + self.source.revisit_days[1] * DAY_S,
            "decision": "allowed",
            "reason": f"{COPY}{canonical}",
        }
        there = Found(canonical, PAGE, lease.rank, lease.hops + 1, lease.listed > 0)
        return Outcome("moved", canonical, changed=changed, found=[there], copy=True)

    def _stored(
        self,
        lease: Lease,
        answer: Answer,
        page: links.Page,
        words: str | None,
        at: float,
        fetched: str,
    ) -> Outcome:
        digest = hashlib.sha256(answer.body).hexdigest()
        etag, modified = answer.get("etag"), answer.get("last-modified")
        same = lease.sha256 == digest
        changed: PageChange = {
            "etag": etag,
            "modified": modified,
            "text": page.text,
            **_seen(lease, not same and lease.text != page.text, self.source, at),
        }
        if same and lease.stored and json.loads(lease.stored).get("signals") == words:
            return Outcome("unchanged", "same body", changed=changed)
        media, declared = answer.media()
        row = warc.manifest_row(
            lease.uri,
            fetched,
            digest,
            media,
            charset=declared,
            etag=etag,
            modified=modified,
            signals=words,
        )
        return Outcome("stored", body=answer.body, row=row, changed={**changed, "sha256": digest})


def _moved(lease: Lease, answer: Answer, at: float) -> Outcome:
    there = urls.joined(lease.uri, answer.get("location") or "")
    changed: PageChange = {"status": answer.status, "visited": at, "due": at}
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
    """A page leaves once it was not there several nights in a row.

    One bad deployment takes nothing away.
    """
    times = lease.gone + 1
    changed: PageChange = {
        "status": status,
        "gone": times,
        "visited": at,
        "due": at + (DAY_S * 30 if times >= settings.gone else 0),
    }
    if lease.stored and times >= settings.gone:
        stored: warc.ManifestRow = json.loads(lease.stored)
        row: warc.ManifestRow = {**stored, "status": status}
        changed |= NOT_STORED
        return Outcome("gone", f"status {status}", row=row, changed=changed)
    return Outcome("gone", f"status {status}", changed=changed)


def _list(lease: Lease, answer: Answer, at: float) -> Outcome:
    changed: PageChange = {"status": 200, "visited": at}
    try:
        entries = sitemaps.listed(answer.body, answer.media()[0] or "")
    except sitemaps.NotAList as error:
        return Outcome(
            "failed",
            f"{'feed' if lease.kind == FEED else 'sitemap'} cannot be read: {error}",
            changed={**changed, "status": -1},
        )
    what = "feed" if lease.kind == FEED else "sitemap"
    outcome = Outcome("listed", changed=changed, licences=entries.licences)
    if entries.broken:
        outcome.kind, outcome.why = "failed", f"{what} is broken: {entries.broken}"
        outcome.changed["status"] = -1
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


def kept(media: str | None, source: Source) -> bool:
    return not source.media or any(
        fnmatch.fnmatchcase(media or "", pattern) for pattern in source.media
    )


def _seen(lease: Lease, changed: bool, source: Source, at: float) -> PageChange:
    """The frontier's columns after a page was there.

    They say how often it was looked at and had changed, and when it is due.
    """
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

    The rate is estimated from whether, not how often, it had changed between visits, so a bias of
    the naive ratio is taken out (Cho and Garcia-Molina 2003, "Estimating frequency of change",
    4.2): -log((n - X + .5) / (n + .5)) per interval. With no change seen the prior of half a change
    in one more visit keeps the estimate from nought.
    """
    least, most = bounds
    if not visits:
        return least
    rate = -math.log((visits - changes + 0.5) / (visits + (0.5 if changes else 1.0))) / max(
        days / visits, 1e-6
    )
    return min(max(-math.log(1 - LIKELY) / rate, least), most)
