"""The data half of a recipe: which sources, what is selected, labelled and held back."""

from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tidemill.engines.config.schema.base import Strict


class SourceUse(Strict):
    """One source of a recipe."""

    name: str
    role: Literal["train", "test"] = "train"


class Select(Strict):
    """Which documents an application takes, and what counts as the same document twice."""

    kinds: tuple[str, ...] = Field(default=(), description="document kinds kept; none named: all")
    context: tuple[str, ...] = Field(
        default=(), description="kinds handed to label as context only"
    )
    min_chars: int = Field(default=1, ge=0)
    twins_differ_by: tuple[str, ...] = Field(
        default=(), description="columns within which duplicates are sought"
    )
    near_duplicates: float = Field(
        default=0.8,
        ge=0.42,
        le=1,
        description="Jaccard similarity of word 3-grams; below .42 copies cannot be found",
    )
    quality: str = Field(
        default="",
        description="a policy of conf/quality; none: no document is left out for how it is written",
    )


class Quality(Strict):
    """conf/quality/NAME.yaml: bounds of the signals of tasks/clean/quality.py, by language.

    A null bounds nothing.
    """

    source: str
    languages: dict[str, dict[str, tuple[float | None, float | None]]] = Field(
        min_length=1, description="by ISO 639-1"
    )
    others: Literal["keep", "drop"] = Field(
        default="keep",
        description="texts in a language without bounds of its own; "
        "another's are never applied to them",
    )


class LabelPolicy(BaseModel):
    """How labels are decided and doubted; what else stands here is the recipe's own."""

    model_config = ConfigDict(extra="allow", frozen=True)
    decide: Literal["given", "votes"] = Field(
        default="given",
        description="votes: the voters' answers make the label, by majority or by Dawid and "
        "Skene's method, whichever is right more often where people said it",
    )
    issues: Literal["off", "report", "weight", "drop"] = Field(
        default="off",
        description="labels that cleanlab finds doubtful: told, counted in "
        "training by their quality, or their rows left out",
    )
    least_people: int = Field(
        default=30,
        ge=1,
        description="people's labels from which on voters are measured "
        "against them; with fewer, against the given labels",
    )

    def options(self) -> dict[str, object]:
        """What is the recipe's own."""
        return dict(self.model_extra or {})


class SplitRule(Strict):
    """How the examples of one source are split: by the row alone, but for `last`."""

    source: str
    by: Literal["hash", "values", "time", "last", "test"] = Field(
        description="last: of each group, by `column`, the last row is test and the one before it "
        "valid; groups of fewer than three rows are train"
    )
    column: str = Field(default="", description="of the examples, or one of their slices")
    order: str = Field(
        default="",
        description="split by last: the column by which the rows of a group follow each other, "
        "numbers or times in ISO 8601",
    )
    valid: tuple[str, ...] | float | date = 0.0
    test: tuple[str, ...] | float | date = 0.0
    embargo: int = Field(
        default=0, ge=0, description="days before valid and before test that belong to no split"
    )

    @model_validator(mode="after")
    def _fits(self) -> "SplitRule":
        if self.by == "hash":
            for name in ("valid", "test"):
                share = getattr(self, name)
                if not isinstance(share, float | int) or not 0 <= share < 1:
                    raise ValueError(
                        f"split by hash: {name} is a share between 0 and 1, not {share!r}"
                    )
            if self.valid + self.test >= 1:  # type: ignore[operator]
                raise ValueError(
                    f"split by hash: valid {self.valid} and test {self.test} add up to 1 or more, "
                    f"which leaves nothing to train on"
                )
        if self.by == "values" and not (
            isinstance(self.valid, tuple | float) and isinstance(self.test, tuple)
        ):
            raise ValueError(
                "split by values: test is a list of values, valid "
                "a list or a share of the other rows"
            )
        if self.by == "time":
            if not (
                isinstance(self.valid, date)
                and isinstance(self.test, date)
                and self.valid < self.test
            ):
                raise ValueError(
                    "split by time: valid and test are the days they begin, valid "
                    f"first, not {self.valid!s} and {self.test!s}"
                )
            if (self.test - self.valid).days <= self.embargo:
                raise ValueError(
                    f"split by time: an embargo of {self.embargo} days leaves "
                    f"nothing between {self.valid} and {self.test}"
                )
        if self.embargo and self.by != "time":
            raise ValueError(f"an embargo is for split by time, not by {self.by}")
        if self.by != "test" and not self.column:
            raise ValueError(f"split by {self.by} needs a column")
        return self

    @model_validator(mode="after")
    def _has_an_order(self) -> "SplitRule":
        if self.by == "last" and (not self.order or self.valid or self.test):
            raise ValueError(
                "split by last: the last row of each group is test and the one before it valid; "
                "give `order`, the column that orders them, and leave valid and test out"
            )
        if self.order and self.by != "last":
            raise ValueError(f"an order is for split by last, not by {self.by}")
        return self


class Split(Strict):
    rules: tuple[SplitRule, ...] = Field(min_length=1)
    copies: Literal["inputs", "rows"] = Field(
        default="inputs",
        description="which rows are copies of each other: those of equal inputs, or `rows`, those "
        "whose target is equal too; for one question with many right answers, such as what a "
        "person will choose next",
    )
    near_duplicates: float = Field(
        default=0.8,
        ge=0.42,
        le=1,
        description="Jaccard similarity of word 3-grams from which on a train row is a copy "
        "of a test row; below .42 copies cannot be found",
    )
    ngram: int = Field(
        default=13,
        ge=0,
        description="words in a row that no train row may share with a test row of "
        "the same answer (Brown et al. 2020); twice as many letters "
        "where words are not spaced; 0: not looked at",
    )
