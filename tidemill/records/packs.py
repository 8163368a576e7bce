"""Pictures, sounds and series: each once, in packs under data/blobs/SOURCE; tables name digests.

A pack is a file of at most `PACK_BYTES`, or of one larger blob. It holds the blobs whose sha256
begins with the same bits: a head with how the digest of each begins and where it ends, in the order
of the digests, then their bytes. A pack that would be larger is two, of one bit more. So which
packs there are, their names and their bytes are a function of the blobs, in whatever order or night
they came, and a blob that comes or goes changes the pack of its bits and no other. `packs.json`
lists them and is written last: a pack that it does not list is what a killed writer left.
"""

import hashlib
import mmap
import re
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Self

from pydantic import StringConstraints

from tidemill.runtime.errors import Fault
from tidemill.runtime.files import aside, swept
from tidemill.runtime.receipt import Receipt

PACK_BYTES = 4 * 2**20  # what a night with one new picture writes and pushes, at most
MAGIC = b"TMPACK01"
COUNT = struct.Struct("<8sQ")  # MAGIC, how many blobs
ENTRY = struct.Struct("<8sQ")  # how a digest begins, and where its blob ends after the head
NAME = r"^(all|[01]+)-[0-9a-f]{16}\.pack$"  # a file of this folder, and of no other
DIGEST = re.compile("[0-9a-f]{64}")
MAPPED = 256  # packs that a reader keeps open: a process may map some 65,000 files


class PackList(Receipt):
    """packs.json: the packs of a source by their names, and what they hold together."""

    blobs: int
    bytes: int
    packs: tuple[Annotated[str, StringConstraints(pattern=NAME)], ...]


class Pack:
    """One file of blobs, mapped into memory. Raises ValueError where it is none or is cut off."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC or path.stat().st_size < COUNT.size:
                raise ValueError("is no pack")
            self.body = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.count: int = COUNT.unpack_from(self.body)[1]
        self.start = COUNT.size + self.count * ENTRY.size
        if len(self.body) < self.start or len(self.body) != self.start + self._end(self.count - 1):
            raise ValueError("is cut off")

    def digests(self) -> tuple[bytes, ...]:
        """The digests of all blobs. Raises ValueError where one is not that of its entry."""
        digests = tuple(hashlib.sha256(self._blob(row)).digest() for row in range(self.count))
        if any(not digest.startswith(self._begins(row)) for row, digest in enumerate(digests)):
            raise ValueError("has a damaged blob")
        return digests

    def get(self, digest: bytes) -> bytes | None:
        """A blob, or None where it is not here. Raises ValueError where its bytes are others."""
        begins = digest[:8]
        first = bisect_left(range(self.count), begins, key=self._begins)
        row = first
        while row < self.count and self._begins(row) == begins:
            blob = self._blob(row)
            if hashlib.sha256(blob).digest() == digest:
                return blob
            row += 1
        if row > first:
            raise ValueError(f"has the blob {digest.hex()[:12]} damaged")
        return None

    def _blob(self, row: int) -> bytes:
        return self.body[self.start + self._end(row - 1) : self.start + self._end(row)]

    def _begins(self, row: int) -> bytes:
        return self._entry(row)[0]

    def _end(self, row: int) -> int:
        return self._entry(row)[1] if row >= 0 else 0

    def _entry(self, row: int) -> tuple[bytes, int]:
        begins, end = ENTRY.unpack_from(self.body, COUNT.size + row * ENTRY.size)
        return begins, end


class OpenPacks:
    """The packs of a folder by name, of which some stay open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: dict[str, Pack] = {}

    def __getitem__(self, name: str) -> Pack:
        """A pack. Raises OSError and ValueError as `Pack` does."""
        if name not in self.opened:
            if len(self.opened) >= MAPPED:
                del self.opened[next(iter(self.opened))]
            self.opened[name] = Pack(self.folder / name)
        return self.opened[name]


def parted(
    digests: Sequence[bytes], sizes: Mapping[bytes, int], limit: int, bits: str = ""
) -> Iterator[tuple[str, Sequence[bytes]]]:
    """The packs that sorted digests lie in: the bits that those of each begin with, and which."""
    if not digests:
        return
    size = sum(sizes[digest] + ENTRY.size for digest in digests)
    if size <= limit or len(digests) == 1:
        yield bits, digests
        return
    place, shift = divmod(len(bits), 8)
    half = bisect_left(digests, 1, key=lambda digest: digest[place] >> (7 - shift) & 1)
    yield from parted(digests[:half], sizes, limit, f"{bits}0")
    yield from parted(digests[half:], sizes, limit, f"{bits}1")


