"""A sweep's memory in Optuna's storage: which slots there are, who works on which, and what died.

The study's name holds the digest of data, code and space: on the same ones a sweep goes on, on
others it begins with what the last one found best.
"""

import json
import re
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tidemill import contract
from tidemill.engines.mlflow import registry, runs
from tidemill.engines.mlflow.live import live
from tidemill.engines.optuna.samplers import Params, inside, outside, quasi, sampler, suggested
from tidemill.engines.optuna.storage import HEARTBEAT_S, opened
from tidemill.run import plan
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import digest, locked
from tidemill.runtime.lifetimes import identity

MOST_DEATHS = 3  # of a slot: then it is given up, as a trial that eats all memory
OPEN = (TrialState.RUNNING, TrialState.WAITING)

warnings.filterwarnings("ignore", module="optuna")
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
optuna.logging.set_verbosity(optuna.logging.WARNING)


class Study:
    """The sweep of one plan, as any of its workers sees it."""

    def __init__(self, this: plan.Plan) -> None:
        self.this, self.settings = this, this.recipe.sweep
        self.kind = contract.load(this.application)
        self.sign = self.kind.validation[self.settings.metric].sign
        self.defaults = self.kind(**this.recipe.model)
        self.whole = frozenset(
            name for name in self.settings.space if self.kind.model_fields[name].annotation is int
        )
        self.name = f"{this.application}-{key(this)[:16]}"
        self.storage = opened()
        first = "maximize" if self.sign > 0 else "minimize"
        aims: Any = [first, "minimize"] if self.settings.latency_ms else [first]
        with self.alone():
            self.study = optuna.create_study(
                storage=self.storage, study_name=self.name, directions=aims, load_if_exists=True
            )
            if "known" not in self.study.user_attrs:
                self.study.set_user_attr("known", json.dumps(self.known()))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One worker of this machine at a time plans."""
        with locked(paths.state("locks", f"study-{self.name}")):
            yield

    # What is planned --------------------------------------------------------------------------

    def known(self) -> list[Params]:
        """The champion's parameters, the defaults, the best of the application's last sweep.

        They are at most half of the trials.
        """
        space, found = self.settings.space, []
        for params in (self.champion(), self.defaults.model_dump(), *self.former()):
            mine = inside(params, space)
            if mine is not None and mine not in found:
                found.append(mine)
        return found[: max(1, (self.settings.trials + 1) // 2)]

    def champion(self) -> Params:
        number = live(self.this.application).version
        version = registry.version(self.this.application, number) if number else None
        if version is None:
            return {}
        told = runs.data(version.run_id).params
        with suppress(ValueError):
            given = {
                name: told[f"model.{name}"]
                for name in self.settings.space
                if f"model.{name}" in told
            }
            return self.kind(**{**self.this.recipe.model, **given}).model_dump()
        return {}

    def former(self) -> list[Params]:
        """The best of the last other sweep of this application that completed a trial."""
        mine = re.compile(re.escape(self.this.application) + "-[0-9a-f]{16}")
        others = [
            item
            for item in optuna.get_all_study_summaries(self.storage, include_best_trial=False)
            if mine.fullmatch(item.study_name)
            and item.study_name != self.name
            and item.datetime_start is not None
        ]
        for item in sorted(others, key=lambda one: str(one.datetime_start), reverse=True):
            study = optuna.load_study(storage=self.storage, study_name=item.study_name)
            done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            sign = 1 if study.directions[0] == StudyDirection.MAXIMIZE else -1
            if done:
                return [
                    trial.params
                    for trial in sorted(done, key=lambda trial: -sign * trial.values[0])[
                        : self.settings.known
                    ]
                ]
        return []

    def given(self, slot: int) -> Params | None:
        """The parameters that are set for a slot; None where TPE proposes."""
        known = json.loads(self.study.user_attrs["known"])
        if slot < len(known):
            return known[slot]
        count = self.settings.quasi
        if slot < len(known) + count:
            return quasi(self.settings.space, self.whole, count, self.this.recipe.seed)[
                slot - len(known)
            ]
        return None

    # Who works on what ------------------------------------------------------------------------

    def trials(self) -> dict[int, list[FrozenTrial]]:
        """Every attempt by slot, oldest first."""
        found: dict[int, list[FrozenTrial]] = {}
        for trial in self.study.get_trials(deepcopy=False):
            if "slot" in trial.user_attrs:
                found.setdefault(trial.user_attrs["slot"], []).append(trial)
        return found

    def ended(self) -> dict[int, FrozenTrial]:
        """The attempt that ended each slot.

        It is complete, pruned, at fault, or given up after too many deaths.
        """
        found = {}
        for slot, attempts in self.trials().items():
            dead = [trial for trial in attempts if trial.state == TrialState.FAIL]
            for trial in attempts:
                if (
                    trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
                    or "fault" in trial.user_attrs
                    or (len(dead) >= MOST_DEATHS and trial is dead[-1])
                ):
                    found[slot] = trial
        return {slot: trial for slot, trial in found.items() if slot < self.settings.trials}

    def over(self) -> bool:
        return len(self.ended()) == self.settings.trials

    def bury(self) -> None:
        """Mark as failed what runs no more.

        At once where its process was on this machine, by its heartbeat elsewhere.
        """
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            worker = cast(identity.Identity, trial.user_attrs)
            here = worker.get("host", socket.gethostname()) == socket.gethostname()
            if here and not identity.lives(worker):
                with suppress(RuntimeError):  # another worker was quicker
                    self.study.tell(trial.number, state=TrialState.FAIL)
        optuna.storages.fail_stale_trials(self.study)

    def take(self) -> tuple[Any, int, Params] | None:
        """The next slot that nobody works on, as a running trial; None where there is none now."""
        with self.alone():
            self.bury()
            trials = self.trials()
            busy = [
                trial for attempts in trials.values() for trial in attempts if trial.state in OPEN
            ]
            if not any(
                trial.state == TrialState.WAITING for trial in busy
            ):  # else its worker died just before it took it
                taken = {trial.user_attrs["slot"] for trial in busy} | set(self.ended())
                free = next(
                    (slot for slot in range(self.settings.trials) if slot not in taken), None
                )
                if free is None:
                    return None
                attempts = trials.get(free, [])
                fixed = self.given(free) or (attempts[-1].params if attempts else {})
                self.study.enqueue_trial(
                    fixed, user_attrs={"slot": free, **identity.me()}, skip_if_exists=False
                )
            trial = self.study.ask()
            slot = int(trial.user_attrs["slot"])
            noted = trial.user_attrs
            for name, value in identity.me().items():
                if noted.get(name) != value:  # who enqueued it died before it was begun
                    trial.set_user_attr(name, value)
            self.study.sampler = sampler(self.this.recipe.seed, slot, bool(busy))
            return trial, slot, suggested(trial, self.settings.space, self.whole)

    @contextmanager
    def beating(self, trial: Any) -> Iterator[None]:
        """Say every few seconds that this trial's worker lives."""
        done = threading.Event()

        def beat() -> None:
            while True:
                with suppress(
                    Exception
                ):  # the storage may be away for a moment; the next beat asks again
                    self.storage.record_heartbeat(trial._trial_id)
                if done.wait(HEARTBEAT_S):
                    return

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def stops(self, slot: int, rung: int, value: float) -> bool:
        """Whether ASHA stops a slot at a rung, beside the slots before it.

        So it does not depend on what died and came later.
        """
        others = [
            self.sign * trial.intermediate_values[rung]
            for number, attempts in self.trials().items()
            if number < slot
            for trial in attempts
            if trial.state != TrialState.FAIL and rung in trial.intermediate_values
        ]
        return outside(self.sign * value, others, self.settings.reduction)

    def best(self, count: int) -> list[FrozenTrial]:
        """The complete trials that are best, within the latency where one is asked for."""
        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not done:
            raise Fault(f"no trial of {self.name} completed: {self.why() or 'all were stopped'}")
        if limit := self.settings.latency_ms:
            quick = [trial for trial in done if trial.values[1] <= limit]
            done = quick or [min(done, key=lambda trial: trial.values[1])]
        return sorted(done, key=lambda trial: -self.sign * trial.values[0])[:count]

    def why(self) -> str:
        """The last fault of a trial, in its words."""
        faults = [
            trial.user_attrs["fault"]
            for trial in self.study.get_trials(deepcopy=False)
            if "fault" in trial.user_attrs
        ]
        return faults[-1] if faults else ""


def key(this: plan.Plan) -> str:
    """What a sweep's findings depend on: data, code and space, and how a trial is trained."""
    recipe = this.recipe
    sweep = recipe.sweep.model_dump(mode="json")
    for planned in (
        "trials",
        "known",
        "quasi",
        "finalists",
        "seeds",
        "workers",
    ):  # more of them go on with what is there
        del sweep[planned]
    trainer = recipe.trainer.model_dump(mode="json")
    return digest(
        [this.application, this.snapshot, this.code, sweep, trainer, recipe.model, recipe.seed]
    )
