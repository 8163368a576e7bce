"""The end of a night: whether it is good enough, its manifest, and what is reported of it."""

import heapq
from collections import Counter

from tasks.collect.acknowledge import Acknowledgements
from tasks.collect.journal import Journal
from tasks.collect.night import FIELDS, CrawlNight, Tally
from tasks.collect.turns import Turns
from tidemill.records import warc
from tidemill.records.receipts import Collected
from tidemill.runtime import process
from tidemill.runtime.errors import Fault

TOLD_S = 0.5
TOTAL_S = 5.0  # between two counts of what is left
MOST_HOSTS = 50  # named in a report
NAMED = ("refused:", "failed:", "gone:", "trap:")


class Report:
    """Progress while a night runs, and its receipt when it is over."""

    def __init__(self, night: CrawlNight, tally: Tally, turns: Turns, quiet: bool) -> None:
        self.night, self.tally, self.turns, self.quiet = night, tally, turns, quiet
        self.told = self.totalled = 0.0
        self.left = 0

    def progress(self, last: bool = False) -> None:
        now, counts = self.night.clock.now(), self.tally.counts
        if self.quiet or (now - self.told < TOLD_S and not last):
            return
        self.told = now
        if last:
            self.left = 0
        elif now - self.totalled > TOTAL_S:
            self.totalled, self.left = now, self.night.frontier.number()
        done = sum(counts[name] for name in FIELDS)
        waiting = {
            host.site: f"{host.why or 'its delay'}, {host.next_at - now:.0f} s"
            for at, _, host in heapq.nsmallest(5, self.turns.heap)
            if at > now + 2
        }
        process.progress(
            done,
            max(done, done + self.left),
            "pages",
            hosts=len(self.turns.hosts),
            waiting=waiting,
            **{name: counts[name] for name in (*FIELDS, "bytes")},
        )

    def finish(self, acks: Acknowledgements, journal: Journal) -> Collected:
        """The manifest, what sites say of use and what was decided, each written where it moved.

        Then the night is over. Raises `Fault` where it brought nothing, or too much failed.
        """
        night, frontier = self.night, self.night.frontier
        if night.source.kind == "web" and not night.source.depth and acks.listed_all:
            gone = frontier.gone_from_lists(night.number, night.source.hosts)
            if gone:
                self.tally.count("", "gone", "no longer listed", gone)
                self.tally.flush()
        self._judge()
        journal.close()
        digest, pages, _ = warc.merge(night.folder, frontier.staged)
        self.progress(last=True)
        self._tables()
        receipt = self._receipt(digest, pages)
        frontier.published(night.folder / "manifest.parquet")
        frontier.end(night.number, night.clock.now(), receipt)
        frontier.commit()
        journal.trim()
        return receipt

    def _judge(self) -> None:
        """Refuse a night that is none.

        Lists count apart: what is read of them is visited all the same.
        """
        counts, source = self.tally.counts, self.night.source
        failed = counts["failed"] - counts["lists failed"]
        seen = sum(counts[name] for name in FIELDS) + counts["moved"] - counts["lists failed"]
        why = "; ".join(
            f"{count} x {reason.partition(':')[2]}"
            for reason, count in self.tally.reasons.most_common(3)
        )
        had = counts["fetched"] + counts["unchanged"] + counts["gone"]
        # A night on which nothing is due, or a site that by now refuses everything, was heard:
        # that is no fault.
        calm = not counts["failed"] and (self.night.folder / "manifest.parquet").exists()
        if not had and not calm and not self.night.frontier.number():
            raise Fault(
                f"source {source.name} is empty: {why or 'its sitemaps list no page'}; "
                "what was collected before stays",
                heals=bool(counts["failed"]),
            )
        if failed > source.max_failed * seen:
            raise Fault(
                f"source {source.name}: {failed} of {seen} pages failed ({why}), max_failed is "
                f"{source.max_failed}; what was collected before stays",
                heals=True,
            )

    def _tables(self) -> None:
        folder, frontier = self.night.folder, self.night.frontier
        warc.save_table(
            folder / "hosts.parquet",
            warc.HOSTS,
            frontier.statements(),
            key=("site", "name", "status", "sha256"),
        )
        warc.save_table(
            folder / "decisions.parquet",
            warc.DECISIONS,
            frontier.decisions(),
            key=("uri", "decision", "reason", "signals"),
        )

    def _receipt(self, digest: str, pages: int) -> Collected:
        counts = self.tally.counts
        return Collected(
            source=self.night.source.name,
            records=pages,
            raw=digest,
            bytes=counts["bytes"],
            hosts=self._by_host(),
            waiting=self._waiting(),
            reasons={
                name.partition(":")[2]: count
                for name, count in self.tally.reasons.most_common(MOST_HOSTS)
                if name.startswith(NAMED)
            },
            **{name: counts[name] for name in FIELDS},
        )

    def _by_host(self) -> dict[str, dict[str, int]]:
        hosts: dict[str, Counter[str]] = {}
        for site, what, count in self.night.frontier.counted(self.night.number):
            if site and ":" not in what:
                hosts.setdefault(site, Counter())[what] += count
        busiest = sorted(hosts, key=lambda site: -sum(hosts[site][name] for name in FIELDS))
        return {site: dict(sorted(hosts[site].items())) for site in busiest[:MOST_HOSTS]}

    def _waiting(self) -> dict[str, str]:
        now, frontier = self.night.clock.now(), self.night.frontier
        waiting = {}
        for site in frontier.waiting_hosts()[:MOST_HOSTS]:
            host = self.turns.hosts.get(site)
            why = (host.why if host else "") or "budget"
            if host and host.next_at > now + 1:
                why += f", {host.next_at - now:.0f} s"
            waiting[site] = f"{frontier.waiting(frontier.host(site))} pages: {why}"
        return waiting
