"""Snapshots: the data of a run by a name under which it can be brought back."""

import json
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

from tidemill.engines import config
from tidemill.engines.dvc import snapshot_diff
from tidemill.engines.dvc.command import LockEntry, dvc, in_git, lock
from tidemill.engines.dvc.remote import _put, _remote
from tidemill.records.receipts import DiffRow, Snapshot
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import aside, locked, write, write_json

log = logging.getLogger(__name__)

SnapshotBody = TypedDict(
    "SnapshotBody",
    {
        "recipe": str,
        "digest": str,
        "rows": dict[str, int],  # of each split
        "at": str,  # UTC, ISO 8601
        "changed": list[DiffRow] | None,  # since the one before; None: it is the first
        "dvc.yaml": str,  # both files' text
        "dvc.lock": str,
    },
)
"""What the remote keeps under a snapshot's name: all that brings it back."""


class ListedSnapshot(TypedDict):
    """A snapshot of the remote, as it is listed."""

    recipe: str
    digest: str
    at: str
    rows: dict[str, int]
    changed: list[DiffRow] | None
    names: list[str]


class SnapshotDiff(TypedDict):
    """How two snapshots of one recipe differ."""

    recipe: str
    old: str  # digests
    new: str
    rows: list[dict[str, int]]  # of each split, the old one's first
    changed: dict[str, int]  # totals of `by`
    by: list[DiffRow]


def snapshot(recipe: str) -> Snapshot:
    """Push a recipe's data, believe it only when the remote has all of it, and name it."""
    report = json.loads((paths.data("splits", recipe) / "report.json").read_text())
    name = report["snapshot"]
    mark = paths.state("snapshots", recipe, f"{name[:16]}.json")
    current = Snapshot.load(mark)
    if current and current.digest == name and current.pushed and _same_lock(recipe, name):
        return current.model_copy(
            update={"changed": dict.fromkeys(("added", "changed", "gone", "moved"), 0), "by": []}
        )
    with locked(paths.state("locks", "snapshot")):
        _push(recipe)
        by = _changed(recipe, name)
        tag = _tag(recipe) if in_git() else None
        names = [f"{recipe}-{name[:16]}", *([tag] if tag else [])]
        _put_names(names, _body(recipe, name, report["counts"], by))
        receipt = Snapshot(
            recipe=recipe,
            digest=name,
            rows=report["counts"],
            names=names,
            pushed=True,
            changed=snapshot_diff.totals(by) if by is not None else {},
            by=by or [],
            notes=[] if tag else ["no git: the snapshot has no tag"],
        )
        write_json(paths.state("snapshots", recipe, f"{name[:16]}.lock.json"), stages_of(recipe))
        receipt.save(mark)
        write(paths.state("snapshots", recipe, "latest"), name)
    return receipt


def _push(recipe: str) -> None:
    """Push a recipe's data. Fault where the remote has not all of it afterwards."""
    dvc("push", "--with-deps", f"split@{recipe}")
    status = dvc("status", "--cloud", "--with-deps", f"split@{recipe}")
    missing = [line for line in status.splitlines() if "new:" in line or "missing:" in line]
    if missing:
        raise Fault(
            f"{len(missing)} files of {recipe} are not in the DVC "
            "remote after a push; check the remote and run again",
            heals=True,
        )


def _body(recipe: str, digest: str, rows: dict[str, int], by: list[DiffRow] | None) -> SnapshotBody:
    """What brings the snapshot of today's data back."""
    return {
        "recipe": recipe,
        "digest": digest,
        "rows": rows,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "changed": by,
        "dvc.yaml": (paths.root() / "dvc.yaml").read_text(),
        "dvc.lock": (paths.root() / "dvc.lock").read_text(),
    }


def _put_names(names: list[str], body: SnapshotBody) -> None:
    """Put a snapshot's body into the remote, under each of its names."""
    for each in names:
        _put(f"snapshots/{each}.json", json.dumps(body, indent=1))


def _same_lock(recipe: str, name: str) -> bool:
    path = paths.state("snapshots", recipe, f"{name[:16]}.lock.json")
    return path.is_file() and json.loads(path.read_text()) == json.loads(
        json.dumps(stages_of(recipe))
    )


def stages_of(recipe: str) -> dict[str, LockEntry]:
    """The entries of dvc.lock that a recipe's splits come from."""
    sources = config.sources(recipe)
    wanted = {f"{step}@{source}" for step in ("collect", "clean") for source in sources} | {
        f"{step}@{recipe}" for step in ("select", "label", "split")
    }
    return {name: entry for name, entry in lock().items() if name in wanted}


