"""An API that answers JSON in pages: what is new since the last night, merged by key.

Each page that brought something is kept as it came, in a WARC; a record is a place within it. Where
the API says when a record changed, a night asks for what changed since the newest one of the last
night that saw every page, less a window for those that come late. That time is noted with the
digest of what was collected then; where it is lost, or belongs to other data, everything is asked
for.
"""

import asyncio
import hashlib
import json
import os
import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from tasks.collect.fetch import Answer, Failed, Fetcher, TooMuch
from tasks.collect.resolver import Names
from tidemill.engines.config.schema import Collect, Source
from tidemill.records import warc
from tidemill.runtime import paths, process
from tidemill.runtime.encodable import parsed
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import canonical, write

HEALS = (408, 425, 429, 500, 502, 503, 504)
PAST_THE_END = (400, 404, 410, 416, 422)  # how an API that counts pages answers for one it has not
TOTALS = ("x-total-count", "x-total", "x-wp-total")


class ApiNight:
    """One night at one API: the manifest's rows as they are afterwards, and what went wrong."""

    def __init__(
        self,
        source: Source,
        settings: Collect,
        folder: Path,
        mirrors: dict[str, tuple[str, int]] | None = None,
    ) -> None:
        assert source.api is not None
        self.source, self.settings, self.folder, self.api = source, settings, folder, source.api
        self.agent = settings.user_agent + (f" (+{settings.contact})" if settings.contact else "")
        self.names = Names(source.allow_loopback, mirrors)
        self.known = warc.manifest(folder)
        self.rows = dict(self.known)
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.segment: warc.Segment | None = None
        self.seen: set[str] = set()
        self.whole = True  # every page was had, so that what is in none is gone
        self.named = False  # some answer named a next page, where the API is to do so
        self.heals = False
        self.asked_since = self.since()
        self.headers = secrets(self.api.headers, source.name)
        self.told = 0.0
        self.ends = time.time() + source.budget.minutes * 60
        self.total = 0  # of records, where the API says how many it has
        self.before: list[str] = []  # the records of the last page
        self.full = 0  # records of a full page

    async def run(self) -> None:
        """Ask page after page; raises `Fault` where nothing could be had or too much failed."""
        for left in self.folder.glob(
            ".segment-*.warc.gz.open"
        ):  # of a night that was killed: no manifest names it
            left.unlink()
        async with Fetcher(
            self.names,
            self.agent,
            self.settings.timeout_s,
            int(self.settings.max_page_mb * 2**20),
            1,
        ) as self.fetcher:
            await self.pages()
        if self.segment:
            self.segment.close()
        self.doubt()
        if self.whole and not self.asked_since:
            for uri in self.known.keys() - self.seen:
                self.gone(uri, "no longer listed")
        self.judge()

    def doubt(self) -> None:
        """What the settings name and no answer has.

        A misspelt path would else look like an API of one page, or without times.
        """
        times = [row["modified"] for uri, row in self.rows.items() if uri in self.seen]
        if self.api.changed and times and not any(times):
            self.cut(f"no record has a time at '{self.api.changed}'; is api.changed right?")
        if (
            self.api.pages == "cursor"
            and self.counts["pages"]
            and not self.named
            and len(self.known) > len(self.seen)
        ):
            self.cut(f"nothing at '{self.api.cursor}' in any answer; is api.cursor right?")

    def finished(self, digest: str) -> None:
        """Note up to when the records are whole, once they are written.

        A night that did not see every page leaves the note of before.
        """
        if not (self.api.since and self.whole):
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        newest = max(
            (
                row["modified"]
                for row in self.rows.values()
                if row["modified"] and row["modified"] <= now
            ),
            default="",
        )
        write(self.mark(), json.dumps({"since": newest, "raw": digest}) + "\n")

    def mark(self) -> Path:
        return paths.state("collect", f"{self.source.name}.since")

    async def pages(self) -> None:
        """Ask page after page until the API has no more, or the night's bounds are reached."""
        address = self.first()
        asked: set[str] = set()
        for number in range(self.api.max_pages):
            if address in asked:
                return self.cut("pages repeat: it names one again")
            asked.add(address)
            answer = await self.get(address, number)
            if answer is None:
                return
            self.counts["pages"] += 1
            try:
                following = self.page(address, answer, number)
            except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
                # Whatever a page's words raise is that page's outcome.
                return self.fail(f"a page cannot be read: {type(error).__name__}: {error}"[:120])
            if following is None:
                return self.compare()
            address = following
            if time.monotonic() - self.told > 0.5:
                self.told = time.monotonic()
                process.progress(len(self.seen), 0, "records", **self.counts)
        self.cut(f"over {self.api.max_pages} pages, which is max_pages")

    def page(self, address: str, answer: Answer, number: int) -> str | None:
        """Take one page's records.

        Gives the next page's address, or None where there is none or it is not asked for.
        """
        body = parsed_page(answer)
        records = self.listed(body, number)
        if records is None:
            self.fail(
                f"no list of records at '{self.api.records}'; is api.records right?"
                if answer.body[:1] in (b"{", b"[")
                else "not JSON"
            )
            return None
        self.total = max(self.total, told_total(answer))
        new = self.take(address, answer, records)
        keys = [canonical(record) for record in records]
        self.full = self.full or (self.api.size if self.api.size_parameter else len(keys))
        if records and not new and self.api.pages in ("page", "offset"):
            # A page past the last may be the last once more; the first one twice is a parameter
            # that is not heard.
            if keys != self.before or number < 2:
                self.cut("pages repeat: a page had only records that were there before it")
            return None
        self.before = keys
        following = self.after(address, answer, body, records, number)
        return None if following == address and not records else following

    def listed(self, body: Any, number: int) -> list[Any] | None:
        """The records of a page; None where there is no list.

        Past the first page, null is an empty one.
        """
        try:
            records = at(body, self.api.records)
        except LookupError:
            return None
        if records is None and number:
            return []
        return records if isinstance(records, list) else None

    def compare(self) -> None:
        """A night that saw fewer records than the API says it has knows of none that it is gone."""
        if self.whole and not self.asked_since and self.total > len(self.seen):
            self.cut(f"it has {self.total} records by its own word, and {len(self.seen)} were seen")

    def fail(self, reason: str, heals: bool = False) -> None:
        """Note a page that could not be had.

        A night that did not see everything knows of nothing that it is gone.
        """
        self.counts["failed"] += 1
        self.heals = heals
        self.cut(reason)

    def cut(self, reason: str) -> None:
        """Note why a night ended before the API did."""
        self.reasons[reason] += 1
        self.whole = False

    def judge(self) -> None:
        why = "; ".join(f"{n} x {reason}" for reason, n in self.reasons.most_common(3))
        if not self.counts["pages"] or (not self.seen and self.reasons):
            raise Fault(
                f"source {self.source.name} could not be had: {why}; what was collected before "
                "stays",
                heals=self.heals,
            )
        if not self.rows:
            raise Fault(
                f"source {self.source.name} is empty: the API has no record; correct `api` in "
                f"conf/source/{self.source.name}.yaml"
            )
        failed, pages = self.counts["failed"], self.counts["pages"] + self.counts["failed"]
        if failed > self.source.max_failed * pages:
            raise Fault(
                f"source {self.source.name}: {failed} of {pages} pages failed ({why}), max_failed "
                f"is {self.source.max_failed}; what was collected before stays",
                heals=self.heals,
            )
        odd, records = self.counts["odd"], self.counts["odd"] + len(self.seen)
        if odd > self.source.max_failed * records:
            raise Fault(
                f"source {self.source.name}: {odd} of {records} records are not as api says "
                f"({why}), max_failed is {self.source.max_failed}; what was collected before stays"
            )

    # Addresses ------------------------------------------------------------------------------------

    def first(self) -> str:
        api, more = self.api, {}
        if api.size_parameter:
            more[api.size_parameter] = str(api.size)
        if api.pages in ("page", "offset"):
            more[api.parameter or api.pages] = str(api.first if api.pages == "page" else 0)
        if self.asked_since:
            more[api.since] = self.asked_since
        return asking(api.url, more)

    def since(self) -> str:
        """From when on records are asked for: the newest of the last whole night, less the window.

        Empty where everything is.
        """
        if not self.api.since or not self.known or not self.mark().is_file():
            return ""
        try:
            told = json.loads(self.mark().read_text())
            newest = told["since"] if told["raw"] == warc.raw_digest(self.known.values()) else ""
        except (ValueError, KeyError, TypeError):
            newest = ""
        return (
            (datetime.fromisoformat(newest) - timedelta(minutes=self.api.lag_minutes)).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            )
            if newest
            else ""
        )

    def after(
        self, address: str, answer: Answer, body: Any, records: list[Any], number: int
    ) -> str | None:
        """The next page's address; None after the last. One of another host is not asked."""
        api, found = self.api, None
        if api.pages == "link":
            targets = [link.target for link in answer.links() if "next" in link.relations]
            found = urljoin(address, targets[0]) if targets else None
        elif api.pages == "cursor":
            try:
                value = at(body, api.cursor)
            except LookupError:
                value = None
            if value not in (None, "", False):
                self.named = True
                found = (
                    urljoin(address, value)
                    if isinstance(value, str) and value.startswith(("http://", "https://", "/"))
                    else asking(address, {api.parameter or "cursor": str(value)})
                )
        elif api.pages == "page" and records:
            found = asking(address, {api.parameter or "page": str(api.first + number + 1)})
        elif api.pages == "offset" and records:
            name = api.parameter or "offset"
            found = asking(
                address,
                {name: str(int(dict(parse_qsl(urlsplit(address).query))[name]) + len(records))},
            )
        if found and urlsplit(found)[:2] != urlsplit(api.url)[:2]:
            self.cut("its next page is on another host")
            return None
        return found

    # One page
    # ---------------------------------------------------------------------------------------

    async def get(self, address: str, number: int) -> Answer | None:
        """A page, asked again where that can help.

        None where it cannot be had, or is past the last.
        """
        reason, heals = "", False
        for attempt in range(self.settings.attempts):
            if not await self.turn():
                return None
            wait = 2.0**attempt
            try:
                answer = await self.fetcher.get(address, self.headers)
            except Failed as failed:
                reason, heals = why_not(failed), failed.heals
                if not heals:
                    break
            except TooMuch:
                reason, heals = f"a page over {self.settings.max_page_mb:g} MB", False
                break
            else:
                if answer.status in (200, 206):
                    return answer
                if self.past_the_end(answer.status, number):
                    self.compare()
                    return None
                reason, heals = self.refused(answer.status), answer.status in HEALS
                if not heals:
                    break
                wait = wait if (asked := answer.retry_after_s()) is None else asked
                if wait > self.settings.max_wait_minutes * 60:
                    reason += f", and asks to be left alone for {wait:.0f} s"
                    self.stay_away(wait)
                    break
            self.stay_away(wait)
        self.fail(reason, heals)
        return None

    def past_the_end(self, status: int, number: int) -> bool:
        """Whether an answer says that there is no such page any more.

        A 404 in the middle is a fault, so another sign has to be there: the page before was not
        full, or every record that the API says it has was seen.
        """
        if status == 204:
            return True
        if not number or self.api.pages not in ("page", "offset") or status not in PAST_THE_END:
            return False
        return len(self.before) < self.full or 0 < self.total <= len(self.seen)

    def refused(self, status: int) -> str:
        if status not in (401, 403):
            return f"answered {status}"
        names = ", ".join(self.api.headers) or "none"
        return f"answered {status}: are the variables of api.headers ({names}) right?"

    async def turn(self) -> bool:
        """Wait until the host may be asked again, no longer than the night.

        False where that is too long.

        The time is on disk before the request, so that it holds after a kill.
        """
        noted = self.noted()
        until = float(noted.read_text()) if noted.is_file() else 0.0
        wait = until - time.time()
        if wait > self.settings.max_wait_minutes * 60:
            self.fail(f"asks to be left alone for {wait:.0f} s more", heals=True)
            return False
        if max(time.time(), until) > self.ends:
            self.cut(f"budget of {self.source.budget.minutes:g} minutes")
            return False
        if wait > 0:
            await asyncio.sleep(wait)
        self.stay_away(self.source.delay_s)
        return True

    def noted(self) -> Path:
        return paths.state("collect", f"{self.source.name}.next")

    def stay_away(self, seconds: float) -> None:
        if seconds:
            write(self.noted(), f"{time.time() + seconds:.3f}\n")

    def take(self, address: str, answer: Answer, records: list[Any]) -> int:
        """Merge a page's records by their key; how many this night had not seen."""
        fresh: list[tuple[str, warc.ManifestRow]] = []
        new, night = 0, warc.now()
        for number, record in enumerate(records):
            try:
                key = at(record, self.api.key)
            except LookupError:
                key = None
            if not isinstance(key, str | int) or isinstance(key, bool):
                self.counts["odd"] += 1
                self.reasons[f"a record without '{self.api.key}'; is api.key right?"] += 1
                continue
            uri = f"{self.api.url}#{key}"
            new += uri not in self.seen
            self.seen.add(uri)
            if self.api.deleted and truth(record, self.api.deleted):
                self.gone(uri, "deleted")
                continue
            digest = hashlib.sha256(canonical(record).encode()).hexdigest()
            modified = changed(record, self.api.changed)
            old = self.rows.get(uri)
            if old and old["status"] == 200 and old["sha256"] == digest:
                self.counts["unchanged"] += uri in self.known and old is self.known[uri]
                continue
            place = pointer(self.api.records, number)
            row = warc.manifest_row(
                uri, night, digest, "application/json", modified=modified, raw_locator=place
            )
            fresh.append((uri, row))
        if fresh:
            self.keep(address, answer, fresh)
        return new

    def keep(self, address: str, answer: Answer, fresh: list[tuple[str, warc.ManifestRow]]) -> None:
        """The page into a WARC, and its new records into the rows."""
        if self.segment is None or self.segment.full:
            if self.segment:
                self.segment.close()
            self.segment = warc.Segment(self.folder, self.agent)
        offset = self.segment.add(address, answer.head(), answer.body, warc.now())
        self.counts["bytes"] += len(answer.body)
        for uri, row in fresh:
            self.counts["fetched"] += self.rows.get(uri) is self.known.get(uri)
            self.rows[uri] = {
                **row,
                "raw_file": self.segment.name,
                "raw_locator": f"{offset}#{row['raw_locator']}",
            }

    def gone(self, uri: str, why: str) -> None:
        if (row := self.rows.get(uri)) and row["status"] == 200:
            self.rows[uri] = {**row, "status": 410, "signals": why}
            self.counts["gone"] += 1


