"""Which version is live: the ledger says it, and the registry's alias should say the same.

An alias can be moved on MLflow's page, past every check. Where the two differ, the ledger's version
goes on being served and compared with, nothing is promoted, and a person decides.
"""

from dataclasses import dataclass

from tidemill.engines.mlflow import chain, ledger, registry
from tidemill.engines.mlflow.version import Model
from tidemill.runtime.errors import Fault

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class Live:
    """What is live of an application, and what a person has to know about it."""

    application: str
    version: str | None  # by the ledger; None where nothing is live
    alias: str | None  # what the registry's alias names
    challenger: str | None
    difference: str = ""  # how the two differ, with the remedy; empty where they agree
    unfinished: str = ""  # a promotion that was cut off, in words


def live(application: str) -> Live:
    """What is live, by the ledger and by the alias."""
    return compared(application, registry.model(application))


def all_live() -> dict[str, Live]:
    """The same of every application that the registry or this machine knows of."""
    models = registry.models()
    return {name: compared(name, model) for name, model in sorted(models.items())}


def compared(application: str, model: Model | None) -> Live:
    """What a model's alias and tags say. A ledger that is broken is a difference, not an error."""
    aliases = model.aliases if model else {}
    alias, challenger = aliases.get(CHAMPION), aliases.get(CHALLENGER)
    try:
        whole = ledger.read(application, model)
    except Fault as fault:
        before = ledger.seen(application)
        version = before.live if before else None
        return Live(application, version, alias, challenger, difference=str(fault))
    pending = whole.pending
    if pending and alias == pending.version:  # moved, and only its head is missing
        return Live(application, alias, alias, challenger)
    difference = "" if alias == whole.version else _words(application, whole.version, alias)
    unfinished = _cut_off(pending) if pending else ""
    return Live(application, whole.version, alias, challenger, difference, unfinished)


def _words(application: str, version: str | None, alias: str | None) -> str:
    by_ledger = (
        f"version {version} of {application} is live"
        if version
        else (f"nothing of {application} was ever live")
    )
    by_alias = f"names version {alias}" if alias else "names none"
    return (
        f"the ledger says that {by_ledger}, and the registry's alias @{CHAMPION} {by_alias}; say "
        f"which is live with: tidemill rollback {application} --to {version or alias} --why REASON"
    )


def _cut_off(entry: chain.LedgerEntry) -> str:
    return (
        f"the promotion of version {entry.version} of {entry.application} at {entry.at} was cut "
        f"off before the alias moved; the same run finishes it, or: tidemill rollback "
        f"{entry.application} --to {entry.version} --why REASON"
    )
