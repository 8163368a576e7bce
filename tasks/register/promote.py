"""python -m tasks.register.promote RECIPE VERSION BY WHY [KEY [EXPECTED]]: a new champion.

The only place that moves the champion's alias. The package's bytes are checked first. Then, under
the lock: what is live must be what the caller compared with (EXPECTED), the ledger's entry is
written, the alias is moved, and the entry is counted as carried out. A kill anywhere leaves an
entry that says what was meant, which the next promotion finishes or notes as not carried out.
"""

import logging

from tasks.serve import nudged
from tidemill.engines.mlflow import chain, ledger, packages, registry, runs, seal, tags
from tidemill.engines.mlflow.live import CHALLENGER, CHAMPION, Live, live
from tidemill.engines.mlflow.lock import held
from tidemill.engines.mlflow.version import Version
from tidemill.records.receipts import Judged, Promoted
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Fault, Refused

log = logging.getLogger(__name__)
GATES = "gates"  # who decides where no person does
USAGE = "python -m tasks.register.promote RECIPE VERSION BY WHY [KEY [EXPECTED]]"


def promote(
    application: str, version: str, by: str, why: str, expected: str | None = None
) -> Promoted:
    """Make a version the champion, if it may be and if `expected` is what is live now.

    `expected` is the version that the caller compared with or was shown; None where nothing was
    live. A passing verdict is enough for the gates; a held version needs a person (`by` other than
    "gates"); a version that was live before may be live again. Raises `Refused` where the version
    may not go live, `Fault` where another one went live meanwhile.
    """
    candidate = registry.version(application, version)
    if candidate is None:
        raise Refused(f"no version {version} of {application}; tidemill status lists what there is")
    packages.fetch(application, version)
    with held(application):
        now = live(application)
        check_unchanged(now, version, expected)
        check_allowed(candidate, by, now)
        promoted = swap(candidate, by, why, now)
        if now.challenger == version:
            registry.drop(application, CHALLENGER)
    nudged()
    return promoted


def check_unchanged(now: Live, version: str, expected: str | None) -> None:
    """Raise `Fault` where another version went live since the caller looked."""
    if now.version in (expected, version):
        return
    raise Fault(
        f"version {version} of {now.application} was to replace "
        f"{f'version {expected}' if expected else 'no champion'}, and "
        f"{f'version {now.version}' if now.version else 'none'} is live now; nothing was moved. "
        f"Run again, and it is judged beside that one; tidemill history {now.application} says "
        f"who moved it"
    )


def check_allowed(candidate: Version, by: str, now: Live) -> None:
    """Raise `Refused` where the version may not go live on this word."""
    if by == GATES and now.difference:
        raise Refused(now.difference)
    verdict = candidate.verdict
    if by == GATES and verdict != "PROMOTE":
        raise Refused(
            f"{candidate.name} has the verdict {verdict or 'none'}, and only PROMOTE goes live "
            f"without a person"
        )
    if was_live(candidate, now):
        return
    if verdict not in ("PROMOTE", "HOLD"):
        raise Refused(f"{candidate.name} has the verdict {verdict or 'none'}; it never goes live")
    seal.check(candidate)


def was_live(candidate: Version, now: Live) -> bool:
    """Whether the ledger, as far as it can be trusted, says that this very package was live."""
    if now.difference and now.version == candidate.number:
        return True  # a person says that the ledger's version is the live one
    try:
        entries = ledger.ledger(candidate.application)
    except chain.BrokenChain:
        return False
    return any(
        entry.carried_out and (entry.version, entry.digest) == (candidate.number, candidate.digest)
        for entry in entries
    )


def swap(candidate: Version, by: str, why: str, now: Live) -> Promoted:
    """Ledger, alias, head, in this order, under the lock; nothing where it is live already."""
    application, version = candidate.application, candidate.number
    entry = _pending(candidate, now)
    settled = now.version == version == now.alias and not now.difference
    if entry is None and settled:
        return Promoted(name=application, version=version, previous=version, moved=False)
    if entry is None:
        entry = _recorded(candidate, by, why, now)
    _check_mine(entry)
    registry.move(application, CHAMPION, version)
    ledger.close(entry, version)
    return Promoted(name=application, version=version, previous=entry.previous, moved=True)


