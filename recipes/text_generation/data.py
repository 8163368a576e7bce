"""Documents to blocks of tokens: packed one after the other, none of which sees another."""

from __future__ import annotations

from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from torch import Tensor

from recipes.text_generation.conversations import ConversationReader
from recipes.text_generation.corpus import Corpus, SplitPart, corpus
from recipes.text_generation.mixture import Mixed, grouped, trained_on
from recipes.text_generation.schema import Fields
from recipes.text_generation.size import UnusableStart
from recipes.text_generation.tokens import Tokens, trained
from tidemill.contract import Splits
from tidemill.families.networks import loader
from tidemill.kit.batches import Steps

Packed = tuple[Tensor, Tensor, Tensor, Tensor]
"""ids, targets, places and documents, each (B, T)."""
NO_TARGET = -100


class RowPacking:
    """Blocks of a corpus' rows in this order, each made when it is asked for.

    A row that crosses a block's end goes on in the next without its beginning. A row of n tokens
    asks n - 1 questions, or those whose answer is learned. The last block is filled up with tokens
    that nothing is asked of.
    """

    def __init__(self, corpus: Corpus, order: np.ndarray, context: int) -> None:
        self.corpus, self.order, self.context = corpus, order, context
        self.starts = corpus.starts[order]
        self.ends = np.cumsum(corpus.starts[order + 1] - self.starts - 1)
        self.total = int(self.ends[-1]) if len(order) else 0

    def __len__(self) -> int:
        return max(1, -(-self.total // self.context))

    def blocks(self, numbers: np.ndarray) -> np.ndarray:
        """ids, targets, places and documents of these blocks (4, B, T)."""
        at = numbers[:, None] * self.context + np.arange(self.context)
        owners = np.searchsorted(self.ends, at, side="right")
        there = owners < len(self.order)
        rows = np.where(there, owners, 0)
        begins = np.where(owners > 0, self.ends[np.maximum(owners, 1) - 1], 0)
        flat = np.zeros((4, *at.shape), dtype=np.int64)
        flat[1], flat[3] = NO_TARGET, owners
        flat[2] = at - np.maximum(begins, numbers[:, None] * self.context)
        tokens = (self.starts[rows] + at - begins)[there]
        flat[0][there] = self.corpus.ids[tokens]
        targets = self.corpus.ids[tokens + 1].astype(np.int64)
        if self.corpus.asked is not None:
            targets = np.where(self.corpus.asked[tokens + 1], targets, NO_TARGET)
        flat[1][there] = targets
        return flat


class Pass(NamedTuple):
    """One way through the rows, and the order that its blocks come in."""

    packing: RowPacking
    mixed: np.ndarray


class Blocks(Steps):
    """A fixed number of steps; the rows are packed in a new order for each pass over them."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.data = data
        self.made: tuple[int, int, Pass] | None = None

    @property
    def steps(self) -> int:
        return self.data.fields.steps

    def passed(self, epoch: int, number: int) -> Pass:
        """One pass of an epoch; by a mixture, an epoch has one."""
        number = 0 if self.data.mixed else number
        if self.made is None or self.made[:2] != (epoch, number):
            self.made = None
            self.made = (epoch, number, self._pass(epoch, number))
        return self.made[2]

    def _pass(self, epoch: int, number: int) -> Pass:
        corpus, context = self.data.train, self.data.context
        random = np.random.default_rng([self.data.seed, epoch, 0])
        if self.data.mixed:
            packing = RowPacking(corpus, self.data.mixed.rows(epoch), context)
            return Pass(packing, random.permutation(len(packing)))
        # An order costs milliseconds, so those of earlier passes are drawn and left.
        for _ in range(number + 1):
            order = random.permutation(len(corpus))
            mixed = random.permutation(self._each(epoch))
        return Pass(RowPacking(corpus, order, context), mixed)

    def _each(self, epoch: int) -> int:
        """The blocks of a pass, in whatever order its rows are."""
        if self.data.mixed:
            return len(self.passed(epoch, 0).packing)
        tokens = len(self.data.train.ids) - len(self.data.train)
        return max(1, -(-tokens // self.data.context))

    def whole(self, epoch: int, step: int) -> Packed:
        size, each = self.data.fields.batch, self._each(epoch)
        at, parts = step * size, []
        while size:
            number, first = divmod(at, each)
            packing, mixed = self.passed(epoch, number)
            parts.append(packing.blocks(mixed[first : first + size]))
            at, size = at + parts[-1].shape[1], size - parts[-1].shape[1]
        return tensors(np.concatenate(parts, axis=1))

    def count(self, batch: Packed) -> int:
        return int((batch[1] != NO_TARGET).sum())


class Held(torch.utils.data.Dataset[Packed]):
    """The validation rows in blocks, batch by batch."""

    def __init__(self, corpus: Corpus, context: int, batch: int) -> None:
        self.packing = RowPacking(corpus, np.arange(len(corpus)), context)
        self.batch = batch

    def __len__(self) -> int:
        return -(-len(self.packing) // self.batch)

    def __getitem__(self, number: int) -> Packed:
        if number >= len(self):
            raise IndexError(number)
        last = min(len(self.packing), (number + 1) * self.batch)
        return tensors(self.packing.blocks(np.arange(number * self.batch, last)))


def tensors(blocks: np.ndarray) -> Packed:
    ids, targets, places, documents = (torch.from_numpy(part.copy()) for part in blocks)
    return ids, targets, places, documents


class Data(lightning.LightningDataModule):
    """The rows of a snapshot as tokens that lie in files; rows are in the order of their ids."""

    def __init__(self, fields: Fields, splits: Splits) -> None:
        super().__init__()
        self.fields, self.seed = fields, splits.seed
        self.source = SplitPart(splits.folder / "train.parquet", splits.rows)
        self.context, vocabulary = fields.bounds()
        self.tokens = self._tokens(vocabulary)
        reader = ConversationReader(self.tokens)
        self.train = corpus(self.source, reader)
        self.valid = corpus(SplitPart(splits.folder / "valid.parquet"), reader)
        self.mixed = self._mixed()

    def _tokens(self, vocabulary: int) -> Tokens:
        if not self.fields.start:
            return Tokens(trained(self.source.learned(), vocabulary))
        tokens = Tokens.of(self.fields.start_folder())
        if tokens.size > vocabulary:
            raise UnusableStart(
                f"start '{self.fields.start}': the tokenizer has {tokens.size} tokens and the "
                f"network {vocabulary}; bring the tokenizer that belongs to it"
            )
        return tokens

    def _mixed(self) -> Mixed | None:
        """How rows are drawn; None: all alike, pass after pass."""
        fields = self.fields
        before = trained_on(fields.start_folder()) if fields.start and fields.replay else None
        if not fields.mixture and before is None:
            return None
        groups = grouped(self.train, fields.mixture, fields.replay, before)
        budget = fields.steps * fields.batch * self.context
        return Mixed(self.train, groups, budget, fields.max_repetition, self.seed)

    def train_dataloader(self) -> Any:
        if self.mixed and self.trainer and self.trainer.max_epochs:
            self.mixed.refuse_too_long(self.trainer.max_epochs)
        return loader(Blocks(self))

    def val_dataloader(self) -> Any:
        return loader(Held(self.valid, self.context, self.fields.batch))
