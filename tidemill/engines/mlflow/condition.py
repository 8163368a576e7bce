"""What a person did on MLflow's pages, seen before anything is spent on it.

An experiment deleted, a model renamed, a version, a run or a folder of artifacts removed, an alias
moved: each is one line with its remedy.
"""

from dataclasses import dataclass

from tidemill.engines.mlflow import chain, client, ledger, registry, runs
from tidemill.engines.mlflow.client import Missing
from tidemill.engines.mlflow.live import Live, compared
from tidemill.engines.mlflow.packages import PACKAGE
from tidemill.engines.mlflow.version import Model, Version


@dataclass(frozen=True)
class Condition:
    """What is wrong in the registry with one application."""

    live: Live
    stops: str = ""  # nothing can be registered before this is mended
    holds: str = ""  # nothing is promoted before a person decides

    def lines(self) -> list[str]:
        """All that is to be told, the most important first."""
        return [line for line in (self.stops, self.holds, self.live.unfinished) if line]


def condition(application: str) -> Condition:
    """What is wrong with an application in the registry; empty where nothing is."""
    models = {} if client.unborn() else registry.models()
    return checked(application, models)


def conditions() -> dict[str, Condition]:
    """The same of every application that the registry or this machine's memory knows."""
    models = {} if client.unborn() else registry.models()
    names = sorted({*models, *ledger.remembered()})
    return {name: checked(name, models) for name in names}


def checked(application: str, models: dict[str, Model]) -> Condition:
    """What is wrong with an application, among these registered models."""
    model = models.get(application)
    now = compared(application, model)
    stops = ""
    if model is None and ledger.seen(application):
        stops = _gone(application, models)
    elif not client.unborn() and (there := runs.find_experiment(application)):
        experiment_id, active = there
        stops = "" if active else runs.deleted_experiment(application, experiment_id)
    holds = now.difference
    if model is not None and now.version:
        holds = _version_lost(now) or now.difference
    return Condition(now, stops, "" if stops and model is None else holds)


def _gone(application: str, models: dict[str, Model]) -> str:
    for name, model in models.items():
        if _ledger_of(application, model):
            return (
                f"the registered model {application} was renamed to {name} in MLflow; rename it "
                f"back there"
            )
    memory = ledger.memory(application)
    return (
        f"the registered model {application} and its ledger are gone from MLflow; bring its "
        f"database back from a backup, or remove {memory} to start anew"
    )


def _ledger_of(application: str, model: Model) -> bool:
    """Whether a model's tags hold this application's ledger."""
    try:
        head = chain.read_head(application, model.tags)
    except chain.BrokenChain:
        return False
    return head is not None


def _version_lost(now: Live) -> str:
    """That the live version cannot be had; empty where it is whole."""
    assert now.version is not None
    remedy = f"make another live: tidemill rollback {now.application} --to N --why REASON"
    version = registry.version(now.application, now.version)
    if version is None:
        return (
            f"version {now.version} of {now.application} is live by the ledger, and it was deleted "
            f"in MLflow; {remedy}"
        )
    active = runs.is_active(version.run_id)
    if active is None:
        return f"the run of {version.name} is gone from MLflow; {remedy}"
    if not active:
        return (
            f"the run of {version.name}, which is live, was deleted in MLflow; bring it back with: "
            f"MLFLOW_TRACKING_URI={client.uri()} mlflow runs restore --run-id {version.run_id}"
        )
    if _files_lost(version):
        return (
            f"the package of {version.name}, which is live, is gone from MLflow's artifacts; bring "
            f"the folder back from a backup, or {remedy}"
        )
    return ""


def _files_lost(version: Version) -> bool:
    """Whether a version's package, where it lies on this machine, is no longer there."""
    try:
        address = runs.artifacts(version.run_id)
    except Missing:
        return True
    return address is not None and not (address / PACKAGE).is_dir()
