"""In which form a model leaves, and how it answers."""

from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field, model_validator

from tidemill.engines.config.schema.base import Strict


class Export(Strict):
    """Which forms of the exported network are tried.

    The one that is measured best is judged and served.
    """

    forms: tuple[Literal["int8-dynamic", "int8-static", "fp16"], ...] = Field(
        default=(), description="beside fp32; none: fp32 alone, and nothing is measured"
    )
    metric: str = Field(default="", description="on validation rows; empty: the recipe's first")
    margin: float = Field(
        default=0.002,
        ge=0,
        description="of the metric; a form that is worse than fp32 by more is not taken",
    )
    rows: int = Field(
        default=2_000, ge=1, description="validation rows the forms are compared on, at most"
    )
    calibration: int = Field(
        default=200,
        ge=1,
        description="of these rows, from which int8-static takes the range of each activation",
    )
    requests: int = Field(
        default=100,
        ge=5,
        description="single questions whose latency is measured, the forms in turn",
    )
    gain: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="a form must be this share faster than fp32, or "
        "smaller and not slower, to be taken",
    )


class WaitingFiles(Strict):
    """Files that wait for answers: read when they are given, and part of no run's key."""

    reads: str = Field(
        description="the folder of the files and folders that are answered, from the project's root"
    )
    writes: str = Field(description="the folder that their answers go to, under the same names")
    columns: dict[str, str] = Field(
        default={}, description="a field of the input to its column, where they differ"
    )
    form: Literal["csv", "jsonl", "parquet"] = "parquet"

    @model_validator(mode="after")
    def _are_apart(self) -> "WaitingFiles":
        for name in ("reads", "writes"):
            path = PurePosixPath(getattr(self, name))
            if path.is_absolute() or not path.parts or ".." in path.parts:
                raise ValueError(
                    f"answers.{name} is {getattr(self, name)!r}; name a folder of the project, as "
                    "data/questions/NAME"
                )
        reads, writes = PurePosixPath(self.reads), PurePosixPath(self.writes)
        if reads.is_relative_to(writes) or writes.is_relative_to(reads):
            raise ValueError(
                f"answers.writes {self.writes!r} and answers.reads {self.reads!r} lie in each "
                "other, so answers would be questions; name folders beside each other"
            )
        return self


class Serve(Strict):
    """How an application is served: read when the server starts, and part of no run's key."""

    batch: int = Field(
        default=16, ge=1, le=4096, description="questions the model is asked at once, at most"
    )
    wait_ms: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="how long a question waits for others to join it, while others are coming",
    )
    queue: int = Field(
        default=256, ge=1, le=100_000, description="questions that may wait; more are answered 429"
    )
    patience_ms: float = Field(
        default=10.0,
        ge=0,
        le=600_000,
        description="a question that finds the next batch full, and would "
        "wait longer than this, is answered 429",
    )
    deadline_s: float = Field(
        default=10.0, gt=0, le=600, description="a question that waited longer is answered 503"
    )
    max_body_mb: float = Field(default=1.0, gt=0, le=100)
    max_questions: int = Field(default=100, ge=1, le=10_000, description="in one request")
    challenger: Literal["off", "shadow", "canary"] = Field(
        default="off",
        description="shadow: @challenger is asked too and not shown; canary: it answers a share",
    )
    share: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="of the questions that the challenger is asked, always the same ones",
    )
    sample: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the questions noted in data/served, as digests, lengths and scores",
    )
    keep_text: bool = Field(
        default=False, description="note sampled questions and answers themselves too"
    )
    drift: float = Field(
        default=0.25,
        gt=0,
        description="PSI of served questions against the test rows, above which the watch retrains",
    )
    drop: float = Field(
        default=0.05,
        gt=0,
        description="of the first metric on served rows that were labelled since, below "
        "the test's figure, from which the watch retrains",
    )
    watch_rows: int = Field(
        default=200, ge=20, description="served questions the watch needs to say anything"
    )

    @model_validator(mode="after")
    def _fits(self) -> "Serve":
        if self.keep_text and not self.sample:
            raise ValueError(
                "keep_text keeps nothing while sample is 0; say which share is sampled"
            )
        return self
