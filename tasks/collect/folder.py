"""A person's own folder, one file, or a bucket.

What is new in it is kept as one archive a night, so that what was trained on can be shown later.

No link is followed and no name leaves the folder: who may write into it decides what is in it, and
not what else is read.
"""

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

from tasks.collect.bucket import Bucket
from tidemill.records import warc
from tidemill.records.archive import MAX_MEMBER_MB, matches
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import aside, sha256

MOST_FILES = 1_000_000
MOST_DEEP = 32
MOST_ARCHIVES = 30
EPOCH = (1980, 1, 1, 0, 0, 0)  # the archive's bytes come from names and contents alone
PACKED = (
    ".png",
    ".jpg",
    ".jpeg",
    ".gif",
    ".webp",
    ".gz",
    ".zip",
    ".flac",
    ".mp3",
    ".ogg",
    ".parquet",
)


class Folder:
    """Files of this machine.

    Only their contents tell whether they changed, so each is read every night.
    """

    def __init__(self, path: Path, where: str) -> None:
        self.path, self.where = path, where

    def marks(self) -> dict[str, str | None]:
        """The files at or below the path, relative to it.

        Those that begin with a dot are a system's own and left out.
        """
        return dict.fromkeys(self.names())

    def names(self) -> list[str]:
        path, where = self.path, self.where
        if path.is_symlink():
            raise Refused(f"{where}: {path} is a link; name the folder that it leads to")
        if not path.exists():
            raise Refused(
                f"{where}: {path} does not exist; correct `path` in its file of conf/source, what "
                "was collected stays"
            )
        if path.is_file():
            return [sound(path.name, path, where)]
        if not path.is_dir():
            raise Refused(f"{where}: {path} is neither a folder nor a file")
        return sorted(self._below(path, ""))

    def _below(self, folder: Path, before: str) -> list[str]:
        found: list[str] = []
        where = self.where
        if before.count("/") > MOST_DEEP:
            raise Refused(
                f"{where}: {folder} lies more than {MOST_DEEP} folders deep; name a flatter folder"
            )
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = sound(f"{before}{entry.name}", Path(entry.path), where)
                if entry.is_symlink():
                    raise Refused(
                        f"{where}: {entry.path} is a link; put the file itself there, or remove "
                        "the link"
                    )
                if entry.is_dir(follow_symlinks=False):
                    found += self._below(Path(entry.path), f"{name}/")
                elif entry.is_file(follow_symlinks=False):
                    found.append(name)
                else:
                    raise Refused(f"{where}: {entry.path} is no regular file; remove it")
        if len(found) > MOST_FILES:
            raise Refused(
                f"{where}: {folder} holds more than {MOST_FILES:,} files; name a smaller folder"
            )
        return found

    def read(self, name: str) -> bytes:
        file = self.path if self.path.is_file() else self.path / name
        try:
            handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(handle, "rb") as opened:
                size = os.fstat(handle).st_size
                if size > MAX_MEMBER_MB * 2**20:
                    raise Refused(
                        f"{self.where}: {file} has {size / 2**20:.0f} MB, the limit of one file "
                        f"is {MAX_MEMBER_MB}; cut it in parts"
                    )
                return opened.read(MAX_MEMBER_MB * 2**20)
        except FileNotFoundError as error:
            raise Fault(
                f"{self.where}: {file} went away while it was read; run again", heals=True
            ) from error
        except PermissionError as error:
            raise Refused(
                f"{self.where}: {file} may not be read by this user; change its mode"
            ) from error
        except OSError as error:
            raise Fault(
                f"{self.where}: {file} cannot be read: {error.strerror}", heals=True
            ) from error


def opened(path: str, root: Path, where: str) -> Folder | Bucket:
    """What a source's `path` names: a place of this machine, or a bucket."""
    if "://" in path and not path.startswith("file://"):
        return Bucket(path, where)
    return Folder(root / path.removeprefix("file://"), where)


def names(path: Path, where: str) -> list[str]:
    """The files of a folder, or the one file; sorted."""
    return Folder(path, where).names()


