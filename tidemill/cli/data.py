"""tidemill data list and diff: which snapshots there are, and how two of them differ."""

from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli.arguments import Application, Json, add_row, out

if TYPE_CHECKING:
    from tidemill.engines.dvc.snapshots import ListedSnapshot
    from tidemill.records.receipts import DiffRow

Remote = Annotated[
    str, typer.Option(help="A DVC remote's folder or URL; without it, this project's own.")
]


def listed(
    recipe: Annotated[
        str, typer.Argument(help="Of one application; without it, of all.", metavar="[APPLICATION]")
    ] = "",
    last: Annotated[
        int, typer.Option(help="How many at most, the newest first; 0: all.", min=0)
    ] = 20,
    remote: Remote = "",
    as_json: Json = False,
) -> None:
    """The snapshots, the newest first.

    Of each: when, how many rows, and what changed since the one before, by source and language.
    """
    from tidemill import contract
    from tidemill.engines.dvc.snapshots import snapshots
    from tidemill.runtime.errors import Refused

    if recipe and not remote and recipe not in contract.names():
        raise Refused(f"no recipe '{recipe}'; recipes/ has {', '.join(contract.names())}")
    rows = snapshots(recipe, last, remote or None)
    if as_json:
        out(rows)
        return
    if not rows:
        typer.echo("no snapshot yet; tidemill run makes the first")
        return
    _show_snapshots(rows)


def carry(application: Application, as_json: Json = False) -> None:
    """Keep people's answers and every document's split where the documents' ids changed.

    In a project that was made before documents were known by what they are, and where a source
    names a key now.
    """
    from tasks.label.carry import carry as carried
    from tidemill import contract
    from tidemill.runtime.errors import Refused

    if application not in contract.names():
        raise Refused(f"no recipe '{application}'; recipes/ has {', '.join(contract.names())}")
    counts = carried(application)
    if as_json:
        out({"application": application, **counts})
        return
    typer.echo(
        f"{counts['answers']:,} answers and the splits of {counts['documents']:,} documents of "
        f"{application} hold under their ids of today"
        + ("; commit data/people and data/carried" if any(counts.values()) else "")
    )


def _show_snapshots(rows: "list[ListedSnapshot]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    # A snapshot is shown by the name that diff and restore take.
    for name in ("application", "snapshot", "made"):
        table.add_column(name, no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("since the one before", overflow="fold")
    for one in rows:
        add_row(
            table,
            one["recipe"],
            f"{one['recipe']}-{one['digest'][:16]}",
            one["at"].replace("T", " ")[:16],
            f"{sum(one['rows'].values()):,}",
            in_words(one["changed"]),
        )
    Console().print(table)


def diff(
    old: Annotated[
        str,
        typer.Argument(
            help="A snapshot's name: RECIPE-DIGEST16, or a tag such as data/NAME/2026-11-23."
        ),
    ],
    new: Annotated[str, typer.Argument(help="Another one of the same application.")],
    remote: Remote = "",
    as_json: Json = False,
) -> None:
    """What changed from the first snapshot to the second, by source and language."""
    from tidemill.engines.dvc.snapshots import compared

    between = compared(old, new, remote or None)
    if as_json:
        out(between)
        return
    old_rows, new_rows = (sum(rows.values()) for rows in between["rows"])
    typer.echo(
        f"{between['recipe']} {between['old'][:16]} ({old_rows:,} rows) and "
        f"{between['new'][:16]} ({new_rows:,} rows): "
        + (
            ", ".join(f"{count:,} {what}" for what, count in between["changed"].items())
            if between["by"]
            else "the same rows"
        )
    )
    if between["by"]:
        _show_changes(between["by"])


def _show_changes(by: "list[DiffRow]") -> None:
    """A row for each source and language, those that changed most first."""
    from rich.console import Console
    from rich.table import Table

    from tidemill.engines.dvc.snapshot_diff import totals

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("source", "language"):
        table.add_column(name)
    for name in ("added", "changed", "gone", "moved"):
        table.add_column(name, justify="right")
    for row in sorted(
        by,
        key=lambda row: (
            -_changes(row),
            row["source"],
            row["language"],
        ),
    ):
        add_row(
            table,
            row["source"],
            row["language"],
            *(f"{count:,}" for count in totals([row]).values()),
        )
    Console().print(table)


def _changes(row: "DiffRow") -> int:
    return row["added"] + row["changed"] + row["gone"] + row.get("moved", 0)


def in_words(by: "list[DiffRow] | None") -> str:
    """Sums by source, and the languages most of it is in."""
    from tidemill.engines.dvc.snapshot_diff import totals

    if by is None:
        return "the first one"
    if not by:
        return "the same rows"
    words = []
    for source in sorted({row["source"] for row in by}):
        mine = [row for row in by if row["source"] == source]
        counts = ", ".join(f"{total:,} {name}" for name, total in totals(mine).items() if total)
        named = sorted(
            (row for row in mine if row["language"]),
            key=lambda row: -_changes(row),
        )
        more = f" (and {len(named) - 3} more)" if len(named) > 3 else ""
        words.append(
            f"{source} {counts}"
            + (f" in {', '.join(str(row['language']) for row in named[:3])}{more}" if named else "")
        )
    return "; ".join(words)
