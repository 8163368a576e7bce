"""tidemill history: the ledger."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli.arguments import Application, Json, out
from tidemill.cli.deciding import known

if TYPE_CHECKING:
    from tidemill.engines.mlflow.ledger import LedgerDecision

COLUMNS = ("at", "version", "previous", "by", "why")


def history(
    application: Application,
    at: Annotated[
        str, typer.Option(help="A date or time, as 2026-11-24: only what was live then.")
    ] = "",
    as_json: Json = False,
) -> None:
    """What was live, since when, who decided and why: the ledger, its signatures checked."""
    from tidemill.engines.mlflow import ledger
    from tidemill.runtime.errors import Refused

    known(application)
    entries = ledger.ledger(application)
    if at:
        entries = live_at(entries, at)
    if as_json:
        out([entry.model_dump() for entry in entries])
        return
    if not entries:
        raise Refused(
            f"nothing of {application} was live{f' on {at}' if at else ' yet'}; "
            f"tidemill run {application} makes a first version"
        )
    show(entries)


def show(entries: "list[LedgerDecision]") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for entry in entries:
        cells = [escape(str(getattr(entry, column) or "")) for column in COLUMNS]
        if not entry.carried_out:
            cells[1] += " (not carried out)"
        table.add_row(*cells)
    Console().print(table)


def live_at(entries: "list[LedgerDecision]", at: str) -> "list[LedgerDecision]":
    """The decision that was in force at a time; a date means its end, in UTC without a zone."""
    from tidemill.runtime.errors import Refused

    try:
        moment = datetime.fromisoformat(at)
    except ValueError as error:
        raise Refused(
            f"--at {at!r} is no date; write it as 2026-11-24 or 2026-11-24T06:00"
        ) from error
    if len(at) <= len("2026-11-24"):
        moment += timedelta(days=1)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    carried_out = [entry for entry in entries if entry.carried_out]
    return [entry for entry in carried_out if datetime.fromisoformat(entry.at) <= moment][-1:]
