"""Snapshots: what changed between two, and the card each carries."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tidemill.engines.dvc import snapshot_diff


def frame(*rows: tuple[str, str, str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "example_id": one,
                "doc_id": doc,
                "source": source,
                "language": language,
                "split": "train",
                "target": target,
            }
            for one, doc, source, language, target in rows
        ],
        columns=snapshot_diff.COLUMNS,
    )


ROWS = (
    ("e1", "d1", "web", "deu", "a"),
    ("e2", "d2", "web", "fra", "a"),
    ("e3", "d3", "app", "deu", "b"),
    ("e4", "d4", "app", "", "b"),
)
OLD = frame(*ROWS)


@pytest.mark.parametrize(
    ("new", "wanted"),
    [
        (OLD, []),
        (
            frame(*ROWS, ("e5", "d5", "web", "deu", "a")),
            [{"source": "web", "language": "deu", "added": 1, "changed": 0, "gone": 0, "moved": 0}],
        ),
        (
            frame(
                ("e1", "d1", "web", "deu", "a"),
                ("e2", "d2", "web", "fra", "a"),
                ("e3", "d3", "app", "deu", "b"),
            ),
            [{"source": "app", "language": "", "added": 0, "changed": 0, "gone": 1, "moved": 0}],
        ),
        (
            frame(
                ("e9", "d1", "web", "deu", "a"),
                ("e2", "d2", "web", "fra", "c"),
                ("e3", "d3", "app", "deu", "b"),
                ("e4", "d4", "app", "", "b"),
            ),
            [
                {
                    "source": "web",
                    "language": "deu",
                    "added": 0,
                    "changed": 1,
                    "gone": 0,
                    "moved": 0,
                },
                {
                    "source": "web",
                    "language": "fra",
                    "added": 0,
                    "changed": 1,
                    "gone": 0,
                    "moved": 0,
                },
            ],
        ),
    ],
)
def test_a_document_is_added_gone_or_says_something_else(new: pd.DataFrame, wanted: list) -> None:
    assert snapshot_diff.between(OLD, new) == wanted


def test_an_example_in_another_split_is_moved() -> None:
    new = OLD.assign(split=["test", "train", "train", "train"])
    [row] = snapshot_diff.between(OLD, new)
    assert row == {
        "source": "web",
        "language": "deu",
        "added": 0,
        "changed": 0,
        "gone": 0,
        "moved": 1,
    }
    assert snapshot_diff.totals([row])["moved"] == 1


def test_a_document_that_lost_one_of_its_examples_is_changed() -> None:
    old = frame(("e1", "d1", "web", "deu", "a"), ("e2", "d1", "web", "deu", "a"))
    assert snapshot_diff.between(old, frame(("e1", "d1", "web", "deu", "a"))) == [
        {"source": "web", "language": "deu", "added": 0, "changed": 1, "gone": 0, "moved": 0}
    ]


def test_a_description_that_is_wrong_is_found(tmp_path: Path) -> None:
    from tasks.datasheet.croissant import check

    (tmp_path / "bad.json").write_text(
        json.dumps(
            {"@context": {"@vocab": "https://schema.org/"}, "@type": "sc:Dataset", "name": "x"}
        )
    )
    assert check(tmp_path / "bad.json")


def test_a_snapshot_says_how_many_of_its_examples_count_less_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.datasheet.__main__ import words
    from tasks.datasheet.counts import counts
    from tidemill.engines import config
    from tidemill.runtime import paths

    recipe = config.recipe("images")
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    row = {"doc_id": "d", "source": "digits", "inputs": "{}", "target": "{}", "slices": "{}"}
    document = {"doc_id": "d", "host": "", "licence": "", "opt_out": "", "quality": "", "pii": ""}
    for folder, frames in (
        ("splits/images", dict.fromkeys(("train", "valid", "test"), row)),
        ("clean/digits", {"documents": document, "lineage": {"fetched": ""}}),
    ):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for name, one in frames.items():
            pd.DataFrame([one]).to_parquet(tmp_path / "data" / folder / f"{name}.parquet")
    for issues, said in (
        ({}, None),
        ({"issues": {"doubtful": 4}}, None),
        ({"issues": {"doubtful": 4, "weighted": 3}}, 3),
    ):
        for folder in ("clean/digits", "select/images", "labels/images", "splits/images"):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / folder / "report.json").write_text(
                json.dumps(
                    {
                        "rows": 3,
                        "dropped": {},
                        "snapshot": "s" * 64,
                        **(issues if "labels" in folder else {}),
                    }
                )
            )
        facts = counts(recipe)
        assert facts.weighted == said and (
            "The labels of 3 examples are doubtful: in training" in words(recipe, facts, {}, {}, [])
        ) == (said is not None)
