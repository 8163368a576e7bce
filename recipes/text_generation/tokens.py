"""Byte-level BPE: every text has tokens and comes back byte for byte, whatever it was trained on.

Token 0 stands before a document's first token and after its last one, as GPT-2's <|endoftext|>
does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recipes.text_generation.size import UnusableStart
from tidemill.text.chat import TemplateError, special_tokens

END = "<|endoftext|>"
SPACE = "\u2581"  # how SentencePiece spells one
BYTE_TOKEN = re.compile("<0x([0-9A-F]{2})>")


def letter_bytes() -> dict[str, int]:
    """The letters that stand for bytes in a byte-level vocabulary (Radford et al. 2019).

    A byte that Latin-1 prints stands for itself; the others are the letters from 256 on.
    """
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }


LETTER_BYTES = letter_bytes()


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
    """A tokenizer opened from its JSON, and what stands beside it in tokenizer_config.json.

    `begin` stands before a document's first token, `end` after its last one; any of `ends` ends
    an answer.
    """

    def __init__(self, body: str, config: Mapping[str, Any] | None = None) -> None:
        from tokenizers import Tokenizer

        try:
            self.body, self._inner = body, Tokenizer.from_str(body)
        except Exception as error:  # the library raises no other kind
            reason = " ".join(str(error).split())[:200]
            raise UnusableStart(
                f"tokenizer.json is no tokenizer ({reason}); write it with save_pretrained"
            ) from None
        self.config = dict(config or {})
        self.size: int = self._inner.get_vocab_size()
        named = special_tokens(self.config)
        self.end = self._number(named.get("eos_token", END), "eos_token")
        self.begin = (
            self._number(named["bos_token"], "bos_token") if "bos_token" in named else (self.end)
        )
        more = self.config.get("ends") or []
        self.ends = frozenset({self.end, *(more if isinstance(more, list) else [more])})
        self._added: dict[int, Any] = self._inner.get_added_tokens_decoder()
        template = str(self.config.get("chat_template") or "")
        # Some models' marks of turns are not declared special. `<think>` and the like are in the
        # template too, and an assistant's words may have them.
        self._turns = frozenset(
            number for number, token in self._added.items() if token.content in template
        )

    @classmethod
    def of(cls, folder: Path) -> Tokens:
        """Those of a folder: tokenizer.json, or GPT-2's vocab.json and merges.txt.

        Raises UnusableStart where there are none.
        """
        config = configured(folder)
        if (folder / "tokenizer.json").is_file():
            return cls((folder / "tokenizer.json").read_text(encoding="utf-8"), config)
        if not (folder / "vocab.json").is_file():
            raise UnusableStart(
                f"start '{folder}' has no tokenizer.json; write it with "
                "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
            )
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers

        found: Any = Tokenizer(
            models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
        )
        found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        found.decoder = decoders.ByteLevel()
        return cls(found.to_str(), config)

    def _number(self, token: str, name: str) -> int:
        number: int | None = self._inner.token_to_id(token)
        if number is None:
            raise UnusableStart(
                f"the tokenizer has no token {token}; name its {name} in tokenizer_config.json"
            )
        return number

    def ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of each text; a text that spells the end token out gets it as letters."""
        return [
            np.array(item.ids, dtype=np.int64)
            for item in self._letters.encode_batch(list(texts), add_special_tokens=False)
        ]

    def documents(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The same with what stands before and after a document."""
        return [np.concatenate([[self.begin], ids, [self.end]]) for ids in self.ids(texts)]

    def text(self, ids: Sequence[int]) -> str:
        """Bytes that are no UTF-8 become U+FFFD; what begins and ends texts becomes nothing."""
        return self._inner.decode(
            [int(one) for one in ids if one != self.begin and one not in self.ends],
            skip_special_tokens=False,
        )

    def name(self, token: int) -> str:
        """A token's text; its name in the vocabulary where it is no whole character."""
        text: str = self._inner.decode([token], skip_special_tokens=False)
        name: str = self._inner.id_to_token(token) or ""
        if not text or "\ufffd" in text:
            return name
        # Decoders leave the space before a text's first word out.
        return f" {text}" if name.startswith(SPACE) and not text.startswith(" ") else text

    def bytes_of(self, token: int) -> bytes:
        """What a token adds to a text in UTF-8, where it is a part of a character too."""
        name: str = self._inner.id_to_token(token) or ""
        byte = BYTE_TOKEN.fullmatch(name)
        if byte and "ByteFallback" in self._decoders:
            return bytes([int(byte[1], 16)])
        if "ByteLevel" in self._decoders and all(letter in LETTER_BYTES for letter in name):
            return bytes(LETTER_BYTES[letter] for letter in name)
        return self.name(token).encode("utf-8", "replace")

    @cached_property
    def _decoders(self) -> frozenset[str]:
        """The kinds of steps that make tokens text, by their names in tokenizer.json."""
        decoder = json.loads(self.body).get("decoder") or {}
        return frozenset(step["type"] for step in [decoder, *decoder.get("decoders", [])] if step)

    def spelled_out(self, text: str) -> list[int]:
        """The tokens of a text in which special tokens are spelled, as templates spell them."""
        ids: list[int] = self._inner.encode(text, add_special_tokens=False).ids
        return ids

    def refuse_forged(self, messages: Sequence[Mapping[str, str]]) -> None:
        """Raise TemplateError where a message spells a special token: it could forge a turn.

        So it does also where the tokenizer makes one of other letters, as of fullwidth ones. A
        user's message may spell none of the tokens that the template writes either.
        """
        for number, message in enumerate(messages):
            ids = set(self.spelled_out(message["content"])) & self._added.keys()
            for token in sorted(ids):
                of_turn = message["role"] == "user" and token in self._turns
                if self._added[token].special or of_turn:
                    raise TemplateError(
                        f"message {number} spells the special token "
                        f"{self._added[token].content}; leave it out"
                    )

    def config_of(self, context: int) -> dict[str, object]:
        """A tokenizer_config.json for what leaves."""
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": self._inner.id_to_token(self.begin),
            "eos_token": self._inner.id_to_token(self.end),
            "clean_up_tokenization_spaces": False,
            **({"chat_template": self.config["chat_template"]} if self.chat else {}),
            "model_max_length": context,
        }

    @property
    def chat(self) -> bool:
        """Whether there is a chat template."""
        return bool(self.config.get("chat_template"))

    @cached_property
    def _letters(self) -> Any:
        """The same, but special tokens that a text spells are letters.

        An object of its own, since threads may ask for both at once.
        """
        from tokenizers import Tokenizer

        letters: Any = Tokenizer.from_str(self.body)
        letters.encode_special_tokens = True
        return letters


def configured(folder: Path) -> dict[str, object]:
    """A folder's tokenizer_config.json, with the template and the ends that lie beside it."""
    path, template = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    config = json_object(path) if path.is_file() else {}
    if template.is_file():
        config["chat_template"] = template.read_text("utf-8")
    generation = folder / "generation_config.json"
    if generation.is_file():
        config["ends"] = json_object(generation).get("eos_token_id")
    return config


def json_object(path: Path) -> dict[str, Any]:
    """A file's object. Raises UnusableStart."""
    try:
        body = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UnusableStart(f"{path} is not JSON in UTF-8: {error}; write it again") from None
    if not isinstance(body, dict):
        raise UnusableStart(f"{path} is no JSON object; write it again")
    return body
