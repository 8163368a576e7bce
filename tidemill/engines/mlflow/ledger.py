"""The promotion ledger: MLflow keeps no history of aliases."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tidemill.engines.mlflow.client import connect, quick

LEDGER = "ledger."


def ledger(application: str) -> list[dict[str, Any]]:
    """What was live, since when and why, oldest first. Each entry holds the digest of the one
    before.
    """
    from tidemill.runtime.errors import Fault
    from tidemill.runtime.files import digest

    tags = _tags(application)
    entries, before = [], ""
    for name in sorted(name for name in tags if name.startswith(LEDGER)):
        entry = json.loads(tags[name])
        if entry["before"] != before:
            raise Fault(
                f"the ledger of {application} is broken at {name}: an entry was changed or removed"
            )
        before = digest(entry)
        entries.append(entry)
    return entries


def _tags(application: str) -> Mapping[str, str]:
    if registry := quick():
        return registry.tags(application) or {}
    from mlflow.exceptions import MlflowException

    try:
        return connect().get_registered_model(application).tags
    except MlflowException:
        return {}


def record(application: str, entry: Mapping[str, Any]) -> None:
    """Append to the ledger."""
    from tidemill.runtime.files import canonical, digest

    entries = ledger(application)
    whole = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **entry,
        "before": digest(entries[-1]) if entries else "",
    }
    name = f"{LEDGER}{len(entries) + 1:06d}"
    if registry := quick():
        registry.set_tag(application, name, canonical(whole))
    else:
        connect().set_registered_model_tag(application, name, canonical(whole))


def anchor(application: str, metric: str, better: str, days: int = 0) -> str | None:
    """The best version that was live within the last `days` days (0: ever); None where none was.

    "Best" is the figure of `metric` (`better`: "higher" or "lower") that it had when it was judged.
    It only chooses whom to score again on today's rows: no old figure is compared with a new one.
    Of versions without a figure the first is taken, since a slide begins there.
    """
    from datetime import timedelta

    since = datetime.now(UTC) - timedelta(days=days) if days else None
    versions = list(
        dict.fromkeys(
            str(entry["version"])
            for entry in ledger(application)
            if since is None or datetime.fromisoformat(entry["at"]) >= since
        )
    )
    figures = {version: _figure(application, version, metric) for version in versions}
    return best(figures, better)


def best(figures: Mapping[str, float | None], better: str) -> str | None:
    """The version with the best figure, the earliest of equal ones; the first where none has
    one.
    """
    sign = 1.0 if better == "higher" else -1.0
    known = {version: sign * value for version, value in figures.items() if value is not None}
    if not known:
        return next(iter(figures), None)
    return max(known, key=lambda version: known[version])


def _figure(application: str, version: str, metric: str) -> float | None:
    """A version's figure on the test rows it was judged on; None where none was logged."""
    from mlflow.exceptions import MlflowException

    from tidemill.engines.mlflow import registry, runs

    entry = registry.version(application, version)
    if entry is None or not entry["run_id"]:
        return None
    try:
        return runs.data(entry["run_id"]).metrics.get(f"test.{metric}.candidate")
    except MlflowException:
        return None