def _changed(recipe: str, name: str) -> list[DiffRow] | None:
    """What changed since the last snapshot of this recipe, by source and language.

    None where this is the first.
    """
    import pandas as pd

    kept = paths.state("snapshots", recipe, "rows.parquet")
    now = snapshot_diff.rows(paths.data("splits", recipe))
    by = snapshot_diff.between(pd.read_parquet(kept), now) if kept.is_file() else None
    with aside(kept) as part:
        now.to_parquet(part, index=False)
    return by


def _tag(recipe: str) -> str:
    """Tag a commit that holds dvc.lock and dvc.yaml, by way of an index of its own.

    HEAD, the index and the work tree stay as they are. A second snapshot of a day gets a number.
    """
    head = _known("rev-parse", "--verify", "-q", "HEAD")
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        if head:
            _git("read-tree", head, **index)
        _git("add", "--force", "dvc.yaml", "dvc.lock", "conf", **index)
        tree = _git("write-tree", **index)
        tag, there = _tag_for(recipe, tree)
        if there:
            return tag
        parent = ["-p", head] if head else []
        message = f"Data of {recipe}, {datetime.now():%Y-%m-%d}"
        commit = _git("commit-tree", tree, *parent, "-m", message, **index)
        _git("update-ref", f"refs/tags/{tag}", commit)
    return tag


def _tag_for(recipe: str, tree: str) -> tuple[str, bool]:
    """The first of today's tags that is free or has this tree already; whether it has it."""
    day = f"data/{recipe}/{datetime.now():%Y-%m-%d}"
    number = 1
    while True:
        tag = day if number == 1 else f"{day}.{number}"
        there = _known("rev-parse", "-q", "--verify", f"refs/tags/{tag}^{{tree}}")
        if there in ("", tree):
            return tag, there == tree
        number += 1


