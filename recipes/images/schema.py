"""What is asked of a picture, and what can be set.

A real example: {"image": "iVBORw0KGgo..."} (a PNG of a handwritten seven, as base64) is
{"label": "7"}.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tidemill.kit import pictures

LEAST_SIDE = 4  # pixels; a smaller picture shows nothing that could be recognised
MOST_CHARS = 4 * pictures.MOST_BYTES // 3 + 4


class Picture(BaseModel):
    model_config = ConfigDict(extra="forbid")
    image: str = Field(
        min_length=1,
        max_length=MOST_CHARS,
        description=(
            "a PNG, JPEG, GIF, BMP or WebP as base64; bright strokes on a dark ground, "
            "as the training pictures"
        ),
        json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/*"},
    )

    @field_validator("image")
    @classmethod
    def _opens(cls, image: str) -> str:
        picture = pictures.opened(pictures.decoded(image))
        if min(picture.size) < LEAST_SIDE:
            raise ValueError(
                f"a picture of {picture.size[0]} x {picture.size[1]} pixels, "
                f"at least {LEAST_SIDE} x {LEAST_SIDE} are needed"
            )
        return image


class Fields(BaseModel):
    """Hyperparameters of the picture classifier."""

    side: int = Field(
        default=28,
        ge=8,
        le=128,
        description="pixels; every picture is brought to this height and width",
    )
    width: int = Field(
        default=16,
        ge=4,
        le=256,
        description="channels of the first stage; each further stage has twice as many",
    )
    stages: int = Field(
        default=3, ge=1, le=5, description="each but the first halves height and width"
    )
    depth: int = Field(default=1, ge=1, le=8, description="residual blocks in a stage")
    inner: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description=(
            "channels between a block's convolutions, as a share of the stage's; what `prune` "
            "lowers"
        ),
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="before the last layer")
    lr: float = Field(
        default=0.01,
        gt=0,
        le=1,
        description=(
            "AdamW's highest learning rate; it rises over a tenth of the steps and falls to 0 "
            "as a cosine"
        ),
    )
    weight_decay: float = Field(default=0.02, ge=0, le=1)
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    batch: int = Field(default=64, ge=2, le=8192, description="pictures in a step")
    shift: float = Field(
        default=2.0,
        ge=0,
        le=32,
        description="pixels; the farthest a copy is moved in height and width",
    )
    turn: float = Field(
        default=12.0, ge=0, le=180, description="degrees; the most a copy is turned either way"
    )
    zoom: float = Field(
        default=0.1, ge=0, lt=1, description="share; the most a copy is enlarged or made smaller"
    )
    bend: float = Field(
        default=1.0,
        ge=0,
        le=16,
        description="pixels; the standard deviation of an elastic field of 5 x 5 points",
    )
    erase: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="share of copies with a random quarter-side square blacked out",
    )
    noise: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description=(
            "of the brightness; the most that a copy's noise deviates, each copy's drawn up to it"
        ),
    )
    mirror: bool = Field(
        default=False, description="mirror half of the copies; wrong for digits, right for clothes"
    )
    svm_rows: int = Field(
        default=10_000,
        ge=10,
        description=(
            "training rows of the kernel machine at most: its time grows with their square"
        ),
    )
