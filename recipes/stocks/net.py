"""The network: an LSTM over the window's days that corrects the window's own quantiles.

Walk-forward validation in one training: beside the network that will answer stand `folds` others. The
validation time is cut into as many parts; each part is judged by the network that learned only from days
before it, less the embargo. The one that answers learns from train and valid, and no day of test.

Shapes: B windows, T days less one, F features, 4 prices, 3 quantiles.
"""

from __future__ import annotations

import math
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from recipes.stocks import answers, tables
from recipes.stocks.features import FEATURES, QUANTILES, TARGETS, features
from tidemill.kit.batches import Steps, order

if TYPE_CHECKING:
    from recipes.stocks import Stocks

Batch = tuple[
    Tensor, Tensor, Tensor, Tensor
]  # steps (B, T, F), start (B, 4, 3), true (B, 4), which networks may see it (B, N)


class Shuffled(Steps):
    """An epoch goes through all windows in an order of its own."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.data = data

    @property
    def steps(self) -> int:
        return math.ceil(len(self.data.true) / self.data.recipe.batch)

    def whole(self, epoch: int, step: int, processes: int) -> Batch:
        data, size = self.data, self.data.recipe.batch
        rows = order(data.seed, epoch, len(data.true))[step * size : (step + 1) * size]
        return data.steps[rows], data.start[rows], data.true[rows], data.seen[rows]


class Data(lightning.LightningDataModule):
    def __init__(self, recipe: Stocks, splits: Path, seed: int, rows: int) -> None:
        super().__init__()
        self.recipe, self.seed = recipe, seed
        train, valid = (
            pd.read_parquet(splits / f"{part}.parquet", columns=["inputs", "target", "unit"])
            for part in ("train", "valid")
        )
        self.folds = folds(valid["unit"].tolist(), recipe.folds)
        train = pd.concat([train.head(rows), valid.head(0)]) if rows else pd.concat([train, valid])
        questions = tables(train)
        self.window = max(len(table) for table in questions)
        steps, start, scale = features(questions, self.window)
        self.steps, self.start = torch.from_numpy(steps), torch.from_numpy(start)
        self.true = (
            torch.from_numpy(np.log1p(answers(train)) / scale[:, None]).float().clamp(-10, 10)
        )
        days = train["unit"].to_numpy()
        edges = [
            (date.fromisoformat(first) - timedelta(days=recipe.embargo)).isoformat()
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
        return torch.utils.data.DataLoader(Shuffled(self), batch_size=None)

    def val_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(
            [(*fold, number) for number, fold in enumerate(self.valid, 1)], batch_size=None
        )


def folds(days: list[str], count: int) -> list[tuple[str, str]]:
    """The first and last day of consecutive parts of the validation time, nearly alike in days."""
    there = sorted(set(days))
    return [(part[0], part[-1]) for part in np.array_split(np.array(there), min(count, len(there)))]


class Net(nn.Module):
    def __init__(self, recipe: Stocks, days: int) -> None:
        super().__init__()
        self.line = nn.Linear(
            days * FEATURES + len(TARGETS) * len(QUANTILES), len(TARGETS) * len(QUANTILES)
        )  # what least squares would see
        self.recurrent = nn.LSTM(FEATURES, recipe.hidden, recipe.layers, batch_first=True)
        # How much of the window's own quantiles stands: all, but for where open and close lie in the middle, which no past tells.
        self.kept = nn.Parameter(
            torch.tensor([[1.0, float(name in ("high", "low")), 1.0] for name in TARGETS])
        )
        self.drop = nn.Dropout(recipe.dropout)
        self.out = nn.Linear(recipe.hidden, len(TARGETS) * len(QUANTILES))
        for layer in (self.line, self.out):  # it begins as the window's own quantiles
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, steps: Tensor, start: Tensor) -> Tensor:
        """Quantiles (B, 4, 3) of the log returns, in units of the window's scale."""
        last = self.recurrent(steps)[0][:, -1]
        told = self.out(self.drop(last)) + self.line(
            torch.cat([steps.flatten(1), start.flatten(1)], dim=1)
        )
        return start * self.kept + told.reshape(-1, len(TARGETS), len(QUANTILES))


