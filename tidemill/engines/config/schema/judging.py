"""What a recipe is scored on, and the gates it must pass."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tidemill.engines.config.schema.base import Strict


class Score(Strict):
    resamples: int = Field(default=10_000, ge=100, le=100_000)
    slices: tuple[str, ...] = ()
    min_rows: int = Field(
        default=100, ge=1, description="a slice with fewer is pooled and reported"
    )
    min_units: int = Field(
        default=6,
        ge=5,
        description="effective units; with fewer nothing is claimed: 2^4 ways of swapping cannot give a p-value of .05",
    )
    few_units: int = Field(
        default=200,
        ge=0,
        description="effective units; with fewer, the exact permutation test and the jackknife answer instead of the bootstrap",
    )
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    perturbed_rows: int = Field(
        default=2_000,
        ge=0,
        description="test rows that are asked again with typos, noise and the like",
    )
    requests: int = Field(
        default=200,
        ge=0,
        description="single questions whose latency is measured, of candidate and champion in turn",
    )


class Gate(Strict):
    """One question a candidate must answer."""

    name: str
    kind: Literal[
        "limit",
        "no_worse",
        "better",
        "robust",
        "calibrated",
        "fast",
        "small",
        "same",
        "clean",
        "drift",
        "sane",
    ]
    metric: str = ""
    against: Literal["champion", "baseline"] = "champion"
    margin: float = Field(default=0.0, ge=0)
    at_least: float | None = None
    at_most: float | None = None
    by: tuple[str, ...] = Field(
        default=(), description="slice columns, one or several: the gate is asked of each slice"
    )
    required: tuple[str, ...] = Field(default=(), description="slices that must be judged")
    method: Literal["resample", "diebold_mariano"] = Field(
        default="resample",
        description="diebold_mariano: units are times in order, whose errors may go together",
    )
    action: Literal["stop", "warn"] = Field(
        default="stop", description="warn: the finding is reported and decides nothing"
    )
    why: str

    @field_validator("by", mode="before")
    @classmethod
    def _columns(cls, by: Any) -> Any:
        return ((by,) if by else ()) if isinstance(by, str) else by

    @model_validator(mode="after")
    def _whole(self) -> "Gate":
        one = (self.at_least is None) != (self.at_most is None)
        if self.kind in ("limit", "small", "same") and not one:
            raise ValueError(
                f"gate {self.name}: {self.kind} needs at_least or at_most, one of them"
            )
        if self.kind in ("calibrated", "clean", "drift") and self.at_most is None:
            raise ValueError(f"gate {self.name}: {self.kind} needs at_most")
        if self.kind == "fast" and self.at_most is None and not self.margin:
            raise ValueError(
                f"gate {self.name}: fast needs at_most (ms of one request, p95) or margin (a share of the champion's)"
            )
        if self.kind in ("limit", "no_worse", "better", "sane", "robust") and not self.metric:
            raise ValueError(f"gate {self.name}: {self.kind} needs a metric")
        if self.required and not self.by:
            raise ValueError(f"gate {self.name}: required names slices, and `by` names no column")
        if len(self.by) != len(set(self.by)):
            raise ValueError(f"gate {self.name}: by names a column twice")
        return self