def _git(*arguments: str, **extra: str) -> str:
    """What git says, with Tidemill as author; Fault where it fails."""
    env = {
        **os.environ,
        "GIT_AUTHOR_NAME": "tidemill",
        "GIT_AUTHOR_EMAIL": "tidemill@localhost",
        "GIT_COMMITTER_NAME": "tidemill",
        "GIT_COMMITTER_EMAIL": "tidemill@localhost",
        **extra,
    }
    done = subprocess.run(
        ["git", *arguments], cwd=paths.root(), env=env, capture_output=True, text=True
    )
    if done.returncode:
        raise Fault(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def _known(*arguments: str) -> str:
    """What git says, and nothing where it fails."""
    done = subprocess.run(["git", *arguments], cwd=paths.root(), capture_output=True, text=True)
    return done.stdout.strip()


def restore(name: str, folder: Path, remote: str | None = None) -> SnapshotBody:
    """Bring a snapshot's splits back into an empty folder, from the DVC remote by its name alone.

    The pictures and sounds that they name lie beside them, in blobs/SOURCE. `name` is
    RECIPE-DIGEST16 or a tag; `remote` a folder or URL, by default this project's own. Each file's
    digest is checked against the lock that was pushed with it. The folder appears whole or not at
    all.
    """
    from tidemill.records.blobs import sources

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Refused(
            f"{folder} is {'not empty' if folder.is_dir() else 'a file'}; name "
            "an empty or a new folder"
        )
    folder = folder.resolve()
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _tables(name, remote) as (body, tables):
            shutil.copytree(tables, part)
            if blobs := [f"data/blobs/{source}" for source in sorted(sources(tables))]:
                work = tables.parents[2]
                dvc("pull", *blobs, cwd=work)
                shutil.move(work / "data" / "blobs", part / "blobs")
        part.replace(folder)  # which is not there or empty
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return body


@contextmanager
def _tables(name: str, remote: str | None) -> Iterator[tuple[SnapshotBody, Path]]:
    """A snapshot's tables by its name, in a temporary project. Raises Fault, Refused."""
    body, url = _named(name, remote)
    with _pulled(body, url, [f"split@{body['recipe']}"]) as data:
        tables = data / "splits" / body["recipe"]
        if json.loads((tables / "report.json").read_text())["snapshot"] != body["digest"]:
            raise Fault(f"what came back for {name} is another snapshot; the remote is damaged")
        yield body, tables


def snapshots(recipe: str = "", last: int = 0, remote: str | None = None) -> list[ListedSnapshot]:
    """The snapshots that the remote has, the newest first.

    Of each: recipe, digest, at, rows, names, and what changed since the one before.
    """
    fs, there, _ = _kept(remote)
    listed: dict[tuple[str, str], ListedSnapshot] = {}
    for path in fs.find(there) if fs.exists(there) else []:
        name = path.split("snapshots/", 1)[1].removesuffix(".json")
        if not path.endswith(".json") or (
            recipe and not name.startswith((f"{recipe}-", f"data/{recipe}/"))
        ):
            continue
        try:
            with fs.open(path, "r") as file:
                body = json.loads(file.read())
            body["recipe"], body["digest"], body["at"], body["rows"]
        except (ValueError, KeyError, TypeError):
            log.warning(
                "snapshot %s cannot be read in the remote and is "
                "left out; push it again, or remove %s",
                name,
                path,
            )
            continue
        one = listed.setdefault(
            (body["recipe"], body["digest"]),
            {
                "recipe": body["recipe"],
                "digest": body["digest"],
                "at": body["at"],
                "rows": body["rows"],
                "changed": body.get("changed"),
                "names": [],
            },
        )
        one["names"] = sorted([*one["names"], name])
    ordered = sorted(listed.values(), key=lambda one: one["at"], reverse=True)
    return ordered[:last] if last else ordered


def compared(old: str, new: str, remote: str | None = None) -> SnapshotDiff:
    """What is in one snapshot and not in the other, by source and language."""
    bodies: list[SnapshotBody] = []
    frames = []
    for name in (old, new):
        with _tables(name, remote) as (body, tables):
            bodies.append(body)
            frames.append(snapshot_diff.rows(tables))
    if bodies[0]["recipe"] != bodies[1]["recipe"]:
        raise Refused(
            f"{old} is of {bodies[0]['recipe']} and {new} of "
            f"{bodies[1]['recipe']}; compare two of one recipe"
        )
    by = snapshot_diff.between(*frames)
    return {
        "recipe": bodies[0]["recipe"],
        "old": bodies[0]["digest"],
        "new": bodies[1]["digest"],
        "rows": [body["rows"] for body in bodies],
        "changed": snapshot_diff.totals(by),
        "by": by,
    }


def keep_card(names: list[str], folder: Path) -> None:
    """Put a snapshot's card beside it in the remote, under each of its names."""
    for name in names:
        for path in sorted(folder.iterdir()):
            _put(f"cards/{name}/{path.name}", path.read_bytes())


def bring(name: str, folder: Path) -> None:
    """Bring a snapshot's splits, and its sources' documents with their lineage.

    They are splits/ and clean/SOURCE/ in `folder`.
    """
    import pandas as pd

    body, url = _named(name, None)
    with _pulled(body, url, [f"split@{body['recipe']}"]) as data:
        shutil.copytree(data / "splits" / body["recipe"], folder / "splits")
    sources = sorted(
        {
            source
            for part in snapshot_diff.SPLITS
            for source in pd.read_parquet(
                folder / "splits" / f"{part}.parquet", columns=["source"]
            )["source"]
        }
    )
    needed = [
        f"data/clean/{source}/{table}.parquet"
        for source in sources
        for table in ("documents", "lineage")
    ]
    with _pulled(body, url, needed) as data:
        shutil.copytree(data / "clean", folder / "clean")


def _named(name: str, remote: str | None) -> tuple[SnapshotBody, str]:
    """What the remote keeps under a snapshot's name, and the remote's address."""
    fs, there, url = _kept(remote)
    path = f"{there}/{name}.json"
    if not fs.exists(path):
        names = (
            sorted(p.split("snapshots/", 1)[1].removesuffix(".json") for p in fs.find(there))
            if fs.exists(there)
            else []
        )
        raise Refused(
            f"no snapshot '{name}' in the remote; it has {', '.join(names[-10:]) or 'none'}"
        )
    with fs.open(path, "r") as file:
        return json.loads(file.read()), url


def _kept(remote: str | None) -> tuple[Any, str, str]:
    """The file system and the folder of the snapshots' names, and the remote's address."""
    if remote:
        from fsspec.core import url_to_fs

        try:
            fs, base = url_to_fs(remote)
        except (ImportError, ValueError) as error:
            raise Refused(
                f"remote {remote}: {' '.join(str(error).split())}; "
                "install what it needs, or name another"
            ) from error
        if not fs.exists(base):
            raise Refused(
                f"remote {remote} does not exist; name the folder or address of a DVC remote"
            )
        return fs, f"{base}/snapshots", remote if "://" in remote else str(Path(remote).resolve())
    fs, base = _remote()
    return fs, fs.join(base, "snapshots"), base


@contextmanager
def _pulled(body: SnapshotBody, url: str, targets: list[str]) -> Iterator[Path]:
    """Stages or outputs of a snapshot, pulled into a temporary project; its data folder."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        (work / ".dvc").mkdir()
        (work / ".dvc" / "config").write_text(
            "[core]\n    no_scm = true\n    remote = it\n    analytics = "
            f"false\n['remote \"it\"']\n    url = {url}\n"
        )
        (work / "dvc.yaml").write_text(body["dvc.yaml"])
        (work / "dvc.lock").write_text(body["dvc.lock"])
        dvc("pull", *targets, cwd=work)
        yield work / "data"
