"""A step as Prefect sees it, without paying for Prefect where there is none.

`python -m tasks.clean` imports tasks/clean/__init__.py, and a child has no use for Prefect's 1.6 s;
so the decorator keeps the policy and makes the Prefect task when a flow first calls the step.
"""

import logging
import time
from collections.abc import Callable
from functools import cached_property, wraps
from inspect import signature
from typing import Any, Generic, ParamSpec, TypeVar

from tidemill.records.summary import summary
from tidemill.runtime import process
from tidemill.runtime.errors import Fault
from tidemill.runtime.events import StepBegan, StepEnded, StepFailed

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class Step(Generic[P, T]):
    def __init__(self, work: Callable[P, T], name: str, retries: bool) -> None:
        self.work, self.name, self.retries = work, name, retries
        self.__doc__, self.__name__ = work.__doc__, work.__name__

    @cached_property
    def task(self) -> Any:
        """The Prefect task: named after what it works on, tried again where a fault can heal."""
        from prefect import task
        from prefect.cache_policies import NO_CACHE

        from tidemill.engines.config import general

        policy = general().step
        return task(
            name=self.name.split(" {")[0],
            task_run_name=self.name,
            retries=policy.retries if self.retries else 0,
            retry_delay_seconds=list(policy.retry_delay_s[: policy.retries]) or 0,
            retry_condition_fn=_heals,
            cache_policy=NO_CACHE,
            persist_result=False,
        )(self.reported())

    def reported(self) -> Callable[P, T]:
        """The work; when it begins and how it ends is logged, and the listeners hear of it."""

        @wraps(self.work)
        def reported(*args: P.args, **kwargs: P.kwargs) -> T:
            name = self.name.format(**signature(self.work).bind(*args, **kwargs).arguments)
            process.tell(name, StepBegan())
            log.info("%s: started", name)
            started = time.monotonic()
            try:
                receipt = self.work(*args, **kwargs)
            except BaseException as error:
                wall, words = time.monotonic() - started, " ".join(str(error).split())
                log.error("%s: failed after %.1f s: %s", name, wall, words)
                process.tell(name, StepFailed(words, wall))
                raise
            wall = time.monotonic() - started
            log.info("%s: %s (%.1f s)", name, summary(receipt), wall)
            process.tell(name, StepEnded(receipt, wall))
            return receipt

        return reported

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.task(*args, **kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Run it beside others; the future it gives may be passed to a later step."""
        return self.task.submit(*args, **kwargs)


def step(name: str, retries: bool = True) -> Callable[[Callable[P, T]], Step[P, T]]:
    """Declare a step.

    `name` is the task run's name and may quote the arguments: "clean {source}".
    """
    return lambda work: Step(work, name, retries)


def _heals(task: Any, run: Any, state: Any) -> bool:
    """Whether to try again: faults that can heal only, never a refusal or broken code."""
    try:
        state.result()
    except Fault as error:
        return error.heals
    except Exception:
        return False
    return False
