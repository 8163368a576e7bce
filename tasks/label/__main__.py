"""python -m tasks.label RECIPE: data/select/RECIPE to data/labels/RECIPE."""

import json
import logging
import sys
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from tasks.label import people
from tasks.label.voting import NOTHING, Votes, decided, figures
from tidemill import contract
from tidemill.engines import config
from tidemill.engines.config.schema import LabelPolicy, RecipeConfig
from tidemill.engines.dvc import graph
from tidemill.records import blobs, carried
from tidemill.records.reports import Decided, LabelReport, Unmatched
from tidemill.records.tables import EXAMPLES, ISSUES, LOST, WEIGHT, save
from tidemill.run import main
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import locked, swept, write_json

log = logging.getLogger(__name__)

NAMED = 20  # examples of answers without one that a report names
LEAST_WEIGHT = 0.01  # a doubtful example's weight: a batch of nothing else still has a mean


def label(name: str) -> None:
    recipe = config.recipe(name)
    out = paths.data("labels", name)
    with locked(paths.state("locks", f"label-{name}")):
        swept(out)
        documents = blobs.documents(name)
        documents = documents.sort_values("doc_id", kind="stable", ignore_index=True)
        process.progress(0, len(documents), "documents")
        examples = examined(recipe, documents)
        report, field, by_people = answered(name, examples, recipe.label)
        once(examples, documents, by_people)
        doubtful = doubted(examples, field, by_people, recipe.label, report)
        if field and (alike := alike_labels(examples, field)):
            report["alike"] = alike
        _save(name, out, documents, examples, doubtful, report, recipe.label)
        process.progress(len(documents), len(documents), "documents")


def examined(recipe: RecipeConfig, documents: pd.DataFrame) -> pd.DataFrame:
    """The application's examples, each with its id. Raises Refused where a row cannot be one."""
    examples = contract.application(recipe.application).label(documents, recipe.label.options())
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


def alike_labels(examples: pd.DataFrame, field: str) -> list[dict[str, int]]:
    """Answers that differ in spaces, case or Unicode form alone.

    Probably they are one answer, spelled in several ways.
    """
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for target in examples.loc[examples["dropped"].isna(), "target"]:
        answer = json.loads(target).get(field)
        if isinstance(answer, str):
            folded = unicodedata.normalize("NFKC", answer).casefold()
            spellings["".join(folded.split())][answer] += 1
    alike = [dict(sorted(counts.items())) for counts in spellings.values() if len(counts) > 1]
    for counts in alike:
        words = ", ".join(f"{answer!r} ({count:,})" for answer, count in counts.items())
        log.warning("labels that differ in spaces, case or Unicode form alone: %s", words)
    return alike


def _save(
    name: str,
    out: Path,
    documents: pd.DataFrame,
    examples: pd.DataFrame,
    doubtful: pd.DataFrame,
    report: LabelReport,
    policy: LabelPolicy,
) -> None:
    """Write the tables and the report. Raises Refused where no example is left."""
    lost = examples[examples["dropped"].notna()].assign(reason=lambda frame: frame["dropped"])
    kept = examples[examples["dropped"].isna()]
    if kept.empty:
        raise Refused(_nothing_left(name, lost))
    places = documents[["doc_id", "source", "part", "original", "blob"]]
    wide = blobs.stripped(kept.merge(places, on="doc_id", how="left", validate="many_to_one"))
    wide = wide.sort_values("example_id", kind="stable", ignore_index=True)
    lost = lost.sort_values("example_id", kind="stable", ignore_index=True)
    schema = EXAMPLES
    if policy.issues == "weight":
        schema = EXAMPLES.append(WEIGHT)
        report["issues"]["weighted"] = int((wide[WEIGHT.name] < 1).sum())
    for file, frame, columns in (
        ("examples", wide, schema),
        ("dropped", lost, LOST),
        ("issues", doubtful, ISSUES),
    ):
        table = pa.Table.from_pandas(frame[columns.names], schema=columns, preserve_index=False)
        save(out / f"{file}.parquet", table, columns)
    counts = {
        "agreed": int((wide["confidence"] >= 0.999).sum()),
        "targets": int(wide["target"].nunique()),
    }
    reasons = lost["reason"].value_counts().sort_index()
    dropped = {str(reason): int(count) for reason, count in reasons.items()}
    whole: LabelReport = {"rows": len(wide), "dropped": dropped, "counts": counts, **report}
    write_json(out / "report.json", whole)


