"""How a recipe is trained: the trainer, the sweep, and what is done beside one plain training."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tidemill.engines.config.schema.base import Strict


class Trainer(Strict):
    """Lightning's Trainer: the hardware, how long, and by what rule.

    `recipe` leaves a choice to the recipe's network.
    """

    name: str = "cpu"
    accelerator: Literal["cpu", "gpu", "auto"]
    devices: int = Field(ge=1, description="of each machine")
    nodes: int = Field(
        default=1, ge=1, description="machines; on each, torchrun sets what tells them apart"
    )
    strategy: str
    precision: str
    deterministic: bool
    compile: bool = Field(
        default=False,
        description="torch.compile; needs a C++ compiler, and its first steps are slow",
    )
    max_epochs: int = Field(ge=0)
    budget_minutes: float | None = Field(
        default=None,
        gt=0,
        description="of training; then it ends properly with what it has. A trial of the sweep has "
        "the part of them that its steps are of all",
    )
    start: Literal["scratch", "champion"] = Field(
        default="scratch",
        description="champion: from the live version's weights, where the recipe allows it",
    )
    optimiser: Literal["recipe", "sgd", "adam", "adamw", "rmsprop", "adagrad"] = "recipe"
    lr: Literal["recipe", "auto"] | Annotated[float, Field(gt=0, le=10)] = Field(
        default="recipe", description="auto finds one by a range test (Smith 2017)"
    )
    momentum: float = Field(default=0.0, ge=0, lt=1, description="of sgd and rmsprop")
    l1: float = Field(
        default=0.0,
        ge=0,
        description="times the weights' absolute sum, added to the loss's gradient",
    )
    l2: float = Field(
        default=0.0,
        ge=0,
        description="weight decay of a named optimiser: decoupled in adamw "
        "(Loshchilov and Hutter 2019), in the gradient else",
    )
    schedule: Literal["constant", "linear", "cosine", "one_cycle"] = Field(
        default="cosine", description="of a named optimiser's rate, step by step"
    )
    warmup: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="share of the steps over which the rate rises from 0, "
        "before `schedule`; one_cycle has its own",
    )
    gradient_clip: float | None = Field(
        default=None, gt=0, description="largest norm of the gradient"
    )
    accumulate: int = Field(default=1, ge=1, description="batches whose gradients make one step")
    ema: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="decay a step of the weights' moving average, which is "
        "then what is validated and kept; 0: none",
    )
    validate_share: float = Field(
        default=1.0, gt=0, le=1, description="of an epoch, between two validations"
    )
    patience: int = Field(
        default=0,
        ge=0,
        description="validations without a better sweep.metric after which it stops; 0: never",
    )
    keep: Literal["last", "best"] = Field(
        default="last",
        description="the weights of the end, or those of the best validation by sweep.metric",
    )
    checkpoint_minutes: float = Field(
        default=1.0,
        ge=0,
        description="between two checkpoints, or longer where they would cost over 3 % of the time",
    )
    checkpoint_steps: int = Field(
        default=0,
        ge=0,
        description="steps between two checkpoints instead of minutes; 0: by minutes",
    )

    @model_validator(mode="after")
    def _fits(self) -> "Trainer":
        if self.momentum and self.optimiser not in ("sgd", "rmsprop"):
            raise ValueError(
                f"trainer.momentum is for sgd and rmsprop, trainer.optimiser is {self.optimiser}"
            )
        if self.l2 and self.optimiser == "recipe":
            raise ValueError(
                "trainer.l2 belongs to a named optimiser; say "
                "trainer.optimiser=adamw, or use the recipe's own field"
            )
        if self.optimiser == "recipe" and (self.schedule, self.warmup) != ("cosine", 0.05):
            raise ValueError(
                "trainer.schedule and trainer.warmup belong to a named optimiser; say "
                "trainer.optimiser=adamw, or use the recipe's own schedule"
            )
        return self


class Dimension(Strict):
    """One dimension of a sweep: a range, or choices."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    @model_validator(mode="after")
    def _one(self) -> "Dimension":
        if bool(self.choices) == (self.low is not None):
            raise ValueError("a dimension has choices, or low and high")
        if self.low is not None and (self.high is None or self.high <= self.low):
            raise ValueError(f"high must be above low, which is {self.low}")
        return self


