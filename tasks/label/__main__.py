"""python -m tasks.label RECIPE: data/select/RECIPE to data/labels/RECIPE.

Documents become examples row group by row group, in as many processes as there are processors,
where the application allows it. What is decided over all of them needs some tens of bytes of each;
then they are written in the order of their ids.
"""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from tasks.label import decide, spool
from tasks.label.decide import LabelDecision
from tasks.label.doubts import doubted
from tasks.label.examples import (
    DocumentPart,
    labelled,
    labelling,
    parts_of,
    refuse_unlisted,
    starts,
    without_rare,
)
from tasks.label.facts import ExampleFacts, joined
from tidemill.engines import config
from tidemill.engines.config.schema import RecipeConfig
from tidemill.records import blobs, groups
from tidemill.records.reports import LabelReport
from tidemill.records.tables import EXAMPLES, ISSUES, LABEL_BYTES, LOST, WEIGHT, TableWriter, save
from tidemill.run import main
from tidemill.runtime import parts, paths, process
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import locked, swept, write_json

CHANGED = ("target", "slices", "confidence", "votes")


def label(name: str) -> None:
    recipe = config.recipe(name)
    out = paths.data("labels", name)
    with locked(paths.state("locks", f"label-{name}")):
        swept(out)
        folder = paths.state("label", name)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _label(recipe, out, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _label(recipe: RecipeConfig, out: Path, folder: Path) -> None:
    name = recipe.application
    documents = groups.documents(name)
    process.progress(0, documents.rows, "documents")
    work, some = labelling(recipe, documents), parts_of(recipe, documents, folder)
    processes = config.processes()
    made = parts.mapped(partial(labelled, work), some, "row group of documents", processes)
    sizes = [part.rows for part in some]
    by_part = list(parts.progressed(made, sizes, "documents"))
    spooled = _Spooled(some, [len(each) for each in by_part], work.ranges, out)
    facts = joined(by_part)
    del by_part  # which takes as much memory again
    without_rare(recipe, facts)
    decision = decide.answered(name, facts, recipe.label)
    target = decide.targets(decision, facts)
    decide.once(facts, target, decision.by_people)
    doubtful, weights = doubted(
        facts,
        lambda: spooled.usable(facts, decision),
        decision.field,
        decision.by_people,
        recipe.label,
        decision.report,
    )
    final = decide.final_answers(decision, facts)
    if decision.field and (alike := decide.alike_labels(facts, final)):
        decision.report["alike"] = alike
    agreed = _write(recipe, out, spooled, facts, decision, weights)
    save(out / "issues.parquet", _table(doubtful, ISSUES), ISSUES)
    kept = facts.dropped < 0
    counts = {"agreed": agreed, "targets": len(np.unique(target[kept]))}
    report: LabelReport = {
        "rows": int(kept.sum()),
        "dropped": dict(sorted(_reasons(facts).items())),
        "counts": counts,
        **decision.report,
    }
    write_json(out / "report.json", report)
    process.progress(documents.rows, documents.rows, "documents")


@dataclass(frozen=True)
class _Spooled:
    """The examples of all parts in the order of their ids."""

    parts: Sequence[DocumentPart]
    sizes: Sequence[int]
    ranges: int
    out: Path  # the folder of their tables, beside which blobs are found

    def tables(self, decision: LabelDecision, answers: Sequence[str]) -> Iterator[pa.Table]:
        """Some at a time, as it was decided."""
        there = [
            (part.spooled, start)
            for part, start, size in zip(self.parts, starts(self.sizes), self.sizes, strict=True)
            if size
        ]
        files, firsts = [path for path, _ in there], [start for _, start in there]
        changed = (decision.answer >= 0) | decision.by_people
        for table in spool.read(files, firsts, self.ranges):
            if changed[table["row"].to_numpy()].any():
                columns = {name: table[name].to_pylist() for name in ("row", *CHANGED)}
                decide.applied(columns, decision, answers)
                for name in CHANGED:
                    kind = spool.SPOOLED.field(name)
                    place = spool.SPOOLED.get_field_index(name)
                    table = table.set_column(place, kind, pa.array(columns[name], kind.type))
            yield table

    def usable(self, facts: ExampleFacts, decision: LabelDecision) -> pd.DataFrame:
        """All examples that are not dropped, with their payloads: all in memory."""
        tables = [
            table.filter(pa.array(facts.dropped[table["row"].to_numpy()] < 0))
            for table in self.tables(decision, facts.answers.values)
        ]
        return blobs.filled(pa.concat_tables(tables).to_pandas(), self.out)


def _write(
    recipe: RecipeConfig,
    out: Path,
    spooled: _Spooled,
    facts: ExampleFacts,
    decision: LabelDecision,
    weights: np.ndarray,
) -> int:
    """Write the examples and those that were dropped; how many of the former all votes agree on.

    Raises Refused where no example is left.
    """
    kept = facts.dropped < 0
    if not kept.any():
        raise Refused(_nothing_left(recipe.application, facts))
    is_weighted = recipe.label.issues == "weight"
    schema = EXAMPLES.append(WEIGHT) if is_weighted else EXAMPLES
    if is_weighted:
        decision.report["issues"]["weighted"] = int((weights[kept] < 1).sum())
    reasons, agreed = np.array([*facts.reasons.values, None], dtype=object), 0
    examples = TableWriter(out / "examples.parquet", schema, LABEL_BYTES)
    with examples, TableWriter(out / "dropped.parquet", LOST) as dropped:
        for table in spooled.tables(decision, facts.answers.values):
            rows = table["row"].to_numpy()
            mine = table.filter(pa.array(kept[rows]))
            if is_weighted:
                mine = mine.append_column(WEIGHT, pa.array(weights[rows][kept[rows]]))
            examples.add(mine)
            agreed += int((mine["confidence"].to_numpy() >= 0.999).sum())
            lost = table.filter(pa.array(~kept[rows]))
            why = pa.array(reasons[facts.dropped[rows][~kept[rows]]], pa.string())
            dropped.add(lost.append_column("reason", why))
    return agreed


def _table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)


def _reasons(facts: ExampleFacts) -> dict[str, int]:
    """How many examples were dropped, by the reason; the most frequent first."""
    values = facts.reasons.values
    counts = Counter(facts.dropped[facts.dropped >= 0].tolist())
    return {values[place]: count for place, count in counts.most_common()}


def _nothing_left(name: str, facts: ExampleFacts) -> str:
    first = list(_reasons(facts).items())[:3]
    why = "; ".join(f"{count:,} x {reason}" for reason, count in first)
    return (
        f"recipe {name}: no example is left after label ({why}); correct `label` in "
        f"conf/recipe/{name}.yaml or the source's selector"
    )


def step(name: str) -> None:
    label(name)
    refuse_unlisted(name)


if __name__ == "__main__":
    main.of_data(step, "recipe")
