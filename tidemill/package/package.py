"""A package: its digest, what is refused of one, and what it says of itself."""

import json
from pathlib import Path

from tidemill.package.allowed_files import SIGNATURE, strange
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import digest, sha256


def digests(package: Path) -> tuple[str, dict[str, str]]:
    """A package's digest, and each file's by its name.

    The signature is of these and not one of them.
    """
    files = {
        name: sha256(path)
        for path in sorted(package.rglob("*"))
        if path.is_file() and (name := path.relative_to(package).as_posix()) != SIGNATURE
    }
    return digest(files), files


def verify(package: Path, wanted: str, name: str) -> None:
    """Refuse a package whose bytes are not those that were judged, or that holds more than data."""
    actual, _ = digests(package)
    if actual != wanted:
        raise Fault(
            f"{name} is damaged: its package has digest {actual[:12]}, {wanted[:12]} was "
            f"registered; roll back or retrain"
        )
    odd = [
        f"{path.relative_to(package).as_posix()} {why}"
        for path in sorted(package.rglob("*"))
        if (path.is_symlink() or not path.is_dir())
        and (why := strange(path, path.relative_to(package).as_posix()))
    ]
    if odd:
        raise Fault(f"{name} is refused: {'; '.join(odd)}")


def described(package: Path) -> dict:
    """recipe.json: which application, with which fields, from which snapshot."""
    return json.loads((package / "recipe.json").read_text())
