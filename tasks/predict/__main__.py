"""python -m tasks.predict APPLICATION[@N] FILE --out FILE: one version answers every row of a file.

[--column FIELD=COLUMN ...] [--overwrite]
"""

import argparse
from pathlib import Path

from tasks.predict.rows import Questions
from tasks.predict.scoring import score
from tasks.serve.loaded_model import LoadedModel, load
from tidemill import contract
from tidemill.engines.mlflow import packages, registry, tags
from tidemill.engines.mlflow.live import live
from tidemill.records.receipts import Predicted
from tidemill.runtime import process
from tidemill.runtime.errors import Refused

USAGE = "python -m tasks.predict APPLICATION[@N] FILE --out FILE [--column FIELD=COLUMN ...]"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise Refused(f"{message}; {USAGE}")


def main(arguments: list[str]) -> Predicted:
    parser = _Parser(add_help=False)
    parser.add_argument("application")
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--column", action="append", default=[])
    parser.add_argument("--overwrite", action="store_true")
    asked = parser.parse_args(arguments)
    name, _, number = asked.application.partition("@")
    if name not in contract.names():
        raise Refused(f"no recipe '{name}'; recipes/ has {', '.join(contract.names())}")
    columns = dict(map(_pair, asked.column))
    model = version(name, number)
    questions = Questions(asked.file, model.recipe.Input, columns, tables(model))
    return score(model, questions, asked.out, asked.overwrite)


def tables(model: LoadedModel) -> dict[str, tuple[str, ...]]:
    """The fields of a question that take several columns of a table, as its example has them."""
    question = model.example[0].model_dump()
    return {
        name: tuple(question[name])
        for name, info in type(model.example[0]).model_fields.items()
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("columns")
    }


def version(name: str, number: str) -> LoadedModel:
    """A version, checked and rehearsed as the server does; the champion where none is named."""
    number = number or live(name).version or ""
    if not number:
        raise Refused(f"{name} has no champion yet; run: tidemill run {name}")
    package = packages.fetch(name, number)
    return load(name, number, package, registry.tag(name, number, tags.DIGEST) or "")


def _pair(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if not (field and equals and column):
        raise Refused(f"--column {text}: FIELD=COLUMN is wanted")
    return field, column


if __name__ == "__main__":
    process.main(main, USAGE)
