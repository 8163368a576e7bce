"""python -m tasks.split RECIPE: data/labels/RECIPE to data/splits/RECIPE."""

import hashlib
import json
from collections.abc import Mapping
from datetime import date, timedelta

import pandas as pd
import pyarrow as pa

from tasks.split.digest import buckets, snapshot
from tasks.split.last import last, named_column, row_name
from tasks.split.leaks import SPLITS, leaks
from tidemill import contract
from tidemill.engines import config
from tidemill.engines.config.schema import RecipeConfig, SplitRule
from tidemill.records import blobs, carried
from tidemill.records.tables import BUCKETS, EXAMPLES, LOST, WEIGHT, save
from tidemill.run import main
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import locked, swept, write_json

EMBARGO = "in the embargo before "


def split(name: str) -> None:
    recipe = config.recipe(name)
    out = paths.data("splits", name)
    path = paths.data("labels", name) / "examples.parquet"
    if not path.is_file():
        raise Refused(f"data/labels/{name} has no examples; run python -m tasks.label {name}")
    with locked(paths.state("locks", f"split-{name}")):
        swept(out)
        examples = blobs.examples(path)
        if "blob" not in examples:
            raise blobs.earlier(f"data/labels/{name}", f"label@{name}")
        process.progress(0, len(examples), "examples")
        where = _assigned(recipe, examples)
        reasons = left_out(recipe, examples, where)
        refuse_empty(name, where, reasons)
        parts = {part: examples[(where == part) & reasons.isna()] for part in SPLITS}
        for part, chosen in parts.items():
            save(out / f"{part}.parquet", *wide(chosen))
        rows = {part: len(chosen) for part, chosen in parts.items()}
        lost = examples[reasons.notna()].assign(reason=reasons[reasons.notna()])
        table = pa.Table.from_pandas(lost[LOST.names], schema=LOST, preserve_index=False)
        save(out / "dropped.parquet", table, LOST)
        kept_rows = buckets(examples.assign(split=where)[reasons.isna()])
        save(out / "buckets.parquet", kept_rows, BUCKETS)
        report = {
            "rows": sum(rows.values()),
            "dropped": lost["reason"].value_counts().sort_index().to_dict(),
            "counts": rows,
            "snapshot": snapshot(kept_rows),
            "small": small(recipe, parts["test"]),
        }
        write_json(out / "report.json", report)
        process.progress(len(examples), len(examples), "examples")


def _assigned(recipe: RecipeConfig, examples: pd.DataFrame) -> pd.Series:
    """The split of every example, by the ids by which its document was split first.

    Raises Refused where documents have other ids than in the last snapshot, and would move.
    """
    name = recipe.application
    first = carried.read(name)
    where = assign(recipe, by_first_ids(examples, first))
    documents = set(zip(examples["source"], examples["doc_id"], strict=True))
    uncarried = carried.uncarried(name, documents)
    if not uncarried:
        return where
    before = assign(recipe, by_first_ids(examples, first | uncarried))
    if moved := int((where != before).sum()):
        raise Refused(
            f"recipe {name}: {len(uncarried):,} documents have another id than in the last "
            f"snapshot, which would move {moved:,} examples to other splits; keep them where they "
            f"are with: tidemill data carry {name} (or remove .tidemill/snapshots/{name} to split "
            "all anew)"
        )
    return where


def by_first_ids(examples: pd.DataFrame, first: Mapping[str, str]) -> pd.DataFrame:
    """The examples under the ids by which their documents were split first."""
    if not first:
        return examples
    ids = examples["doc_id"].map(lambda doc_id: first.get(doc_id, doc_id))
    pairs = zip(ids, examples["inputs"], strict=True)
    return examples.assign(
        doc_id=ids,
        unit=examples["unit"].map(lambda unit: first.get(unit, unit)),
        example_id=[carried.example_id(*pair) for pair in pairs],
    )


def left_out(recipe: RecipeConfig, examples: pd.DataFrame, where: pd.Series) -> pd.Series:
    """Why each example is in no split, or None."""
    held = where.str.startswith(EMBARGO)
    reasons = pd.Series([None] * len(examples), index=examples.index, dtype=object)
    reasons[held] = where[held]
    prose = contract.application(recipe.application).prose
    policy = recipe.split
    reasons[~held] = leaks(
        examples[~held],
        where[~held],
        policy.near_duplicates,
        policy.ngram,
        prose,
        policy.copies == "rows",
    )
    return reasons


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
        of = "test" if reasons[mine].str.contains("a test row").all() else "test or validation"
        why = reasons[mine].value_counts()
        counts = "; ".join(f"{count:,} x {reason}" for reason, count in why.items())
        raise Refused(
            f"recipe {name}: all {int(mine.sum()):,} {called} rows were left out as copies of "
            f"{of} rows ({counts}); correct split.near_duplicates, split.ngram or what the "
            f"application calls prose; where one question has many right answers, set "
            f"split.copies: rows"
        )