def _nothing_left(name: str, lost: pd.DataFrame) -> str:
    reasons = lost["reason"].value_counts().head(3)
    why = "; ".join(f"{count:,} x {reason}" for reason, count in reasons.items())
    return (
        f"recipe {name}: no example is left after label ({why}); correct `label` in "
        f"conf/recipe/{name}.yaml or the source's selector"
    )


def answered(
    name: str, examples: pd.DataFrame, policy: LabelPolicy
) -> tuple[LabelReport, str, dict[str, str]]:
    """Let the voters decide where that is asked for, then the people, who win. Changes `examples`.

    Gives the report, the answers' one field, and what people answered.
    """
    usable = examples[examples["dropped"].isna()]  # a row that was dropped may have no answer
    field = _label_field(name, usable)
    if not field:
        if policy.decide != "given" or policy.issues != "off" or people.answers(name):
            raise Refused(
                f"recipe {name}: label.decide, label.issues and people's labels are for answers "
                f"that are labels; leave them out"
            )
        return {}, "", {}
    _refuse_without(name, usable, field)
    given = [json.loads(item).get(field) or None for item in examples["target"]]
    by_people = people.answers(name)
    true = [by_people.get(example) for example in examples["example_id"]]
    votes = Votes(examples["votes"].tolist())
    report = _measured(votes, given, true, policy)
    if unmatched := sorted(set(by_people) - set(examples["example_id"])):
        report["unmatched"] = _unmatched(name, unmatched)
    names = ("target", "slices", "confidence", "votes", "dropped")
    columns = {column: examples[column].tolist() for column in names}
    if policy.decide == "votes":
        report["decided"] = _decide(columns, votes, true, field)
    for place, answer in enumerate(true):
        if answer is not None:
            _take(columns, place, field, answer)
    for column, values in columns.items():
        kind = examples[column].dtype if column == "confidence" else object
        examples[column] = pd.Series(values, index=examples.index, dtype=kind)
    return report, field, by_people


def _measured(
    votes: Votes, given: list[str | None], true: list[str | None], policy: LabelPolicy
) -> LabelReport:
    """What each voter is worth, by people's answers where there are enough of them."""
    count = sum(answer is not None for answer in true)
    enough = count >= policy.least_people
    measured_on = "people's labels" if enough else "the given labels"
    voters = figures(votes, given, true if enough else given, measured_on)
    return {"voters": voters, "people": count}


def _unmatched(name: str, examples: list[str]) -> Unmatched:
    """Count and log the examples that people answered and that are not there today."""
    counts: Unmatched = {"answers": len(examples), "examples": examples[:NAMED]}
    log.warning("%s", people.unmatched(name, counts))
    return counts


def _label_field(name: str, usable: pd.DataFrame) -> str:
    """The one field of the answers; empty where they are no labels."""
    try:
        return people.field(usable, name) if len(usable) else ""
    except Refused:
        return ""


def _refuse_without(name: str, usable: pd.DataFrame, field: str) -> None:
    """Refuse rows whose target lacks the field that the others have. Raises Refused."""
    without = [
        place for place, item in enumerate(usable["target"]) if field not in json.loads(item)
    ]
    if without:
        row = usable.iloc[without[0]]
        raise Refused(
            f"recipe {name}: the target of {len(without):,} rows has no '{field}', first row "
            f"{row['example_id']} of document {row['doc_id']}: {row['target'][:60]}; "
            f"give it one in label or drop the row"
        )


