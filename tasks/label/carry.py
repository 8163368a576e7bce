"""Carry over what was decided by former ids: people's answers, and which split a document is in."""

from dataclasses import replace

import pandas as pd

from tasks.label import people
from tasks.label.examples import examined
from tidemill.engines import config
from tidemill.records import blobs, carried
from tidemill.runtime.files import write


def carry(recipe: str) -> dict[str, int]:
    """Write data/people and data/carried anew where ids changed; how many answers and documents."""
    documents = blobs.documents(recipe)
    return {"answers": _answers(recipe, documents), "documents": _documents(recipe, documents)}


def _documents(recipe: str, documents: pd.DataFrame) -> int:
    new = carried.uncarried(recipe, [documents[["source", "doc_id"]]])
    if new:
        carried.write(recipe, {**carried.read(recipe), **new})
    return len(new)


def _answers(recipe: str, documents: pd.DataFrame) -> int:
    """Give answers the ids that their examples have today; how many changed."""
    given = people.newest(people.lines(recipe))
    if not given:
        return 0
    examples = examined(config.recipe(recipe), documents)
    unmatched = {answer.example_id for answer in given.values()} - set(examples["example_id"])
    source_of = dict(zip(documents["doc_id"], documents["source"], strict=True))
    former = carried.candidates((source, doc_id) for doc_id, source in source_of.items())
    today: dict[str, str] = {}
    columns = ("doc_id", "inputs", "example_id")
    for doc_id, inputs, example in zip(*(examples[name] for name in columns), strict=True):
        for each in former.get((source_of[doc_id], doc_id), ()):
            before = carried.example_id(each, inputs)
            if before in unmatched:
                today[before] = example
    moved = [
        replace(answer, example_id=today.get(answer.example_id, answer.example_id))
        for answer in given.values()
    ]
    if today:
        lines = (answer.line() for _, answer in sorted(people.newest(moved).items()))
        write(people.path(recipe), "".join(lines))
    return sum(answer.example_id in today for answer in given.values())
