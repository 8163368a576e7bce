"""python -m tidemill.cli.reference: write docs/reference/ from the commands and the settings.

Both pages come from what the code says of itself, so they are complete; a test says when they
are stale.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tidemill.engines.config.schema import General, Quality, RecipeConfig, Runtime, Source, Trainer
from tidemill.runtime import paths

FILES: dict[str, type[BaseModel]] = {
    "conf/config.yaml": General,
    "conf/source/NAME.yaml": Source,
    "conf/quality/NAME.yaml": Quality,
    "conf/recipe/NAME.yaml": RecipeConfig,
    "conf/trainer/NAME.yaml": Trainer,
    "conf/runtime/NAME.yaml": Runtime,
}
HEAD = "<!-- made by `make reference` -->\n"


def parts(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models within a type: of a field, of a list's items, of a mapping's values."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from parts(inner)


def kind(annotation: Any) -> str:
    """A type as a person who writes YAML would say it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(inner[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, UnionType):
        return " or ".join("none" if each is type(None) else kind(each) for each in inner)
    if origin in (tuple, list):
        return f"list of {kind(inner[0])}" if inner else "list"
    if origin is dict:
        return f"mapping to {kind(inner[1])}"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "block"
    names = {bool: "yes or no", int: "whole number", float: "number", str: "text", Any: "any"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is PydanticUndefined or isinstance(value, BaseModel):
        return ""
    return "none" if value is None else f"`{value}`"


def bounds(field: FieldInfo) -> str:
    signs = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return ", ".join(
        f"{words} {getattr(rule, sign)}"
        for rule in field.metadata
        for sign, words in signs.items()
        if getattr(rule, sign, None) is not None
    )


def rows(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Setting, type, default and meaning of each field, those of its blocks after it."""
    for name, field in model.model_fields.items():
        blocks = list(dict.fromkeys(parts(field.annotation)))
        many = get_origin(field.annotation) in (tuple, list)
        here = f"{path}{name}"
        meaning = [field.description or "", *(_first(block) for block in blocks[:1]), bounds(field)]
        words = "; ".join(each for each in meaning if each)
        yield here, kind(field.annotation), default(field), words
        for block in blocks:
            yield from rows(block, f"{here}{'[]' if many else ''}.")


def _first(model: type[BaseModel]) -> str:
    return " ".join((model.__dict__.get("__doc__") or "").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def settings() -> str:
    lines = [HEAD, "# Settings", "", "Every field of `conf/`, with its type, default and bounds."]
    for file, model in FILES.items():
        lines += [
            "",
            f"## `{file}`",
            "",
            "| setting | type | default | meaning |",
            "|---|---|---|---|",
        ]
        lines += [f"| `{row[0]}` | {' | '.join(map(_cell, row[1:]))} |" for row in rows(model)]
    return "\n".join(lines) + "\n"


def commands() -> str:
    from tidemill.cli.main import app

    lines = [HEAD, "# Commands", "", "Every command takes `--help`."]
    for name, command in _walk(typer.main.get_command(app), "tidemill"):
        lines += ["", f"## `{name}`", "", " ".join((command.help or "").split()), ""]
        lines += [f"- {_parameter(each)}" for each in command.params if each.name != "help"]
    return "\n".join(lines) + "\n"


def _walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    for child, inner in sorted(getattr(command, "commands", {}).items()):
        if getattr(inner, "commands", None):
            yield from _walk(inner, f"{name} {child}")
        elif not inner.hidden:
            yield f"{name} {child}", inner


def _parameter(parameter: Any) -> str:
    spelled = "`, `".join(parameter.opts) if parameter.param_type_name == "option" else None
    words = " ".join((getattr(parameter, "help", None) or "").split())
    return (
        f"`{spelled or parameter.metavar or parameter.name.upper()}`{f': {words}' if words else ''}"
    )


def pages() -> dict[str, str]:
    """The pages of docs/reference by their file names."""
    return {"settings.md": settings(), "commands.md": commands()}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)
        print(folder / name)


if __name__ == "__main__":
    main(paths.root() / "docs" / "reference")
