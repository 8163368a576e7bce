"""What passes between steps: small frozen models of paths, digests and numbers.

A receipt can be printed. Whoever reads a file named in one re-hashes it with `File.open`.
"""

from typing import Any, Literal, NotRequired

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict

from tidemill.runtime.receipt import File, Receipt


class Collected(Receipt):
    source: str
    records: int
    fetched: int = 0
    unchanged: int = 0
    refused: int = 0
    failed: int = 0
    gone: int = 0
    bytes: int = 0
    raw: str  # digest of the raw manifest
    reasons: dict[str, int] = {}  # why something was refused or failed
    hosts: dict[str, dict[str, int]] = {}  # of the web: host to its counts, the busiest first
    waiting: dict[str, str] = {}  # hosts with pages left for the next night, and why


class Stage(Receipt):
    """A data stage: what came in, what was kept, and what was dropped, by reason."""

    stage: str
    name: str
    ran: bool
    rows: int
    dropped: dict[str, int]
    counts: dict[str, int] = {}


class DiffRow(TypedDict):
    """Examples of one source and language that are in one of two snapshots, or are other ones."""

    source: str
    language: str  # empty where the examples have none
    added: int
    changed: int
    gone: int
    moved: NotRequired[int]  # to another split; not known of older snapshots


class Snapshot(Receipt):
    recipe: str
    digest: str
    rows: dict[str, int]
    names: list[str]  # by which it can be restored
    pushed: bool
    changed: dict[str, int] = {}  # since the one before: examples of documents added, changed, gone
    by: list[DiffRow] = []  # the same by source and language
    notes: list[str] = []


class DataHalf(Receipt):
    """What came in, what each data stage kept of it, and under which name it lies."""

    collected: list[Collected]
    stages: list[Stage]
    snapshot: Snapshot


class RunReceipt(Receipt):
    """What a step of the model half leaves in its run's folder."""

    read: str = ""  # digest of what the step read: by it the receipt is known to hold

    def figures(self) -> dict[str, object]:
        """What it says, without how it is known."""
        return self.model_dump(exclude={"read"})


class Swept(RunReceipt):
    trials: int
    complete: int
    metric: str
    value: float | None
    params: dict[str, float | int | str | bool]
    pruned: int = 0
    failed: int = 0
    next: list[
        dict[str, float | int | str | bool]
    ] = []  # the parameters that came after the best, for an ensemble


class Trained(RunReceipt):
    weights: File
    model: dict[str, Any]  # the recipe's fields
    epochs: int
    steps: int
    metrics: dict[str, float]
    resumes: int = 0  # attempts that went on from a checkpoint
    start: str = "scratch"  # or what its first weights were
    before: dict[str, Any] = {}  # the fields it was trained with, where pruning changed them
    members: dict[str, File] = {}  # an ensemble's other weights
    fields: dict[str, dict[str, Any]] = {}  # and what these members' fields are


class Exported(RunReceipt):
    package: str
    digest: str
    files: dict[str, str]
    parity: float  # of the fp32 graph against torch
    bytes: int
    form: str = "fp32"  # the form of the graph that is in the package
    forms: list[
        dict[str, str | float]
    ] = []  # the forms that were measured, and why each was taken or not


class Baselines(RunReceipt):
    frames: dict[str, File]


class Reuse(BaseModel, frozen=True, extra="forbid"):
    """How often today's test rows were asked, today's candidate included."""

    tries: float = 1.0  # since today's champion went live; who was asked half of them counts half
    asked: int = 1  # candidates that were ever asked some of them


class Scored(RunReceipt):
    frames: dict[str, File]
    champion: str | None = None  # version that was scored beside the candidate
    anchor: str | None = None  # the best version of the ledger, where it is not the champion
    unclear: str = ""  # which version is live, where ledger and alias differ: nothing is promoted
    rows: int
    reuse: Reuse = Reuse()  # of the test rows
    skipped: dict[str, str] = {}  # models that could not be scored, and why
    golden: int = 0  # golden rows that were asked
    missed: list[str] = []  # of them, those whose answer was another one: in words
    batch: int = 0  # rows that were asked alone and in one batch
    batch_differs: int = 0  # of them, those whose answers differ
    latency: dict[str, dict[str, float]] = {}  # model to p50_ms, p95_ms, ... measured in turn
    drift: dict[
        str, float
    ] = {}  # today's training rows against the champion's: column to PSI, and "classifier" to AUC


