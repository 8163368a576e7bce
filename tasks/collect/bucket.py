"""A bucket, or whatever else fsspec can list and read: s3, gs, az, ftp, sftp, smb, hdfs.

Which it was is told by the store's own marks (an ETag, or time and size), so a night costs one
listing and what changed. Keys and passwords come from the environment, by the names each store has
for them or as FSSPEC_FTP_PASSWORD: never from conf/.
"""

import re
from pathlib import PurePosixPath
from typing import Any

from tidemill.records.archive import MAX_MEMBER_MB
from tidemill.runtime.errors import Fault, Refused

MARKS = ("ETag", "etag", "md5Hash", "content_md5", "version_id", "checksum")
TIMES = ("LastModified", "last_modified", "mtime", "modify", "updated", "created")


class Bucket:
    """The files below an address."""

    def __init__(self, path: str, where: str) -> None:
        import fsspec

        self.path, self.where = path, where
        scheme = path.partition("://")[0]
        if scheme in ("http", "https"):
            raise Refused(
                f"{where}: {path} is a web address; say kind: web, which asks robots.txt first"
            )
        if "::" in path or re.match(r"[a-z0-9+.-]+://[^/]*:[^/@]*@", path):
            raise Refused(
                f"{where}: path {re.sub('://.*@', '://...@', path)} holds a password or a chain; "
                "name the place alone, and give keys by the environment"
            )
        try:
            self.files, self.root = fsspec.core.url_to_fs(path)
        except ImportError as error:
            raise Refused(
                f"{where}: {scheme}:// needs a package that is not installed ({error}); pip "
                "install it and run again"
            ) from error
        except ValueError as error:
            raise Refused(
                f"{where}: {path}: {error}; fsspec knows s3, gs, az, ftp, sftp, smb and others"
            ) from error
        except OSError as error:
            raise Fault(
                f"{where}: {path} cannot be reached: {told(error)}; what was collected stays",
                heals=True,
            ) from error

    def marks(self) -> dict[str, str | None]:
        """Each file's name below the address, and what the store says by which a change is seen.

        None where it says nothing.
        """
        from tasks.collect.folder import MOST_FILES, sound

        found = self._ask(lambda: self.files.find(self.root, detail=True))
        if not found:
            raise Refused(
                f"{self.where}: {self.path} is empty or does not exist; correct `path` in its "
                "file of conf/source, what was collected stays"
            )
        if len(found) > MOST_FILES:
            raise Refused(
                f"{self.where}: {self.path} holds more than {MOST_FILES:,} files; name a smaller "
                "folder"
            )
        marks: dict[str, str | None] = {}
        base = self.root.rstrip("/")
        for path, info in found.items():
            name = path[len(base) :].lstrip("/") or PurePosixPath(path).name
            if any(part.startswith(".") for part in name.split("/")):
                continue
            if (info.get("size") or 0) > MAX_MEMBER_MB * 2**20:
                raise Refused(
                    f"{self.where}: {path} has {info['size'] / 2**20:.0f} MB, the limit of one "
                    f"file is {MAX_MEMBER_MB}; cut it in parts"
                )
            place = sound(name, PurePosixPath(path), self.where)  # type: ignore[arg-type]
            marks[place] = mark(info)
        self.single = self.root if list(found) == [self.root] else None
        return marks

    def read(self, name: str) -> bytes:
        path = self.single or f"{self.root.rstrip('/')}/{name}"

        def body() -> bytes:
            with self.files.open(path, "rb") as file:
                found: bytes = file.read(MAX_MEMBER_MB * 2**20 + 1)
            return found

        found: bytes = self._ask(body)
        if len(found) > MAX_MEMBER_MB * 2**20:
            raise Refused(
                f"{self.where}: {path} has over {MAX_MEMBER_MB} MB, which is the limit of one "
                "file; cut it in parts"
            )
        return found

    def _ask(self, ask: Any) -> Any:
        try:
            return ask()
        except FileNotFoundError as error:
            raise Refused(
                f"{self.where}: {self.path} does not exist, or a file of it went away; correct "
                "`path` in its file of conf/source, or run again"
            ) from error
        except PermissionError as error:
            raise Refused(
                f"{self.where}: {self.path} may not be read with the keys of this environment: "
                f"{told(error)}"
            ) from error
        except Exception as error:
            # Every store has errors of its own; what they have in common is that the network or
            # the store is at fault.
            raise Fault(
                f"{self.where}: {self.path} cannot be read: {told(error)}; what was collected "
                "stays",
                heals=True,
            ) from error


def mark(info: dict[str, object]) -> str | None:
    """What of a listing tells one content from another."""
    for name in MARKS:
        if info.get(name):
            return f"{name}:{info[name]}"
    for name in TIMES:
        if info.get(name):
            return f"{name}:{info[name]}:{info.get('size')}"
    return None


def told(error: BaseException) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())[:120]}".strip()
