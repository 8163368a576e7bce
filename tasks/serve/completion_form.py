"""Texts as OpenAI's protocol gives them: whole, or in the pieces of a stream."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.serve.loaded_model import LoadedModel
from tasks.serve.openai_schema import ChatRequest, CompletionRequest, GenerationRequest
from tasks.serve.writing import WritingProgress
from tidemill.families.generator import Draft, Finish, Generates, Speller, TokenLogprob

FINISHES: dict[Finish | None, str | None] = {
    "end": "stop",
    "stop": "stop",
    "length": "length",
    None: None,
}
Body = dict[str, Any]


@dataclass
class StreamedText:
    """What of a text a stream has given so far."""

    characters: int = 0
    tokens: int = 0
    opened: bool = False
    ended: bool = False


class Offsets:
    """Where in a text each of its tokens begins; `before` are tokens that are not shown."""

    def __init__(self, generator: Generates, before: Sequence[int]) -> None:
        self.speller, self.place = Speller(generator, before), 0

    def next(self, token: int) -> int:
        begin = self.place
        self.place += len(self.speller.add(token))
        return begin


class Form(ABC):
    """One request's answer; in a stream it remembers what of each text was given."""

    prefix: str
    whole_object: str
    piece_object: str

    def __init__(
        self, name: str, model: LoadedModel, generator: Generates, asked: GenerationRequest
    ) -> None:
        self.generator, self.asked = generator, asked
        self.head = {
            "id": f"{self.prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": name,
            "system_fingerprint": model.digest[:12],
        }
        self.given: list[StreamedText] = []  # of each text

    def whole(self, drafts: Sequence[Draft], progress: Sequence[WritingProgress]) -> Body:
        """The answer at once."""
        choices = [
            self.choice(number, draft, now)
            for number, (draft, now) in enumerate(zip(drafts, progress, strict=True))
        ]
        return {
            **self.head,
            "object": self.whole_object,
            "choices": choices,
            "usage": self.usage(drafts),
        }

    def begin(self, drafts: Sequence[Draft]) -> None:
        """Before the first piece."""
        self.given = [StreamedText() for _ in drafts]

    def more(self, drafts: Sequence[Draft], progress: Sequence[WritingProgress]) -> Iterator[Body]:
        """A piece for each text that has begun, grown or ended."""
        for number, (draft, now) in enumerate(zip(drafts, progress, strict=True)):
            given = self.given[number]
            if now.begun and not given.opened:
                given.opened = True
                opening = self.opening(number, draft)
                if opening is not None:
                    yield self.piece([opening])
            text = now.text[given.characters :]
            if not given.ended and (text or now.finish):
                tokens, given.tokens = given.tokens, now.tokens
                given.characters, given.ended = len(now.text), now.finish is not None
                yield self.piece([self.delta(number, draft, text, tokens, now)])

    def end(self, drafts: Sequence[Draft]) -> Iterator[Body]:
        """The pieces that come after all text."""
        if self.asked.with_usage:
            yield {**self.piece([]), "usage": self.usage(drafts)}

    def piece(self, choices: list[Body]) -> Body:
        return {**self.head, "object": self.piece_object, "choices": choices}

    def usage(self, drafts: Sequence[Draft]) -> Body:
        copies = self.asked.n or 1
        prompts = sum(len(draft.prompt) for draft in drafts[::copies])
        written = sum(len(draft.written) for draft in drafts)
        return {
            "prompt_tokens": prompts,
            "completion_tokens": written,
            "total_tokens": prompts + written,
        }

    @abstractmethod
    def choice(self, number: int, draft: Draft, now: WritingProgress) -> Body:
        """A whole text."""

    @abstractmethod
    def opening(self, number: int, draft: Draft) -> Body | None:
        """What stands before a text in a stream; None: nothing."""

    @abstractmethod
    def delta(
        self, number: int, draft: Draft, text: str, tokens: int, now: WritingProgress
    ) -> Body:
        """More of a text in a stream, with the tokens from number `tokens` on."""


