"""Snapshots: what changed between two, and the card each carries."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tasks import changes


def frame(*rows: tuple[str, str, str, str, str]) -> pd.DataFrame:
    return pd.DataFrame([{"example_id": one, "doc_id": doc, "source": source, "language": language, "split": "train", "target": target} for one, doc, source, language, target in rows],
                        columns=changes.COLUMNS)


ROWS = (("e1", "d1", "web", "deu", "a"), ("e2", "d2", "web", "fra", "a"), ("e3", "d3", "app", "deu", "b"), ("e4", "d4", "app", "", "b"))
OLD = frame(*ROWS)


@pytest.mark.parametrize(("new", "wanted"), [
    (OLD, []),
    (frame(*ROWS, ("e5", "d5", "web", "deu", "a")),
     [{"source": "web", "language": "deu", "added": 1, "changed": 0, "gone": 0}]),
    (frame(("e1", "d1", "web", "deu", "a"), ("e2", "d2", "web", "fra", "a"), ("e3", "d3", "app", "deu", "b")), [{"source": "app", "language": "", "added": 0, "changed": 0, "gone": 1}]),
    (frame(("e9", "d1", "web", "deu", "a"), ("e2", "d2", "web", "fra", "c"), ("e3", "d3", "app", "deu", "b"), ("e4", "d4", "app", "", "b")),
     [{"source": "web", "language": "deu", "added": 0, "changed": 1, "gone": 0}, {"source": "web", "language": "fra", "added": 0, "changed": 1, "gone": 0}]),
])
def test_a_document_is_added_gone_or_says_something_else(new: pd.DataFrame, wanted: list) -> None:
    assert changes.between(OLD, new) == wanted


def test_a_document_that_lost_one_of_its_examples_is_changed() -> None:
    old = frame(("e1", "d1", "web", "deu", "a"), ("e2", "d1", "web", "deu", "a"))
    assert changes.between(old, frame(("e1", "d1", "web", "deu", "a"))) == [{"source": "web", "language": "deu", "added": 0, "changed": 1, "gone": 0}]


def test_a_description_that_is_wrong_is_found(tmp_path: Path) -> None:
    from tasks.datasheet.croissant import check

    (tmp_path / "bad.json").write_text(json.dumps({"@context": {"@vocab": "https://schema.org/"}, "@type": "sc:Dataset", "name": "x"}))
    assert check(tmp_path / "bad.json")
