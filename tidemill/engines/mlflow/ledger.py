"""The promotion ledger: MLflow keeps no history of aliases.

It is read here, and written by tasks/register/promote.py alone, within `held` (lock.py).
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ValidationError

from tidemill.engines.mlflow import chain, client, registry
from tidemill.engines.mlflow.chain import Chain, Head, LedgerEntry
from tidemill.engines.mlflow.version import Model
from tidemill.runtime import paths
from tidemill.runtime.files import canonical, digest, write

REMOVED = "(removed)"
CHANGED = "(changed by hand)"
LONGEST = 2_000  # characters of a reason


class LedgerDecision(BaseModel, frozen=True):
    """An entry of the ledger with its note."""

    number: int
    at: str
    version: str
    previous: str | None
    by: str
    why: str
    digest: str
    carried_out: bool  # False: it was meant, and cut off before the alias moved


def ledger(application: str) -> list[LedgerDecision]:
    """What was live, since when, by whose decision and why, oldest first.

    Raises `chain.BrokenChain`.
    """
    model = registry.model(application)
    return decisions(read(application, model), model) if model else []


def read(application: str, model: Model | None) -> Chain:
    """An application's chain, whole and not shorter than it was. Raises `chain.BrokenChain`."""
    whole = chain.read(application, model.tags if model else {}, seen(application))
    if whole.head:
        _remember(whole.head)
    return whole


def decisions(whole: Chain, model: Model) -> list[LedgerDecision]:
    """The entries with who decided and why."""
    carried_out = {entry.number for entry in whole.carried_out()}
    rows = []
    for entry in whole.entries:
        by, why = _decided(entry, model)
        rows.append(
            LedgerDecision(
                **entry.model_dump(include={"number", "at", "version", "previous", "digest"}),
                by=by,
                why=why,
                carried_out=entry.number in carried_out,
            )
        )
    return rows


def _decided(entry: LedgerEntry, model: Model) -> tuple[str, str]:
    """Who decided and why. What is live does not rest on it, so a changed note breaks nothing."""
    try:
        note = chain.note(entry, model.tags)
    except chain.BrokenChain:
        return CHANGED, CHANGED
    return (note.by, note.why) if note else (REMOVED, REMOVED)


def line(whole: Chain) -> list[str]:
    """The versions that a rollback goes back along, the live one last.

    A version that comes again takes away those that came after it: what was rolled back from is
    not gone back to.
    """
    standing: list[str] = []
    for entry in whole.carried_out():
        if entry.version in standing:
            del standing[standing.index(entry.version) :]
        standing.append(entry.version)
    return standing


def record(whole: Chain | None, entry: LedgerEntry, note: chain.Note) -> LedgerEntry:
    """Append an entry, its note first. `whole` is None where the ledger starts anew.

    Then what is there of a head is no head of ours: left alone, it would break the new ledger too.
    """
    if whole is None:
        registry.drop_tag(entry.application, chain.HEAD)
    before = digest(whole.entries[-1].model_dump()) if whole and whole.entries else ""
    linked = entry.model_copy(update={"before": before, "note": note.digest()})
    registry.set_tag(entry.application, chain.note_tag(entry.number), canonical(note.model_dump()))
    registry.set_tag(entry.application, chain.tag(entry.number), chain.signed(linked))
    return linked


def close(entry: LedgerEntry, live: str | None) -> None:
    """Count an entry as dealt with, `live` being the version that is live after it."""
    head = Head(
        application=entry.application,
        count=entry.number,
        digest=digest(entry.model_dump()),
        live=live,
    )
    registry.set_tag(entry.application, chain.HEAD, chain.signed(head))
    _remember(head)


def next_number(application: str, model: Model | None) -> int:
    """The number of the next entry, beyond all that are there or were seen here."""
    there = [
        int(match[1])
        for name in (model.tags if model else {})
        if (match := chain.NAME.fullmatch(name))
    ]
    known = [seen(application)]
    with suppress(chain.BrokenChain):
        known.append(chain.read_head(application, model.tags if model else {}))
    return max([0, *there, *(head.count for head in known if head)]) + 1


def seen(application: str) -> Head | None:
    """The newest head that was read on this machine; None where none was."""
    with suppress(OSError, ValidationError):
        return Head.model_validate_json(memory(application).read_text())
    return None


def remembered() -> list[str]:
    """The applications whose ledger was read on this machine."""
    return sorted(path.stem for path in memory("*").parent.glob("*.json"))


def _remember(head: Head) -> None:
    before = seen(head.application)
    if before and before.count >= head.count:
        return
    with suppress(OSError):  # a server may have a file system that is read-only
        write(memory(head.application), head.model_dump_json() + "\n")


def memory(application: str) -> Path:
    """The file of `seen`; another registry has another one."""
    where = "own" if client.own() else digest(client.uri())[:16]
    return paths.state("ledger", where, f"{application}.json")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def anchor(application: str, metric: str, better: str, days: int = 0) -> str | None:
    """The best version that was live within the last `days` days (0: ever); None where none was.

    "Best" is the figure of `metric` (`better`: "higher" or "lower") that it had when it was judged.
    It only chooses whom to score again on today's rows: no old figure is compared with a new one.
    Of versions without a figure the first is taken, since a slide begins there.
    """
    since = datetime.now(UTC) - timedelta(days=days) if days else None
    versions = list(
        dict.fromkeys(
            entry.version
            for entry in ledger(application)
            if entry.carried_out and (since is None or datetime.fromisoformat(entry.at) >= since)
        )
    )
    figures = {version: _figure(application, version, metric) for version in versions}
    return best(figures, better)


def best(figures: Mapping[str, float | None], better: str) -> str | None:
    """The version with the best figure, the earliest of equal ones.

    The first where none has one.
    """
    sign = 1.0 if better == "higher" else -1.0
    known = {version: sign * value for version, value in figures.items() if value is not None}
    if not known:
        return next(iter(figures), None)
    return max(known, key=lambda version: known[version])


def _figure(application: str, version: str, metric: str) -> float | None:
    """A version's figure on the test rows it was judged on; None where none was logged."""
    from mlflow.exceptions import MlflowException

    from tidemill.engines.mlflow import runs

    entry = registry.version(application, version)
    if entry is None or not entry.run_id:
        return None
    try:
        return runs.data(entry.run_id).metrics.get(f"test.{metric}.candidate")
    except MlflowException:
        return None
