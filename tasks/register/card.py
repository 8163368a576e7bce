"""The model card, in Hugging Face's sections.

It is rendered from what the registry keeps, byte for byte the same again.
"""

import json
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from tidemill import contract
from tidemill.engines import config
from tidemill.engines.mlflow import registry, runs
from tidemill.engines.mlflow.client import Missing
from tidemill.engines.mlflow.live import live
from tidemill.records.receipts import Exported, Finding, Judged, Trained
from tidemill.run.plan import Plan
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.escape import line, markdown

Row = dict[str, str | int | float | None]
FACTS = {
    "intended use": (
        "Answering questions of the kind the test rows hold. Nobody has stated more than that."
    ),
    "out of scope": "Decisions about people, unless a person checks each answer.",
    "limits": "It was judged on the slices below and on no others.",
    "risks": (
        "It repeats what its sources say, errors and one-sidedness included; the worst slice below "
        "is where it errs most."
    ),
}
NO_MODELS = ("slice", "rows", "units", "candidate", "low", "high")  # columns that name no model
FINDING_COLUMNS = ("gate", "of", "answer", "figure", "interval", "bound", "rows", "units")


class Use(BaseModel, frozen=True):
    """A source, and what of it the model was made from."""

    name: str
    role: str
    licence: str | None


class Card(BaseModel, frozen=True):
    """All that the card says; kept with the run as card.json."""

    application: str
    summary: str
    snapshot: str
    key: str
    digest: str
    metric: str
    better: str
    definition: str | None
    facts: dict[str, str]
    sources: list[Use]
    model: dict[str, Any]
    seed: int
    trainer: dict[str, Any]
    steps: int
    shares: dict[str, float] = {}  # of what was trained on, where sources were mixed
    files: dict[str, str]
    mb: float
    verdict: str
    because: str
    notes: list[str]
    alpha: float
    table: list[Row]
    findings: list[Finding]


def described_by(this: Plan, trained: Trained, exported: Exported, judged: Judged) -> Card:
    """What there is to say of a candidate."""
    application = contract.application(this.application)
    metric = next(iter(application.metrics))
    return Card(
        application=this.application,
        summary=this.recipe.summary,
        snapshot=this.snapshot,
        key=this.key,
        digest=exported.digest,
        metric=metric,
        better=application.metrics[metric].better,
        definition=application.metrics[metric].source,
        facts={**FACTS, **application.facts},
        sources=[
            Use(name=use.name, role=use.role, licence=config.source(use.name).licence)
            for use in this.recipe.sources
        ],
        model=trained.model,
        seed=this.recipe.seed,
        trainer=this.recipe.trainer.model_dump(mode="json"),
        steps=trained.steps,
        shares={
            name.removeprefix(contract.SHARE): value
            for name, value in trained.metrics.items()
            if name.startswith(contract.SHARE)
        },
        files=exported.files,
        mb=round(exported.bytes / 1e6, 2),
        verdict=judged.verdict,
        because=judged.because,
        notes=judged.notes,
        alpha=this.recipe.score.alpha,
        table=judged.table,
        findings=judged.findings,
    )


