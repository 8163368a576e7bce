"""What a run's page in Prefect shows of the night: tables, words and links."""

import os

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from tidemill.engines.mlflow import client
from tidemill.records.receipts import Collected, Exported, Judged, Registered, Snapshot, Stage
from tidemill.runtime.escape import line, markdown

MARKS = {
    "pass": "✅ pass",
    "fail": "❌ fail",
    "unclear": "✋ not enough evidence",
    "reported": "reported",
    "not applicable": "not applicable",
}
ENDS = {"Promoted": "✅", "Held": "✋", "Rejected": "❌", "DryRun": "🧪"}  # of a run
NEXT = {
    "Held": "To let it out: the deployment `approve`, or `tidemill approve {application} --why "
    "...`; or let the next night bring more rows.",
    "Promoted": "To take it back: the deployment `rollback`, or `tidemill rollback {application} "
    "--why ...`.",
}  # what can be done after a run's end
QUERY = "workflowType=machine_learning"  # without it MLflow's pages open in another mode


def what_came_in(collected: list[Collected], stages: list[Stage], named: Snapshot) -> None:
    """The night's data: what each source brought, and what each step kept.

    Beside it, how the snapshot differs from the last one.
    """
    new = [
        {
            "step": f"collect {item.source}",
            "kept": item.records,
            "dropped": item.refused + item.failed,
            "why": "; ".join(
                [
                    f"{item.fetched} fetched, {item.unchanged} unchanged, {item.gone} gone",
                    *(f"{count} {line(why)}" for why, count in item.reasons.items()),
                ]
            ),
            "ran": "yes" if item.fetched or item.gone else "unchanged",
        }
        for item in collected
    ]
    rows = ", ".join(f"{count} {part}" for part, count in named.rows.items())
    create_table_artifact(
        key="what-came-in",
        description=f"Snapshot `{named.digest[:16]}`: {rows}. {changes(named)}",
        table=[
            *new,
            *(
                {
                    "step": f"{item.stage} {item.name}",
                    "kept": item.rows,
                    "dropped": sum(item.dropped.values()),
                    "why": "; ".join(f"{count} {line(why)}" for why, count in item.dropped.items()),
                    "ran": "yes" if item.ran else "unchanged",
                }
                for item in stages
            ),
        ],
    )


def sources(collected: list[Collected]) -> None:
    """The day's report of what was crawled: each host's counts, and every reason.

    Also what waits for the next night.
    """
    rows: list[dict[str, object]] = []
    for item in collected:
        for host, counts in item.hosts.items():
            rows.append(
                {
                    "source": item.source,
                    "host": line(host),
                    **{
                        name: counts.get(name, 0)
                        for name in ("fetched", "unchanged", "refused", "failed", "gone")
                    },
                    "MB": round(counts.get("bytes", 0) / 2**20, 2),
                    "waiting": line(item.waiting.get(host, "")),
                }
            )
        rows += [
            {"source": item.source, "host": "", "why": line(why), "count": count}
            for why, count in item.reasons.items()
        ]
    if rows:
        create_table_artifact(
            key="crawled",
            description="What each host gave, and why the rest did not come.",
            table=rows,
        )


def changes(named: Snapshot) -> str:
    """How a snapshot differs from the one before it, in words."""
    if not named.changed:
        return "It is the first one."
    if not any(named.changed.values()):
        return "It has the rows of the one before."
    return (
        "Since the one before: "
        + ", ".join(f"{count} {what}" for what, count in named.changed.items() if count)
        + "."
    )


def datasheet(words: str) -> None:
    """The datasheet of the run's data; its pictures are with the run in MLflow."""
    kept = "\n".join(line for line in words.splitlines() if not line.startswith("!["))
    create_markdown_artifact(
        key="datasheet",
        markdown=kept,
        description="What the data is made of. Pictures and the description in Croissant: "
        "the run in MLflow, artifacts, datasheet.",
    )


def forms(exported: Exported) -> None:
    """The forms of the network that were measured, as a table on the run page."""
    if exported.forms:
        create_table_artifact(
            key="forms",
            description=f"**{exported.form}** is what is judged and served.",
            table=[dict(row) for row in exported.forms],
        )


def gates(judged: Judged) -> None:
    """Every gate's finding, a line each."""
    create_table_artifact(
        key="gates",
        description=f"**{judged.verdict}**: {markdown(judged.because)}",
        table=[
            {
                "gate": item.gate,
                "of": line(item.slice),
                "answer": MARKS[item.answer],
                "figure": item.figure,
                "bound": item.bound,
                "interval": f"[{item.low}, {item.high}]" if item.low is not None else "",
                "rows": item.rows,
                "why": line(item.reason),
            }
            for item in judged.findings
        ],
    )


def pages_of_mlflow() -> str:
    """The address a browser finds MLflow at."""
    there = (
        client.uri() if client.uri().startswith("http") else "http://127.0.0.1:5000"
    )  # where `tidemill up` puts it, if it is free
    return os.environ.get("TIDEMILL_MLFLOW_PAGES") or there


def link(registered: Registered) -> None:
    """The way to the run in MLflow."""
    create_link_artifact(
        key="mlflow-run",
        link=f"{pages_of_mlflow()}{registered.page}",
        link_text=f"{registered.name} in MLflow",
        description="The run in MLflow; `tidemill up` serves it.",
    )


def verdict(
    application: str,
    state: str,
    judged: Judged,
    registered: Registered | None = None,
    person: str = "",
) -> None:
    """The verdict in words: what decided it, where to look and what can be done.

    `person` says who let it out, and why.
    """
    lines = [
        f"# {ENDS.get(state, '')} {application}: {state}",
        *([f"**{markdown(person)}**"] if person else []),
        f"**{judged.verdict}**: {markdown(judged.because)}",
        counted(judged),
        *(f"> {markdown(note)}" for note in judged.notes),
        *(pages(application, registered) if registered else []),
    ]
    if state in NEXT:
        lines.append(NEXT[state].format(application=application))
    create_markdown_artifact(
        key="verdict", markdown="\n\n".join(lines), description=f"{application}: {state}"
    )


def counted(judged: Judged) -> str:
    """How many findings there are of each answer, and beside which champion."""
    counts = {answer: sum(item.answer == answer for item in judged.findings) for answer in MARKS}
    champion = (
        f"beside version {judged.champion}"
        if judged.champion
        else "without a champion to compare with"
    )
    return (
        f"{len(judged.findings)} findings: "
        + ", ".join(f"{count} {MARKS[answer]}" for answer, count in counts.items() if count)
        + f", {champion}. Candidates that were asked these test rows: {judged.reuse.asked}."
    )


def pages(application: str, registered: Registered) -> list[str]:
    """Links to the run, and to the version where one was registered."""
    base = pages_of_mlflow()
    links = [f"[The run in MLflow]({base}{registered.page})"]
    if registered.version:
        version = f"{application}/versions/{registered.version}"
        links.append(
            f"[Version {registered.version} of {application}]"
            f"({base}/?{QUERY}#/models/{version}?{QUERY})"
        )
    return links
