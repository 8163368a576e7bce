"""What conf/ may say: the fields, their bounds, and the rules across them."""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.files import digest

DATA_HALF = ("sources", "select", "label", "split")
MODEL_HALF = ("model", "trainer", "sweep", "export", "score", "approval", "gates", "seed")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Package(Strict):
    """A pinned package, fetched by its own client."""

    index: Literal["pypi", "debian"]
    name: str
    version: str
    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Mirror(Strict):
    """A loopback web server over a package's members."""

    host: str = Field(pattern=r"^[a-z0-9-]+\.localhost$")
    port: int = Field(default=0, ge=0, le=65535)
    members: str
    package: Package


class Rule(Strict):
    """How a stored page or member is cut into documents."""

    kind: Literal["page", "xpath", "gettext", "whole", "table", "csv", "picture", "pixels", "idx"]
    name: str = Field(description="becomes the document's `kind`")
    each: str = "/*"
    part: str = "''"
    text: str = "."
    language: str = "''"
    script: str = "''"
    original: str = ""
    delimiter: str = Field(default=",", min_length=1, max_length=1, description="between a table's columns")
    namespaces: dict[str, str] = {}
    attributes: dict[str, str] = {}
    group: str = Field(default="", description="csv: the column whose values name the documents; none: one document")
    columns: tuple[str, ...] = Field(default=(), description="csv: the columns that must be there and are kept, in this order; none: all")
    label: str = Field(default="", description="picture: an expression on the address whose first group is the label")
    size: tuple[int, int] = Field(default=(1, 1), description="pixels: height and width of the pictures, one a row, their label last")
    labels: tuple[str, str] | None = Field(default=None, description="idx: what of the pictures' address to replace, and by what, for the labels' address")

    @model_validator(mode="after")
    def _fits(self) -> "Rule":
        if self.kind == "pixels" and not 4 <= self.size[0] * self.size[1] <= 4_000_000:
            raise ValueError(f"selector {self.name}: pixels needs size: [height, width], between 4 and 4,000,000 pixels")
        return self


class Clean(Strict):
    min_letters: int = Field(default=0, ge=0)
    max_chars: int = Field(default=100_000, ge=1)
    drop_untranslated: bool = False
    pii: bool | None = Field(default=None, description="mark e-mail addresses, numbers of people and keys; not said: where pages come from the web")
    timeout_s: float = Field(default=30.0, gt=0, description="of reading one record, and as much again for each further MB; then it is dropped with that reason")

    def marks_pii(self, kind: str) -> bool:
        return kind not in ("package", "files") if self.pii is None else self.pii


class Source(Strict):
    """conf/source/NAME.yaml"""

    name: str
    kind: Literal["web", "package", "files"]
    licence: str
    hosts: tuple[str, ...] = ()
    seeds: tuple[str, ...] = ()
    allow_loopback: bool = False
    delay_s: float = Field(default=1.0, ge=0)
    connections: int = Field(default=1, ge=1, le=16)
    max_failed: float = Field(default=0.05, ge=0, le=1)
    mirror: Mirror | None = None
    package: Package | None = None
    path: str = Field(default="", description="files: a folder or one file; relative to the project, or absolute")
    members: str = "*"
    selector: tuple[Rule, ...] = Field(min_length=1)
    clean: Clean

    @model_validator(mode="after")
    def _whole(self) -> "Source":
        if self.kind == "web" and not self.seeds:
            raise ValueError("a web source needs seeds")
        if self.kind == "package" and self.package is None:
            raise ValueError("a package source needs a package")
        if (self.kind == "files") != bool(self.path):
            raise ValueError("a files source needs a path, the folder or file to read" if not self.path else f"path is for a files source, not for kind {self.kind}")
        if self.pages and len(self.selector) > 1:
            raise ValueError("a selector of kind page stands alone: what it takes is the whole page; put the other rules in a source of their own")
        return self

    @property
    def pages(self) -> bool:
        """Whether its documents are the main text of HTML pages."""
        return any(rule.kind == "page" for rule in self.selector)


class Use(Strict):
    """One source of a recipe."""

    name: str
    role: Literal["train", "test"] = "train"


class Select(Strict):
    """Which documents an application takes, and what counts as the same document twice."""

    kinds: tuple[str, ...] = Field(default=(), description="document kinds kept; none named: all")
    context: tuple[str, ...] = Field(default=(), description="kinds handed to label as context only")
    min_chars: int = Field(default=1, ge=0)
    twins_differ_by: tuple[str, ...] = Field(default=(), description="columns within which duplicates are sought")
    near_duplicates: float = Field(default=0.8, gt=0, le=1, description="Jaccard similarity of word 3-grams")
    quality: str = Field(default="", description="a policy of conf/quality; none: no document is left out for how it is written")