def dumped(card: Card) -> str:
    """The card as JSON."""
    return json.dumps(card.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def read(application: str, number: str = "") -> Card:
    """What the registry keeps of a version's card; of the champion where none is named."""
    chosen = number or live(application).version
    if chosen is None:
        raise Refused(f"{application} has no champion yet; run: tidemill run {application}")
    version = registry.version(application, chosen)
    if version is None:
        raise Refused(f"no version {chosen} of {application}; tidemill status lists what there is")
    try:
        return Card.model_validate_json(runs.read_text(version.run_id, "card.json"))
    except Missing as missing:
        raise Fault(
            f"the card of {version.name} is gone from MLflow ({missing}); its package's own "
            f"card.md is what is left, under package/ of that run"
        ) from missing
    except ValidationError as error:
        raise Fault(
            f"the card of {version.name} was written by another version of Tidemill; read card.md "
            f"of that run in MLflow"
        ) from error


def render(card: Card) -> str:
    """The card as Markdown."""
    head = yaml.safe_dump(front_matter(card), sort_keys=False, allow_unicode=True).rstrip()
    lines = ["---", head, "---", "", f"# {card.application}", "", card.summary, ""]
    lines += [*details(card), *uses(card), *training(card), *evaluation(card), *results(card)]
    lines += ["## How to Get Started with the Model", ""]
    lines += [f"    tidemill predict {card.application} INPUT", ""]
    return "\n".join(lines)


def front_matter(card: Card) -> Mapping[str, object]:
    """The card's head, in the form of Hugging Face's model index."""
    results = [
        {
            "task": {"type": card.application},
            "dataset": {
                "name": f"{card.application} {card.snapshot[:16]}, {line(str(row['slice']))}",
                "type": card.application,
            },
            "metrics": [
                {
                    "type": card.metric,
                    "value": row["candidate"],
                    "name": f"{card.metric}, n = {row['rows']}",
                }
            ],
        }
        for row in card.table
        if row.get("candidate") is not None
    ]
    return {
        "tags": ["tidemill", card.application],
        "library_name": "onnx",
        "license": "other",
        "model-index": [{"name": card.application, "results": results}],
    }


def details(card: Card) -> list[str]:
    files = ", ".join(sorted(card.files))
    return [
        "## Model Details",
        "",
        f"Package digest `{card.digest}`, {card.mb} MB: {files}. Made by run `{card.key[:16]}`.",
        "",
        *[f"- {name}: {value}" for name, value in sorted(card.model.items())],
        "",
    ]


def uses(card: Card) -> list[str]:
    return [
        "## Uses",
        "",
        card.facts["intended use"],
        "",
        "### Out-of-Scope Use",
        "",
        card.facts["out of scope"],
        "",
        "## Bias, Risks, and Limitations",
        "",
        card.facts["risks"],
        "",
        card.facts["limits"],
        "",
        *[f"- {markdown(note)}" for note in card.notes],
        "",
    ]


def training(card: Card) -> list[str]:
    restore = f"tidemill data restore {card.application}-{card.snapshot[:16]} FOLDER"
    more = f" {card.facts['data']}" if "data" in card.facts else ""
    trainer = f"{card.trainer['name']} ({card.trainer['precision']})"
    sources = []
    for use in card.sources:
        part = "test only" if use.role == "test" else "train and test"
        sources.append(f"- {markdown(use.name)} ({part}), licence {markdown(str(use.licence))}")
    return [
        "## Training Details",
        "",
        "### Training Data",
        "",
        f"Snapshot `{card.snapshot}`; `{restore}` brings it back.{more}",
        "",
        *sources,
        "",
        "### Training Procedure",
        "",
        f"{card.steps} steps, seed {card.seed}, trainer {trainer}.",
        "",
        *mixed(card),
    ]


def mixed(card: Card) -> list[str]:
    """What each source was of the training, where they were mixed."""
    if not card.shares:
        return []
    shares = [f"{markdown(name)} {100 * share:.1f} %" for name, share in card.shares.items()]
    return [f"Of the last epoch's tokens: {', '.join(shares)}.", ""]


def evaluation(card: Card) -> list[str]:
    """Every model's figure on the whole and on each slice."""
    others = [
        name for name in card.table[0] if name not in NO_MODELS and not name.endswith(" rows")
    ]
    definition = f" ({card.definition})" if card.definition else ""
    share = f"{100 * (1 - 2 * card.alpha):.0f} %"
    return [
        "## Evaluation",
        "",
        f"{card.metric}, {card.better} is better{definition}, with {share} intervals over units, "
        f"on the test rows of the snapshot.",
        "",
        _line(["slice", "rows", "units", card.metric, "interval", *others]),
        _line(["---"] * (5 + len(others))),
        *[_line(_slice_cells(row, others)) for row in card.table],
        "",
    ]


def results(card: Card) -> list[str]:
    """The verdict and every gate's finding."""
    return [
        "### Results",
        "",
        f"**{card.verdict}**: {markdown(card.because)}",
        "",
        _line(list(FINDING_COLUMNS)),
        _line(["---"] * len(FINDING_COLUMNS)),
        *[_line(_finding_cells(item)) for item in card.findings],
        "",
    ]


def _slice_cells(row: Row, others: list[str]) -> list[object]:
    figures = [_number(row.get(other)) for other in others]
    interval = _interval(row.get("low"), row.get("high"))
    cells = [markdown(str(row["slice"])), row["rows"], row["units"], _number(row.get("candidate"))]
    return [*cells, interval, *figures]


def _finding_cells(item: Finding) -> list[object]:
    return [
        markdown(item.gate),
        markdown(item.slice),
        item.answer,
        _number(item.figure),
        _interval(item.low, item.high),
        _number(item.bound),
        item.rows,
        item.units,
    ]


def _line(cells: list[object] | list[str]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _number(value: str | float | None) -> str:
    return "" if value is None else f"{float(value):.6g}"


def _interval(low: str | float | None, high: str | float | None) -> str:
    return "" if low is None or high is None else f"[{float(low):.6g}, {float(high):.6g}]"
