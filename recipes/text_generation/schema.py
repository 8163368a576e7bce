"""What a text is asked to go on from, and what can be set.

A real example: {"prompt": "Everyone has the right to"} is {"text": " freedom of ..."}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recipes.text_generation.size import (
    Size,
    UnusableStart,
    hub_bounds,
    layout,
    sized,
    start_size,
)
from tidemill.kit import pretrained
from tidemill.kit.as_data import no_model

SHAPE = (
    "layers",
    "heads",
    "width",
    "context",
    "vocabulary",
    "positions",
    "norm",
)
"""Fields that replace a number of the size, but for `inner`."""
LONGEST = 100_000  # characters of a prompt


Finish = Literal["end", "stop", "length"]


class Turn(BaseModel):
    """A message of a conversation."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=LONGEST)


class Question(BaseModel):
    model_config = ConfigDict(extra="forbid")
    prompt: str = Field(
        max_length=LONGEST,
        description="what the text begins with; nothing: a text from its beginning",
        examples=["Everyone has the right to"],
    )
    messages: list[Turn] = Field(
        default=[],
        max_length=1000,
        description="a conversation that is answered, where the model has a chat template; the "
        "answer then begins with the prompt",
    )
    max_tokens: int = Field(default=64, ge=1, le=512, description="of the answer")
    temperature: float = Field(
        default=0.8, ge=0, le=5, description="0 takes the likeliest token each time"
    )
    top_k: int = Field(
        default=0, ge=0, le=100_000, description="draw from the k likeliest; 0: from all"
    )
    top_p: float = Field(
        default=0.95, gt=0, le=1, description="draw from the fewest that together have this share"
    )
    repetition_penalty: float = Field(
        default=1.0, ge=1, le=10, description="above 1, tokens that occurred become less likely"
    )
    stop: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        default=[], max_length=8, description="the answer ends before the first of these"
    )
    seed: int = Field(
        default=0, ge=0, le=2**32 - 1, description="same question, same seed, same answer"
    )


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str = Field(description="what follows the prompt")
    finish: Finish = Field(
        default="end", description="the text ended, a stop was met, or max_tokens were made"
    )
    tokens: int = Field(default=0, ge=0, description="made")
    limit: str | None = Field(default=None, description="what of the prompt could not be used")


class Fields(BaseModel):
    """Hyperparameters of the transformer."""

    size: Literal["tiny", "small", "124m", "350m", "1b"] = Field(
        default="tiny",
        description="a row of SIZES in size.py; the fields below replace single numbers of it",
    )
    layers: int = Field(
        default=0, ge=0, le=200, description="0: the size's own; so for the next six"
    )
    heads: int = Field(default=0, ge=0, le=200)
    width: int = Field(default=0, ge=0, le=20_000)
    context: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="tokens that a token sees, at most; may lower that of a start that is trained "
        "through transformers",
    )
    vocabulary: int = Field(
        default=0, ge=0, le=1_000_000, description="tokens; 257 are bytes and the end"
    )
    positions: Literal["", "rotary", "learned"] = ""
    norm: Literal["", "rms", "layer"] = Field(
        default="", description="layer has biases too, as GPT-2; rms has none"
    )
    start: str = Field(
        default="",
        description=(
            "a folder to begin from: a package of this application, or any causal model in "
            "Hugging Face's layout; or hf:ORG/NAME@REVISION of a hub. Its size and tokenizer hold. "
            "Nothing: from scratch"
        ),
    )
    lora_rank: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="with a start: train low-rank additions only (Hu et al. 2021); 0: all weights",
    )
    inner: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description=(
            "channels between the two maps of a layer, as a share of four times the width; what "
            "`prune` lowers"
        ),
    )
    dropout: float = Field(default=0.0, ge=0, lt=1)
    optimiser: Literal["muon", "adamw"] = "muon"
    lr: float = Field(
        default=0.01,
        gt=0,
        le=1,
        description="warmed up over 1/20 of the steps, then falling linearly to 0",
    )
    decay: float = Field(default=0.1, ge=0, le=10, description="weight decay of the matrices")
    batch: int = Field(
        default=8, ge=1, le=65_536, description="blocks of a step, which all devices share"
    )
    steps: int = Field(
        default=800,
        ge=1,
        description="in an epoch; the documents are gone through as often as that takes",
    )
    checkpointing: bool = Field(
        default=False,
        description="keep the inputs of each layer alone and compute the layer again in the "
        "backward pass: less memory for a third more time",
    )
    mixture: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default={},
        description="the weight of each source, as shares of the tokens that are trained on; "
        "nothing: every row as often",
    )
    max_repetition: float = Field(
        default=4.0,
        ge=1,
        le=1000,
        description="how often a mixture goes through a source at most; what is missing the others "
        "give (Muennighoff et al. 2023: four passes are nearly as good as new text)",
    )
    replay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="with a start that was trained here: the share of rows that it was trained on, "
        "beside the new ones; 0: every row as often",
    )
    samples: int = Field(
        default=64,
        ge=0,
        le=10_000,
        description=(
            "test rows whose beginning is continued, for distinct-n, repetition and copying"
        ),
    )

    @model_validator(mode="after")
    def _fits(self) -> Fields:
        if self.lora_rank and not self.start:
            raise ValueError(
                f"lora_rank {self.lora_rank} needs a `start`: there is nothing to add to from "
                "scratch"
            )
        if self.mixture and not sum(self.mixture.values()):
            raise ValueError("model.mixture: the weights sum to 0; give a source more")
        own = [name for name in SHAPE if getattr(self, name) and name != "context"] + (
            ["inner"] if self.inner < 1 else []
        )
        if self.start and own:
            raise ValueError(
                f"with a `start` the folder's own {', '.join(own)} hold; leave them out"
            )
        if not self.start and self.shape().vocabulary < 257:
            raise ValueError(
                f"vocabulary {self.vocabulary} is under 257: every byte and the end need a token"
            )
        return self

    def unfit(self, strategy: str) -> str:
        if "fsdp" in strategy and self.trains_in_place():
            return "a network of transformers is not cut into shards here; say trainer=ddp"
        if self.optimiser == "muon" and "fsdp" in strategy:
            return (
                "model.optimiser=muon needs whole matrices and fsdp keeps shards of them; "
                "say model.optimiser=adamw"
            )
        return ""

    def unready(self) -> str:
        return no_model(self.start) if self.start else ""

    def start_folder(self) -> Path:
        """Where the start's files lie; a hub's are fetched where they are not here."""
        return pretrained.folder(self.start)

    def trains_in_place(self) -> bool:
        """Whether the start's network is trained through transformers, in its own layout."""
        return bool(self.start) and layout(str(self.start_folder())) == "transformers"

    def bounds(self) -> tuple[int, int]:
        """Context and vocabulary. UnusableStart where the start has others."""
        if self.trains_in_place():
            return hub_bounds(str(self.start_folder()), self.context)
        shape = self.shape()
        if self.start and self.context not in (0, shape.context):
            raise UnusableStart(
                f"model.context={self.context}: '{self.start}' has {shape.context}, and its "
                "network takes no other; leave it out"
            )
        return shape.context, shape.vocabulary

    def shape(self) -> Size:
        """The network's size: the start's, or the named one with what the fields replace."""
        if self.start:
            return start_size(str(self.start_folder()))
        return sized(self.size, **{name: getattr(self, name) for name in (*SHAPE, "inner")})
