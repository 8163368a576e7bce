"""The network: one row of a table for each n-gram, added up, and a score for each language.

Shapes: B examples, N n-grams of all of them, T of the longest, D rank, L languages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.languages.features import ngrams, padded
from tidemill.kit.batches import Steps, weights

if TYPE_CHECKING:
    from recipes.languages import Languages

Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # ids (N,), offsets (B,), lengths (B,), targets (B,)


def bag(ids: list[np.ndarray], targets: np.ndarray) -> Batch:
    lengths = np.array([len(item) for item in ids])
    offsets = np.concatenate([[0], lengths.cumsum()[:-1]])
    return (
        torch.from_numpy(np.concatenate(ids).astype(np.int64)),
        torch.from_numpy(offsets),
        torch.from_numpy(lengths.astype(np.float32)),
        torch.from_numpy(targets),
    )


class Draws(Steps):
    """One epoch of drawn batches: by source of long or short texts, then by language, nearly alike."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.data = data

    @property
    def steps(self) -> int:
        return self.data.recipe.steps

    def whole(self, epoch: int, step: int, processes: int) -> tuple[list[np.ndarray], np.ndarray]:
        data = self.data
        random = np.random.default_rng([data.seed, epoch, step])
        rows = np.searchsorted(
            data.cumulated, random.random(data.recipe.batch) * data.cumulated[-1]
        )
        rows = rows.clip(0, len(data.targets) - 1)
        return [self.crop(row, random) for row in rows], data.targets[rows]

    def cut(self, whole: tuple[list[np.ndarray], np.ndarray], rows: slice) -> Batch:
        return bag(whole[0][rows], whole[1][rows])

    def crop(self, row: int, random: np.random.Generator) -> np.ndarray:
        """The n-grams of a row, or of a few words of it; of a few characters where it has no words."""
        data = self.data
        if random.random() < data.recipe.crop:
            text = data.texts[row]
            words = text.split(" ")
            if len(words) > 3:
                size = int(min(len(words), 2 ** random.uniform(0, 5)))
                start = random.integers(0, len(words) - size + 1)
                return ngrams(" ".join(words[start : start + size]), data.recipe.bits)
            if len(text) > 30:
                size = int(2 ** random.uniform(1.5, 6))
                start = random.integers(0, max(1, len(text) - size))
                return ngrams(text[start : start + size], data.recipe.bits)
        return data.ids[row]


class Data(lightning.LightningDataModule):
    def __init__(self, recipe: Languages, splits: Path, seed: int, rows: int) -> None:
        super().__init__()
        self.recipe, self.splits, self.seed, self.rows = recipe, splits, seed, rows
        train = pd.read_parquet(splits / "train.parquet", columns=["inputs", "target", "slices"])
        names = [json.loads(item)["language"] for item in train["target"]]
        self.languages = sorted(set(names))
        place = {name: number for number, name in enumerate(self.languages)}
        if rows:  # rows are in the order of their ids, which is a random one
            train, names = train.head(rows), names[:rows]
        self.texts = [json.loads(item)["text"] for item in train["inputs"]]
        self.targets = np.array([place[name] for name in names])
        self.ids = [ngrams(text, recipe.bits).astype(np.int32) for text in self.texts]
        domains = np.array([json.loads(item)["domain"] for item in train["slices"]])
        weighed = weights(splits)
        self.weights = None if weighed is None else weighed[: len(names)]
        chances = self.chances(domains)
        self.cumulated = np.cumsum(chances if self.weights is None else chances * self.weights)
        # How often each language is drawn: what the logit adjustment takes out again.
        drawn = np.bincount(
            self.targets, weights=np.diff(self.cumulated, prepend=0), minlength=len(self.languages)
        )
        self.prior = np.maximum(drawn, 1e-6) / drawn.sum()

    def chances(self, domains: np.ndarray) -> np.ndarray:
        """Each row's chance to be drawn; within a domain, languages count by the power 0.3 of their rows."""
        chances = np.zeros(len(domains))
        lengths = np.array([len(text) for text in self.texts])
        names = np.unique(domains)
        means = {name: lengths[domains == name].mean() for name in names}
        longest = max(means, key=lambda name: means[name])
        for name in names:
            mine = domains == name
            counts = np.bincount(self.targets[mine], minlength=len(self.languages))
            weights = counts[self.targets[mine]].astype(float) ** -0.7
            share = (
                self.recipe.long_share
                if name == longest
                else (1 - self.recipe.long_share) / max(1, len(names) - 1)
            )
            chances[mine] = weights / weights.sum() * (share if len(names) > 1 else 1.0)
        return chances

    def counts(self) -> np.ndarray:
        """How often each n-gram occurs in each language, a row's by its weight: (L, 2^bits) float32."""
        found = np.zeros((len(self.languages), 2**self.recipe.bits), dtype=np.float32)
        order = np.argsort(self.targets, kind="stable")
        edges = np.searchsorted(self.targets[order], np.arange(len(self.languages) + 1))
        for number in range(len(self.languages)):
            rows = order[edges[number] : edges[number + 1]]
            if len(rows):
                mine = [self.ids[row] for row in rows]
                each = (
                    None
                    if self.weights is None
                    else np.repeat(self.weights[rows], [len(item) for item in mine])
                )
                found[number] = np.bincount(
                    np.concatenate(mine), weights=each, minlength=found.shape[1]
                )
        return found

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(Draws(self), batch_size=None)

    def val_dataloader(self) -> Any:
        valid = pd.read_parquet(
            self.splits / "valid.parquet", columns=["inputs", "target", "slices"]
        )
        place = {name: number for number, name in enumerate(self.languages)}
        names = [json.loads(item)["language"] for item in valid["target"]]
        domains = sorted({json.loads(item)["domain"] for item in valid["slices"]})
        rows = sorted(range(len(valid)), key=lambda row: len(valid["inputs"].iloc[row]))
        batches = []
        for start in range(0, len(rows), 256):
            part = [row for row in rows[start : start + 256] if names[row] in place]
            if part:
                ids = [
                    ngrams(json.loads(valid["inputs"].iloc[row])["text"], self.recipe.bits)
                    for row in part
                ]
                where = torch.tensor(
                    [domains.index(json.loads(valid["slices"].iloc[row])["domain"]) for row in part]
                )
                batches.append((bag(ids, np.array([place[names[row]] for row in part])), where))
        return torch.utils.data.DataLoader(batches, batch_size=None)


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
        return self.logits(
            F.embedding_bag(ids, self.table, offsets, mode="sum", sparse=True), lengths
        )

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Serving's way: padded ids (B, T) and lengths (B,) to probabilities (B, L)."""
        return torch.softmax(self.logits(self.table[ids].sum(dim=1), lengths), dim=1)


