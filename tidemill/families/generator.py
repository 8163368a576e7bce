"""Applications that write text token by token, and how several texts are written side by side.

A predictor that is a `Generates` gives tokens, a step of its network and their text; `Decoder`
does the rest: drawing, stops, whole characters, and rows that join and leave between steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tidemill.kit import sampling
from tidemill.runtime.errors import Fault
from tidemill.text.chat import ChatTemplate, Message

Finish = Literal["end", "stop", "length"]
Past = tuple[np.ndarray, np.ndarray]
"""Keys and values of what was read: each (L, B, H, P, E)."""

LEAST_LOGPROB = -9999.0  # for a token that cannot be: JSON has no infinity. vLLM's number too
SPREAD = 24  # tokens; prompts that differ by more in length are not read side by side
CONTEXT_TOKENS = 4  # of the prompt that the answer's first characters are spelled after
UNFINISHED = "\ufffd"  # how a character of which bytes are missing is spelled


class UnsoundLogits(Fault):
    """A network gave NaN for an answer's next token."""


@dataclass(frozen=True)
class SamplingOptions:
    """How an answer's tokens are drawn, and when it ends."""

    max_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    likeliest: int | None = None
    """How many of the likeliest tokens are given with each one; None: no log-probabilities."""
    prompt_logprobs: bool = False
    """Whether the prompt's own tokens get log-probabilities too."""


@dataclass(frozen=True)
class TokenLogprob:
    """A token with its log-probability before temperature and penalties, in nats."""

    token: int
    logprob: float | None  # None: of a first token, which nothing comes before
    likeliest: tuple[tuple[int, float], ...] = ()


class Generates(ABC):
    """A predictor that writes text token by token."""

    context: int
    """Tokens that a token sees, at most."""
    ends: frozenset[int]
    """The tokens that end an answer."""
    side_by_side: bool
    """Whether rows of several lengths share a step."""
    chat: ChatTemplate | None
    """How a conversation is spelled; None where the model has no template."""

    @abstractmethod
    def prompt(self, text: str) -> list[int]:
        """The tokens of a text that is to be continued, with what every text begins with."""

    @abstractmethod
    def conversation(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of a conversation up to where the assistant's answer begins.

        ValueError where the template refuses it.
        """

    @abstractmethod
    def spelled(self, tokens: Sequence[int]) -> str:
        """The tokens' text; bytes that are no UTF-8 become U+FFFD, ends become nothing."""

    @abstractmethod
    def token_name(self, token: int) -> str:
        """One token as it is shown: its text, or its name where it is none by itself."""

    @abstractmethod
    def token_bytes(self, token: int) -> bytes:
        """The bytes that one token adds to a text; several tokens' may make one character."""

    @abstractmethod
    def vocabulary_size(self) -> int:
        """Tokens are 0 up to this number."""

    @abstractmethod
    def forward(
        self, ids: np.ndarray, begins: np.ndarray, past: Past | None
    ) -> tuple[np.ndarray, Past]:
        """One step: ids (B, T) after the past; logits (B, T, V) and the past with these.

        Of each row the first `begins` (B,) of all places are filling.
        """


class Speller:
    """Tokens to text as they come: whole characters, though a token may be a part of one.

    `before` are tokens that stand before them: what a token spells may depend on its left side.
    """

    def __init__(self, model: Generates, before: Sequence[int] = ()) -> None:
        self.model = model
        self.tokens = list(before[-CONTEXT_TOKENS:])
        self.spelled = len(self.tokens)  # how many of them are spelled

    def add(self, token: int, last: bool = False) -> str:
        """The characters that this token makes whole; with `last` those that stay in parts too."""
        self.tokens.append(token)
        old = self.model.spelled(self.tokens[: self.spelled])
        new = self.model.spelled(self.tokens)
        if not last and (len(new) <= len(old) or new.endswith(UNFINISHED)):
            return ""
        self.tokens = self.tokens[self.spelled :]
        self.spelled = len(self.tokens)
        return new[len(old) :]


@dataclass(eq=False)
class Draft:
    """An answer that is being written."""

    prompt: list[int]
    options: SamplingOptions
    text: str = ""  # of the answer, as far as later tokens cannot change it
    finish: Finish | None = None
    written: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    held: str = ""  # whole characters that may yet be the beginning of a stop
    speller: Speller | None = None
    unsound: UnsoundLogits | None = None  # why it ended early

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.options.seed)

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.written