Answer = Literal["pass", "fail", "unclear", "not applicable", "reported"]


class Finding(BaseModel):
    """What one gate found, of the whole or of one slice."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    gate: str
    kind: str
    slice: str
    metric: str
    answer: Answer
    figure: float | None
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    p: float | None = None  # of the claim a pass makes; corrected where several are made
    detectable: float | None = (
        None  # the smallest difference such a comparison finds four times in five
    )
    rows: int = 0
    units: int = 0
    required: bool = False
    reason: str


class Simpler(BaseModel, frozen=True):
    """The best simpler model on the test rows, and what the candidate gains over it there.

    The gain is the candidate's figure less the model's, paired by row; its interval is None where
    these rows carry none.
    """

    model: str
    figure: float
    gain: float
    low: float | None = None
    high: float | None = None


class Judged(RunReceipt):
    verdict: Literal["PROMOTE", "HOLD", "REJECT"]
    because: str
    findings: list[Finding]
    table: list[
        dict[str, str | int | float | None]
    ]  # every model, per domain: rows, metric, interval
    champion: str | None = None
    reuse: Reuse = Reuse()  # of the test rows
    simpler: Simpler | None = None
    notes: list[str] = []  # what a person should know and no gate decides


class Explained(RunReceipt):
    file: File
    rows: int


class Registered(RunReceipt):
    name: str
    version: str
    digest: str
    run_id: str
    page: str  # the path of the run's page in MLflow


class Predicted(Receipt):
    """What became of a file's rows."""

    application: str
    version: str
    digest: str
    rows: int
    answered: int
    resumed_at: int  # rows that an earlier run had answered
    first_error: str | None
    out: str


class AnsweredFile(Receipt):
    """A waiting file that was answered: by which version, and of which bytes."""

    fingerprint: str
    version: str
    digest: str
    columns: dict[str, str]


class AnsweredFiles(Receipt):
    """What became of the files that wait for an application's answers, each by its name."""

    application: str
    version: str  # "" where there is no champion yet, so that nothing was answered
    answered: dict[str, int]  # rows
    unchanged: int  # files that this version had answered
    refused: dict[str, str]  # why

    def in_words(self) -> str:
        """One line, which begins with Failed where a file was not answered."""
        if not self.version:
            return "no champion yet to answer the waiting files"
        words = (
            f"{len(self.answered):,} files answered ({sum(self.answered.values()):,} rows) by "
            f"version {self.version}, {self.unchanged:,} as before"
        )
        if not self.refused:
            return words
        name, why = next(iter(self.refused.items()))
        count = len(self.refused)
        return f"Failed: {count:,} files not answered, {name} first: {why}; {words}"


class Verified(Receipt):
    """A version that was trained again."""

    name: str
    version: str
    verdict: Literal["identical", "within tolerance", "different"]
    because: str
    wanted: str  # digest of the weights that were registered
    found: str  # of those that came out now
    metrics: dict[str, float]


class Promoted(Receipt):
    name: str
    version: str
    previous: str | None
    moved: bool


class Watched(Receipt):
    """What was seen of a champion's served questions."""

    application: str
    version: str
    rows: int
    because: str
    alarm: bool = False
    drift: dict[str, float] = {}  # noted column to its PSI against the test rows
    labelled: int = 0  # served rows whose labels came in since
    metric: str = ""
    figure: float | None = None  # of the metric, on those
    expected: float | None = None  # and on the test rows


class Started(Receipt):
    """That the watch started a retraining, on which day."""

    day: str
    because: str


class End(RunReceipt):
    """How a run ended, in a named state."""

    application: str
    state: Literal["Promoted", "Held", "Rejected", "Unchanged", "DryRun"]
    because: str
    key: str
    snapshot: str
    version: str | None = None
    run_id: str | None = None
    at: str


class RunSummary(End):
    """What `tidemill run --json` prints."""

    seconds: dict[str, float]  # of each step
    peak_mb: dict[str, int]  # of each step that ran in a child
