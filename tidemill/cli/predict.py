"""tidemill predict: one answer in this process, or those to all rows of a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidemill.cli.arguments import Application, Json, out
from tidemill.runtime.escape import terminal

if TYPE_CHECKING:
    from pydantic import BaseModel


def predict(
    application: Application,
    question: Annotated[
        str,
        typer.Argument(
            help="The input's first field: as text, or a file's path where "
            "it is a picture; or the whole input as JSON. With --out: a CSV, TSV, JSON lines or "
            "parquet file, or a folder, every row of which is answered.",
            metavar="INPUT",
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Answer every row of the file INPUT, into this .jsonl, .csv or "
            ".parquet; a run that was killed goes on where it was.",
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="With --out: FIELD=COLUMN, where a column has another name."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="With --out: replace the file.")] = False,
    version: Annotated[
        str, typer.Option(help="A version's number; without it, the champion.")
    ] = "",
    as_json: Json = False,
) -> None:
    """One answer from the champion, or with --out those to every row of a file."""
    if to is not None:
        files = [str(Path(question).absolute()), "--out", str(to.absolute())]
        _all_rows(application, version, files, column, overwrite, as_json)
        return
    if column or overwrite:
        from tidemill.runtime.errors import Refused

        raise Refused("--column and --overwrite are for a whole file; name its answers by --out")
    _one(application, question, version, as_json)


def _all_rows(
    application: str,
    version: str,
    arguments: list[str],
    columns: list[str] | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    from tidemill.records.receipts import Predicted
    from tidemill.runtime.process import answer

    named = f"{application}@{version}" if version else application
    renamed = [part for one in columns or [] for part in ("--column", one)]
    more = [*renamed, *(["--overwrite"] if overwrite else [])]
    told = answer(f"predict {named}", "tasks.predict", [named, *arguments, *more], Predicted)
    if as_json:
        out(told.model_dump())
        return
    typer.echo(
        f"{told.application} version {told.version}: {told.answered:,} of {told.rows:,} rows "
        f"answered, in {terminal(told.out)}"
    )
    if told.first_error:
        typer.echo(
            f"column `error` says why a row has no answer; the first: {terminal(told.first_error)}"
        )


def _one(application: str, question: str, version: str, as_json: bool) -> None:
    from pydantic import ValidationError

    from tidemill import contract
    from tidemill.engines import config
    from tidemill.runtime.errors import Refused

    if application not in contract.names():
        raise Refused(f"no recipe '{application}'; recipes/ has {', '.join(contract.names())}")
    kind = contract.application(application)
    try:
        asked = asking(kind.Input, question)
    except ValidationError as error:
        raise Refused(config.problems(error, "input", kind.Input)) from error
    number, answer = _answered(application, version, asked)
    if as_json:
        out({"application": application, "version": number, "answer": answer.model_dump()})
    else:
        _show(application, number, answer)


def _answered(application: str, version: str, asked: Any) -> "tuple[str, BaseModel]":
    """Which version answered, the champion where none is named, and its answer."""
    from tasks.serve.loaded_model import load
    from tidemill.engines.mlflow import packages, registry, tags
    from tidemill.engines.mlflow.live import live
    from tidemill.runtime.errors import Refused

    number = version or live(application).version
    if number is None:
        raise Refused(f"{application} has no champion yet; run: tidemill run {application}")
    package = packages.fetch(application, number)
    digest = registry.tag(application, number, tags.DIGEST) or ""
    slot = load(application, number, package, digest)
    return number, slot.answers([asked])[0]


def _show(application: str, version: str, answer: "BaseModel") -> None:
    """An answer in words, its first field the largest."""
    from rich.console import Console

    console = Console(emoji=False)
    first, *rest = answer.model_dump().items()
    console.print(f"[bold]{terminal(first[1])}[/]", highlight=False)
    for name, value in rest:
        words = (
            ", ".join(f"{key} {item}" for key, item in value.items())
            if isinstance(value, dict)
            else value
        )
        console.print(f"[dim]{name}[/] {terminal(words)}", highlight=False)
    console.print(f"[dim]{application} version {version}[/]", highlight=False)


def asking(kind: Any, given: str) -> Any:
    """The input that a person's words mean.

    Raises ValidationError, and Refused where a file cannot be read.
    """
    if given.lstrip().startswith("{"):
        try:
            return kind.model_validate_json(given)
        except ValueError as error:
            if "json_invalid" not in str(error) and "Invalid JSON" not in str(error):
                raise
    name, field = next(iter(kind.model_fields.items()))
    if (field.json_schema_extra or {}).get("contentEncoding") == "base64":
        given = _file(name, given)
    return kind(**{name: given})


def _file(field: str, path: str) -> str:
    """A file as base64."""
    import base64

    from tidemill.runtime.errors import Refused

    try:
        return base64.b64encode(Path(path).read_bytes()).decode("ascii")
    except OSError as error:
        shown = path if len(path) <= 200 else f"{path[:60]}..."
        raise Refused(
            f"input: {field} is read from a file, and {shown} cannot be ({error.strerror}); name "
            "one, or give the whole input as JSON with base64 in it"
        ) from error


def answer(application: Application, as_json: Json = False) -> None:
    """Answer the files that wait in the folder that conf/recipe names under `answers`.

    Each file is answered once by each champion; a night does it too.
    """
    from tidemill.records.receipts import AnsweredFiles
    from tidemill.runtime.process import answer as answer_of

    told = answer_of(f"answer {application}", "tasks.predict.waiting", [application], AnsweredFiles)
    if as_json:
        out(told.model_dump())
        return
    if not told.version:
        typer.echo(f"{application} has no champion yet; run: tidemill run {application}")
        return
    for name, rows in told.answered.items():
        typer.echo(f"{terminal(name)}: {rows:,} rows answered by version {told.version}")
    typer.echo(f"{told.unchanged:,} files were answered by version {told.version} before")
    for name, why in told.refused.items():
        typer.echo(f"{terminal(name)}: not answered: {terminal(why)}", err=True)
    if told.refused:
        raise typer.Exit(1)
