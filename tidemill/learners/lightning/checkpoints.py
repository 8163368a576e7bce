"""Checkpoints that are whole or not there.

Written aside, fsynced, renamed, each with its sha256 beside it.

A set is FILE.ckpt and FILE.ckpt.sha256, in the form that `sha256sum -c` reads. The newest whole set
is used, else the one before; one of another run is refused, whoever put it there.
"""

import hashlib
import logging
import shutil
import time
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins import CheckpointIO

from tidemill.runtime.errors import Refused
from tidemill.runtime.files import aside, sha256, write

log = logging.getLogger(__name__)
KEPT = 2  # sets; the older one serves where the newer one was torn by a failing disk
SUFFIX = ".ckpt"

torch.serialization.set_crc32_options(False)  # the sha256 says more, and costs less


class Digesting:
    """A file that knows the sha256 of what was written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


class Files(CheckpointIO):
    """How Lightning writes and reads a checkpoint here.

    One that was read already is not read again.
    """

    def __init__(self, content: dict[str, Any] | None = None) -> None:
        self.content = content

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        path = Path(path)
        with aside(path) as part, part.open("wb") as file:
            digesting = Digesting(file)
            torch.save(checkpoint, digesting)  # type: ignore[arg-type]
        write(
            path.with_name(f"{path.name}.sha256"), f"{digesting.sha256.hexdigest()}  {path.name}\n"
        )

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return self.content if self.content is not None else load(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)
        Path(f"{path}.sha256").unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """A checkpoint's content; plain values and tensors only, nothing that runs."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=False)


def whole(path: Path) -> bool:
    """Whether its bytes are those that were written."""
    try:
        told = path.with_name(f"{path.name}.sha256").read_text()
        return told == f"{sha256(path)}  {path.name}\n"
    except (OSError, UnicodeDecodeError):
        return False


class Checkpoints:
    """The checkpoints of one training, in a folder of its own.

    `identity` says which training: application, data, configuration, code.
    """

    def __init__(self, folder: Path, identity: dict[str, str]) -> None:
        self.folder, self.identity = folder, identity

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}{SUFFIX}"

    def all(self) -> list[Path]:
        """Oldest first, whole or not."""
        return sorted(self.folder.glob(f"step-*{SUFFIX}"))

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest whole set and its content; None where there is none.

        Another run's is refused.
        """
        for path in reversed(self.all()):
            if not whole(path):
                log.warning(
                    "%s is damaged or was not finished; the one before it is used", path.name
                )
                continue
            content = load(path)
            self.check(content.get("identity", {}), path)
            return path, content
        return None

    def check(self, told: dict[str, str], path: Path) -> None:
        other = [
            f"{name} {told.get(name, 'unknown')[:16]} and not {value[:16]}"
            for name, value in self.identity.items()
            if told.get(name) != value
        ]
        if other:
            raise Refused(
                f"checkpoint {path.parent.name}/{path.name} is of another training "
                f"({'; '.join(other)}); remove {path.parent} and run again"
            )

    def tidy(self) -> None:
        """Leave the newest sets only."""
        for path in self.all()[:-KEPT]:
            Files().remove_checkpoint(path)

    def clear(self) -> None:
        """The training has ended: nothing goes on from here."""
        shutil.rmtree(self.folder, ignore_errors=True)


class CheckpointClock:
    """When the next checkpoint is due.

    By steps, by time, and never so often that it costs more than its share.
    """

    SHARE = 0.03  # of a training's time, at most

    def __init__(self, steps: int, minutes: float, step: int = 0) -> None:
        self.steps, self.wait_s = steps, minutes * 60
        self.saved_step, self.saved_at, self.cost_s = step, time.monotonic(), 0.0

    def due(self, step: int) -> bool:
        waited = time.monotonic() - self.saved_at
        if self.steps:
            return step - self.saved_step >= self.steps
        return step > self.saved_step and waited >= max(self.wait_s, self.cost_s / self.SHARE)

    def saved(self, step: int, cost_s: float) -> None:
        self.saved_step, self.saved_at, self.cost_s = step, time.monotonic(), cost_s
