"""Signatures of texts, kept from night to night: the bands of each text's MinHash by the digest of its words.

One SQLite file a recipe, under .tidemill/. It holds nothing that cannot be computed again, so one that is damaged, or was
made by other code, is dropped. What is a copy of what is not in it: that follows from the documents of the night, which is
why the next of a set of copies comes forward when the one that was kept is gone.
"""

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from tasks.files import sha256

AT_ONCE = 5_000


class Bands:
    """Bands by text. Without a path nothing is kept."""

    def __init__(self, path: Path | None = None) -> None:
        self.path, self.file = path, None   # type: tuple[Path | None, sqlite3.Connection | None]
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open(path)
        except sqlite3.DatabaseError as error:
            self._drop(error)
            self._open(path)

    def _open(self, path: Path) -> None:
        self.file = sqlite3.connect(path)
        self.file.execute("pragma journal_mode=wal")
        self.file.execute("pragma synchronous=normal")
        self.file.execute("create table if not exists bands (text blob primary key, bands blob) without rowid")
        self.file.execute("create table if not exists made (by text)")
        made = _made_by()
        if [row[0] for row in self.file.execute("select by from made")] != [made]:
            self.file.execute("delete from bands")
            self.file.execute("delete from made")
            self.file.execute("insert into made values (?)", (made,))
            self.file.commit()

    def _drop(self, error: Exception) -> None:
        assert self.path is not None
        print(f"the index {self.path.name} is damaged ({error}); it is dropped, and all signatures are made again", flush=True)
        if self.file is not None:
            self.file.close()
        for name in (self.path.name, f"{self.path.name}-wal", f"{self.path.name}-shm"):
            self.path.with_name(name).unlink(missing_ok=True)

    def of(self, texts: Sequence[str]) -> np.ndarray:
        """Bands (N, 20) as uint64; a row of zeros where a text is too short for a shingle."""
        from tasks.select.twins import BANDS

        digests = [hashlib.blake2b(body.encode("utf-8", "surrogatepass"), digest_size=16).digest() for body in texts]
        try:
            known = self._known()
        except sqlite3.DatabaseError as error:
            self._drop(error)
            assert self.path is not None
            self._open(self.path)
            known = {}
        found = np.zeros((len(texts), BANDS), dtype=np.uint64)
        new = []
        for place, digest in enumerate(digests):
            bands = known.get(digest)
            if bands is None or len(bands) not in (0, 8 * BANDS):
                new.append(place)
            elif bands:
                found[place] = np.frombuffer(bands, dtype=np.uint64)
        for start in range(0, len(new), AT_ONCE):
            some = new[start : start + AT_ONCE]
            made = _made(texts, some)
            for place, row in made.items():
                found[place] = row
            if self.file is not None:
                self.file.executemany("insert or replace into bands values (?, ?)", ((digests[place], made[place].tobytes() if place in made else b"") for place in some))
                self.file.commit()
        self._keep(set(digests), known)
        return found

    def _known(self) -> dict[bytes, bytes]:
        return dict(self.file.execute("select text, bands from bands")) if self.file is not None else {}

    def _keep(self, digests: set[bytes], known: dict[bytes, bytes]) -> None:
        if self.file is not None:
            self.file.executemany("delete from bands where text = ?", ((digest,) for digest in known if digest not in digests))
            self.file.commit()

    def __enter__(self) -> "Bands":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.file is not None:
            self.file.close()


def _made(texts: Sequence[str], some: Sequence[int]) -> dict[int, np.ndarray]:
    from tasks import text
    from tasks.select import twins

    shingled = {place: found for place in some if (found := text.shingles(texts[place]))}
    if not shingled:
        return {}
    folded = twins.folded(twins.signatures(list(shingled.values())))
    return dict(zip(shingled, folded, strict=True))


def _made_by() -> str:
    """The code that bands depend on."""
    from importlib.metadata import version

    from tasks import text
    from tasks.select import twins

    return " ".join((sha256(Path(text.__file__)), sha256(Path(twins.__file__)), version("rensa")))