class Forecaster(lightning.LightningModule):
    def __init__(self, recipe: Stocks, data: Data) -> None:
        super().__init__()
        self.recipe = recipe
        self.nets = nn.ModuleList(
            [Net(recipe, data.window - 1) for _ in range(1 + len(data.folds))]
        )
        self.register_buffer("levels", torch.tensor(QUANTILES))
        self.register_buffer(
            "wider", torch.zeros(len(TARGETS))
        )  # by how much either end of the band moves out, in the window's scale
        self.heard: list[np.ndarray] = []
        self.missed: list[Tensor] = []

    def on_fit_start(self) -> None:
        torch.set_num_threads(
            1
        )  # matrices this small: a second thread takes more than it gives, ten times as long on a busy machine

    @property
    def net(self) -> Net:
        """The one that will answer."""
        found = self.nets[0]
        assert isinstance(found, Net)
        return found

    def pinball(self, found: Tensor, true: Tensor) -> Tensor:
        """(B,) from (B, 4, 3) and (B, 4)."""
        missed = true[:, :, None] - found
        return torch.maximum(self.levels * missed, (self.levels - 1) * missed).mean(dim=(1, 2))

    def training_step(self, batch: Batch, step: int) -> Tensor:
        steps, start, true, seen = batch
        losses = []
        for number, net in enumerate(self.nets):
            mine = seen[:, number].float()
            losses.append(
                (self.pinball(net(steps, start), true) * mine).sum() / mine.sum().clamp(min=1)
            )
        self.log("train_loss", losses[0])
        return torch.stack(losses).sum()

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor, Tensor, int], step: int) -> None:
        steps, start, scale, true, number = batch
        logs = self.nets[int(number)](steps, start).sort(dim=2).values
        wanted = torch.log1p(true) / scale[:, None]
        self.missed.append(torch.maximum(logs[:, :, 0] - wanted, wanted - logs[:, :, 2]))
        found = torch.expm1(logs * scale[:, None, None])
        inside = ((true >= found[:, :, 0]) & (true <= found[:, :, 2])).float().mean()
        self.heard.append(
            np.array(
                [
                    float((true - found[:, :, 1]).abs().sum()),
                    float(true.abs().sum()),
                    float(self.pinball(found, true).sum()),
                    float(inside) * len(true),
                    len(true),
                ]
            )
        )

    def on_validation_epoch_end(self) -> None:
        error, naive, pinball, inside, rows = np.sum(self.heard, axis=0)
        self.log("valid_skill", float(1 - error / max(naive, 1e-12)))
        self.log("valid_pinball", float(100 * pinball / rows))
        self.log("valid_coverage", float(inside / rows))
        for number, part in enumerate(self.heard, 1):
            self.log(f"valid_skill_fold_{number}", float(1 - part[0] / max(part[1], 1e-12)))
        # Conformalised quantiles (Romano, Patterson and Candes 2019), on days that the networks asked had not seen.
        self.wider.copy_(
            torch.quantile(torch.cat(self.missed), QUANTILES[-1] - QUANTILES[0], dim=0)
        )  # type: ignore[operator]
        self.heard, self.missed = [], []

    def configure_optimizers(self) -> Any:
        total = max(1, int(self.trainer.estimated_stepping_batches))
        optimiser = torch.optim.AdamW(
            self.parameters(), lr=self.recipe.lr, weight_decay=self.recipe.weight_decay
        )
        decay = torch.optim.lr_scheduler.LambdaLR(
            optimiser,
            lambda step: min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / total)),
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": decay, "interval": "step"}}


def export(module: Forecaster, data: Data, path: Path) -> float:
    """Write the graph of the network that answers, and give its largest difference from torch over three shapes."""
    import onnxruntime

    net = module.net.eval().cpu()
    steps, start = data.steps[:7], data.start[:7]
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        net,
        (steps[:2], start[:2]),
        dynamo=True,
        opset_version=18,
        input_names=["steps", "start"],
        output_names=["quantiles"],
        dynamic_shapes={"steps": {0: batch}, "start": {0: batch}},
        verbose=False,
    )
    assert program is not None
    program.save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in (1, 2, 7):
        with torch.no_grad():
            ours = net(steps[:count], start[:count]).numpy()
        theirs = session.run(
            None, {"steps": steps[:count].numpy(), "start": start[:count].numpy()}
        )[0]
        worst = max(worst, float(np.abs(ours - theirs).max()))
    return worst
