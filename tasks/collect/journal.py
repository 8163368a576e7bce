"""The open WARC segments of a night.

What is written there is there, whatever becomes of the process.
"""

import json
import logging
from collections.abc import Callable
from contextlib import suppress

from tasks.collect.fetch import Answer
from tasks.collect.frontier import Lease
from tasks.collect.interpret import Outcome
from tasks.collect.night import CrawlNight, agent
from tidemill.records import warc

log = logging.getLogger(__name__)

# A segment's name, an offset in it, and what its record says: address, time, HTTP message.
Replay = Callable[[str, int, str, str, bytes], None]
REVISITS = 14  # segments of revisits that are left


class Journal:
    """The segment of pages in data/raw, and the one of pages that were found as they had been."""

    def __init__(self, night: CrawlNight) -> None:
        self.night, self.agent = night, agent(night.settings)
        self.folder, self.revisit_folder = night.folder, night.state / "revisits"
        self.pages: warc.Segment | None = None
        self.revisits: warc.Segment | None = None

    def recover(self, replay: Replay, anew: bool) -> None:
        """Take up what a killed night left: whole records count, a cut one is asked for again.

        With `anew` the frontier is new, or data/raw another: closed segments that no manifest names
        may hold pages.
        """
        frontier = self.night.frontier
        for part in self.folder.glob(".*.part"):  # half a table
            part.unlink()
        acknowledged, times = frontier.segments(), dict[str, str]()
        names = warc.opened(self.folder)
        closed = {path.name for path in self.folder.glob("segment-*.warc.gz")}
        if anew:
            named = set(acknowledged)
            for row in warc.each(self.folder):
                named.add(row["raw_file"])
                times[row["uri"]] = row["fetched"]
            names = sorted(closed - named) + names
        for staged in list(frontier.staged()):
            if staged["raw_file"] not in closed | set(names):  # its segment was taken away
                frontier.lost(staged["uri"])
        for name in names:
            self._replayed(name, acknowledged.get(name, 0), times, replay)
        self._grow([name for name in names if (self.folder / f".{name}.open").exists()])
        frontier.commit()

    def _replayed(self, name: str, known: int, times: dict[str, str], replay: Replay) -> None:
        count = 0
        for offset, uri, fetched, message in warc.mend(self.folder, name, known):
            if times.get(uri, "") < fetched:  # else the manifest knows later of it
                replay(name, offset, uri, fetched, message)
                count += 1
        self.night.frontier.segment(name, warc.length(self.folder, name))
        if count:
            source = self.night.source.name
            log.info("%s: %d pages of a night that was cut off were in %s", source, count, name)

    def _grow(self, names: list[str]) -> None:
        """Open the last segment again; close those before it."""
        for name in names:
            segment = warc.Segment(self.folder, self.agent, name)
            if name == names[-1] and not segment.full:
                self.pages = segment
            else:
                segment.close()

    def add(self, lease: Lease, answer: Answer, outcome: Outcome, fetched: str) -> None:
        """Write a page, and fill in where it lies."""
        assert outcome.row is not None
        if self.pages is None:
            self.pages = warc.Segment(self.folder, self.agent)
        digest = outcome.row["sha256"]
        offset = self.pages.add(lease.uri, answer.head(), outcome.body, fetched, digest)
        outcome.row["raw_file"], outcome.row["raw_locator"] = self.pages.name, str(offset)
        outcome.body = b""

    def revisit(self, lease: Lease, answer: Answer, fetched: str) -> None:
        """Write that a page was found as it had been stored."""
        if not lease.sha256 or not lease.stored:
            return
        if self.revisits is None:
            self.revisits = warc.Segment(self.revisit_folder, self.agent)
        not_modified = answer.status == 304
        self.revisits.revisit(
            lease.uri,
            answer.head() if not_modified else b"",
            fetched,
            lease.sha256,
            json.loads(lease.stored)["fetched"],
            not_modified,
        )

    def sync(self) -> None:
        """Bring to the disk what was written; the frontier may acknowledge it then."""
        if self.pages is not None:
            self.night.frontier.segment(self.pages.name, self.pages.sync())
        if self.revisits is not None:
            self.revisits.sync()

    def roll(self) -> None:
        """Close what is full."""
        if self.pages is not None and self.pages.full:
            self.pages.close()
            self.pages = None
        if self.revisits is not None and self.revisits.full:
            self.revisits.close()
            self.revisits = None

    def close(self) -> None:
        for segment in (self.pages, self.revisits):
            if segment is not None:
                segment.close()
        self.pages = self.revisits = None

    def trim(self) -> None:
        """Leave the newest revisits alone, and remove the others."""
        for stale in sorted(self.revisit_folder.glob("segment-*.warc.gz"))[:-REVISITS]:
            stale.unlink()

    def leave(self) -> None:
        """Let segments that are growing still lie as they are; the next process takes them up."""
        for segment in (self.pages, self.revisits):
            if segment is not None:
                with suppress(OSError):  # a full disk has been reported already
                    segment.leave()