class Quality(Strict):
    """conf/quality/NAME.yaml: bounds of the signals of tasks/clean/quality.py, by language. A null bounds nothing."""

    source: str
    languages: dict[str, dict[str, tuple[float | None, float | None]]] = Field(min_length=1, description="by ISO 639-1")
    others: Literal["keep", "drop"] = Field(default="keep", description="texts in a language without bounds of its own; another's are never applied to them")


class SplitRule(Strict):
    """How the examples of one source are split; membership depends on the row alone."""

    source: str
    by: Literal["hash", "values", "time", "test"]
    column: str = ""
    valid: tuple[str, ...] | float | date = 0.0
    test: tuple[str, ...] | float | date = 0.0
    embargo: int = Field(default=0, ge=0, description="days before valid and before test that belong to no split")

    @model_validator(mode="after")
    def _fits(self) -> "SplitRule":
        if self.by == "hash":
            for name in ("valid", "test"):
                share = getattr(self, name)
                if not isinstance(share, float | int) or not 0 <= share < 1:
                    raise ValueError(f"split by hash: {name} is a share between 0 and 1, not {share!r}")
        if self.by == "values" and not (isinstance(self.valid, tuple | float) and isinstance(self.test, tuple)):
            raise ValueError("split by values: test is a list of values, valid a list or a share of the other rows")
        if self.by == "time":
            if not (isinstance(self.valid, date) and isinstance(self.test, date) and self.valid < self.test):
                raise ValueError(f"split by time: valid and test are the days they begin, valid first, not {self.valid!s} and {self.test!s}")
            if (self.test - self.valid).days <= self.embargo:
                raise ValueError(f"split by time: an embargo of {self.embargo} days leaves nothing between {self.valid} and {self.test}")
        if self.embargo and self.by != "time":
            raise ValueError(f"an embargo is for split by time, not by {self.by}")
        if self.by != "test" and not self.column:
            raise ValueError(f"split by {self.by} needs a column")
        return self


class Split(Strict):
    rules: tuple[SplitRule, ...] = Field(min_length=1)
    near_duplicates: float = Field(default=0.8, gt=0, le=1)


class Trainer(Strict):
    """Lightning's Trainer: the hardware, how long, and by what rule. `recipe` leaves a choice to the recipe's network."""

    name: str = "cpu"
    accelerator: Literal["cpu", "gpu", "auto"]
    devices: int = Field(ge=1, description="of each machine")
    nodes: int = Field(default=1, ge=1, description="machines; on each, torchrun sets what tells them apart")
    strategy: str
    precision: str
    deterministic: bool
    compile: bool = Field(default=False, description="torch.compile; needs a C++ compiler, and its first steps are slow")
    max_epochs: int = Field(ge=0)
    budget_minutes: float | None = Field(default=None, gt=0, description="of training; then it ends properly with what it has")
    start: Literal["scratch", "champion"] = Field(default="scratch", description="champion: from the live version's weights, where the recipe allows it")
    optimiser: Literal["recipe", "sgd", "adam", "adamw", "rmsprop", "adagrad"] = "recipe"
    lr: Literal["recipe", "auto"] | Annotated[float, Field(gt=0, le=10)] = Field(default="recipe", description="auto finds one by a range test (Smith 2017)")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="of sgd and rmsprop")
    l1: float = Field(default=0.0, ge=0, description="times the weights' absolute sum, added to the loss's gradient")
    l2: float = Field(default=0.0, ge=0, description="weight decay of a named optimiser: decoupled in adamw (Loshchilov and Hutter 2019), in the gradient else")
    schedule: Literal["constant", "linear", "cosine", "one_cycle"] = Field(default="cosine", description="of a named optimiser's rate, step by step")
    warmup: float = Field(default=0.05, ge=0, lt=1, description="share of the steps over which the rate rises from 0, before `schedule`; one_cycle has its own")
    gradient_clip: float | None = Field(default=None, gt=0, description="largest norm of the gradient")
    accumulate: int = Field(default=1, ge=1, description="batches whose gradients make one step")
    ema: float = Field(default=0.0, ge=0, lt=1, description="decay a step of the weights' moving average, which is then what is validated and kept; 0: none")
    validate_share: float = Field(default=1.0, gt=0, le=1, description="of an epoch, between two validations")
    patience: int = Field(default=0, ge=0, description="validations without a better sweep.metric after which it stops; 0: never")
    keep: Literal["last", "best"] = Field(default="last", description="the weights of the end, or those of the best validation by sweep.metric")
    checkpoint_minutes: float = Field(default=1.0, ge=0, description="between two checkpoints, or longer where they would cost over 3 % of the time")
    checkpoint_steps: int = Field(default=0, ge=0, description="steps between two checkpoints instead of minutes; 0: by minutes")

    @model_validator(mode="after")
    def _fits(self) -> "Trainer":
        if self.momentum and self.optimiser not in ("sgd", "rmsprop"):
            raise ValueError(f"trainer.momentum is for sgd and rmsprop, trainer.optimiser is {self.optimiser}")
        if self.l2 and self.optimiser == "recipe":
            raise ValueError("trainer.l2 belongs to a named optimiser; say trainer.optimiser=adamw, or use the recipe's own field")
        if self.optimiser == "recipe" and (self.schedule, self.warmup) != ("cosine", 0.05):
            raise ValueError("trainer.schedule and trainer.warmup belong to a named optimiser; say trainer.optimiser=adamw, or use the recipe's own schedule")
        return self


