"""python -m tasks.select RECIPE: data/clean of its sources to data/select/RECIPE.

Documents are read a row group at a time: once what they are judged by, then the texts that are new
or perhaps copies, then all of those that stay. What is in memory of each is its address, its id and
its bands.
"""

import gc
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.select.known import SEVERAL_SOURCES, Known, first_by_name
from tasks.select.policy import COLUMNS, judged
from tasks.select.rows import Rows
from tidemill.engines import config
from tidemill.engines.config.schema import RecipeConfig, Select, SourceUse
from tidemill.records.tables import DOCUMENTS, DROPPED, without_pandas
from tidemill.run import main
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import locked, swept, write_json
from tidemill.text.duplicates import Alike, joined
from tidemill.text.lsh import Bands, BandTable, shape


def select(name: str) -> None:
    recipe = config.recipe(name)
    out = paths.data("select", name)
    with locked(paths.state("locks", f"select-{name}")):
        swept(out)
        rows = Rows(recipe.sources)
        order, reasons = judge(recipe, rows)
        stays = _none(reasons[order])
        kept, dropped = order[stays], order[~stays]
        if not len(kept):
            raise Refused(
                f"recipe {name}: no document is left after select; "
                f"loosen `select` in conf/recipe/{name}.yaml"
            )
        rows.write(out / "documents.parquet", kept, DOCUMENTS)
        rows.write(out / "dropped.parquet", dropped, DROPPED, partial(_with_reason, reasons))
        rows.close()
        counts = np.bincount(rows.source[kept], minlength=len(recipe.sources)).tolist()
        by_source = {use.name: count for use, count in zip(recipe.sources, counts, strict=True)}
        report = {
            "rows": len(kept),
            "dropped": dict(sorted(Counter(reasons[dropped]).items())),
            "counts": {source: count for source, count in sorted(by_source.items()) if count},
        }
        write_json(out / "report.json", report)


def _with_reason(reasons: np.ndarray, places: np.ndarray, table: pa.Table) -> pa.Table:
    """Rows of dropped.parquet: the beginning of the text, and the reason."""
    text = pc.utf8_slice_codeunits(table["text"], 0, 200)
    table = table.set_column(table.column_names.index("text"), "text", text)
    return table.append_column("reason", pa.array(reasons[places], pa.string()))


@dataclass
class Sought:
    """What is known of the documents among which copies are sought.

    It is in the order in which they were read.
    """

    signed: BandTable
    places: list[np.ndarray] = field(default_factory=list)
    words: list[np.ndarray] = field(default_factory=list)
    groups: list[np.ndarray] = field(default_factory=list)
    numbers: dict[tuple[str, ...], int] = field(default_factory=dict)

    def group(self, role: str, differing: list[list[str]], count: int) -> np.ndarray:
        """(count,): a number for each role and what twins differ by."""
        names = zip([role] * count, *differing, strict=True)
        numbers = [self.numbers.setdefault(name, len(self.numbers)) for name in names]
        return np.array(numbers, dtype=np.uint64)

    def in_order(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Places, words and groups, as the rows stand in `order`; so do the bands from now on."""
        places = np.concatenate([np.zeros(0, np.int64), *self.places])
        left = order[np.isin(order, places)]
        there = np.searchsorted(places, left)
        words = np.concatenate([np.zeros((0, 2), np.uint64), *self.words])[there]
        self.signed.order = there
        groups = np.concatenate([np.zeros(0, np.uint64), *self.groups])[there]
        return left, words, groups


def judge(recipe: RecipeConfig, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """The places of the rows in order of role and address.

    Also, by place, why each is left out, or None.
    """
    reasons = np.full(rows.count, None, dtype=object)
    process.progress(0, rows.count, "documents")
    bands, _ = shape(recipe.select.near_duplicates)
    with BandTable.beside(paths.state("select"), bands) as table:
        sought = Sought(table)
        known = _read(recipe, rows, sought, reasons)
        roles = [use.role for use in recipe.sources]
        again = known.twice(rows, roles, _none(reasons))
        reasons[again] = SEVERAL_SOURCES
        order = known.order(rows, roles)
        left, words, groups = sought.in_order(order[~np.isin(order, again)])
        alike = Alike(
            lambda some: rows.texts(left[list(some)]),
            recipe.select.near_duplicates,
            rows.bytes[left],
        )
        copies = joined(words, table, groups, alike)
    for row, how in first_by_name(copies, words, known.ranks(rows, roles)[left]).items():
        reasons[left[row]] = f"{how} duplicate"
    process.progress(rows.count, rows.count, "documents")
    return order, reasons


def _read(recipe: RecipeConfig, rows: Rows, sought: Sought, reasons: np.ndarray) -> Known:
    """Go over all documents once: who they are, why policy leaves some out, and what is sought."""
    known = Known()
    path = paths.state("select", f"{recipe.application}.sqlite")
    with Bands(path, recipe.select.near_duplicates) as bands:
        for start, use, table, payloads in rows.scan(_columns(recipe.select)):
            known.add(table)
            stop = start + table.num_rows
            left = _by_policy(recipe.select, table, payloads, reasons[start:stop])
            some = table.filter(pa.array(left))
            _signed(sought, bands, rows, start, use, some, left, recipe.select)
            process.progress(stop, rows.count, "documents")
    return known


def _columns(policy: Select) -> list[str]:
    measured = COLUMNS if policy.quality else ()
    return ["doc_id", "uri", "kind", "chars", "digest", *policy.twins_differ_by, *measured]


def _by_policy(
    policy: Select, table: pa.Table, payloads: np.ndarray, reasons: np.ndarray
) -> np.ndarray:
    """Write why rows are left out into `reasons`; which of them are sought for copies."""
    context = _in(table["kind"], policy.context)
    if policy.kinds:
        reasons[~_in(table["kind"], policy.kinds) & ~context] = "another kind of part"
    measured = ~context & ~payloads
    short = measured & _none(reasons) & (table["chars"].to_numpy() < policy.min_chars)
    reasons[short] = f"shorter than {policy.min_chars} characters"
    if policy.quality:
        measured &= _none(reasons)
        documents = table.filter(pa.array(measured))
        reasons[measured] = judged(config.quality(policy.quality), policy.quality, documents)
    return _none(reasons) & ~context


def _signed(
    sought: Sought,
    bands: Bands,
    rows: Rows,
    start: int,
    use: SourceUse,
    table: pa.Table,
    left: np.ndarray,
    policy: Select,
) -> None:
    """Add the signatures of a row group's documents."""
    places = start + np.flatnonzero(left)
    words, signed = bands.named(
        table["digest"].to_pylist(), lambda numbers: rows.texts(places[list(numbers)])
    )
    differing = [table[column].to_pylist() for column in policy.twins_differ_by]
    sought.places.append(places)
    sought.words.append(words)
    sought.signed.add(signed)
    sought.groups.append(sought.group(use.role, differing, table.num_rows))


def _in(column: pa.ChunkedArray, values: tuple[str, ...]) -> np.ndarray:
    found: np.ndarray = pc.is_in(column, value_set=pa.array(values, pa.string())).to_numpy()
    return found


def _none(reasons: np.ndarray) -> np.ndarray:
    found: np.ndarray = reasons == None  # noqa: E711
    return found


def step(name: str) -> None:
    gc.disable()  # documents hold no cycles, and looking for some takes a tenth of the time
    without_pandas()
    select(name)


if __name__ == "__main__":
    main.of_data(step, "recipe")
