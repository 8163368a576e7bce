"""tidemill label: examples out to people, and their answers in again.

The least certain examples go out; and it is said what the voters are worth.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidemill.cli.arguments import Application, Json, add_row, out

if TYPE_CHECKING:
    from tidemill.records.reports import Decided, LabelReport, VoterRow

label = typer.Typer(
    no_args_is_help=True,
    help="Labels: what voters and people say, out to Label Studio and in again.",
)


def examples(application: str) -> Any:
    """The examples as label left them; refused where there are none."""
    from tidemill import contract
    from tidemill.records import blobs
    from tidemill.runtime import paths
    from tidemill.runtime.errors import Fault, Refused

    if application not in contract.names():
        raise Refused(f"no recipe '{application}'; recipes/ has {', '.join(contract.names())}")
    path = paths.data("labels", application) / "examples.parquet"
    if not path.is_file():
        raise Refused(f"data/labels/{application} has no examples; run: tidemill run {application}")
    try:
        return blobs.examples(path)
    except (OSError, ValueError) as error:
        raise Fault(
            f"{path} cannot be read ({' '.join(str(error).split())[:100]}); make it again: dvc "
            f"repro -f --single-item label@{application}"
        ) from error


@label.command("export")
def exported(
    application: Application,
    rows: Annotated[int, typer.Option(help="How many, the least certain first.", min=1)] = 100,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            help="The file of tasks; without it, under .tidemill/labels/. The labelling "
            "configuration lies beside it, as .xml.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the least certain examples that nobody answered yet as tasks for Label Studio."""
    from tasks.label import people
    from tidemill.runtime import paths
    from tidemill.runtime.files import write

    there = examples(application)
    tasks, configuration = people.tasks(there, application, rows)
    alike = there["confidence"].nunique() == 1
    path = to or paths.state("labels", f"{application}.json")
    write(path, json.dumps(tasks, ensure_ascii=False, indent=1) + "\n")
    labelling = path.with_suffix(".xml")
    write(labelling, configuration)
    exports = {
        "application": application,
        "tasks": len(tasks),
        "file": str(path),
        "configuration": str(labelling),
    }
    typer.echo(
        json.dumps(exports, indent=1)
        if as_json
        else f"{len(tasks):,} tasks are in {path}; make a project of Label Studio with the "
        f"configuration {path.with_suffix('.xml')}, import "
        f"them{'; all labels are believed alike, so these are any' if alike else ''}, and "
        f"bring the export back: tidemill label import {application} FILE"
    )


@label.command("import")
def imported(
    application: Application,
    file: Annotated[Path, typer.Argument(help="Label Studio's export: JSON or JSON-MIN.")],
    new: Annotated[
        bool, typer.Option("--new", help="Take answers that no example has yet.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Merge people's answers into data/people; they win from the next run on."""
    from tasks.label import people

    counts = people.taken(application, file, examples(application), new)
    merged = {"application": application, "file": str(people.path(application)), **counts}
    words = ", ".join(f"{count:,} {what}" for what, count in counts.items()) or "nothing"
    typer.echo(
        json.dumps(merged, indent=1)
        if as_json
        else f"{words}; people have the word on {len(people.answers(application)):,} examples of "
        f"{application} from the next run on"
    )


@label.command("report")
def reported(application: Application, as_json: Json = False) -> None:
    """What each voter covers, and how often it has company, contradicts and is right.

    Also which labels are doubtful.
    """
    from tidemill.runtime import paths
    from tidemill.runtime.errors import Fault

    examples(application)
    path = paths.data("labels", application) / "report.json"
    try:
        report: LabelReport = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Fault(
            f"{path} cannot be read; make it again: dvc repro -f --single-item label@{application}"
        ) from error
    names = ("voters", "people", "unmatched", "decided", "issues", "alike")
    if as_json:
        kept = {name: value for name, value in report.items() if name in names}
        out({"application": application, **kept})
        return
    _print_labels(application, report)


def _print_labels(application: str, report: "LabelReport") -> None:
    """A report's figures as words and a table."""
    if unmatched := report.get("unmatched"):
        from tasks.label import people

        typer.echo(people.unmatched(application, unmatched))
    if not report.get("voters"):
        typer.echo(f"{application} has no voters: its source alone says what is right")
        return
    _print_voters(report["voters"])
    if decided := report.get("decided"):
        typer.echo(_how_decided(decided))
    if issues := report.get("issues"):
        weighted = issues.get("weighted")
        counts_less = f"; {weighted:,} examples count less in training" if weighted else ""
        typer.echo(
            f"{issues['doubtful']:,} of {issues['rows']:,} labels are doubtful; "
            f"data/labels/{application}/issues.parquet names them{counts_less}"
        )
    for spellings in report.get("alike", ()):
        words = ", ".join(f"{answer!r} ({count:,})" for answer, count in spellings.items())
        typer.echo(f"labels that differ in spaces, case or Unicode form alone: {words}")


def _print_voters(voters: "list[VoterRow]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("voter", "says"):
        table.add_column(name)
    for name in ("coverage", "overlap", "conflict", "accuracy"):
        table.add_column(name, justify="right")
    table.add_column("of rows", justify="right")
    table.add_column("measured on")
    for row in voters:
        add_row(
            table,
            row["voter"],
            row["kind"],
            *(f"{share:.1%}" for share in (row["coverage"], row["overlap"], row["conflict"])),
            "" if row["accuracy"] is None else f"{row['accuracy']:.1%}",
            f"{row['rows']:,}",
            row["measured_on"],
        )
    Console().print(table)


def _how_decided(decided: "Decided") -> str:
    scores = {name: score for name, score in decided.items() if name != "by"}
    if not scores:
        return (
            f"labels are decided by {decided['by']}, since too few people's labels say which is "
            f"better"
        )
    words = ", ".join(f"{name} {score:.1%}" for name, score in scores.items())
    return f"labels are decided by {decided['by']} ({words} on people's labels)"
