"""Which form of a network answers is chosen by what was measured."""

import json
import subprocess
import sys

import pytest

from tasks.export.quantise import MeasuredForm, choose
from tests.support.serving import Project
from tidemill.contract import Metric
from tidemill.engines.config.schema import Export

ACCURACY = Metric(better="higher")
SETTINGS = Export(margin=0.01, gain=0.1)


def table(**forms: tuple[float, float, float]) -> list[MeasuredForm]:
    return [
        MeasuredForm(name, figure=accuracy, p50_ms=ms, mb=mb)
        for name, (accuracy, ms, mb) in forms.items()
    ]


@pytest.mark.parametrize(
    ("forms", "taken"),
    [
        ({"fp32": (0.9, 10, 4), "int8": (0.895, 4, 1)}, "int8"),  # faster, smaller, hardly worse
        ({"fp32": (0.9, 10, 4), "int8": (0.88, 4, 1)}, "fp32"),  # worse than the margin
        ({"fp32": (0.9, 10, 4), "int8": (0.9, 20, 1)}, "fp32"),  # smaller and slower
        ({"fp32": (0.9, 10, 4), "fp16": (0.9, 10.5, 2)}, "fp16"),  # as fast, half the size
        ({"fp32": (0.9, 10, 4), "fp16": (0.9, 9.8, 3.9)}, "fp32"),  # neither by enough
        (
            {"fp32": (0.9, 10, 4), "static": (0.9, 5, 2), "dynamic": (0.9, 5.2, 1)},
            "dynamic",
        ),  # the smaller of two that are about as fast
        ({"fp32": (0.9, 10, 4), "int8": (float("nan"), 1, 1)}, "fp32"),  # unknown is a no
    ],
)
def test_the_smallest_of_the_fastest_that_are_not_worse_is_taken(forms: dict, taken: str) -> None:
    rows = table(**forms)
    assert choose(rows, "accuracy", ACCURACY, SETTINGS) == taken
    assert all(form.why for form in rows)


def test_lower_may_be_better() -> None:
    rows = table(fp32=(2.0, 10, 4), int8=(2.005, 4, 1), bad=(2.2, 1, 1))
    assert choose(rows, "accuracy", Metric(better="lower"), SETTINGS) == "int8"


FORMS = """
import json, shutil, sys
import pandas as pd
from tidemill import contract
from tidemill.runtime import paths; paths.settle()
from tidemill.package.package import digests
from tasks.export.quantise import best
from tidemill.package.allowed_files import strange
from tidemill.engines.config.schema import Export
for name in sys.argv[1:]:
    made = paths.state("made", f"{name}-1"); package = paths.state("made", f"{name}-forms")
    shutil.rmtree(package, ignore_errors=True); shutil.copytree(made, package)
    application = contract.application(name)
    valid = pd.read_parquet(paths.data("splits", name) / "valid.parquet")
    settings = Export(forms=("int8-dynamic", "int8-static", "fp16"), requests=5)
    chosen, table = best(name, application, package, valid, settings)
    application.open(package).predict(application.golden())
    odd = [why for path in package.iterdir() if (why := strange(path, path.name))]
    left = [path.name for path in package.parent.glob(f"{name}-forms.*")]
    same = digests(package)[0] == digests(made)[0]
    print("@" + json.dumps([chosen, table, odd, left, same]))
"""


def test_every_form_of_a_convolution_and_of_a_transformer_is_made_scored_and_measured(
    project: Project,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORMS, "images", "text_generation"],
        cwd=project.folder,
        env=project.clone.env,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for line, metric in zip(
        [line for line in done.stdout.splitlines() if line.startswith("@")],
        ("accuracy", "bits_per_char"),
        strict=True,
    ):
        chosen, rows, odd, left, unchanged = json.loads(line[1:])
        assert [row["form"] for row in rows] == ["fp32", "int8-dynamic", "int8-static", "fp16"]
        for row in rows:
            assert {"mb", "memory_mb", "p50_ms", "p95_ms", metric} <= set(row), row
        assert sum(row["why"] == "taken" for row in rows) == 1
        assert rows[3][metric] == pytest.approx(rows[0][metric], abs=0.05)
        assert not odd and not left
        assert unchanged == (chosen == "fp32")