class Identifier(lightning.LightningModule):
    def __init__(self, recipe: Languages, data: Data) -> None:
        super().__init__()
        self.recipe = recipe
        languages = len(data.languages)
        dim = min(recipe.dim, languages)
        self.net = Net(2**recipe.bits, dim, languages)
        self.register_buffer(
            "adjustment", torch.from_numpy(recipe.tau * np.log(data.prior)).float()
        )
        self.begin(data.counts(), dim)
        self.heard: list[tuple[Tensor, Tensor, Tensor]] = []

    @torch.no_grad()
    def begin(self, counts: np.ndarray, dim: int) -> None:
        """Set the table to naive Bayes' log-likelihoods, as well as rank `dim` can hold them."""
        counts += self.recipe.smoothing
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

    def logits(self, batch: Batch) -> Tensor:
        ids, offsets, lengths, _ = batch
        return self.net.bagged(ids, offsets, lengths)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(
            logits + self.adjustment, batch[3], label_smoothing=self.recipe.label_smoothing
        )

    def training_step(self, batch: Batch, step: int) -> Tensor:
        loss = self.loss(self.logits(batch), batch)
        self.log("train_loss", loss)
        return loss

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
        optimiser = torch.optim.Adagrad(self.parameters(), lr=self.recipe.lr)
        total = max(1, int(self.trainer.estimated_stepping_batches))
        decay = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: min(1.0, (step + 1) / 20) * max(0.0, 1 - step / total)
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": decay, "interval": "step"}}


def export(module: Identifier, path: Path, padding: int) -> float:
    """Write the graph and give its largest difference from torch over three shapes."""
    import onnxruntime

    net = module.net.eval().cpu()
    rows = [
        ngrams(text, int(np.log2(padding)))
        for text in ("Guten Morgen", "a", "Все люди рождаются свободными " * 9)
    ]
    ids, lengths = (torch.from_numpy(item) for item in padded(rows[:2], padding))
    shapes = {
        "ids": {0: torch.export.Dim("batch"), 1: torch.export.Dim("ngrams")},
        "lengths": {0: torch.export.Dim("batch")},
    }
    program = torch.onnx.export(
        net,
        (ids, lengths),
        dynamo=True,
        opset_version=18,
        input_names=["ids", "lengths"],
        output_names=["probabilities"],
        dynamic_shapes=shapes,
        verbose=False,
    )
    assert program is not None
    program.save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for part in (rows[:1], rows[:2], rows):
        block, sizes = padded(part, padding)
        with torch.no_grad():
            ours = net(torch.from_numpy(block), torch.from_numpy(sizes)).numpy()
        theirs = session.run(None, {"ids": block, "lengths": sizes})[0]
        worst = max(worst, float(np.abs(ours - theirs).max()))
    return worst
