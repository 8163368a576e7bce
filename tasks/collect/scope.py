"""Which addresses belong to a source: its hosts, ports and paths, and no trap's."""

from collections import Counter

from tidemill.engines.config.schema import Collect, Source
from tidemill.web import robots, urls


class Scope:
    """What one source takes. It counts, so one of it lives for a night."""

    def __init__(self, source: Source, settings: Collect, mirrors: set[str]) -> None:
        self.source, self.settings, self.mirrors = source, settings, mirrors
        self.exact = {host for host in source.hosts if not host.startswith("*.")}
        self.under = tuple(host[1:] for host in source.hosts if host.startswith("*."))
        self.allow = [pattern for text in source.allow for pattern in robots.patterns(text)]
        self.deny = [pattern for text in source.deny for pattern in robots.patterns(text)]
        self.shapes: Counter[str] = Counter()
        self.ports = frozenset(source.ports)

    def holds(self, host: str) -> bool:
        """Whether a host's name is one of the source's."""
        return host in self.exact or host.endswith(self.under or ("\0",))

    def why_not(self, uri: str) -> str | None:
        """Why a canonical address is not taken, or None."""
        host = urls.host(uri)
        if not self.holds(host):
            return "host not in hosts"
        if host not in self.mirrors and urls.port(uri) not in self.ports:
            return "port not in ports"
        if self.allow or self.deny:
            path = robots.target(uri)
            if (
                self.allow and not any(robots.matches(pattern, path) for pattern in self.allow)
            ) or any(robots.matches(pattern, path) for pattern in self.deny):
                return "path not in allow"
        return urls.folder_trap(uri)

    def trap(self, uri: str) -> str | None:
        """Why a new link is taken for one of a counter's without end, or None."""
        shape = urls.shape(uri)
        if shape is None:
            return None
        key = urls.site(uri) + shape
        self.shapes[key] += 1
        return (
            "addresses that differ by numbers alone"
            if self.shapes[key] > self.settings.same_shape
            else None
        )
