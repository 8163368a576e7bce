"""The application in small; see tidemill/kit/drawn.py."""

from tidemill.families.ranker.drawn import FIELDS, splits
from tidemill.kit.drawn import RecipeYaml

__all__ = ["FIELDS", "small", "splits"]


def small(conf: RecipeYaml) -> None:
    conf["sweep"].update(trials=0)
    conf["score"].update(resamples=400, requests=60)
