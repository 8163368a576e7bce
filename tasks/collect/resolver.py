"""Where we may connect to: public addresses.

They are checked when a name is resolved and again when a socket is made.

Python's `is_global` is wrong for NAT64, 6to4, 192.0.0.0/24 and multicast, so what an address
carries within is taken out and looked at. Of IPv4 a table says no; of IPv6, most of which is given
to nobody, a table says yes.
"""

import asyncio
import ipaddress
import socket
import time
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

KEPT_S = 300  # how long a name's addresses are remembered
NAT64 = IPv6Network("64:ff9b::/96")
MAPPED = IPv6Network("::ffff:0:0/96")
PUBLIC = IPv6Network("2000::/3")  # all that was ever given out of IPv6 for the public
DENIED: tuple[IPv4Network, ...] = tuple(
    IPv4Network(net)
    for net in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "168.63.129.16/32",  # a cloud's own service, on a public number
    )
)
SPECIAL: tuple[IPv6Network, ...] = tuple(
    IPv6Network(net)
    for net in (
        "2001::/23",  # protocols: Teredo, benchmarks, ORCHID
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)  # of the public range: IANA's registry of special purposes


class NotPublic(OSError):
    """A name or an address that leads to where no public server is."""


def permitted(address: str, allow_loopback: bool = False) -> bool:
    """Whether we may connect to this address."""
    ip: IPv4Address | IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    within = carried(ip)
    if allow_loopback and within.is_loopback:
        return True
    if isinstance(ip, IPv6Address) and ip not in MAPPED and ip not in NAT64:
        return ip in PUBLIC and not any(ip in net for net in SPECIAL)
    return isinstance(within, IPv4Address) and not any(within in net for net in DENIED)


def carried(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address within a mapped, compatible, NAT64, 6to4 or Teredo address.

    Else the address itself.
    """
    if isinstance(ip, IPv4Address):
        return ip
    if ip.ipv4_mapped:
        return ip.ipv4_mapped
    if ip in NAT64 or (int(ip) >> 32 == 0 and int(ip) > 1):
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip.sixtofour:
        return ip.sixtofour
    if ip.teredo:
        return ip.teredo[1]
    return ip


class Names(AbstractResolver):
    """Names to addresses we may connect to.

    A mirror's name leads to a place of its own on loopback.

    A literal address never comes here (aiohttp connects at once), so `socket_factory` asks again.
    """

    def __init__(
        self, allow_loopback: bool, mirrors: dict[str, tuple[str, int]] | None = None
    ) -> None:
        self.allow_loopback, self.mirrors = allow_loopback, mirrors or {}
        self.known: dict[str, tuple[float, list[tuple[str, int]]]] = {}

    async def addresses(self, host: str) -> list[tuple[str, int]]:
        """A name's permitted addresses with their families.

        Raises `NotPublic` where there is none.
        """
        if host in self.mirrors:
            address = self.mirrors[host][0]
            found = [(address, int(socket.AF_INET6 if ":" in address else socket.AF_INET))]
        elif host in self.known and self.known[host][0] > time.monotonic():
            found = self.known[host][1]
        else:
            try:
                infos = await asyncio.get_running_loop().getaddrinfo(
                    host, None, type=socket.SOCK_STREAM
                )
            except UnicodeError as error:  # a label that no name server knows, as one of 64 letters
                raise OSError(f"{host[:80]} is no name: {error}") from error
            found = list(dict.fromkeys((str(info[4][0]), int(info[0])) for info in infos))
            if len(self.known) > 10_000:
                self.known.clear()
            self.known[host] = (time.monotonic() + KEPT_S, found)
        good = [item for item in found if permitted(item[0], self.allow_loopback)]
        if not good:
            raise NotPublic(
                f"{host} leads to {', '.join(item[0] for item in found)}, which is not a public "
                "address"
            )
        return good

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        at = self.mirrors[host][1] if host in self.mirrors else port
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=at,
                family=kind,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address, kind in await self.addresses(host)
        ]

    def socket(self, info: tuple[Any, ...]) -> socket.socket:
        """The last look, at the address that is connected to."""
        family, kind, proto, _, where = info
        if not permitted(str(where[0]), self.allow_loopback):
            raise NotPublic(f"{where[0]} is not a public address")
        return socket.socket(family, kind, proto)

    async def close(self) -> None:
        pass
