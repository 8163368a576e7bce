"""The shell side of every step: `python -m tasks.STEP ...`, whoever calls it."""

import sys
from collections.abc import Callable
from typing import NoReturn

from tidemill.engines import config
from tidemill.records.receipts import RunReceipt
from tidemill.run import plan
from tidemill.run.plan import Plan
from tidemill.runtime import process
from tidemill.runtime.errors import Refused
from tidemill.runtime.receipt import Receipt


def of_data(work: Callable[[str], Receipt | None], kind: str) -> NoReturn:
    """A step of the data half, `python -m tasks.STEP NAME`; `kind` is source or recipe."""
    usage = f"python -m {_module()} {kind.upper()}"

    def child(arguments: list[str]) -> Receipt | None:
        if len(arguments) != 1:
            raise Refused(f"{usage}; conf/{kind} has {', '.join(config.files(kind))}")
        return work(arguments[0])

    process.main(child, usage)


def of_run(
    work: Callable[[Plan], RunReceipt | None], step: str = "", all_ranks: bool = False
) -> NoReturn:
    """A step of the model half, `python -m tasks.STEP --run PATH`; with `step` it leaves a receipt.

    A person may name the recipe instead, with settings as key=value; then the run is planned first.
    `all_ranks` is as for `process.main`.
    """
    usage = f"python -m {_module()} --run PATH, or RECIPE [key=value ...]"

    def child(arguments: list[str]) -> Receipt | None:
        this = _planned(arguments, usage)
        receipt = work(this)
        if receipt is None:  # one of several processes, and not the one that writes
            return None
        stamped = receipt.model_copy(update={"read": this.reads(step)})
        stamped.save(this.folder / f"{step}.json")
        return stamped

    process.main(child, usage, all_ranks)


def _planned(arguments: list[str], usage: str) -> Plan:
    if not arguments:
        raise Refused(f"{usage}; conf/recipe has {', '.join(config.files('recipe'))}")
    if arguments[0] == "--run":
        if len(arguments) != 2:
            raise Refused(f"{usage}; --run takes the path of a run.json and nothing else")
        return plan.load(arguments[1])
    this = plan.by_hand(arguments[0], arguments[1:])
    sys.argv[1:] = ["--run", this.path]  # what Lightning starts its other processes with
    return this


def _module() -> str:
    """The module that was started, as `-m` names it."""
    spec = sys.modules["__main__"].__spec__
    name = spec.name if spec else sys.argv[0]
    return name.removesuffix(".__main__")
