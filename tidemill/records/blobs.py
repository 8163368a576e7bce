"""Rows whose pictures, sounds and series lie once in packs, and in tables as digests.

A table names a row's blob in the column `blob`. Whoever reads it gets the bytes as `payload`, and
`inputs` with the blob as base64 in its place, as a client asks; in tables `MARK` stands there.
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from tidemill.records.packs import Packs
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault, Refused

MARK = '"@blob"'  # in `inputs`, instead of a blob as base64


@lru_cache(maxsize=16)
def _packs(folder: Path, changed_ns: int) -> Packs:
    def damaged(what: str) -> Fault:
        source, tables = folder.name, folder.parent.parent
        if tables.name != "data":
            return Fault(f"{folder}: {what}; remove {tables} and run again")
        place = f"data/blobs/{source}"
        return Fault(
            f"{place}: {what}; bring it back with dvc pull --force {place}, or make it anew with "
            f"dvc repro --force --single-item clean@{source} and then dvc repro"
        )

    return Packs(folder, damaged)


def packs(source: str, tables: Path) -> Packs:
    """A source's packs by the folder of the tables that name them.

    Beside a restored snapshot's tables, else in the data folder that they lie in.
    """
    folder = (tables / "blobs" / source).absolute()
    if not folder.is_dir():
        folder = tables.absolute().parent.parent / "blobs" / source
    listed = folder / "packs.json"
    return _packs(folder, listed.stat().st_mtime_ns if listed.is_file() else 0)


def filled(frame: pd.DataFrame, tables: Path) -> pd.DataFrame:
    """The rows of a table of this folder, with the bytes of their blobs as `payload`.

    Their `inputs` are as a client asks.
    """
    if "blob" not in frame or frame["blob"].isna().all():
        return frame
    payloads = list(frame["payload"]) if "payload" in frame else [None] * len(frame)
    inputs = list(frame["inputs"]) if "inputs" in frame else []
    for row, (digest, source) in enumerate(zip(frame["blob"], frame["source"], strict=True)):
        if pd.isna(digest):
            continue
        blob = packs(source, tables).get(digest)
        payloads[row] = blob
        if inputs:
            inputs[row] = inputs[row].replace(MARK, _quoted(blob))
    whole = frame.assign(payload=pd.Series(payloads, index=frame.index, dtype=object))
    if not inputs:
        return whole
    kind = frame["inputs"].dtype
    return whole.assign(inputs=pd.Series(inputs, index=frame.index, dtype=kind))


def stripped(frame: pd.DataFrame) -> pd.DataFrame:
    """Examples as tables hold them: a payload that is its document's blob is a digest alone.

    What is no blob stays as it is: a payload that a recipe made, and `inputs` in which it could not
    be told from MARK.
    """
    if "payload" not in frame or frame["payload"].isna().all():
        return frame.assign(payload=None, blob=None)
    inputs, payloads = list(frame["inputs"]), list(frame["payload"])
    blobs: list[str | None] = [None] * len(frame)
    for row, digest in enumerate(frame.get("blob", blobs)):
        payload = payloads[row]
        is_blob = payload is not None and hashlib.sha256(payload).hexdigest() == digest
        if is_blob and MARK not in inputs[row]:
            inputs[row] = inputs[row].replace(_quoted(payload), MARK)
            blobs[row], payloads[row] = digest, None
    columns = {"inputs": inputs, "payload": payloads, "blob": blobs}
    return frame.assign(
        **{
            name: pd.Series(values, index=frame.index, dtype=object)
            for name, values in columns.items()
        }
    )


def _quoted(blob: bytes) -> str:
    """A blob as a string of JSON."""
    return f'"{base64.b64encode(blob).decode("ascii")}"'


def documents_path(recipe: str) -> Path:
    """Where the documents lie that were selected for a recipe. Raises Refused."""
    path = paths.data("select", recipe) / "documents.parquet"
    if not path.is_file():
        raise Refused(f"data/select/{recipe} has no documents; run python -m tasks.select {recipe}")
    if "blob" not in pq.read_schema(path).names:
        raise earlier(f"data/select/{recipe}", f"select@{recipe}")
    return path


def documents(recipe: str) -> pd.DataFrame:
    """The documents that were selected for a recipe, with their payloads. Raises Refused."""
    path = documents_path(recipe)
    return filled(pd.read_parquet(path), path.parent)


def earlier(folder: str, stage: str) -> Refused:
    """Refusal of tables from before pictures lay in packs; they have the ids of today."""
    return Refused(
        f"{folder} is of an earlier form, with pictures in its tables; make it anew, from the same "
        f"data/raw with the same ids: dvc repro {stage}"
    )


def examples(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The rows of a table of examples, with payloads and `inputs` where those are asked for.

    A snapshot that was made before blobs lay in packs has them in the table; it is read as it is.
    """
    there = pq.read_schema(path).names
    wanted = list(there if columns is None else columns)
    if "blob" not in there or not {"payload", "inputs"} & set(wanted):
        return pd.read_parquet(path, columns=wanted)
    needed = dict.fromkeys([*wanted, "blob", "source"])
    return filled(pd.read_parquet(path, columns=list(needed)), path.parent)[wanted]


def sources(folder: Path) -> set[str]:
    """The sources whose blobs the tables in a folder name."""
    named: set[str] = set()
    for path in folder.glob("*.parquet"):
        if {"blob", "source"} <= set(pq.read_schema(path).names):
            rows = pd.read_parquet(path, columns=["blob", "source"])
            named |= set(rows.loc[rows["blob"].notna(), "source"])
    return named
