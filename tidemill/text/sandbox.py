"""Jinja for templates that come with somebody else's weights: no attributes of Python, and an end.

Jinja's own sandbox keeps a template from Python's objects, but lets it loop for ever and make
texts of gigabytes. Here loops and calls are counted, and what grows is measured before it is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any

from jinja2 import Environment, TemplateError, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MOST_STEPS = 3_000_000  # rounds of loops and calls; a thousand messages looked at by each other
CALL = 30  # rounds of a loop that a call takes as long as
MOST_SIZE = 5_000_000  # characters of one value
MOST_ITEMS = 500_000
MOST_BITS = 10_000  # of a whole number
WIDTH = re.compile(r"\d{5,}|\{[^}]*\{")  # of a format that fills up, or one inside of another
# What no template of a conversation needs, and what would need a measure of its own.
LEFT_OUT = (
    *("center", "filesizeformat", "format", "pprint", "random", "slice", "batch", "striptags"),
    *("urlencode", "urlize", "wordcount", "wordwrap", "xmlattr"),
)
WRITING = ("escape", "join", "replace", "string", "tojson")  # filters that write values out
METHODS_LEFT_OUT = frozenset({"center", "expandtabs", "ljust", "rjust", "zfill", "translate"})


class Endless(TemplateError):
    """A template that takes more steps or makes larger values than a conversation needs."""


@dataclass
class Budget:
    """What one rendering has used."""

    steps: int = 0
    written: int = 0


_budget: ContextVar[Budget | None] = ContextVar("budget", default=None)


@contextmanager
def bounded() -> Iterator[None]:
    """Renderings within it share one budget."""
    before = _budget.set(Budget())
    try:
        yield
    finally:
        _budget.reset(before)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which every rendering ends and stays small. It raises Endless."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, finalize=_written)
        for name in LEFT_OUT:
            self.filters.pop(name, None)
        for name, function in list(self.filters.items()):
            self.add_filter(name, function)
        self.filters |= {"_counted": _counted, "_joined": _joined}
        self.globals.pop("lipsum", None)

    def add_filter(self, name: str, function: Callable[..., Any]) -> None:
        self.filters[name] = _measured(function, name in WRITING)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = super()._parse(source, name, filename)
        marked: nodes.Template = _Marking(self).visit(tree)
        return marked

    def call(
        __self,
        __context: Context,
        __obj: Any,
        *arguments: Any,
        **named: Any,
    ) -> Any:
        _step(CALL)
        bound = getattr(__obj, "__wrapped__", __obj)  # Jinja wraps `format`
        method, owner = getattr(bound, "__name__", ""), getattr(bound, "__self__", None)
        if isinstance(owner, str):
            if method in METHODS_LEFT_OUT:
                raise Endless(f"the method {method} is not for templates")
            if method in ("format", "format_map") and WIDTH.search(owner):
                raise Endless("a format is too wide")
            _check_growth((owner, *arguments, *named.values()))
            if method in ("format", "format_map", "join"):
                _check_size(_size([owner, *arguments, *named.values()]))
        return _small(super().call(__context, __obj, *arguments, **named))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+":
            _check_size(_length(left) + _length(right))
        elif isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length(), right.bit_length()
            if (operator == "*" and sum(bits) > MOST_BITS) or (
                operator == "**" and bits[0] * abs(right) > MOST_BITS
            ):
                raise Endless("a number is too large")
        elif operator == "*":
            _check_growth((left, right))
        elif operator == "%" and isinstance(left, str) and WIDTH.search(left):
            raise Endless("a format is too wide")
        elif operator == "%":  # a width may be among the values
            _check_growth(right if isinstance(right, tuple) else (right,))
        return super().call_binop(context, operator, left, right)


class _Marking(NodeTransformer):
    """Counts the rounds of each loop, and measures texts that `~` puts together."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = self._filtered(node.iter, "_counted", [])
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return self._filtered(node.nodes[0], "_joined", list(node.nodes[1:]))

    def _filtered(self, node: nodes.Node, name: str, more: list[nodes.Expr]) -> nodes.Filter:
        marked = nodes.Filter(node, name, more, [], None, None, lineno=node.lineno)
        marked.set_environment(self.environment)
        return marked


def _measured(function: Callable[..., Any], writes: bool) -> Callable[..., Any]:
    """A filter that counts as a call, and whose texts stay small."""

    @wraps(function)
    def measured(*arguments: Any, **named: Any) -> Any:
        _step(CALL)
        _check_growth((*arguments, *named.values()))
        if writes:
            _size([*arguments, *named.values()])
        return _small(function(*arguments, **named))

    return measured


def _step(count: int = 1) -> None:
    budget = _budget.get()
    if budget is None:
        return
    budget.steps += count
    if budget.steps > MOST_STEPS:
        raise Endless(f"it takes more than {MOST_STEPS:,} steps")


def _counted(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        _step()
        yield value


def _joined(*parts: Any) -> str:
    _check_size(sum(_size(part) for part in parts))
    return "".join(str(part) for part in parts)


def _written(value: Any) -> Any:
    """What the template writes; all of it is measured together."""
    budget = _budget.get()
    if budget is not None:
        budget.written += _size(value)
        _check_size(budget.written)
    return value


def _check_growth(values: Iterable[Any]) -> None:
    """Whatever is made of these is no longer than all their sizes multiplied."""
    product = 1
    for value in values:
        product *= max(1, abs(value) if isinstance(value, int) else _length(value))
        _check_size(product, 20 * MOST_SIZE)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple | dict) else 1


def _small(value: Any) -> Any:
    if isinstance(value, str | list | tuple):
        _check_size(len(value))
    return value


def _check_size(size: int, most: int = MOST_SIZE) -> None:
    if size > most:
        raise Endless(f"it makes a value of more than {most:,} characters or items")


def _size(value: Any) -> int:
    """Characters and items of a value, with all that is within it. Raises Endless."""
    if isinstance(value, str):
        return len(value)
    size, items, within = 0, 0, [value]
    while within:  # a list that holds another twice is as long as it is written
        one = within.pop()
        if isinstance(one, str):
            size += len(one)
        elif isinstance(one, dict):
            within += [*one, *one.values()]
        elif isinstance(one, list | tuple | set):
            within += one
        items += 1
        _check_size(size)
        _check_size(items + len(within), MOST_ITEMS)
    return size + items
