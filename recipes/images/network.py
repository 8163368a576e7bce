"""The network: residual blocks (He et al. 2016, pre-activation left out), trained and exported.

Shapes: B pictures, S side, C channels, L labels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.images.data import Data
from recipes.images.schema import Fields
from tidemill.families.networks import Batch, ClassifierModule, adamw, export
from tidemill.learners.lightning.loop import LightningLearner


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
    def __init__(self, fields: Fields, labels: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = [
            nn.Conv2d(1, fields.width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(fields.width),
            nn.ReLU(),
        ]
        channels = fields.width
        for stage in range(fields.stages):
            wider = fields.width * 2**stage
            for number in range(fields.depth):
                blocks.append(
                    Block(
                        channels,
                        max(1, round(wider * fields.inner)),
                        wider,
                        2 if stage and not number else 1,
                    )
                )
                channels = wider
        self.body = nn.Sequential(*blocks)
        self.drop = nn.Dropout(fields.dropout)
        self.out = nn.Linear(channels, labels)

    def logits(self, pixels: Tensor) -> Tensor:
        """(B, 1, S, S) to (B, L).

        Each picture is brought to one mean and deviation, so that a pale one is seen as any
        other.
        """
        centred = pixels - pixels.mean(dim=(2, 3), keepdim=True)
        deviation = (
            (centred * centred).mean(dim=(2, 3), keepdim=True).sqrt().clamp(min=0.02)
        )  # a blank picture stays one
        return self.out(self.drop(self.body(centred / deviation).mean(dim=(2, 3))))

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.softmax(self.logits(pixels), dim=1)


class PictureModule(ClassifierModule):
    net: Net

    def __init__(self, fields: Fields, data: Data) -> None:
        super().__init__()
        self.fields, self.data = fields, data
        self.net = Net(fields, len(data.labels))

    def logits(self, batch: Batch) -> Tensor:
        return self.net.logits(batch[0])

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        smoothing = self.fields.label_smoothing
        if len(batch) == 2:
            return F.cross_entropy(logits, batch[1], label_smoothing=smoothing)
        apart = F.cross_entropy(logits, batch[1], label_smoothing=smoothing, reduction="none")
        return (apart * batch[2]).mean()

    def configure_optimizers(self) -> Any:
        return adamw(self, self.fields.lr, self.fields.weight_decay)


class PictureLearner(LightningLearner[Any, Data, PictureModule]):
    def load_data(self) -> Data:
        return Data(self.recipe, self.splits)

    def network(self) -> PictureModule:
        return PictureModule(self.recipe, self.data)

    def shrink(self, into: PictureLearner) -> None:
        shrink(self.module, into.module)

    def incompatible(self, package: Path) -> str:
        labels = json.loads((package / "tables.json").read_text())["labels"]
        if labels == self.data.labels:
            return ""
        return (
            f"it knows the labels {', '.join(labels)}, and today's are "
            f"{', '.join(self.data.labels)}"
        )

    def export(self, package: Path) -> float:
        side = self.recipe.side
        tables = {"labels": self.data.labels, "side": side}
        (package / "tables.json").write_text(json.dumps(tables) + "\n")
        pixels = torch.rand(7, 1, side, side, generator=torch.Generator().manual_seed(1))
        return export(
            self.module.net,
            package / "model.onnx",
            [{"pixels": pixels[:count]} for count in (2, 1, 7)],
            ["probabilities"],
            {"pixels": {0: "batch"}},
        )


@torch.no_grad()
def shrink(module: PictureModule, small: PictureModule) -> None:
    """Give a classifier with fewer channels between the convolutions of a block the weights.

    Those stay whose filter, times what its normalisation makes of it, is largest (Li et al. 2017;
    Liu et al. 2017).
    """
    own = small.state_dict()
    weights = {
        name: tensor
        for name, tensor in module.state_dict().items()
        if name in own and own[name].shape == tensor.shape
    }
    pairs = zip(module.net.body.named_children(), small.net.body.children(), strict=True)
    for (name, old), new in pairs:
        if not isinstance(old, Block) or not isinstance(new, Block):
            continue
        norm = old.norms[0]
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
        size = (
            old.first.weight.flatten(1).norm(dim=1)
            * norm.weight.abs()
            / (norm.running_var + norm.eps).sqrt()
        )
        stay = size.topk(new.first.out_channels).indices.sort().values
        at = f"net.body.{name}"
        weights[f"{at}.first.weight"] = old.first.weight[stay]
        weights[f"{at}.second.weight"] = old.second.weight[:, stay]
        for part in ("weight", "bias", "running_mean", "running_var"):
            weights[f"{at}.norms.0.{part}"] = getattr(norm, part)[stay]
    small.load_state_dict(weights)