class Decoder:
    """Writes answers side by side; a new one joins between two steps of the others."""

    def __init__(self, model: Generates) -> None:
        self.model = model
        self.batches: list[_Batch] = []

    @property
    def drafts(self) -> list[Draft]:
        """Those that are being written."""
        return [draft for batch in self.batches for draft in batch.drafts]

    def join(self, drafts: Sequence[Draft]) -> None:
        """Read the prompts, and draw each answer's first token."""
        order = sorted(drafts, key=lambda draft: len(draft.prompt))
        while order:
            group = [draft for draft in order if self._together(order[0], draft)]
            order = order[len(group) :]
            self._begin(group, [draft.prompt for draft in group], self._note_prompt)

    def leave(self, draft: Draft) -> None:
        """Stop writing an answer that nobody waits for."""
        for batch in self.batches:
            batch.keep([one is not draft for one in batch.drafts])
        self._tidy()

    def step(self) -> None:
        """One more token for every answer."""
        for batch in list(self.batches):
            full = [begin_full(batch, place, self.model.context) for place in range(batch.rows)]
            outgrown = [draft for draft, is_full in zip(batch.drafts, full, strict=True) if is_full]
            batch.keep([not is_full for is_full in full])
            if batch.rows:
                ids = np.array([[draft.written[-1]] for draft in batch.drafts])
                logits, batch.past = self.model.forward(ids, batch.begins, batch.past)
                self._draw(batch, logits[:, -1])
            # The last half is read again as a beginning.
            half = max(1, self.model.context // 2)
            for draft in outgrown:
                self._begin([draft], [draft.tokens[-half:]])
        self._tidy()

    def _together(self, one: Draft, two: Draft) -> bool:
        if not self.model.side_by_side:
            return one is two
        return len(two.prompt) - len(one.prompt) <= SPREAD

    def _begin(
        self,
        drafts: list[Draft],
        read: list[list[int]],
        note: Callable[[Draft, np.ndarray], None] | None = None,
    ) -> None:
        """Read what comes before each answer's next token, and draw that."""
        longest = max(map(len, read))
        begins = np.array([longest - len(tokens) for tokens in read])
        ids = np.array([[0] * begin + tokens for begin, tokens in zip(begins, read, strict=True)])
        logits, past = self.model.forward(ids, begins, None)
        if note:
            for draft, begin, rows in zip(drafts, begins, logits, strict=True):
                note(draft, rows[begin:])
        batch = _Batch(drafts, begins, past)
        self._draw(batch, logits[:, -1])
        if self.model.side_by_side and self.batches and batch.rows:
            self.batches[0].join(batch)
        else:
            self.batches.append(batch)
        self._tidy()

    def _note_prompt(self, draft: Draft, logits: np.ndarray) -> None:
        """The log-probabilities of a prompt's tokens, from the logits (T, V) after each."""
        if not draft.options.prompt_logprobs:
            return
        first = TokenLogprob(draft.prompt[0], None)
        scores = sampling.log_softmax(logits[:-1])
        count = draft.options.likeliest or 0
        rest = [
            scored(row, token, count) for row, token in zip(scores, draft.prompt[1:], strict=True)
        ]
        draft.prompt_logprobs = [first, *rest]

    def _draw(self, batch: _Batch, logits: np.ndarray) -> None:
        """Draw each row's next token from logits (B, V); rows that ended leave."""
        for draft, row in zip(batch.drafts, logits, strict=True):
            if len(draft.written) < draft.options.max_tokens:
                self._write(draft, row)
            else:  # of an answer of no tokens
                draft.finish = "length"
        batch.keep([draft.finish is None for draft in batch.drafts])

    def _write(self, draft: Draft, logits: np.ndarray) -> None:
        if np.isnan(logits).any() or not np.isfinite(logits.max()):
            # Of this answer alone: those beside it have rows of their own.
            draft.unsound = UnsoundLogits("the network gave NaN for an answer's next token")
            draft.finish = "end"
            return
        token = drawn(draft, logits)
        options = draft.options
        if options.likeliest is not None:
            draft.logprobs.append(scored(sampling.log_softmax(logits), token, options.likeliest))
        draft.written.append(token)
        if token in self.model.ends:
            draft.finish = "end"
        elif len(draft.written) == options.max_tokens:
            draft.finish = "length"
        self._spell(draft)

    def _spell(self, draft: Draft) -> None:
        """Add the characters that became whole to the answer's text, up to a stop."""
        if draft.speller is None:
            draft.speller = Speller(self.model, draft.prompt)
        draft.held += draft.speller.add(draft.written[-1], last=draft.finish is not None)
        at = sampling.stopped(draft.held, draft.options.stop)
        if at is not None:
            draft.text, draft.held, draft.finish = draft.text + draft.held[:at], "", "stop"
            return
        keep = 0 if draft.finish else unsure(draft.held, draft.options.stop)
        sure = len(draft.held) - keep
        draft.text, draft.held = draft.text + draft.held[:sure], draft.held[sure:]

    def _tidy(self) -> None:
        self.batches = [batch for batch in self.batches if batch.rows]


class _Batch:
    """Rows that share a step: B answers whose past has P places, the first of some filling."""

    def __init__(self, drafts: list[Draft], begins: np.ndarray, past: Past) -> None:
        self.drafts, self.begins, self.past = drafts, begins, past

    @property
    def rows(self) -> int:
        return len(self.drafts)

    @property
    def kept(self) -> int:
        """Places of the past."""
        return int(self.past[0].shape[3])

    def keep(self, stays: list[bool]) -> None:
        """Leave the others out, and the filling that no row needs any more."""
        if all(stays):
            return
        rows = np.flatnonzero(stays)
        self.drafts = [self.drafts[row] for row in rows]
        begins = self.begins[rows]
        spare = int(begins.min()) if len(rows) else 0
        self.begins = begins - spare
        keys, values = self.past
        self.past = keys[:, rows, :, spare:], values[:, rows, :, spare:]

    def join(self, other: _Batch) -> None:
        """Take the other's rows; the shorter past is filled up at its beginning."""
        longest = max(self.kept, other.kept)
        self.begins = np.concatenate(
            [batch.begins + longest - batch.kept for batch in (self, other)]
        )
        keys, values = (
            np.concatenate([filled(self.past[part], longest), filled(other.past[part], longest)], 1)
            for part in (0, 1)
        )
        self.past = keys, values
        self.drafts = self.drafts + other.drafts


def filled(past: np.ndarray, length: int) -> np.ndarray:
    """Keys or values (L, B, H, P, E) with zeros before them: (L, B, H, length, E)."""
    missing = length - past.shape[3]
    return np.pad(past, ((0, 0), (0, 0), (0, 0), (missing, 0), (0, 0))) if missing else past


def begin_full(batch: _Batch, place: int, context: int) -> bool:
    """Whether a row's past leaves no room for one more token."""
    return batch.kept - int(batch.begins[place]) + 1 > context


def drawn(draft: Draft, logits: np.ndarray) -> int:
    """The next token of an answer, from the network's logits (V,)."""
    options = draft.options
    changed = sampling.penalised(logits, draft.tokens, options.repetition_penalty)
    changed = sampling.unrepeated(
        changed, draft.written, options.presence_penalty, options.frequency_penalty
    )
    chances = sampling.chances(changed, options.temperature, options.top_k, options.top_p)
    return sampling.drawn(chances, draft.random)


def scored(scores: np.ndarray, token: int, likeliest: int) -> TokenLogprob:
    """A token of log-probabilities (V,), with the likeliest ones, the likeliest first."""
    order = np.argsort(-scores, kind="stable")[:likeliest]
    best = tuple((int(one), finite(scores[one])) for one in order)
    return TokenLogprob(token, finite(scores[token]), best)


def finite(logprob: float) -> float:
    return max(float(logprob), LEAST_LOGPROB)


def unsure(text: str, stops: Sequence[str]) -> int:
    """How many characters at the text's end are the beginning of a stop."""
    longest = min(len(text), max(map(len, stops), default=1) - 1)
    for count in range(longest, 0, -1):
        if any(stop.startswith(text[-count:]) for stop in stops):
            return count
    return 0


def written(model: Generates, drafts: Sequence[Draft]) -> None:
    """Write answers to their ends. Raises UnsoundLogits."""
    decoder = Decoder(model)
    decoder.join(drafts)
    while decoder.batches:
        decoder.step()
    for draft in drafts:
        if draft.unsound:
            raise draft.unsound
