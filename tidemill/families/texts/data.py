"""Texts with classes as a training sees them.

Shapes: B texts, N windows of theirs, T tokens of the longest window, D width.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from tidemill.contract import Splits
from tidemill.engines.packages import weights
from tidemill.families.networks import Shuffled, loader
from tidemill.families.texts import encoder
from tidemill.families.texts.fields import TextRecipe
from tidemill.families.texts.states import Encoding, states
from tidemill.families.texts.windows import Windows

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
"""Tokens (N, T) or states (N, T, D), targets (B,), mask (N, T), whose window each is (N,)."""
VALID_BATCH = 128
SPECIAL = ("[PAD]", "[CLS]", "[SEP]")


class TextWindows:
    """The windows of some rows, one after another: tokens, or the states that were kept."""

    def __init__(
        self, values: np.ndarray, starts: np.ndarray, owners: np.ndarray, targets: np.ndarray
    ) -> None:
        self.values, self.starts, self.targets = values, starts, torch.from_numpy(targets)
        self.first = np.searchsorted(owners, np.arange(len(targets) + 1))

    def __len__(self) -> int:
        return len(self.targets)

    def longest(self, rows: Tensor) -> int:
        """Tokens of the longest window of these rows."""
        return max(
            int(np.diff(self.starts[self.first[row] : self.first[row + 1] + 1]).max())
            for row in rows.tolist()
        )

    def batch(self, rows: Tensor, longest: int = 0) -> Batch:
        """Their windows, filled up to `longest` tokens; 0: to their own longest."""
        windows = [np.arange(self.first[row], self.first[row + 1]) for row in rows.tolist()]
        owners = np.repeat(np.arange(len(windows)), [len(some) for some in windows])
        places = np.concatenate(windows)
        lengths = self.starts[places + 1] - self.starts[places]
        shape = (len(places), longest or int(lengths.max()), *self.values.shape[1:])
        kind = np.float32 if self.values.ndim > 1 else np.int64
        given, mask = np.zeros(shape, kind), np.zeros(shape[:2], np.int64)
        for row, (place, length) in enumerate(zip(places, lengths, strict=True)):
            start = self.starts[place]
            given[row, :length] = self.values[start : start + length]
            mask[row, :length] = 1
        given_, mask_, owners_ = (torch.from_numpy(part) for part in (given, mask, owners))
        return given_, self.targets[rows], mask_, owners_


class Batches(Shuffled):
    """An epoch in an order of its own; a process makes the batch of its own rows alone."""

    def __init__(self, part: TextWindows, batch: int, seed: int) -> None:
        super().__init__(len(part), batch, seed)
        self.part = part

    def take(self, rows: Tensor, epoch: int, step: int) -> tuple[Tensor, int]:
        return rows, self.part.longest(rows)

    def cut(self, whole: tuple[Tensor, int], rows: slice) -> Batch:
        """Filled up as the whole batch is, so that its parts add up to it."""
        return self.part.batch(whole[0][rows], whole[1])

    def count(self, batch: Batch) -> int:
        return len(batch[1])


class Data(lightning.LightningDataModule):
    def __init__(self, recipe: TextRecipe, splits: Splits) -> None:
        super().__init__()
        self.recipe, self.seed = recipe, splits.seed
        train, valid = (_rows(splits.folder / f"{name}.parquet") for name in ("train", "valid"))
        self.labels = sorted(set(train["label"]))
        if splits.rows:  # rows are in the order of their ids, which is a random one
            train = train.head(splits.rows)
        valid = valid[valid["label"].isin(self.labels)]
        if recipe.start:
            folder = weights.folder(recipe.start)
            encoder.check(folder)
            self.tokenizer = (folder / "tokenizer.json").read_text("utf-8")
        else:
            self.tokenizer = trained(train["text"].tolist(), recipe.vocabulary)
        self.train, self.valid = self.part(train), self.part(valid)

    @property
    def counts(self) -> np.ndarray:
        """Train rows of each label (L,)."""
        return np.bincount(self.train.targets.numpy(), minlength=len(self.labels))

    def part(self, rows: pd.DataFrame) -> TextWindows:
        texts = rows["text"].tolist()
        targets = np.array([self.labels.index(name) for name in rows["label"]], dtype=np.int64)
        if self.recipe.start and self.recipe.tune != "whole":
            kept = states(Encoding.of(self.recipe.model_dump()), texts)
            return TextWindows(kept.lower, kept.starts, kept.owners, targets)
        tokenizer = Tokenizer.from_str(self.tokenizer)
        windows, owners = Windows(tokenizer, self.recipe.context, self.recipe.windows).cut(texts)
        starts = np.concatenate([[0], np.cumsum([len(window) for window in windows])])
        return TextWindows(np.concatenate(windows), starts, owners, targets)

    def train_dataloader(self) -> Any:
        return loader(Batches(self.train, self.recipe.batch, self.seed))

    def val_dataloader(self) -> Any:
        rows = torch.arange(len(self.valid))
        return loader([self.valid.batch(some) for some in rows.split(VALID_BATCH)])


def _rows(path: Path) -> pd.DataFrame:
    rows = pd.read_parquet(path, columns=["inputs", "target"])
    return pd.DataFrame(
        {
            "text": [json.loads(item)["text"] for item in rows["inputs"]],
            "label": [json.loads(item)["label"] for item in rows["target"]],
        }
    )


def trained(texts: list[str], vocabulary: int) -> str:
    """A tokenizer of bytes put together (BPE), lower case, as its JSON; equal for equal texts.

    Word pieces would differ from one training to the next: their trainer has no order of its own.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    text: str = tokenizer.to_str()
    return text
