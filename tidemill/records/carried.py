"""Ids that documents had before: what was decided by them holds for those of today.

data/carried/RECIPE.parquet, in git, made by `tidemill data carry`. A document is split by the id it
had when it was split first, so none moves from test to train because ids are made in another way,
or because its source names a key now.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tidemill.records.tables import save
from tidemill.runtime import paths
from tidemill.runtime.errors import Refused

CARRIED = pa.schema([("doc_id", pa.binary()), ("former", pa.binary())])


def path(recipe: str) -> Path:
    return paths.data("carried", recipe).with_suffix(".parquet")


def read(recipe: str) -> dict[str, str]:
    """The id that each carried document had first, by its id of today."""
    file = path(recipe)
    if not file.is_file():
        return {}
    try:
        table = pq.read_table(file, schema=CARRIED)
    except (pa.ArrowException, OSError) as error:
        raise Refused(
            f"data/carried/{recipe}.parquet cannot be read ({' '.join(str(error).split())[:100]}); "
            f"bring it back from git, or remove it and run: tidemill data carry {recipe}"
        ) from error
    ids = ([each.hex() for each in table[name].to_pylist()] for name in CARRIED.names)
    return dict(zip(*ids, strict=True))


def write(recipe: str, ids: Mapping[str, str]) -> None:
    """Keep first ids by those of today; equal ids give equal bytes."""
    pairs = sorted((bytes.fromhex(today), bytes.fromhex(first)) for today, first in ids.items())
    columns = [[pair[place] for pair in pairs] for place in range(len(CARRIED))]
    path(recipe).parent.mkdir(parents=True, exist_ok=True)
    save(path(recipe), pa.table(columns, schema=CARRIED), CARRIED)


def example_id(doc_id: str, inputs: str) -> str:
    """An example is known by its question and its document.

    So a changed label keeps its place in the split.
    """
    return hashlib.sha256(f"{doc_id}\x1f{inputs}".encode()).hexdigest()[:24]


def candidates(documents: Iterable[tuple[str, str]]) -> dict[tuple[str, str], list[str]]:
    """The ids that documents, (source, id) each, may have had before.

    By their place, as in a project made before documents were known by what they are; by their
    content, from before their source named a key. Raises Refused.
    """
    former = {}
    columns = ["doc_id", "place", "content_id"]
    wanted: dict[str, list[str]] = {}
    for source, doc_id in documents:
        wanted.setdefault(source, []).append(doc_id)
    for source, mine in sorted(wanted.items()):
        file = paths.data("clean", source) / "lineage.parquet"
        try:
            table = pq.read_table(file, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise Refused(
                f"data/clean/{source} is not there or of an earlier form; "
                f"run: dvc repro clean@{source}"
            ) from error
        table = table.filter(pc.is_in(table["doc_id"], value_set=pa.array(mine, pa.string())))
        rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
        for doc_id, place, content_id in rows:
            known = [_by_place(source, place), content_id]
            former[source, doc_id] = [each for each in known if each not in ("", doc_id)]
    return former


def _by_place(source: str, place: str) -> str:
    return hashlib.sha256(f"{source} {place}".encode()).hexdigest()[:24]


def split_before(recipe: str) -> np.ndarray:
    """Numbers, sorted, for the ids of documents that the last snapshot has, as this machine knows.

    (N,) uint64, as `numbers` gives them.
    """
    file = paths.state("snapshots", recipe, "rows.parquet")
    if not file.is_file():
        return np.zeros(0, dtype=np.uint64)
    return np.unique(numbers(pq.read_table(file, columns=["doc_id"])["doc_id"].to_pandas()))


def numbers(ids: pd.Series) -> np.ndarray:
    """64 bits of each id's hash, (N,): a tenth of the memory that ids take."""
    hashes: np.ndarray = pd.util.hash_array(ids.to_numpy(object), categorize=False)
    return hashes


def uncarried(recipe: str, documents: Iterable[pd.DataFrame]) -> dict[str, str]:
    """Documents that were split under another id: that id by today's.

    `documents` are all of them, some at a time, with `source` and `doc_id`. Those that were carried
    already are left out.
    """
    before = split_before(recipe)
    if not len(before):
        return {}
    mine: set[tuple[str, str]] = set()
    here = [np.zeros(0, dtype=np.uint64)]
    for some in documents:
        here.append(numbers(some["doc_id"]))
        new = some[~np.isin(here[-1], before)]
        mine |= set(zip(new["source"], new["doc_id"], strict=True))
    if not mine:
        return {}
    carried = read(recipe)
    gone = np.setdiff1d(before, np.concatenate(here))
    found = {}
    for (_, doc_id), former in candidates(sorted(mine)).items():
        was = [each for each in former if numbers(pd.Series([each]))[0] in gone]
        if was and doc_id not in carried:
            found[doc_id] = carried.get(was[-1], was[-1])
    return found
