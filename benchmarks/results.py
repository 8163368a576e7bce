"""python -m benchmarks.results [NAME ...] [--run] [--json]: README's table of results.

What each application reaches, read from the receipts of its last judged run; with --run from a run
made now, from nothing, in a clone of its own, which also gives how long it takes. A row is known by
the run's key.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tidemill import contract
from tidemill.engines import config
from tidemill.records.receipts import Judged, Scored
from tidemill.run.plan import Plan
from tidemill.runtime import paths
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import write, write_json

BEGIN, END = "<!-- results: made by `make results` -->", "<!-- end of results -->"


def row(name: str, root: Path) -> dict[str, Any] | None:
    """What the last judged run of an application under `root` reached; None where there is none."""
    found = []
    for path in (root / ".tidemill" / "runs").glob("*/judge.json"):
        plan, judged, scored = (
            Plan.load(path.with_name("run.json")),
            Judged.load(path),
            Scored.load(path.with_name("score.json")),
        )
        if plan and judged and scored and plan.application == name:
            found.append((path.stat().st_mtime, plan, judged, scored))
    if not found:
        return None
    at, plan, judged, scored = max(found, key=lambda item: item[0])
    whole = next(line for line in judged.table if line["slice"] == "all")
    report = root / "data" / "splits" / name / "report.json"
    told = json.loads(report.read_text()) if report.is_file() else {}
    known = (
        told.get("counts", {}) if told.get("snapshot") == plan.snapshot else {"test": scored.rows}
    )
    metric, meaning = next(iter(contract.application(name).metrics.items()))
    settings = plan.recipe.score
    return {
        "application": name,
        "data": [use.name for use in plan.recipe.sources],
        "rows": known,
        "metric": metric,
        "better": meaning.better,
        "simpler": judged.simpler.model_dump() if judged.simpler else None,
        **{column: whole.get(column) for column in ("candidate", "low", "high")},
        "level": round(1 - 2 * settings.alpha, 4),
        "verdict": judged.verdict,
        "because": judged.because,
        "key": plan.key,
        "minutes": None,
        "cores": None,
        "at": int(at),
    }


def kept(name: str) -> dict[str, Any] | None:
    """The row of the last run here, with the minutes of the last one from nothing.

    That one's row where there is none here.
    """
    path = paths.state("results", f"{name}.json")
    timed = json.loads(path.read_text()) if path.is_file() else None
    found = row(name, paths.root())
    if timed and (found is None or found["at"] <= timed["at"]):
        return timed
    if found and timed:
        found |= {"minutes": timed["minutes"], "cores": timed["cores"]}
    return found


def run(name: str) -> dict[str, Any]:
    """One retraining from nothing but the downloaded packages, in a clone of what is committed."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(
            ["git", "clone", "--quiet", "--no-tags", "--local", str(paths.root()), str(clone)],
            check=True,
        )
        variables = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PREFECT_", "MLFLOW_", "OPTUNA_", "TIDEMILL_", "DVC_"))
        }
        variables |= {"PYTHONPATH": str(clone), "TIDEMILL_CACHE": str(paths.cache().resolve())}
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "tidemill.cli", "run", name, "--json"],
            cwd=clone,
            env=variables,
            capture_output=True,
            text=True,
        )
        wall = time.monotonic() - began
        if done.returncode:
            raise Refused(
                f"the run of {name} ended with {done.returncode}: "
                f"{(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}"
            )
        made = row(name, clone)
    if made is None:
        raise Refused(f"the run of {name} left no verdict")
    made |= {"minutes": round(wall / 60, 2), "cores": len(os.sched_getaffinity(0))}
    write_json(paths.state("results", f"{name}.json"), made)
    return made


HEAD = (
    "application",
    "data (rows: train / test)",
    "metric",
    "best simpler model",
    "ours",
    "difference, paired",
    "minutes",
    "verdict",
)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as markdown; an interval stands in brackets."""
    lines = [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
    return "\n".join([*lines, *map(_line, rows)])


def _line(item: dict[str, Any]) -> str:
    train = f"{item['rows']['train']:,}" if "train" in item["rows"] else "-"
    minutes = "not timed"
    if item["minutes"] is not None:
        minutes = f"{item['minutes']:.1f} on {item['cores']} cores"
    beside, gain = "none", "none"
    if simpler := item["simpler"]:
        beside = f"{simpler['figure']:.3f} ({simpler['model']})"
        gain = f"{simpler['gain']:+.3f}{_ends(simpler, '+.3f')}"
    cells = (
        f"`{item['application']}`",
        f"{', '.join(item['data'])} ({train} / {item['rows']['test']:,})",
        f"{item['metric']}, {item['better']} is better",
        beside,
        f"**{item['candidate']:.3f}**{_ends(item, '.3f')}",
        gain,
        minutes,
        item["verdict"],
    )
    return f"| {' | '.join(cells)} |"


def _ends(item: dict[str, Any], form: str) -> str:
    """The ends of an interval, where there is one."""
    if item["low"] is None:
        return ""
    return f" [{item['low']:{form}}, {item['high']:{form}}]"


def placed(page: str, text: str) -> str:
    """A page with the table between its two marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise Refused(
            f"README.md has no place for the table; put the lines {BEGIN} and {END} where it "
            "belongs"
        )
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def main(arguments: list[str]) -> None:
    known = argparse.ArgumentParser(
        prog="python -m benchmarks.results", description=(__doc__ or "").splitlines()[0]
    )
    known.add_argument(
        "names", nargs="*", metavar="NAME", help="applications to run or to show; none: all"
    )
    known.add_argument(
        "--run", action="store_true", help="run them now, from nothing, each in a clone of its own"
    )
    known.add_argument(
        "--json", action="store_true", help="print the rows instead of writing README.md"
    )
    given = known.parse_args(arguments)
    if unknown := sorted(set(given.names) - set(config.files("recipe"))):
        raise Refused(
            f"no recipe '{unknown[0]}'; conf/recipe has {', '.join(config.files('recipe'))}"
        )
    chosen = given.names or config.files("recipe")
    if given.run:
        for name in chosen:
            run(name)
    rows = [
        found
        for name in (chosen if given.json else config.files("recipe"))
        if (found := kept(name))
    ]
    if given.json:
        print(json.dumps(rows, indent=1))
        return
    if not rows:
        raise Refused(
            "no application has a verdict yet; python -m benchmarks.results --run makes them"
        )
    page = paths.root() / "README.md"
    write(page, placed(page.read_text(), table(rows)))
    print(table(rows))


if __name__ == "__main__":
    paths.settle()
    try:
        main(sys.argv[1:])
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
