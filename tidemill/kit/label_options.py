"""What a recipe's YAML says under `label:` beside the policy, as the application's own type."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tidemill.runtime.errors import Refused

M = TypeVar("M", bound=BaseModel)


class LabelOptions(BaseModel):
    """What an application's labels may be asked for; a name that is not there is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


def options_as(kind: type[M], options: Mapping[str, object]) -> M:
    """The options by their type. Raises Refused: the option, what is wrong and what there is."""
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        there = ", ".join(kind.model_fields) or "none"
        is_named = isinstance(problem["input"], Mapping) or problem["type"] == "extra_forbidden"
        value = "" if is_named else f", not {problem['input']!r:.60}"
        raise Refused(
            f"label.{place}: {problem['msg'].removeprefix('Value error, ')}{value}; "
            f"this application's options are {there}"
        ) from None