class Runtime(Strict):
    name: str = "local"
    kind: Literal["local"]
    processes: int = Field(default=0, ge=0, le=1024, description="that read records side by side in clean; 0: one for each processor")


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
    """Trials: the champion's and the default parameters, earlier sweeps' best, a few quasi-random ones, then what TPE proposes."""

    trials: int = Field(ge=0)
    max_epochs: int = Field(default=1, ge=1, description="of a trial")
    rows: int = Field(default=0, ge=0, description="training rows of a trial; 0: all")
    share: float = Field(default=1.0, gt=0, le=1, description="of an epoch's steps that a trial makes")
    metric: str = Field(description="of validation; higher is better")
    latency_ms: float = Field(default=0.0, ge=0, description="a second aim: the exported trial's time for its golden questions; the best of those within it is taken. 0: not measured")
    space: dict[str, Dimension] = {}
    known: int = Field(default=2, ge=0, description="best trials of the application's last sweep that are tried again on other data, code or space")
    quasi: int = Field(default=4, ge=0, description="quasi-random trials (Sobol) before TPE proposes")
    rungs: int = Field(default=1, ge=1, description="validations in a trial; at each but the last, ASHA stops those outside the best 1/`reduction` (Li et al. 2020)")
    reduction: int = Field(default=3, ge=2)
    finalists: int = Field(default=2, ge=1, description="best trials that are trained with more seeds")
    seeds: int = Field(default=1, ge=1, description="trainings of a finalist; 1: the trial alone")
    workers: int = Field(default=1, ge=0, description="processes that take trials; 0: one for every two processors")

    @model_validator(mode="after")
    def _fits(self) -> "Sweep":
        if self.trials and not self.space:
            raise ValueError(f"trials is {self.trials} and space is empty; name fields of model in space, or say trials: 0")
        if self.latency_ms and self.rungs > 1:
            raise ValueError("latency_ms and rungs do not go together: ASHA compares by one figure; leave one out")
        return self


class Score(Strict):
    resamples: int = Field(default=10_000, ge=100, le=100_000)
    slices: tuple[str, ...] = ()
    min_rows: int = Field(default=100, ge=1, description="a slice with fewer is pooled and reported")
    min_units: int = Field(default=6, ge=5, description="effective units; with fewer nothing is claimed: 2^4 ways of swapping cannot give a p-value of .05")
    few_units: int = Field(default=200, ge=0, description="effective units; with fewer, the exact permutation test and the jackknife answer instead of the bootstrap")
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    perturbed_rows: int = Field(default=2_000, ge=0, description="test rows that are asked again with typos, noise and the like")
    requests: int = Field(default=200, ge=0, description="single questions whose latency is measured, of candidate and champion in turn")


class Export(Strict):
    """Which forms of the exported network are tried; the one that is measured best is what is judged and served."""

    forms: tuple[Literal["int8-dynamic", "int8-static", "fp16"], ...] = Field(default=(), description="beside fp32; none: fp32 alone, and nothing is measured")
    metric: str = Field(default="", description="on validation rows; empty: the recipe's first")
    margin: float = Field(default=0.002, ge=0, description="of the metric; a form that is worse than fp32 by more is not taken")
    rows: int = Field(default=2_000, ge=1, description="validation rows the forms are compared on, at most")
    calibration: int = Field(default=200, ge=1, description="of these rows, from which int8-static takes the range of each activation")
    requests: int = Field(default=100, ge=5, description="single questions whose latency is measured, the forms in turn")
    gain: float = Field(default=0.1, ge=0, lt=1, description="a form must be this share faster than fp32, or smaller and not slower, to be taken")


