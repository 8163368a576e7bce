"""tidemill clean: what is old and needed by nothing goes."""

from typing import Annotated

import typer

from tidemill.cli.arguments import Json, out


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
    from tidemill.lineage.retention import clean as remove
    from tidemill.servers.up import running

    age = config.general().keep.days if days is None else days
    gone = remove(age, really=not dry_run)
    # Prefect's database is asked where its server is up; starting one to delete rows is not worth
    # its minute.
    runs = forget(age, really=not dry_run) if running() else None
    if as_json:
        out({**gone.model_dump(), "prefect_runs": runs, "dry_run": dry_run})
        return
    for path, size in gone.paths.items():
        typer.echo(f"{size:10.2f} MB  {path}")
    for path, why in gone.kept.items():
        typer.echo(f"      kept     {path}: {why}")
    verb = "would go" if dry_run else "gone"
    prefect = (
        "; Prefect's runs are left, its server is not up"
        if runs is None
        else f", and {runs} runs of Prefect's"
    )
    typer.echo(
        f"{len(gone.paths)} things and {gone.mb:.1f} MB {verb}, {gone.mlflow_runs} runs of "
        f"MLflow's and {gone.copies} copies of DVC's among them{prefect}"
    )
