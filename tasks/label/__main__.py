"""python -m tasks.label RECIPE: data/select/RECIPE to data/labels/RECIPE."""

import hashlib
import json
import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from tasks.label import people
from tasks.label.voting import NOTHING, Votes, decided, figures
from tidemill import contract
from tidemill.engines import config
from tidemill.engines.config.schema import Label
from tidemill.engines.dvc import graph
from tidemill.records.tables import EXAMPLES, ISSUES, LOST, WEIGHT, save
from tidemill.run import main
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Refused
from tidemill.runtime.files import locked, swept, write_json

LEAST_WEIGHT = 0.01  # a doubtful example's weight: a batch of nothing else still has a mean


def label(name: str) -> None:
    recipe = config.recipe(name)
    out = paths.data("labels", name)
    path = paths.data("select", name) / "documents.parquet"
    if not path.is_file():
        raise Refused(f"data/select/{name} has no documents; run python -m tasks.select {name}")
    with locked(paths.state("locks", f"label-{name}")):
        swept(out)
        documents = pd.read_parquet(path)
        process.progress(0, len(documents), "documents")
        examples = contract.application(name).label(documents, recipe.label.options())
        if "payload" not in examples:
            examples["payload"] = None
        # An example is known by its question and its document, so a changed label keeps its place in the split.
        keys = examples["doc_id"] + "\x1f" + examples["inputs"]
        examples.insert(
            0, "example_id", [hashlib.sha256(key.encode()).hexdigest()[:24] for key in keys]
        )
        told, field, said = answered(name, examples, recipe.label)
        once(examples, documents, said)
        doubtful = doubted(examples, field, said, recipe.label, told)
        lost = examples[examples["dropped"].notna()].assign(reason=lambda frame: frame["dropped"])
        kept = examples[examples["dropped"].isna()]
        if kept.empty:
            raise Refused(
                f"recipe {name}: no example is left after label; see data/labels/{name}/dropped.parquet for the reasons"
            )
        wide = kept.merge(
            documents[["doc_id", "source", "part", "original"]],
            on="doc_id",
            how="left",
            validate="many_to_one",
        )
        wide = wide.sort_values("example_id", kind="stable", ignore_index=True)
        lost = lost.sort_values("example_id", kind="stable", ignore_index=True)
        schema = EXAMPLES
        if recipe.label.issues == "weight":
            schema, told["issues"]["weighted"] = (
                EXAMPLES.append(WEIGHT),
                int((wide[WEIGHT.name] < 1).sum()),
            )
        save(
            out / "examples.parquet",
            pa.Table.from_pandas(wide[schema.names], schema=schema, preserve_index=False),
            schema,
        )
        save(
            out / "dropped.parquet",
            pa.Table.from_pandas(lost[LOST.names], schema=LOST, preserve_index=False),
            LOST,
        )
        save(
            out / "issues.parquet",
            pa.Table.from_pandas(doubtful[ISSUES.names], schema=ISSUES, preserve_index=False),
            ISSUES,
        )
        write_json(
            out / "report.json",
            {
                "rows": len(wide),
                "dropped": lost["reason"].value_counts().sort_index().to_dict(),
                "counts": {
                    "agreed": int((wide["confidence"] >= 0.999).sum()),
                    "targets": int(wide["target"].nunique()),
                },
                **told,
            },
        )
        process.progress(len(documents), len(documents), "documents")


