"""What each data step leaves: its folder under data/, and the files in it.

report.json is always the last.
"""

from typing import NamedTuple


class Outputs(NamedTuple):
    folder: str
    files: tuple[str, ...]
    folders: tuple[str, ...] = ()  # under data/, each with one for every source or recipe


OUTPUTS = {
    "clean": Outputs(
        "clean",
        ("documents.parquet", "dropped.parquet", "lineage.parquet", "report.json"),
        ("blobs",),
    ),
    "select": Outputs("select", ("documents.parquet", "dropped.parquet", "report.json")),
    "label": Outputs(
        "labels", ("examples.parquet", "dropped.parquet", "issues.parquet", "report.json")
    ),
    "split": Outputs(
        "splits",
        (
            "train.parquet",
            "valid.parquet",
            "test.parquet",
            "dropped.parquet",
            "buckets.parquet",
            "report.json",
        ),
    ),
}
