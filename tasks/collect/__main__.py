"""python -m tasks.collect SOURCE: bring in what is new at one source, into data/raw/SOURCE."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

from tasks import config, places, process
from tasks.collect import raw
from tasks.collect.package import fetch, matches, members
from tasks.errors import Refused
from tasks.files import locked, write
from tasks.receipts import Collected
from tasks.schema import Source


def collect(name: str) -> Collected:
    """Collect one source; what was there stays whatever happens."""
    source = config.source(name)
    folder = places.data("raw", name)
    with locked(places.state("locks", f"raw-{name}")):
        folder.mkdir(parents=True, exist_ok=True)
        for part in folder.glob(".*.part"):
            part.unlink()
        return {"web": _web, "feed": _web, "package": _package, "files": _files}[source.kind](source, folder)


def _web(source: Source, folder: Path) -> Collected:
    from tasks.collect.crawl import Crawl
    from tasks.collect.mirror import served

    general = config.general()
    state = places.state("collect", source.name)

    async def night() -> Collected:
        if source.mirror is None:
            return await Crawl(source, general.collect, general.optout, folder, state).run()
        async with served(source.mirror) as port:
            return await Crawl(source, general.collect, general.optout, folder, state, {source.mirror.host: ("127.0.0.1", port)}).run()

    return asyncio.run(night())


def _package(source: Source, folder: Path) -> Collected:
    import hashlib

    package = source.package
    assert package is not None
    original = folder / f"{package.sha256}{Path(package.file).suffix}"
    known = raw.manifest(folder)
    rows = {}
    fetched = raw.now()
    path = fetch(package)
    for member, body in members(path, source.members):
        # The version is not in the address: a page keeps its name when its content changes.
        uri = f"pkg:{package.index}/{package.name}#{member}"
        row = {
            "uri": uri, "fetched": fetched, "status": 200, "media": media(member), "charset": None,
            "etag": None, "modified": None, "sha256": hashlib.sha256(body).hexdigest(),
            "raw_file": original.name, "raw_locator": member, "signals": None,
        }
        old = known.get(uri)
        rows[uri] = old if old and {**old, "fetched": fetched} == row else row
    if not rows:
        raise Refused(f"source {source.name} is empty: no member of {package.file} matches {source.members!r}; correct `members` in conf/source/{source.name}.yaml")
    changed = rows != known
    if changed:
        if not original.is_file():
            with_part = folder / f".{original.name}.part"
            shutil.copyfile(path, with_part)
            write(original, with_part.read_bytes())
            with_part.unlink()
        raw.save_manifest(folder, rows.values())
        for stale in folder.iterdir():
            if stale.name not in (original.name, "manifest.parquet"):
                stale.unlink()
    new = sum(rows[uri] is not known.get(uri) for uri in rows)
    process.progress(len(rows), len(rows), "members")
    return Collected(
        source=source.name, records=len(rows), fetched=new, unchanged=len(rows) - new,
        gone=len(set(known) - set(rows)), bytes=path.stat().st_size if changed else 0, raw=raw.raw_digest(rows.values()),
    )


def _files(source: Source, folder: Path) -> Collected:
    from tasks.collect.folder import contents, names, packed

    here = places.root() / source.path
    where = f"source {source.name}"
    found = [name for name in names(here, where) if matches(name, source.members)]
    if not found:
        raise Refused(f"{where} is empty: no file of {here} matches {source.members!r}; correct `members` in conf/source/{source.name}.yaml")
    known = raw.manifest(folder)

    def record(name: str, sha256: str, original: str, at: str) -> dict[str, Any]:
        return {
            "uri": f"files:{source.name}#{name}", "fetched": at, "status": 200, "media": media(name), "charset": None, "etag": None, "modified": None,
            "sha256": sha256, "raw_file": original, "raw_locator": name, "signals": None,
        }

    told = {f"files:{source.name}#{name}": sha256 for name, sha256 in contents(here, found, where)}
    same = {uri: row["sha256"] for uri, row in known.items()} == told and all((folder / row["raw_file"]).is_file() for row in known.values())
    rows, size = known, 0
    if not same:
        original, read = packed(here, found, folder, where)
        fetched = raw.now()
        made = [record(name, sha256, original.name, fetched) for name, sha256 in read.items()]
        # A file that stayed as it was keeps the time at which it was first read.
        rows = {row["uri"]: row | ({"fetched": old["fetched"]} if (old := known.get(row["uri"])) and old["sha256"] == row["sha256"] else {}) for row in made}
        raw.save_manifest(folder, rows.values())
        for stale in folder.iterdir():
            if stale.name not in (original.name, "manifest.parquet"):
                stale.unlink()
        size = original.stat().st_size
    unchanged = sum(uri in known and known[uri]["sha256"] == row["sha256"] for uri, row in rows.items())
    process.progress(len(rows), len(rows), "files")
    return Collected(
        source=source.name, records=len(rows), fetched=len(rows) - unchanged, unchanged=unchanged,
        gone=len(set(known) - set(rows)), bytes=size, raw=raw.raw_digest(rows.values()),
    )


def media(member: str) -> str:
    """The media type of a member, by its name."""
    import mimetypes

    return "text/x-gettext" if member.endswith(".po") else mimetypes.guess_type(member)[0] or "application/octet-stream"


def main(arguments: list[str]) -> Collected:
    if len(arguments) != 1:
        raise Refused(f"python -m tasks.collect SOURCE; conf/source has {', '.join(config.files('source'))}")
    return collect(arguments[0])


if __name__ == "__main__":
    process.main(main, "python -m tasks.collect SOURCE: bring in what is new at one source.")
