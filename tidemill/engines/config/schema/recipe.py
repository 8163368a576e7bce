"""conf/recipe/NAME.yaml, whole: the fields, and the rules across them."""

from typing import Any

from pydantic import Field, field_validator, model_validator

from tidemill.engines.config.schema.base import Strict
from tidemill.engines.config.schema.data import LabelPolicy, Select, SourceUse, Split
from tidemill.engines.config.schema.general import Runtime, comes
from tidemill.engines.config.schema.judging import Gate, Score, unanswerable
from tidemill.engines.config.schema.serving import Export, Serve, WaitingFiles
from tidemill.engines.config.schema.training import Ensemble, Prune, Sweep, Teach, Trainer

DATA_HALF = ("sources", "select", "label", "split")
MODEL_HALF = (
    "model",
    "trainer",
    "sweep",
    "teach",
    "prune",
    "ensemble",
    "export",
    "score",
    "approval",
    "gates",
    "seed",
    "retrain_on_code",
)
TRAINING = ("model", "trainer", "sweep", "teach", "prune", "ensemble", "seed")


class RecipeConfig(Strict):
    """conf/recipe/NAME.yaml with config, trainer, runtime and overrides merged in."""

    application: str
    summary: str
    seed: int = Field(ge=0, le=2**32 - 1)
    sources: tuple[SourceUse, ...] = Field(min_length=1)
    select: Select
    label: LabelPolicy
    split: Split
    model: dict[str, Any] = {}
    trainer: Trainer
    runtime: Runtime
    sweep: Sweep
    teach: Teach = Teach()
    prune: Prune = Prune()
    ensemble: Ensemble = Ensemble()
    export: Export = Export()
    score: Score
    serve: Serve = Serve()
    answers: WaitingFiles | None = Field(
        default=None, description="files that wait for answers, which each night gives"
    )
    nightly: bool = Field(default=False, description="the clock retrains it")
    cron: str = "0 3 * * *"
    timezone: str = Field(default="UTC", description="of the cron; an IANA name, as Europe/Berlin")
    approval: bool = Field(
        default=False, description="a person lets each model out, also one that passed every gate"
    )
    gates: tuple[Gate, ...]
    retrain_on_code: bool = Field(
        default=False,
        description="train again when other code than the recipe's and "
        "its learner's changed, or a library",
    )

    @field_validator("gates")
    @classmethod
    def _gates(cls, gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
        if not gates:
            raise ValueError("no gates, no promotion: write at least one under `gates:`")
        names = [gate.name for gate in gates]
        if len(set(names)) < len(names):
            raise ValueError(
                "two gates share a name: "
                f"{', '.join(sorted(n for n in names if names.count(n) > 1))}"
            )
        return gates

    @model_validator(mode="after")
    def _agree(self) -> "RecipeConfig":
        if problems := unanswerable(self.gates, self.score):
            raise ValueError("; ".join(problems))
        if self.nightly:
            comes(self.cron, self.timezone)
        if self.trainer.lr != "recipe" and self.sweep.trials and "lr" in self.sweep.space:
            raise ValueError(
                f"trainer.lr is {self.trainer.lr} and sweep.space searches lr "
                "too; leave one out, as with sweep.trials=0"
            )
        if self.ensemble.members > 1 and (self.prune.fraction or self.teach.by != "nobody"):
            raise ValueError(
                "ensemble.members is for whole networks that learn from the "
                "rows; leave out prune and teach, or the ensemble"
            )
        used = {use.name for use in self.sources}
        ruled = {rule.source for rule in self.split.rules}
        if used != ruled:
            raise ValueError(
                f"split.rules must name each source once: {', '.join(sorted(used ^ ruled))}"
            )
        for use in self.sources:
            rule = next(r for r in self.split.rules if r.source == use.name)
            if (use.role == "test") != (rule.by == "test"):
                raise ValueError(
                    f"source {use.name} has role {use.role}, its split rule is {rule.by!r}"
                )
        return self

    def half(self) -> dict[str, object]:
        """The model half, resolved: all that a run may set."""
        whole = self.model_dump(mode="json")
        return {name: whole[name] for name in MODEL_HALF if name in whole}

    def training(self) -> dict[str, object]:
        """What the weights depend on besides data, code and start weights.

        Gates are no part of it.
        """
        whole = self.model_dump(mode="json")
        return {name: whole[name] for name in TRAINING}
