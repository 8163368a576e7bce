"""The main job, whole, on small slices of its real sources, with every engine real."""

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tasks.datasheet.croissant import check
from tests.conftest import Clone
from tests.support.runs import ended, versions
from tests.support.webhook import listening
from tidemill.runtime.files import sha256


def test_the_first_run_promotes_and_the_second_is_unchanged_without_training(lived: Clone) -> None:
    first = json.loads(lived.first)  # type: ignore[attr-defined]
    assert first["state"] == "Promoted" and first["version"] == "1"
    again = ended(lived.tidemill("run", "languages", "--json"))
    assert again["state"] == "Unchanged"
    assert again["key"] == first["key"]
    assert not [name for name in again["seconds"] if name.startswith(("sweep", "train", "export"))]
    assert versions(lived, "languages") == ["1"]


def by_hand(clone: Clone) -> bytes:
    """dvc.lock as `dvc repro` leaves it from the same raw data, everything else made anew."""
    for name in ("clean", "select", "labels", "splits"):
        shutil.rmtree(clone.folder / "data" / name)
    shutil.rmtree(clone.folder / ".dvc" / "cache" / "runs", ignore_errors=True)
    done = clone.run("dvc", "repro", "--force", "--no-run-cache", "split@languages")
    assert done.returncode == 0, done.stderr[-2000:]
    return (clone.folder / "dvc.lock").read_bytes()


def test_dvc_is_clean_after_a_run_and_its_own_repro_leaves_the_same_lock(lived: Clone) -> None:
    assert (
        json.loads(lived.run("dvc", "status", "--json", "--with-deps", "split@languages").stdout)
        == {}
    )
    lock = (lived.folder / "dvc.lock").read_bytes()
    assert by_hand(lived) == lock


def test_a_snapshot_comes_back_by_its_name_byte_for_byte(lived: Clone, tmp_path: Path) -> None:
    snapshot = json.loads(lived.first)["snapshot"]  # type: ignore[attr-defined]
    tag = subprocess.run(
        ["git", "tag", "--list", "data/languages/*"],
        cwd=lived.folder,
        capture_output=True,
        text=True,
    ).stdout.split()[0]
    for name in (f"languages-{snapshot[:16]}", tag):
        folder = tmp_path / name.replace("/", "-")
        done = lived.tidemill("data", "restore", name, str(folder), "--json")
        assert done.returncode == 0, done.stderr
        for path in (lived.folder / "data/splits/languages").iterdir():
            assert (folder / path.name).read_bytes() == path.read_bytes()
    head = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no"],
        cwd=lived.folder,
        capture_output=True,
        text=True,
    ).stdout
    assert head == "", "the tag touched the index or the work tree"
    held = subprocess.run(
        ["git", "show", f"{tag}:dvc.lock"], cwd=lived.folder, capture_output=True
    ).stdout
    assert held == (lived.folder / "dvc.lock").read_bytes()


