"""tidemill up and tidemill down: the servers."""

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tidemill.cli.arguments import Json, out

if TYPE_CHECKING:
    from tidemill.servers.up import ServersUp

SHOWN: tuple[Literal["prefect", "mlflow", "serve"], ...] = ("prefect", "mlflow", "serve")

Detach = Annotated[
    bool,
    typer.Option(
        "--detach",
        help="Come back once all answer, and leave them running; tidemill down stops them.",
    ),
]
PrefectPort = Annotated[
    int | None, typer.Option(help="Prefect's port; without it 4200, or any that is free.")
]
MlflowPort = Annotated[
    int | None, typer.Option(help="MLflow's port; without it 5000, or any that is free.")
]
ServePort = Annotated[
    int | None,
    typer.Option(help="The prediction server's port; without it 8000, or any that is free."),
]
Public = Annotated[
    str,
    typer.Option(
        help="The host name others reach this machine by: both servers ask for a login, "
        "and a proxy with TLS goes before them (docs/operate.md).",
        metavar="NAME",
    ),
]


def up(
    detach: Detach = False,
    prefect_port: PrefectPort = None,
    mlflow_port: MlflowPort = None,
    serve_port: ServePort = None,
    public: Public = "",
    as_json: Json = False,
) -> None:
    """Prefect, MLflow, the nightly runner and answers from every champion; Ctrl-C stops all."""
    from tidemill.servers import up as servers

    if (where := servers.settled()) is not None:
        out(where) if as_json else _where(where, "up already")
        return
    ports = {"prefect": prefect_port, "mlflow": mlflow_port, "serve": serve_port}
    if detach:
        given = [f"--{name}-port={port}" for name, port in ports.items() if port is not None]
        where = servers.detached([*given, *([f"--public={public}"] if public else [])])
        out(where) if as_json else _where(where, "up")
        return

    def report(event: str, words: str) -> None:
        line = json.dumps({"event": event, "address": words}) if as_json else _line(event, words)
        typer.echo(line)

    servers.keep(ports, report, public)


def _line(event: str, words: str) -> str:
    """What a person reads of an event."""
    lines = {
        "ready": "ready; Ctrl-C stops all",
        "stopping": "stopping",
        "runner": "runner    deployments and schedules",
    }
    return lines.get(event) or f"{event:9} {shown(event, words)}"


def shown(name: str, address: str) -> str:
    """Where a person looks: MLflow's bare address opens another product's pages."""
    experiments = "/#/experiments?workflowType=machine_learning"
    return f"{address}{experiments}" if name == "mlflow" else address


def _where(where: "ServersUp", words: str) -> None:
    typer.echo(words)
    for name in SHOWN:
        if name in where:
            typer.echo(f"{name:9} {shown(name, where[name])}")


def down(as_json: Json = False) -> None:
    """Stop what tidemill up started; data, models and schedules stay."""
    from tidemill.servers import up as servers

    there = servers.down()
    out({"stopped": there}) if as_json else typer.echo("stopped" if there else "nothing was up")
