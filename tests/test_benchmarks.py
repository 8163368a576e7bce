"""Each benchmark runs in a short form, and its rows say whether they hold."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.rows import Row
from tests.conftest import HERE

SHORT = {
    "clean_slopes": ("--short",),
    "judge": ("--trials", "2"),
    "memory": ("--short",),
    "parts": ("clean", "select", "label", "split", "tokens", "--documents", "10"),
    "sweep": ("--trials", "2"),
    "tables": ("--splits", "2"),
    "train": ("--steps", "20"),
}
"""The arguments by which a benchmark takes a minute and needs no peer."""


def rows_of(name: str, *arguments: str) -> list[dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments, "--json"],
        cwd=HERE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows: list[dict[str, object]] = json.loads(done.stdout[done.stdout.index("[\n") :])
    return rows


@pytest.mark.parametrize(
    ("row", "ratio", "holds"),
    [
        (Row("a", 2.0, goal="<= 3"), None, True),
        (Row("a", 4.0, goal="<= 3"), None, False),
        (Row("a", 4.0, 2.0, "ratio <= 3"), 2.0, True),
        (Row("a", 4.0, 2.0, ">= 5"), 2.0, False),
        (Row("a", 4.0, goal="ratio <= 3"), None, None),  # no peer was measured
        (Row("a", 4.0), None, None),
    ],
)
def test_a_goal_is_of_the_figure_or_of_the_ratio(
    row: Row, ratio: float | None, holds: bool | None
) -> None:
    assert (row.ratio, row.holds) == (ratio, holds)
    shown = row.record()
    assert {"name", "ours", "peer", "ratio", "goal", "holds"} <= shown.keys()
    assert "NO" in row.line() if holds is False else "NO" not in row.line()


def test_a_benchmark_of_slopes_runs() -> None:
    rows = rows_of("clean_slopes", *SHORT["clean_slopes"])
    assert len(rows) == 3 and all(row["holds"] in (True, False) for row in rows)


@pytest.mark.system
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", sorted(SHORT))
def test_each_benchmark_runs_in_its_short_form(name: str) -> None:
    rows = rows_of(name, *SHORT[name])
    assert rows and all(row["holds"] in (True, False, None) for row in rows)
