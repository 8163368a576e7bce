"""What becomes of addresses that were found: taken up where they are of the source and no trap."""

from collections.abc import Iterable

from tasks.collect.frontier import PAGE, Found
from tasks.collect.night import CrawlNight, Tally
from tasks.collect.scope import Scope
from tasks.collect.turns import Turns
from tidemill.web import urls

SEEN = 200_000  # addresses remembered as taken up, so that the frontier is not asked for each link
# Why a page's link may lead out of a source without a word: most links do.
ELSEWHERE = ("host not in hosts", "port not in ports", "path not in allow")


class Intake:
    """Takes found addresses into the frontier, and lets their hosts have a turn."""

    def __init__(self, night: CrawlNight, scope: Scope, tally: Tally, turns: Turns) -> None:
        self.night, self.scope, self.tally, self.turns = night, scope, tally, turns
        self.seen: set[str] = set()

    def take(self, found: Iterable[Found]) -> None:
        frontier = self.night.frontier
        taken = [item for item in found if not self._known(item) and self._ours(item)]
        frontier.add(taken, self.night.number, self.night.clock.now())
        for site in frontier.new_hosts:
            self.turns.queue(self.turns.host(site))
        frontier.new_hosts.clear()

    def _known(self, item: Found) -> bool:
        if not item.listed and item.kind == PAGE and item.uri in self.seen:
            return True
        if len(self.seen) > SEEN:
            self.seen.clear()
            self.scope.shapes.clear()
        self.seen.add(item.uri)
        return False

    def _ours(self, item: Found) -> bool:
        """Whether an address is of this source.

        What is not is counted, but for a page's links elsewhere.
        """
        site, why = urls.site(item.uri), self.scope.why_not(item.uri)
        if why is None:
            if item.listed or item.rank <= 0:
                return True
            why = self.scope.trap(item.uri)
            if why:
                self.tally.count(site, "trap", why)
            return why is None
        if item.listed or item.kind != PAGE or item.hops:
            self.tally.count(site, "refused", why)
        elif why not in ELSEWHERE:
            self.tally.count(site, "trap", why)
        return False
