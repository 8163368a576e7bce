"""The training of a classifier of texts, and its export.

Shapes: B texts, N windows of theirs, L labels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tidemill.engines.packages import weights
from tidemill.families.networks import (
    ClassifierModule,
    export,
    scheduled,
    total_steps,
    warmup_cosine,
)
from tidemill.families.texts import encoder
from tidemill.families.texts.data import Batch, Data
from tidemill.families.texts.fields import TextRecipe
from tidemill.families.texts.windows import padded
from tidemill.learners.lightning.loop import LightningLearner

WARMUP = 0.1  # of the steps


class TextModule(ClassifierModule):
    net: encoder.TextNet
    class_weights: Tensor  # (L,), of mean 1 over the train rows

    def __init__(self, recipe: TextRecipe, data: Data, net: encoder.TextNet) -> None:
        super().__init__()
        self.recipe, self.net = recipe, net
        shares = np.maximum(data.counts, 1) / max(1, data.counts.sum())
        weights = shares**-recipe.class_weights
        weights /= (weights * shares).sum()
        self.register_buffer("class_weights", torch.from_numpy(weights).float())
        self.seen: list[tuple[Tensor, Tensor]] = []

    def logits(self, batch: Any) -> Tensor:
        """(B, L): the means of the windows' logits."""
        given, targets, mask, owners = batch
        each = self.net.logits(given, mask)
        counts = torch.bincount(owners, minlength=len(targets)).to(each.dtype)
        sums = torch.zeros(len(targets), each.shape[1], dtype=each.dtype, device=each.device)
        return sums.index_add(0, owners, each) / counts[:, None]

    def loss(self, logits: Tensor, batch: Any) -> Tensor:
        smoothing = self.recipe.label_smoothing
        return F.cross_entropy(
            logits, self.targets(batch), self.class_weights, label_smoothing=smoothing
        )

    def validation_step(self, batch: Batch, step: int) -> None:
        logits, targets = self.logits(batch), batch[1]
        answers = logits.argmax(dim=1)
        self.seen.append((targets, answers))
        rows = len(targets)
        self.log("valid_loss", F.cross_entropy(logits, targets), batch_size=rows, on_epoch=True)
        right = (answers == targets).float().mean()
        self.log("valid_accuracy", right, batch_size=rows, on_epoch=True)

    def on_validation_epoch_end(self) -> None:
        from sklearn.metrics import f1_score

        targets, answers = (torch.cat(part).cpu() for part in zip(*self.seen, strict=True))
        self.seen = []
        labels = np.unique(targets)
        self.log(
            "valid_macro_f1", float(f1_score(targets, answers, labels=labels, average="macro"))
        )

    def configure_optimizers(self) -> Any:
        recipe, steps = self.recipe, total_steps(self)
        head = {id(weight) for weight in self.net.out.parameters()}
        tuned = [
            weight
            for weight in self.net.parameters()
            if weight.requires_grad and id(weight) not in head
        ]
        optimiser = torch.optim.AdamW(
            [
                {"params": [weight for weight in tuned if weight.dim() > 1], "lr": recipe.lr},
                {
                    "params": [weight for weight in tuned if weight.dim() < 2],
                    "lr": recipe.lr,
                    "weight_decay": 0.0,
                },
                {"params": list(self.net.out.parameters()), "lr": recipe.head_lr},
            ],
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
        )
        return scheduled(optimiser, warmup_cosine(steps, max(1, round(WARMUP * steps))))


class TextLearner(LightningLearner[TextRecipe, Data, TextModule]):
    def load_data(self) -> Data:
        return Data(self.recipe, self.splits)

    def network(self) -> TextModule:
        recipe, data = self.recipe, self.data
        if recipe.start:
            body = encoder.pretrained(weights.folder(recipe.start))
            layers = body.config.num_hidden_layers
            count = encoder.frozen(recipe.tune, recipe.upper, layers)
        else:
            tokens = json.loads(data.tokenizer)["model"]["vocab"]
            body = encoder.scratch(len(tokens), recipe.width, recipe.layers, recipe.context)
            count = None
        net = encoder.TextNet(body.train(), count, len(data.labels))
        if recipe.start and recipe.tune == "lora":
            encoder.adapted(net.body, recipe.rank)
        return TextModule(recipe, data, net)

    def incompatible(self, package: Path) -> str:
        known = json.loads((package / "tables.json").read_text())
        own = self.tables()
        for name, what in (("labels", "classes"), ("start", "start weights")):
            if known.get(name) != own[name]:
                return f"its {what} are {known.get(name)} and today's are {own[name]}"
        return ""

    def tables(self) -> dict[str, object]:
        recipe = self.recipe
        return {
            "labels": self.data.labels,
            "context": recipe.context,
            "windows": recipe.windows,
            "start": recipe.start,
            "start_licence": weights.licence(recipe.start) if recipe.start else "",
        }

    def export(self, package: Path) -> float:
        (package / "tokenizer.json").write_text(self.data.tokenizer, "utf-8")
        (package / "tables.json").write_text(json.dumps(self.tables(), ensure_ascii=False) + "\n")
        rows = [[1 + at % 7 for at in range(length)] for length in (5, 3, self.recipe.context)]

        def asked(count: int) -> dict[str, Tensor]:
            ids, mask = padded(rows[:count])
            return {"ids": torch.from_numpy(ids), "mask": torch.from_numpy(mask)}

        net = self.module.net
        if self.recipe.start and self.recipe.tune == "lora":
            net = encoder.merged(net)
        shape = {0: "batch", 1: "tokens"}
        return export(
            encoder.TextGraph(net),
            package / "model.onnx",
            [asked(count) for count in (2, 1, 3)],
            ["probabilities"],
            {"ids": shape, "mask": shape},
        )
