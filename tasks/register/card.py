"""The model card, in Hugging Face's sections: rendered from what the registry keeps, byte for byte the same again."""

import json
from typing import Any

import yaml

from tidemill import contract
from tidemill.engines import config
from tidemill.engines.mlflow import registry, runs
from tidemill.records.receipts import Exported, Judged, Trained
from tidemill.run.plan import Plan
from tidemill.runtime.errors import Refused

FACTS = {
    "intended use": "Answering questions of the kind the test rows hold. Nobody has stated more than that.",
    "out of scope": "Decisions about people, unless a person checks each answer.",
    "limits": "It was judged on the slices below and on no others.",
    "risks": "It repeats what its sources say, errors and one-sidedness included; the worst slice below is where it errs most.",
}


def told(this: Plan, trained: Trained, exported: Exported, judged: Judged) -> dict[str, Any]:
    """All that the card says, as data; kept with the run as card.json."""
    application = contract.application(this.application)
    first = next(iter(application.metrics))
    return {
        "application": this.application,
        "summary": this.recipe.summary,
        "snapshot": this.snapshot,
        "key": this.key,
        "digest": exported.digest,
        "metric": first,
        "better": application.metrics[first].better,
        "definition": application.metrics[first].source,
        "facts": {**FACTS, **application.facts},
        "sources": [
            {"name": use.name, "role": use.role, "licence": config.source(use.name).licence}
            for use in this.recipe.sources
        ],
        "model": trained.model,
        "seed": this.recipe.seed,
        "trainer": this.recipe.trainer.model_dump(mode="json"),
        "steps": trained.steps,
        "files": exported.files,
        "mb": round(exported.bytes / 1e6, 2),
        "verdict": judged.verdict,
        "because": judged.because,
        "notes": judged.notes,
        "alpha": this.recipe.score.alpha,
        "table": judged.table,
        "findings": [item.model_dump(mode="json") for item in judged.findings],
    }


def render(card: dict[str, Any]) -> str:
    """The card as Markdown. `card` is what `told` gave, or what was read back from card.json."""
    whole = card["table"][0]
    name, facts = card["application"], card["facts"]
    head = {
        "tags": ["tidemill", name],
        "library_name": "onnx",
        "license": "other",
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": name},
                        "dataset": {
                            "name": f"{name} {card['snapshot'][:16]}, {row['slice']}",
                            "type": name,
                        },
                        "metrics": [
                            {
                                "type": card["metric"],
                                "value": row["candidate"],
                                "name": f"{card['metric']}, n = {row['rows']}",
                            }
                        ],
                    }
                    for row in card["table"]
                    if row.get("candidate") is not None
                ],
            }
        ],
    }
    share = f"{100 * (1 - 2 * card['alpha']):.0f} %"
    others = [
        key
        for key in whole
        if key not in ("slice", "rows", "units", "candidate", "low", "high")
        and not key.endswith(" rows")
    ]
    parts = [
        "---",
        yaml.safe_dump(head, sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        "",
        f"# {name}",
        "",
        card["summary"],
        "",
        "## Model Details",
        "",
        f"Package digest `{card['digest']}`, {card['mb']} MB: {', '.join(sorted(card['files']))}. Made by run `{card['key'][:16]}`.",
        "",
        *_pairs(card["model"]),
        "",
        "## Uses",
        "",
        facts["intended use"],
        "",
        "### Out-of-Scope Use",
        "",
        facts["out of scope"],
        "",
        "## Bias, Risks, and Limitations",
        "",
        facts["risks"],
        "",
        facts["limits"],
        "",
        *[f"- {note}" for note in card["notes"]],
        "",
        "## Training Details",
        "",
        "### Training Data",
        "",
        f"Snapshot `{card['snapshot']}`; `tidemill data restore {name}-{card['snapshot'][:16]} FOLDER` brings it back."
        + (f" {facts['data']}" if "data" in facts else ""),
        "",
        *[
            f"- {use['name']} ({'test only' if use['role'] == 'test' else 'train and test'}), licence {use['licence']}"
            for use in card["sources"]
        ],
        "",
        "### Training Procedure",
        "",
        f"{card['steps']} steps, seed {card['seed']}, trainer {card['trainer']['name']} ({card['trainer']['precision']}).",
        "",
        "## Evaluation",
        "",
        f"{card['metric']}, {card['better']} is better"
        + (f" ({card['definition']})" if card["definition"] else "")
        + f", with {share} intervals over units, on the test rows of the snapshot.",
        "",
        _line(["slice", "rows", "units", card["metric"], "interval", *others]),
        _line(["---"] * (5 + len(others))),
        *[
            _line(
                [
                    row["slice"],
                    row["rows"],
                    row["units"],
                    _number(row.get("candidate")),
                    _interval(row),
                    *(_number(row.get(other)) for other in others),
                ]
            )
            for row in card["table"]
        ],
        "",
        "### Results",
        "",
        f"**{card['verdict']}**: {card['because']}",
        "",
        _line(["gate", "of", "answer", "figure", "interval", "bound", "rows", "units"]),
        _line(["---"] * 8),
        *[
            _line(
                [
                    item["gate"],
                    item["slice"],
                    item["answer"],
                    _number(item["figure"]),
                    _interval(item),
                    _number(item["bound"]),
                    item["rows"],
                    item["units"],
                ]
            )
            for item in card["findings"]
        ],
        "",
        "## How to Get Started with the Model",
        "",
        f"    tidemill predict {name} INPUT",
        "",
    ]
    return "\n".join(parts)


def dumped(card: dict[str, Any]) -> str:
    return json.dumps(card, indent=1, ensure_ascii=False) + "\n"


def read(application: str, number: str = "") -> dict[str, Any]:
    """What the registry keeps of a version's card; of the champion where none is named."""
    found = number or registry.aliased(application)
    if found is None:
        raise Refused(f"{application} has no champion yet; run: tidemill run {application}")
    version = registry.version(application, found)
    if version is None:
        raise Refused(f"no version {found} of {application}; tidemill status lists what there is")
    return json.loads(runs.read_text(version["run_id"], "card.json"))


def _pairs(values: dict[str, Any]) -> list[str]:
    return [f"- {name}: {value}" for name, value in sorted(values.items())]


def _line(cells: list[Any]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _interval(row: dict[str, Any]) -> str:
    return "" if row.get("low") is None else f"[{row['low']:.6g}, {row['high']:.6g}]"
