"""Conversations, and the template that spells one out as a model was trained to read it.

The template is Jinja, as transformers keeps it in tokenizer_config.json. Training and serving
render it here, so that both see the same text. It comes with a model's files, so it runs in a
sandbox (sandbox.py), with the names that transformers gives it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidemill.runtime.escape import line

Message = Mapping[str, str]
"""{"role": "system", "user" or "assistant", "content": text}."""
ROLES = ("system", "user", "assistant")

ANSWER_PART = re.compile(r"\{%-?\s*generation\s*-?%\}")
Marks = tuple[str, str]
_marks: ContextVar[Marks | None] = ContextVar("marks", default=None)


class TemplateError(ValueError):
    """A template that cannot be read, or that refuses a conversation."""


@dataclass(frozen=True)
class Rendered:
    """A conversation's text, and the spans of it that `{% generation %}` marks."""

    text: str
    answers: tuple[tuple[int, int], ...]


class ChatTemplate:
    """A model's template, compiled. Raises TemplateError where it is no template."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        from jinja2 import TemplateSyntaxError

        if not isinstance(source, str):
            raise TemplateError(f"the chat template is no text but {type(source).__name__}")
        self.source, self.special_tokens = source, dict(special_tokens)
        try:
            self._template = _environment().from_string(source)
        except TemplateSyntaxError as error:
            raise TemplateError(f"the chat template's line {error.lineno}: {line(error)}") from None
        except (RecursionError, MemoryError, SyntaxError) as error:  # of Jinja or Python itself
            raise TemplateError(f"the chat template is nested too deep: {line(error)}") from None

    @property
    def marks_answers(self) -> bool:
        """Whether it says which part of a conversation the assistant wrote."""
        return bool(ANSWER_PART.search(self.source))

    def text(self, messages: Sequence[Message]) -> str:
        """The conversation up to where the assistant's answer begins. Raises TemplateError."""
        return self._filled(messages, answer_next=True)

    def whole(self, messages: Sequence[Message]) -> Rendered:
        """The whole conversation, with what of it the assistant wrote. Raises TemplateError."""
        marks = _absent_marks(messages)
        with _marking(marks):
            return _spans(self._filled(messages, answer_next=False), marks)

    def _filled(self, messages: Sequence[Message], answer_next: bool) -> str:
        from tidemill.text.sandbox import bounded

        values = {
            **self.special_tokens,
            "messages": [dict(message) for message in messages],
            "add_generation_prompt": answer_next,
            "tools": None,
            "documents": None,
        }
        try:
            with bounded():
                text: str = self._template.render(values)
            text.encode()  # a lone surrogate has no tokens
        except Exception as error:  # whatever somebody else's template raises
            reason = line(error)[:300] or type(error).__name__
            raise TemplateError(f"the chat template refuses this conversation: {reason}") from None
        return text


def special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """bos_token and the like of a tokenizer_config.json, as text."""
    spelled = {
        name: value["content"] if isinstance(value, dict) else value
        for name, value in config.items()
        if name.endswith("_token")
    }
    return {name: value for name, value in spelled.items() if isinstance(value, str)}


def of_config(config: Mapping[str, Any]) -> ChatTemplate | None:
    """The template of a tokenizer_config.json; None where it has none."""
    source = config.get("chat_template")
    if isinstance(source, list):  # several by name, as older files have it
        named = {one.get("name"): one.get("template") for one in source if isinstance(one, dict)}
        source = named.get("default")
        if source is None:
            raise TemplateError("the chat template is a list, and none in it is named default")
    return ChatTemplate(source, special_tokens(config)) if source else None


def _environment() -> Any:
    """Jinja's sandbox with what templates of transformers use."""
    from jinja2 import TemplateError as JinjaError
    from jinja2 import ext, nodes

    from tidemill.text.sandbox import BoundedEnvironment

    class Generation(ext.Extension):
        """{% generation %} ... {% endgeneration %} around what the assistant wrote."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            call = self.call_method("_marked")
            return nodes.CallBlock(call, [], [], body).set_lineno(line)

        def _marked(self, caller: Any) -> str:
            begin, end = _marks.get() or ("", "")
            return f"{begin}{caller()}{end}"

    def refuse(message: str) -> None:
        raise JinjaError(message)

    def as_json(value: Any, indent: int | None = None, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent, **options)

    environment = BoundedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
    )
    environment.add_filter("tojson", as_json)
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


@contextmanager
def _marking(marks: Marks) -> Iterator[None]:
    before = _marks.set(marks)
    try:
        yield
    finally:
        _marks.reset(before)


def _absent_marks(messages: Sequence[Message]) -> Marks:
    """Two marks that no message spells."""
    said = "".join(str(value) for message in messages for value in message.values())
    number = 0
    while f"\x02{number}\x03" in said or f"\x03{number}\x02" in said:
        number += 1
    return f"\x02{number}\x03", f"\x03{number}\x02"


def _spans(text: str, marks: Marks) -> Rendered:
    """The text without its marks, and the spans that were between them."""
    begin, end = marks
    plain, spans = "", []
    for number, piece in enumerate(text.split(begin)):
        inside, _, after = piece.partition(end) if number else ("", "", piece)
        if number:
            spans.append((len(plain), len(plain) + len(inside)))
        plain += inside + after
    return Rendered(plain, tuple(spans))
