"""What changed between two snapshots, by source and language.

Documents came, went, say something else, or are in another split.
"""

import json
from pathlib import Path
from typing import Any

from tidemill.records.receipts import DiffRow

SPLITS = ("train", "valid", "test")
COLUMNS = ["example_id", "doc_id", "source", "language", "split", "target"]


def rows(splits: Path) -> Any:
    """The examples of a snapshot as a frame of COLUMNS, without their words."""
    import pandas as pd

    parts = []
    for split in SPLITS:
        part = pd.read_parquet(
            splits / f"{split}.parquet",
            columns=["example_id", "doc_id", "source", "target", "slices"],
        )
        part["language"] = [
            str(json.loads(item).get("language", "")) for item in part.pop("slices")
        ]
        parts.append(part.assign(split=split))
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def between(old: Any, new: Any) -> list[DiffRow]:
    """A row a source and language where something changed.

    added, gone: examples of documents that were not there before, or are not there any more;
    changed: examples of documents that are in both, which ask something else now, or are answered
    otherwise; moved: examples that are in both, in another split, as a rule of conf/ that changed
    or that knows more than the row moves them.
    """
    import pandas as pd

    before, after = set(old["doc_id"]), set(new["doc_id"])
    known = old[["example_id", "target", "split"]]
    both = new.merge(known, on="example_id", suffixes=("", "_old"))
    same = set(both.loc[both["target"] == both["target_old"], "example_id"])
    differing = pd.concat(
        [
            new[~new["doc_id"].isin(before)].assign(what="added"),
            old[~old["doc_id"].isin(after)].assign(what="gone"),
            new[new["doc_id"].isin(before) & ~new["example_id"].isin(same)].assign(what="changed"),
            # A document may have fewer examples than before.
            old[
                old["doc_id"].isin(after)
                & ~old["example_id"].isin(set(new["example_id"]))
                & ~old["doc_id"].isin(set(new.loc[~new["example_id"].isin(same), "doc_id"]))
            ].assign(what="changed"),
            both.loc[both["split"] != both["split_old"], new.columns].assign(what="moved"),
        ]
    )
    return [] if differing.empty else _counted(differing)


def _counted(differing: Any) -> list[DiffRow]:
    """How many examples of each source and language differ, and in what."""
    counted = differing.groupby(["source", "language", "what"]).size().unstack(fill_value=0)
    return [
        {
            "source": source,
            "language": language,
            "added": int(row.get("added", 0)),
            "changed": int(row.get("changed", 0)),
            "gone": int(row.get("gone", 0)),
            "moved": int(row.get("moved", 0)),
        }
        for (source, language), row in counted.iterrows()
    ]


def totals(by: list[DiffRow]) -> dict[str, int]:
    return {
        "added": sum(row["added"] for row in by),
        "changed": sum(row["changed"] for row in by),
        "gone": sum(row["gone"] for row in by),
        "moved": sum(row.get("moved", 0) for row in by),
    }
