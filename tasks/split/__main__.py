"""python -m tasks.split RECIPE: data/labels/RECIPE to data/splits/RECIPE."""

import hashlib
import json
from datetime import date, timedelta

import pandas as pd
import pyarrow as pa

from tasks import config, places, process
from tasks.documents import EXAMPLES, LOST, in_letters, save
from tasks.errors import Refused
from tasks.files import locked, write_json
from tasks.schema import Recipe, SplitRule
from tasks.select.twins import pairs

SPLITS = ("train", "valid", "test")
EMBARGO = "in the embargo before "


def split(name: str) -> None:
    recipe = config.recipe(name)
    out = places.data("splits", name)
    path = places.data("labels", name) / "examples.parquet"
    if not path.is_file():
        raise Refused(f"data/labels/{name} has no examples; run python -m tasks.label {name}")
    with locked(places.state("locks", f"split-{name}")):
        examples = pd.read_parquet(path)
        process.progress(0, len(examples), "examples")
        where = assign(recipe, examples)
        held = where.str.startswith(EMBARGO)
        reasons = pd.Series([None] * len(examples), index=examples.index, dtype=object)
        reasons[held] = where[held]
        reasons[~held] = leaks(examples[~held], where[~held], recipe.split.near_duplicates)
        rows = {}
        for part in SPLITS:
            chosen = examples[(where == part) & reasons.isna()]
            rows[part] = len(chosen)
            if chosen.empty:
                raise Refused(f"recipe {name}: no {part} example; correct split.rules in conf/recipe/{name}.yaml")
            save(out / f"{part}.parquet", pa.Table.from_pandas(chosen[EXAMPLES.names], schema=EXAMPLES, preserve_index=False), EXAMPLES)
        lost = examples[reasons.notna()].assign(reason=reasons[reasons.notna()])
        save(out / "dropped.parquet", pa.Table.from_pandas(lost[LOST.names], schema=LOST, preserve_index=False), LOST)
        write_json(out / "report.json", {
            "rows": sum(rows.values()), "dropped": lost["reason"].value_counts().sort_index().to_dict(), "counts": rows,
            "snapshot": snapshot(examples.assign(split=where)[reasons.isna()]),
        })
        process.progress(len(examples), len(examples), "examples")


def snapshot(rows: pd.DataFrame) -> str:
    """The digest of the canonical split rows: free of times and of positions; a payload counts by its sha256."""
    total = hashlib.sha256()
    columns = ["example_id", "split", "inputs", "target", "slices"]
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
        raise Refused(f"split rule of {rule.source}: no column '{rule.column}'; examples have {', '.join(rows.columns)}")
    if rule.by == "values":
        named = {value: part for part in ("valid", "test") if not isinstance(getattr(rule, part), float) for value in getattr(rule, part)}
        where = rows[rule.column].map(lambda value: named.get(value, "train"))
        if isinstance(rule.valid, float):
            where[(where == "train") & (rows["doc_id"].map(share) < rule.valid)] = "valid"
        return where
    if rule.by == "time":
        return timed(rule, rows[rule.column])
    test, valid = float(rule.test), float(rule.valid)  # type: ignore[arg-type]
    shares = rows[rule.column].map(share)
    return shares.map(lambda value: "test" if value < test else "valid" if value < test + valid else "train")


def timed(rule: SplitRule, dates: pd.Series) -> pd.Series:
    """Train before `valid` begins, valid before `test` begins; the days of the embargo before either belong to neither."""
    wrong = dates[~dates.astype(str).str.fullmatch(r"\d{4}-\d\d-\d\d")]
    if len(wrong):
        raise Refused(f"split rule of {rule.source}: column '{rule.column}' has {wrong.iloc[0]!r}, which is no date; it must hold YYYY-MM-DD")
    assert isinstance(rule.valid, date) and isinstance(rule.test, date)
    before = timedelta(days=rule.embargo)
    edges = [((rule.valid - before).isoformat(), "train"), (rule.valid.isoformat(), f"{EMBARGO}valid"),
             ((rule.test - before).isoformat(), "valid"), (rule.test.isoformat(), f"{EMBARGO}test")]
    return dates.map(lambda day: next((part for edge, part in edges if day < edge), "test"))


def leaks(examples: pd.DataFrame, where: pd.Series, threshold: float) -> pd.Series:
    """Why a row of train or valid is left out: it is a copy of a test row with the same target.

    A row of train that is a copy of one of valid goes too.
    """
    reasons = pd.Series([None] * len(examples), index=examples.index, dtype=object)
    rank = where.map({part: number for number, part in enumerate(SPLITS)}).tolist()
    first = list(range(len(examples)))          # the first of a row's exact copies
    near: list[tuple[int, int]] = []
    payloads = examples["payload"] if "payload" in examples else [None] * len(examples)
    words = [said(item) if payload is None else in_letters(payload) for item, payload in zip(examples["inputs"], payloads, strict=True)]
    for left, right, how in pairs(words, examples["target"].tolist(), threshold):
        if how == "exact":
            first[right] = left
        else:
            near.append((left, right))
    strictest = dict.fromkeys(first, 0)         # the strictest split of a set of exact copies
    for row, one in enumerate(first):
        strictest[one] = max(strictest[one], rank[row])
    beside = dict(strictest)                    # and of the sets it is nearly a copy of
    for left, right in near:
        beside[left] = max(beside[left], strictest[right])
        beside[right] = max(beside[right], strictest[left])
    for row, one in enumerate(first):
        if rank[row] < strictest[one]:
            reasons.iloc[row] = f"exact duplicate of a {SPLITS[strictest[one]]} row"
        elif rank[row] < beside[one]:
            reasons.iloc[row] = f"near duplicate of a {SPLITS[beside[one]]} row"
    return reasons


def said(inputs: str) -> str:
    """The words of a question: the values of its JSON, without the keys."""
    return " ".join(str(value) for value in json.loads(inputs).values())


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise Refused(f"python -m tasks.split RECIPE; conf/recipe has {', '.join(config.files('recipe'))}")
    split(arguments[0])


if __name__ == "__main__":
    process.main(main, "python -m tasks.split RECIPE: train, valid and test.")
