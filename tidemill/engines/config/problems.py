"""What is wrong with an input, on one line, as pydantic found it."""

from typing import Any

from pydantic import BaseModel, ValidationError


def problems(error: ValidationError, where: str, model: type[BaseModel], before: str = "") -> str:
    """All problems of one input on one line: key, value, what was expected.

    `before` is where the model's own settings stand within the file, as in "model".
    """
    parts = [_problem(item, model, before) for item in error.errors(include_url=False)]
    place = f"{where}: {before}" if before else where
    return f"{place}: {'; '.join(parts)}"


def _problem(item: Any, model: type[BaseModel], before: str) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        parent = _fields(model, item["loc"][:-1])
        choices = f"; there are {', '.join(sorted(parent))}" if parent else ""
        return f"unknown key '{before + '.' if before else ''}{key}'{choices}"
    if item["type"] == "missing":
        return f"'{key}' is missing"
    if item["type"] == "value_error":
        return f"{key + ': ' if key else ''}{item['ctx']['error']!s}"
    expected = f"{item['msg'][0].lower()}{item['msg'][1:]}"
    return f"{key}={_short(item['input'])}: {expected}"


def _short(value: object) -> str:
    """A value as it would be written, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _fields(model: Any, location: tuple[Any, ...]) -> list[str]:
    """The field names at a place within a model, for the list of choices."""
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return []
        model = field.annotation
        for inner in getattr(model, "__args__", ()):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
    return list(getattr(model, "model_fields", {}))
