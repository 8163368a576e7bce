"""Pinned packages, fetched by their own client into a cache that is known by sha256."""

import fnmatch
import logging
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tasks.errors import Fault, Refused
from tasks.files import aside, locked, sha256
from tasks.places import cache
from tasks.schema import Package

log = logging.getLogger(__name__)

MAX_MEMBER_MB = 64


def fetch(package: Package) -> Path:
    """The package's file, from the cache or from its index; its bytes are those that were pinned."""
    path = cache() / package.sha256[:2] / package.sha256 / package.file
    if path.is_file() and sha256(path) == package.sha256:
        return path
    with locked(cache() / f"{package.sha256[:16]}.lock"):
        if path.is_file() and sha256(path) == package.sha256:
            return path
        log.info("fetching %s %s from %s", package.name, package.version, package.index)
        with tempfile.TemporaryDirectory() as folder:
            _download(package, folder)
            found = Path(folder) / package.file
            if not found.is_file():
                there = ", ".join(sorted(p.name for p in Path(folder).iterdir())) or "nothing"
                raise Refused(f"{package.name}=={package.version} has no file {package.file}, its index brought {there}; correct `file`")
            digest = sha256(found)
            if digest != package.sha256:
                raise Refused(
                    f"{package.file} has sha256 {digest}, conf pins {package.sha256}; "
                    "refused: the package changed or the pin is wrong"
                )
            with aside(path) as part:
                part.write_bytes(found.read_bytes())
    return path


def _download(package: Package, folder: str) -> None:
    (_apt if package.index == "debian" else _pip)(package, folder)


def _apt(package: Package, folder: str) -> None:
    """`apt-get download` needs no root; it asks the indexes that this machine knows."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Refused(f"{package.name} is a Debian package, and there is no apt-get here; use a Debian or Ubuntu machine, or put {package.file} into {cache() / package.sha256[:2] / package.sha256}")
    done = subprocess.run(["apt-get", "--quiet", "download", f"{package.name}={package.version}"], cwd=folder, capture_output=True, text=True, timeout=600)
    if done.returncode == 0:
        return
    lines = [line.removeprefix("E: ") for line in done.stderr.splitlines() if line.startswith("E: ")] or ["apt-get said nothing"]
    if any("not found" in line or "Unable to locate" in line for line in lines):
        raise Refused(f"no package {package.name}={package.version} in apt's index ({lines[0]}); run apt-get update, or correct name or version in conf/source")
    raise Fault(f"cannot fetch {package.name}={package.version}: {lines[0]}; check the network, what was collected stays", heals=True)


def _pip(package: Package, folder: str) -> None:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--no-input", "--retries", "2", "--dest", folder, f"{package.name}=={package.version}",
    ]
    if package.file.endswith((".tar.gz", ".zip")):
        command += ["--no-binary", ":all:"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode == 0:
        return
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    last = re.sub(r"^ERROR: ", "", lines[-1]) if lines else "pip said nothing"
    text = done.stderr.lower()
    if "no matching distribution" in text and "connection" not in text and "retrying" not in text:
        raise Refused(f"no package {package.name}=={package.version} in the index; correct name or version in conf/source")
    raise Fault(f"cannot fetch {package.name}=={package.version}: {last}; check the network, what was collected stays", heals=True)


def members(path: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """The members of a wheel or zip whose names match, in the order of their names.

    Bounded, and nothing leaves the archive: no absolute path, no "..", no link.
    """
    if path.suffix == ".deb":
        yield from _debian(path, pattern)
        return
    with zipfile.ZipFile(path) as archive:
        for info in sorted(archive.infolist(), key=lambda item: item.filename):
            name = PurePosixPath(info.filename)
            if info.is_dir() or not matches(info.filename, pattern):
                continue
            if name.is_absolute() or ".." in name.parts or (info.external_attr >> 16) & 0o170000 == 0o120000:
                raise Refused(f"{path.name} has a member that leaves the archive: {info.filename}")
            if info.file_size > MAX_MEMBER_MB * 2**20:
                raise Refused(f"{path.name}: member {info.filename} has {info.file_size / 2**20:.0f} MB, the limit is {MAX_MEMBER_MB}")
            yield info.filename, archive.read(info)


def _debian(path: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """The regular files of a Debian package, read from the stream that Debian's own tool gives; nothing is unpacked to disk."""
    if shutil.which("dpkg-deb") is None:
        raise Refused(f"{path.name} is a Debian package, and there is no dpkg-deb here; use a Debian or Ubuntu machine")
    found: dict[str, bytes] = {}
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        try:
            with tarfile.open(fileobj=child.stdout, mode="r|") as archive:
                for info in archive:
                    name = info.name.removeprefix("./")
                    if not info.isreg() or not matches(name, pattern):
                        continue
                    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                        raise Refused(f"{path.name} has a member that leaves the archive: {name}")
                    if info.size + sum(map(len, found.values())) > MAX_MEMBER_MB * 2**20:
                        raise Refused(f"{path.name}: member {name} goes over the limit of {MAX_MEMBER_MB} MB; name fewer members")
                    file = archive.extractfile(info)
                    assert file is not None
                    found[name] = file.read()
        except tarfile.TarError as error:
            raise Fault(f"{path.name} cannot be read as a Debian package: {error}; remove it and collect again") from error
        finally:
            child.stdout.close()
    yield from sorted(found.items())


def matches(name: str, pattern: str) -> bool:
    """Whether a member's name fits a pattern; `**` also stands for no folder at all.

    Several patterns are separated by `|`.
    """
    for one in pattern.split("|"):
        tries = {one, one.replace("**/", "")} if "**/" in one else {one}
        if any(fnmatch.fnmatchcase(name, each) for each in tries):
            return True
    return False