class Sweep(Strict):
    """Trials, in this order.

    The champion's and the default parameters, earlier sweeps' best, a few quasi-random ones, then
    what TPE proposes.
    """

    trials: int = Field(ge=0)
    max_epochs: int = Field(default=1, ge=1, description="of a trial")
    rows: int = Field(default=0, ge=0, description="training rows of a trial; 0: all")
    share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="of an epoch's steps that a trial makes, in whole steps and at least one",
    )
    metric: str = Field(description="of validation: one of the recipe's `validation`")
    latency_ms: float = Field(
        default=0.0,
        ge=0,
        description="a second aim: the exported trial's time for its golden questions; the "
        "best of those within it is taken. 0: not measured",
    )
    space: dict[str, Dimension] = {}
    known: int = Field(
        default=2,
        ge=0,
        description="best trials of the application's last sweep that are "
        "tried again on other data, code or space",
    )
    quasi: int = Field(
        default=4, ge=0, description="quasi-random trials (Sobol) before TPE proposes"
    )
    rungs: int = Field(
        default=1,
        ge=1,
        description="validations in a trial; at each but the last, ASHA stops those "
        "outside the best 1/`reduction` (Li et al. 2020)",
    )
    reduction: int = Field(default=3, ge=2)
    finalists: int = Field(
        default=2, ge=1, description="best trials that are trained with more seeds"
    )
    seeds: int = Field(default=1, ge=1, description="trainings of a finalist; 1: the trial alone")
    workers: int = Field(
        default=1, ge=0, description="processes that take trials; 0: one for every two processors"
    )

    @model_validator(mode="after")
    def _fits(self) -> "Sweep":
        if self.trials and not self.space:
            raise ValueError(
                f"trials is {self.trials} and space is empty; name "
                "fields of model in space, or say trials: 0"
            )
        if self.latency_ms and self.rungs > 1:
            raise ValueError(
                "latency_ms and rungs do not go together: ASHA "
                "compares by one figure; leave one out"
            )
        return self


class Teach(Strict):
    """Distillation (Hinton et al. 2015).

    The network learns from a teacher's probabilities as well as from the rows.
    """

    by: Literal["nobody", "champion", "ensemble"] = Field(
        default="nobody",
        description="champion: the live version; ensemble: several networks "
        "trained for it, their probabilities averaged",
    )
    model: dict[str, Any] = Field(
        default={},
        description="ensemble: what the teachers' fields are where they "
        "differ from the student's, as a larger width",
    )
    members: int = Field(default=3, ge=1, le=16, description="ensemble: how many teachers")
    weight: float = Field(
        default=0.7,
        gt=0,
        le=1,
        description="of the teacher's part in the loss; the rows' own targets have the rest",
    )
    temperature: float = Field(
        default=2.0,
        ge=1,
        le=20,
        description="by which both sides' logits are divided in the teacher's part",
    )

    @model_validator(mode="after")
    def _fits(self) -> "Teach":
        if self.model and self.by != "ensemble":
            raise ValueError(f"teach.model is for teach.by=ensemble, teach.by is {self.by}")
        return self


class Prune(Strict):
    """Structured pruning.

    Inner channels are taken out of the trained network, and it is trained on for a while.
    """

    fraction: float = Field(
        default=0.0,
        ge=0,
        le=0.95,
        description="of the inner channels of each block, those of the least weight; 0: none",
    )
    epochs: int = Field(default=2, ge=0, description="of the training afterwards")
    rate: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="its learning rate, as a share of `trainer.lr` or the recipe's `lr`",
    )
    margin: float = Field(
        default=0.005,
        ge=0,
        description="of sweep.metric on validation rows; a pruned "
        "network that is worse by more is not taken",
    )


class Ensemble(Strict):
    """Several networks in one artefact, the averages of their outputs its answers."""

    members: int = Field(
        default=1,
        ge=1,
        le=16,
        description="the sweep's best, each with a seed of its own; where it "
        "has fewer, the best again. 1: one network",
    )
