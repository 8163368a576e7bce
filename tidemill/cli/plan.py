"""tidemill plan: what a training takes, before anything is spent on it."""

from typing import Annotated, Any

import typer

from tidemill.cli.arguments import Json, out


def plan(
    application: Annotated[str, typer.Argument(help="A file of conf/recipe.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="As in run; a field of the model may go without `model.`: size=1b trainer=fsdp.",
            metavar="KEY=VALUE...",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Parameters, memory of each device, tokens and FLOPs of a training.

    Nothing is started, no hardware is asked for.
    """

    told = planned(application, list(overrides or []))
    if as_json:
        out(told)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"a training of {application}",
        title_justify="left",
        title_style="bold",
        box=None,
        show_header=False,
        pad_edge=False,
    )
    for name, value in told.items():
        table.add_row(f"[dim]{words(name)}[/]", shown(name, value))
    Console().print(table)


def planned(application: str, overrides: list[str]) -> dict[str, Any]:
    """The recipe's own count.

    Refused where a setting makes no sense or the recipe counts nothing.
    """
    from tidemill import contract
    from tidemill.engines import config
    from tidemill.runtime.errors import Refused

    fields = contract.load(application).model_fields if application in contract.names() else {}
    settings = config.recipe(
        application,
        [f"model.{one}" if one.partition("=")[0] in fields else one for one in overrides],
    )
    recipe = contract.load(application)(**settings.model)
    trainer = settings.trainer
    if not isinstance(recipe, contract.Budgeted):
        raise Refused(f"{application} has no plan: its recipe counts neither parameters nor memory")
    devices = trainer.devices * trainer.nodes
    return recipe.plan(trainer.max_epochs, devices, trainer.strategy, trainer.precision)


def words(name: str) -> str:
    return name.removesuffix("_mb").replace("_", " ")


def shown(name: str, value: Any) -> str:
    if name.endswith("_mb"):
        return f"{value / 1000:,.2f} GB" if value >= 1000 else f"{value:,.1f} MB"
    if name == "flops":
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