def _decide(
    columns: dict[str, list[Any]], votes: Votes, true: list[str | None], field: str
) -> Decided:
    """Relabel every row by what its voters say; which way was taken, and how right each was."""
    way, answers, confidence, scores = decided(votes, true)
    for place, (answer, sure) in enumerate(zip(answers, confidence, strict=True)):
        if answer == NOTHING:
            columns["dropped"][place] = "no voter says anything of it"
        else:
            relabel(columns, place, field, votes.answers[answer], float(sure))
    return {"by": way, **scores}


def _take(columns: dict[str, list[Any]], place: int, field: str, answer: str) -> None:
    """A row's answer as people gave it."""
    votes = {**json.loads(columns["votes"][place]), "people": answer}
    columns["votes"][place] = json.dumps(votes, sort_keys=True, ensure_ascii=False)
    if answer == people.NONE:
        columns["dropped"][place] = "people say that it is none of these"
    else:
        relabel(columns, place, field, answer, 1.0)
        columns["dropped"][place] = None


def once(examples: pd.DataFrame, documents: pd.DataFrame, by_people: dict[str, str]) -> None:
    """Of examples of a source that ask the same with the same answer one stays.

    It is the first by id, or the one that people answered. Where all answers are the same, as in an
    application without a target, no question is asked twice: all stay.
    """
    if examples.loc[examples["dropped"].isna(), "target"].nunique() <= 1:
        return
    order = (
        examples[examples["dropped"].isna()]
        .merge(documents[["doc_id", "source"]], on="doc_id", how="left")
        .assign(place=np.flatnonzero(examples["dropped"].isna()))
    )
    order = order.assign(unanswered=~order["example_id"].isin(by_people))
    order = order.sort_values(["unanswered", "example_id"], kind="stable")
    twice = order["place"][order.duplicated(["source", "inputs", "target"])]
    examples.loc[examples.index[twice], "dropped"] = "its source asks this question twice"


def doubted(
    examples: pd.DataFrame,
    field: str,
    by_people: dict[str, str],
    policy: LabelPolicy,
    report: LabelReport,
) -> pd.DataFrame:
    """Doubt what looks wrong, by policy with a consequence.

    Changes `examples` and the report; gives the doubtful ones.
    """
    if policy.issues == "off":
        return pd.DataFrame({column: [] for column in ISSUES.names})
    from tasks.label.issues import issues

    judged = issues(
        examples[examples["dropped"].isna()].sort_values("example_id", kind="stable"), field
    )
    answered = judged["example_id"].isin(by_people).to_numpy(bool)  # by people: not doubted
    flagged = judged["issue"].to_numpy(bool) & ~answered
    report["issues"] = {"rows": len(judged), "doubtful": int(flagged.sum())}
    if policy.issues == "weight":
        quality = {
            example: round(max(float(value), LEAST_WEIGHT), 6)
            for example, value in zip(
                judged.loc[flagged, "example_id"], judged.loc[flagged, "quality"], strict=True
            )
        }
        examples[WEIGHT.name] = [quality.get(example, 1.0) for example in examples["example_id"]]
    if policy.issues == "drop":
        wrong = set(judged.loc[flagged, "example_id"])
        examples.loc[examples["example_id"].isin(wrong), "dropped"] = "its label is probably wrong"
    return judged[flagged]


def relabel(
    columns: dict[str, list[Any]], place: int, field: str, answer: str, confidence: float
) -> None:
    """Another answer for a row, and for the slice that is named after the answer."""
    columns["confidence"][place] = round(confidence, 4)
    if json.loads(columns["target"][place]).get(field) == answer:
        return
    columns["target"][place] = json.dumps({field: answer}, ensure_ascii=False)
    slices = json.loads(columns["slices"][place])
    if field in slices:
        columns["slices"][place] = json.dumps({**slices, field: answer}, sort_keys=True)


def step(name: str) -> None:
    label(name)
    if late := graph.unlisted(name, {*sys.modules}):
        raise Refused(
            f"labelling {name} needs {', '.join(late)}, on which label@{name} does not depend since"
            " it loads a network library; move what labels need to a module that loads none"
        )


if __name__ == "__main__":
    main.of_data(step, "recipe")
