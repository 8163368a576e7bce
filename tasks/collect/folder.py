"""A person's own folder, or one file: read whole, kept as one archive, so that what was trained on can be shown later.

No link is followed and no name leaves the folder: who may write into it decides what is in it, and not what else is read.
"""

import hashlib
import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tasks.collect.package import MAX_MEMBER_MB
from tasks.errors import Fault, Refused
from tasks.files import aside, sha256

MOST_FILES = 1_000_000
MOST_DEEP = 32
EPOCH = (1980, 1, 1, 0, 0, 0)   # the archive's bytes come from names and contents alone


def names(path: Path, where: str) -> list[str]:
    """The files at or below `path`, relative to it and sorted; those that begin with a dot are a system's own and left out."""
    if path.is_symlink():
        raise Refused(f"{where}: {path} is a link; name the folder that it leads to")
    if not path.exists():
        raise Refused(f"{where}: {path} does not exist; correct `path` in its file of conf/source, what was collected stays")
    if path.is_file():
        return [_sound(path.name, path, where)]
    if not path.is_dir():
        raise Refused(f"{where}: {path} is neither a folder nor a file")
    return sorted(_below(path, "", where))


def _below(folder: Path, before: str, where: str) -> list[str]:
    found: list[str] = []
    if before.count("/") > MOST_DEEP:
        raise Refused(f"{where}: {folder} lies more than {MOST_DEEP} folders deep; name a flatter folder")
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = _sound(f"{before}{entry.name}", Path(entry.path), where)
            if entry.is_symlink():
                raise Refused(f"{where}: {entry.path} is a link; put the file itself there, or remove the link")
            if entry.is_dir(follow_symlinks=False):
                found += _below(Path(entry.path), f"{name}/", where)
            elif entry.is_file(follow_symlinks=False):
                found.append(name)
            else:
                raise Refused(f"{where}: {entry.path} is no regular file; remove it")
    if len(found) > MOST_FILES:
        raise Refused(f"{where}: {folder} holds more than {MOST_FILES:,} files; name a smaller folder")
    return found


def _sound(name: str, path: Path, where: str) -> str:
    """A name that a table and an archive can hold."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise Refused(f"{where}: the name of {os.fsencode(path)!r} is not UTF-8; rename it") from error
    if "\\" in name or any(ord(letter) < 32 for letter in name):
        raise Refused(f"{where}: the name {name!r} has a backslash or a control character; rename it")
    return name


def contents(path: Path, found: Iterable[str], where: str) -> Iterator[tuple[str, str]]:
    """Each file's name and the sha256 of its bytes."""
    for name in found:
        yield name, hashlib.sha256(_read(path, name, where)).hexdigest()


def packed(path: Path, found: Iterable[str], folder: Path, where: str) -> tuple[Path, dict[str, str]]:
    """One archive of the files in `folder`, named by its sha256; and the sha256 of each file as it was put in."""
    made: dict[str, str] = {}
    with aside(folder / "files.zip") as part:
        with zipfile.ZipFile(part, "w") as archive:
            for name in found:
                body = _read(path, name, where)
                info = zipfile.ZipInfo(name, EPOCH)
                info.external_attr = 0o100644 << 16
                # Pictures are compressed as they are; text takes a third.
                info.compress_type = zipfile.ZIP_STORED if name.lower().endswith((".png", ".jpg", ".jpeg", ".gif", ".webp", ".gz", ".zip")) else zipfile.ZIP_DEFLATED
                archive.writestr(info, body)
                made[name] = hashlib.sha256(body).hexdigest()
        digest = sha256(part)
    return (folder / "files.zip").rename(folder / f"{digest}.zip"), made


def _read(path: Path, name: str, where: str) -> bytes:
    file = path if path.is_file() else path / name
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(handle, "rb") as opened:
            size = os.fstat(handle).st_size
            if size > MAX_MEMBER_MB * 2**20:
                raise Refused(f"{where}: {file} has {size / 2**20:.0f} MB, the limit of one file is {MAX_MEMBER_MB}; cut it in parts")
            return opened.read(MAX_MEMBER_MB * 2**20)
    except FileNotFoundError as error:
        raise Fault(f"{where}: {file} went away while it was read; run again", heals=True) from error
    except PermissionError as error:
        raise Refused(f"{where}: {file} may not be read by this user; change its mode") from error
    except OSError as error:
        raise Fault(f"{where}: {file} cannot be read: {error.strerror}", heals=True) from error
