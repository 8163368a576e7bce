"""What is asked of a text, and what can be set.

A real example: {"text": "Jeder hat das Recht auf Leben"} is {"language": "deu"}.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

LONGEST = 100_000  # characters of one question


class Question(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str = Field(
        min_length=1,
        max_length=LONGEST,
        description="a word, a sentence or a page",
        examples=["Wann fährt der nächste Zug nach Hamburg?"],
    )


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    language: str = Field(description="ISO 639-3")
    confidence: float | None = Field(
        default=None, ge=0, le=1, description="the model's own probability"
    )
    others: dict[str, float] = Field(default={}, description="the next likely languages")


class Fields(BaseModel):
    """Hyperparameters of the language identifier."""

    bits: int = Field(default=16, ge=8, le=20, description="the table has 2^bits rows")
    dim: int = Field(
        default=400,
        ge=1,
        le=4096,
        description="rank of the table; more than there are languages is as many",
    )
    smoothing: float = Field(
        default=0.01, gt=0, le=10, description="added to each n-gram's count where the table starts"
    )
    lr: float = Field(
        default=0.001, gt=0, le=1, description="Adagrad's learning rate, falling linearly to 0"
    )
    tau: float = Field(
        default=1.0,
        ge=0,
        le=3,
        description="weight of the logit adjustment; 0 is plain cross-entropy",
    )
    batch: int = Field(default=64, ge=1, le=65536, description="examples in a step")
    steps: int = Field(
        default=400, ge=1, description="steps in an epoch: examples are drawn, not swept"
    )
    crop: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="share of examples cut to a few words, as short as menu entries",
    )
    long_share: float = Field(
        default=0.7, ge=0, le=1, description="share of a batch from sources of whole paragraphs"
    )
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)

    def unfit(self, strategy: str) -> str:
        if "fsdp" not in strategy:
            return ""
        return (
            "languages has weights of no dimension, which fsdp does not share out; say "
            "trainer=ddp or trainer=gpu"
        )
