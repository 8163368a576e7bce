"""Signatures of texts, kept from night to night.

For the digest of each text they give that of its words and its MinHash bands.

One SQLite file a recipe, under .tidemill/. It holds nothing that cannot be computed again, so one
that is damaged, or was made by other code, is dropped. What is a copy of what is not in it: that
follows from the documents of the night, which is why the next of a set of copies comes forward when
the one that was kept is gone.
"""

import sqlite3
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Self

import numpy as np

from tidemill.runtime.errors import Refused
from tidemill.runtime.files import sha256
from tidemill.text import normal, shingles

SEED = 7
ASKED = 5_000  # texts that the file is asked for at once
# Bands, the values in each, and the Jaccard similarity from which on at least nine of ten pairs
# agree in a band.
SHAPES = ((20, 5, 0.65), (33, 3, 0.42))
LEAST_SIMILARITY = SHAPES[-1][2]


def shape(threshold: float) -> tuple[int, int]:
    """How many bands of how many values find pairs of this similarity.

    Chance is 1 - (1 - threshold^values)^bands.
    """
    for bands, values, least in SHAPES:
        if threshold >= least:
            return bands, values
    raise Refused(
        f"near_duplicates: {threshold} is below {LEAST_SIMILARITY}, from which on copies can be "
        "found; raise it"
    )


