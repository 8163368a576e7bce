"""tidemill status: what is live, and how the last runs ended."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from tidemill.cli.arguments import Json, add_row, out

if TYPE_CHECKING:
    from tidemill.engines.mlflow.condition import Condition
    from tidemill.engines.mlflow.runs import RecentRun

LIVE_COLUMNS = ("application", "champion", "challenger", "since", "by", "why")
BY = "by"  # a name, which may be as long as an address of mail
RUN_COLUMNS = ("application", "state", "at", "run_id", "because")


class LiveRow(TypedDict):
    """What is live of an application, and the decision that made it so."""

    application: str
    champion: str | None
    alias: str | None
    since: str | None
    by: str | None
    why: str | None
    challenger: str | None


def status(as_json: Json = False) -> None:
    """What is live, since when and why; how the last runs ended; what is wrong in the registry."""
    from tidemill.engines import config
    from tidemill.engines.mlflow import runs
    from tidemill.engines.mlflow.condition import conditions

    there = conditions()
    live = [live_row(condition) for condition in there.values()]
    problems = [line for condition in there.values() for line in condition.lines()]
    recent = runs.recent(list(there) or config.files("recipe"))
    if as_json:
        out({"live": live, "problems": problems, "runs": recent})
        return
    show(live, problems, recent)


def live_row(there: "Condition") -> LiveRow:
    """What is live of an application, with the ledger's decision on that very version."""
    from tidemill.engines.mlflow import ledger
    from tidemill.runtime.errors import Fault

    now = there.live
    try:
        decisions = [entry for entry in ledger.ledger(now.application) if entry.carried_out]
    except Fault:  # it is among the problems
        decisions = []
    last = decisions[-1] if decisions and decisions[-1].version == now.version else None
    return {
        "application": now.application,
        "champion": now.version,
        "alias": now.alias,
        "since": last.at if last else None,
        "by": last.by if last else None,
        "why": last.why if last else None,
        "challenger": now.challenger,
    }


def show(live: list[LiveRow], problems: list[str], recent: "list[RecentRun]") -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    if not live:
        console.print("Nothing is live yet. Start with: [bold]tidemill run[/]")
    if live:
        console.print(table("live", live, LIVE_COLUMNS))
    if recent:
        console.print(table("last runs", recent, RUN_COLUMNS))
    for line in problems:
        console.print(f"[bold red]registry[/] {escape(line)}", highlight=False)


def table(
    title: str, rows: "Sequence[LiveRow] | Sequence[RecentRun]", columns: tuple[str, ...]
) -> Any:
    """Short columns whole; who decided, and the last one, which is prose, wrapped beside them."""
    from rich.table import Table

    grid = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        header_style="dim",
    )
    for column in columns:
        whole = column not in (BY, columns[-1])
        grid.add_column(column.removesuffix("_id"), no_wrap=whole, overflow="fold")
    for row in rows:
        cells: Mapping[str, object] = row
        add_row(grid, *(_short(column, cells.get(column)) for column in columns))
    return grid


def _short(column: str, value: object) -> str:
    """A time to the minute in UTC, and of a run's id what tells it apart; --json has them whole."""
    words = "" if value is None else str(value)
    if column in ("since", "at"):
        return words[:16].replace("T", " ")
    return words[:8] if column == "run_id" else words
