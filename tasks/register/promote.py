"""python -m tasks.register.promote RECIPE VERSION BY WHY [KEY]: make a version the champion.

The only place that moves the champion's alias. The package's bytes are checked first, and the
ledger's entry is written before the alias, so that no promotion goes unrecorded.
"""

from tasks.serve import nudged
from tidemill.engines.mlflow import ledger, packages, registry, runs
from tidemill.records.receipts import Judged, Promoted
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.files import locked


def promote(application: str, version: str, by: str, why: str) -> Promoted:
    """Move the champion's alias to a version that may have it.

    A passing verdict is enough; a held version needs a person (`by` other than "gates"); a version
    that was champion before may be champion again.
    """
    with locked(paths.state("locks", f"promote-{application}")):
        found = registry.version(application, version)
        if found is None:
            raise Refused(
                f"no version {version} of {application}; tidemill status lists what there is"
            )
        verdict = found["tags"].get("tidemill.verdict")
        entries = ledger.ledger(application)
        been = any(entry["version"] == version for entry in entries)
        if by == "gates" and verdict != "PROMOTE":
            raise Refused(
                f"version {version} of {application} has the verdict {verdict}, and only PROMOTE goes live without a person"
            )
        if verdict not in ("PROMOTE", "HOLD") and not been:
            raise Refused(
                f"version {version} of {application} has the verdict {verdict}; it never goes live"
            )
        packages.fetch(application, version)
        previous = registry.aliased(application)
        if previous == version:
            return Promoted(name=application, version=version, previous=previous, moved=False)
        if (
            not entries
            or entries[-1]["version"] != version
            or entries[-1].get("previous") != previous
        ):
            ledger.record(
                application,
                {
                    "version": version,
                    "previous": previous,
                    "by": by,
                    "why": why,
                    "digest": found["tags"]["tidemill.digest"],
                },
            )
        registry.move(application, "champion", version)
        if registry.aliased(application, "challenger") == version:
            registry.drop(application, "challenger")
        nudged()
        return Promoted(name=application, version=version, previous=previous, moved=True)


def before(application: str, to: str = "") -> str:
    """The version a rollback leads to: the one named, else the champion before this one."""
    live = registry.aliased(application)
    entries = ledger.ledger(application)
    if live is None or not entries:
        raise Refused(f"{application} has no champion; nothing to roll back")
    target = to or next(
        (
            entry["previous"]
            for entry in reversed(entries)
            if entry["version"] == live and entry["previous"]
        ),
        None,
    )
    if target is None:
        raise Refused(
            f"version {live} of {application} is the first champion; there is none before it"
        )
    return target


def still_against(application: str, version: str, key: str) -> None:
    """Refuse a verdict that was reached beside another champion than the one that is live."""
    judged = Judged.load(paths.run(key) / "judge.json")
    live = registry.aliased(application)
    if judged is None or live not in (judged.champion, version):
        raise Fault(
            f"version {version} of {application} was judged beside {(judged and judged.champion) or 'no champion'}, "
            f"and version {live} is live now; run again, and it is judged anew"
        )


def main(arguments: list[str]) -> Promoted:
    if len(arguments) not in (4, 5):
        raise Refused("python -m tasks.register.promote RECIPE VERSION BY WHY [KEY]")
    if len(arguments) == 5 and arguments[4]:
        still_against(arguments[0], arguments[1], arguments[4])
    receipt = promote(*arguments[:4])
    if len(arguments) == 5 and arguments[4]:
        receipt.save(paths.run(arguments[4]) / "promote.json")
        run_id = runs.parent(arguments[0], arguments[4])
        if run_id:
            runs.log(
                run_id, tags={"tidemill.state": "Promoted", "tidemill.version": receipt.version}
            )
    return receipt


if __name__ == "__main__":
    process.main(
        main,
        "python -m tasks.register.promote RECIPE VERSION BY WHY [KEY]: make a version the champion.",
    )
