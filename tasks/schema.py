"""What conf/ may say: the fields, their bounds, and the rules across them."""

import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.files import digest

DATA_HALF = ("sources", "select", "label", "split")
MODEL_HALF = ("model", "trainer", "sweep", "teach", "prune", "ensemble", "export", "score", "approval", "gates", "seed")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Package(Strict):
    """A pinned package, fetched by its own client."""

    index: Literal["pypi", "npm", "debian"]
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

    kind: Literal["page", "xpath", "gettext", "whole", "table", "json", "csv", "picture", "pixels", "idx", "audio"]
    name: str = Field(description="becomes the document's `kind`")
    each: str = Field(default="/*", description="xpath: the nodes that become documents")
    part: str = Field(default="''", description="xpath: what names a part within its page")
    text: str = Field(default=".", description="xpath: an expression; json: a dotted path; table: a column")
    language: str = Field(default="''", description="xpath: an expression; json: a dotted path; table: a column; gettext, whole, audio: an expression on the address whose first group is it")
    script: str = Field(default="''", description="xpath: an expression; json: a dotted path (ISO 15924)")
    original: str = Field(default="", description="gettext: an expression on a string's comment whose first group is the original; idx: one on the address")
    delimiter: str = Field(default=",", min_length=1, max_length=1, description="between a table's columns")
    namespaces: dict[str, str] = {}
    attributes: dict[str, str] = Field(default={}, description="xpath: name to expression; json: name to dotted path")
    group: str = Field(default="", description="csv: the column whose values name the documents; none: one document")
    columns: tuple[str, ...] = Field(default=(), description="csv: the columns that must be there and are kept, in this order; none: all")
    label: str = Field(default="", description="picture, audio: an expression on the address whose first group is the label")
    rate: int | None = Field(default=None, ge=4_000, le=192_000, description="audio: samples a second of what is kept; none: as it came")
    most_seconds: float = Field(default=60.0, gt=0, le=600, description="audio: a longer one is dropped")
    size: tuple[int, int] = Field(default=(1, 1), description="pixels: height and width of the pictures, one a row, their label last")
    labels: tuple[str, str] | None = Field(default=None, description="idx: what of the pictures' address to replace, and by what, for the labels' address")

    @model_validator(mode="after")
    def _fits(self) -> "Rule":
        if self.kind == "pixels" and not 4 <= self.size[0] * self.size[1] <= 4_000_000:
            raise ValueError(f"selector {self.name}: pixels needs size: [height, width], between 4 and 4,000,000 pixels")
        if self.kind == "json" and self.text == ".":
            raise ValueError(f"selector {self.name}: json needs text: the dotted path of what is read, as body.text")
        return self


class Clean(Strict):
    min_letters: int = Field(default=0, ge=0)
    max_chars: int = Field(default=100_000, ge=1)
    drop_untranslated: bool = False
    pii: bool | None = Field(default=None, description="mark e-mail addresses, numbers of people and keys; not said: where pages come from the web")
    timeout_s: float = Field(default=30.0, gt=0, description="of reading one record, and as much again for each further MB; then it is dropped with that reason")

    def marks_pii(self, kind: str) -> bool:
        return kind not in ("package", "files") if self.pii is None else self.pii


class Budget(Strict):
    """What one night at a source may cost; what is left waits for the next."""

    pages: int = Field(default=100_000, ge=1)
    host_pages: int = Field(default=20_000, ge=1)
    mb: float = Field(default=20_000, gt=0)
    host_mb: float = Field(default=4_000, gt=0)
    minutes: float = Field(default=240, gt=0)


