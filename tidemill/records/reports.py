"""What a data step says of itself beside its tables: data/labels/RECIPE/report.json."""

from typing import NotRequired, TypedDict


class VoterRow(TypedDict):
    """What one labelling function is worth; shares are of 1."""

    voter: str
    kind: str  # answers, or checks: it says yes or no to an answer
    coverage: float  # rows it votes on
    overlap: float  # rows that another votes on too
    conflict: float  # rows where another says otherwise
    accuracy: float | None  # None where no right answer is known
    rows: int  # whose right answer is known
    measured_on: str


class DoubtCounts(TypedDict):
    """How many labels are doubtful."""

    rows: int
    doubtful: int
    weighted: NotRequired[int]  # examples that count less in training


class Unmatched(TypedDict):
    """People's answers that find no example in today's data."""

    answers: int
    examples: list[str]  # the first ids


Decided = dict[str, str | float]
"""`by`: the way in which votes were decided; and how right each way was, by its name."""


class LabelReport(TypedDict, total=False):
    rows: int
    dropped: dict[str, int]  # by reason
    counts: dict[str, int]
    voters: list[VoterRow]  # this and the next where the answers are labels
    people: int  # examples that people answered
    unmatched: NotRequired[Unmatched]
    decided: Decided
    issues: DoubtCounts
    alike: list[dict[str, int]]  # spellings of what is probably one answer, with their rows
