"""What a run's page in Prefect shows of the night: tables, words and links."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from tasks import process, tracking
from tasks.receipts import Collected, Exported, Judged, Registered, Snapshot, Stage

MARKS = {"pass": "✅ pass", "fail": "❌ fail", "unclear": "✋ not enough evidence", "reported": "reported", "not applicable": "not applicable"}
QUERY = "workflowType=machine_learning"     # without it MLflow's pages open in another mode


def what_came_in(collected: list[Collected], stages: list[Stage], named: Snapshot) -> None:
    """The night's data: what each source brought, what each step kept, and how the snapshot differs from the last one."""
    new = [
        {"step": f"collect {item.source}", "kept": item.records, "dropped": item.refused + item.failed,
         "why": "; ".join([f"{item.fetched} fetched, {item.unchanged} unchanged, {item.gone} gone", *(f"{count} {why}" for why, count in item.reasons.items())]),
         "ran": "yes" if item.fetched or item.gone else "unchanged"}
        for item in collected
    ]
    create_table_artifact(
        key="what-came-in", description=f"Snapshot `{named.digest[:16]}`: {', '.join(f'{rows} {part}' for part, rows in named.rows.items())}. {changes(named)}",
        table=[*new, *(
            {"step": f"{item.stage} {item.name}", "kept": item.rows, "dropped": sum(item.dropped.values()),
             "why": "; ".join(f"{count} {why}" for why, count in item.dropped.items()), "ran": "yes" if item.ran else "unchanged"}
            for item in stages
        )],
    )


def sources(collected: list[Collected]) -> None:
    """The day's report of what was crawled: each host's counts, what waits for the next night, and every reason."""
    rows: list[dict[str, object]] = []
    for item in collected:
        for host, counts in item.hosts.items():
            rows.append({"source": item.source, "host": host, **{name: counts.get(name, 0) for name in ("fetched", "unchanged", "refused", "failed", "gone")},
                         "MB": round(counts.get("bytes", 0) / 2**20, 2), "waiting": item.waiting.get(host, "")})
        rows += [{"source": item.source, "host": "", "why": why, "count": count} for why, count in item.reasons.items()]
    if rows:
        create_table_artifact(key="crawled", description="What each host gave, and why the rest did not come.", table=rows)


PROGRESS_S = 5.0        # an artifact costs the server some 20 ms
_bars: dict[str, tuple[Any, float]] = {}


@contextmanager
def following() -> Iterator[None]:
    """While the block runs, long collects are followed on the run's page."""
    process.listeners.append(progress)
    try:
        yield
    finally:
        process.listeners.remove(progress)


def progress(step: str, event: dict[str, Any]) -> None:
    """A listener: how far a long collect is, as a progress artifact on the run's page. A short one leaves none."""
    if not step.startswith("collect "):
        return
    now, (bar, told) = time.monotonic(), _bars.get(step, (None, 0.0))
    if "done" not in event:
        if bar is None and event.get("began"):
            _bars[step] = (None, now)
        elif "ended" in event or "failed" in event:
            _bars.pop(step, None)
        return
    if now - told < PROGRESS_S:
        return
    share = min(100.0, 100.0 * float(event["done"]) / max(float(event.get("total") or 0), 1.0))
    words = f"{step}: {event['done']:,.0f} of {event.get('total') or 0:,.0f} {event.get('unit')}, " + ", ".join(
        f"{event[name]:,} {name}" for name in ("hosts", "fetched", "unchanged", "refused", "failed", "bytes") if name in event)
    waiting = "".join(f"\n- {site}: {why}" for site, why in (event.get("waiting") or {}).items())
    with suppress(Exception):       # a page that cannot be told holds no night up
        if bar is None:
            bar = create_progress_artifact(progress=share, key=step.replace(" ", "-").replace("_", "-").lower(), description=words + waiting)
        else:
            update_progress_artifact(artifact_id=bar, progress=share, description=words + waiting)
    _bars[step] = (bar, now)


def changes(named: Snapshot) -> str:
    """How a snapshot differs from the one before it, in words."""
    if not named.changed:
        return "It is the first one."
    if not any(named.changed.values()):
        return "It has the rows of the one before."
    return "Since the one before: " + ", ".join(f"{count} {what}" for what, count in named.changed.items() if count) + "."


def datasheet(words: str) -> None:
    """The datasheet of the run's data; its pictures are with the run in MLflow."""
    kept = "\n".join(line for line in words.splitlines() if not line.startswith("!["))
    create_markdown_artifact(key="datasheet", markdown=kept, description="What the data is made of. Pictures and the description in Croissant: the run in MLflow, artifacts, datasheet.")


def forms(exported: Exported) -> None:
    """The forms of the network that were measured, as a table on the run page."""
    if exported.forms:
        create_table_artifact(key="forms", description=f"**{exported.form}** is what is judged and served.", table=[dict(row) for row in exported.forms])


def gates(judged: Judged) -> None:
    """Every gate's finding, a line each."""
    create_table_artifact(
        key="gates", description=f"**{judged.verdict}**: {judged.because}",
        table=[{"gate": item.gate, "of": item.slice, "answer": MARKS[item.answer], "figure": item.figure, "bound": item.bound,
                "interval": f"[{item.low}, {item.high}]" if item.low is not None else "", "rows": item.rows, "why": item.reason} for item in judged.findings],
    )


def pages_of_mlflow() -> str:
    """The address a browser finds MLflow at."""
    there = tracking.uri() if tracking.uri().startswith("http") else "http://127.0.0.1:5000"      # where `tidemill up` puts it, if it is free
    return os.environ.get("TIDEMILL_MLFLOW_PAGES") or there


def link(registered: Registered) -> None:
    """The way to the run in MLflow."""
    create_link_artifact(key="mlflow-run", link=f"{pages_of_mlflow()}{registered.page}", link_text=f"{registered.name} in MLflow", description="The run in MLflow; `tidemill up` serves it.")


def verdict(application: str, state: str, judged: Judged, registered: Registered | None = None, person: str = "") -> None:
    """The verdict in words: what decided it (`person`: who let it out, and why), what a person should know, where to look and what can be done."""
    counts = {answer: sum(item.answer == answer for item in judged.findings) for answer in MARKS}
    lines = [
        f"# {application}: {state}", *([f"**{person}**"] if person else []), f"**{judged.verdict}**: {judged.because}",
        f"{len(judged.findings)} findings: " + ", ".join(f"{count} {MARKS[answer]}" for answer, count in counts.items() if count)
        + (f", beside version {judged.champion}" if judged.champion else ", without a champion to compare with") + f". These test rows were looked at {judged.looks} times.",
        *(f"> {note}" for note in judged.notes),
    ]
    if registered:
        base = pages_of_mlflow()
        lines.append(f"[The run in MLflow]({base}{registered.page})")
        if registered.version:
            lines.append(f"[Version {registered.version} of {application}]({base}/?{QUERY}#/models/{application}/versions/{registered.version}?{QUERY})")
    if state == "Held":
        lines.append(f"To let it out: the deployment `approve`, or `tidemill approve {application} --why ...`; or let the next night bring more rows.")
    if state == "Promoted":
        lines.append(f"To take it back: the deployment `rollback`, or `tidemill rollback {application} --why ...`.")
    create_markdown_artifact(key="verdict", markdown="\n\n".join(lines), description=f"{application}: {state}")
