"""What can be set of a ranker."""

from __future__ import annotations

from pydantic import Field

from tidemill.contract import Learner, Metric, Recipe, Splits
from tidemill.families.ranker.application import Ranking
from tidemill.families.ranker.catalogue import Weighting


class RankerRecipe(Recipe):
    """Hyperparameters of a linear autoencoder over histories (EASE, Steck 2019)."""

    application = Ranking
    validation = {
        "valid_ndcg": Metric(better="higher"),
        "valid_recall": Metric(better="higher"),
    }
    data_fields = frozenset({"least"})
    baseline_fields = frozenset({"least"})

    least: int = Field(
        default=5, ge=1, description="training users who must have rated an item of the catalogue"
    )
    l2: float = Field(default=200.0, gt=0, le=1e6, description="penalty of large weights")
    memory: float = Field(
        default=7.0,
        ge=0,
        le=1e6,
        description="seen items after which one's weight has fallen to 1/e; 0: all count alike",
    )
    floor: float = Field(default=0.1, ge=0, le=1, description="the weight of the oldest seen item")
    liked: float = Field(default=0.0, description="a rating from here on counts in full")
    disliked: float = Field(default=0.5, ge=0, le=1, description="what a lower rating counts")

    def weighting(self) -> Weighting:
        return Weighting(
            memory=self.memory, floor=self.floor, liked=self.liked, disliked=self.disliked
        )

    def learner(self, splits: Splits) -> Learner:
        from tidemill.families.ranker.learner import RankerLearner

        return RankerLearner(self, splits)
