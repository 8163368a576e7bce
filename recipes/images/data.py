"""The pictures as a training sees them: copies that are turned, bent, partly erased and noisy.

Shapes: B pictures, S side.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recipes.images.schema import Fields
from recipes.images.session import stack
from tidemill.contract import Splits
from tidemill.families.networks import Batch, Shuffled, loader
from tidemill.kit.batches import weights
from tidemill.records import blobs

FIELD = 5  # points of the elastic field in each direction
VALIDATED = 512  # pictures in a step of validation


class Copies(Shuffled):
    """Augmented batches: pixels (B, 1, S, S) of 0 to 1, targets (B,), and where weighted, weights.

    Weights (B,) have mean 1 over the whole batch, so that its parts together have its loss.
    """

    def __init__(self, data: Data) -> None:
        super().__init__(len(data.targets), data.fields.batch, data.seed)
        self.data = data

    def take(self, rows: Tensor, epoch: int, step: int) -> Any:
        """What a batch is made of: its rows, their weights, and what is drawn for all of it."""
        data = self.data
        seed = np.random.SeedSequence([data.seed, epoch, step]).generate_state(1, np.uint64)
        random = torch.Generator().manual_seed(int(seed[0]))
        weights = None if data.weights is None else data.weights[rows] / data.weights[rows].mean()
        return rows, weights, drawn(len(rows), data.fields, random)

    def cut(self, whole: Any, rows: slice) -> Batch:
        places, weights, changes = whole
        chosen, data = places[rows], self.data
        pixels = changed(data.pixels[chosen].float()[:, None] / 255, changes.of(rows))
        if weights is None:
            return pixels, data.targets[chosen]
        return pixels, data.targets[chosen], weights[rows]


@dataclass(frozen=True)
class Changes:
    """How each picture of a batch is changed; None where none is in that way."""

    matrix: Tensor | None  # (B, 2, 3)
    field: Tensor | None  # (B, 2, FIELD, FIELD)
    hidden: Tensor | None  # (B, 1, S, S)
    noise: Tensor | None  # (B, 1, S, S)

    def of(self, rows: slice) -> Changes:
        """Those of some of the pictures."""
        parts = (self.matrix, self.field, self.hidden, self.noise)
        return Changes(*(None if part is None else part[rows] for part in parts))


def drawn(count: int, fields: Fields, random: torch.Generator) -> Changes:
    """So many random changes.

    The numbers of `matrix` are drawn whether they are used or not, so that one setting moves no
    other.
    """
    side = fields.side
    matrix = _transform(count, side, fields, random)
    moved = fields.turn or fields.zoom or fields.shift or fields.bend or fields.mirror
    field = None
    if fields.bend:
        points = torch.randn(count, 2, FIELD, FIELD, generator=random)
        field = points * (2 * fields.bend / side)
    hidden = _erased(count, side, fields.erase, random) if fields.erase else None
    noise = None
    if fields.noise:
        deviation = torch.rand(count, 1, 1, 1, generator=random) * fields.noise
        noise = torch.randn(count, 1, side, side, generator=random) * deviation
    return Changes(matrix if moved else None, field, hidden, noise)


def changed(pixels: Tensor, changes: Changes) -> Tensor:
    """Copies (B, 1, S, S): turned, resized, moved, bent, partly erased; if asked, mirrored."""
    if changes.matrix is not None:
        grid = F.affine_grid(changes.matrix, list(pixels.shape), align_corners=False)
        if changes.field is not None:
            grid = grid + _bend(changes.field, pixels.shape[-1])
        pixels = F.grid_sample(
            pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
    if changes.hidden is not None:
        pixels = pixels.masked_fill(changes.hidden, 0.0)
    if changes.noise is not None:
        pixels = (pixels + changes.noise).clamp(0, 1)
    return pixels


def _transform(count: int, side: int, fields: Fields, random: torch.Generator) -> Tensor:
    """Affine maps (B, 2, 3) in grid_sample's units, in which the side is 2."""

    def drawn(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=random) * 2 - 1

    angle = drawn(count) * math.radians(fields.turn)
    scale = 1 + drawn(count, 2) * fields.zoom
    flip = torch.where((drawn(count) < 0) & fields.mirror, -1.0, 1.0)
    moved = drawn(count, 2) * (2 * fields.shift / side)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack(
        [
            torch.stack([cos * scale[:, 0] * flip, -sin * scale[:, 1], moved[:, 0]], 1),
            torch.stack([sin * scale[:, 0] * flip, cos * scale[:, 1], moved[:, 1]], 1),
        ],
        1,
    )


def _bend(field: Tensor, side: int) -> Tensor:
    """By how much each point is moved, (B, S, S, 2), of a field's few points."""
    return F.interpolate(field, size=(side, side), mode="bicubic", align_corners=True).permute(
        0, 2, 3, 1
    )


def _erased(count: int, side: int, share: float, random: torch.Generator) -> Tensor:
    """Where (B, 1, S, S) a square is erased; of `share` of the pictures."""
    size = max(1, side // 4)
    corner = torch.randint(0, side - size + 1, (count, 2), generator=random)
    line = torch.arange(side)
    inside = (line >= corner[:, :, None]) & (line < corner[:, :, None] + size)  # (B, 2, S)
    chosen = torch.rand(count, generator=random) < share
    hidden = inside[:, 0, :, None] & inside[:, 1, None, :] & chosen[:, None, None]
    return hidden[:, None]


class Data(lightning.LightningDataModule):
    def __init__(self, fields: Fields, splits: Splits) -> None:
        super().__init__()
        self.fields, self.seed = fields, splits.seed
        train, valid = (
            blobs.examples(splits.folder / f"{part}.parquet", columns=["payload", "target"])
            for part in ("train", "valid")
        )
        names = [json.loads(item)["label"] for item in train["target"]]
        self.labels = sorted(set(names))
        place = {name: number for number, name in enumerate(self.labels)}
        if splits.rows:  # rows are in the order of their ids, which is a random one
            train, names = train.head(splits.rows), names[: splits.rows]
        self.pixels = torch.from_numpy(stack(train["payload"], fields.side))
        self.targets = torch.tensor([place[name] for name in names])
        weighed = weights(splits.folder)
        self.weights = (
            None if weighed is None else torch.tensor(weighed[: len(names)], dtype=torch.float32)
        )
        at = [place.get(json.loads(item)["label"], -1) for item in valid["target"]]
        known = np.flatnonzero(np.array(at) >= 0)
        self.valid = (
            torch.from_numpy(stack(valid["payload"].iloc[known], fields.side)),
            torch.tensor(at)[known],
        )

    def train_dataloader(self) -> Any:
        return loader(Copies(self))

    def val_dataloader(self) -> Any:
        pixels, targets = (part.split(VALIDATED) for part in self.valid)
        batches = zip(pixels, targets, strict=True)
        return loader([(one.float()[:, None] / 255, two) for one, two in batches if len(two)])
