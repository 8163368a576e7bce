"""python -m tasks.collect SOURCE: bring in what is new at one source, into data/raw/SOURCE."""

import asyncio
import hashlib
import mimetypes
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NotRequired, TypedDict

from tidemill.engines import config
from tidemill.engines.config.schema import Source
from tidemill.engines.packages.fetch import fetch
from tidemill.records import warc
from tidemill.records.archive import members
from tidemill.records.receipts import Collected
from tidemill.run import main
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import aside, locked, sha256, write_json


class NightNote(TypedDict):
    """How a source's last night went, for `tidemill sources`."""

    at: str  # when it began: UTC, ISO 8601
    ok: bool
    why: NotRequired[str]  # it failed; then there are no counts
    records: NotRequired[int]
    fetched: NotRequired[int]
    unchanged: NotRequired[int]
    refused: NotRequired[int]
    failed: NotRequired[int]
    gone: NotRequired[int]
    reasons: NotRequired[dict[str, int]]


def collect(name: str) -> Collected:
    """Collect one source; what was there stays whatever happens."""
    source = config.source(name)
    folder = paths.data("raw", name)
    with locked(paths.state("locks", f"raw-{name}")):
        folder.mkdir(parents=True, exist_ok=True)
        for part in folder.glob(".*.part"):
            part.unlink()
        began = warc.now()
        try:
            receipt = KINDS[source.kind](source, folder)
        except (Fault, Refused) as error:
            _note(name, {"at": began, "ok": False, "why": str(error)})
            raise
        _note(name, _good(began, receipt))
        return receipt


def _good(began: str, receipt: Collected) -> NightNote:
    return {
        "at": began,
        "ok": True,
        "records": receipt.records,
        "fetched": receipt.fetched,
        "unchanged": receipt.unchanged,
        "refused": receipt.refused,
        "failed": receipt.failed,
        "gone": receipt.gone,
        "reasons": receipt.reasons,
    }


def _note(name: str, night: NightNote) -> None:
    """For `tidemill sources`; a night that was killed leaves the one before."""
    write_json(paths.state("collect", f"{name}.night.json"), night)


def _web(source: Source, folder: Path) -> Collected:
    from tasks.collect.crawl import Crawl
    from tasks.collect.mirror import served

    general = config.general()
    state = paths.state("collect", source.name)

    async def night(mirrors: dict[str, tuple[str, int]]) -> Collected:
        crawl = Crawl(source, general.collect, general.optout, folder, state, mirrors)
        return await crawl.run()

    async def mirrored() -> Collected:
        if source.mirror is None:
            return await night({})
        async with served(source.mirror) as port:
            return await night({source.mirror.host: ("127.0.0.1", port)})

    return asyncio.run(mirrored())


def _api(source: Source, folder: Path) -> Collected:
    from tasks.collect.api import ApiNight

    night = ApiNight(source, config.general().collect, folder)
    asyncio.run(night.run())
    after = _kept(folder, night.known, night.rows)
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


def _kept(
    folder: Path, known: dict[str, warc.ManifestRow], rows: dict[str, warc.ManifestRow]
) -> str:
    """Write the manifest where it moved, and remove segments whose records were all replaced."""
    after = warc.raw_digest(rows.values())
    if warc.raw_digest(known.values()) != after or not (folder / "manifest.parquet").exists():
        warc.save_manifest(folder, rows.values())
        _trim(folder, {row["raw_file"] for row in rows.values()})
    return after


def _trim(folder: Path, files: set[str]) -> None:
    for stale in folder.iterdir():
        if stale.name not in files | {"manifest.parquet"}:
            stale.unlink()


def _package(source: Source, folder: Path) -> Collected:
    package = source.package
    assert package is not None
    original = folder / f"{package.sha256}{Path(package.file).suffix}"
    known = warc.manifest(folder)
    # What is here whole need not be fetched: a night works where an index is unreachable.
    path = original if original.is_file() and sha256(original) == package.sha256 else fetch(package)
    rows = _members(source, path, original.name, known)
    if not rows:
        raise Refused(
            f"source {source.name} is empty: no member of {package.file} matches "
            f"{source.members!r}; correct `members` in conf/source/{source.name}.yaml"
        )
    changed = rows != known
    if changed:
        if not original.is_file():
            with aside(original) as part:
                shutil.copyfile(path, part)
        warc.save_manifest(folder, rows.values())
        _trim(folder, {original.name})
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


def _members(
    source: Source, path: Path, original: str, known: dict[str, warc.ManifestRow]
) -> dict[str, warc.ManifestRow]:
    """A row for each member of a package, the row of before where nothing changed."""
    package = source.package
    assert package is not None
    rows: dict[str, warc.ManifestRow] = {}
    fetched = warc.now()
    for member, body in members(path, source.members):
        # The version is not in the address: a page keeps its name when its content changes.
        uri = f"pkg:{package.index}/{package.name}#{member}"
        row = warc.manifest_row(
            uri,
            fetched,
            hashlib.sha256(body).hexdigest(),
            media(member),
            raw_file=original,
            raw_locator=member,
        )
        old = known.get(uri)
        rows[uri] = old if old and {**old, "fetched": fetched} == row else row
    return rows


def _files(source: Source, folder: Path) -> Collected:
    from tasks.collect.folder import FolderNight, opened

    night = FolderNight(source.name, folder, media)
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
    if member.endswith(".po"):
        return "text/x-gettext"
    return mimetypes.guess_type(member)[0] or "application/octet-stream"


KINDS: dict[str, Callable[[Source, Path], Collected]] = {
    "web": _web,
    "feed": _web,
    "api": _api,
    "package": _package,
    "files": _files,
}


if __name__ == "__main__":
    main.of_data(collect, "source")
