"""From a model to the very bytes it was made from, and back."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Clone
from tidemill.lineage import trace
from tidemill.runtime import paths

ARTICLE = "http://udhr.localhost/udhr_deu_1996.xml#article-3"


def inside(clone: Clone, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"from tidemill.runtime import paths; paths.settle()\n{code}"],
        cwd=clone.folder,
        env=clone.env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_row_of_a_version_leads_to_bytes_of_its_digest(lived: Clone) -> None:
    told = json.loads(lived.tidemill("trace", "languages@1", "--json").stdout)
    found = pd.read_csv(told["list"], dtype=str, keep_default_na=False)
    splits = {
        part: len(
            pd.read_parquet(
                lived.folder / f"data/splits/languages/{part}.parquet", columns=["doc_id"]
            )
        )
        for part in ("train", "valid", "test")
    }
    assert (
        found.assign(examples=found["examples"].astype(int))
        .groupby("split")["examples"]
        .sum()
        .to_dict()
        == splits
    )
    assert (
        told["documents"] == found["uri"].nunique()
        and sum(told["licence"].values()) == len(found)
        and (found[["licence", "fetched", "raw_digest"]] != "").all().all()
    )
    sample = found.sample(min(1000, len(found)), random_state=1).drop_duplicates(
        ["source", "raw_file", "raw_locator"]
    )
    checked = inside(
        lived,
        (
            "import sys, json, hashlib; from tidemill.records.warc import bodies; from "
            "urllib.parse import urldefrag\n"
            f"rows = json.loads({json.dumps(sample.to_json(orient='records'))})\n"
            "for row in rows:\n"
            "    row['uri'] = urldefrag(row['uri']).url\n"
            "    [(_, body)] = bodies(paths.data('raw', row['source']), [row])\n"
            "    assert hashlib.sha256(body).hexdigest() == row['raw_digest'], row\n"
            "print(len(rows))"
        ),
    )
    assert int(checked) == len(sample) > 10


def test_a_page_names_the_versions_it_is_in_and_shows_its_bytes(lived: Clone) -> None:
    told = json.loads(lived.tidemill("trace", ARTICLE, "--json").stdout)
    assert next((row["application"], row["version"], row["split"]) for row in told["models"]) == (
        "languages",
        "1",
        "train",
    )
    whole = json.loads(lived.tidemill("trace", ARTICLE.split("#")[0], "--json").stdout)["models"]
    assert {row["split"] for row in whole if row["version"] == "1"} == {
        "train",
        "valid",
        "test",
    } and sum(row["parts"] for row in whole) > 20
    package = json.loads(lived.tidemill("trace", "pkg:pypi/Django", "--json").stdout)["models"]
    assert {row["split"] for row in package} == {"test"}
    shown = subprocess.run(
        [sys.executable, "-m", "tidemill.cli", "trace", ARTICLE, "--show"],
        cwd=lived.folder,
        env=lived.env,
        capture_output=True,
    )
    assert b"Jeder hat das Recht auf Leben" in shown.stdout
    row = (
        pd.read_parquet(lived.folder / "data/raw/udhr/manifest.parquet")
        .set_index("uri")
        .loc[ARTICLE.split("#")[0]]
    )
    assert hashlib.sha256(shown.stdout).hexdigest() == row["sha256"]
    assert json.loads(lived.tidemill("trace", "http://elsewhere.example/", "--json").stdout) == {
        "page": "http://elsewhere.example/",
        "models": [],
        "dropped": {},
    }
    left_out = pd.read_parquet(lived.folder / "data/select/languages/dropped.parquet").iloc[0]
    told = json.loads(lived.tidemill("trace", left_out["uri"], "--json").stdout)
    assert told["models"] == [] and told["dropped"] == {
        f"{left_out['reason']} (select languages)": 1
    }, "a page that was left out says why"
    refused = lived.tidemill("trace", "http://elsewhere.example/", "--show")
    assert refused.returncode == 2 and "no version was made from" in refused.stderr
    refused = lived.tidemill("trace", "languages@99")
    assert refused.returncode == 2 and "no version 99" in refused.stderr


def test_a_lost_or_damaged_index_is_made_again_from_the_remote(lived: Clone) -> None:
    path = lived.folder / ".tidemill/lineage.db"
    before = lived.tidemill("trace", "languages@1", "--json").stdout
    path.write_bytes(b"no database" * 100)
    told = json.loads(lived.tidemill("trace", ARTICLE, "--json").stdout)
    assert "1" in [row["version"] for row in told["models"]], (
        "a page must not be said to be in no model for want of an index"
    )
    path.write_bytes(b"no database" * 100)
    again = lived.tidemill("trace", "languages@1", "--json")
    assert again.returncode == 0 and again.stdout == before, again.stderr


def test_a_version_that_is_forgotten_leaves_the_index_with_the_pages_it_alone_had(
    lived: Clone,
) -> None:
    said = inside(
        lived,
        (
            "from tidemill.lineage import trace\n"
            f"page = {ARTICLE!r}\n"
            "with trace.index() as d: before = d.execute('select count(*) from "
            "pages').fetchone()[0]\n"
            "number = trace.models(page)[0]['snapshot']\n"
            "trace.note('languages', '77', number)\n"
            "there = [row['version'] for row in trace.models(page)]\n"
            "trace.forget('languages', '77')\n"
            "left = [row['version'] for row in trace.models(page)]\n"
            "with trace.index() as d: after = d.execute('select count(*) from "
            "pages').fetchone()[0]\n"
            "print('77' in there, '77' in left, before == after)"
        ),
    )
    assert said.split() == ["True", "False", "True"]


def test_what_label_and_split_left_out_has_its_reason_and_any_spelling_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    uri = "http://mill.example/b"
    for step, reason in (("labels", "no voter says anything of it"), ("splits", "near duplicate")):
        folder = tmp_path / "data" / step / "languages"
        folder.mkdir(parents=True)
        rows = {"example_id": ["e1"], "doc_id": ["d1"], "reason": [reason]}
        pd.DataFrame(rows).to_parquet(folder / "dropped.parquet")
    folder = tmp_path / "data" / "clean" / "mill"
    folder.mkdir(parents=True)
    pd.DataFrame(
        {"doc_id": ["d1", "d2"], "uri": [f"{uri}#p-1", "http://mill.example/c"]}
    ).to_parquet(folder / "lineage.parquet")
    (tmp_path / "conf").mkdir()
    for spelling in (uri, "HTTP://Mill.Example:80/a/../b", f"{uri}#p-1"):
        assert trace.dropped(trace.spelled(spelling)) == {
            "no voter says anything of it (labels languages)": 1,
            "near duplicate (splits languages)": 1,
        }
    assert trace.dropped("http://mill.example/c") == {}
