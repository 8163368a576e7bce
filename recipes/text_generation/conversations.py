"""Rows as tokens, and which of these are learned: all of a text, the assistant's of a conversation.

A conversation's tokens are made segment by segment: what comes before an answer has the very tokens
that a server reads before it writes one. Of an answer its end is learned too, or the model would
never stop.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recipes.text_generation.tokens import Tokens
from tidemill.runtime.errors import Refused
from tidemill.text.chat import ROLES, ChatTemplate, Message, of_config

MARKED = "write {% generation %} and {% endgeneration %} around the assistant's words"


class UnusableConversation(Refused, ValueError):
    """A conversation that nothing can be learned from."""


@dataclass(frozen=True)
class Row:
    """A text, or a conversation whose last message is the assistant's."""

    text: str = ""
    messages: tuple[Message, ...] = ()

    @property
    def answers(self) -> list[str]:
        return [turn["content"] for turn in self.messages if turn["role"] == "assistant"]

    @property
    def learned(self) -> str:
        """The words that are learned."""
        return "\n".join(self.answers) if self.messages else self.text


class Reading(NamedTuple):
    """A row's tokens, and which of them are learned: each (n,)."""

    ids: np.ndarray
    asked: np.ndarray


def row(inputs: str, target: str) -> Row:
    """An example's row, from the JSON of its question and its answer."""
    question = json.loads(inputs)
    messages = question.get("messages") or []
    if not messages:
        return Row(text=question["prompt"])
    answer = question["prompt"] + json.loads(target)["text"]
    return Row(messages=(*messages, {"role": "assistant", "content": answer}))


def unfit(messages: Sequence[Message]) -> str:
    """Why nothing can be learned from a conversation; "" where something can."""
    if not messages:
        return "it has no message"
    for number, turn in enumerate(messages):
        if turn.get("role") not in ROLES:
            return f"message {number} has the role {turn.get('role')!r}; {', '.join(ROLES)} are"
        if not isinstance(turn.get("content"), str):
            return f"message {number} has no text as its content"
        if turn["role"] == "assistant" and not turn["content"].strip():
            return f"message {number}, the assistant's, is empty"
    if messages[-1]["role"] != "assistant":
        return f"it ends with the {messages[-1]['role']}; the last message is the assistant's"
    return ""


class ConversationReader:
    """Makes rows into tokens."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.chat: ChatTemplate | None = of_config(tokens.config)

    def readings(self, rows: Sequence[Row], first: int = 0) -> list[Reading]:
        """Each row's tokens. Raises UnusableConversation, which names the row from `first` on."""
        texts = iter(self.tokens.documents([one.text for one in rows if not one.messages]))
        return [
            self.conversation(one.messages, f"conversation {number}")
            if one.messages
            else whole(next(texts))
            for number, one in enumerate(rows, first)
        ]

    def conversation(self, messages: Sequence[Message], name: str) -> Reading:
        if self.chat is None:
            raise UnusableConversation(
                f"{name} needs a chat template, and the model has none; begin from a folder whose "
                "tokenizer_config.json has a chat_template"
            )
        reason = unfit(messages)
        if reason:
            raise UnusableConversation(f"{name}: {reason}; leave it out")
        self.tokens.refuse_forged(messages)
        text, spans = self.spans(self.chat, messages, name)
        ids: list[int] = []
        asked: list[bool] = []
        at = 0
        for begin, end in [*spans, (len(text), len(text))]:
            before, answer = (
                self.tokens.spelled_out(text[first:last])
                for first, last in ((at, begin), (begin, end))
            )
            if asked and asked[-1] and before and ids[-1] not in self.tokens.ends:
                # The template has the end outside of what it marks.
                asked += [before[0] in self.tokens.ends] + [False] * (len(before) - 1)
            else:
                asked += [False] * len(before)
            ids += before
            ids += answer
            asked += self.until_end(answer)
            at = end
        return self.stopping(Reading(np.array(ids), np.array(asked)), len(spans), name)

    def until_end(self, answer: list[int]) -> list[bool]:
        """An answer's tokens up to its end, that included: what follows it nobody generates."""
        places = [place for place, token in enumerate(answer) if token in self.tokens.ends]
        last = places[-1] if places else len(answer) - 1
        return [place <= last for place in range(len(answer))]

    def spans(
        self, chat: ChatTemplate, messages: Sequence[Message], name: str
    ) -> tuple[str, list[tuple[int, int]]]:
        """The conversation's text, and where of it the assistant's answers are."""
        whole = chat.whole(messages)
        spans = list(whole.answers)
        places = [at for at, turn in enumerate(messages) if turn["role"] == "assistant"]
        if not chat.marks_answers:
            spans = [
                (len(chat.text(messages[:at])), len(chat.whole(messages[: at + 1]).text))
                for at in places
            ]
        if len(spans) != len(places):
            raise UnusableConversation(
                f"{name}: the chat template marks {len(spans)} of {len(places)} answers; {MARKED}"
            )
        for at, (begin, end) in zip(places, spans, strict=True):
            asked = chat.text(messages[:at])
            said = messages[at]["content"].strip()
            if whole.text[:begin] != asked or said not in whole.text[begin:end]:
                raise UnusableConversation(
                    f"{name}: before message {at} the chat template writes something else in "
                    f"training than for a question; {MARKED}, and the same words before them"
                )
        return whole.text, spans

    def stopping(self, reading: Reading, answers: int, name: str) -> Reading:
        """The same, where each answer has its end among what is learned."""
        ends = np.isin(reading.ids, list(self.tokens.ends)) & reading.asked
        if int(ends.sum()) < answers:
            raise UnusableConversation(
                f"{name}: the chat template ends an answer with no token that ends a text, so the "
                "model would never stop; write {{ eos_token }} after the assistant's words"
            )
        return reading


def whole(ids: np.ndarray) -> Reading:
    """A document of which every token after the first is learned."""
    return Reading(ids, np.arange(len(ids)) > 0)