class Api(Strict):
    """An API that answers JSON, in one page or many. Paths are dotted, as data.items."""

    url: str = Field(pattern="^https?://[^@]+$")
    records: str = Field(default="", description="path of the list of records in an answer; empty: the answer is the list")
    key: str = Field(min_length=1, description="path of what names a record for ever")
    pages: Literal["none", "page", "offset", "cursor", "link"] = Field(default="none", description="how the next page is named: by its number, by how many records are before it, by what the answer says, by its Link header")
    parameter: str = Field(default="", description="of the query, for the page, offset or cursor; empty: page, offset or cursor")
    first: int = Field(default=1, ge=0, description="page: the first one's number")
    cursor: str = Field(default="", description="cursor: path of the next cursor or address in an answer")
    size: int = Field(default=100, ge=1, description="records asked for in a page, where there is a size_parameter")
    size_parameter: str = Field(default="", description="of the query")
    max_pages: int = Field(default=10_000, ge=1, description="of a night")
    changed: str = Field(default="", description="path of when a record changed last: ISO 8601, or seconds since 1970")
    since: str = Field(default="", description="of the query: only records that changed since then are asked for; needs `changed`")
    lag_minutes: float = Field(default=60, ge=0, description="asked for again each night, for records that come late")
    deleted: str = Field(default="", description="path of what is true, or not null, where a record was taken back")
    headers: dict[str, str] = Field(default={}, description="sent with each request; $NAME stands for a variable of the environment, as in Authorization: Bearer $A_TOKEN")

    @model_validator(mode="after")
    def _fits(self) -> "Api":
        if self.since and not self.changed:
            raise ValueError("api.since needs api.changed, by which it knows what is new")
        if (self.pages == "cursor") != bool(self.cursor):
            raise ValueError("api.cursor belongs to pages: cursor, which needs it")
        bare = [name for name, value in self.headers.items() if re.search("auth|token|key|secret|cookie", name, re.IGNORECASE) and "$" not in value]
        if bare:
            raise ValueError(f"api.headers.{bare[0]} looks like a secret and is written out; say {bare[0]}: $A_TOKEN and put it into the environment")
        return self


class Source(Strict):
    """conf/source/NAME.yaml"""

    name: str
    kind: Literal["web", "feed", "api", "package", "files"]
    licence: str
    hosts: tuple[str, ...] = Field(default=(), description="web, feed: whose pages are taken; *.example.org also stands for what is under it")
    seeds: tuple[str, ...] = Field(default=(), description="web: pages and sitemaps (their last part begins with sitemap); feed: feeds")
    sitemaps: bool = Field(default=True, description="web: also those that robots.txt names")
    depth: int = Field(default=0, ge=0, le=100, description="how many links away from what is listed; 0: only what is listed")
    allow: tuple[str, ...] = Field(default=(), description="paths that are taken, in robots.txt's patterns; none: all")
    deny: tuple[str, ...] = Field(default=(), description="paths that are not, as /*?print=")
    media: tuple[str, ...] = Field(default=(), description="media types that are kept, as text/*; none: all")
    ports: tuple[int, ...] = Field(default=(80, 443), description="a mirror's own port is not asked")
    allow_loopback: bool = False
    delay_s: float = Field(default=1.0, ge=0)
    connections: int = Field(default=1, ge=1, le=16)
    revisit_days: tuple[float, float] = Field(default=(0.0, 30.0), description="a page is asked again between so many days, by how often it was found changed")
    budget: Budget = Budget()
    max_failed: float = Field(default=0.05, ge=0, le=1)
    mirror: Mirror | None = None
    package: Package | None = None
    api: Api | None = None
    path: str = Field(default="", description="files: a folder or one file, relative to the project or absolute; or a bucket, as s3://name/folder")
    members: str = "*"
    selector: tuple[Rule, ...] = Field(min_length=1)
    clean: Clean

    @model_validator(mode="after")
    def _whole(self) -> "Source":
        if self.kind in ("web", "feed") and not (self.seeds and self.hosts):
            raise ValueError(f"a {self.kind} source needs seeds and hosts")
        if not 0 <= self.revisit_days[0] <= self.revisit_days[1]:
            raise ValueError(f"revisit_days is [least, most], not {list(self.revisit_days)}")
        if (self.kind == "api") != (self.api is not None):
            raise ValueError("an api source needs `api`, and only such a one has it")
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


class Label(BaseModel):
    """How labels are decided and doubted; what else stands here is the recipe's own."""

    model_config = ConfigDict(extra="allow", frozen=True)
    decide: Literal["given", "votes"] = Field(default="given", description="votes: the voters' answers make the label, by majority or by Dawid and Skene's method, whichever is right more often where people said it")
    issues: Literal["off", "report", "drop"] = Field(default="off", description="labels that cleanlab finds doubtful: told, or their rows left out")
    least_people: int = Field(default=30, ge=1, description="people's labels from which on voters are measured against them; with fewer, against the given labels")

    def options(self) -> dict[str, Any]:
        """What is the recipe's own."""
        return dict(self.model_extra or {})


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
    near_duplicates: float = Field(default=0.8, gt=0, le=1, description="Jaccard similarity of word 3-grams from which on a train row is a copy of a test row")
    ngram: int = Field(default=13, ge=0, description="words in a row that no train row may share with a test row of the same answer (Brown et al. 2020); twice as many letters where words are not spaced; 0: not looked at")


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


