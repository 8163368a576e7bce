"""After deployment: what is asked is compared with what was judged.

And what was labelled since with what was answered.
"""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from tasks.serve.watch import moved
from tests.conftest import HERE, Clone
from tests.support.serving import Project, serving


def test_a_column_that_moved_is_told_from_one_that_only_varies() -> None:
    random = np.random.default_rng(1)
    before = pd.DataFrame(
        {
            "size": random.normal(0, 1, 1000),
            "label": random.choice(list("abc"), 1000),
            "many": random.integers(0, 500, 1000).astype(str),
        }
    )
    same = pd.DataFrame(
        {
            "size": random.normal(0, 1, 200),
            "label": random.choice(list("abc"), 200),
            "many": random.integers(0, 500, 200).astype(str),
        }
    )
    assert not [name for name, (_, sure) in moved(before, same).items() if sure]
    other = pd.DataFrame(
        {
            "size": random.normal(1.5, 1, 200),
            "label": random.choice(list("abcc"), 200),
            "many": random.integers(0, 500, 200).astype(str),
        }
    )
    found = moved(before, other)
    assert found["size"][0] > 0.25 and found["size"][1] and not found["many"][1]
    assert moved(before[["label"]], pd.DataFrame({"label": ["new"] * 50}))["label"][1]


def test_served_questions_that_moved_and_answers_that_were_wrong_raise_an_alarm(
    project: Project,
) -> None:
    project.clone.edit(
        "recipe/languages.yaml", lambda body: body.update(serve={"sample": 1.0, "watch_rows": 20})
    )
    served, labels = (project.folder / "data" / name / "languages" for name in ("served", "labels"))
    rows = pd.read_parquet(project.folder / "data/splits/languages/test.parquet")

    def ask(questions: list[dict]) -> None:
        with serving(project, "languages") as running:
            assert running.predict("languages", questions)[0] == 200

    def watched() -> dict:
        done = project.clone.run("tasks.serve.watch", "languages")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    try:
        shutil.rmtree(served, ignore_errors=True)
        assert "20 are needed" in watched()["because"]
        ask([json.loads(item) for item in rows["inputs"]])
        quiet = watched()
        assert not quiet["alarm"] and set(quiet["drift"]) == {
            "asked_text_length",
            "language_length",
            "language",
            "confidence",
        }, quiet
        labels.mkdir(parents=True)
        rows.assign(
            example_id=[f"later-{number}" for number in range(len(rows))],
            target=json.dumps({"language": "nld"}),
        ).to_parquet(labels / "examples.parquet")
        wrong = watched()
        assert (
            wrong["alarm"]
            and wrong["labelled"] >= 30
            and wrong["figure"] == 0
            and "labelled since" in wrong["because"]
        )
        shutil.rmtree(labels)
        ask(
            [
                {"text": f"{'Alle Menschen sind frei und gleich. ' * 9}{number}"}
                for number in range(60)
            ]
        )
        far = watched()
        assert far["alarm"] and "asked_text_length drifted" in far["because"], far
    finally:
        shutil.rmtree(labels, ignore_errors=True)
        shutil.rmtree(served, ignore_errors=True)
        shutil.copy(
            HERE / "conf" / "recipe" / "languages.yaml",
            project.folder / "conf" / "recipe" / "languages.yaml",
        )


FLOW = """
import json
from tidemill.runtime import paths; paths.settle()
from flows.watch import watch
for _ in range(2):
    state = watch(return_state=True)
    print("@" + json.dumps([state.name, state.message]))
"""


@pytest.mark.system
def test_an_alarm_starts_one_retraining_a_day(lived: Clone) -> None:
    """The whole way: served questions unlike the test rows, an alarm, a retraining to its end.

    And no second one today.
    """
    lived.edit(
        "recipe/languages.yaml", lambda body: body.update(serve={"sample": 1.0, "watch_rows": 50})
    )
    with serving(Project(lived), "languages") as running:
        assert (
            running.predict(
                "languages", [{"text": f"12345 {number}" * 40} for number in range(90)]
            )[0]
            == 200
        )
    done = subprocess.run(
        [sys.executable, "-c", FLOW],
        cwd=lived.folder,
        env=lived.env,
        capture_output=True,
        text=True,
        timeout=400,
    )
    told = [json.loads(line[1:]) for line in done.stdout.splitlines() if line.startswith("@")]
    assert len(told) == 2, done.stderr[-2000:]
    assert "drifted by" in told[0][1] and "retrained: " in told[0][1]
    assert "today already" in told[1][1]
