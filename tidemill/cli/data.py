"""tidemill data list and diff: which snapshots there are, and how two of them differ."""

from typing import Annotated, Any

import typer

from tidemill.cli.arguments import Json, add_row, out

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
    found = snapshots(recipe, last, remote or None)
    if as_json:
        out(found)
        return
    if not found:
        typer.echo("no snapshot yet; tidemill run makes the first")
        return
    _show_snapshots(found)


def _show_snapshots(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    # A snapshot is shown by the name that diff and restore take.
    for name in ("application", "snapshot", "made"):
        table.add_column(name, no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("since the one before", overflow="fold")
    for one in found:
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

    found = compared(old, new, remote or None)
    if as_json:
        out(found)
        return
    typer.echo(
        f"{found['recipe']} {found['old'][:16]} ({sum(found['rows'][0].values()):,} rows) and "
        f"{found['new'][:16]} ({sum(found['rows'][1].values()):,} rows): "
        + (
            ", ".join(f"{count:,} {what}" for what, count in found["changed"].items())
            if found["by"]
            else "the same rows"
        )
    )
    if found["by"]:
        _show_changes(found["by"])


def _show_changes(by: list[dict[str, Any]]) -> None:
    """A row for each source and language, those that changed most first."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("source", "language"):
        table.add_column(name)
    for name in ("added", "changed", "gone"):
        table.add_column(name, justify="right")
    for row in sorted(
        by,
        key=lambda row: (
            -(row["added"] + row["changed"] + row["gone"]),
            row["source"],
            row["language"],
        ),
    ):
        add_row(
            table,
            row["source"],
            row["language"],
            *(f"{row[name]:,}" for name in ("added", "changed", "gone")),
        )
    Console().print(table)


def in_words(by: list[dict[str, Any]] | None) -> str:
    """Sums by source, and the languages most of it is in."""
    if by is None:
        return "the first one"
    if not by:
        return "the same rows"
    words = []
    for source in sorted({row["source"] for row in by}):
        mine = [row for row in by if row["source"] == source]
        counts = ", ".join(
            f"{total:,} {name}"
            for name in ("added", "changed", "gone")
            if (total := sum(row[name] for row in mine))
        )
        named = sorted(
            (row for row in mine if row["language"]),
            key=lambda row: -(row["added"] + row["changed"] + row["gone"]),
        )
        more = f" (and {len(named) - 3} more)" if len(named) > 3 else ""
        words.append(
            f"{source} {counts}"
            + (f" in {', '.join(str(row['language']) for row in named[:3])}{more}" if named else "")
        )
    return "; ".join(words)
