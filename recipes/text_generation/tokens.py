"""Byte-level BPE: every text has tokens and comes back byte for byte, whatever it was trained on.

Token 0 stands before a document's first token and after its last one, as GPT-2's <|endoftext|>
does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tidemill.text.chat import TemplateError

END = "<|endoftext|>"


def trained(texts: Iterable[str], vocabulary: int) -> str:
    """A tokenizer for these texts, as the JSON of `tokenizers`; equal texts give an equal one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    found: Any = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    found.train_from_iterator(texts, trainer)
    body: str = found.to_str()
    return body


class Tokens:
    """A tokenizer opened from its JSON."""

    def __init__(self, body: str) -> None:
        from tokenizers import Tokenizer

        self.body, self._inner = body, Tokenizer.from_str(body)
        self.size: int = self._inner.get_vocab_size()
        end = self._inner.token_to_id(END)
        if end is None:
            raise ValueError(f"the tokenizer has no token {END}; it must have one, as GPT-2's has")
        self.end: int = end
        added = self._inner.get_added_tokens_decoder().values()
        self.special = sorted(token.content for token in added if token.special)

    @classmethod
    def of(cls, path: Path) -> Tokens:
        """A tokenizer.json, or a folder of GPT-2's vocab.json and merges.txt."""
        if path.is_file():
            return cls(path.read_text(encoding="utf-8"))
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers

        found: Any = Tokenizer(
            models.BPE.from_file(str(path / "vocab.json"), str(path / "merges.txt"))
        )
        found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        found.decoder = decoders.ByteLevel()
        return cls(found.to_str())

    def ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of each text; a text that spells the end token out gets it as letters."""
        return [
            np.array(item.ids, dtype=np.int64)
            for item in self._plain().encode_batch(list(texts), add_special_tokens=False)
        ]

    def documents(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The same with the end token before and after."""
        return [np.concatenate([[self.end], ids, [self.end]]) for ids in self.ids(texts)]

    def text(self, ids: Sequence[int]) -> str:
        """Bytes that are no UTF-8 become U+FFFD."""
        return self._inner.decode(
            [int(one) for one in ids if one != self.end], skip_special_tokens=False
        )

    def name(self, token: int) -> str:
        """A token's text; its name in the vocabulary where it is no whole character."""
        text: str = self._inner.decode([token], skip_special_tokens=False)
        if text and "\ufffd" not in text:
            return text
        name: str | None = self._inner.id_to_token(token)
        return name if name is not None else ""

    def spelled_out(self, text: str) -> list[int]:
        """The tokens of a text in which special tokens are spelled, as templates spell them."""
        self._inner.encode_special_tokens = False
        ids: list[int] = self._inner.encode(text, add_special_tokens=False).ids
        return ids

    def refuse_forged(self, messages: Sequence[Mapping[str, str]]) -> None:
        """Raise TemplateError where a message spells a special token: it could forge a turn."""
        for number, message in enumerate(messages):
            for token in self.special:
                if token in message["content"]:
                    raise TemplateError(
                        f"message {number} spells the special token {token}; leave it out"
                    )

    def _plain(self) -> Any:
        self._inner.encode_special_tokens = True
        return self._inner
