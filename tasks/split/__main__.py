"""python -m tasks.split RECIPE: data/labels/RECIPE to data/splits/RECIPE."""

import hashlib
import json
from datetime import date, timedelta

import pandas as pd
import pyarrow as pa

from tidemill.engines import config
from tidemill.engines.config.schema import Recipe, SplitRule
from tidemill.records.tables import EXAMPLES, LOST, WEIGHT, save
from tidemill.run import main
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import locked, swept, write_json
from tidemill.text import normal
from tidemill.text.duplicates import Sets, pairs

SPLITS = ("train", "valid", "test")
EMBARGO = "in the embargo before "


def split(name: str) -> None:
    recipe = config.recipe(name)
    out = paths.data("splits", name)
    path = paths.data("labels", name) / "examples.parquet"
    if not path.is_file():
        raise Refused(f"data/labels/{name} has no examples; run python -m tasks.label {name}")
    with locked(paths.state("locks", f"split-{name}")):
        swept(out)
        examples = pd.read_parquet(path)
        process.progress(0, len(examples), "examples")
        where = assign(recipe, examples)
        held = where.str.startswith(EMBARGO)
        reasons = pd.Series([None] * len(examples), index=examples.index, dtype=object)
        reasons[held] = where[held]
        reasons[~held] = leaks(
            examples[~held], where[~held], recipe.split.near_duplicates, recipe.split.ngram
        )
        parts = {part: examples[(where == part) & reasons.isna()] for part in SPLITS}
        for part, chosen in parts.items():
            if chosen.empty:
                raise Refused(
                    f"recipe {name}: no {part} example; correct split.rules in conf/recipe/{name}.yaml"
                )
        for part, chosen in parts.items():
            save(out / f"{part}.parquet", *wide(chosen))
        rows = {part: len(chosen) for part, chosen in parts.items()}
        lost = examples[reasons.notna()].assign(reason=reasons[reasons.notna()])
        save(
            out / "dropped.parquet",
            pa.Table.from_pandas(lost[LOST.names], schema=LOST, preserve_index=False),
            LOST,
        )
        write_json(
            out / "report.json",
            {
                "rows": sum(rows.values()),
                "dropped": lost["reason"].value_counts().sort_index().to_dict(),
                "counts": rows,
                "snapshot": snapshot(examples.assign(split=where)[reasons.isna()]),
                "small": small(recipe, examples[(where == "test") & reasons.isna()]),
            },
        )
        process.progress(len(examples), len(examples), "examples")


def snapshot(rows: pd.DataFrame) -> str:
    """The digest of the canonical split rows: free of times and of positions; a payload counts by its sha256, a weight where there are any."""
    total = hashlib.sha256()
    columns = [
        "example_id",
        "split",
        "inputs",
        "target",
        "slices",
        *([WEIGHT.name] if WEIGHT.name in rows else []),
    ]
    ordered = rows.sort_values("example_id")
    payloads = ordered["payload"] if "payload" in ordered else [None] * len(ordered)
    for row, payload in zip(ordered[columns].itertuples(index=False), payloads, strict=True):
        told = list(row) if payload is None else [*row, hashlib.sha256(payload).hexdigest()]
        total.update(json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode())
    return total.hexdigest()


def share(value: str) -> float:
    """A number in [0, 1) that a value always has."""
    return int(hashlib.sha256(value.encode()).hexdigest()[:13], 16) / 16**13


def assign(recipe: Recipe, examples: pd.DataFrame) -> pd.Series:
    """The split of every example."""
    where = pd.Series("train", index=examples.index, dtype=object)
    for rule in recipe.split.rules:
        mine = examples["source"] == rule.source
        where[mine] = place(rule, examples[mine])
    return where


def place(rule: SplitRule, rows: pd.DataFrame) -> pd.Series:
    if rule.by == "test":
        return pd.Series("test", index=rows.index, dtype=object)
    if rule.column not in rows:
        raise Refused(
            f"split rule of {rule.source}: no column '{rule.column}'; examples have {', '.join(rows.columns)}"
        )
    if rule.by == "values":
        named = {
            value: part
            for part in ("valid", "test")
            if not isinstance(getattr(rule, part), float)
            for value in getattr(rule, part)
        }
        where = rows[rule.column].map(lambda value: named.get(value, "train"))
        if isinstance(rule.valid, float):
            where[(where == "train") & (rows["doc_id"].map(share) < rule.valid)] = "valid"
        return where
    if rule.by == "time":
        return timed(rule, rows[rule.column])
    test, valid = float(rule.test), float(rule.valid)  # type: ignore[arg-type]
    shares = rows[rule.column].map(share)
    return shares.map(
        lambda value: "test" if value < test else "valid" if value < test + valid else "train"
    )


