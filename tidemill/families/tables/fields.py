"""What can be set of a table's boosting."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tidemill.contract import Learner, Metric, Recipe, Splits
from tidemill.families.classifier import VALIDATION
from tidemill.families.tables.application import TableClassifier


class TableRecipe(Recipe):
    """Hyperparameters of boosted trees over a table, and how their answers are chosen."""

    application = TableClassifier
    validation = {**VALIDATION, "valid_auc": Metric(better="higher")}
    data_fields = frozenset({"positive"})
    baseline_fields = frozenset({"positive", "costs"})

    base: Literal["linear", "none"] = Field(
        default="linear",
        description="what the trees begin from: a logistic regression, whose errors they correct, "
        "or nothing",
    )
    rounds: int = Field(default=100, ge=1, le=10_000, description="trees, or trees a label")
    learning_rate: float = Field(default=0.05, gt=0, le=1)
    num_leaves: int = Field(default=7, ge=2, le=4096, description="of a tree")
    min_data_in_leaf: int = Field(default=10, ge=1, description="training rows of a leaf")
    lambda_l2: float = Field(default=1.0, ge=0, le=1000, description="penalty of large leaves")
    class_weight: Literal["none", "balanced"] = Field(
        default="none", description="balanced: each label weighs the same in training as a whole"
    )
    monotone: dict[str, Literal[-1, 1]] = Field(
        default={},
        description="columns of numbers with which the positive label's probability may only rise "
        "(1) or fall (-1)",
    )
    positive: str = Field(
        default="", description="the label that is looked for; none: the last by name"
    )
    costs: dict[str, float] = Field(
        default={},
        description="what missing a row of a label costs, 1 where nothing is said; the answer is "
        "the label of the least expected cost",
    )
    reasons: int = Field(
        default=3, ge=0, le=50, description="columns that an answer names as its reasons"
    )

    def learner(self, splits: Splits) -> Learner:
        from tidemill.families.tables.learner import TableLearner

        return TableLearner(self, splits)
