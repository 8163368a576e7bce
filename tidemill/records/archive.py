"""Archives opened safely: bounded, nothing outside, no links, nothing unpacked to disk.

What they are is told by their first bytes.
"""

import fnmatch
import glob
import io
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tidemill.runtime.encodable import encodable
from tidemill.runtime.errors import Fault, Refused

MAX_MEMBER_MB = 64
MOST_MB = 256  # of the members that are read out of one tar, which has no order
MOST_MEMBERS = 1_000_000
WITHIN = "!/"  # between the name of an archive within an archive and that of its member


def members(
    path: Path,
    pattern: str,
    only: Collection[str] | None = None,
    most_mb: int = MAX_MEMBER_MB,
) -> Iterator[tuple[str, bytes]]:
    """The regular files of a wheel, zip, tar or Debian package whose names match.

    In the order of their names; where `only` is given, some of these. Members of an archive that
    is a member itself come after them; they are called OUTER!/INNER, in patterns too.

    Raises Refused for a member that leaves the archive or is over a limit, Fault where the bytes
    are damaged.
    """
    patterns = pattern.split("|")
    if direct := "|".join(one for one in patterns if WITHIN not in one):
        with path.open("rb") as file:
            yield from _opened(path, file, direct, only, most_mb)
    for outer, inner in _nested(patterns, only):
        with path.open("rb") as file:
            archives = list(_opened(path, file, outer, None, most_mb))
        for name, body in archives:
            for member, content in _opened(Path(name), io.BytesIO(body), inner, None, most_mb):
                whole = f"{name}{WITHIN}{member}"
                if only is None or whole in only:
                    yield whole, content


def _nested(patterns: Collection[str], only: Collection[str] | None) -> list[tuple[str, str]]:
    """Patterns of archives within the archive, each with the pattern of its members."""
    pairs = {tuple(one.split(WITHIN, 1)) for one in patterns if WITHIN in one}
    if "*" in patterns and only is not None:
        named = (one.partition(WITHIN)[0] for one in only if WITHIN in one)
        pairs |= {(glob.escape(name), "*") for name in named}
    return sorted((outer, inner) for outer, inner in pairs)


def _opened(
    path: Path, file: BinaryIO, pattern: str, only: Collection[str] | None, most_mb: int
) -> Iterator[tuple[str, bytes]]:
    """The matching members of an archive that lies open; `path` names it."""
    head = file.read(8)
    file.seek(0)
    try:
        if head.startswith(b"PK"):
            yield from _zip(path, file, pattern, only, most_mb)
        else:
            with (
                _debian(path)
                if head.startswith(b"!<arch>")
                else tarfile.open(fileobj=file, mode="r|*") as archive
            ):
                yield from sorted(_tar(archive, path, pattern, only, most_mb).items())
    except (Refused, Fault):
        raise
    except Exception as error:
        # Damaged archives make the standard library fail in a dozen ways, TypeError among them.
        raise Fault(
            f"{path.name} cannot be read as an archive ({' '.join(str(error).split())[:120]}); "
            "remove it and collect again"
        ) from error


def _zip(
    path: Path, file: BinaryIO, pattern: str, only: Collection[str] | None, most_mb: int
) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(file) as archive:
        found = archive.infolist()
        if len(found) > MOST_MEMBERS:
            raise Refused(f"{path.name} has {len(found):,} members, the limit is {MOST_MEMBERS:,}")
        for info in sorted(found, key=lambda item: item.filename):
            if (
                info.is_dir()
                or not matches(info.filename, pattern)
                or (only is not None and info.filename not in only)
            ):
                continue
            if (info.external_attr >> 16) & 0o170000 == 0o120000:
                raise Refused(f"{path.name} has a member that is a link: {info.filename}")
            _inside(path, info.filename, info.file_size, most_mb)
            yield info.filename, archive.read(info)


def _tar(
    archive: tarfile.TarFile, path: Path, pattern: str, only: Collection[str] | None, most_mb: int
) -> dict[str, bytes]:
    """A stream's members, without links and devices.

    These are passed over, since nothing is unpacked that they could lead to.
    """
    found: dict[str, bytes] = {}
    total = count = 0
    for info in archive:
        count += 1
        name = encodable(info.name).removeprefix("./")
        if count > MOST_MEMBERS:
            raise Refused(f"{path.name} has over {MOST_MEMBERS:,} members, which is the limit")
        if (
            not info.isreg()
            or not matches(name, pattern)
            or (only is not None and name not in only)
        ):
            continue
        _inside(path, name, info.size, most_mb)
        total += info.size
        most_together = most_mb if most_mb > MAX_MEMBER_MB else MOST_MB
        if total > most_together * 2**20:
            raise Refused(
                f"{path.name}: with member {name} the members are over the limit of "
                f"{most_together} MB; name fewer members"
            )
        file = archive.extractfile(info)
        assert file is not None
        found[name] = file.read()
    return found


def _inside(path: Path, name: str, size: int, most_mb: int) -> None:
    """Refuse a member that leaves the archive or is too large."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise Refused(f"{path.name} has a member that leaves the archive: {name}")
    if size > most_mb * 2**20:
        raise Refused(
            f"{path.name}: member {name} has {size / 2**20:.0f} MB, the limit is {most_mb}"
        )


@contextmanager
def _debian(path: Path) -> Iterator[tarfile.TarFile]:
    """A Debian package's files as the stream that Debian's own tool gives."""
    if not path.is_file():
        raise Refused(f"{path.name} is a Debian package within an archive, which is not opened")
    if shutil.which("dpkg-deb") is None:
        raise Refused(
            f"{path.name} is a Debian package, and there is no dpkg-deb here; use a Debian or "
            "Ubuntu machine"
        )
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdout is not None
        try:
            with tarfile.open(fileobj=child.stdout, mode="r|") as archive:
                yield archive
        finally:
            child.stdout.close()


def matches(name: str, pattern: str) -> bool:
    """Whether a member's name fits a pattern; `**` also stands for no folder at all.

    Several patterns are separated by `|`.
    """
    for one in pattern.split("|"):
        tries = {one, one.replace("**/", "")} if "**/" in one else {one}
        if any(fnmatch.fnmatchcase(name, each) for each in tries):
            return True
    return False
