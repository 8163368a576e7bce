"""What can be asked in OpenAI's form: the fields of its API that mean something here.

Others are refused by name, or a client would believe that they were heeded. Of a list's problems
the first alone is described (`fail_fast`): half a million of them take a gigabyte.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

Stop = Annotated[str, Field(min_length=1, max_length=100)]
Tokens = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1, fail_fast=True)]
Penalty = Annotated[float, Field(ge=-2, le=2)]


def by_kind(kind: Callable[[Any], str | None], expected: str) -> Discriminator:
    """Tells which of several forms a value has, so that only that one's problems are named."""
    return Discriminator(kind, custom_error_type="form", custom_error_message=expected)


def text_or_list(value: Any) -> str | None:
    """`text` or `list`; None where it is neither."""
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, list | tuple) else None


def prompt_form(value: Any) -> str | None:
    """By a list's first item; an empty one is a list of texts."""
    if text_or_list(value) != "list" or not value:
        return {"text": "text", "list": "texts"}.get(text_or_list(value) or "")
    first = value[0]
    if isinstance(first, int):
        return "tokens"
    return "lists" if isinstance(first, list) else "texts"


class OpenAIFields(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StreamOptions(OpenAIFields):
    include_usage: bool = False
    include_obfuscation: bool = False  # accepted: nothing is ever padded here


class GenerationRequest(OpenAIFields, ABC):
    """What both forms have."""

    model: str = Field(description="an application, or APPLICATION@VERSION")
    temperature: Annotated[float, Field(ge=0, le=5)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: int = Field(default=0, ge=0, le=100_000, description="not OpenAI's; 0: from all")
    repetition_penalty: float = Field(default=1.0, ge=1, le=10, description="not OpenAI's")
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    stop: (
        Annotated[
            Annotated[Stop, Tag("text")]
            | Annotated[list[Stop], Field(max_length=8, fail_fast=True), Tag("list")],
            by_kind(text_or_list, "should be a text or a list of texts"),
        ]
        | None
    ) = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    user: str | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with a piece that has the token counts."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def alone(self) -> Iterator[tuple[str, str]]:
        """The fields that are without the one they belong to, and that one."""
        if self.stream_options is not None and not self.stream:
            yield "stream_options", "stream"

    @property
    @abstractmethod
    def likeliest(self) -> int | None:
        """How many of the likeliest tokens stand beside each one; None: no log-probabilities."""

    @property
    @abstractmethod
    def most_tokens(self) -> int | None:
        """Tokens of an answer; None: as many as the context has room for."""


class CompletionRequest(GenerationRequest):
    """POST /v1/completions."""

    prompt: Annotated[
        Annotated[str, Tag("text")]
        | Annotated[Tokens, Tag("tokens")]
        | Annotated[list[str], Field(min_length=1, fail_fast=True), Tag("texts")]
        | Annotated[list[Tokens], Field(min_length=1, fail_fast=True), Tag("lists")],
        by_kind(prompt_form, "should be a text, tokens, or a list of either"),
    ] = ""
    max_tokens: Annotated[int, Field(ge=0)] | None = 16
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    suffix: None = None

    @property
    def likeliest(self) -> int | None:
        return self.logprobs

    @property
    def most_tokens(self) -> int | None:
        return 16 if self.max_tokens is None else self.max_tokens

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt, as text or as tokens."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [[token for token in self.prompt if isinstance(token, int)]]
        return [item for item in self.prompt if not isinstance(item, int)]


class TextPart(OpenAIFields):
    type: Literal["text"]
    text: str


class ChatMessage(OpenAIFields):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Annotated[str, Tag("text")]
        | Annotated[list[TextPart], Field(min_length=1, fail_fast=True), Tag("list")],
        by_kind(text_or_list, "should be a text or a list of parts"),
    ]
    name: str | None = None

    def plain(self) -> dict[str, str]:
        """As templates take it."""
        role = "system" if self.role == "developer" else self.role
        if isinstance(self.content, str):
            return {"role": role, "content": self.content}
        return {"role": role, "content": "".join(part.text for part in self.content)}


class ResponseFormat(OpenAIFields):
    type: Literal["text"]


class ChatRequest(GenerationRequest):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1000, fail_fast=True)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None

    def alone(self) -> Iterator[tuple[str, str]]:
        yield from super().alone()
        if self.top_logprobs and not self.logprobs:
            yield "top_logprobs", "logprobs"

    @property
    def likeliest(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def most_tokens(self) -> int | None:
        given = self.max_completion_tokens
        return self.max_tokens if given is None else given

    @property
    def conversation(self) -> list[dict[str, str]]:
        return [message.plain() for message in self.messages]
