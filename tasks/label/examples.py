"""Documents to examples, some documents at a time where the application allows it."""

import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.label import spool
from tasks.label.facts import ExampleFacts, facts_of, joined
from tidemill import contract
from tidemill.contract import LabelledInParts
from tidemill.engines.config.schema import RecipeConfig
from tidemill.engines.dvc import graph
from tidemill.records import blobs, carried
from tidemill.records.groups import Grouped, RowGroup
from tidemill.records.tables import DOCUMENTS
from tidemill.runtime.errors import Refused

PLACES = ("doc_id", "source", "part", "original", "blob")  # of its document, that an example has


@dataclass(frozen=True)
class DocumentPart:
    """Documents that one process labels, and the file that their examples go to."""

    groups: tuple[RowGroup, ...]
    spooled: Path

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.groups)


@dataclass(frozen=True)
class Labelling:
    """How documents become examples; `known` is the application's survey of all of them."""

    recipe: RecipeConfig
    columns: tuple[str, ...]
    ranges: int
    known: Any = None


def in_parts(recipe: RecipeConfig) -> LabelledInParts | None:
    """The application, where it can be asked for some documents at a time."""
    application = contract.application(recipe.application)
    return application if isinstance(application, LabelledInParts) else None


def parts_of(recipe: RecipeConfig, documents: Grouped, folder: Path) -> list[DocumentPart]:
    """A part for each row group, or one for all documents."""
    groups = [(group,) for group in documents.groups] if in_parts(recipe) else [documents.groups]
    return [DocumentPart(some, folder / f"{number}.arrow") for number, some in enumerate(groups)]


def labelling(recipe: RecipeConfig, documents: Grouped) -> Labelling:
    """What is known before documents are labelled."""
    application, known = in_parts(recipe), None
    if application and application.surveyed:
        columns = application.surveyed
        frames = (frame for group in documents.groups for frame in group.frames(columns))
        known = application.survey(frames, recipe.label.options())
    ranges = spool.ranges(documents.bytes)
    columns = tuple(name for name in documents.names if name in DOCUMENTS.names)
    return Labelling(recipe, columns, ranges, known)


def labelled(work: Labelling, part: DocumentPart) -> ExampleFacts:
    """Label a part's documents, spool the examples, and give what is kept in memory of them."""
    facts, spooled = [], []
    for documents in _frames(work, part):
        examples = examined(work.recipe, documents, work.known)
        places = documents[[*PLACES]]
        whole = examples.merge(places, on="doc_id", how="left", validate="many_to_one")
        if len(whole):
            facts.append(facts_of(whole))
            spooled.append(blobs.stripped(whole))
    if multiprocessing.parent_process():  # what it loads, the step's own process does not see
        refuse_unlisted(work.recipe.application)
    if not spooled:
        return joined([facts_of(pd.DataFrame(columns=[*spool.SPOOLED.names]))])
    spool.write(part.spooled, pd.concat(spooled, ignore_index=True), work.ranges)
    return joined(facts)


def refuse_unlisted(name: str) -> None:
    """Refuse what this process loaded to label, but the step does not depend on."""
    if late := graph.unlisted(name, {*sys.modules}):
        raise Refused(
            f"labelling {name} needs {', '.join(late)}, on which label@{name} does not depend since"
            " it loads a network library; move what labels need to a module that loads none"
        )


def _frames(work: Labelling, part: DocumentPart) -> Iterator[pd.DataFrame]:
    frames = (frame for group in part.groups for frame in group.frames(work.columns))
    if in_parts(work.recipe):
        yield from frames
        return
    documents = pd.concat([*frames], ignore_index=True)
    yield documents.sort_values("doc_id", kind="stable", ignore_index=True)


def examined(recipe: RecipeConfig, documents: pd.DataFrame, known: Any = None) -> pd.DataFrame:
    """The application's examples, each with its id. Raises Refused where a row cannot be one.

    `known` is its survey where these are some of its documents; None where they are all.
    """
    application, options = contract.application(recipe.application), recipe.label.options()
    if isinstance(application, LabelledInParts) and (known is not None or not application.surveyed):
        examples = application.label_some(documents, options, known)
    else:
        examples = application.label(documents, options)
    if "payload" not in examples:
        examples["payload"] = None
    usable = examples[examples["dropped"].isna()]
    for column in ("doc_id", "inputs", "target", "unit"):
        missing = usable.index[usable[column].isna()] if column in usable else usable.index
        if len(missing):
            document = usable["doc_id"][missing[0]]
            raise Refused(
                f"recipe {recipe.application}: label leaves {column} empty in {len(missing):,} "
                "rows, "
                f"first of document {document}; drop such rows with a reason, or fill it"
            )
    pairs = zip(examples["doc_id"], examples["inputs"], strict=True)
    examples.insert(0, "example_id", [carried.example_id(*pair) for pair in pairs])
    return examples


def without_rare(recipe: RecipeConfig, facts: ExampleFacts) -> None:
    """Drop examples of answers that are too few, where an application in parts says so."""
    application = in_parts(recipe)
    if application is None:
        return
    values, kept = facts.answers.values, facts.dropped < 0
    counts = Counter(facts.answer[kept & (facts.answer >= 0)].tolist())
    named = {values[place]: count for place, count in counts.items()}
    for answer, reason in application.few(named, recipe.label.options()).items():
        mine = kept & (facts.answer == facts.answers.number(answer))
        facts.dropped[mine] = facts.reasons.number(reason)


def starts(sizes: Sequence[int]) -> list[int]:
    """The number of the first example of each part."""
    return np.cumsum([0, *sizes[:-1]]).tolist()
