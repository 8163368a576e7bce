"""The network: residual blocks (He et al. 2016, pre-activation left out), and the harm its training pictures suffer.

Shapes: B pictures, S side, C channels, L labels.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.images import stack
from tidemill.kit.batches import Steps, order, weights

if TYPE_CHECKING:
    from recipes.images import Images

Batch = tuple[
    Tensor, ...
]  # pixels (B, 1, S, S) of 0 to 1, targets (B,), and where rows are weighed, weights (B,) of mean 1
FIELD = 5  # points of the elastic field in each direction


class Shuffled(Steps):
    """Augmented batches; an epoch goes through all pictures in an order of its own."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.data = data

    @property
    def steps(self) -> int:
        return math.ceil(len(self.data.targets) / self.data.recipe.batch)

    def whole(self, epoch: int, step: int, processes: int) -> Batch:
        data, size = self.data, self.data.recipe.batch
        rows = order(data.seed, epoch, len(data.targets))[step * size : (step + 1) * size]
        random = torch.Generator().manual_seed(
            int(np.random.SeedSequence([data.seed, epoch, step]).generate_state(1, np.uint64)[0])
        )
        batch = (
            varied(data.pixels[rows].float()[:, None] / 255, data.recipe, random),
            data.targets[rows],
        )
        if data.weights is None:
            return batch
        weighed = data.weights[rows]
        return (
            *batch,
            weighed / weighed.mean(),
        )  # by the whole batch's mean, so that its parts together have its loss