def sound(name: str, path: Path, where: str) -> str:
    """A name that a table and an archive can hold."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise Refused(
            f"{where}: the name of {os.fsencode(path)!r} is not UTF-8; rename it"
        ) from error
    if "\\" in name or any(ord(letter) < 32 for letter in name):
        raise Refused(
            f"{where}: the name {name!r} has a backslash or a control character; rename it"
        )
    return name


class FolderNight:
    """One night over a folder or bucket: the rows of the manifest as they are afterwards."""

    def __init__(self, name: str, folder: Path, media: Any) -> None:
        self.name, self.folder, self.media = name, folder, media
        self.known = warc.manifest(folder)
        self.rows: dict[str, warc.ManifestRow] = {}
        self.read = self.bytes = 0
        self.at = warc.now()

    def run(self, place: Folder | Bucket, pattern: str, tell: Any) -> None:
        """Read what may have changed, and pack what did.

        What a bucket marks as it was is not read.
        """
        marks = {name: mark for name, mark in place.marks().items() if matches(name, pattern)}
        if not marks:
            raise Refused(
                f"{place.where} is empty: no file of {place.path} matches {pattern!r}; correct "
                f"`members` in conf/source/{self.name}.yaml"
            )
        new: list[str] = []
        with aside(self.folder / "files.zip") as part:
            with zipfile.ZipFile(part, "w") as archive:
                for number, (name, mark) in enumerate(sorted(marks.items()), 1):
                    if self._packed(archive, place, name, mark):
                        new.append(f"files:{self.name}#{name}")
                        if number % 100 == 0:
                            tell(number, len(marks))
            packed = f"{sha256(part)}.zip"
        if new:
            (self.folder / "files.zip").rename(self.folder / packed)
            for uri in new:
                self.rows[uri]["raw_file"] = packed
        else:
            (self.folder / "files.zip").unlink()
        self.fresh = len(new)
        self.unchanged = len(marks) - len(new)

    def _packed(
        self, archive: zipfile.ZipFile, place: Folder | Bucket, name: str, mark: str | None
    ) -> bool:
        """Take one file up; whether it is new or changed, and in the archive now."""
        uri = f"files:{self.name}#{name}"
        old = self.known.get(uri)
        whole = old if old and (self.folder / old["raw_file"]).is_file() else None
        if whole and mark and whole["etag"] == mark:
            self.rows[uri] = whole
            return False
        body = place.read(name)
        self.read += 1
        digest = hashlib.sha256(body).hexdigest()
        if whole and whole["sha256"] == digest:
            self.rows[uri] = {**whole, "etag": mark}
            return False
        write(archive, name, body)
        self.bytes += len(body)
        self.rows[uri] = warc.manifest_row(
            uri, self.at, digest, self.media(name), etag=mark, raw_locator=name
        )
        return True

    def close(self) -> bool:
        """Write the manifest where something changed; whether anything was written.

        Archives are put together where most of what they hold is old.
        """
        same = {uri: (row["sha256"], row["etag"]) for uri, row in self.rows.items()} == {
            uri: (row["sha256"], row["etag"]) for uri, row in self.known.items()
        }
        if same and not self.fresh:
            return False
        self.rows = {uri: self.rows[uri] for uri in sorted(self.rows)}
        files = {row["raw_file"] for row in self.rows.values()}
        held = sum(len(zipfile.ZipFile(self.folder / name).namelist()) for name in files)
        if len(files) > MOST_ARCHIVES or held > 2 * len(self.rows):
            self.together()
        warc.save_manifest(self.folder, self.rows.values())
        kept = {row["raw_file"] for row in self.rows.values()} | {"manifest.parquet"}
        for stale in self.folder.iterdir():
            if stale.name not in kept:
                stale.unlink()
        return True

    def together(self) -> None:
        """One archive of everything that is there."""
        with aside(self.folder / "files.zip") as part:
            with zipfile.ZipFile(part, "w") as archive:
                for row, body in warc.bodies(self.folder, self.rows.values()):
                    write(archive, row["raw_locator"], body)
            packed = f"{sha256(part)}.zip"
        (self.folder / "files.zip").rename(self.folder / packed)
        self.rows = {uri: {**row, "raw_file": packed} for uri, row in self.rows.items()}


def write(archive: zipfile.ZipFile, name: str, body: bytes) -> None:
    """Add a member; what is compressed already is stored as it is, text takes a third."""
    info = zipfile.ZipInfo(name, EPOCH)
    info.external_attr = 0o100644 << 16
    info.compress_type = (
        zipfile.ZIP_STORED if name.lower().endswith(PACKED) else zipfile.ZIP_DEFLATED
    )
    archive.writestr(info, body)