class Teach(Strict):
    """Distillation (Hinton et al. 2015): the network learns from a teacher's probabilities as well as from the rows."""

    by: Literal["nobody", "champion", "ensemble"] = Field(default="nobody", description="champion: the live version; ensemble: several networks trained for it, their probabilities averaged")
    model: dict[str, Any] = Field(default={}, description="ensemble: what the teachers' fields are where they differ from the student's, as a larger width")
    members: int = Field(default=3, ge=1, le=16, description="ensemble: how many teachers")
    weight: float = Field(default=0.7, gt=0, le=1, description="of the teacher's part in the loss; the rows' own targets have the rest")
    temperature: float = Field(default=2.0, ge=1, le=20, description="by which both sides' logits are divided in the teacher's part")

    @model_validator(mode="after")
    def _fits(self) -> "Teach":
        if self.model and self.by != "ensemble":
            raise ValueError(f"teach.model is for teach.by=ensemble, teach.by is {self.by}")
        return self


class Prune(Strict):
    """Structured pruning: inner channels are taken out of the trained network, and it is trained on for a while."""

    fraction: float = Field(default=0.0, ge=0, le=0.95, description="of the inner channels of each block, those of the least weight; 0: none")
    epochs: int = Field(default=2, ge=0, description="of the training afterwards")
    rate: float = Field(default=0.3, gt=0, le=1, description="its learning rate, as a share of the recipe's `lr`")
    margin: float = Field(default=0.005, ge=0, description="of sweep.metric on validation rows; a pruned network that is worse by more is not taken")


class Ensemble(Strict):
    """Several networks in one artefact, the averages of their outputs its answers."""

    members: int = Field(default=1, ge=1, le=16, description="the sweep's best, each with a seed of its own; where it has fewer, the best again. 1: one network")


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

    batch: int = Field(default=16, ge=1, le=4096, description="questions the model is asked at once, at most")
    wait_ms: float = Field(default=0.0, ge=0, le=1000, description="how long a question waits for others to join it, while others are coming")
    queue: int = Field(default=256, ge=1, le=100_000, description="questions that may wait; more are answered 429")
    patience_ms: float = Field(default=10.0, ge=0, le=600_000, description="a question that finds the next batch full, and would wait longer than this, is answered 429")
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
    label: Label
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
        if self.ensemble.members > 1 and (self.prune.fraction or self.teach.by != "nobody"):
            raise ValueError("ensemble.members is for whole networks that learn from the rows; leave out prune and teach, or the ensemble")
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


class OptOut(Strict):
    """Whose no is heard, and what silence means."""

    heed: tuple[Literal["robots.txt", "content-usage", "content-signal", "tdm-reservation", "noai", "noimageai", "noindex", "rsl", "ai.txt"], ...] = (
        "robots.txt", "content-usage", "content-signal", "tdm-reservation", "noai", "noimageai", "noindex", "rsl", "ai.txt")
    unknown: Literal["allowed", "refused"] = Field(default="allowed", description="of a page of which nothing says yes or no")


class Collect(Strict):
    user_agent: str
    contact: str | None
    timeout_s: float = Field(gt=0)
    attempts: int = Field(ge=1, le=10)
    max_page_mb: float = Field(gt=0)
    parallel: int = Field(default=64, ge=1, le=1024, description="requests at a time, all hosts together")
    per_address: int = Field(default=2, ge=1, le=64, description="requests at a time to one IP address, whatever hosts are on it")
    latency_factor: float = Field(default=2.0, ge=0, description="a host is asked again after so many times what it took to answer, where that is longer than delay_s")
    max_wait_minutes: float = Field(default=10.0, ge=0, description="a host that asks for more patience is left for the next night")
    give_up: int = Field(default=10, ge=1, description="failures of a host in a row after which it is left alone for the night")
    gone: int = Field(default=3, ge=1, description="nights in a row a page must answer 404 or 410 to leave the snapshot")
    same_shape: int = Field(default=1_000, ge=1, description="linked addresses that differ by their numbers alone, of one host; more is a trap")
    same_text: int = Field(default=20, ge=1, description="pages of one host with the same words; more is a soft 404")


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
    optout: OptOut = OptOut()
    step: Step
    approval: Approve
    night: NightLimits
    notices: Notices
    keep: Retention
    serve: Serving = Serving()