def varied(pixels: Tensor, recipe: Images, random: torch.Generator) -> Tensor:
    """Copies (B, 1, S, S) that are turned, resized, moved, bent, partly erased and, if asked, mirrored."""
    count, side = len(pixels), pixels.shape[-1]

    def drawn(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=random) * 2 - 1

    angle = drawn(count) * math.radians(recipe.turn)
    scale = 1 + drawn(count, 2) * recipe.zoom
    flip = torch.where((drawn(count) < 0) & recipe.mirror, -1.0, 1.0)
    moved = drawn(count, 2) * (2 * recipe.shift / side)  # grid_sample's units: the side is 2
    if recipe.turn or recipe.zoom or recipe.shift or recipe.bend or recipe.mirror:
        cos, sin = angle.cos(), angle.sin()
        matrix = torch.stack(
            [
                torch.stack([cos * scale[:, 0] * flip, -sin * scale[:, 1], moved[:, 0]], 1),
                torch.stack([sin * scale[:, 0] * flip, cos * scale[:, 1], moved[:, 1]], 1),
            ],
            1,
        )
        grid = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
        if recipe.bend:
            field = torch.randn(count, 2, FIELD, FIELD, generator=random) * (2 * recipe.bend / side)
            grid = grid + F.interpolate(
                field, size=(side, side), mode="bicubic", align_corners=True
            ).permute(0, 2, 3, 1)
        pixels = F.grid_sample(
            pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
    if recipe.erase:
        size = max(1, side // 4)
        corner = torch.randint(0, side - size + 1, (count, 2), generator=random)
        line = torch.arange(side)
        inside = (line >= corner[:, :, None]) & (line < corner[:, :, None] + size)  # (B, 2, S)
        hidden = (
            inside[:, 0, :, None]
            & inside[:, 1, None, :]
            & (torch.rand(count, generator=random) < recipe.erase)[:, None, None]
        )
        pixels = pixels.masked_fill(hidden[:, None], 0.0)
    if recipe.noise:
        deviation = torch.rand(count, 1, 1, 1, generator=random) * recipe.noise
        pixels = (pixels + torch.randn(pixels.shape, generator=random) * deviation).clamp(0, 1)
    return pixels


class Data(lightning.LightningDataModule):
    def __init__(self, recipe: Images, splits: Path, seed: int, rows: int) -> None:
        super().__init__()
        self.recipe, self.seed = recipe, seed
        train, valid = (
            pd.read_parquet(splits / f"{part}.parquet", columns=["payload", "target"])
            for part in ("train", "valid")
        )
        names = [json.loads(item)["label"] for item in train["target"]]
        self.labels = sorted(set(names))
        place = {name: number for number, name in enumerate(self.labels)}
        if rows:  # rows are in the order of their ids, which is a random one
            train, names = train.head(rows), names[:rows]
        self.pixels = torch.from_numpy(stack(train["payload"], recipe.side))
        self.targets = torch.tensor([place[name] for name in names])
        weighed = weights(splits)
        self.weights = (
            None if weighed is None else torch.tensor(weighed[: len(names)], dtype=torch.float32)
        )
        at = [place.get(json.loads(item)["label"], -1) for item in valid["target"]]
        known = np.flatnonzero(np.array(at) >= 0)
        self.valid = (
            torch.from_numpy(stack(valid["payload"].iloc[known], recipe.side)),
            torch.tensor(at)[known],
        )

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(Shuffled(self), batch_size=None)

    def val_dataloader(self) -> Any:
        pixels, targets = self.valid
        batches = [
            (one.float()[:, None] / 255, two)
            for one, two in zip(pixels.split(512), targets.split(512), strict=True)
        ]
        return torch.utils.data.DataLoader(batches, batch_size=None)


class Block(nn.Module):
    """Two convolutions and the way around them."""

    def __init__(self, inside: int, between: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, between, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(between, outside, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(between), nn.BatchNorm2d(outside)])
        self.around = (
            nn.Identity()
            if stride == 1 and inside == outside
            else nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(
            self.norms[1](self.second(F.relu(self.norms[0](self.first(x))))) + self.around(x)
        )


class Net(nn.Module):
    def __init__(self, recipe: Images, labels: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = [
            nn.Conv2d(1, recipe.width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(recipe.width),
            nn.ReLU(),
        ]
        channels = recipe.width
        for stage in range(recipe.stages):
            wider = recipe.width * 2**stage
            for number in range(recipe.depth):
                blocks.append(
                    Block(
                        channels,
                        max(1, round(wider * recipe.inner)),
                        wider,
                        2 if stage and not number else 1,
                    )
                )
                channels = wider
        self.body = nn.Sequential(*blocks)
        self.drop = nn.Dropout(recipe.dropout)
        self.out = nn.Linear(channels, labels)

    def logits(self, pixels: Tensor) -> Tensor:
        """(B, 1, S, S) to (B, L). Each picture is brought to one mean and deviation, so that a pale one is seen as any other."""
        centred = pixels - pixels.mean(dim=(2, 3), keepdim=True)
        deviation = (
            (centred * centred).mean(dim=(2, 3), keepdim=True).sqrt().clamp(min=0.02)
        )  # a blank picture stays one
        return self.out(self.drop(self.body(centred / deviation).mean(dim=(2, 3))))

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.softmax(self.logits(pixels), dim=1)


class Classifier(lightning.LightningModule):
    def __init__(self, recipe: Images, data: Data) -> None:
        super().__init__()
        self.recipe, self.data = recipe, data
        self.net = Net(recipe, len(data.labels))

    def logits(self, batch: Batch) -> Tensor:
        return self.net.logits(batch[0])

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        if len(batch) == 2:
            return F.cross_entropy(logits, batch[1], label_smoothing=self.recipe.label_smoothing)
        apart = F.cross_entropy(
            logits, batch[1], label_smoothing=self.recipe.label_smoothing, reduction="none"
        )
        return (apart * batch[2]).mean()

    def training_step(self, batch: Batch, step: int) -> Tensor:
        loss = self.loss(self.logits(batch), batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Batch, step: int) -> None:
        pixels, targets = batch
        logits = self.net.logits(pixels)
        self.log(
            "valid_loss", F.cross_entropy(logits, targets), batch_size=len(targets), on_epoch=True
        )
        self.log(
            "valid_accuracy",
            (logits.argmax(dim=1) == targets).float().mean(),
            batch_size=len(targets),
            on_epoch=True,
        )

    def configure_optimizers(self) -> Any:
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warm = max(1, total // 10)
        optimiser = torch.optim.AdamW(
            self.parameters(), lr=self.recipe.lr, weight_decay=self.recipe.weight_decay
        )

        def rate(step: int) -> float:
            return (
                (step + 1) / warm
                if step < warm
                else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))
            )

        return {
            "optimizer": optimiser,
            "lr_scheduler": {
                "scheduler": torch.optim.lr_scheduler.LambdaLR(optimiser, rate),
                "interval": "step",
            },
        }


@torch.no_grad()
def pruned(module: Classifier, recipe: Images, data: Data) -> Classifier:
    """The classifier with fewer channels between the convolutions of each block.

    Those stay whose filter, times what its normalisation makes of it, is largest (Li et al. 2017; Liu et al. 2017).
    """
    small = Classifier(recipe, data)
    weights = {
        name: tensor
        for name, tensor in module.state_dict().items()
        if name in (own := small.state_dict()) and own[name].shape == tensor.shape
    }
    for old, new, name in (
        (one, two, name)
        for (name, one), two in zip(
            module.net.body.named_children(), small.net.body.children(), strict=True
        )
        if isinstance(one, Block)
    ):
        norm = old.norms[0]
        size = (
            old.first.weight.flatten(1).norm(dim=1)
            * norm.weight.abs()
            / (norm.running_var + norm.eps).sqrt()
        )
        stay = size.topk(new.first.out_channels).indices.sort().values
        at = f"net.body.{name}"
        weights[f"{at}.first.weight"], weights[f"{at}.second.weight"] = (
            old.first.weight[stay],
            old.second.weight[:, stay],
        )
        for part in ("weight", "bias", "running_mean", "running_var"):
            weights[f"{at}.norms.0.{part}"] = getattr(norm, part)[stay]
    small.load_state_dict(weights)
    return small


def export(module: Classifier, path: Path, side: int) -> float:
    """Write the graph and give its largest difference from torch over three shapes."""
    import onnxruntime

    net = module.net.eval().cpu()
    pixels = torch.rand(7, 1, side, side, generator=torch.Generator().manual_seed(1))
    program = torch.onnx.export(
        net,
        (pixels[:2],),
        dynamo=True,
        opset_version=18,
        input_names=["pixels"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    program.save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for part in (pixels[:1], pixels[:2], pixels):
        with torch.no_grad():
            ours = net(part).numpy()
        worst = max(
            worst, float(np.abs(ours - session.run(None, {"pixels": part.numpy()})[0]).max())
        )
    return worst
