"""The DVC remote: its file system, and copies of its data that this machine may do without."""

import time
from pathlib import Path
from typing import Any

from tidemill.engines.dvc.command import dvc
from tidemill.runtime import paths


def _remote() -> tuple[Any, str]:
    from dvc.repo import Repo

    with Repo(str(paths.root())) as repo:
        odb = repo.cloud.get_remote_odb()
        return odb.fs, str(odb.path).split("/files/md5")[0]


def _put(name: str, body: str | bytes) -> None:
    fs, base = _remote()
    path = fs.join(base, *name.split("/"))
    fs.makedirs(fs.parent(path), exist_ok=True)
    part = path + ".part"
    with fs.open(part, "wb") as file:
        file.write(body.encode() if isinstance(body, str) else body)
    fs.move(part, path)


def spare(days: float, really: bool) -> tuple[int, float]:
    """Copies in DVC's cache that today's data does not use and the remote has: how many, and MB.

    Only those older than `days` count. They are removed where it is meant (`really`).
    """
    before = time.time() - days * 86_400
    cache = paths.root() / ".dvc" / "cache"
    said = dvc("gc", "--workspace", "--force", "--dry")
    unused = [
        Path(line.removeprefix("Removing "))
        for line in said.splitlines()
        if line.startswith("Removing ")
    ]
    aged = [
        path
        for path in unused
        if path.is_file() and path.is_relative_to(cache) and path.stat().st_mtime < before
    ]
    if not aged:
        return 0, 0.0
    fs, base = _remote()
    found = [path for path in aged if fs.exists(fs.join(base, *path.relative_to(cache).parts))]
    size = sum(path.stat().st_size for path in found) / 1e6
    for path in found if really else ():
        path.unlink()
    return len(found), size