def answered(
    name: str, examples: pd.DataFrame, policy: Label
) -> tuple[dict[str, Any], str, dict[str, str]]:
    """Let the voters decide where that is asked for, then the people, who win. Changes `examples`; gives the report, the answers' one field and what people said."""
    usable = examples[examples["dropped"].isna()]  # a row that was dropped may have no answer
    try:
        field = people.field(usable, name) if len(usable) else ""
    except Refused:
        field = ""
    if not field:
        if policy.decide != "given" or policy.issues != "off" or people.answers(name):
            raise Refused(
                f"recipe {name}: label.decide, label.issues and people's labels are for answers that are labels; leave them out"
            )
        return {}, "", {}
    given = [json.loads(item).get(field) or None for item in examples["target"]]
    said = people.answers(name)
    true = [said.get(example) for example in examples["example_id"]]
    votes = Votes(examples["votes"].tolist())
    by_people = sum(answer is not None for answer in true)
    measured_on = "people's labels" if by_people >= policy.least_people else "the given labels"
    told: dict[str, Any] = {
        "voters": figures(
            votes, given, true if by_people >= policy.least_people else given, measured_on
        ),
        "people": by_people,
    }
    columns = {
        column: examples[column].tolist()
        for column in ("target", "slices", "confidence", "votes", "dropped")
    }
    if policy.decide == "votes":
        way, answers, confidence, scores = decided(votes, true)
        told["decided"] = {"by": way, **scores}
        for place, (answer, sure) in enumerate(zip(answers, confidence, strict=True)):
            if answer == NOTHING:
                columns["dropped"][place] = "no voter says anything of it"
            else:
                relabel(columns, place, field, votes.answers[answer], float(sure))
    for place, answer in (
        (place, answer) for place, answer in enumerate(true) if answer is not None
    ):
        columns["votes"][place] = json.dumps(
            {**json.loads(columns["votes"][place]), "people": answer},
            sort_keys=True,
            ensure_ascii=False,
        )
        if answer == people.NONE:
            columns["dropped"][place] = "people say that it is none of these"
        else:
            relabel(columns, place, field, answer, 1.0)
            columns["dropped"][place] = None
    for column, values in columns.items():
        examples[column] = pd.Series(
            values,
            index=examples.index,
            dtype=examples[column].dtype if column == "confidence" else object,
        )
    return told, field, said


def once(examples: pd.DataFrame, documents: pd.DataFrame, said: dict[str, str]) -> None:
    """Of examples of a source that ask the same with the same answer one stays.

    It is the first, or the one that people answered. Where all answers are the same, as in an
    application without a target, no question is asked twice: all stay.
    """
    if examples.loc[examples["dropped"].isna(), "target"].nunique() <= 1:
        return
    order = (
        examples[examples["dropped"].isna()]
        .merge(documents[["doc_id", "source"]], on="doc_id", how="left")
        .assign(place=np.flatnonzero(examples["dropped"].isna()))
    )
    order = order.sort_values("example_id", key=lambda ids: ~ids.isin(said), kind="stable")
    twice = order["place"][order.duplicated(["source", "inputs", "target"])]
    examples.loc[examples.index[twice], "dropped"] = "its source asks this question twice"


def doubted(
    examples: pd.DataFrame, field: str, said: dict[str, str], policy: Label, told: dict[str, Any]
) -> pd.DataFrame:
    """Doubt what looks wrong, by policy with a consequence. Changes `examples` and the report; gives the doubtful ones."""
    if policy.issues == "off":
        return pd.DataFrame({column: [] for column in ISSUES.names})
    from tasks.label.issues import issues

    found = issues(
        examples[examples["dropped"].isna()].sort_values("example_id", kind="stable"), field
    )
    flagged = found["issue"].to_numpy(bool) & ~found["example_id"].isin(said).to_numpy(
        bool
    )  # what people said is not doubted
    told["issues"] = {"rows": len(found), "doubtful": int(flagged.sum())}
    if policy.issues == "weight":
        quality = {
            example: round(max(float(value), LEAST_WEIGHT), 6)
            for example, value in zip(
                found.loc[flagged, "example_id"], found.loc[flagged, "quality"], strict=True
            )
        }
        examples[WEIGHT.name] = [quality.get(example, 1.0) for example in examples["example_id"]]
    if policy.issues == "drop":
        wrong = set(found.loc[flagged, "example_id"])
        examples.loc[examples["example_id"].isin(wrong), "dropped"] = "its label is probably wrong"
    return found[flagged]


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