def at(value: Any, path: str) -> Any:
    """What lies at a dotted path; LookupError where nothing does."""
    for part in path.split(".") if path else ():
        if isinstance(value, list) and part.isdigit():
            value = value[int(part)]
        elif isinstance(value, dict):
            value = value[part]
        else:
            raise LookupError(path)
    return value


def pointer(path: str, number: int) -> str:
    """The place of a record in its page, as a JSON pointer (RFC 6901)."""
    parts = [
        part.replace("~", "~0").replace("/", "~1") for part in (path.split(".") if path else ())
    ]
    return "/" + "/".join([*parts, str(number)])


def truth(record: Any, path: str) -> bool:
    try:
        return bool(at(record, path))
    except LookupError:
        return False


def changed(record: Any, path: str) -> str | None:
    """When a record changed last, in UTC; None where it does not say so."""
    if not path:
        return None
    try:
        value = at(record, path)
        when = (
            datetime.fromtimestamp(value, UTC)
            if isinstance(value, int | float)
            else datetime.fromisoformat(value)
        )
        when = when.replace(tzinfo=when.tzinfo or UTC).astimezone(UTC)
    except (LookupError, ValueError, TypeError, OverflowError, OSError):
        return None
    return when.isoformat(timespec="seconds")


def parsed_page(answer: Answer) -> Any:
    """A page's JSON; None where it is none."""
    try:
        return parsed(answer.body)
    except (ValueError, RecursionError):
        return None


def told_total(answer: Answer) -> int:
    """How many records the API says it has, in a header; 0 where it does not."""
    values = [value.strip() for name in TOTALS for value in answer.all(name)]
    return max((int(value) for value in values if re.fullmatch(r"[0-9]{1,12}", value)), default=0)


def why_not(failed: Failed) -> str:
    if failed.reason != "not a public address":
        return failed.reason
    return f"{failed}; allow_loopback: true lets a test ask this machine"


def asking(address: str, more: dict[str, str]) -> str:
    """An address with these query parameters, in place of those of the same names."""
    parts = urlsplit(address)
    kept = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name not in more
    ]
    return urlunsplit(parts._replace(query=urlencode([*kept, *more.items()])))


def secrets(headers: dict[str, str], source: str) -> dict[str, str]:
    """The headers with each $NAME as the environment has it.

    Refused for a variable that is not set.
    """

    def value(match: re.Match[str]) -> str:
        if not os.environ.get(match[1]):
            raise Refused(
                f"source {source}: api.headers names ${match[1]}, and the environment has no such "
                "variable; set it and run again"
            )
        return os.environ[match[1]]

    return {name: re.sub(r"\$([A-Z][A-Z0-9_]*)", value, told) for name, told in headers.items()}
