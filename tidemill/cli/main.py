"""tidemill: the command line. Every command takes --json; errors are one line on stderr."""

import os
import sys
from typing import Annotated

import typer

from tidemill.cli.adopt import adopt as _adopt
from tidemill.cli.approve import approve as _approve
from tidemill.cli.card import card as _card
from tidemill.cli.clean import clean as _clean
from tidemill.cli.data import carry as _carry
from tidemill.cli.data import diff as _diff
from tidemill.cli.data import listed as _list
from tidemill.cli.errors import guarded
from tidemill.cli.history import history as _history
from tidemill.cli.label import label as _label
from tidemill.cli.new.command import new as _new
from tidemill.cli.plan import plan as _plan
from tidemill.cli.power import power as _power
from tidemill.cli.predict import answer as _answer
from tidemill.cli.predict import predict as _predict
from tidemill.cli.restore import restore as _restore
from tidemill.cli.rollback import rollback as _rollback
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
app.command("adopt")(_adopt)
app.command("predict")(_predict)
app.command("answer")(_answer)
app.command("status")(_status)
app.command("rollback")(_rollback)
app.command("approve")(_approve)
app.command("history")(_history)
app.command("card")(_card)
app.command("up")(_up)
app.command("down")(_down)
app.command("clean")(_clean)
data.command("list")(_list)
data.command("diff")(_diff)
data.command("restore")(_restore)
data.command("carry")(_carry)


app.command("plan")(_plan)
app.command("new")(_new)
app.command("power")(_power)
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
