"""tidemill: the command line. Every command takes --json; errors are one line on stderr."""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from tidemill.cli.approve import approve as _approve
from tidemill.cli.arguments import Json, names, out
from tidemill.cli.data import diff as _diff
from tidemill.cli.data import listed as _list
from tidemill.cli.deciding import known
from tidemill.cli.history import history as _history
from tidemill.cli.label import label as _label
from tidemill.cli.new.command import new as _new
from tidemill.cli.plan import plan as _plan
from tidemill.cli.power import power as _power
from tidemill.cli.predict import predict as _predict
from tidemill.cli.rollback import rollback as _rollback
from tidemill.cli.serve import serve as _serve
from tidemill.cli.sources import app as _sources
from tidemill.cli.status import status as _status
from tidemill.cli.trace import trace as _trace
from tidemill.cli.verify import verify as _verify
from tidemill.runtime.escape import line
from tidemill.runtime.lifetimes import guardian, stopping

app = typer.Typer(
    name="tidemill",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="A model factory: from pages, feeds and data packages to models that were judged before they were let out.",
)
data = typer.Typer(
    no_args_is_help=True, help="Snapshots: what a model was made from, brought back by name."
)
app.add_typer(data, name="data")
app.add_typer(_sources, name="sources")
app.add_typer(_label, name="label")

STOPPED = "stopped; what was finished is kept, and the same command goes on"
INTERRUPTED = 130


