"""Draw points like these. A GAN: two networks, two optimisers, and no right answer to any row.

A row's question is a seed; the real point that it comes with is a sample of what answers should
look like together, and no target of its own. Answers are judged by the energy distance between
the drawn points and the real ones (Szekely and Rizzo 2013).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional as F

from tidemill.contract import Application, Figures, Learner, Metric, Recipe, Splits
from tidemill.families.networks import Batch, TensorRows, export, loader
from tidemill.kit.graphs import opened
from tidemill.learners.lightning.loop import LightningLearner

NOISE = 4  # numbers that a point is drawn from


class Seed(BaseModel):
    seed: int = Field(ge=0, lt=2**32)


class Point(BaseModel):
    point: list[float] = Field(min_length=0, max_length=2)


def noise(seeds: Sequence[int]) -> np.ndarray:
    """(B, NOISE) float32, each row by its seed alone."""
    rows = [np.random.default_rng(seed).standard_normal(NOISE) for seed in seeds]
    return np.array(rows, dtype=np.float32)


def distances(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """(n, m) between points (n, 2) and (m, 2)."""
    return np.sqrt(((one[:, None] - two[None]) ** 2).sum(axis=2))


def energy(real: np.ndarray, drawn: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The energy distance (R,) of points (n, 2) under weights (R, n) that both sides share."""
    share = weights / weights.sum(axis=1, keepdims=True)

    def mean(between: np.ndarray) -> np.ndarray:
        return np.einsum("rn,nm,rm->r", share, between, share)

    within = mean(distances(real, real)) + mean(distances(drawn, drawn))
    return 2 * mean(distances(real, drawn)) - within


class PainterPredictor:
    def __init__(self, package: Path) -> None:
        self.graphs = opened(package)

    def points(self, seeds: Sequence[int]) -> np.ndarray:
        """(B, 2)."""
        return self.graphs["model"].run(None, {"noise": noise(seeds)})[0]

    def predict(self, inputs: Sequence[Seed]) -> list[Point]:
        return [Point(point=row.tolist()) for row in self.points([one.seed for one in inputs])]


class Painting(Application[Seed, Point, PainterPredictor]):
    Input, Output = Seed, Point
    metrics = {"energy": Metric(better="lower", source="Szekely and Rizzo 2013")}

    def label(self, documents: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
        """The real point is the row's slice, where nothing takes it for an answer."""
        rows = documents[["doc_id"]].assign(unit=documents["doc_id"], confidence=1.0, dropped=None)
        return rows.assign(
            inputs=[json.dumps({"seed": number}) for number in range(len(rows))],
            target=json.dumps({"point": []}),
            votes="{}",
            slices=documents["attributes"],
        )

    def open(self, package: Path) -> PainterPredictor:
        return PainterPredictor(package)

    def evaluate(self, predictor: PainterPredictor, examples: pd.DataFrame) -> pd.DataFrame:
        seeds = [json.loads(item)["seed"] for item in examples["inputs"]]
        real, drawn = points(examples), predictor.points(seeds)
        columns = {"x": real[:, 0], "y": real[:, 1], "to_x": drawn[:, 0], "to_y": drawn[:, 1]}
        return pd.DataFrame(columns)

    def metric(self, frame: pd.DataFrame, weights: np.ndarray) -> Figures:
        real, drawn = frame[["x", "y"]].to_numpy(float), frame[["to_x", "to_y"]].to_numpy(float)
        return {"energy": energy(real, drawn, weights)}

    def golden(self) -> list[Seed]:
        return [Seed(seed=number) for number in range(3)]


def points(examples: pd.DataFrame) -> np.ndarray:
    """The real ones (n, 2) float32."""
    rows = [json.loads(json.loads(item)["point"]) for item in examples["slices"]]
    return np.array(rows, dtype=np.float32)


class Data(lightning.LightningDataModule):
    def __init__(self, recipe: "Painter", splits: Splits) -> None:
        super().__init__()
        self.train, self.valid = (
            points(pd.read_parquet(splits.folder / f"{part}.parquet"))
            for part in ("train", "valid")
        )
        self.batches = TensorRows([torch.from_numpy(self.train)], recipe.batch, splits.seed)

    def train_dataloader(self) -> Any:
        return loader(self.batches)

    def val_dataloader(self) -> Any:
        return loader([(torch.from_numpy(self.valid),)])


def layers(inside: int, outside: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inside, width), nn.ReLU(), nn.Linear(width, outside))


class Module(lightning.LightningModule):
    """The painter and its critic, each with an optimiser of its own."""

    def __init__(self, recipe: "Painter") -> None:
        super().__init__()
        self.automatic_optimization = False
        self.recipe = recipe
        self.net, self.critic = layers(NOISE, 2, recipe.width), layers(2, 1, recipe.width)

    def training_step(self, batch: Batch, step: int) -> None:
        (real,) = batch
        painter, critic = self.optimizers()
        drawn = self.net(torch.randn(len(real), NOISE, device=real.device))
        scores = torch.cat([self.critic(real), self.critic(drawn.detach())])
        truth = torch.cat([torch.ones(len(real), 1), torch.zeros(len(real), 1)])
        self.step(critic, F.binary_cross_entropy_with_logits(scores, truth))
        told = F.binary_cross_entropy_with_logits(self.critic(drawn), torch.ones(len(real), 1))
        self.step(painter, told)
        self.log("train_loss", told)

    def step(self, optimiser: Any, loss: Tensor) -> None:
        optimiser.zero_grad()
        self.manual_backward(loss)
        optimiser.step()

    def validation_step(self, batch: Batch, step: int) -> None:
        real = batch[0].cpu().numpy()
        drawn = self.net(torch.from_numpy(noise(range(len(real))))).detach().cpu().numpy()
        value = energy(real, drawn, np.ones((1, len(real))))[0]
        self.log("valid_energy", float(value), batch_size=len(real))

    def configure_optimizers(self) -> Any:
        networks = (self.net, self.critic)
        return [torch.optim.Adam(one.parameters(), lr=self.recipe.lr) for one in networks]


class PainterLearner(LightningLearner[Any, Data, Module]):
    def load_data(self) -> Data:
        return Data(self.recipe, self.splits)

    def network(self) -> Module:
        return Module(self.recipe)

    def export(self, package: Path) -> float:
        asked = [{"noise": torch.from_numpy(noise(range(count)))} for count in (2, 1, 7)]
        dynamic = {"noise": {0: "batch"}}
        return export(self.module.net, package / "model.onnx", asked, ["points"], dynamic)


class Painter(Recipe):
    width: int = Field(default=32, ge=1)
    lr: float = Field(default=0.005, gt=0, le=1)
    batch: int = Field(default=32, ge=1)

    application = Painting
    validation = {"valid_energy": Metric(better="lower")}
    data_fields = frozenset({"batch"})

    def learner(self, splits: Splits) -> Learner:
        return PainterLearner(self, splits)
