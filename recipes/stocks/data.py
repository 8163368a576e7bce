"""The windows as a training sees them, and the folds of walk-forward validation.

The validation time is cut into `folds` parts; each is judged by a network that learned only from
days before it, less the embargo. A batch is steps (B, T, F), start (B, 4, 3), true (B, 4) and
which of the N networks may see the row (B, N).
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch

from recipes.stocks.examples import answers, tables
from recipes.stocks.features import features
from recipes.stocks.schema import Fields
from tidemill.contract import Splits
from tidemill.families.networks import TensorRows, loader


class Data(lightning.LightningDataModule):
    def __init__(self, fields: Fields, splits: Splits) -> None:
        super().__init__()
        self.fields, self.seed = fields, splits.seed
        train, valid = (
            pd.read_parquet(splits.folder / f"{part}.parquet", columns=["inputs", "target", "unit"])
            for part in ("train", "valid")
        )
        self.folds = folds(valid["unit"].tolist(), fields.folds)
        if splits.rows:
            train = train.head(splits.rows)
        else:
            train = pd.concat([train, valid])
        questions = tables(train)
        self.window = max(len(table) for table in questions)
        steps, start, scale = features(questions, self.window)
        self.steps, self.start = torch.from_numpy(steps), torch.from_numpy(start)
        self.true = (
            torch.from_numpy(np.log1p(answers(train)) / scale[:, None]).float().clamp(-10, 10)
        )
        days = train["unit"].to_numpy()
        edges = [
            (date.fromisoformat(first) - timedelta(days=fields.embargo)).isoformat()
            for first, _ in self.folds
        ]
        self.seen = torch.from_numpy(
            np.stack([np.ones(len(days), dtype=bool), *(days < edge for edge in edges)], axis=1)
        )
        self.valid = []
        for first, last in self.folds:
            part = valid[(valid["unit"] >= first) & (valid["unit"] <= last)]
            self.valid.append(
                (
                    *(
                        torch.from_numpy(item).float()
                        for item in features(tables(part), self.window)
                    ),
                    torch.from_numpy(answers(part)).float(),
                )
            )

    def train_dataloader(self) -> Any:
        return loader(
            TensorRows([self.steps, self.start, self.true, self.seen], self.fields.batch, self.seed)
        )

    def val_dataloader(self) -> Any:
        return loader([(*fold, number) for number, fold in enumerate(self.valid, 1)])


def folds(days: list[str], count: int) -> list[tuple[str, str]]:
    """The first and last day of consecutive parts of the validation time, nearly alike in days."""
    there = sorted(set(days))
    return [(part[0], part[-1]) for part in np.array_split(np.array(there), min(count, len(there)))]
