"""The learning rate that `trainer.lr` asks for, in a trial as in the training."""

from collections.abc import Callable

from tidemill.contract import Learner, Rated, Recipe, Run
from tidemill.engines.config.schema import Trainer
from tidemill.runtime.errors import Refused


def resolved(
    recipe: Recipe, settings: Trainer, find: Callable[[], float]
) -> tuple[Recipe, Trainer]:
    """Fields and settings with the rate that is asked for; `find` gives it where it is `auto`."""
    if settings.lr == "recipe":
        return recipe, settings
    rate = find() if settings.lr == "auto" else settings.lr
    if isinstance(recipe, Rated):
        recipe = type(recipe)(**{**recipe.model_dump(), "lr": rate})
    return recipe, settings.model_copy(update={"lr": rate})


def by_range_test(learner: Learner, settings: Trainer, seed: int) -> float:
    """The rate of a range test. Refused where a learner is not trained step by step."""
    from tidemill.learners.lightning.loop import LightningLearner

    if not isinstance(learner, LightningLearner):
        raise Refused(
            f"trainer.lr=auto: a {type(learner).__name__} is not trained step by step; "
            "say trainer.lr=recipe"
        )
    return learner.find_rate(Run(settings, seed, 1, "range test"))
