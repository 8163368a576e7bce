"""The promotion ledger: MLflow keeps no history of aliases."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tidemill.engines.mlflow.client import connect, quick

LEDGER = "ledger."


def ledger(application: str) -> list[dict[str, Any]]:
    """What was live, since when and why, oldest first. Each entry holds the digest of the one before."""
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
