"""python -m tasks.split RECIPE: data/labels/RECIPE to data/splits/RECIPE.

Row groups of the examples are gone over three times, in as many processes as there are processors:
for the split of each row, for what is compared of it, and to write the tables. In between, what is
in memory of a row is some tens of bytes.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.split import write
from tasks.split.facts import Compared, RowFacts, facts_of
from tasks.split.leaks import leaks, prose_in
from tasks.split.rules import PLACES, SPLITS, assigned
from tasks.split.write import RowTable, Writing
from tidemill import contract
from tidemill.engines import config
from tidemill.engines.config.schema import RecipeConfig
from tidemill.records import blobs, carried
from tidemill.records.groups import Grouped
from tidemill.run import main
from tidemill.runtime import parts, paths, process
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import locked, swept, write_json

GROUP = "row group of examples"
LARGE = 64 * 2**20  # bytes of examples, from which on tables are written side by side


def split(name: str) -> None:
    recipe = config.recipe(name)
    out = paths.data("splits", name)
    with locked(paths.state("locks", f"split-{name}")):
        swept(out)
        examples = _examples(name)
        process.progress(0, examples.rows, "examples")
        where = _assigned(recipe, examples)
        left_out = _left_out(recipe, examples, where)
        refuse_empty(name, _named(where, PLACES), _named(left_out.why, left_out.reasons))
        snapshot = _written(out, examples, where, left_out)
        counts = {
            part: int(((where == place) & (left_out.why < 0)).sum())
            for place, part in enumerate(SPLITS)
        }
        dropped = Counter(left_out.reasons[place] for place in left_out.why[left_out.why >= 0])
        report = {
            "rows": sum(counts.values()),
            "dropped": dict(sorted(dropped.items())),
            "counts": counts,
            "snapshot": snapshot,
            "small": write.small(out / "test.parquet", recipe.score),
        }
        write_json(out / "report.json", report)
        process.progress(examples.rows, examples.rows, "examples")


def _examples(recipe: str) -> Grouped:
    """A recipe's examples. Raises Refused where there are none, or of an earlier form."""
    path = paths.data("labels", recipe) / "examples.parquet"
    examples = Grouped.of(path) if path.is_file() else None
    if examples is None or not examples.rows:
        raise Refused(f"data/labels/{recipe} has no examples; run python -m tasks.label {recipe}")
    if "blob" not in examples.names:
        raise blobs.earlier(f"data/labels/{recipe}", f"label@{recipe}")
    return examples


def _assigned(recipe: RecipeConfig, examples: Grouped) -> np.ndarray:
    """The split of every example, by the ids by which its document was split first.

    (N,) places in PLACES. Raises Refused where documents have other ids than in the last snapshot,
    and would move.
    """
    name = recipe.application
    first, processes = carried.read(name), config.processes()
    where = assigned(recipe.split.rules, examples, first, processes)
    ids = ["source", "doc_id"]
    frames = (frame for group in examples.groups for frame in group.frames(ids))
    uncarried = carried.uncarried(name, frames)
    if not uncarried:
        return where
    before = assigned(recipe.split.rules, examples, first | uncarried, processes)
    if moved := int((where != before).sum()):
        raise Refused(
            f"recipe {name}: {len(uncarried):,} documents have another id than in the last "
            f"snapshot, which would move {moved:,} examples to other splits; keep them where they "
            f"are with: tidemill data carry {name} (or remove .tidemill/snapshots/{name} to split "
            "all anew)"
        )
    return where


@dataclass(frozen=True)
class LeftOut:
    """Which examples are in no split, and what slices all have."""

    why: np.ndarray  # (N,) int8: a place in `reasons`, or -1
    reasons: tuple[str, ...]
    slices: np.ndarray  # (N,): a place in `names`
    names: tuple[tuple[str, ...], ...]


def _left_out(recipe: RecipeConfig, examples: Grouped, where: np.ndarray) -> LeftOut:
    policy = recipe.split
    compared = Compared(
        policy.near_duplicates,
        policy.ngram,
        contract.application(recipe.application).prose,
        policy.copies == "rows",
    )
    rank = np.where(where < len(SPLITS), where, -1).astype(np.int8)
    processes = config.processes()
    groups = parts.mapped(partial(facts_of, compared), examples.groups, GROUP, processes)
    facts: Iterator[RowFacts] = parts.progressed(groups, examples.sizes, "examples")
    folder = paths.state("split")
    why, reasons, whole = leaks(rank, facts, prose_in(examples, compared), compared, folder)
    embargoes = PLACES[len(SPLITS) :]
    held = rank < 0
    why[held] = len(reasons) + where[held] - len(SPLITS)
    return LeftOut(why, (*reasons, *embargoes), whole.slices, tuple(whole.names))


def _named(places: np.ndarray, names: tuple[str, ...]) -> pd.Series:
    """Names by their places, with none for -1."""
    return pd.Series(pd.Categorical.from_codes(places.astype(int), pd.Index(names)))


def _written(out: Path, examples: Grouped, where: np.ndarray, left_out: LeftOut) -> str:
    """Write the tables; the digest of the snapshot."""
    kept = np.where(left_out.why < 0, where, -1).astype(np.int8)
    slices = {
        part: {
            name
            for at in np.unique(left_out.slices[kept == place]).tolist()
            for name in left_out.names[at]
        }
        for place, part in enumerate(SPLITS)
    }
    tables = [
        RowTable(
            out / f"{part}.parquet",
            examples,
            write.in_split(kept, part),
            (part,),
            tuple(sorted(slices[part])),
        )
        for part in SPLITS
    ]
    lost = RowTable(out / "dropped.parquet", examples, left_out.why, left_out.reasons)
    digests = RowTable(out / "buckets.parquet", examples, kept, SPLITS)
    # The largest first, so that no process waits for another at the end.
    writings = [Writing(write.buckets, digests), *(Writing(write.rows, each) for each in tables)]
    writings.append(Writing(write.lost, lost))
    snapshot, *_ = parts.mapped(
        write.written,
        writings,
        "table of the split",
        config.processes(),
        are_large=examples.bytes > LARGE,
    )
    assert snapshot
    return snapshot


def refuse_empty(name: str, where: pd.Series, reasons: pd.Series) -> None:
    """Refuse a split without rows, by what became of them. Raises Refused."""
    for part, called in zip(SPLITS, ("training", "validation", "test"), strict=True):
        mine = where == part
        if (mine & reasons.isna()).any():
            continue
        if not mine.any():
            raise Refused(
                f"recipe {name}: no {called} example; give a rule of split.rules in "
                f"conf/recipe/{name}.yaml a share, values or a day for {part}"
            )
        why = reasons[mine].astype(object).value_counts()
        of = "test" if all("a test row" in reason for reason in why.index) else "test or validation"
        counts = "; ".join(f"{count:,} x {reason}" for reason, count in why.items())
        raise Refused(
            f"recipe {name}: all {int(mine.sum()):,} {called} rows were left out as copies of "
            f"{of} rows ({counts}); correct split.near_duplicates, split.ngram or what the "
            f"application calls prose; where one question has many right answers, set "
            f"split.copies: rows"
        )


if __name__ == "__main__":
    main.of_data(split, "recipe")