class Packing:
    """A source's blobs as they come; its packs hold them, and no others, when the block ends well.

    A pack that is there already and whole is not written again. In memory are the digests.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self.folder, self.limit = folder, PACK_BYTES if limit is None else limit
        self.sizes: dict[bytes, int] = {}
        self.before = OpenPacks(folder)
        self.whole: dict[str, tuple[bytes, ...]] = {}  # packs of before that are not damaged
        self.lying: dict[bytes, str] = {}  # and in which of them a blob is
        self.spool_path = folder.with_name(f".{folder.name}.spool")
        self.spool: IO[bytes] | None = None
        self.spooled: dict[bytes, int] = {}  # where a blob that is in none of them begins

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        listed = PackList.load(self.folder / "packs.json")
        for name in listed.packs if listed else ():
            try:
                digests = self.before[name].digests()
            except (OSError, ValueError):
                continue  # it is made anew
            self.whole[name] = digests
            self.lying |= dict.fromkeys(digests, name)
        return self

    def add(self, blob: bytes) -> str:
        """Keep a blob; its digest, as hex."""
        digest = hashlib.sha256(blob).digest()
        if digest not in self.sizes:
            self.sizes[digest] = len(blob)
            if digest not in self.lying:
                self.spool = self.spool or self.spool_path.open("wb+")
                self.spooled[digest] = self.spool.tell()
                self.spool.write(blob)
        return digest.hex()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self.spool_path.unlink(missing_ok=True)
            self._sweep()
            with suppress(OSError):  # of a full disk: what is not yet written is not wanted
                if self.spool:
                    self.spool.close()

    def _finish(self) -> None:
        names = []
        for bits, digests in parted(sorted(self.sizes), self.sizes, self.limit):
            head = self._head(digests)
            name = f"{bits or 'all'}-{hashlib.sha256(head).hexdigest()[:16]}.pack"
            names.append(name)
            if self.whole.get(name) != tuple(digests):
                with aside(self.folder / name) as part, part.open("wb") as file:
                    file.write(head)
                    file.writelines(self._blob(digest) for digest in digests)
        size = sum(self.sizes.values())
        listed = PackList(blobs=len(self.sizes), bytes=size, packs=tuple(names))
        listed.save(self.folder / "packs.json")

    def _head(self, digests: Sequence[bytes]) -> bytes:
        head, end = [COUNT.pack(MAGIC, len(digests))], 0
        for digest in digests:
            end += self.sizes[digest]
            head.append(ENTRY.pack(digest[:8], end))
        return b"".join(head)

    def _blob(self, digest: bytes) -> bytes:
        if digest in self.lying:
            blob = self.before[self.lying[digest]].get(digest)
            if blob is None:
                raise Fault(
                    f"{self.lying[digest]} has lost the blob {digest.hex()[:12]}; run again"
                )
            return blob
        assert self.spool
        self.spool.seek(self.spooled[digest])
        return self.spool.read(self.sizes[digest])

    def _sweep(self) -> None:
        """Remove every pack that is not listed, and what a killed writer left.

        Where the list cannot be read nobody knows which packs are wanted, so all stay.
        """
        swept(self.folder)
        listed = PackList.load(self.folder / "packs.json")
        if listed is None:
            return
        for path in self.folder.glob("*.pack"):
            if path.name not in listed.packs:
                path.unlink(missing_ok=True)


class Packs:
    """The blobs of one source, read where they lie; `fault` makes an error of what is wrong."""

    def __init__(self, folder: Path, fault: Callable[[str], Fault]) -> None:
        self.folder, self.fault = folder, fault
        self._read_list()

    def _read_list(self) -> None:
        """Raises Fault where there is no list."""
        listed = PackList.load(self.folder / "packs.json")
        if listed is None:
            raise self.fault("packs.json is not there or no list of packs")
        self.names = {name.partition("-")[0].removeprefix("all"): name for name in listed.packs}
        self.opened = OpenPacks(self.folder)

    def get(self, digest: str) -> bytes:
        """A blob, found to be that of its digest. Raises Fault.

        A night may have packed anew since the list was read: it is read again before a blob is
        said to be missing.
        """
        if not DIGEST.fullmatch(digest):
            raise self.fault(f"{digest[:70]!r}, which a table names, is no sha256")
        wanted = bytes.fromhex(digest)
        try:
            return self._get(wanted)
        except Fault:
            before = self.names
            self._read_list()
            if self.names == before:
                raise
        return self._get(wanted)

    def _get(self, wanted: bytes) -> bytes:
        name = self._name(wanted)
        if name is None:
            raise self._nowhere(wanted)
        try:
            blob = self.opened[name].get(wanted)
        except OSError as error:
            raise self.fault(f"{name} cannot be read") from error
        except ValueError as error:
            raise self.fault(f"{name} {error}") from error
        if blob is None:
            raise self._nowhere(wanted)
        return blob

    def _nowhere(self, wanted: bytes) -> Fault:
        return self.fault(f"no pack has the blob {wanted.hex()[:12]}, which a table names")

    def _name(self, wanted: bytes) -> str | None:
        bits = f"{int.from_bytes(wanted[:8]):064b}"
        names = (self.names.get(bits[:length]) for length in range(len(bits) + 1))
        return next((name for name in names if name), None)
