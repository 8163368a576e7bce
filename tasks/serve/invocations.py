"""Questions in the form of MLflow's scoring protocol, as `mlflow models serve` takes them.

`{"dataframe_records": [{"text": "a"}]}`, `{"dataframe_split": {"columns": ["text"], "data":
[["a"]]}}`, `{"instances": [{"text": "a"}]}` or `{"inputs": [{"text": "a"}]}`; the answer is
`{"predictions": [...]}`, each as /predict gives it.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from tasks.serve.problem_json import Refusal, invalid
from tasks.serve.reading import refuse_duplicate_keys

Record = dict[str, Any]
# All problems of half a million items take seconds; the first is enough.
Records = Annotated[list[Record], Field(fail_fast=True)]
FORMS = ("dataframe_records", "dataframe_split", "instances", "inputs")


class SplitTable(BaseModel):
    """A table as pandas writes it with orient="split"."""

    model_config = ConfigDict(extra="forbid", strict=True)
    columns: Annotated[list[str], Field(min_length=1, fail_fast=True)]
    data: Annotated[list[list[Any]], Field(fail_fast=True)]
    index: list[Any] | None = None

    def records(self) -> list[Record]:
        if any(len(row) != len(self.columns) for row in self.data):
            raise Refusal(422, "dataframe_split: each row of data needs a value for each column")
        return [dict(zip(self.columns, row, strict=True)) for row in self.data]


class Invocation(BaseModel):
    """One of MLflow's forms; parameters of a model are not known here."""

    model_config = ConfigDict(extra="forbid", strict=True)
    dataframe_records: Records | None = None
    dataframe_split: SplitTable | None = None
    instances: Records | None = None
    inputs: Records | Record | None = None

    def records(self) -> list[Record]:
        if self.dataframe_split is not None:
            return self.dataframe_split.records()
        rows = self.dataframe_records or self.instances or self.inputs or []
        return [rows] if isinstance(rows, dict) else rows


def records(body: bytes) -> bytes:
    """A list of questions as JSON, of a body in MLflow's form. Raises Refusal."""
    try:
        invocation = Invocation.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise invalid(error, many=False) from None
    refuse_duplicate_keys(body)
    given = [name for name in FORMS if getattr(invocation, name) is not None]
    if len(given) != 1:
        raise Refusal(422, f"the body needs one of {', '.join(FORMS)}, and only one")
    return to_json(invocation.records(), inf_nan_mode="constants")
