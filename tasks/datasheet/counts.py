"""The counts a datasheet tells, read off the tables of one recipe's data half."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from tidemill.engines.config.schema import RecipeConfig
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
    voters: list[dict[str, Any]]  # what each covers, contradicts and gets right
    small: dict[str, list[str]]  # slices too small to be judged by themselves
    weighted: int | None  # examples that count less in training; None where all count alike


def counts(recipe: RecipeConfig) -> Facts:
    """Read a recipe's data as it lies there."""
    name = recipe.application
    splits = paths.data("splits", name)
    report = json.loads((splits / "report.json").read_text())
    parts = []
    for split in SPLITS:
        part = pd.read_parquet(
            splits / f"{split}.parquet", columns=["doc_id", "source", "inputs", "target", "slices"]
        )
        part["language"] = [
            str(json.loads(item).get("language", "")) for item in part.pop("slices")
        ]
        part["chars"] = [
            sum(len(value) for value in json.loads(item).values() if isinstance(value, str))
            for item in part.pop("inputs")
        ]
        parts.append(part.assign(split=split))
    examples = pd.concat(parts, ignore_index=True)
    wanted = set(examples["doc_id"])
    documents, days, opt_outs, signals, personal = [], [], Counter[str](), [], Counter[str]()
    for use in recipe.sources:
        folder = paths.data("clean", use.name)
        found = pq.read_table(
            folder / "documents.parquet",
            columns=["doc_id", "host", "licence", "opt_out", "quality", "pii"],
        ).to_pandas()
        found = found[found["doc_id"].isin(wanted)]
        documents.append(found)
        signals += [json.loads(item) for item in found["quality"] if item]
        for item in found["pii"]:
            personal.update(json.loads(item) if item else {})
        opt_outs.update(
            "said nothing" if not item else "signals, none of which refuses"
            for item in found["opt_out"]
        )
        lineage = pq.read_table(folder / "lineage.parquet", columns=["fetched"]).column("fetched")
        days += [
            day
            for day in (min(lineage.to_pylist(), default=""), max(lineage.to_pylist(), default=""))
            if day
        ]
    examples = examples.merge(
        pd.concat(documents)[["doc_id", "host", "licence"]], on="doc_id", how="left"
    )
    steps, voters, weighted = [], [], None
    for step, folder_name, names in (
        ("clean", "clean", [use.name for use in recipe.sources]),
        ("select", "select", [name]),
        ("label", "labels", [name]),
        ("split", "splits", [name]),
    ):
        kept, lost = 0, Counter[str]()
        for each in names:
            told = json.loads((paths.data(folder_name, each) / "report.json").read_text())
            kept += told["rows"]
            voters += told.get("voters", [])
            lost.update(told["dropped"])
            weighted = told.get("issues", {}).get("weighted", weighted)
        steps.append((step, kept, dict(lost.most_common())))
    return Facts(
        report["snapshot"],
        examples,
        steps,
        opt_outs,
        (min(days, default="")[:10], max(days, default="")[:10]),
        pd.DataFrame(signals),
        personal,
        voters,
        report.get("small", {}),
        weighted,
    )


def shares(examples: Any, column: str, most: int = 40) -> list[tuple[str, dict[str, int]]]:
    """Values of a column with their rows in each split, the most frequent first."""
    table = examples.groupby([column, "split"]).size().unstack(fill_value=0)
    order = table.sum(axis=1).sort_values(ascending=False, kind="stable").index[:most]
    return [
        (str(value) or "not said", {split: int(table.loc[value].get(split, 0)) for split in SPLITS})
        for value in order
    ]
