"""Files that appear whole or not at all, and the digests by which they are known."""

import fcntl
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def digest(value: Any) -> str:
    """The sha256 of a JSON value, as hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(folder: Path, suffixes: tuple[str, ...] = ()) -> str:
    """One digest for a folder: the names and bytes of its files, caches left out."""
    files = sorted(
        path
        for path in ([folder] if folder.is_file() else folder.rglob("*"))
        if path.is_file()
        and "__pycache__" not in path.parts
        and (not suffixes or path.suffix in suffixes)
    )
    base = folder.parent if folder.is_file() else folder
    return digest([[path.relative_to(base).as_posix(), sha256(path)] for path in files])


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that becomes `path` when the block ends well.

    The file is fsynced, renamed and its folder fsynced, so after a crash the old bytes or the
    new ones are there, never a part of either.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def swept(folder: Path) -> None:
    """Remove what writers that were killed left in a folder; only where its lock is held."""
    for left in folder.glob(".*.part"):
        left.unlink(missing_ok=True)


def write(path: Path, content: str | bytes) -> None:
    """Replace a file's content at once."""
    with aside(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    write(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, default=str) + "\n")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a kernel lock on `path`; wait for whoever holds it, and say so.

    The kernel frees it when its holder dies, however it dies.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("waiting for %s, which another process holds", path.name)
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def holding(path: Path) -> Iterator[bool]:
    """Hold a kernel lock on `path` if nobody else does; whether it is ours.

    It is not waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def held(path: Path) -> bool:
    """Whether a process holds the kernel lock on `path` now."""
    if not path.is_file():
        return False
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(file, fcntl.LOCK_UN)
    return False