def _pending(candidate: Version, now: Live) -> chain.LedgerEntry | None:
    """The entry of this same promotion, if it was cut off; another's is closed."""
    try:
        entry = ledger.read(candidate.application, registry.model(candidate.application)).pending
    except chain.BrokenChain:
        return None
    if entry is None:
        return None
    if entry.version == candidate.number and entry.digest == candidate.digest:
        return entry
    carried_out = now.alias == entry.version
    if not carried_out:
        log.warning(
            "version %s of %s was to go live at %s and did not: noted so in the ledger",
            entry.version,
            entry.application,
            entry.at,
        )
    ledger.close(entry, entry.version if carried_out else entry.previous)
    return None


def _recorded(candidate: Version, by: str, why: str, now: Live) -> chain.LedgerEntry:
    """The decision in the ledger, which a person's starts anew where it was broken."""
    model = registry.model(candidate.application)
    whole: chain.Chain | None
    try:
        whole = ledger.read(candidate.application, model)
    except chain.BrokenChain as broken:
        log.warning("%s; the ledger starts anew with this decision", broken)
        whole = None
    note = chain.noted(by[: ledger.LONGEST], why[: ledger.LONGEST])
    entry = chain.LedgerEntry(
        application=candidate.application,
        number=ledger.next_number(candidate.application, model),
        at=ledger.now(),
        version=candidate.number,
        previous=now.version,
        alias=now.alias,
        digest=candidate.digest,
        note="",
        before="",
        anew=whole is None,
    )
    return ledger.record(whole, entry, note)


def _check_mine(entry: chain.LedgerEntry) -> None:
    """Raise `Fault` where another machine wrote to the ledger at the same time."""
    whole = ledger.read(entry.application, registry.model(entry.application))
    if whole.pending != entry:
        raise Fault(
            f"another machine promoted a version of {entry.application} at the same time; nothing "
            f"was moved, run again"
        )


def before(application: str, to: str = "") -> str:
    """The version a rollback leads to: the one named, else the one that was live before this one.

    A second rollback goes further back, past what was rolled back from.
    """
    if to:
        return to
    now = live(application)
    if now.difference:
        raise Refused(now.difference)
    if now.version is None:
        raise Refused(f"{application} has no champion; nothing to roll back")
    line = ledger.line(ledger.read(application, registry.model(application)))
    earlier = [version for version in line if version != now.version]
    if not earlier:
        raise Refused(
            f"version {now.version} of {application} is the first champion; there is none before "
            f"it; name another with --to N"
        )
    return earlier[-1]


def waiting(application: str, version: str = "") -> str:
    """The version that waits for a person: the one named, else the challenger."""
    number = version or live(application).challenger
    if number is None:
        raise Refused(
            f"no version of {application} waits for approval; name one, as tidemill status lists "
            f"them"
        )
    return number


def compared_with(application: str, version: str, replacing: str = "") -> str | None:
    """What a person's approval expects to be live.

    That is the version named, else the champion that the version was judged beside, else what is
    live now: the person has looked at that.
    """
    if replacing:
        return None if replacing == tags.NONE else replacing
    candidate = registry.version(application, version)
    now = live(application)
    if candidate is None or candidate.beside is None or was_live(candidate, now):
        return now.version
    return None if candidate.beside == tags.NONE else candidate.beside


def judged_beside(application: str, version: str, key: str) -> str | None:
    """The champion that a run judged its candidate beside; None where there was none."""
    judged = Judged.load(paths.run(key) / "judge.json")
    if judged is None:
        raise Fault(f"the verdict on version {version} of {application} is gone; run again")
    return judged.champion


def main(arguments: list[str]) -> Promoted:
    if not 4 <= len(arguments) <= 6:
        raise Refused(USAGE)
    application, version, by, why, key, expected = (*arguments, "", "")[:6]
    if not key:
        return promote(application, version, by, why, expected or None)
    beside = judged_beside(application, version, key)
    receipt = promote(application, version, by, why, beside)
    receipt.save(paths.run(key) / "promote.json")
    if run_id := runs.parent(application, key):
        runs.log(run_id, tags={tags.STATE: "Promoted", tags.VERSION: receipt.version})
    return receipt


if __name__ == "__main__":
    process.main(main, f"{USAGE}: make a version the champion.")
