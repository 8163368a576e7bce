"""tidemill trace: from a model to its pages, and from a page to its models."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from tidemill.cli.arguments import Json, add_row, out
from tidemill.runtime.escape import line, terminal

if TYPE_CHECKING:
    from tidemill.lineage.trace import CountedBy, VersionPage

COUNTED_BY: "tuple[CountedBy, ...]" = ("split", "source", "host", "licence", "opt_out")


class TracedModel(TypedDict):
    """What a version was made from: its documents, counted in several ways."""

    application: str
    version: str
    documents: int
    list: str  # the path of the list of its pages
    split: dict[str, int]
    source: dict[str, int]
    host: dict[str, int]
    licence: dict[str, int]
    opt_out: dict[str, int]


def trace(
    what: Annotated[
        str,
        typer.Argument(
            help="A model or a page: NAME, NAME@3, or the address of a page, of a part of one or "
            "of a package's member.",
            metavar="APPLICATION[@N] | URL",
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            help="Where the list of a model's pages goes, as CSV; without it, under "
            ".tidemill/trace/.",
        ),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print a page's very bytes, as they were collected.")
    ] = False,
    as_json: Json = False,
) -> None:
    """From a model to its pages, and from a page to its models."""
    from tidemill.lineage import trace as lineage

    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", what):
        what = lineage.spelled(what)
        for words in lineage.complete():
            typer.echo(f"not in the index: {line(words)}", err=True)
        if show:
            sys.stdout.buffer.write(lineage.body(what))
            return
        _page(what, as_json)
        return
    _model(*what.partition("@")[::2], to, as_json)


def _page(url: str, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from tidemill.lineage import trace as lineage

    versions = lineage.models(url)
    why = {} if versions else lineage.dropped(url)
    if as_json:
        out({"page": url, "models": versions, "dropped": why})
        return
    if not versions:
        reasons = ", ".join(
            f"{count} part{'s' if count != 1 else ''}: {name}" for name, count in why.items()
        )
        typer.echo(
            f"no registered version was made from {line(url)}"
            + (f"; today's data leaves it out: {line(reasons)}" if reasons else "")
        )
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in versions[0]:
        table.add_column(column)
    for row in versions:
        add_row(
            table,
            *(str(value)[:16] if name == "snapshot" else str(value) for name, value in row.items()),
        )
    Console().print(table)


def _model(application: str, number: str, to: Path | None, as_json: bool) -> None:
    from tidemill.engines.mlflow.live import live
    from tidemill.lineage import trace as lineage
    from tidemill.runtime.errors import Refused
    from tidemill.runtime.paths import state

    version = number or live(application).version
    if version is None:
        raise Refused(
            f"{application} has no champion; name a version as {application}@1, or a page by its "
            "whole address"
        )
    rows = _pages(application, version)
    path = to or state("trace", f"{application}-{version}.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    lineage.save(rows, path)
    traced: TracedModel = {
        "application": application,
        "version": version,
        "documents": len({row["uri"] for row in rows}),
        "list": str(path),
        "split": lineage.summary(rows, "split"),
        "source": lineage.summary(rows, "source"),
        "host": lineage.summary(rows, "host"),
        "licence": lineage.summary(rows, "licence"),
        "opt_out": lineage.summary(rows, "opt_out"),
    }
    if as_json:
        out(traced)
    else:
        _show_model(traced, path)


def _pages(application: str, version: str) -> "list[VersionPage]":
    """A version's pages from the index; where it has none, after the version was put into it."""
    from tidemill.engines.mlflow import registry, tags
    from tidemill.lineage import trace as lineage
    from tidemill.runtime.errors import Refused

    if rows := lineage.pages(application, version):
        return rows
    snapshot = registry.tag(application, version, tags.SNAPSHOT)
    if snapshot is None:
        raise Refused(f"no version {version} of {application}; tidemill status lists what there is")
    lineage.recover(application, version, snapshot)
    return lineage.pages(application, version)


def _show_model(traced: TracedModel, path: Path) -> None:
    """What a version was made from, in words, and where the list of its pages is."""
    from rich.console import Console

    from tidemill.runtime.paths import root

    console = Console(highlight=False, emoji=False)
    version = terminal(f"{traced['application']} version {traced['version']}")
    console.print(f"[bold]{version}[/] was made from {traced['documents']:,} documents")
    for by in COUNTED_BY:
        named = {"opt_out": "opt-out"}.get(by, by)
        shown = [f"{count:,} {name}" for name, count in traced[by].items()]
        console.print(
            f"  [dim]{named:8}[/] {terminal(', '.join(shown[:8]))}"
            + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")
        )
    console.print(
        "The list is in "
        f"{terminal(path.relative_to(root()) if path.is_relative_to(root()) else path)}"
    )
