"""The texts as a training sees them: drawn by source and language, most of them cut short.

Shapes: B examples, N n-grams of all of them, L languages.
"""

from __future__ import annotations

import json
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recipes.languages.features import ngrams
from recipes.languages.schema import Fields
from tidemill.contract import Splits
from tidemill.families.networks import loader
from tidemill.kit.batches import Steps, weights

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
    """One epoch of drawn batches.

    By source of long or short texts, then by language, nearly alike.
    """

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.data = data

    @property
    def steps(self) -> int:
        return self.data.fields.steps

    def whole(self, epoch: int, step: int) -> tuple[list[np.ndarray], np.ndarray]:
        data = self.data
        random = np.random.default_rng([data.seed, epoch, step])
        rows = np.searchsorted(
            data.cumulated, random.random(data.fields.batch) * data.cumulated[-1]
        )
        rows = rows.clip(0, len(data.targets) - 1)
        return [self.crop(row, random) for row in rows], data.targets[rows]

    def cut(self, whole: tuple[list[np.ndarray], np.ndarray], rows: slice) -> Batch:
        return bag(whole[0][rows], whole[1][rows])

    def count(self, batch: Batch) -> int:
        return len(batch[3])

    def crop(self, row: int, random: np.random.Generator) -> np.ndarray:
        """The n-grams of a row, or of a few words of it.

        Of a few characters where it has no words.
        """
        data = self.data
        if random.random() < data.fields.crop:
            text = data.texts[row]
            words = text.split(" ")
            if len(words) > 3:
                size = int(min(len(words), 2 ** random.uniform(0, 5)))
                start = random.integers(0, len(words) - size + 1)
                return ngrams(" ".join(words[start : start + size]), data.fields.bits)
            if len(text) > 30:
                size = int(2 ** random.uniform(1.5, 6))
                start = random.integers(0, max(1, len(text) - size))
                return ngrams(text[start : start + size], data.fields.bits)
        return data.ids[row]


class Data(lightning.LightningDataModule):
    def __init__(self, fields: Fields, splits: Splits) -> None:
        super().__init__()
        self.fields, self.splits, self.seed = fields, splits.folder, splits.seed
        train = pd.read_parquet(
            self.splits / "train.parquet", columns=["inputs", "target", "slices"]
        )
        names = [json.loads(item)["language"] for item in train["target"]]
        self.languages = sorted(set(names))
        place = {name: number for number, name in enumerate(self.languages)}
        if rows := splits.rows:  # rows are in the order of their ids, which is a random one
            train, names = train.head(rows), names[:rows]
        self.texts = [json.loads(item)["text"] for item in train["inputs"]]
        self.targets = np.array([place[name] for name in names])
        self.ids = [ngrams(text, fields.bits).astype(np.int32) for text in self.texts]
        domains = np.array([json.loads(item)["domain"] for item in train["slices"]])
        weighed = weights(self.splits)
        self.weights = None if weighed is None else weighed[: len(names)]
        chances = self.chances(domains)
        self.cumulated = np.cumsum(chances if self.weights is None else chances * self.weights)
        # How often each language is drawn: what the logit adjustment takes out again.
        drawn = np.bincount(
            self.targets, weights=np.diff(self.cumulated, prepend=0), minlength=len(self.languages)
        )
        self.prior = np.maximum(drawn, 1e-6) / drawn.sum()

    def chances(self, domains: np.ndarray) -> np.ndarray:
        """Each row's chance to be drawn.

        Within a domain, languages count by the power 0.3 of their rows.
        """
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
                self.fields.long_share
                if name == longest
                else (1 - self.fields.long_share) / max(1, len(names) - 1)
            )
            chances[mine] = weights / weights.sum() * (share if len(names) > 1 else 1.0)
        return chances

    def counts(self) -> np.ndarray:
        """How often each n-gram occurs in each language, a row's by its weight.

        (L, 2^bits) float32.
        """
        found = np.zeros((len(self.languages), 2**self.fields.bits), dtype=np.float32)
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
        return loader(Draws(self))

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
                    ngrams(json.loads(valid["inputs"].iloc[row])["text"], self.fields.bits)
                    for row in part
                ]
                where = torch.tensor(
                    [domains.index(json.loads(valid["slices"].iloc[row])["domain"]) for row in part]
                )
                batches.append((bag(ids, np.array([place[names[row]] for row in part])), where))
        return loader(batches)