class Serve(Strict):
    """How an application is served: read when the server starts, and part of no run's key."""

    batch: int = Field(default=32, ge=1, le=4096, description="questions the model is asked at once, at most")
    wait_ms: float = Field(default=2.0, ge=0, le=1000, description="how long a question waits for others to join it, while others are coming")
    queue: int = Field(default=256, ge=1, le=100_000, description="questions that may wait; more are answered 429")
    deadline_s: float = Field(default=10.0, gt=0, le=600, description="a question that waited longer is answered 503")
    max_body_mb: float = Field(default=1.0, gt=0, le=100)
    max_questions: int = Field(default=100, ge=1, le=10_000, description="in one request")
    challenger: Literal["off", "shadow", "canary"] = Field(default="off", description="shadow: @challenger is asked too and not shown; canary: it answers a share")
    share: float = Field(default=0.1, gt=0, le=1, description="of the questions that the challenger is asked, always the same ones")
    sample: float = Field(default=0.0, ge=0, le=1, description="share of the questions noted in data/served, as digests, lengths and scores")
    keep_text: bool = Field(default=False, description="note sampled questions and answers themselves too")
    drift: float = Field(default=0.25, gt=0, description="PSI of served questions against the test rows, above which the watch retrains")
    drop: float = Field(default=0.05, gt=0, description="of the first metric on served rows that were labelled since, below the test's figure, from which the watch retrains")
    watch_rows: int = Field(default=200, ge=20, description="served questions the watch needs to say anything")

    @model_validator(mode="after")
    def _fits(self) -> "Serve":
        if self.keep_text and not self.sample:
            raise ValueError("keep_text keeps nothing while sample is 0; say which share is sampled")
        return self


class Gate(Strict):
    """One question a candidate must answer."""

    name: str
    kind: Literal["limit", "no_worse", "better", "robust", "calibrated", "fast", "small", "same", "clean", "drift", "sane"]
    metric: str = ""
    against: Literal["champion", "baseline"] = "champion"
    margin: float = Field(default=0.0, ge=0)
    at_least: float | None = None
    at_most: float | None = None
    by: tuple[str, ...] = Field(default=(), description="slice columns, one or several: the gate is asked of each slice")
    required: tuple[str, ...] = Field(default=(), description="slices that must be judged")
    method: Literal["resample", "diebold_mariano"] = Field(default="resample", description="diebold_mariano: units are times in order, whose errors may go together")
    action: Literal["stop", "warn"] = Field(default="stop", description="warn: the finding is reported and decides nothing")
    why: str

    @field_validator("by", mode="before")
    @classmethod
    def _columns(cls, by: Any) -> Any:
        return ((by,) if by else ()) if isinstance(by, str) else by

    @model_validator(mode="after")
    def _whole(self) -> "Gate":
        one = (self.at_least is None) != (self.at_most is None)
        if self.kind in ("limit", "small", "same") and not one:
            raise ValueError(f"gate {self.name}: {self.kind} needs at_least or at_most, one of them")
        if self.kind in ("calibrated", "clean", "drift") and self.at_most is None:
            raise ValueError(f"gate {self.name}: {self.kind} needs at_most")
        if self.kind == "fast" and self.at_most is None and not self.margin:
            raise ValueError(f"gate {self.name}: fast needs at_most (ms of one request, p95) or margin (a share of the champion's)")
        if self.kind in ("limit", "no_worse", "better", "sane", "robust") and not self.metric:
            raise ValueError(f"gate {self.name}: {self.kind} needs a metric")
        if self.required and not self.by:
            raise ValueError(f"gate {self.name}: required names slices, and `by` names no column")
        if len(self.by) != len(set(self.by)):
            raise ValueError(f"gate {self.name}: by names a column twice")
        return self


def comes(cron: str, timezone: str) -> None:
    """Raise ValueError where a cron never fires, or its time zone does not exist."""
    from datetime import datetime
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from croniter import CroniterBadCronError, CroniterBadDateError, croniter

    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"timezone {timezone!r} does not exist; name one as Europe/Berlin or UTC") from error
    try:
        croniter(cron, datetime.now(zone), max_years_between_matches=5).get_next(datetime)
    except CroniterBadDateError as error:
        raise ValueError(f"cron {cron!r} never comes; 0 3 * * * is every night at three") from error
    except (CroniterBadCronError, ValueError, KeyError) as error:
        raise ValueError(f"cron {cron!r} is no cron ({error}); 0 3 * * * is every night at three") from error


