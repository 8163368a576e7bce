"""python -m tasks.select RECIPE: data/clean of its sources to data/select/RECIPE.

Documents are read a row group at a time: once what they are judged by, then the texts that are new or perhaps copies, then all
of those that stay. What is in memory of each is its address and its bands.
"""

import gc
from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.select.policy import COLUMNS, judged
from tasks.select.rows import Rows
from tidemill.engines import config
from tidemill.engines.config.schema import Recipe
from tidemill.records.tables import DOCUMENTS, DROPPED, without_pandas
from tidemill.run import main
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import locked, swept, write_json
from tidemill.text.duplicates import Alike, joined
from tidemill.text.lsh import BANDS, Bands


def select(name: str) -> None:
    recipe = config.recipe(name)
    out = paths.data("select", name)
    with locked(paths.state("locks", f"select-{name}")):
        swept(out)
        rows = Rows(recipe.sources)
        order, reasons = judge(recipe, rows)
        why = reasons[order]
        kept, gone = order[why == None], order[why != None]  # noqa: E711  (numpy compares each)
        if not len(kept):
            raise Refused(
                f"recipe {name}: no document is left after select; loosen `select` in conf/recipe/{name}.yaml"
            )
        rows.write(out / "documents.parquet", kept, DOCUMENTS)
        rows.write(
            out / "dropped.parquet",
            gone,
            DROPPED,
            lambda some, table: table.set_column(
                table.column_names.index("text"),
                "text",
                pc.utf8_slice_codeunits(table["text"], 0, 200),
            ).append_column("reason", pa.array(reasons[some], pa.string())),
        )
        rows.close()
        counts = np.bincount(rows.source[kept], minlength=len(recipe.sources)).tolist()
        write_json(
            out / "report.json",
            {
                "rows": len(kept),
                "dropped": dict(sorted(Counter(reasons[gone]).items())),
                "counts": {
                    use.name: count
                    for use, count in sorted(
                        zip(recipe.sources, counts, strict=True), key=lambda item: item[0].name
                    )
                    if count
                },
            },
        )


def judge(recipe: Recipe, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """The places of the rows in order of role and address, and by place why each is left out, or None."""
    policy = recipe.select
    quality = config.quality(policy.quality) if policy.quality else None
    reasons = np.full(rows.count, None, dtype=object)
    sought = np.zeros(rows.count, dtype=bool)  # for copies
    addresses, words, signed, groups = (
        [],
        [np.zeros((0, 2), np.uint64)],
        [np.zeros((0, BANDS), np.uint64)],
        [np.zeros(0, np.uint64)],
    )  # type: list, list[np.ndarray], list[np.ndarray], list[np.ndarray]
    numbers: defaultdict[tuple[str, ...], int] = defaultdict(lambda: len(numbers))
    process.progress(0, rows.count, "documents")
    with Bands(paths.state("select", f"{recipe.application}.sqlite")) as bands:
        for start, use, table, payloads in rows.scan(
            [
                "uri",
                "kind",
                "chars",
                "digest",
                *policy.twins_differ_by,
                *(COLUMNS if quality else ()),
            ]
        ):
            addresses += table["uri"].chunks
            mine, context = (
                reasons[start : start + table.num_rows],
                _in(table["kind"], policy.context),
            )
            if policy.kinds:
                mine[~_in(table["kind"], policy.kinds) & ~context] = "another kind of part"
            measured = ~context & ~payloads
            mine[measured & _none(mine) & (table["chars"].to_numpy() < policy.min_chars)] = (
                f"shorter than {policy.min_chars} characters"
            )
            if quality:
                measured &= _none(mine)
                mine[measured] = judged(quality, policy.quality, table.filter(pa.array(measured)))
            left = _none(mine) & ~context
            sought[start : start + table.num_rows] = left
            table = table.filter(pa.array(left))
            here = start + np.flatnonzero(left)
            some_words, some_signed = bands.named(
                table["digest"].to_pylist(),
                lambda numbers, here=here: rows.texts(here[list(numbers)]),  # type: ignore[misc]
            )
            words.append(some_words)
            signed.append(some_signed)
            differing = [table[column].to_pylist() for column in policy.twins_differ_by]
            groups.append(
                np.array(
                    [
                        numbers[group]
                        for group in zip([use.role] * table.num_rows, *differing, strict=True)
                    ],
                    dtype=np.uint64,
                )
            )
            process.progress(start + len(mine), rows.count, "documents")
    order = (
        pc.sort_indices(
            pa.table(
                {
                    "role": pa.array([use.role for use in recipe.sources]).take(
                        pa.array(rows.source)
                    ),
                    "uri": pa.chunked_array(addresses, pa.string()),
                }
            ),
            sort_keys=[("role", "ascending"), ("uri", "ascending")],
        )
        .to_numpy()
        .astype(np.int64)
    )
    left = order[sought[order]]
    there = (np.cumsum(sought) - 1)[left]
    alike = Alike(
        lambda some: rows.texts(left[list(some)]), policy.near_duplicates, rows.bytes[left]
    )
    for row, (_, how) in joined(
        np.concatenate(words)[there],
        np.concatenate(signed)[there],
        np.concatenate(groups)[there],
        alike,
    ).items():
        reasons[left[row]] = f"{how} duplicate"
    process.progress(rows.count, rows.count, "documents")
    return order, reasons


def _in(column: pa.ChunkedArray, values: tuple[str, ...]) -> np.ndarray:
    found: np.ndarray = pc.is_in(column, value_set=pa.array(values, pa.string())).to_numpy()
    return found


def _none(reasons: np.ndarray) -> np.ndarray:
    found: np.ndarray = reasons == None  # noqa: E711
    return found


def step(name: str) -> None:
    gc.disable()  # what is made of documents holds no cycles; looking for some takes a tenth of the time
    without_pandas()
    select(name)


if __name__ == "__main__":
    main.of_data(step, "recipe")
