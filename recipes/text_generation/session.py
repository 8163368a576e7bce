"""The exported transformer in ONNX Runtime: likelihoods of whole texts, and answers token by token.

No torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recipes.text_generation import sampling
from recipes.text_generation.schema import Answer, Finish, Question
from recipes.text_generation.size import Size
from recipes.text_generation.tokens import Tokens
from tidemill.kit.graphs import opened

EVALUATION = "evaluation.json"
SAMPLES = 64  # of a package that does not say how many beginnings to continue
CELLS = 16_000_000  # logits of one call: bounds its memory to 64 MB
SPREAD = 24  # tokens; prompts that differ by more in length are not read side by side


class _Row:
    """One of several answers that are made side by side."""

    def __init__(self, question: Question, read: list[int], limit: str | None) -> None:
        self.question, self.read, self.limit = question, read, limit
        self.random = np.random.default_rng(question.seed)
        self.tokens: list[int] = []
        self.end: Finish | None = None
        self.text: str | None = None


def _drawn(row: _Row, logits: np.ndarray) -> int:
    """The next token of an answer, from the network's logits (V,)."""
    question = row.question
    penalised = sampling.penalised(logits, row.read, question.repetition_penalty)
    chances = sampling.chances(penalised, question.temperature, question.top_k, question.top_p)
    return sampling.drawn(chances, row.random)


class _Window(NamedTuple):
    """A part of a text that is read at once."""

    text: int  # its number
    tokens: np.ndarray
    counted: int  # of its predictions, from the first on, were counted in an earlier window


