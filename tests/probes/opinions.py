"""Is this sentence friendly? A head on an encoder in Hugging Face's layout, fine-tuned whole."""

import json
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, Field
from tokenizers import Tokenizer
from torch import Tensor, nn

from tidemill.contract import Learner, Recipe, Splits, Teachable
from tidemill.families.classifier import VALIDATION, Classifier, ClassifierPredictor, Label
from tidemill.families.networks import Batch, ClassifierModule, TensorRows, adamw, export, loader
from tidemill.learners.lightning.loop import LightningLearner

LONGEST = 32  # tokens


class Sentence(BaseModel):
    text: str = Field(min_length=1, max_length=2000)


def encoded(tokenizer: Tokenizer, texts: list[str]) -> dict[str, np.ndarray]:
    """ids and mask (B, T) int64."""
    tokenizer.enable_truncation(LONGEST)
    tokenizer.enable_padding()
    rows = tokenizer.encode_batch(texts)
    ids, mask = ([getattr(row, name) for row in rows] for name in ("ids", "attention_mask"))
    return {"ids": np.array(ids), "mask": np.array(mask)}


class SentimentPredictor(ClassifierPredictor[Sentence, Label]):
    def __init__(self, package: Path) -> None:
        super().__init__(package)
        self.tokenizer = Tokenizer.from_file(str(package / "tokenizer.json"))

    def asked(self, question: Sentence) -> str:
        return question.text

    def raw(self, asked: Any) -> np.ndarray:
        return self.graphs["model"].run(None, encoded(self.tokenizer, list(asked)))[0]

    def answer(self, label: str, confidence: float, others: dict[str, float]) -> Label:
        return Label(label=label, confidence=confidence, others=others)


class Sentiments(Classifier[Sentence, Label, SentimentPredictor]):
    Input, Output, asks = Sentence, Label, "text"

    def label(self, documents: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
        rows = documents[["doc_id"]].assign(unit=documents["doc_id"], confidence=1.0, dropped=None)
        labels = [json.loads(item)["label"] for item in documents["attributes"]]
        return rows.assign(
            inputs=[json.dumps({"text": text}) for text in documents["text"]],
            target=[json.dumps({"label": label}) for label in labels],
            votes=[json.dumps({"source": label}) for label in labels],
            slices="{}",
        )

    def open(self, package: Path) -> SentimentPredictor:
        return SentimentPredictor(package)

    def golden(self) -> list[Sentence]:
        return [Sentence(text=text) for text in ("what a good day", "bad", "no word of it")]


class Data(lightning.LightningDataModule):
    def __init__(self, recipe: "Sentiment", splits: Splits) -> None:
        super().__init__()
        tokenizer = Tokenizer.from_file(str(Path(recipe.start) / "tokenizer.json"))
        rows = [pd.read_parquet(splits.folder / f"{name}.parquet") for name in ("train", "valid")]
        names = [[json.loads(item)["label"] for item in part["target"]] for part in rows]
        self.labels = sorted(set(names[0]))
        self.parts = []
        for part, targets in zip(rows, names, strict=True):
            texts = encoded(tokenizer, [json.loads(item)["text"] for item in part["inputs"]])
            places = torch.tensor([self.labels.index(name) for name in targets])
            self.parts.append([torch.tensor(texts["ids"]), places, torch.tensor(texts["mask"])])
        self.batches = TensorRows(self.parts[0], recipe.batch, splits.seed)

    def train_dataloader(self) -> Any:
        return loader(self.batches)

    def val_dataloader(self) -> Any:
        return loader([tuple(self.parts[1])])


class Encoder(nn.Module):
    def __init__(self, start: str, labels: int) -> None:
        from transformers import AutoModel

        super().__init__()
        self.body = AutoModel.from_pretrained(start, attn_implementation="eager")
        self.out = nn.Linear(self.body.config.hidden_size, labels)

    def logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        states = self.body(input_ids=ids, attention_mask=mask).last_hidden_state
        share = mask[..., None].float()
        return self.out((states * share).sum(dim=1) / share.sum(dim=1))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return torch.softmax(self.logits(ids, mask), dim=1)


class Module(ClassifierModule):
    def __init__(self, recipe: "Sentiment", data: Data) -> None:
        super().__init__()
        self.recipe, self.net = recipe, Encoder(recipe.start, len(data.labels))

    def logits(self, batch: Batch) -> Tensor:
        return self.net.logits(batch[0], batch[2])

    def configure_optimizers(self) -> Any:
        return adamw(self, self.recipe.lr, 0.01)


class SentimentLearner(LightningLearner[Any, Data, Module]):
    def load_data(self) -> Data:
        return Data(self.recipe, self.splits)

    def network(self) -> Module:
        return Module(self.recipe, self.data)

    def export(self, package: Path) -> float:
        tokens = (Path(self.recipe.start) / "tokenizer.json").read_text()
        (package / "tokenizer.json").write_text(tokens)
        (package / "tables.json").write_text(json.dumps({"labels": self.data.labels}))
        ids, _, mask = self.data.parts[1]
        shape = {0: "batch", 1: "tokens"}
        asked = [{"ids": ids[:count], "mask": mask[:count]} for count in (2, 1, 3)]
        path, dynamic = package / "model.onnx", {"ids": shape, "mask": shape}
        return export(self.module.net, path, asked, ["probabilities"], dynamic)


class Sentiment(Recipe, Teachable):
    start: str = Field(description="a folder in Hugging Face's layout, with a tokenizer.json")
    lr: float = Field(default=0.003, gt=0, le=1)
    batch: int = Field(default=16, ge=1)

    application, validation, data_fields = Sentiments, VALIDATION, frozenset({"start", "batch"})

    def learner(self, splits: Splits) -> Learner:
        return SentimentLearner(self, splits)

    def batches(self) -> dict[str, Any]:
        return {"start": self.start}
