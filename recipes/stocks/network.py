"""The network: an LSTM over the window's days that corrects the window's own quantiles.

Walk-forward validation in one training: beside the network that will answer stand `folds` others,
one for each part of the validation time. The one that answers learns from train and valid, and no
day of test.

Shapes: B windows, T days less one, F features, 4 prices, 3 quantiles.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn

from recipes.stocks.data import Data
from recipes.stocks.features import FEATURES, QUANTILES, TARGETS
from recipes.stocks.schema import Fields
from tidemill.families.networks import Batch, export, scheduled, total_steps
from tidemill.learners.lightning.loop import LightningLearner


class Net(nn.Module):
    def __init__(self, fields: Fields, days: int) -> None:
        super().__init__()
        self.line = nn.Linear(
            days * FEATURES + len(TARGETS) * len(QUANTILES), len(TARGETS) * len(QUANTILES)
        )  # what least squares would see
        self.recurrent = nn.LSTM(FEATURES, fields.hidden, fields.layers, batch_first=True)
        # How much of the window's own quantiles stands: all, but for where open and close lie in
        # the middle, which no past tells.
        self.kept = nn.Parameter(
            torch.tensor([[1.0, float(name in ("high", "low")), 1.0] for name in TARGETS])
        )
        self.drop = nn.Dropout(fields.dropout)
        self.out = nn.Linear(fields.hidden, len(TARGETS) * len(QUANTILES))
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
    levels: Tensor
    wider: Tensor

    def __init__(self, fields: Fields, data: Data) -> None:
        super().__init__()
        self.fields = fields
        self.nets = nn.ModuleList(
            [Net(fields, data.window - 1) for _ in range(1 + len(data.folds))]
        )
        self.register_buffer("levels", torch.tensor(QUANTILES))
        self.register_buffer(
            "wider", torch.zeros(len(TARGETS))
        )  # by how much either end of the band moves out, in the window's scale
        self.heard: list[np.ndarray] = []
        self.missed: list[Tensor] = []

    def on_fit_start(self) -> None:
        # Matrices this small: a second thread takes more than it gives, ten times as long on a
        # busy machine.
        torch.set_num_threads(1)

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
        found = self.nets[int(number)](steps, start).float()  # whatever precision it computes in
        logs, scale, true = found.sort(dim=2).values, scale.float(), true.float()
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
        # Conformalised quantiles (Romano, Patterson and Candes 2019), on days that the networks
        # asked had not seen.
        share = QUANTILES[-1] - QUANTILES[0]
        self.wider.copy_(torch.quantile(torch.cat(self.missed), share, dim=0))
        self.heard, self.missed = [], []

    def configure_optimizers(self) -> Any:
        total = total_steps(self)
        optimiser = torch.optim.AdamW(
            self.parameters(), lr=self.fields.lr, weight_decay=self.fields.weight_decay
        )

        def rate(step: int) -> float:
            return min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / total))

        return scheduled(optimiser, rate)


class SeriesLearner(LightningLearner[Any, Data, Forecaster]):
    def load_data(self) -> Data:
        return Data(self.recipe, self.splits)

    def network(self) -> Forecaster:
        return Forecaster(self.recipe, self.data)

    def export(self, package: Path) -> float:
        data, module = self.data, self.module
        tables = {
            "window": data.window,
            "quantiles": QUANTILES,
            "targets": TARGETS,
            "wider": module.wider.tolist(),
        }
        (package / "tables.json").write_text(json.dumps(tables) + "\n")
        return export(
            module.net,
            package / "model.onnx",
            [{"steps": data.steps[:n], "start": data.start[:n]} for n in (2, 1, 7)],
            ["quantiles"],
            {"steps": {0: "batch"}, "start": {0: "batch"}},
        )
