"""tidemill: the command line. Every command takes --json; errors are one line on stderr."""

import os
import sys
from typing import Annotated, Any

import typer

from tidemill.cli.arguments import Application, Json, out
from tidemill.cli.clean import clean as _clean
from tidemill.cli.data import diff as _diff
from tidemill.cli.data import listed as _list
from tidemill.cli.errors import guarded
from tidemill.cli.label import label as _label
from tidemill.cli.new.command import new as _new
from tidemill.cli.plan import plan as _plan
from tidemill.cli.predict import predict as _predict
from tidemill.cli.restore import restore as _restore
from tidemill.cli.run import run as _run
from tidemill.cli.serve import serve as _serve
from tidemill.cli.sources import app as _sources
from tidemill.cli.status import status as _status
from tidemill.cli.trace import trace as _trace
from tidemill.cli.up import down as _down
from tidemill.cli.up import up as _up
from tidemill.cli.verify import verify as _verify

app = typer.Typer(
    name="tidemill",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="A model factory: from pages, feeds and data packages to models that were judged "
    "before they were let out.",
)
data = typer.Typer(
    no_args_is_help=True, help="Snapshots: what a model was made from, brought back by name."
)
# What asks neither Prefect's nor MLflow's server before it begins.
WITHOUT_SERVERS = ("up", "down", "plan", "data", "label", "trace", "serve", "sources")
app.add_typer(data, name="data")
app.add_typer(_sources, name="sources")
app.add_typer(_label, name="label")

app.command("run")(_run)
app.command("predict")(_predict)
app.command("status")(_status)


@app.command()
def rollback(
    application: Application,
    to: Annotated[
        str, typer.Option(help="A version's number; without it, the champion before this one.")
    ] = "",
    why: Annotated[
        str, typer.Option(help="Kept in the ledger.")
    ] = "rolled back from the command line",
    as_json: Json = False,
) -> None:
    """The previous champion again."""
    from tasks.register.promote import before, promote

    _known(application)
    receipt = promote(application, before(application, to), _person(), why)
    out(receipt.model_dump()) if as_json else typer.echo(
        f"{application}: version {receipt.version} is @champion, before it was {receipt.previous}"
    )


def _known(application: str) -> None:
    """Refused where it is neither a recipe nor, its recipe gone, an application with versions."""
    from tidemill import contract
    from tidemill.engines.mlflow import client, registry
    from tidemill.runtime.errors import Refused

    if application in (known := set(contract.names())):
        return
    if application not in (
        known := known if client.unborn() else known | set(registry.applications())
    ):
        raise Refused(f"no application '{application}'; there are {', '.join(sorted(known))}")


def _person() -> str:
    import getpass

    return os.environ.get("TIDEMILL_USER") or getpass.getuser()


@app.command()
def approve(
    application: Application,
    why: Annotated[str, typer.Option(help="Kept in the ledger.")],
    version: Annotated[
        str, typer.Option(help="A version's number; without it, the one that waits.")
    ] = "",
    as_json: Json = False,
) -> None:
    """A held version goes live, on a person's word."""
    from tasks.register.promote import promote
    from tidemill.engines.mlflow import registry
    from tidemill.runtime.errors import Refused

    _known(application)
    number = version or registry.aliased(application, "challenger")
    if number is None:
        raise Refused(
            f"no version of {application} waits for approval; tidemill status lists what there is"
        )
    receipt = promote(application, number, _person(), why)
    out(receipt.model_dump()) if as_json else typer.echo(
        f"{application}: version {receipt.version} is @champion, before it was {receipt.previous or 'none'}"
    )


@app.command()
def history(
    application: Application,
    at: Annotated[
        str, typer.Option(help="A date or time, as 2026-11-24: only what was live then.")
    ] = "",
    as_json: Json = False,
) -> None:
    """What was live, since when, who decided and why: the ledger, its chain checked."""
    from tidemill.engines.mlflow import ledger
    from tidemill.runtime.errors import Refused

    _known(application)
    entries = ledger.ledger(application)
    if at:
        entries = _live_at(entries, at)
    if as_json:
        out(entries)
        return
    if not entries:
        raise Refused(
            f"nothing of {application} was live{f' on {at}' if at else ' yet'}; tidemill run {application} makes a first version"
        )
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("at", "version", "previous", "by", "why"):
        table.add_column(column, overflow="fold")
    for entry in entries:
        table.add_row(
            *(str(entry.get(column) or "") for column in ("at", "version", "previous", "by", "why"))
        )
    Console().print(table)


def _live_at(entries: list[dict[str, Any]], at: str) -> list[dict[str, Any]]:
    """The entry that was in force at a time; a date means its end. In UTC where no zone is named."""
    from datetime import UTC, datetime, timedelta

    from tidemill.runtime.errors import Refused

    try:
        moment = datetime.fromisoformat(at)
    except ValueError as error:
        raise Refused(
            f"--at {at!r} is no date; write it as 2026-11-24 or 2026-11-24T06:00"
        ) from error
    if len(at) <= 10:
        moment += timedelta(days=1)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return [entry for entry in entries if datetime.fromisoformat(entry["at"]) <= moment][-1:]


@app.command()
def card(
    application: Annotated[
        str,
        typer.Argument(
            help="An application, or one version of it: NAME, NAME@3.",
            metavar="APPLICATION[@N]",
        ),
    ],
    as_json: Json = False,
) -> None:
    """The model card, made anew from what the registry keeps."""
    from tasks.register.card import read, render

    name, _, number = application.partition("@")
    _known(name)
    told = read(name, number)
    out(told) if as_json else typer.echo(render(told), nl=False)


app.command("up")(_up)
app.command("down")(_down)
app.command("clean")(_clean)
data.command("list")(_list)
data.command("diff")(_diff)
data.command("restore")(_restore)


app.command("plan")(_plan)
app.command("new")(_new)
app.command("serve")(_serve)
app.command("trace")(_trace)
app.command("verify")(_verify)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"tidemill {version('tidemill')}")
        raise typer.Exit


@app.callback()
def _before(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version, and nothing else.",
            is_eager=True,
            callback=_version,
        ),
    ] = False,
) -> None:
    from tidemill.runtime import paths
    from tidemill.servers.versions import check

    paths.settle()
    if context.invoked_subcommand not in WITHOUT_SERVERS:
        check()
    if debug:
        os.environ["TIDEMILL_DEBUG"] = "1"


def main() -> None:
    """The entry point. flows/, tasks/ and recipes/ are those of the project one is in."""
    from tidemill.runtime import paths

    if (project := paths.project()) is not None:
        sys.path.insert(0, str(project))
    guarded(lambda: app(standalone_mode=False))


if __name__ == "__main__":
    main()