class TextPredictor:
    def __init__(self, package: Path) -> None:
        self.size = Size(**json.loads((package / "size.json").read_text()))
        self.tokens = Tokens.of(package / "tokenizer.json")
        self.seen: np.ndarray = np.load(package / "seen.npz")["hashes"]
        path = package / EVALUATION
        told = json.loads(path.read_text()) if path.is_file() else {}
        self.samples: int = told.get("samples", SAMPLES)
        self.graphs = opened(package)

    def predict(self, inputs: Sequence[Question]) -> list[Answer]:
        return self.together(inputs)

    def stream(self, question: Question) -> Iterator[str]:
        """The answer's text piece by piece, as its tokens come."""
        return self.pieces(question)

    def step(
        self, ids: np.ndarray, past: tuple[np.ndarray, np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """ids (B, T) after what is in the past (L, B, H, P, E).

        Logits (B, T, V) and the new past.
        """
        if past is None:
            empty = np.zeros(
                (
                    self.size.layers,
                    len(ids),
                    self.size.heads,
                    0,
                    self.size.width // self.size.heads,
                ),
                dtype=np.float32,
            )
            past = (empty, empty)
        logits, keys, values = self.graphs["model"].run(
            None, {"ids": ids, "past_keys": past[0], "past_values": past[1]}
        )
        return logits, keys, values

    def nats(self, texts: Sequence[str]) -> np.ndarray:
        """Each text's negative log-likelihood, its end included: (n,).

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
                and (len(windows[stop].tokens) - 1) * (stop + 1 - at) * self.size.vocabulary
                <= CELLS
            ):
                stop += 1
            for window, value in self._losses(windows[at:stop]):
                nats[window.text] += value
            at = stop
        return nats

    def _windows(self, texts: Sequence[str]) -> list[_Window]:
        """What is read of the texts, the shortest first."""
        context, half = self.size.context, max(1, self.size.context // 2)
        windows = []
        for row, ids in enumerate(self.tokens.documents(texts)):
            start, asked = 0, 0
            while asked < len(ids) - 1:
                stop = min(start + context, len(ids) - 1)
                windows.append(_Window(row, ids[start : stop + 1], asked - start))
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
            chosen = logits[place, where, window.tokens[where + 1]]
            yield window, float((norm[place, where] - chosen).sum())

    def begun(self, question: Question) -> tuple[np.ndarray, str | None]:
        """The tokens an answer goes on from, and the limit where they are not the whole prompt."""
        ids = np.concatenate([[self.tokens.end], self.tokens.ids([question.prompt])[0]])
        room = self.size.context - min(question.max_tokens, self.size.context // 2)
        if len(ids) <= room:
            return ids, None
        return ids[
            -room:
        ], f"the prompt has {len(ids) - 1} tokens; the answer goes on from its last {room}"

    def generated(self, question: Question) -> Iterator[int]:
        """The answer's tokens as they come; the end token is the last one where the text ended."""
        ids, _ = self.begun(question)
        random = np.random.default_rng(question.seed)
        read: list[int] = [int(one) for one in ids]
        logits, *past = self.step(ids[None])
        for _ in range(question.max_tokens):
            told = sampling.penalised(logits[0, -1], read, question.repetition_penalty)
            token = sampling.drawn(
                sampling.chances(told, question.temperature, question.top_k, question.top_p), random
            )
            yield token
            if token == self.tokens.end:
                return
            read.append(token)
            if (
                past[0].shape[3] + 1 > self.size.context
            ):  # full: the last half is read again as a beginning
                logits, *past = self.step(np.array([read[-(self.size.context // 2) :]]))
            else:
                logits, *past = self.step(np.array([[token]]), (past[0], past[1]))

    def pieces(self, question: Question) -> Iterator[str]:
        """The answer's text as it comes: whole characters, though a token may be a part of one.

        Stops are not looked for.
        """
        tokens: list[int] = []
        told = ""
        for token in self.generated(question):
            tokens.append(token)
            text = self.tokens.text(tokens)
            if not text.endswith("\ufffd") and len(text) > len(told):
                yield text[len(told) :]
                told = text

    def together(self, questions: Sequence[Question]) -> list[Answer]:
        """What `answer` gives, of several questions that go through the network side by side.

        All rows have as many tokens behind them at each step, so the graph needs no mask: while one
        row's prompt is still being read, another that had a shorter one draws its answer's next
        token.
        """
        if len(questions) == 1:
            return [self.answer(questions[0])]
        begun = [self.begun(question) for question in questions]
        order = sorted(range(len(questions)), key=lambda row: len(begun[row][0]))
        found: dict[int, Answer] = {}
        at = 0
        # Prompts of nearly one length go together; a much longer one would be read token by token.
        while at < len(order):
            stop = at + 1
            while (
                stop < len(order)
                and len(begun[order[stop]][0]) - len(begun[order[at]][0]) <= SPREAD
            ):
                stop += 1
            rows = order[at:stop]
            if len(rows) == 1:
                found[rows[0]] = self.answer(questions[rows[0]])
            else:
                for row, told in zip(
                    rows,
                    self._rows([questions[row] for row in rows], [begun[row] for row in rows]),
                    strict=True,
                ):
                    found[row] = told
            at = stop
        return [found[row] for row in range(len(questions))]

    def _rows(
        self, questions: list[Question], begun: list[tuple[np.ndarray, str | None]]
    ) -> list[Answer]:
        rows = [
            _Row(question, [int(one) for one in ids], limit)
            for question, (ids, limit) in zip(questions, begun, strict=True)
        ]
        done = min(len(row.read) for row in rows)  # tokens of each row that the network has seen
        logits, *past = self.step(np.array([row.read[:done] for row in rows]))
        live = rows
        while True:
            for place, row in enumerate(live):
                # Its prompt is read: the answer's next token.
                if len(row.read) == done and not row.end:
                    self._took(row, _drawn(row, logits[place, -1]))
            keep = [place for place, row in enumerate(live) if not row.end]
            if not keep:
                return [self._answered(row) for row in rows]
            if len(keep) < len(live):
                live, past = [live[place] for place in keep], [part[:, keep] for part in past]
            done += 1
            if past[0].shape[3] + 1 > self.size.context:
                logits, *past = self.step(
                    np.array([row.read[done - self.size.context // 2 : done] for row in live])
                )
            else:
                logits, *past = self.step(
                    np.array([[row.read[done - 1]] for row in live]), (past[0], past[1])
                )

    def _answered(self, row: _Row) -> Answer:
        text = row.text if row.text is not None else self.tokens.text(row.tokens)
        return self._answer(text, row.end or "end", row.tokens, row.limit)

    def _took(self, row: _Row, token: int) -> None:
        row.tokens.append(token)
        row.read.append(token)
        if token == self.tokens.end:
            row.end = "end"
        elif (
            row.question.stop
            and (at := sampling.stopped(text := self.tokens.text(row.tokens), row.question.stop))
            is not None
        ):
            row.text, row.end = text[:at], "stop"
        elif len(row.tokens) == row.question.max_tokens:
            row.end = "length"

    def answer(self, question: Question) -> Answer:
        """Text, why it ended, how many tokens, and the stated limit."""
        _, limit = self.begun(question)
        tokens: list[int] = []
        for token in self.generated(question):
            tokens.append(token)
            if token == self.tokens.end:
                return self._answer(self.tokens.text(tokens), "end", tokens, limit)
            if question.stop:
                text = self.tokens.text(tokens)
                if (at := sampling.stopped(text, question.stop)) is not None:
                    return self._answer(text[:at], "stop", tokens, limit)
        return self._answer(self.tokens.text(tokens), "length", tokens, limit)

    def _answer(self, text: str, finish: Finish, tokens: list[int], limit: str | None) -> Answer:
        return Answer(text=text, finish=finish, tokens=len(tokens), limit=limit)
