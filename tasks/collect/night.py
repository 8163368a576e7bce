"""What all parts of one night over a source of pages share; and what its seeds are."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tasks.collect.frontier import FEED, PAGE, SITEMAP, Frontier
from tasks.collect.interpret import Reader
from tasks.collect.politeness import Clock
from tidemill.engines.config.schema import Collect, OptOut, Source
from tidemill.runtime.errors import Refused
from tidemill.web import urls
from tidemill.web.headers import product

RESUME_HOURS = 12.0  # within which a night that was cut off is taken up again
FIELDS = ("fetched", "unchanged", "refused", "failed", "gone")


def agent(settings: Collect) -> str:
    return settings.user_agent + (f" (+{settings.contact})" if settings.contact else "")


@dataclass(frozen=True)
class CrawlNight:
    """One night: its source and settings, its number in the frontier, and when it ends."""

    source: Source
    settings: Collect
    policy: OptOut
    folder: Path  # data/raw/SOURCE
    state: Path  # .tidemill/collect/SOURCE
    frontier: Frontier
    clock: Clock
    number: int
    resumed: bool  # it takes up a night that was cut off

    ends: float = field(init=False)
    token: str = field(init=False)
    reader: Reader = field(init=False)

    def __post_init__(self) -> None:
        ends = self.clock.now() + self.source.budget.minutes * 60
        token = product(self.settings.user_agent)
        object.__setattr__(self, "ends", ends)
        object.__setattr__(self, "token", token)
        reader = Reader(self.source, self.settings, self.policy, token)
        object.__setattr__(self, "reader", reader)

    def waits_for(self, at: float) -> bool:
        """Whether this night lasts until a time, and is patient enough for it."""
        return at <= min(self.ends, self.clock.now() + self.settings.max_wait_minutes * 60)


class Tally:
    """The night's counts: by what happened (`fetched`), and by why (`failed:timed out`)."""

    def __init__(self, night: CrawlNight) -> None:
        self.night = night
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.unwritten: Counter[tuple[str, str]] = Counter()  # (site, what) since the last flush

    def count(self, site: str, name: str, why: str = "", times: int = 1) -> None:
        for what in (name, f"{name}:{why}") if why else (name,):
            self.unwritten[site, what] += times
            self._add(what, times)

    def resume(self) -> None:
        """Take up what a killed process counted, but for its failures: they are tried again."""
        self.night.frontier.forget_failures(self.night.number)
        for _, what, times in self.night.frontier.counted(self.night.number):
            self._add(what, times)

    def flush(self) -> None:
        for (site, what), times in self.unwritten.items():
            self.night.frontier.count(self.night.number, site, what, times)
        self.unwritten.clear()

    def _add(self, what: str, times: int) -> None:
        (self.reasons if ":" in what else self.counts)[what] += times


def seeds(source: Source) -> tuple[list[tuple[str, int]], list[str]]:
    """A source's seeds as canonical addresses, each with what it is; and those that are none.

    Refused where all are none.
    """
    found, bad = [], []
    for text in source.seeds:
        there = urls.canonical(text)
        if there is None:
            bad.append(text)
            continue
        last = there.partition("?")[0].rsplit("/", 1)[-1]
        kind = SITEMAP if last.startswith("sitemap") else PAGE
        found.append((there, FEED if source.kind == "feed" else kind))
    if not found:
        raise Refused(
            f"conf/source/{source.name}.yaml: the seed {bad[0]!r} is no address of http or https; "
            "correct it"
        )
    return found, bad