def test_snapshots_are_listed_and_one_is_the_same_as_itself(lived: Clone) -> None:
    done = lived.tidemill("data", "list", "languages", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    snapshot = json.loads(lived.first)["snapshot"]  # type: ignore[attr-defined]
    first = next(one for one in found if one["digest"] == snapshot)
    assert (
        first["names"][0].startswith("data/languages/")
        and first["names"][1] == f"languages-{snapshot[:16]}"
    )
    assert found == sorted(found, key=lambda one: one["at"], reverse=True)
    shown = lived.tidemill("data", "list")
    assert (
        shown.returncode == 0 and snapshot[:16] in shown.stdout and "the first one" in shown.stdout
    )
    done = lived.tidemill("data", "diff", first["names"][1], first["names"][0])
    assert done.returncode == 0 and "the same rows" in done.stdout
    assert lived.tidemill("data", "list", "nothing").returncode == 2
    assert first["names"][1] in shown.stdout, "by the name that diff and restore take"
    taken = lived.folder / ".tidemill/a-file"
    taken.write_text("mine")
    for arguments, words in (
        (("restore", first["names"][1], str(taken)), "is a file; name an empty or a new folder"),
        (("list", "--remote", "/nowhere"), "remote /nowhere does not exist"),
        (("list", "--remote", "s3://nowhere"), "remote s3://nowhere: "),
    ):
        refused = lived.tidemill("data", *arguments)
        assert (
            refused.returncode == 2
            and words in refused.stderr
            and len(refused.stderr.splitlines()) == 1
        ), refused.stderr
    unknown = lived.tidemill("data", "diff", first["names"][1], "languages-0000000000000000")
    assert (
        unknown.returncode == 2
        and "no snapshot 'languages-0000000000000000' in the remote; it has" in unknown.stderr
    )


def test_a_snapshot_carries_a_card_that_its_checker_reads_beside_the_run_and_in_the_remote(
    lived: Clone,
) -> None:
    told = json.loads(lived.first)  # type: ignore[attr-defined]
    there = lived.folder / ".tidemill/snapshots/languages" / told["snapshot"][:16]
    assert check(there / "croissant.json") == []
    card = json.loads((there / "croissant.json").read_text())
    assert (
        card["conformsTo"]
        == ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
        and card["rai:dataBiases"]
        and card["rai:personalSensitiveInformation"]
    )
    restored = lived.folder / ".tidemill/restored"
    assert (
        lived.tidemill(
            "data", "restore", f"languages-{told['snapshot'][:16]}", str(restored)
        ).returncode
        == 0
    )
    for file in card["distribution"]:
        assert file["sha256"] == sha256(restored / file["contentUrl"])
    words = (there / "datasheet.md").read_text()
    rows = sum(
        len(pd.read_parquet(restored / f"{split}.parquet")) for split in ("train", "valid", "test")
    )
    assert (
        f"{rows:,} rows" in words
        and "| deu |" in words
        and "clean: " in words
        and "losses.png" in words
    )
    remote = next(path for path in lived.folder.rglob("cards") if path.is_dir())
    kept = {path.name for path in (remote / f"languages-{told['snapshot'][:16]}").iterdir()}
    assert {"croissant.json", "datasheet.md", "losses.png", "rows-by-language.png"} <= kept
    logged = {path.name for path in (lived.folder / ".tidemill/artifacts").rglob("datasheet/*")}
    assert kept == logged


@pytest.mark.apps
def test_a_worse_candidate_is_rejected_with_its_reason_and_the_champion_stays(lived: Clone) -> None:
    worse = ended(
        lived.tidemill("run", "languages", "model.dim=1", "trainer.max_epochs=0", "--json")
    )
    assert worse["state"] == "Rejected"
    assert "surely worse" in worse["because"] or "bound" in worse["because"]
    assert not [
        name for name in worse["seconds"] if name.startswith("clean") and worse["seconds"][name] > 5
    ]
    status = json.loads(lived.tidemill("status", "--json").stdout)
    assert status["live"][0]["champion"] == "1"
    assert versions(lived, "languages") == ["1"]


@pytest.mark.apps
def test_a_changed_rate_runs_the_model_half_only_and_a_changed_cleaning_rule_everything_after_it(
    lived: Clone,
) -> None:
    rate = ended(lived.tidemill("run", "languages", "model.lr=0.002", "--dry-run", "--json"))
    first = json.loads(lived.first)  # type: ignore[attr-defined]
    assert rate["snapshot"] == first["snapshot"] and rate["key"] != first["key"]
    assert any(name.startswith("train") for name in rate["seconds"])
    path = lived.folder / "conf/source/software.yaml"
    before = path.read_text()
    lived.edit("source/software.yaml", lambda body: body["clean"].update(min_letters=12))
    try:
        rule = ended(lived.tidemill("run", "languages", "--dry-run", "--json"))
        lock = (lived.folder / "dvc.lock").read_bytes()
        assert by_hand(lived) == lock, (
            "after a night that changed something, DVC and the flow disagree"
        )
    finally:
        path.write_text(before)
    assert rule["snapshot"] != first["snapshot"]
    ran = {
        line.split(":")[0]
        for line in lived.run("dvc", "status", "--with-deps", "split@languages").stdout.splitlines()
    }
    assert "clean@software" in ran and "clean@udhr" not in ran
    for stage in ("clean@software", "select@languages", "label@languages", "split@languages"):
        assert lived.run("dvc", "repro", "-q", "--single-item", stage).returncode == 0


def test_the_champion_answers(lived: Clone) -> None:
    done = ended(
        lived.tidemill(
            "predict",
            "languages",
            "Jeder hat das Recht auf Leben, Freiheit und Sicherheit der Person.",
            "--json",
        )
    )
    assert done["answer"]["language"] == "deu" and done["version"] == "1"
    refused = lived.tidemill("predict", "languages", "")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr


def test_the_run_in_mlflow_holds_configuration_data_gates_and_pictures(lived: Clone) -> None:
    code = (
        "import json; from tidemill.engines.mlflow import client, runs; c = client.connect(); "
        "r = runs.recent(['languages'], 50)[-1]['run_id']; run = c.get_run(r);"
        "walk = lambda p: [x for f in c.list_artifacts(r, p) for x in (walk(f.path) if "
        "f.is_dir else [f.path])];"
        "trials = c.search_runs([run.info.experiment_id], "
        "filter_string=f\"tags.`mlflow.parentRunId` = '{r}'\");"
        "print(json.dumps({'files': walk(''), 'tags': run.data.tags, "
        "'datasets': [d.dataset.digest for d in run.inputs.dataset_inputs], "
        "'params': run.data.params, 'trials': len(trials), 'status': run.info.status}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=lived.folder,
        env=lived.env,
        capture_output=True,
        text=True,
    )
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert {
        "config.json",
        "dvc.lock",
        "gates.json",
        "slices.json",
        "figures/confusion.png",
        "package/model.onnx",
        "model/MLmodel",
    } <= set(told["files"])
    assert not [name for name in told["files"] if name.endswith((".pkl", ".pt", ".ckpt", ".bin"))]
    first = json.loads(lived.first)  # type: ignore[attr-defined]
    assert told["datasets"] == [first["snapshot"][:36]]
    assert told["trials"] == 1 and told["status"] == "FINISHED"
    assert told["tags"]["tidemill.verdict"] == "PROMOTE" and "package.torch" in told["tags"]


def latest(clone: Clone, name: str) -> Path:
    return max(
        clone.folder.glob(f".tidemill/runs/*/{name}.json"), key=lambda path: path.stat().st_mtime
    )


@pytest.mark.apps
def test_a_verdict_reached_without_todays_champion_is_not_used(lived: Clone) -> None:
    """A dry run, or one that was cut off, leaves a verdict.

    Meanwhile another version may have gone live.
    """
    asked = (
        "model.lr=0.004",
        "score.batch_rows=16",
        "score.train_rows=200",
        "score.golden=[{inputs: {text: Guten Tag}, answer: {language: none}}]",
    )
    ended(lived.tidemill("run", "languages", *asked, "--dry-run", "--json"))
    judged, scored = latest(lived, "judge"), latest(lived, "score")
    asked_too = json.loads(scored.read_text())
    assert asked_too["batch"] == 16 and asked_too["batch_differs"] == 0
    assert asked_too["golden"] == 1 and 'is to be {"language": "none"}' in asked_too["missed"][0]
    assert {"train", "train rows"} <= set(asked_too["frames"])
    # The first run's candidate was asked these rows too, before it went live.
    assert asked_too["reuse"]["asked"] >= 2 and asked_too["reuse"]["tries"] >= 1
    for path in (scored, judged):
        body = json.loads(path.read_text())
        assert body["champion"] == "1"
        body["champion"] = None
        path.write_text(json.dumps(body))
    ended(lived.tidemill("run", "languages", *asked, "--dry-run", "--json"))
    assert json.loads(judged.read_text())["champion"] == "1"
    assert json.loads(scored.read_text())["reuse"] == asked_too["reuse"], "one candidate, one try"
    assert not [
        item
        for item in json.loads(judged.read_text())["findings"]
        if item["answer"] == "not applicable"
    ]


@pytest.mark.apps
def test_a_killed_step_costs_a_retry_and_not_the_night(lived: Clone) -> None:
    import psutil

    run = subprocess.Popen(
        [sys.executable, "-m", "tidemill.cli", "run", "languages", "model.lr=0.005", "--dry-run"],
        cwd=lived.folder,
        env=lived.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    killed, deadline = False, time.monotonic() + 120
    while not killed and run.poll() is None and time.monotonic() < deadline:
        for child in psutil.Process(run.pid).children(recursive=True):
            try:
                if "tasks.train" in child.cmdline():
                    child.kill()
                    killed = True
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.05)
    said, errors = run.communicate(timeout=200)
    assert killed and run.returncode == 0, errors
    assert "was killed by SIGKILL" in said and "DryRun" in said


@pytest.mark.apps
def test_status_says_how_each_run_ended_and_a_rollback_brings_the_previous_champion_back(
    lived: Clone,
) -> None:
    refused = lived.tidemill("rollback", "languages")
    assert refused.returncode == 2 and "there is none before it" in refused.stderr
    second = ended(lived.tidemill("run", "languages", "model.lr=0.003", "--json"))
    assert second["state"] == "Promoted" and second["version"] == "2", second["because"]
    back = ended(lived.tidemill("rollback", "languages", "--why", "a test", "--json"))
    assert (back["version"], back["previous"]) == ("1", "2")
    told = ended(lived.tidemill("status", "--json"))
    assert told["live"][0]["champion"] == "1" and told["live"][0]["why"] == "a test"
    assert {run["state"] for run in told["runs"]} <= {"Promoted", "Rejected", "Held", "DryRun"}
    again = ended(lived.tidemill("run", "languages", "model.lr=0.003", "--json"))
    assert again["state"] == "Unchanged"
    assert ended(lived.tidemill("status", "--json"))["live"][0]["champion"] == "1"
    for walked in ("2", "1"):  # forward by name, then back again: the second walk ends at the first
        ended(lived.tidemill("rollback", "languages", "--to", walked, "--why", "a test", "--json"))
    further = lived.tidemill("rollback", "languages")
    assert further.returncode == 2 and "there is none before it" in further.stderr


def test_an_experiment_that_was_deleted_in_mlflow_is_told_before_anything_is_spent(
    lived: Clone,
) -> None:
    from tests.support.making import inside
    from tidemill.engines.mlflow import client, runs

    with inside(lived.folder):
        mlflow, experiment_id = client.connect(), runs.experiment("languages")
        mlflow.delete_experiment(experiment_id)
    try:
        refused = lived.tidemill("run", "languages", "model.lr=0.006")
        assert refused.returncode == 2 and "Traceback" not in refused.stderr
        assert f"mlflow experiments restore --experiment-id {experiment_id}" in refused.stderr
        problems = ended(lived.tidemill("status", "--json"))["problems"]
        assert any("the experiment languages was deleted" in line for line in problems)
    finally:
        with inside(lived.folder):
            mlflow.restore_experiment(experiment_id)


@pytest.mark.system
def test_where_the_alias_was_deleted_a_run_is_held_until_a_person_says_what_is_live(
    lived: Clone,
) -> None:
    from tests.support.making import inside
    from tidemill.engines.mlflow import registry, runs

    with inside(lived.folder):
        registry.drop("languages", "champion")
    with webhook(lived) as heard:
        held = ended(lived.tidemill("run", "languages", "model.lr=0.007", "--json"))
    assert held["state"] == "Held" and "names none" in held["because"]
    assert any("nothing is promoted" in text and "names none" in text for text in heard)
    assert any("languages: Held" in text for text in heard)
    refused = lived.tidemill("rollback", "languages")
    assert refused.returncode == 2 and "--to 1" in refused.stderr
    ended(lived.tidemill("rollback", "languages", "--to", "1", "--why", "a test", "--json"))
    assert ended(lived.tidemill("status", "--json"))["problems"] == []
    ended(lived.tidemill("approve", "languages", "--why", "a test", "--json"))
    assert ended(lived.tidemill("status", "--json"))["live"][0]["champion"] == held["version"]
    # Version 1 was the better one: tonight's model is compared with it too.
    with inside(lived.folder):
        first = registry.version("languages", "1")
        assert first
        runs.log(first.run_id, metrics={"test.macro_f1.candidate": 0.99})
    ended(lived.tidemill("run", "languages", "model.lr=0.008", "--dry-run", "--json"))
    scored = json.loads(latest(lived, "score").read_text())
    assert (scored["champion"], scored["anchor"]) == (held["version"], "1")
    gates = {
        item["gate"]: item for item in json.loads(latest(lived, "judge").read_text())["findings"]
    }
    assert "of the anchor" in gates["champion, anchor"]["reason"]


@contextlib.contextmanager
def webhook(clone: Clone) -> Iterator[list[str]]:
    """What a webhook hears that the project's notices go to."""
    code = (
        "import sys; from tidemill.runtime import paths; paths.settle()\n"
        "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Hook\n"
        "Hook(name='sink', url=sys.argv[1], json_data={'text': '{{subject}}: {{body}}'})"
        ".save('sink', overwrite=True)\n"
    )
    settings = clone.folder / "conf" / "config.yaml"
    before = settings.read_text()
    with listening() as (address, heard):
        saved = subprocess.run(
            [sys.executable, "-c", code, address],
            cwd=clone.folder,
            env=clone.env,
            capture_output=True,
            text=True,
        )
        assert saved.returncode == 0, saved.stderr[-2000:]
        blocks = ["custom-webhook/sink"]
        clone.edit("config.yaml", lambda body: body["notices"].update(blocks=blocks))
        try:
            yield heard
        finally:
            settings.write_text(before)