class CompletionForm(Form):
    prefix, whole_object, piece_object = "cmpl", "text_completion", "text_completion"

    def __init__(
        self, name: str, model: LoadedModel, generator: Generates, asked: CompletionRequest
    ) -> None:
        super().__init__(name, model, generator, asked)
        self.echo = bool(asked.echo)
        self.offsets: dict[int, Offsets] = {}  # by a text's number

    def choice(self, number: int, draft: Draft, now: WritingProgress) -> Body:
        before = self.echoed(draft)
        tokens = [*draft.prompt_logprobs, *draft.logprobs]
        return self.text(number, before + now.text, self.logprobs(number, draft, tokens), now)

    def opening(self, number: int, draft: Draft) -> Body | None:
        if not self.echo:
            return None
        logprobs = self.logprobs(number, draft, draft.prompt_logprobs)
        return self.text(number, self.echoed(draft), logprobs, None)

    def delta(
        self, number: int, draft: Draft, text: str, tokens: int, now: WritingProgress
    ) -> Body:
        logprobs = self.logprobs(number, draft, draft.logprobs[tokens : now.tokens])
        return self.text(number, text, logprobs, now)

    def echoed(self, draft: Draft) -> str:
        return self.generator.spelled(draft.prompt) if self.echo else ""

    def text(
        self, number: int, text: str, logprobs: Body | None, now: WritingProgress | None
    ) -> Body:
        return {
            "index": number,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": FINISHES[now.finish if now else None],
        }

    def logprobs(self, number: int, draft: Draft, tokens: list[TokenLogprob]) -> Body | None:
        """Four lists of one entry a token. The first token of a text has no log-probability."""
        if self.asked.likeliest is None:
            return None
        if number not in self.offsets:
            before = () if self.echo else draft.prompt
            self.offsets[number] = Offsets(self.generator, before)
        offsets = self.offsets[number]
        return {
            "tokens": [self.generator.token_name(one.token) for one in tokens],
            "token_logprobs": [one.logprob for one in tokens],
            "top_logprobs": [self.likeliest(one) for one in tokens],
            "text_offset": [offsets.next(one.token) for one in tokens],
        }

    def likeliest(self, one: TokenLogprob) -> dict[str, float] | None:
        """The likeliest tokens and the one that was taken; of several of one name the likeliest."""
        if one.logprob is None:
            return None
        named: dict[str, float] = {}
        for token, logprob in (*one.likeliest, (one.token, one.logprob)):
            named.setdefault(self.generator.token_name(token), logprob)
        return named


class ChatForm(Form):
    prefix = "chatcmpl"
    whole_object, piece_object = "chat.completion", "chat.completion.chunk"

    def __init__(
        self, name: str, model: LoadedModel, generator: Generates, asked: ChatRequest
    ) -> None:
        super().__init__(name, model, generator, asked)

    def choice(self, number: int, draft: Draft, now: WritingProgress) -> Body:
        return {
            "index": number,
            "message": {"role": "assistant", "content": now.text, "refusal": None},
            "logprobs": self.logprobs(draft.logprobs),
            "finish_reason": FINISHES[now.finish],
        }

    def opening(self, number: int, draft: Draft) -> Body | None:
        delta = {"role": "assistant", "content": "", "refusal": None}
        return {"index": number, "delta": delta, "logprobs": None, "finish_reason": None}

    def delta(
        self, number: int, draft: Draft, text: str, tokens: int, now: WritingProgress
    ) -> Body:
        return {
            "index": number,
            "delta": {"content": text} if text else {},
            "logprobs": self.logprobs(draft.logprobs[tokens : now.tokens]),
            "finish_reason": FINISHES[now.finish],
        }

    def logprobs(self, tokens: list[TokenLogprob]) -> Body | None:
        if self.asked.likeliest is None:
            return None
        return {"content": [self.entry(one) for one in tokens], "refusal": None}

    def entry(self, one: TokenLogprob) -> Body:
        best = [self.named(token, logprob) for token, logprob in one.likeliest]
        return {**self.named(one.token, one.logprob), "top_logprobs": best}

    def named(self, token: int, logprob: float | None) -> Body:
        name = self.generator.token_name(token)
        return {
            "token": name,
            "logprob": logprob,
            "bytes": list(self.generator.token_bytes(token)),
        }
