"""Signatures of texts, kept from night to night: by the digest of each text that of its words and the bands of its MinHash.

One SQLite file a recipe, under .tidemill/. It holds nothing that cannot be computed again, so one that is damaged, or was
made by other code, is dropped. What is a copy of what is not in it: that follows from the documents of the night, which is
why the next of a set of copies comes forward when the one that was kept is gone.
"""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from tasks.files import sha256

AT_ONCE, CHARS_AT_ONCE = 5_000, 4_000_000   # texts whose shingles are in memory together


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
        self.file.execute("create table if not exists bands (text blob primary key, words blob, bands blob) without rowid")
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

    def of(self, texts: Sequence[str]) -> tuple[list[bytes], np.ndarray]:
        """Of each text the digest of its words, which copies have in common, and its bands (N, 20) as uint64.

        A row of zeros where a text is too short for a shingle.
        """
        from tasks.select.twins import BANDS

        digests = [hashlib.blake2b(body.encode("utf-8", "surrogatepass"), digest_size=16).digest() for body in texts]
        try:
            known = self._known()
        except sqlite3.DatabaseError as error:
            self._drop(error)
            assert self.path is not None
            self._open(self.path)
            known = {}
        first = {digest: place for place, digest in reversed(list(enumerate(digests)))}
        new = [place for digest, place in first.items() if digest not in known]
        for some in _some(texts, new):
            made = _made(texts, some)
            rows = [(digests[place], words, bands) for place, (words, bands) in made.items()]
            known.update((digest, (words, bands)) for digest, words, bands in rows)
            if self.file is not None:
                self.file.executemany("insert or replace into bands values (?, ?, ?)", rows)
                self.file.commit()
        whole = np.frombuffer(b"".join(known[digest][1] or bytes(8 * BANDS) for digest in digests), dtype=np.uint64).reshape(len(texts), BANDS)
        if self.file is not None:
            self.file.executemany("delete from bands where text = ?", ((digest,) for digest in known if digest not in first))
            self.file.commit()
        return [known[digest][0] for digest in digests], whole

    def _known(self) -> dict[bytes, tuple[bytes, bytes]]:
        """What the file holds; an entry of another size than ours is none."""
        from tasks.select.twins import BANDS

        if self.file is None:
            return {}
        return {text: (words, bands) for text, words, bands in self.file.execute("select text, words, bands from bands") if len(words) == 16 and len(bands) in (0, 8 * BANDS)}

    def __enter__(self) -> "Bands":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.file is not None:
            self.file.close()


def _some(texts: Sequence[str], new: Sequence[int]) -> Iterator[list[int]]:
    """The places of `new`, so many at a time as memory is meant to hold."""
    some: list[int] = []
    chars = 0
    for place in new:
        some.append(place)
        chars += len(texts[place])
        if len(some) >= AT_ONCE or chars >= CHARS_AT_ONCE:
            yield some
            some, chars = [], 0
    if some:
        yield some


def _made(texts: Sequence[str], some: Sequence[int]) -> dict[int, tuple[bytes, bytes]]:
    from tasks import text
    from tasks.select import twins

    same = {place: text.same(texts[place]) for place in some}
    shingled = {place: found for place, said in same.items() if (found := text.shingled(said))}
    folded = twins.folded(twins.signatures(list(shingled.values()))) if shingled else ()
    bands = dict(zip(shingled, folded, strict=True))
    return {
        place: (hashlib.blake2b((said or texts[place]).encode("utf-8", "surrogatepass"), digest_size=16).digest(), bands[place].tobytes() if place in bands else b"")
        for place, said in same.items()
    }


def _made_by() -> str:
    """The code that bands depend on."""
    from importlib.metadata import version

    from tasks import text
    from tasks.select import twins

    return " ".join((sha256(Path(text.__file__)), sha256(Path(twins.__file__)), version("rensa")))
