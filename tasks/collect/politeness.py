"""How each host is asked: one request at a time, with its own delay, never sooner than it said.

Times are of one clock that no change of the machine's moves while we run; what must survive us is
kept as the time of day.
"""

import time
from collections import deque

from tasks.collect.frontier import Lease
from tidemill.web.robots import Robots

MOST_LATENCY_S = 60.0
MOST_BACK_OFF_S = 300.0


class Clock:
    """The time of day as it was when we began, and what has passed since."""

    def __init__(self) -> None:
        self.began = time.time() - time.monotonic()

    def now(self) -> float:
        return self.began + time.monotonic()


class Address:
    """One IP address, whatever hosts are on it."""

    __slots__ = ("in_flight", "next_at")

    def __init__(self) -> None:
        self.in_flight, self.next_at = 0, 0.0


class Host:
    """One host: what it allows, when it may be asked again, and what waits for it here."""

    __slots__ = (
        "address",
        "asked",
        "bytes",
        "delay_s",
        "failures",
        "files",
        "heard",
        "id",
        "in_flight",
        "latency_s",
        "leases",
        "next_at",
        "opened",
        "pages",
        "queued",
        "rules",
        "site",
        "standing",
        "why",
    )

    def __init__(self, number: int, site: str, delay_s: float) -> None:
        self.id, self.site, self.delay_s = number, site, delay_s
        self.next_at = self.latency_s = self.asked = 0.0
        self.failures = self.in_flight = self.pages = self.bytes = 0
        self.rules: Robots | None = None
        self.standing = ""  # rules, all or nothing: what its robots.txt's answer means
        self.files: dict[str, bytes] = {}  # what the site says of use
        self.heard: set[str] = set()  # which of them were asked for this night
        self.leases: deque[Lease] = deque()
        self.address: Address | None = None
        self.opened = self.queued = False
        self.why = ""  # what it waits for

    def gap_s(self, factor: float) -> float:
        """Between two requests: what was configured or asked for, or longer where the host is slow.

        A mirror of our own has none.
        """
        asked = max(self.delay_s, self.rules.delay_s if self.rules else 0.0)
        return max(asked, min(factor * self.latency_s, MOST_LATENCY_S)) if self.delay_s else asked

    def crowded(self, now: float, most: int) -> bool:
        """Whether others on its address must have their turn first."""
        if not self.delay_s or self.address is None:
            return False
        return self.address.in_flight >= most or self.address.next_at > now

    def begin(self, now: float, factor: float, share: int) -> None:
        gap = self.gap_s(factor)
        self.in_flight += 1
        self.next_at = max(self.next_at, now + gap)
        if self.address:
            self.address.in_flight += 1
            self.address.next_at = now + self.delay_s / share

    def end(self, now: float, factor: float, seconds: float | None, alone: bool) -> None:
        """A request came back, after `seconds`, or without an answer."""
        self.in_flight -= 1
        if self.address:
            self.address.in_flight -= 1
        if seconds is not None:
            self.latency_s = seconds if not self.latency_s else 0.7 * self.latency_s + 0.3 * seconds
        if alone:
            self.next_at = max(self.next_at, now + self.gap_s(factor))

    def failed(self, now: float, retry_after_s: float | None) -> None:
        """It did not answer, or asked for patience.

        What it named is kept to the second, else twice as long each time.
        """
        self.failures += 1
        if retry_after_s is not None:
            self.next_at, self.why = max(self.next_at, now + retry_after_s), "Retry-After"
        elif self.delay_s:
            self.next_at, self.why = (
                max(
                    self.next_at,
                    now + min(self.delay_s * 2 ** min(self.failures, 20), MOST_BACK_OFF_S),
                ),
                "no answer",
            )

    def answered(self) -> None:
        self.failures, self.why = 0, ""
