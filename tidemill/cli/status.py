"""tidemill status: what is live, and how the last runs ended."""

from typing import TYPE_CHECKING, Any

from tidemill.cli.arguments import Json, add_row, out

if TYPE_CHECKING:
    from tidemill.engines.mlflow.condition import Condition

LIVE_COLUMNS = ("application", "champion", "challenger", "since", "by", "why")
RUN_COLUMNS = ("application", "state", "at", "run_id", "because")


def status(as_json: Json = False) -> None:
    """What is live, since when and why; how the last runs ended; what is wrong in the registry."""
    from tidemill.engines import config
    from tidemill.engines.mlflow import runs
    from tidemill.engines.mlflow.condition import conditions

    found = conditions()
    live = [live_row(there) for there in found.values()]
    problems = [line for there in found.values() for line in there.lines()]
    recent = runs.recent(list(found) or config.files("recipe"))
    if as_json:
        out({"live": live, "problems": problems, "runs": recent})
        return
    show(live, problems, recent)


def live_row(there: "Condition") -> dict[str, Any]:
    """What is live of an application, with the ledger's decision on that very version."""
    from tidemill.engines.mlflow import ledger
    from tidemill.runtime.errors import Fault

    now = there.live
    row: dict[str, Any] = dict.fromkeys(("since", "by", "why"))
    try:
        decisions = [entry for entry in ledger.ledger(now.application) if entry.carried_out]
    except Fault:  # it is among the problems
        decisions = []
    if decisions and decisions[-1].version == now.version:
        last = decisions[-1]
        row = {"since": last.at, "by": last.by, "why": last.why}
    return {
        "application": now.application,
        "champion": now.version,
        "alias": now.alias,
        **row,
        "challenger": now.challenger,
    }


def show(live: list[dict[str, Any]], problems: list[str], recent: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    if not live:
        console.print("Nothing is live yet. Start with: [bold]tidemill run[/]")
    for title, rows, columns in (
        ("live", live, LIVE_COLUMNS),
        ("last runs", recent, RUN_COLUMNS),
    ):
        if rows:
            console.print(table(title, rows, columns))
    for line in problems:
        console.print(f"[bold red]registry[/] {escape(line)}", highlight=False)


def table(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Any:
    """Short columns whole, and the last one, which is prose, wrapped beside them."""
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
        grid.add_column(column.removesuffix("_id"), no_wrap=column != columns[-1])
    for row in rows:
        add_row(grid, *(_short(column, row.get(column)) for column in columns))
    return grid


def _short(column: str, value: object) -> str:
    """A time to the minute in UTC, and of a run's id what tells it apart; --json has them whole."""
    words = "" if value is None else str(value)
    if column in ("since", "at"):
        return words[:16].replace("T", " ")
    return words[:8] if column == "run_id" else words
