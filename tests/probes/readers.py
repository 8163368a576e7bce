"""What will this person like next? Matrix factorisation over choices, judged person by person.

Trained by Bayesian personalised ranking (Rendle et al. 2009). A row is a choice that was held
back; it is ranked among everything the person was not seen to choose.
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

from tidemill.contract import Application, Learner, Metric, Ratios, Recipe, Splits
from tidemill.families.networks import Batch, Shuffled, adamw, export, loader
from tidemill.kit.graphs import opened
from tidemill.learners.lightning.loop import LightningLearner

SHOWN = 3  # items in an answer, and among which a hit counts


class Person(BaseModel):
    person: str


class Items(BaseModel):
    items: list[str]


class ReaderPredictor:
    def __init__(self, package: Path) -> None:
        tables = json.loads((package / "tables.json").read_text())
        self.items: list[str] = tables["items"]
        self.people = {name: at for at, name in enumerate(tables["people"])}
        self.seen = {name: set(items) for name, items in tables["seen"].items()}
        self.graphs = opened(package)

    def ranked(self, people: Sequence[str]) -> list[list[str]]:
        """All items that a person was not seen to choose, the likeliest first.

        Somebody unknown gets the order of an average person.
        """
        rows = np.array([self.people.get(name, len(self.people)) for name in people])
        scores = self.graphs["model"].run(None, {"people": rows})[0]
        orders = [[self.items[at] for at in np.argsort(-row, kind="stable")] for row in scores]
        seen = [self.seen.get(name, set()) for name in people]
        return [[i for i in order if i not in s] for order, s in zip(orders, seen, strict=True)]

    def predict(self, inputs: Sequence[Person]) -> list[Items]:
        orders = self.ranked([one.person for one in inputs])
        return [Items(items=order[:SHOWN]) for order in orders]


class Choices(Application[Person, Items, ReaderPredictor]):
    Input, Output = Person, Items
    metrics = {
        "hits": Metric(better="higher", source=f"a held-back choice is among the first {SHOWN}"),
        "reciprocal_rank": Metric(better="higher"),
    }

    def label(self, documents: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
        """The unit is the person: models are compared over people, not over choices."""
        told = [json.loads(item) for item in documents["attributes"]]
        rows = documents[["doc_id"]].assign(confidence=1.0, dropped=None, votes="{}", slices="{}")
        return rows.assign(
            unit=[one["person"] for one in told],
            inputs=[json.dumps({"person": one["person"]}) for one in told],
            target=[json.dumps({"items": [one["item"]]}) for one in told],
        )

    def open(self, package: Path) -> ReaderPredictor:
        return ReaderPredictor(package)

    def evaluate(self, predictor: ReaderPredictor, examples: pd.DataFrame) -> pd.DataFrame:
        people, items = choices(examples)
        ranks = [
            order.index(item) + 1 if item in order else len(order) + 1
            for order, item in zip(predictor.ranked(people), items, strict=True)
        ]
        return pd.DataFrame({"rank": np.array(ranks, dtype=float)})

    def ratios(self, frame: pd.DataFrame) -> Ratios:
        rank, one = frame["rank"].to_numpy(float), np.ones(len(frame))
        return {"hits": ((rank <= SHOWN).astype(float), one), "reciprocal_rank": (1 / rank, one)}

    def golden(self) -> list[Person]:
        return [Person(person=name) for name in ("aa", "nobody known")]


def choices(examples: pd.DataFrame) -> tuple[list[str], list[str]]:
    people = [json.loads(item)["person"] for item in examples["inputs"]]
    return people, [json.loads(item)["items"][0] for item in examples["target"]]


class Pairs(Shuffled):
    """A person, an item they chose, and one that is drawn."""

    def __init__(self, data: "Data", batch: int) -> None:
        super().__init__(len(data.people), batch, data.seed)
        self.data = data

    def take(self, rows: Tensor, epoch: int, step: int) -> Batch:
        random = np.random.default_rng([self.seed, epoch, step])
        others = torch.from_numpy(random.integers(0, len(self.data.items), len(rows)))
        return self.data.people[rows], self.data.chosen[rows], others


class Data(lightning.LightningDataModule):
    def __init__(self, recipe: "Readers", splits: Splits) -> None:
        super().__init__()
        self.seed = splits.seed
        frames = [pd.read_parquet(splits.folder / f"{p}.parquet") for p in ("train", "valid")]
        people, items = choices(frames[0])
        self.names, self.items = sorted(set(people)), sorted(set(items))
        self.seen: dict[str, list[str]] = {}
        for person, item in zip(people, items, strict=True):
            self.seen.setdefault(person, []).append(item)
        self.people = torch.tensor([self.names.index(one) for one in people])
        self.chosen = torch.tensor([self.items.index(one) for one in items])
        pairs = [
            (self.names.index(person), self.items.index(item))
            for person, item in zip(*choices(frames[1]), strict=True)
            if person in self.seen and item in self.items
        ]
        self.valid = tuple(torch.tensor(column) for column in zip(*pairs, strict=True))
        self.batches = Pairs(self, recipe.batch)

    def train_dataloader(self) -> Any:
        return loader(self.batches)

    def val_dataloader(self) -> Any:
        return loader([self.valid])


class Net(nn.Module):
    """One row a person, the last for anybody; scores (B, items)."""

    def __init__(self, people: int, items: int, dim: int) -> None:
        super().__init__()
        self.people, self.items = nn.Embedding(people + 1, dim), nn.Embedding(items, dim)
        self.popularity = nn.Parameter(torch.zeros(items))
        nn.init.normal_(self.people.weight, std=0.1)
        nn.init.zeros_(self.people.weight[-1])

    def forward(self, people: Tensor) -> Tensor:
        return self.people(people) @ self.items.weight.T + self.popularity


class Module(lightning.LightningModule):
    def __init__(self, recipe: "Readers", data: Data) -> None:
        super().__init__()
        self.recipe = recipe
        self.net = Net(len(data.names), len(data.items), recipe.dim)

    def training_step(self, batch: Batch, step: int) -> Tensor:
        people, chosen, others = batch
        scores, rows = self.net(people), torch.arange(len(people))
        loss = -F.logsigmoid(scores[rows, chosen] - scores[rows, others]).mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Batch, step: int) -> None:
        people, chosen = batch
        scores = self.net(people)
        own = scores[torch.arange(len(people)), chosen][:, None]
        self.log("valid_rank", (scores > own).sum(1).float().mean(), batch_size=len(people))

    def configure_optimizers(self) -> Any:
        return adamw(self, self.recipe.lr, 0.001)


class ReaderLearner(LightningLearner[Any, Data, Module]):
    def load_data(self) -> Data:
        return Data(self.recipe, self.splits)

    def network(self) -> Module:
        return Module(self.recipe, self.data)

    def export(self, package: Path) -> float:
        data = self.data
        tables = {"items": data.items, "people": data.names, "seen": data.seen}
        (package / "tables.json").write_text(json.dumps(tables))
        asked = [{"people": torch.arange(count)} for count in (2, 1, 5)]
        dynamic = {"people": {0: "batch"}}
        return export(self.module.net, package / "model.onnx", asked, ["scores"], dynamic)


class Readers(Recipe):
    dim: int = Field(default=8, ge=1)
    lr: float = Field(default=0.05, gt=0, le=1)
    batch: int = Field(default=64, ge=1)

    application = Choices
    validation = {"valid_rank": Metric(better="lower")}
    data_fields = frozenset({"batch"})

    def learner(self, splits: Splits) -> Learner:
        return ReaderLearner(self, splits)