class Bands:
    """Bands by text.

    Without a path nothing is kept; what was not asked for is forgotten at the end.
    """

    def __init__(self, path: Path | None = None, threshold: float = 0.8) -> None:
        self.bands, self.values = shape(threshold)
        self.path = path
        self.file: sqlite3.Connection | None = None
        self.asked: list[np.ndarray] = []
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open(path)
        except sqlite3.DatabaseError as error:
            self._drop(error)

    def _open(self, path: Path) -> None:
        self.file = sqlite3.connect(path)
        self.file.execute("pragma journal_mode=wal")
        self.file.execute("pragma synchronous=normal")
        self.file.execute(
            "create table if not exists bands (text blob primary key, words blob, bands blob)"
        )
        self.file.execute("create table if not exists made (by text)")
        made = f"{self.bands} x {self.values} {_made_by()}"
        if [row[0] for row in self.file.execute("select by from made")] != [made]:
            self.file.execute("delete from bands")
            self.file.execute("delete from made")
            self.file.execute("insert into made values (?)", (made,))
            self.file.commit()

    def _drop(self, error: Exception) -> None:
        assert self.path is not None
        print(
            f"the index {self.path.name} is damaged ({error}); "
            "it is dropped, and all signatures are made again",
            flush=True,
        )
        if self.file is not None:
            self.file.close()
        for name in (self.path.name, f"{self.path.name}-wal", f"{self.path.name}-shm"):
            self.path.with_name(name).unlink(missing_ok=True)
        self._open(self.path)

    def of(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Of each text the digest of its words (N, 2) and its bands (N, B), both uint64.

        Copies have the digest in common.

        A row of zeros where a text is too short for a shingle.
        """
        return self.named(
            [normal.digest(body) for body in texts],
            lambda places: [texts[place] for place in places],
        )

    def named(
        self, digests: Sequence[str], texts: Callable[[Sequence[int]], Sequence[str]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same of texts whose digests are known.

        Those at some places are asked for where they are new.
        """
        words = np.zeros((len(digests), 2), dtype=np.uint64)
        bands = np.zeros((len(digests), self.bands), dtype=np.uint64)
        for start in range(0, len(digests), ASKED):
            names = list(map(bytes.fromhex, digests[start : start + ASKED]))
            signatures = self._signatures(names, start, texts)
            some_words = b"".join(signatures[name][0] for name in names)
            some_bands = b"".join(signatures[name][1] or bytes(8 * self.bands) for name in names)
            stop = start + len(names)
            words[start:stop] = np.frombuffer(some_words, dtype=np.uint64).reshape(-1, 2)
            bands[start:stop] = np.frombuffer(some_bands, dtype=np.uint64).reshape(-1, self.bands)
        return words, bands

    def _signatures(
        self, names: list[bytes], start: int, texts: Callable[[Sequence[int]], Sequence[str]]
    ) -> dict[bytes, tuple[bytes, bytes]]:
        """Words and bands by name; those of texts that are new are made, and kept."""
        known = self._known(names)
        first = {name: place for place, name in reversed(list(enumerate(names, start)))}
        new = {name: place for name, place in first.items() if name not in known}
        made = self._made(texts(list(new.values()))) if new else ()
        known.update(zip(new, made, strict=True))
        if self.file is not None:
            rows = [(name, known[name][0], known[name][1]) for name in new]
            self.file.executemany(
                "insert or replace into bands values (?, ?, ?)",
                sorted((name, words + _sum(words, band), band) for name, words, band in rows),
            )
            self.file.commit()
            self.asked.append(_heads(names))
        return known

    def _made(self, texts: Sequence[str]) -> Iterator[tuple[bytes, bytes]]:
        """Of each text the digest of its words, and its bands where it has a shingle."""
        for part in shingles.batches([len(body) for body in texts]):
            made = shingles.shingled(texts[part])
            bands = signed(made, self.bands, self.values)
            for words, band, many in zip(
                made.words, bands, np.diff(made.edges).tolist(), strict=True
            ):
                yield words, band.tobytes() if many else b""

    def _known(self, digests: list[bytes]) -> dict[bytes, tuple[bytes, bytes]]:
        """What the file holds of these; an entry that is not as it was written is none."""
        if self.file is None:
            return {}
        try:
            places = ",".join("?" * len(digests))
            found = self.file.execute(
                f"select text, words, bands from bands where text in ({places})", digests
            ).fetchall()
        except sqlite3.DatabaseError as error:
            self._drop(error)
            return {}
        return {
            name: (words[:16], bands)
            for name, words, bands in found
            if isinstance(words, bytes)
            and isinstance(bands, bytes)
            and words == words[:16] + _sum(words[:16], bands)
        }

    def _forget(self) -> None:
        """Every text that was not asked for."""
        assert self.file is not None
        there = [name for (name,) in self.file.execute("select text from bands")]
        if any(not isinstance(name, bytes) or len(name) != 16 for name in there):
            raise sqlite3.DatabaseError("a name is none")
        gone = (
            ~np.isin(_heads(there), np.concatenate(self.asked))
            if there and self.asked
            else np.ones(len(there), dtype=bool)
        )
        self.file.executemany(
            "delete from bands where text = ?", ((there[place],) for place in np.flatnonzero(gone))
        )
        self.file.commit()

    def __enter__(self) -> "Bands":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.file is None:
            return
        try:
            if kind is None:
                self._forget()
        except sqlite3.DatabaseError as damage:
            self._drop(damage)
        finally:
            self.file.close()


class BandTable:
    """The bands of many texts, of which one is in memory at a time: each lies in a file.

    Rows come in order, some at a time; `order` says in which they stand in the columns.
    """

    def __init__(self, files: Sequence[IO[bytes]]) -> None:
        self.files = files
        self.order: np.ndarray | None = None
        self._signed: list[np.ndarray] = []

    @classmethod
    @contextmanager
    def beside(cls, folder: Path, bands: int) -> Iterator[Self]:
        """Files in a folder, which are gone when the block ends."""
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            yield cls([stack.enter_context(TemporaryFile(dir=folder)) for _ in range(bands)])

    @classmethod
    def of(cls, signed: np.ndarray) -> Self:
        """Those of few texts, (N, B), in memory."""
        table = cls([BytesIO() for _ in range(signed.shape[1])])
        table.add(signed)
        return table

    def add(self, signed: np.ndarray) -> None:
        """Further rows, (n, B)."""
        self._signed.append(np.asarray(signed.any(axis=1)))
        for band, file in enumerate(self.files):
            file.write(np.ascontiguousarray(signed[:, band]).tobytes())

    @property
    def is_signed(self) -> np.ndarray:
        """(N,): whether a row has a shingle."""
        return self._ordered(np.concatenate([np.zeros(0, bool), *self._signed]))

    def columns(self) -> Iterator[np.ndarray]:
        """Each band, (N,) uint64."""
        for file in self.files:
            file.seek(0)
            yield self._ordered(np.frombuffer(file.read(), dtype=np.uint64))

    def _ordered(self, values: np.ndarray) -> np.ndarray:
        return values if self.order is None else values[self.order]


def _sum(words: bytes, bands: bytes) -> bytes:
    return zlib.crc32(bands, zlib.crc32(words)).to_bytes(4)


def _heads(digests: list[bytes]) -> np.ndarray:
    """The first half of each digest: enough to tell what may be forgotten."""
    return np.frombuffer(b"".join(digests), dtype=np.uint64)[::2]


def signed(texts: shingles.Shingled, bands: int, values: int) -> np.ndarray:
    """Bands of MinHash signatures (N, bands): a number a band, zeros where there is no shingle."""
    import rensa

    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        texts.numbers, texts.edges.astype(np.uint64), num_perm=bands * values, seed=SEED
    )
    signatures = np.asarray(matrix.to_rows(), dtype=np.uint64).reshape(-1, bands * values)
    numbers = np.zeros((len(signatures), bands), dtype=np.uint64)
    for value in range(values):
        numbers = numbers * np.uint64(1_000_003) + signatures[:, value::values]
    is_shingled = np.diff(texts.edges)[:, None] > 0
    return np.where(is_shingled, np.maximum(numbers, np.uint64(1)), np.uint64(0))


def _made_by() -> str:
    """What bands depend on."""
    from importlib.metadata import version

    return " ".join(
        (
            sha256(Path(shingles.__file__)),
            sha256(Path(normal.__file__)),
            sha256(Path(__file__)),
            version("rensa"),
            unicodedata.unidata_version,
        )
    )
