"""Texts as OpenAI's protocol gives them: whole, or in the pieces of a stream."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
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
        self.given: list[tuple[int, int]] = []  # characters and tokens of each text so far

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

    def begin(self, drafts: Sequence[Draft]) -> Iterator[Body]:
        """The pieces that come before any text."""
        self.given = [(0, 0)] * len(drafts)
        for number, draft in enumerate(drafts):
            opening = self.opening(number, draft)
            if opening is not None:
                yield self.piece([opening])

    def more(self, drafts: Sequence[Draft], progress: Sequence[WritingProgress]) -> Iterator[Body]:
        """A piece for each text that has grown or ended."""
        for number, (draft, now) in enumerate(zip(drafts, progress, strict=True)):
            characters, tokens = self.given[number]
            if tokens < 0:  # its end was given
                continue
            text = now.text[characters:]
            if text or now.finish:
                self.given[number] = (len(now.text), -1 if now.finish else now.tokens)
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

    def choice(self, number: int, draft: Draft, now: WritingProgress) -> Body:
        before = self.echoed(draft)
        tokens = [*draft.prompt_logprobs, *draft.logprobs]
        return self.text(number, before + now.text, tokens, 0, now.finish)

    def opening(self, number: int, draft: Draft) -> Body | None:
        if not self.echo:
            return None
        return self.text(number, self.echoed(draft), draft.prompt_logprobs, 0, None)

    def delta(
        self, number: int, draft: Draft, text: str, tokens: int, now: WritingProgress
    ) -> Body:
        shown = draft.logprobs[tokens : now.tokens]
        place = len(self.echoed(draft)) + len(now.text) - len(text)
        return self.text(number, text, shown, place, now.finish)

    def echoed(self, draft: Draft) -> str:
        return self.generator.spelled(draft.prompt) if self.echo else ""

    def text(
        self, number: int, text: str, tokens: list[TokenLogprob], place: int, finish: Finish | None
    ) -> Body:
        return {
            "index": number,
            "text": text,
            "logprobs": None if self.asked.likeliest is None else self.logprobs(tokens, place),
            "finish_reason": FINISHES[finish],
        }

    def logprobs(self, tokens: list[TokenLogprob], place: int) -> Body:
        """Four lists of one entry a token. The first token of a text has no log-probability."""
        name = self.generator.token_name
        speller, offsets = Speller(self.generator), []
        for one in tokens:
            offsets.append(place)
            place += len(speller.add(one.token))
        return {
            "tokens": [name(one.token) for one in tokens],
            "token_logprobs": [one.logprob for one in tokens],
            "top_logprobs": [
                None if one.logprob is None else {name(token): at for token, at in one.likeliest}
                for one in tokens
            ],
            "text_offset": offsets,
        }


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
        return {"token": name, "logprob": logprob, "bytes": list(name.encode("utf-8", "replace"))}
