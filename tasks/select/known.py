"""Which of several documents stays, by what each is known by and never by where it lies.

A page is known by its address, a record by its id: a table that was sorted anew, or a file or a
source of another name, keeps the same one of two copies.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.select.rows import Rows
from tidemill.runtime.errors import Refused

SEVERAL_SOURCES = "in another source too"
SAID = ("digest", "language", "attributes")  # what two records of one key must agree in
AFTER_PAGES = "~"  # sorts after every address of the web


@dataclass
class Known:
    """Addresses and ids of all documents, in the order in which they lie."""

    addresses: list[pa.Array] = field(default_factory=list)
    names: list[pa.Array] = field(default_factory=list)  # by which one comes before another
    ids: list[np.ndarray] = field(default_factory=list)  # 64 bits of each

    def add(self, table: pa.Table) -> None:
        """A row group's doc_id and uri."""
        address, doc_id = table["uri"].combine_chunks(), table["doc_id"].combine_chunks()
        self.addresses.append(address)
        is_page = pc.starts_with(address, "http")
        all_pages = pc.all(is_page).as_py() is not False
        name = pc.binary_join_element_wise(AFTER_PAGES, doc_id, "")
        self.names.append(address if all_pages else pc.if_else(is_page, address, name))
        halves = pc.utf8_slice_codeunits(doc_id, 0, 16).to_pylist()
        self.ids.append(np.frombuffer(bytes.fromhex("".join(halves)), dtype=">u8").astype("u8"))

    def order(self, rows: Rows, roles: Sequence[str]) -> np.ndarray:
        """(rows,): the places of all rows by role and address."""
        return self._sorted(rows, roles, self.addresses)

    def ranks(self, rows: Rows, roles: Sequence[str]) -> np.ndarray:
        """(rows,): each row's rank by role and by what it is known by."""
        ranks = np.empty(rows.count, dtype=np.int64)
        ranks[self._sorted(rows, roles, self.names)] = np.arange(rows.count)
        return ranks

    def _sorted(self, rows: Rows, roles: Sequence[str], names: list[pa.Array]) -> np.ndarray:
        of_rows = pa.array(roles, pa.string()).take(pa.array(rows.source))
        table = pa.table({"role": of_rows, "name": pa.chunked_array(names, pa.string())})
        keys = [("role", "ascending"), ("name", "ascending")]
        order: np.ndarray = pc.sort_indices(table, sort_keys=keys).to_numpy().astype(np.int64)
        return order

    def twice(self, rows: Rows, roles: Sequence[str], stays: np.ndarray) -> np.ndarray:
        """The places of documents that another source has under the same id.

        One of role test stays, else the first as the recipe names its sources. Raises Refused where
        records of one key say different things.
        """
        ids = np.concatenate([np.zeros(0, np.uint64), *self.ids])
        places = np.flatnonzero(stays)
        is_train = np.array([role != "test" for role in roles])[rows.source[places]]
        places = places[np.lexsort((rows.source[places], is_train, ids[places]))]
        if not len(places):
            return places
        is_head = np.concatenate(([True], ids[places[1:]] != ids[places[:-1]]))
        heads = places[is_head][np.cumsum(is_head) - 1]
        elsewhere = rows.source[heads] != rows.source[places]
        if elsewhere.any():
            _check(rows, heads[elsewhere], places[elsewhere])
        return places[elsewhere]


def _check(rows: Rows, heads: np.ndarray, again: np.ndarray) -> None:
    """Refuse two records of one key; two visits of one page may differ."""
    first, second = (rows.take(places, ["uri", *SAID]) for places in (heads, again))
    says = [pc.not_equal(first[column], second[column]) for column in SAID]
    differs = pc.and_(pc.not_equal(first["uri"], second["uri"]), reduce(pc.or_, says)).to_numpy()
    if differs.any():
        at = int(np.flatnonzero(differs)[0])
        raise Refused(
            f"{int(differs.sum()):,} records of two sources have one key and say different things, "
            f"first {first['uri'][at]} and {second['uri'][at]}; give the selector of one of them "
            "another `name`"
        )


def first_by_name(
    copies: Mapping[int, tuple[int, str]], words: np.ndarray, ranks: np.ndarray
) -> dict[int, str]:
    """Which rows are left out, and as what: of each set of copies the first by rank stays.

    `copies` names each row's set by one of its rows, `words` (rows, 2) is what each says.
    """
    sets: dict[int, list[int]] = defaultdict(list)
    for row, (head, _) in copies.items():
        sets[head].append(row)
    left_out = {}
    for head, others in sets.items():
        members = sorted([head, *others], key=ranks.__getitem__)
        seen = set()
        for row in members:
            text = tuple(words[row].tolist())
            if row != members[0]:
                left_out[row] = "exact" if text in seen else "near"
            seen.add(text)
    return left_out
