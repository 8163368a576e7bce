"""Addresses of files and of loopback servers, as SQLAlchemy, urllib and httpx read them."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, unquote

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def sqlite(path: Path, driver: str = "") -> str:
    """SQLAlchemy's address of a SQLite file, whatever characters its path has.

    A `?` begins SQLAlchemy's query, and other readers cut at `#` or decode `%`. Such a path is
    given as SQLite's own `file:` URI (sqlite.org/uri.html). The driver is then named: MLflow makes
    a folder of what follows `sqlite:///`, and of nothing where a driver stands before it.
    """
    if plain(path):
        return f"sqlite{'+' + driver if driver else ''}:///{path}"
    return f"sqlite+{driver or 'pysqlite'}:///file:{quote(str(path))}?uri=true"


def plain(path: Path) -> bool:
    """Whether a path has no character that means something in an address."""
    return not set(str(path)) & set("?#%")


def sqlite_path(address: str) -> Path | None:
    """The file of a SQLite address; None where it is an address of something else."""
    scheme, sign, rest = address.partition(":///")
    if not sign or scheme.partition("+")[0] != "sqlite":
        return None
    path = rest.partition("?")[0]
    return Path(unquote(path.removeprefix("file:")) if path.startswith("file:") else path)


def direct(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What keeps loopback from a proxy, which cannot reach this machine's own servers.

    NO_PROXY in both spellings, with loopback added; and no SOCKS proxy where none can be spoken
    with: httpx refuses to make any client then, loopback or not.
    """
    given = [environ.get("NO_PROXY", ""), environ.get("no_proxy", "")]
    hosts = [host.strip() for host in ",".join(given).split(",") if host.strip()]
    value = "*" if "*" in hosts else ",".join(dict.fromkeys([*hosts, *LOOPBACK]))
    return {"NO_PROXY": value, "no_proxy": value, **_without_socks(environ)}


def _without_socks(environ: Mapping[str, str]) -> dict[str, str]:
    names = [f"{kind}_proxy" for kind in ("all", "http", "https")]
    socks = [
        name
        for name in [*names, *(name.upper() for name in names)]
        if environ.get(name, "").lower().startswith("socks")
    ]
    return dict.fromkeys(socks, "") if socks and find_spec("socksio") is None else {}
