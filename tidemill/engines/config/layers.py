"""Settings in layers: YAML read strictly, dictionaries merged, `key=value` laid on top.

Pure functions on plain dictionaries, so that threads can merge at the same time.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

Settings = dict[str, Any]

# YAML 1.1 takes `1e-3` for a string and `2026-11-24` for a date object. Settings want the number
# and the text. The expression is YAML 1.1's float with an optional dot (YAML 1.2, section 10.3.2).
FLOAT = re.compile(
    r"""^(?:
     [-+]?[0-9]+(?:_[0-9]+)*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+)
    |[-+]?\.[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9]+(?:_[0-9]+)*(?::[0-5]?[0-9])+\.[0-9_]*
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.X,
)
TIMESTAMP = "tag:yaml.org,2002:timestamp"


class _Loader(yaml.CSafeLoader):
    """Data only; a key that stands twice is an error, since the first value would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value == "<<" or not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    "while constructing a mapping",
                    node.start_mark,
                    f"found duplicate key {key.value}",
                    key.start_mark,
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, expression) for tag, expression in resolvers if tag != TIMESTAMP]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))


def parse(text: str) -> Any:
    """One YAML value as plain Python; raises ValueError, on one line, where it is none."""
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise ValueError("exceeded max nesting") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def merge(layers: Iterable[Mapping[str, Any]]) -> Settings:
    """The layers from the lowest to the highest: mappings are merged, anything else is replaced."""
    merged: Settings = {}
    for layer in layers:
        for key, value in layer.items():
            below = merged.get(key)
            if isinstance(value, Mapping):
                merged[key] = merge([below, value] if isinstance(below, dict) else [value])
            else:
                merged[key] = value
    return merged


def override(item: str) -> Settings:
    """`a.b=value` as the layer {"a": {"b": value}}; the value is YAML.

    Raises ValueError where the key or the value cannot be read.
    """
    key, _, text = item.partition("=")
    parts = key.split(".")
    if not all(parts):
        raise ValueError(f"{key!r} is no key, as in model.dim")
    try:
        value = parse(text)
    except ValueError as error:
        raise ValueError(
            f"{' '.join(item.split())}: the value is not valid YAML: {error}"
        ) from error
    for part in reversed(parts):
        value = {part: value}
    return value
