"""The counts a datasheet tells, read off the tables of one recipe's data half."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from tidemill.engines.config.schema import RecipeConfig
from tidemill.records import blobs
from tidemill.records.reports import VoterRow
from tidemill.runtime import paths

SPLITS = ("train", "valid", "test")


@dataclass
class Facts:
    """What was counted of one snapshot."""

    digest: str
    examples: Any  # a frame: split, source, licence, host, language, chars, target
    steps: list[
        tuple[str, int, dict[str, int]]
    ]  # a step's name, what it kept, what it dropped by reason
    opt_outs: Counter[str]
    fetched: tuple[str, str]  # the first and the last day
    signals: Any  # a frame: a document's quality signals a row; of longer texts only
    personal: Counter[str]  # what was marked, by kind
    voters: list[VoterRow]  # what each covers, contradicts and gets right
    small: dict[str, list[str]]  # slices too small to be judged by themselves
    weighted: int | None  # examples that count less in training; None where all count alike


def counts(recipe: RecipeConfig) -> Facts:
    """Read a recipe's data as it lies there."""
    splits = paths.data("splits", recipe.application)
    report = json.loads((splits / "report.json").read_text())
    examples = pd.concat([_examples(splits, split) for split in SPLITS], ignore_index=True)
    wanted = {source: set(rows["doc_id"]) for source, rows in examples.groupby("source")}
    documents = pd.concat(
        [_documents(use.name, wanted.get(use.name, set())) for use in recipe.sources]
    )
    days = [day for use in recipe.sources for day in _days(use.name)]
    personal = Counter[str]()
    for item in documents["pii"]:
        personal.update(json.loads(item) if item else {})
    steps, voters, weighted = _steps(recipe)
    return Facts(
        digest=report["snapshot"],
        examples=examples.merge(
            documents[["source", "doc_id", "host", "licence"]], on=["source", "doc_id"], how="left"
        ),
        steps=steps,
        opt_outs=Counter(
            "said nothing" if not item else "signals, none of which refuses"
            for item in documents["opt_out"]
        ),
        fetched=(min(days, default="")[:10], max(days, default="")[:10]),
        signals=pd.DataFrame([json.loads(item) for item in documents["quality"] if item]),
        personal=personal,
        voters=voters,
        small=report.get("small", {}),
        weighted=weighted,
    )


def _examples(splits: Path, split: str) -> pd.DataFrame:
    """The rows of one split: where they come from, their language, length and answer."""
    columns = ["doc_id", "source", "inputs", "target", "slices"]
    rows = blobs.examples(splits / f"{split}.parquet", columns)
    rows["language"] = [str(json.loads(item).get("language", "")) for item in rows.pop("slices")]
    rows["chars"] = [
        sum(len(value) for value in json.loads(item).values() if isinstance(value, str))
        for item in rows.pop("inputs")
    ]
    return rows.assign(split=split)


def _documents(source: str, wanted: set[str]) -> pd.DataFrame:
    """The documents of a source that a row came from."""
    table = pq.read_table(
        paths.data("clean", source) / "documents.parquet",
        columns=["doc_id", "host", "licence", "opt_out", "quality", "pii"],
    ).to_pandas()
    return table[table["doc_id"].isin(wanted)].assign(source=source)


def _days(source: str) -> list[str]:
    """When the first and the last of a source's records were fetched; empty without records."""
    lineage = pq.read_table(paths.data("clean", source) / "lineage.parquet", columns=["fetched"])
    times = lineage.column("fetched").to_pylist()
    return [day for day in (min(times, default=""), max(times, default="")) if day]


def _steps(
    recipe: RecipeConfig,
) -> tuple[list[tuple[str, int, dict[str, int]]], list[VoterRow], int | None]:
    """What each step kept and dropped, the labelling functions, and the examples of less weight."""
    name = recipe.application
    steps: list[tuple[str, int, dict[str, int]]] = []
    voters: list[VoterRow] = []
    weighted = None
    for step, folder, names in (
        ("clean", "clean", [use.name for use in recipe.sources]),
        ("select", "select", [name]),
        ("label", "labels", [name]),
        ("split", "splits", [name]),
    ):
        kept, lost = 0, Counter[str]()
        for each in names:
            report = json.loads((paths.data(folder, each) / "report.json").read_text())
            kept += report["rows"]
            voters += report.get("voters", [])
            lost.update(report["dropped"])
            weighted = report.get("issues", {}).get("weighted", weighted)
        steps.append((step, kept, dict(lost.most_common())))
    return steps, voters, weighted


def shares(examples: Any, column: str, most: int = 40) -> list[tuple[str, dict[str, int]]]:
    """Values of a column with their rows in each split, the most frequent first."""
    table = examples.groupby([column, "split"]).size().unstack(fill_value=0)
    order = table.sum(axis=1).sort_values(ascending=False, kind="stable").index[:most]
    return [
        (str(value) or "not said", {split: int(table.loc[value].get(split, 0)) for split in SPLITS})
        for value in order
    ]