@app.command()
def run(
    application: Annotated[
        str,
        typer.Argument(
            help="A file of conf/recipe; by default the one that conf/config.yaml names.",
            autocompletion=names,
            show_default=False,
        ),
    ] = "",
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Settings of the model half, as in model.lr=0.002 trainer=gpu.",
            metavar="KEY=VALUE...",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Stop after the verdict: register and promote nothing."),
    ] = False,
    ask: Annotated[
        bool,
        typer.Option(
            "--ask",
            help="Where the evidence is not enough, wait for a form on the run's page (needs tidemill up).",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """One retraining, here and now; what the night does."""
    from rich.console import Console

    from tidemill.engines import config
    from tidemill.runtime import process

    stopping.listen(lambda code: _fail(STOPPED, code))
    given = list(overrides or [])
    application = application or config.general().application
    # Fail before spending: configuration before Prefect's start.
    config.check_hardware(config.recipe(application, given))
    guardian.watched()
    from flows.forms import Application
    from flows.retrain import retrain
    from tidemill.cli.panel import Night

    console = Console(stderr=as_json)
    with Night(console, quiet=as_json) as night:
        process.listeners.append(night)
        try:
            retrain(Application(application), given, dry_run, ask, "started from the command line")
        finally:
            process.listeners.remove(night)
    if as_json:
        out(
            {
                **night.said["end"]["end"],
                "seconds": {name: round(wall, 2) for name, wall in night.walls.items()},
                "peak_mb": {name: round(cost["peak_mb"]) for name, cost in night.costs.items()},
            }
        )
    else:
        console.print(night.panel(*_standing(application)))


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


app.command("predict")(_predict)
app.command("status")(_status)
app.command("rollback")(_rollback)
app.command("approve")(_approve)
app.command("history")(_history)


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
    known(name)
    kept = read(name, number)
    out(kept.model_dump(mode="json")) if as_json else typer.echo(render(kept), nl=False)


@app.command()
def up(
    detach: Annotated[
        bool,
        typer.Option(
            "--detach",
            help="Come back once all answer, and leave them running; tidemill down stops them.",
        ),
    ] = False,
    prefect_port: Annotated[
        int | None, typer.Option(help="Prefect's port; without it 4200, or any that is free.")
    ] = None,
    mlflow_port: Annotated[
        int | None, typer.Option(help="MLflow's port; without it 5000, or any that is free.")
    ] = None,
    serve_port: Annotated[
        int | None,
        typer.Option(help="The prediction server's port; without it 8000, or any that is free."),
    ] = None,
    public: Annotated[
        str,
        typer.Option(
            help="The host name others reach this machine by: both servers ask for a login, and a proxy with TLS goes before them (docs/operate.md).",
            metavar="NAME",
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Prefect, MLflow, the nightly runner and answers from every champion; Ctrl-C stops all."""
    from tidemill.servers import up as servers

    if (where := servers.settled()) is not None:
        out(where) if as_json else _where(where, "up already")
        return
    if detach:
        given = [
            f"--{name}-port={port}"
            for name, port in (
                ("prefect", prefect_port),
                ("mlflow", mlflow_port),
                ("serve", serve_port),
            )
            if port is not None
        ]
        given += [f"--public={public}"] if public else []
        where = _detached(given)
        out(where) if as_json else _where(where, "up")
        return

    def told(what: str, words: str) -> None:
        line = {
            "ready": "ready; Ctrl-C stops all",
            "stopping": "stopping",
            "runner": "runner    deployments and schedules",
        }.get(what, f"{what:9} {words}")
        typer.echo(json.dumps({"event": what, "address": words}) if as_json else line)

    servers.keep(
        {"prefect": prefect_port, "mlflow": mlflow_port, "serve": serve_port}, told, public
    )


def _where(where: dict[str, Any], words: str) -> None:
    typer.echo(words)
    for name in ("prefect", "mlflow", "serve"):
        if name in where:
            typer.echo(f"{name:9} {where[name]}")


def _detached(given: list[str]) -> dict[str, Any]:
    """Start `tidemill up` in a session of its own, and wait until it is ready or has failed."""
    import subprocess
    import time

    from tidemill.runtime.errors import Fault, Refused
    from tidemill.runtime.paths import state
    from tidemill.servers.up import READY_S, running

    log = state("logs", "up.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "tidemill.cli", "up", *given],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    until = time.monotonic() + READY_S + 10
    while time.monotonic() < until:
        where = running()
        if where and where.get("ready"):
            return where
        if (
            child.poll() is not None and where is None
        ):  # else it gave way to another that starts just now
            words = log.read_text().strip().splitlines()
            kind = Refused if child.returncode == 2 else Fault
            raise kind((words or ["it said nothing"])[-1].removeprefix("error: "))
        time.sleep(0.2)
    raise Fault(f"the servers were not ready within {READY_S} s; see {log}")


@app.command()
def down(as_json: Json = False) -> None:
    """Stop what tidemill up started; data, models and schedules stay."""
    from tidemill.servers import up as servers

    there = servers.down()
    out({"stopped": there}) if as_json else typer.echo("stopped" if there else "nothing was up")


@app.command()
def clean(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    days: Annotated[
        float | None,
        typer.Option(min=0, help="Older than this; without it, keep.days of conf/config.yaml."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Remove old runs, logs and copies that no live version, ledger or lineage needs."""
    from tidemill.engines import config
    from tidemill.engines.prefect.retention import forget
    from tidemill.lineage.retention import clean as sweep_out
    from tidemill.servers.up import running

    age = config.general().keep.days if days is None else days
    found = sweep_out(age, really=not dry_run)
    # Prefect's database is asked where its server is up; starting one to delete rows is not worth its minute.
    runs = forget(age, really=not dry_run) if running() else None
    if as_json:
        out({**found.model_dump(), "prefect_runs": runs, "dry_run": dry_run})
        return
    for path, size in found.paths.items():
        typer.echo(f"{size:10.2f} MB  {path}")
    for path, why in found.kept.items():
        typer.echo(f"      kept     {path}: {why}")
    verb = "would go" if dry_run else "gone"
    typer.echo(
        f"{len(found.paths)} things and {found.mb:.1f} MB {verb}, {found.mlflow_runs} runs of MLflow's and {found.copies} copies of DVC's among them"
        + (
            f", and {runs} runs of Prefect's"
            if runs is not None
            else "; Prefect's runs are left, its server is not up"
        )
    )


data.command("list")(_list)
data.command("diff")(_diff)


@data.command()
def restore(
    name: Annotated[
        str, typer.Argument(help="RECIPE-DIGEST16, or a tag such as data/NAME/2026-11-23.")
    ],
    folder: Annotated[Path, typer.Argument(help="An empty or a new folder.")],
    remote: Annotated[
        str, typer.Option(help="A DVC remote's folder or URL; without it, this project's own.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Bring a snapshot's splits back from the DVC remote by its name alone, byte for byte."""
    from tidemill.engines.dvc.snapshots import restore as bring

    body = bring(name, folder, remote or None)
    told = {
        "recipe": body["recipe"],
        "digest": body["digest"],
        "rows": body["rows"],
        "folder": str(folder),
    }
    out(told) if as_json else typer.echo(
        f"{body['recipe']} {body['digest'][:16]} is in {folder}: {', '.join(f'{n} {part}' for part, n in body['rows'].items())}"
    )


app.command("plan")(_plan)
app.command("new")(_new)
app.command("serve")(_serve)
app.command("trace")(_trace)
app.command("verify")(_verify)
app.command("power")(_power)


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
    if context.invoked_subcommand not in (
        "up",
        "down",
        "plan",
        "data",
        "label",
        "trace",
        "serve",
        "sources",
    ):
        check()
    if debug:
        os.environ["TIDEMILL_DEBUG"] = "1"


def main() -> None:
    """The entry point."""
    guarded(lambda: app(standalone_mode=False))


def guarded(work: Callable[[], object]) -> NoReturn:
    """Do it and exit: 0 for every named end, 1 for a fault, 2 for a request that makes no sense, with one line on stderr.

    Outside its own main, typer gives an exit's code back as a value: 130 for a Ctrl-C.
    """
    import click
    from typer.exceptions import TyperException

    from tidemill.runtime.errors import Fault, Refused

    try:
        told = work()
        code = told if type(told) is int else 0
        if code == INTERRUPTED:
            raise KeyboardInterrupt
    except Refused as error:
        code = _fail(error, 2)
    except Fault as error:
        code = _fail(error, 1)
    except (KeyboardInterrupt, typer.Abort, click.exceptions.Abort):
        stopping.leave()
        code = _fail(STOPPED, INTERRUPTED)
    except (typer.Exit, click.exceptions.Exit) as error:
        code = error.exit_code
    except (TyperException, click.ClickException) as error:
        # Where a command was named without a subcommand, the help was printed and there is nothing to add.
        code = 2 if type(error).__name__ == "NoArgsIsHelpError" else _fail(_asked(error), 2)
    except OSError as error:
        from tidemill.runtime.process import explain

        code = _fail(explain(error), 1)
    except Exception as error:
        code = _fail(f"{type(error).__name__}: {error}", 1)
    sys.exit(code)


def _asked(error: Any) -> str:
    """What was typed wrong, and where the right words stand."""
    words = error.format_message().strip().rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{words} (see {context.command_path} --help)" if context else words


def _fail(error: object, code: int) -> int:
    if os.environ.get("TIDEMILL_DEBUG") and isinstance(error, BaseException):
        import traceback

        traceback.print_exception(error)
    words = line(error)
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    print(f"\033[1;31merror:\033[0m {words}" if colour else f"error: {words}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
