"""tidemill run: one retraining, here and now."""

import contextlib
import os
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli.arguments import Json, names, out
from tidemill.cli.errors import STOPPED, fail
from tidemill.runtime.lifetimes import guardian, stopping

if TYPE_CHECKING:
    from rich.console import Console

    from tidemill.cli.panel import NightPanel
    from tidemill.records.receipts import RunSummary

WIDTH = 160  # of a table in a file, where nobody's window sets it

Which = Annotated[
    str,
    typer.Argument(
        help="A file of conf/recipe; by default the one that conf/config.yaml names.",
        autocompletion=names,
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Settings of the model half, as in model.lr=0.002 trainer=gpu.",
        metavar="KEY=VALUE...",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Stop after the verdict: register and promote nothing."),
]
Ask = Annotated[
    bool,
    typer.Option(
        "--ask",
        help="Where the evidence is not enough, wait for a form on the run's page "
        "(needs tidemill up).",
    ),
]


def run(
    application: Which = "",
    overrides: Overrides = None,
    dry_run: DryRun = False,
    ask: Ask = False,
    as_json: Json = False,
) -> None:
    """One retraining, here and now; what the night does."""
    from tidemill.engines import config

    application = application or config.general().application
    retrained(application, list(overrides or []), dry_run, ask, as_json, "started")


def retrained(
    application: str, given: list[str], dry_run: bool, ask: bool, as_json: bool, what: str
) -> None:
    """Run the flow with its panel; `what` was done from the command line."""
    from tidemill.engines import config
    from tidemill.runtime import process

    stopping.listen(lambda code: fail(STOPPED, code))
    # Fail before spending: configuration before Prefect's start.
    config.check_machine(config.recipe(application, given))
    guardian.watched()
    from flows.forms import Application
    from flows.retrain import retrain
    from tidemill.cli.panel import NightPanel

    console = _console(as_json)
    with NightPanel(console, quiet=as_json) as night:
        process.listeners.append(night)
        try:
            retrain(Application(application), given, dry_run, ask, f"{what} from the command line")
        finally:
            process.listeners.remove(night)
    if as_json:
        out(_answer(night).figures())
    else:
        console.print(night.panel(*_standing(application)))


def _console(as_json: bool) -> "Console":
    from rich.console import Console

    console = Console(stderr=as_json)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(stderr=as_json, width=WIDTH)


def _answer(night: "NightPanel") -> "RunSummary":
    from tidemill.records.receipts import RunSummary

    assert night.end is not None
    seconds = {name: round(wall, 2) for name, wall in night.walls.items()}
    peak_mb = {name: round(cost.peak_mb) for name, cost in night.costs.items()}
    return RunSummary.model_validate(
        {**night.end.figures(), "seconds": seconds, "peak_mb": peak_mb}
    )


def _standing(application: str) -> tuple[str | None, str | None]:
    """The version that is live and the one that waits for a person.

    Unknown is none, since the run itself has ended well.
    """
    from tidemill.engines.mlflow.live import live
    from tidemill.runtime.errors import Fault

    with contextlib.suppress(Fault):
        now = live(application)
        return now.version, now.challenger
    return None, None
