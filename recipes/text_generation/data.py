"""Documents to blocks of tokens: packed one after the other, none of which sees another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recipes.text_generation.conversations import ConversationReader, Row, row
from recipes.text_generation.schema import Fields
from recipes.text_generation.size import UnusableStart
from recipes.text_generation.tokens import Tokens, trained
from tidemill.contract import Splits
from tidemill.families.networks import loader
from tidemill.kit.batches import Steps

Packed = tuple[Tensor, Tensor, Tensor, Tensor]
"""ids, targets, places and documents, each (B, T)."""
NO_TARGET = -100


def pack(
    documents: Sequence[np.ndarray], context: int, asked: Sequence[np.ndarray] | None = None
) -> np.ndarray:
    """Blocks (4, N, T) of documents in this order.

    One that crosses a block's end goes on in the next without its beginning.

    A document of n tokens asks n - 1 questions, or those whose answer is `asked` (n,). The
    last block is filled up with tokens that nothing is asked of.
    """
    sizes = np.array([len(item) - 1 for item in documents])
    total = int(sizes.sum())
    blocks = max(1, -(-total // context))
    flat = np.zeros((4, blocks * context), dtype=np.int64)
    flat[1], flat[3] = NO_TARGET, len(documents)
    flat[0, :total] = np.concatenate([item[:-1] for item in documents])
    flat[1, :total] = np.concatenate([item[1:] for item in documents])
    if asked is not None:
        learned = np.concatenate([item[1:] for item in asked])
        flat[1, :total] = np.where(learned, flat[1, :total], NO_TARGET)
    flat[3, :total] = np.repeat(np.arange(len(documents)), sizes)
    at = np.arange(blocks * context)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat[3])) + 1, at[::context]])
    begun = np.zeros(blocks * context, dtype=np.int64)
    begun[starts] = starts
    flat[2] = at - np.maximum.accumulate(begun)
    return flat.reshape(4, blocks, context)


class Blocks(Steps):
    """A fixed number of steps; the documents are packed in a new order for each pass over them."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.data = data
        self.each = max(
            1, -(-sum(len(item) - 1 for item in data.documents) // data.context)
        )  # blocks of a pass, in whatever order
        self.packed: tuple[int, int, np.ndarray] | None = None

    @property
    def steps(self) -> int:
        return self.data.fields.steps

    def passed(self, epoch: int, number: int) -> np.ndarray:
        """The blocks (4, N, T) of one pass of an epoch."""
        if self.packed is None or self.packed[:2] != (epoch, number):
            random = np.random.default_rng([self.data.seed, epoch, 0])
            for _ in range(
                number + 1
            ):  # an order costs milliseconds, so those of earlier passes are drawn and left
                order, mixed = (
                    random.permutation(len(self.data.documents)),
                    random.permutation(self.each),
                )
            self.packed = (
                epoch,
                number,
                pack(*self.data.ordered(order))[:, mixed],
            )
        return self.packed[2]

    def whole(self, epoch: int, step: int) -> Packed:
        size = self.data.fields.batch
        at, parts = step * size, []
        while size:
            number, first = divmod(at, self.each)
            parts.append(self.passed(epoch, number)[:, first : first + size])
            at, size = at + parts[-1].shape[1], size - parts[-1].shape[1]
        ids, targets, places, documents = (
            torch.from_numpy(part.copy()) for part in np.concatenate(parts, axis=1)
        )
        return ids, targets, places, documents

    def count(self, batch: Packed) -> int:
        return int((batch[1] != NO_TARGET).sum())


class Data(lightning.LightningDataModule):
    def __init__(self, fields: Fields, splits: Splits) -> None:
        super().__init__()
        self.fields, self.seed = fields, splits.seed
        train, valid = (rows(splits.folder / f"{part}.parquet") for part in ("train", "valid"))
        if splits.rows:  # rows are in the order of their ids, which is a random one
            train = train[: splits.rows]
        self.context, vocabulary = fields.bounds()
        if fields.start:
            self.tokens = Tokens.of(fields.start_folder())
            if self.tokens.size > vocabulary:
                raise UnusableStart(
                    f"start '{fields.start}': the tokenizer has {self.tokens.size} tokens and the "
                    f"network {vocabulary}; bring the tokenizer that belongs to it"
                )
        else:
            self.tokens = Tokens(trained([one.learned for one in train], vocabulary))
        reader = ConversationReader(self.tokens)
        self.readings = reader.readings(train)
        held = reader.readings(valid)
        self.valid = pack([one.ids for one in held], self.context, [one.asked for one in held])
        self.valid_targets = sum(int(one.asked[1:].sum()) for one in held)
        self.valid_chars = max(1, sum(len(one.learned) for one in valid))
        self.train_texts = [one.learned for one in train]

    @property
    def documents(self) -> list[np.ndarray]:
        """Each training row's tokens."""
        return [one.ids for one in self.readings]

    def ordered(self, order: np.ndarray) -> tuple[list[np.ndarray], int, list[np.ndarray]]:
        """What `pack` takes of the training rows in this order."""
        chosen = [self.readings[number] for number in order]
        return [one.ids for one in chosen], self.context, [one.asked for one in chosen]

    def train_dataloader(self) -> Any:
        return loader(Blocks(self))

    def val_dataloader(self) -> Any:
        size = self.fields.batch
        parts = [self.valid[:, at : at + size] for at in range(0, self.valid.shape[1], size)]
        return loader([tuple(torch.from_numpy(row) for row in part) for part in parts])


def rows(path: Path) -> list[Row]:
    """The texts and conversations of a split's part."""
    examples = pd.read_parquet(path)
    targets = examples["target"] if "target" in examples else ["{}"] * len(examples)
    return [row(*pair) for pair in zip(examples["inputs"], targets, strict=True)]
