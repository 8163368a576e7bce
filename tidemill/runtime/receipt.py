"""A receipt: a small frozen model of paths, digests and numbers, and the files it names."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from tidemill.runtime.errors import Fault
from tidemill.runtime.files import sha256, write
from tidemill.runtime.paths import root


class Receipt(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def save(self, path: Path) -> None:
        write(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """The receipt at `path`; None where there is none, or one of another form."""
        try:
            return cls.model_validate_json(path.read_text())
        except (FileNotFoundError, ValueError):
            return None


class File(BaseModel):
    """A file by its path and the digest it had when it was written.

    The path is relative to the project's root.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "File":
        return cls(path=path.relative_to(root()).as_posix(), sha256=sha256(path))

    def open(self) -> Path:
        """The path, once its bytes were found to be those that were written."""
        path = root() / self.path
        if not path.is_file():
            raise Fault(f"{self.path} is gone; run again and it is made anew")
        found = sha256(path)
        if found != self.sha256:
            raise Fault(
                f"{self.path} has digest {found[:12]}, its receipt says {self.sha256[:12]}; "
                "remove it and run again"
            )
        return path

    def intact(self) -> bool:
        path = root() / self.path
        return path.is_file() and sha256(path) == self.sha256
