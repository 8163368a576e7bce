"""What happens while a step works, as listeners hear of it: its start, progress and end.

A receipt is an event too: how data, verdict, promotion and run came out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tidemill.runtime.receipt import Receipt

Cell = str | float | bool | None


@dataclass(frozen=True)
class StepBegan:
    pass


@dataclass(frozen=True)
class StepEnded:
    receipt: object  # what the step gave, of most steps a `Receipt`
    wall_s: float


@dataclass(frozen=True)
class StepFailed:
    why: str
    wall_s: float


@dataclass(frozen=True)
class StepCost:
    """What a finished child cost: seconds, processor seconds, peak memory in MB."""

    wall_s: float
    cpu_s: float
    peak_mb: float


@dataclass(frozen=True)
class StepNote:
    """What a person should know of a step that ended well."""

    words: str


@dataclass(frozen=True)
class StepProgress:
    """How far a step is. Its further figures are named by the step, in the order of their names."""

    done: float
    total: float | None = None  # 0 or None where nobody knows
    unit: str = ""
    training: str | None = None  # which of a step's trainings tells this
    resumed: int | None = None  # the step of the checkpoint that a training resumes from
    figures: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, done: float, **named: Any) -> Self:
        own = {key: named.pop(key) for key in OWN if key in named}
        return cls(done, **own, figures=named)


OWN = ("total", "unit", "training", "resumed")


@dataclass(frozen=True)
class TrialRow:
    """A trial's row in the table of its sweep, or another state of it; the first cell names it."""

    cells: Mapping[str, Cell]


Event = StepBegan | StepEnded | StepFailed | StepCost | StepNote | StepProgress | TrialRow | Receipt
