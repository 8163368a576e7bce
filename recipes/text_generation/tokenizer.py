"""Byte-level BPE, trained on the training texts alone: every text has tokens, whatever its characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

END = "<|endoftext|>"   # GPT-2's name; stands before every text and after it
# GPT-2's pattern without its English contractions, and with combining marks (\p{M}) as parts of words: without
# them every vowel sign of Devanagari or Tamil would be a word of its own.
WORDS = r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"


def train(texts: Iterable[str], vocab: int) -> Any:
    """A `tokenizers.Tokenizer` of at most `vocab` tokens, END the first of them."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.Sequence([  # type: ignore[assignment]
        pre_tokenizers.Split(Regex(WORDS), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    found.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    found.train_from_iterator(texts, trainer)
    return found


def read(folder: Path) -> Any:
    """The tokenizer of a folder: tokenizer.json, or GPT-2's older vocab.json and merges.txt. ValueError where it has no END."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    if (folder / "tokenizer.json").is_file():
        found = Tokenizer.from_file(str(folder / "tokenizer.json"))
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        found = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
        found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
        found.decoder = decoders.ByteLevel()  # type: ignore[assignment]
        found.add_special_tokens([END])
    else:
        raise ValueError(f"{folder} has no tokenizer.json, nor vocab.json with merges.txt; save the tokenizer beside the weights")
    if found.token_to_id(END) is None:
        raise ValueError(f"{folder}: its tokenizer has no token {END}; this is not GPT-2's layout")
    return found


def encoded(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token numbers of each text, without END; END's spelling within a text is plain characters, never the token."""
    end = tokenizer.token_to_id(END)
    found = tokenizer.encode_batch([text.replace(END, "<| endoftext|>") for text in texts], add_special_tokens=False)
    return [[number for number in item.ids if number != end] for item in found]


def decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text; a character cut off at the end is left out."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True)).rstrip("\ufffd")
