"""What a training sees, step by step.

Batches that depend on the seed, the epoch and the step alone.

So where a training stands is two numbers, and one that was killed goes on with the very batch it
was killed in.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch


class Steps(torch.utils.data.IterableDataset):
    """Epoch after epoch; `epoch` and `step` say which batch comes next.

    A batch is that of the whole step, whatever trains it. It can be cut into equal parts: several
    processes take their own each, and a memory that does not hold it whole takes `parts` one after
    the other. All parts together are the same rows as the whole.
    """

    def __init__(self) -> None:
        self.epoch, self.step, self.parts = 0, 0, 1

    @property
    @abstractmethod
    def steps(self) -> int:
        """Whole batches of an epoch."""

    @abstractmethod
    def whole(self, epoch: int, step: int) -> Any:
        """The batch of this step for all processes; what `cut` takes parts of."""

    def cut(self, whole: Any, rows: slice) -> Any:
        """Some rows of a batch; as it stands, of a tuple of tensors."""
        return tuple(part[rows] for part in whole)

    def count(self, batch: Any) -> int:
        """The rows that the loss of a batch is the mean over; as it stands, of a tuple of tensors.

        By it the losses of several processes are weighted, whose parts may differ by a row.
        """
        return len(batch[0])

    def __len__(self) -> int:
        return self.steps * self.parts

    def __iter__(self) -> Iterator[Any]:
        epoch, first = self.epoch, self.step
        self.epoch, self.step = epoch + 1, 0
        here, processes = place()
        for step in range(first, self.steps):
            whole = self.whole(epoch, step)
            for part in range(self.parts):
                yield self.cut(
                    whole, share(len(whole[0]), part * processes + here, self.parts * processes)
                )


def share(rows: int, number: int, of: int) -> slice:
    """The rows of part `number`; where there are fewer rows than parts, some rows come twice."""
    if rows < of:
        return slice(number % rows, number % rows + 1)
    return slice(rows * number // of, rows * (number + 1) // of)


def place() -> tuple[int, int]:
    """Which of how many processes this one is."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def weights(splits: Path) -> np.ndarray | None:
    """How much each training row counts, (rows,) of 0 to 1.

    None where all count alike, which is so unless label.issues is weight.
    """
    path = splits / "train.parquet"
    if "weight" not in pq.read_schema(path).names:
        return None
    return pd.read_parquet(path, columns=["weight"])["weight"].to_numpy(float)


@lru_cache(maxsize=4)
def order(seed: int, epoch: int, rows: int) -> torch.Tensor:
    """All rows in the order of this epoch: (rows,)."""
    return torch.randperm(rows, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