class Recipe(Strict):
    """conf/recipe/NAME.yaml with config, trainer, runtime and overrides merged in."""

    application: str
    summary: str
    seed: int = Field(ge=0, le=2**32 - 1)
    sources: tuple[Use, ...] = Field(min_length=1)
    select: Select
    label: dict[str, Any]
    split: Split
    model: dict[str, Any] = {}
    trainer: Trainer
    runtime: Runtime
    sweep: Sweep
    export: Export = Export()
    score: Score
    serve: Serve = Serve()
    nightly: bool = Field(default=False, description="the clock retrains it")
    cron: str = "0 3 * * *"
    timezone: str = Field(default="UTC", description="of the cron; an IANA name, as Europe/Berlin")
    approval: bool = Field(default=False, description="a person lets each model out, also one that passed every gate")
    gates: tuple[Gate, ...]

    @field_validator("gates")
    @classmethod
    def _gates(cls, gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
        if not gates:
            raise ValueError("no gates, no promotion: write at least one under `gates:`")
        names = [gate.name for gate in gates]
        if len(set(names)) < len(names):
            raise ValueError(f"two gates share a name: {', '.join(sorted(n for n in names if names.count(n) > 1))}")
        return gates

    @model_validator(mode="after")
    def _agree(self) -> "Recipe":
        if self.nightly:
            comes(self.cron, self.timezone)
        if self.trainer.lr != "recipe" and self.sweep.trials and "lr" in self.sweep.space:
            raise ValueError(f"trainer.lr is {self.trainer.lr} and sweep.space searches lr too; leave one out, as with sweep.trials=0")
        used = {use.name for use in self.sources}
        ruled = {rule.source for rule in self.split.rules}
        if used != ruled:
            raise ValueError(f"split.rules must name each source once: {', '.join(sorted(used ^ ruled))}")
        for use in self.sources:
            rule = next(r for r in self.split.rules if r.source == use.name)
            if (use.role == "test") != (rule.by == "test"):
                raise ValueError(f"source {use.name} has role {use.role}, its split rule is {rule.by!r}")
        return self

    def half(self) -> dict[str, Any]:
        """The model half, resolved: what a run's key depends on besides data and code."""
        whole = self.model_dump(mode="json")
        return {name: whole[name] for name in MODEL_HALF if name in whole}

    def digest(self) -> str:
        return digest(self.half())


class Step(Strict):
    retries: int = Field(ge=0, le=10)
    retry_delay_s: tuple[float, ...]
    timeout_minutes: float = Field(gt=0)


class Collect(Strict):
    user_agent: str
    contact: str | None
    timeout_s: float = Field(gt=0)
    attempts: int = Field(ge=1, le=10)
    max_page_mb: float = Field(gt=0)


class Approve(Strict):
    timeout_minutes: float = Field(gt=0, description="how long a run that asks waits for a person's form")


class NightLimits(Strict):
    """What one night may cost; reaching a limit ends it properly."""

    minutes: float = Field(gt=0)
    price_per_hour: float = Field(ge=0, description="of this machine, in whatever money")
    price: float = Field(ge=0, description="of a night, in the same money; 0: no limit")
    disk_free_gb: float = Field(ge=0, description="must stay free")


class Notices(Strict):
    """Who is told, and of what."""

    blocks: tuple[str, ...] = Field(description="Prefect's notification blocks, as slack-webhook/team")
    tell: tuple[Literal["Promoted", "Held", "Rejected", "Unchanged", "DryRun", "Failed", "Overdue"], ...]
    no_night_hours: float = Field(gt=0)


class Serving(Strict):
    """The prediction server of `tidemill serve`."""

    host: str = Field(default="127.0.0.1", description="elsewhere than loopback only with TIDEMILL_TOKENS")
    port: int = Field(default=8000, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=64, description="processes that answer")
    poll_s: float = Field(default=5.0, ge=0.2, le=300, description="how often the registry is asked for another champion")
    head_s: float = Field(default=10.0, gt=0, description="in which a client must have sent its request's head, and in which it must take its answer")
    body_s: float = Field(default=20.0, gt=0, description="in which a client must have sent its body")
    connections: int = Field(default=1000, ge=1, description="open at once; more are closed")
    watch_cron: str = Field(default="15 */6 * * *", description="when served questions are looked at, in UTC, where a recipe samples them")


class Retention(Strict):
    """How long what is not needed stays; never anything a live version, the ledger or its lineage needs."""

    days: float = Field(ge=0)


class General(Strict):
    """conf/config.yaml"""

    seed: int
    collect: Collect
    step: Step
    approval: Approve
    night: NightLimits
    notices: Notices
    keep: Retention
    serve: Serving = Serving()