def share(value: str) -> float:
    """A number in [0, 1) that a value always has."""
    return int(hashlib.sha256(value.encode()).hexdigest()[:13], 16) / 16**13


def assign(recipe: RecipeConfig, examples: pd.DataFrame) -> pd.Series:
    """The split of every example."""
    where = pd.Series("train", index=examples.index, dtype=object)
    for rule in recipe.split.rules:
        mine = examples["source"] == rule.source
        where[mine] = place(rule, examples[mine])
    return where


def place(rule: SplitRule, rows: pd.DataFrame) -> pd.Series:
    """The split of each row of a rule's source.

    Raises Refused where a column is missing or a value is null.
    """
    if rule.by == "test":
        return pd.Series("test", index=rows.index, dtype=object)
    values = named_column(rule, rule.column, rows)
    if rule.by == "values":
        return _by_values(rule, rows, values)
    if rule.by == "time":
        return timed(rule, rows, values)
    if rule.by == "last":
        return last(rule, rows, values)
    test, valid = float(rule.test), float(rule.valid)  # type: ignore[arg-type]
    shares = values.astype(str).map(share)
    return shares.map(
        lambda value: "test" if value < test else "valid" if value < test + valid else "train"
    )


def _by_values(rule: SplitRule, rows: pd.DataFrame, values: pd.Series) -> pd.Series:
    named = {
        value: part
        for part in ("valid", "test")
        if not isinstance(getattr(rule, part), float)
        for value in getattr(rule, part)
    }
    where = values.astype(str).map(lambda value: named.get(value, "train"))
    if isinstance(rule.valid, float):
        where[(where == "train") & (rows["doc_id"].map(share) < rule.valid)] = "valid"
    return where


def timed(rule: SplitRule, rows: pd.DataFrame, dates: pd.Series) -> pd.Series:
    """Train before `valid` begins, valid before `test` begins.

    Days of the embargo before either belong to neither.
    """
    wrong = dates[~dates.map(_is_date)]
    if len(wrong):
        raise Refused(
            f"split rule of {rule.source}: column '{rule.column}' has {wrong.iloc[0]!r}, which is "
            f"no date, in row {row_name(rows, wrong.index[0])}; it must hold YYYY-MM-DD"
        )
    assert isinstance(rule.valid, date) and isinstance(rule.test, date)
    before = timedelta(days=rule.embargo)
    edges = [
        ((rule.valid - before).isoformat(), "train"),
        (rule.valid.isoformat(), f"{EMBARGO}valid"),
        ((rule.test - before).isoformat(), "valid"),
        (rule.test.isoformat(), f"{EMBARGO}test"),
    ]
    return dates.map(lambda day: next((part for edge, part in edges if day < edge), "test"))


def _is_date(value: object) -> bool:
    """Whether it is a day of the calendar, as YYYY-MM-DD; 2025-02-30 is none."""
    try:
        return date.fromisoformat(str(value)).isoformat() == value
    except ValueError:
        return False


def small(recipe: RecipeConfig, test: pd.DataFrame) -> dict[str, list[str]]:
    """The slices of the test rows that are too few to be judged by themselves, by column."""
    told = pd.DataFrame([json.loads(item) for item in test["slices"]])
    found = {}
    for column in recipe.score.slices:
        if column in told:
            counted = (
                pd.DataFrame({"slice": told[column].astype(str), "unit": test["unit"].to_numpy()})
                .groupby("slice")["unit"]
                .agg(["size", "nunique"])
            )
            few = counted[
                (counted["size"] < recipe.score.min_rows)
                | (counted["nunique"] < recipe.score.min_units)
            ]
            if len(few):
                found[column] = sorted(few.index)
    return found


def wide(chosen: pd.DataFrame) -> tuple[pa.Table, pa.Schema]:
    """The examples with a column for each slice beside the JSON, for those who read tables."""
    chosen = blobs.stripped(chosen)
    told = [json.loads(item) for item in chosen["slices"]]
    names = sorted({name for item in told for name in item})
    schema = EXAMPLES.append(WEIGHT) if WEIGHT.name in chosen else EXAMPLES
    own = schema.names
    for name in names:
        schema = schema.append(pa.field(f"slice_{name}", pa.string()))
    more = pd.DataFrame(
        {
            f"slice_{name}": [None if item.get(name) is None else str(item[name]) for item in told]
            for name in names
        },
        index=chosen.index,
        dtype=object,
    )
    return pa.Table.from_pandas(
        pd.concat([chosen[own], more], axis=1)[schema.names], schema=schema, preserve_index=False
    ), schema


if __name__ == "__main__":
    main.of_data(split, "recipe")
