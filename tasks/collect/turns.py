"""Which host is asked next, and when: each in its own time, and none past the night's end."""

import asyncio
import heapq

from tasks.collect.night import CrawlNight
from tasks.collect.politeness import Address, Host


class Later(Exception):
    """A host may not be asked before this night ends, or before its patience does."""


class Turns:
    """The hosts of a night, and their turns. A host's next time is on disk before it is asked."""

    def __init__(self, night: CrawlNight) -> None:
        self.night, self.clock, self.frontier = night, night.clock, night.frontier
        self.hosts: dict[str, Host] = {}
        self.addresses: dict[str, Address] = {}
        self.heap: list[tuple[float, int, Host]] = []
        self.taken = 0
        self.durable = False  # something must be on disk before the next request

    def host(self, site: str) -> Host:
        """A host, with what an earlier process knew of it."""
        host = self.hosts.get(site)
        if host is None:
            number = self.frontier.host(site)
            host = self.hosts[site] = Host(number, site, self.night.source.delay_s)
            host.next_at, host.latency_s, failures, host.pages, host.bytes = self.frontier.pace(
                number
            )
            # A new process asks once more.
            host.failures = min(failures, self.night.settings.give_up - 1)
        return host

    def queue(self, host: Host, at: float | None = None) -> None:
        """Let a host have a turn, at the soonest when it may be asked."""
        if not host.queued:
            host.queued = True
            self.taken += 1
            heapq.heappush(self.heap, (max(host.next_at, at or 0.0), self.taken, host))

    @property
    def next_at(self) -> float | None:
        return self.heap[0][0] if self.heap else None

    def pop(self) -> Host:
        host = heapq.heappop(self.heap)[2]
        host.queued = False
        return host

    def share(self, host: Host, where: str) -> None:
        """A host is at an IP address, whose patience it shares with whatever else is there."""
        host.address = self.addresses.setdefault(where, Address())

    def crowded(self, host: Host) -> bool:
        return host.crowded(self.clock.now(), self.night.settings.per_address)

    def ask(self, host: Host) -> None:
        """Note that a host is asked now, and when it may be asked again."""
        settings, now = self.night.settings, self.clock.now()
        host.begin(now, settings.latency_factor, settings.per_address)
        if host.next_at > now:
            self.frontier.wait_until(host.id, host.next_at, host.failures)
            self.durable = True

    async def politely(self, host: Host) -> None:
        """Wait for a host's time outside its turn, as for its robots.txt.

        Raises `Later` where that is too long.
        """
        while (wait := host.next_at - self.clock.now()) > 0 or self.crowded(host):
            if not self.night.waits_for(self.clock.now() + max(wait, 0.0)):
                raise Later(host.site)
            await asyncio.sleep(max(wait, 0.02))
        self.ask(host)
        self.persist()

    async def pause(self, seconds: float) -> None:
        """A wait that is no host's, no longer than the night."""
        await asyncio.sleep(max(min(seconds, self.night.ends - self.clock.now()), 0.0))

    def persist(self) -> None:
        """Leases and next times are on disk before anybody is asked."""
        if self.durable:
            self.frontier.commit()
            self.durable = False

    def came_back(self, host: Host, seconds: float | None) -> None:
        alone = self.night.source.connections == 1
        host.end(self.clock.now(), self.night.settings.latency_factor, seconds, alone)

    def failed(self, host: Host, patience_s: float | None) -> None:
        """A host gave no answer, or asked for patience: its wait outlives us."""
        now = self.clock.now()
        host.failed(now, patience_s)
        self.frontier.wait_until(host.id, host.next_at, host.failures)
        if host.next_at > now:
            self.frontier.commit()

    def flush(self) -> None:
        for host in self.hosts.values():
            if host.pages:
                self.frontier.paced(
                    host.id, host.next_at, host.latency_s, host.failures, host.pages, host.bytes
                )

    def give_back(self) -> None:
        """What was leased and not asked for waits again."""
        for host in self.hosts.values():
            while host.leases:
                self.frontier.give_back(host.leases.popleft())
