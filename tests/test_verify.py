"""A version that is trained again: the same weights, or words why not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.verify.__main__ import judged
from tests.conftest import Clone, make_clone


@pytest.mark.parametrize(
    ("found", "now", "verdict"),
    [
        ("a", {"valid_loss": 9.0}, "identical"),
        ("b", {"valid_loss": 0.505}, "within tolerance"),
        ("b", {"valid_loss": 0.6}, "different"),
        ("b", {}, "different"),
        ("b", {"valid_loss": float("nan")}, "different"),
    ],
)
def test_the_same_weights_are_identical_and_others_are_compared_by_their_metrics(
    found: str, now: dict[str, float], verdict: str
) -> None:
    assert judged(found, "a", now, {"valid_loss": 0.5})[0] == verdict


@pytest.mark.apps
def test_a_version_trained_again_has_the_same_weights_and_says_so(lived: Clone) -> None:
    done = lived.tidemill("verify", "languages@1", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (
        told["verdict"] == "identical"
        and told["found"] == told["wanted"]
        and told["version"] == "1"
    )
    assert not (lived.folder / ".tidemill/verify/languages-1").exists()
    code = (
        "from tidemill.engines.mlflow import registry, runs; print(registry.tag('languages', '1', "
        "'tidemill.verified'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=lived.folder,
        env=lived.env,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip().splitlines()[-1] == "identical"


def test_a_version_of_other_code_is_refused_before_it_is_trained(lived: Clone) -> None:
    path = lived.folder / "tidemill" / "kit" / "batches.py"
    body = path.read_text()
    path.write_text(body + "\n# changed\n")
    try:
        done = lived.tidemill("verify", "languages")
    finally:
        path.write_text(body)
    assert (
        done.returncode == 2
        and "was made by code" in done.stderr
        and "check that commit out" in done.stderr
    )
    assert lived.tidemill("verify", "languages@77").returncode == 2


@pytest.mark.system
def test_a_training_begun_from_the_champion_says_so_and_is_repeated_to_the_bit(
    tmp_path: Path,
) -> None:
    clone = make_clone(tmp_path / "clone")
    clone.edit(
        "recipe/images.yaml",
        lambda body: body.update(
            gates=[
                gate
                for gate in body["gates"]
                if gate["name"] in ("sane", "exported", "unseen", "size")
            ]
        ),
    )
    first = clone.tidemill("run", "images", "--json")
    assert first.returncode == 0 and json.loads(first.stdout)["state"] == "Promoted", first.stderr[
        -2000:
    ]
    again = clone.tidemill(
        "run", "images", "trainer.start=champion", "trainer.max_epochs=2", "--json"
    )
    assert again.returncode == 0, again.stderr[-2000:]
    told = json.loads(again.stdout)
    assert told["state"] == "Promoted" and told["version"] == "2"
    code = (
        "import sys; from tidemill.engines.mlflow import registry, runs; "
        "print(runs.data(sys.argv[1]).tags['tidemill.start'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, told["run_id"]],
        cwd=clone.folder,
        env=clone.env,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip().splitlines()[-1].startswith("images version 1, weights ")
    found = clone.tidemill("verify", "images@2", "--json")
    assert found.returncode == 0 and json.loads(found.stdout)["verdict"] == "identical", (
        found.stderr
    )
