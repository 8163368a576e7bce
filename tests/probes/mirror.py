"""What is this word backwards? A sequence-to-sequence model in two graphs, encoder and decoder."""

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
from tidemill.families.networks import Batch, TensorRows, adamw, export, loader
from tidemill.kit.graphs import opened
from tidemill.learners.lightning.loop import LightningLearner

LETTERS = "abcdef"
PAD, END, FIRST = 0, 1, 2
SIZE, LONGEST = len(LETTERS) + FIRST, 6


class Word(BaseModel):
    word: str = Field(min_length=1, max_length=LONGEST, pattern=f"^[{LETTERS}]+$")


class Mirrored(BaseModel):
    word: str


def tokens(words: Sequence[str]) -> np.ndarray:
    """(B, LONGEST + 1) int64, each word ended and filled up."""
    rows = np.full((len(words), LONGEST + 1), PAD, dtype=np.int64)
    for row, word in zip(rows, words, strict=True):
        row[: len(word)] = [LETTERS.index(letter) + FIRST for letter in word]
        row[len(word)] = END
    return rows


class MirrorPredictor:
    def __init__(self, package: Path) -> None:
        self.graphs = opened(package)

    def words(self, asked: Sequence[str]) -> list[str]:
        """Letter by letter, the likeliest each time."""
        state = self.graphs["encoder"].run(None, {"ids": tokens(asked)})[0]
        last = np.full(len(asked), END, dtype=np.int64)
        answers = [""] * len(asked)
        open_rows = np.ones(len(asked), dtype=bool)
        for _ in range(LONGEST):
            logits, state = self.graphs["decoder"].run(None, {"last": last, "state": state})
            last = logits.argmax(axis=1)
            open_rows &= last >= FIRST
            for row in np.flatnonzero(open_rows):
                answers[row] += LETTERS[last[row] - FIRST]
        return answers

    def predict(self, inputs: Sequence[Word]) -> list[Mirrored]:
        return [Mirrored(word=word) for word in self.words([one.word for one in inputs])]


class Mirroring(Application[Word, Mirrored, MirrorPredictor]):
    Input, Output = Word, Mirrored
    metrics = {"letters": Metric(better="higher", source="share of letters in their place")}

    def label(self, documents: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
        rows = documents[["doc_id"]].assign(unit=documents["doc_id"], confidence=1.0, dropped=None)
        return rows.assign(
            inputs=[json.dumps({"word": word}) for word in documents["text"]],
            target=[json.dumps({"word": word[::-1]}) for word in documents["text"]],
            votes="{}",
            slices="{}",
        )

    def open(self, package: Path) -> MirrorPredictor:
        return MirrorPredictor(package)

    def evaluate(self, predictor: MirrorPredictor, examples: pd.DataFrame) -> pd.DataFrame:
        asked, wanted = pairs(examples)
        answers = predictor.words(asked)
        hits = [
            sum(one == two for one, two in zip(answer, word, strict=False))
            for answer, word in zip(answers, wanted, strict=True)
        ]
        return pd.DataFrame({"hits": hits, "letters": [len(word) for word in wanted]})

    def ratios(self, frame: pd.DataFrame) -> Ratios:
        return {"letters": (frame["hits"].to_numpy(float), frame["letters"].to_numpy(float))}

    def golden(self) -> list[Word]:
        return [Word(word=word) for word in ("abc", "fed", "a")]


def pairs(examples: pd.DataFrame) -> tuple[list[str], list[str]]:
    asked, wanted = (
        [json.loads(item)["word"] for item in examples[name]] for name in ("inputs", "target")
    )
    return asked, wanted


class Data(lightning.LightningDataModule):
    def __init__(self, recipe: "Mirror", splits: Splits) -> None:
        super().__init__()
        frames = [pd.read_parquet(splits.folder / f"{p}.parquet") for p in ("train", "valid")]
        self.parts = [
            [torch.from_numpy(tokens(words)) for words in pairs(frame)] for frame in frames
        ]
        self.batches = TensorRows(self.parts[0], recipe.batch, splits.seed)

    def train_dataloader(self) -> Any:
        return loader(self.batches)

    def val_dataloader(self) -> Any:
        return loader([tuple(self.parts[1])])


class Encoder(nn.Module):
    """ids (B, T) to a state (B, D): a letter at each place has a vector of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding((LONGEST + 1) * SIZE, width)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(LONGEST + 1, device=ids.device) * SIZE
        return torch.tanh(self.table(ids + places).sum(dim=1))


class Decoder(nn.Module):
    """The last token (B,) and a state (B, D) to logits (B, V) and the next state."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table, self.cell = nn.Embedding(SIZE, width), nn.GRUCell(width, width)
        self.out = nn.Linear(width, SIZE)

    def forward(self, last: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.cell(self.table(last), state)
        return self.out(state), state


class Module(lightning.LightningModule):
    def __init__(self, recipe: "Mirror") -> None:
        super().__init__()
        self.recipe = recipe
        self.encoder, self.decoder = Encoder(recipe.width), Decoder(recipe.width)

    def loss(self, batch: Batch) -> Tensor:
        ids, wanted = batch
        state, logits = self.encoder(ids), []
        last = torch.full_like(wanted[:, 0], END)
        for place in range(wanted.shape[1]):
            scores, state = self.decoder(last, state)
            logits.append(scores)
            last = wanted[:, place]
        return F.cross_entropy(torch.stack(logits, dim=2), wanted, ignore_index=PAD)

    def training_step(self, batch: Batch, step: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Batch, step: int) -> None:
        self.log("valid_loss", self.loss(batch), batch_size=len(batch[0]))

    def configure_optimizers(self) -> Any:
        return adamw(self, self.recipe.lr, 0.0)


class MirrorLearner(LightningLearner[Any, Data, Module]):
    def load_data(self) -> Data:
        return Data(self.recipe, self.splits)

    def network(self) -> Module:
        return Module(self.recipe)

    def export(self, package: Path) -> float:
        ids, rows = self.data.parts[1][0], {0: "batch"}
        state = torch.zeros(5, self.recipe.width)
        last = torch.full((5,), END)
        asked = [{"ids": ids[:n]} for n in (2, 1, 5)]
        steps = [{"last": last[:n], "state": state[:n]} for n in (2, 1, 5)]
        first, second = package / "encoder.onnx", package / "decoder.onnx"
        told = export(self.module.encoder, first, asked, ["state"], {"ids": rows})
        dynamic = {"last": rows, "state": rows}
        outputs = ["logits", "next"]
        return max(told, export(self.module.decoder, second, steps, outputs, dynamic))


class Mirror(Recipe):
    width: int = Field(default=64, ge=4)
    lr: float = Field(default=0.01, gt=0, le=1)
    batch: int = Field(default=32, ge=1)

    application = Mirroring
    validation = {"valid_loss": Metric(better="lower", unit="nats")}
    data_fields = frozenset({"batch"})

    def learner(self, splits: Splits) -> Learner:
        return MirrorLearner(self, splits)
