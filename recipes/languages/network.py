"""The network: one row of a table for each n-gram, added up, and a score for each language.

Shapes: B examples, N n-grams of all of them, T of the longest, D rank, L languages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.languages.data import Batch, Data
from recipes.languages.features import ngrams, padded
from recipes.languages.schema import Fields
from tidemill.families.networks import (
    ClassifierModule,
    export,
    scheduled,
    sparse_gradients,
    total_steps,
)
from tidemill.learners.lightning.loop import LightningLearner

# Three of different lengths: what the exported graph is compared with torch on.
EXAMPLES = ("Guten Morgen", "a", "Все люди рождаются свободными " * 9)


class Net(nn.Module):
    def __init__(self, rows: int, dim: int, languages: int) -> None:
        super().__init__()
        self.table = nn.Parameter(
            torch.zeros(rows + 1, dim)
        )  # the last row is the padding, always zero
        self.out = nn.Linear(dim, languages)
        self.power = nn.Parameter(
            torch.tensor(0.5)
        )  # of the length: how much more a longer text says
        self.scale = nn.Parameter(torch.tensor(0.0))

    def logits(self, summed: Tensor, lengths: Tensor) -> Tensor:
        return self.out(summed / lengths[:, None] ** self.power * torch.exp(self.scale))

    def bagged(self, ids: Tensor, offsets: Tensor, lengths: Tensor) -> Tensor:
        """Training's way, (N,) and (B,) to (B, L): only the rows that occur get a gradient."""
        sparse = sparse_gradients(self.table)
        return self.logits(
            F.embedding_bag(ids, self.table, offsets, mode="sum", sparse=sparse),
            lengths,
        )

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Serving's way: padded ids (B, T) and lengths (B,) to probabilities (B, L)."""
        return torch.softmax(self.logits(self.table[ids].sum(dim=1), lengths), dim=1)


class Identifier(ClassifierModule):
    net: Net
    adjustment: Tensor  # (L,)

    def __init__(self, fields: Fields, data: Data) -> None:
        super().__init__()
        self.fields = fields
        languages = len(data.languages)
        dim = min(fields.dim, languages)
        self.net = Net(2**fields.bits, dim, languages)
        self.register_buffer(
            "adjustment", torch.from_numpy(fields.tau * np.log(data.prior)).float()
        )
        self.begin(data.counts(), dim)
        self.heard: list[tuple[Tensor, Tensor, Tensor]] = []

    @torch.no_grad()
    def begin(self, counts: np.ndarray, dim: int) -> None:
        """Set the table to naive Bayes' log-likelihoods, as well as rank `dim` can hold them."""
        counts += self.fields.smoothing
        counts /= counts.sum(axis=1, keepdims=True)
        likely = np.log(counts, out=counts)  # in place: the table is the largest thing here
        likely -= likely.mean(axis=0)
        _, vectors = np.linalg.eigh((likely @ likely.T).astype(np.float64))
        basis = np.ascontiguousarray(vectors[:, ::-1][:, :dim], dtype=np.float32)
        basis *= np.sign(
            basis[np.abs(basis).argmax(axis=0), np.arange(dim)]
        )  # one of two equal answers, always
        np.matmul(likely.T, basis, out=self.net.table[:-1].numpy())
        self.net.out.weight.copy_(torch.from_numpy(basis))
        self.net.out.bias.zero_()

    def logits(self, batch: Any) -> Tensor:
        ids, offsets, lengths, _ = batch
        return self.net.bagged(ids, offsets, lengths)

    def loss(self, logits: Tensor, batch: Any) -> Tensor:
        return F.cross_entropy(
            logits + self.adjustment, batch[3], label_smoothing=self.fields.label_smoothing
        )

    def validation_step(self, batch: tuple[Batch, Tensor], step: int) -> None:
        (ids, offsets, lengths, targets), domains = batch
        logits = self.net.bagged(ids, offsets, lengths)
        self.heard.append((targets, logits.argmax(dim=1), domains))
        self.log("valid_loss", F.cross_entropy(logits, targets), batch_size=len(targets))

    def on_validation_epoch_end(self) -> None:
        from tidemill.kit.metrics import macro_f1

        targets, answers, domains = (
            torch.cat(parts).cpu().numpy() for parts in zip(*self.heard, strict=True)
        )
        self.heard = []
        scores = [
            macro_f1(
                pd.Series(targets[domains == one]),
                pd.Series(answers[domains == one]),
                np.ones((1, (domains == one).sum())),
            )[0]
            for one in np.unique(domains)
        ]
        self.log("valid_macro_f1", float(np.mean(scores)))

    def configure_optimizers(self) -> Any:
        # Adagrad takes the table's sparse gradients and the rest's dense ones alike.
        optimiser = torch.optim.Adagrad(self.parameters(), lr=self.fields.lr)
        total = total_steps(self)

        def rate(step: int) -> float:
            return min(1.0, (step + 1) / 20) * max(0.0, 1 - step / total)

        return scheduled(optimiser, rate)


class LanguageLearner(LightningLearner[Any, Data, Identifier]):
    def load_data(self) -> Data:
        return Data(self.recipe, self.splits)

    def network(self) -> Identifier:
        return Identifier(self.recipe, self.data)

    def incompatible(self, package: Path) -> str:
        known = json.loads((package / "tables.json").read_text())["languages"]
        own = self.data.languages
        if known == own:
            return ""
        other = sorted(set(known) ^ set(own))
        return (
            f"it knows {len(known)} languages and today's data has {len(own)}, "
            f"{', '.join(other[:5])} on one side alone"
        )

    def export(self, package: Path) -> float:
        bits = self.recipe.bits
        tables = {"languages": self.data.languages, "bits": bits}
        (package / "tables.json").write_text(json.dumps(tables) + "\n")
        rows = [ngrams(text, bits) for text in EXAMPLES]

        def asked(count: int) -> dict[str, Tensor]:
            ids, lengths = padded(rows[:count], 2**bits)
            return {"ids": torch.from_numpy(ids), "lengths": torch.from_numpy(lengths)}

        return export(
            self.module.net,
            package / "model.onnx",
            [asked(count) for count in (2, 1, 3)],
            ["probabilities"],
            {"ids": {0: "batch", 1: "ngrams"}, "lengths": {0: "batch"}},
        )
