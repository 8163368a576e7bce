"""A row of what an application's `label` gives."""

from typing import NotRequired, TypedDict


class ExampleRow(TypedDict):
    doc_id: str
    inputs: str  # JSON of the application's Input
    target: str  # JSON of its Output
    confidence: float  # 0 to 1
    votes: str  # JSON: labelling function to vote
    unit: str  # what is resampled when two models are compared
    slices: str  # JSON: column to value
    payload: NotRequired[bytes | None]  # of a question about a picture or the like
    dropped: str | None  # why the row is none
