"""The exported transformer in ONNX Runtime: likelihoods of whole texts, and answers token by token.

No torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recipes.text_generation.conversations import ConversationReader, Row
from recipes.text_generation.schema import Answer, Question
from recipes.text_generation.spans import Spans
from recipes.text_generation.tokens import Tokens
from tidemill.families.generator import Decoder, Draft, Generates, Past, SamplingOptions, written
from tidemill.kit.graphs import opened
from tidemill.text import chat

EVALUATION = "evaluation.json"
SIZE = "size.json"
SAMPLES = 64  # of a package that does not say how many beginnings to continue
CELLS = 16_000_000  # logits of one call: bounds its memory to 64 MB


class _Window(NamedTuple):
    """A part of a text that is read at once."""

    text: int  # its number
    tokens: np.ndarray
    learned: np.ndarray  # which of them
    counted: int  # of its predictions, from the first on, were counted in an earlier window


class TextPredictor(Generates):
    """A package's graph and tokens: of a network made here, or of one of transformers."""

    def __init__(self, package: Path) -> None:
        self.tokens = Tokens.of(package)
        self.seen = Spans.of(package / "seen.npz")
        self.samples: int = read(package / EVALUATION).get("samples", SAMPLES)
        self.graphs = opened(package)
        inputs, outputs = shapes(self.graphs["model"])
        layers, _, heads, _, channels = inputs["past_keys"]
        self.cache = int(layers), int(heads), int(channels)
        self.vocabulary = int(outputs["logits"][2])
        size = read(package / SIZE)  # packages that were made before have no other
        self.context = int(size.get("context") or self.tokens.config["model_max_length"])
        self.ends = self.tokens.ends
        self.reader = ConversationReader(self.tokens)
        self.chat = self.reader.chat
        # Graphs of earlier packages have no filling.
        self.side_by_side = "begins" in inputs

    # Answers -----------------------------------------------------------------------------

    def predict(self, inputs: Sequence[Question]) -> list[Answer]:
        begun = [self.draft(question) for question in inputs]
        written(self, [draft for draft, _ in begun])
        return [
            Answer(
                text=draft.text,
                finish=draft.finish or "end",
                tokens=len(draft.written),
                limit=limit,
            )
            for draft, limit in begun
        ]

    def stream(self, question: Question) -> Iterator[str]:
        """The answer's text piece by piece, as its characters become whole."""
        draft, _ = self.draft(question)
        decoder, given = Decoder(self), 0
        decoder.join([draft])
        while True:
            if len(draft.text) > given:
                yield draft.text[given:]
                given = len(draft.text)
            if draft.unsound:
                raise draft.unsound
            if draft.finish:
                return
            decoder.step()

    def draft(self, question: Question) -> tuple[Draft, str | None]:
        """An answer to be written, and the limit where it does not see the whole prompt."""
        ids, unread = self.asked(question)
        room = self.context - min(question.max_tokens, self.context // 2)
        limit = None
        if len(ids) > room:
            limit = f"the prompt has {len(ids) - 1} tokens; the answer goes on from its last {room}"
        options = SamplingOptions(
            max_tokens=question.max_tokens,
            temperature=question.temperature,
            top_k=question.top_k,
            top_p=question.top_p,
            repetition_penalty=question.repetition_penalty,
            stop=tuple(question.stop),
            seed=question.seed,
        )
        return Draft(ids[-room:], options), unread or limit

    def asked(self, question: Question) -> tuple[list[int], str | None]:
        """The tokens to continue, and why a conversation is not among them where it is not."""
        if not question.messages:
            return self.prompt(question.prompt), None
        messages = [turn.model_dump() for turn in question.messages]
        try:
            ids = self.conversation(messages)
        except chat.TemplateError as error:
            return self.prompt(question.prompt), f"the conversation was not read: {error}"
        return ids + self.tokens.ids([question.prompt])[0].tolist(), None

    # The network, as a `Decoder` asks it -----------------------------------------------------

    def prompt(self, text: str) -> list[int]:
        return [self.tokens.begin, *self.tokens.ids([text])[0].tolist()]

    def conversation(self, messages: Sequence[chat.Message]) -> list[int]:
        if self.chat is None:
            raise chat.TemplateError("the model has no chat template")
        self.tokens.refuse_forged(messages)
        return self.tokens.spelled_out(self.chat.text(messages))

    def spelled(self, tokens: Sequence[int]) -> str:
        return self.tokens.text(tokens)

    def token_name(self, token: int) -> str:
        return self.tokens.name(token)

    def token_bytes(self, token: int) -> bytes:
        return self.tokens.bytes_of(token)

    def vocabulary_size(self) -> int:
        return self.vocabulary

    def forward(
        self, ids: np.ndarray, begins: np.ndarray, past: Past | None
    ) -> tuple[np.ndarray, Past]:
        filling = {"begins": begins.astype(np.int64)} if self.side_by_side else {}
        keys, values = past or self._nothing(len(ids))
        inputs = {"ids": ids.astype(np.int64), **filling, "past_keys": keys, "past_values": values}
        logits, keys, values = self.graphs["model"].run(None, inputs)
        return logits, (keys, values)

    def _nothing(self, rows: int) -> Past:
        """The past of a first step: keys and values of no token."""
        layers, heads, channels = self.cache
        empty = np.zeros((layers, rows, heads, 0, channels), np.float32)
        return empty, empty

    def step(self, ids: np.ndarray, past: Past | None = None) -> tuple[np.ndarray, Past]:
        """`forward` of rows without filling."""
        return self.forward(ids, np.zeros(len(ids), np.int64), past)

    # Likelihoods -----------------------------------------------------------------------------

    def nats(self, texts: Sequence[str | Row]) -> np.ndarray:
        """Each text's negative log-likelihood, its end included; a conversation's answers': (n,).

        A text longer than the context is read in windows that overlap by half, and each token is
        counted once, in the first window that has it.
        """
        windows = self._windows(texts)
        nats = np.zeros(len(texts))
        at = 0
        while at < len(windows):
            stop = at + 1
            while (
                stop < len(windows)
                and (len(windows[stop].tokens) - 1) * (stop + 1 - at) * self.vocabulary <= CELLS
            ):
                stop += 1
            for window, value in self._losses(windows[at:stop]):
                nats[window.text] += value
            at = stop
        return nats

    def _windows(self, texts: Sequence[str | Row]) -> list[_Window]:
        """What is read of the texts, the shortest first."""
        context, half = self.context, max(1, self.context // 2)
        windows = []
        rows = [Row(text) if isinstance(text, str) else text for text in texts]
        for row, (ids, learned) in enumerate(self.reader.readings(rows)):
            start, asked = 0, 0
            while asked < len(ids) - 1:
                stop = min(start + context, len(ids) - 1)
                windows.append(
                    _Window(row, ids[start : stop + 1], learned[start : stop + 1], asked - start)
                )
                start, asked = start + half, stop
        return sorted(windows, key=lambda window: len(window.tokens))

    def _losses(self, part: Sequence[_Window]) -> Iterator[tuple[_Window, float]]:
        """Each window's negative log-likelihood; all go through the network in one call."""
        # What fills up comes after, and nothing sees what comes after it.
        ids = np.full((len(part), len(part[-1].tokens) - 1), self.tokens.end, dtype=np.int64)
        for place, window in enumerate(part):
            ids[place, : len(window.tokens) - 1] = window.tokens[:-1]
        logits = self.step(ids)[0]
        top = logits.max(axis=2)
        norm = np.log(np.exp(logits - top[..., None]).sum(axis=2, dtype=np.float64)) + top
        for place, window in enumerate(part):
            where = np.arange(window.counted, len(window.tokens) - 1)
            where = where[window.learned[where + 1]]
            chosen = logits[place, where, window.tokens[where + 1]]
            yield window, float((norm[place, where] - chosen).sum())


def shapes(graph: Any) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """The shapes of a graph's inputs and outputs by name; a length that may vary is a word."""
    return (
        {one.name: one.shape for one in graph.get_inputs()},
        {one.name: one.shape for one in graph.get_outputs()},
    )


def read(path: Path) -> dict[str, Any]:
    """A JSON file's object; an empty one where there is no such file."""
    body: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return body
