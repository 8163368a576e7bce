"""Hyperparameters of a classifier of texts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tidemill.contract import Learner, Metric, Recipe, Splits, WarmStartable
from tidemill.kit.as_data import no_model
from tidemill.runtime import paths


class TextRecipe(Recipe, WarmStartable):
    """Hyperparameters of an encoder with a linear head."""

    start: str = Field(
        default="",
        description="the encoder to begin from: a name of conf/weights, or a folder in Hugging "
        "Face's layout with a tokenizer.json; empty: from scratch",
    )
    tune: Literal["whole", "upper", "lora", "head"] = Field(
        default="upper",
        description="what of it is trained: all, its upper layers, adapters of low rank in them, "
        "or the head alone; an encoder from scratch is always trained whole",
    )
    upper: int = Field(
        default=2, ge=1, le=48, description="layers that `upper` and `lora` are about, from the top"
    )
    rank: int = Field(default=8, ge=1, le=256, description="of the adapters, where tune is lora")
    context: int = Field(default=64, ge=8, le=512, description="tokens of a window")
    windows: int = Field(
        default=8, ge=1, le=64, description="of a text; what lies behind the last is not read"
    )
    lr: float = Field(default=3e-4, gt=0, le=1, description="of the encoder, AdamW")
    head_lr: float = Field(default=2e-3, gt=0, le=1, description="of the head")
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    batch: int = Field(default=32, ge=1, le=4096, description="texts in a step")
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    class_weights: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="a class counts by its share of the rows to minus this power; 1: all classes "
        "alike, 0: all rows",
    )
    width: int = Field(
        default=128, ge=32, le=1024, multiple_of=32, description="from scratch: of the encoder"
    )
    layers: int = Field(default=2, ge=1, le=24, description="from scratch")
    vocabulary: int = Field(
        default=8000, ge=300, le=100_000, description="from scratch: tokens, of the training texts"
    )

    validation = {
        "valid_macro_f1": Metric(better="higher"),
        "valid_accuracy": Metric(better="higher"),
        "valid_loss": Metric(better="lower", unit="nats"),
    }
    data_fields = frozenset({"start", "tune", "upper", "context", "windows", "batch", "vocabulary"})
    baseline_fields = frozenset({"start", "tune", "upper", "context", "windows"})

    def unready(self) -> str:
        is_named = (paths.conf() / "weights" / f"{self.start}.yaml").is_file()
        return "" if is_named or not self.start else no_model(self.start)

    def learner(self, splits: Splits) -> Learner:
        from tidemill.families.texts.learner import TextLearner

        return TextLearner(self, splits)