def timed(rule: SplitRule, dates: pd.Series) -> pd.Series:
    """Train before `valid` begins, valid before `test` begins; the days of the embargo before either belong to neither."""
    wrong = dates[~dates.astype(str).str.fullmatch(r"\d{4}-\d\d-\d\d")]
    if len(wrong):
        raise Refused(
            f"split rule of {rule.source}: column '{rule.column}' has {wrong.iloc[0]!r}, which is no date; it must hold YYYY-MM-DD"
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


def leaks(examples: pd.DataFrame, where: pd.Series, threshold: float, ngram: int = 0) -> pd.Series:
    """Why a row of train or valid is left out: it is a copy of a test row with the same target, in one cluster with one, or shares words in a row with one.

    A row of train that is so related to one of valid goes too. A cluster is everything that near copies lead to, one after the other.
    """
    reasons = pd.Series([None] * len(examples), index=examples.index, dtype=object)
    rank = where.map({part: number for number, part in enumerate(SPLITS)}).tolist()
    payloads = examples["payload"] if "payload" in examples else [None] * len(examples)
    words, groups = [], []
    for inputs, target, payload in zip(
        examples["inputs"], examples["target"], payloads, strict=True
    ):
        asked = said(inputs) if payload is None else normal.in_letters(payload)
        # Where nothing is asked, the answer is the text: copies of it are copies of the row.
        words.append(asked if payload is not None or asked.strip() else said(target))
        groups.append(target if payload is not None or asked.strip() else "")
    found = pairs(words, groups, threshold)
    exact, near = Sets(len(examples)), Sets(len(examples))
    for left, right, how in found:
        for sets in (exact, near) if how == "exact" else (near,):
            sets.join(left, right)
    shared = together(words, groups, rank, ngram) if ngram else [0] * len(examples)
    strictest: dict[tuple[str, int], int] = {}
    for row in range(len(examples)):
        for name, sets in (("exact", exact), ("near", near)):
            key = (name, sets.find(row))
            strictest[key] = max(strictest.get(key, 0), rank[row])
    for row in range(len(examples)):
        same, alike = strictest["exact", exact.find(row)], strictest["near", near.find(row)]
        if rank[row] < same:
            reasons.iloc[row] = f"exact duplicate of a {SPLITS[same]} row"
        elif rank[row] < alike:
            reasons.iloc[row] = f"near duplicate of a {SPLITS[alike]} row"
        elif rank[row] < shared[row]:
            reasons.iloc[row] = f"{ngram} words in a row with a {SPLITS[shared[row]]} row"
    return reasons


def together(words: list[str], groups: list[str], rank: list[int], size: int) -> list[int]:
    """The strictest split that has `size` words in a row with each row, of the same group."""
    held: dict[
        int, int
    ] = {}  # of what valid and test say: a run's hash to the strictest of the splits that have it
    runs: dict[int, list[int]] = {}
    for row in sorted(range(len(words)), key=lambda row: -rank[row]):
        found = [hash((groups[row], *run)) for run in normal.runs(words[row], size)]
        if not found:
            continue
        runs[row] = found
        for run in found if rank[row] else ():
            held[run] = max(held.get(run, 0), rank[row])
    return [
        max((held.get(run, 0) for run in runs.get(row, ())), default=0) for row in range(len(words))
    ]


def small(recipe: Recipe, test: pd.DataFrame) -> dict[str, list[str]]:
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
    """The examples with a column for each slice beside the JSON, for whoever reads them as a table."""
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


def said(inputs: str) -> str:
    """The words of a question or an answer: the values of its JSON, without the keys."""
    return " ".join(str(value) for value in json.loads(inputs).values())


if __name__ == "__main__":
    main.of_data(split, "recipe")
