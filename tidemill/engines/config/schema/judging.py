"""What a recipe is scored on, and the gates it must pass."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, FiniteFloat, field_validator, model_validator

from tidemill.contract import Metric
from tidemill.engines.config.schema.base import Strict

FEWEST_REQUESTS = 59  # .95^59 is under .05: of fewer, not even the slowest need lie above p95


class Anchor(Strict):
    """A version of earlier nights that is scored again beside the champion.

    A night may be worse than the champion by a margin; ten nights may not be worse by ten.
    """

    days: int = Field(
        default=0,
        ge=0,
        description="it is the best one that was live within so many days; 0: ever",
    )
    margins: FiniteFloat = Field(
        default=1.25,
        ge=1,
        le=2,
        description=(
            "how many margins of a `no_worse` against the champion tonight's model may be worse "
            "than the anchor; the gate is then asked of both"
        ),
    )


class GoldenRow(Strict):
    """A question and the answer that no version may get wrong."""

    inputs: dict[str, Any] = Field(min_length=1)
    answer: dict[str, Any] = Field(min_length=1)


class Score(Strict):
    resamples: int = Field(default=10_000, ge=100, le=100_000)
    slices: tuple[str, ...] = ()
    min_rows: int = Field(
        default=100,
        ge=1,
        description="a slice with fewer is pooled with other small ones, and reported",
    )
    min_units: int = Field(
        default=6,
        ge=6,
        description=(
            "effective units; with fewer nothing is claimed: 2^5 ways of swapping cannot give a "
            "p-value of .03"
        ),
    )
    few_units: int = Field(
        default=200,
        ge=30,
        description=(
            "effective units; with fewer, the exact permutation test and the jackknife must "
            "agree with the reweighting"
        ),
    )
    tail_rows: int = Field(
        default=600,
        ge=1,
        description=(
            "rows that a claim needs about a metric whose range is not declared; 600 show a "
            "disaster in one row of 200 nineteen times of twenty, and fewer show less"
        ),
    )
    alpha: float = Field(
        default=0.05,
        gt=0,
        le=0.1,
        description=(
            "the chance that a claim of a gate is false, of all the candidates together that are "
            "tried on the same test rows until one goes live"
        ),
    )
    perturbed_rows: int = Field(
        default=2_000,
        ge=0,
        description="test rows that are asked again with typos, noise and the like",
    )
    requests: int = Field(
        default=200,
        ge=0,
        description=(
            "single questions whose latency is measured, of candidate and champion in turn"
        ),
    )
    golden: tuple[GoldenRow, ...] = Field(
        default=(),
        description=(
            "questions that the gate `golden` asks; the lines of conf/golden/NAME.jsonl, if there "
            "is one"
        ),
    )
    batch_rows: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="test rows that are asked alone and in one batch, for the gate `batch`",
    )
    train_rows: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="training rows that the candidate is asked too, for the gate `gap`",
    )
    anchor: Anchor = Anchor()


# What a kind reads besides name, kind, action and why, and one of what it needs.
READS: dict[str, frozenset[str]] = {
    "limit": frozenset({"metric", "at_least", "at_most", "by", "required"}),
    "no_worse": frozenset({"metric", "against", "margin", "by", "required", "method"}),
    "better": frozenset({"metric", "against", "margin", "by", "required", "method"}),
    "sane": frozenset({"metric", "margin", "by", "required", "method"}),
    "flips": frozenset({"at_most", "by", "required"}),
    "robust": frozenset({"metric", "margin", "at_most"}),
    "calibrated": frozenset({"at_most", "by", "required"}),
    "fast": frozenset({"at_most", "margin"}),
    "small": frozenset({"metric", "at_most"}),
    "same": frozenset({"at_most"}),
    "clean": frozenset({"at_most"}),
    "drift": frozenset({"at_most"}),
    "golden": frozenset(),
    "batch": frozenset({"at_most"}),
    "gap": frozenset({"metric", "at_most"}),
    "fair": frozenset({"metric", "at_most", "by"}),
}


class Gate(Strict):
    """One question a candidate must answer."""

    name: str
    kind: Literal[
        "limit",
        "no_worse",
        "better",
        "flips",
        "robust",
        "calibrated",
        "fast",
        "small",
        "same",
        "clean",
        "drift",
        "sane",
        "golden",
        "batch",
        "gap",
        "fair",
    ]
    metric: str = ""
    against: Literal["champion", "baseline"] = "champion"
    margin: FiniteFloat = Field(default=0.0, ge=0)
    at_least: FiniteFloat | None = None
    at_most: FiniteFloat | None = None
    by: tuple[str, ...] = Field(
        default=(), description="slice columns, one or several: the gate is asked of each slice"
    )
    required: tuple[str, ...] = Field(default=(), description="slices that must be judged")
    method: Literal["resample", "diebold_mariano"] = Field(
        default="resample",
        description="diebold_mariano: units are times in order, whose errors may go together",
    )
    action: Literal["stop", "warn"] = Field(
        default="stop", description="warn: the finding is reported and decides nothing"
    )
    why: str

    @field_validator("by", mode="before")
    @classmethod
    def _columns(cls, by: Any) -> Any:
        return ((by,) if by else ()) if isinstance(by, str) else by

    @model_validator(mode="after")
    def _whole(self) -> "Gate":
        for problem in (self._missing(), self._unread(), self._shape()):
            if problem:
                raise ValueError(f"gate {self.name}: {problem}")
        return self

    def _missing(self) -> str:
        one = (self.at_least is None) != (self.at_most is None)
        if self.kind == "limit" and not one:
            return "limit needs at_least or at_most, one of them"
        measured_alone = ("small", "same", "clean", "drift", "batch")
        bounded = ("calibrated", "flips", "gap", "fair")
        if self.kind in (*measured_alone, *bounded) and self.at_most is None:
            return f"{self.kind} needs at_most"
        if self.kind == "fast" and self.at_most is None and not self.margin:
            return (
                "fast needs at_most (ms of one request, p95) or margin (a share of the champion's)"
            )
        measured = ("limit", "no_worse", "better", "sane", "robust", "gap", "fair")
        if self.kind in measured and not self.metric:
            return f"{self.kind} needs a metric"
        if self.kind == "fair" and not self.by:
            return "fair needs `by`, the slice columns whose values are the groups"
        return ""

    def _unread(self) -> str:
        """Fields that the kind does not read: whoever wrote them thinks that they do something."""
        always = {"name", "kind", "action", "why"}
        unread = sorted(
            name
            for name in self.model_fields_set - always - READS[self.kind]
            if getattr(self, name) != type(self).model_fields[name].default
        )
        reads = ", ".join(sorted(READS[self.kind]))
        reads = reads or "nothing but name, action and why"
        return f"{self.kind} does not read {', '.join(unread)}; it reads {reads}" if unread else ""

    def _shape(self) -> str:
        if self.required and not self.by:
            return "required names slices, and `by` names no column"
        if len(self.by) != len(set(self.by)):
            return "by names a column twice"
        if self.kind == "small" and self.metric not in ("", "memory"):
            return f"small reads metric: memory or none, and not '{self.metric}'"
        if self.kind == "robust" and self.at_most is not None and self.margin:
            return "robust reads at_most (a ceiling) or margin (beside the champion), not both"
        shares = ("calibrated", "flips", "clean", "batch")
        share = self.at_most if self.kind in shares else None
        if share is not None and not 0 <= share < 1:
            return f"at_most={share:g}: it is a share, between 0 and 1"
        return self._never_kept(share)

    def _never_kept(self, share: float | None) -> str:
        """Why no model can pass, whatever it answers; empty where one can."""
        if self.at_most is None:
            return ""
        if self.kind in ("gap", "fair", "robust") and self.at_most <= 0:
            return f"at_most={self.at_most:g}: no number of rows shows that there is no difference"
        if self.kind in ("calibrated", "flips") and share == 0:
            what = "an error of 0" if self.kind == "calibrated" else "that there is none"
            return f"at_most=0: no number of rows shows {what}"
        if self.kind in ("small", "fast") and self.at_most <= 0:
            return f"at_most={self.at_most:g}: no model is so {self.kind}"
        if self.kind in ("same", "drift") and self.at_most < 0:
            return f"at_most={self.at_most:g}: a difference is 0 or more"
        return ""


def unanswerable(gates: tuple[Gate, ...], score: Score) -> list[str]:
    """What is wrong with gates together, whatever the application: in words, for a person."""
    problems = []
    stopping = [gate for gate in gates if gate.action == "stop"]
    if not stopping:
        problems.append("every gate has action: warn, so none can stop a model; let one stop it")
    against = ("no_worse", "better", "flips")
    beside = [gate for gate in stopping if gate.kind in against and gate.against == "champion"]
    if stopping and not beside:
        problems.append(
            "no gate compares with the champion, so a night may make the live model worse; "
            "add a no_worse against it"
        )
    for gate in gates:
        unknown = [column for column in gate.by if column not in score.slices]
        if unknown:
            has = ", ".join(score.slices) or "none"
            columns = ", ".join(unknown)
            problems.append(
                f"gate {gate.name}: no slice column '{columns}'; score.slices has {has}"
            )
        if problem := _nothing_asked(gate, score):
            problems.append(f"gate {gate.name}: {problem}")
        if gate.kind == "fast" and gate.action == "stop" and score.requests < FEWEST_REQUESTS:
            problems.append(
                f"gate {gate.name}: score.requests={score.requests} gives p95 no upper end; "
                f"it takes {FEWEST_REQUESTS}"
            )
    return problems


def unread(gates: tuple[Gate, ...], score: Score) -> list[str]:
    """What is asked of the candidate by `score` and judged by no gate, in words for a person."""
    kinds = {gate.kind for gate in gates}
    asked = {
        "golden": (f"{len(score.golden)} golden rows", bool(score.golden)),
        "batch": (f"score.batch_rows={score.batch_rows}", bool(score.batch_rows)),
        "gap": (f"score.train_rows={score.train_rows}", bool(score.train_rows)),
    }
    return [
        f"{setting}: asked and judged by no gate; add one of kind {kind}, or leave it out"
        for kind, (setting, given) in asked.items()
        if given and kind not in kinds
    ]


def _nothing_asked(gate: Gate, score: Score) -> str:
    """Why a gate would have nothing to judge, empty where it has something."""
    if gate.kind == "golden" and not score.golden:
        return "there are no golden rows; write some in conf/golden/NAME.jsonl"
    if gate.kind == "batch" and score.batch_rows < 2:
        return f"score.batch_rows={score.batch_rows}: a batch has two rows at least; say 64"
    if gate.kind == "robust" and not score.perturbed_rows:
        return "score.perturbed_rows=0: no perturbed question is asked; say 2000"
    if gate.kind == "gap" and not score.train_rows:
        return "score.train_rows=0: no training row is asked; say 2000"
    return ""


def misread(gates: tuple[Gate, ...], metrics: Mapping[str, Metric]) -> list[str]:
    """What is wrong with gates for an application with these metrics: in words, for a person."""
    problems = []
    for gate in gates:
        if not gate.metric or gate.kind == "small":
            continue
        metric = metrics.get(gate.metric)
        if metric is None:
            has = ", ".join(metrics)
            problems.append(f"gate {gate.name}: no metric '{gate.metric}'; the recipe has {has}")
            continue
        problems += [
            f"gate {gate.name}: {problem}"
            for problem in (_outside(gate, metric), _wrong_side(gate, gates, metric))
            if problem
        ]
    return problems


def _outside(gate: Gate, metric: Metric) -> str:
    """A bound that no figure can break, or none can keep."""
    low, high = metric.low, metric.high
    span = f"{gate.metric} lies between {'?' if low is None else low:} and " + (
        "?" if high is None else f"{high}"
    )
    if low is not None and high is not None and gate.margin >= high - low:
        return f"margin={gate.margin:g} allows everything: {span}"
    if gate.kind in ("gap", "fair", "robust"):
        wide = low is not None and high is not None and (gate.at_most or 0.0) >= high - low
        return f"at_most={gate.at_most:g} allows everything: {span}" if wide else ""
    for name, bound in (("at_least", gate.at_least), ("at_most", gate.at_most)):
        if bound is None:
            continue
        if (low is not None and bound <= low) or (high is not None and bound >= high):
            return f"{name}={bound:g} asks nothing or too much: {span}"
    return ""


def _wrong_side(gate: Gate, gates: tuple[Gate, ...], metric: Metric) -> str:
    """A ceiling on what should be high, or a floor under what should be low.

    Together with a bound on the right side it is a band, and means something.
    """
    if gate.kind != "limit":
        return ""
    right, wrong = ("at_least", "at_most") if metric.better == "higher" else ("at_most", "at_least")
    if getattr(gate, wrong) is None:
        return ""
    band = any(
        other.kind == "limit" and other.metric == gate.metric and getattr(other, right) is not None
        for other in gates
    )
    if band:
        return ""
    return f"{wrong}={getattr(gate, wrong):g}, but {metric.better} is better; write {right}"
