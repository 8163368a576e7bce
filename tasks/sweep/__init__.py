"""Sweep: which hyperparameters to train with. The only door to Optuna."""

import logging
import os
import sys
from contextlib import suppress

from tasks.sweep.devices import device
from tidemill.engines.prefect.progress import told
from tidemill.engines.prefect.step import step
from tidemill.records.receipts import Swept
from tidemill.runtime import process
from tidemill.runtime.errors import Fault

log = logging.getLogger(__name__)
PROCESSORS_A_WORKER = 2


@step("sweep {application}")
def sweep(application: str, run: str) -> Swept:
    """Short trainings over the recipe's space, judged on validation rows.

    `sweep.workers` says by how many workers.
    """
    from tidemill.run import plan

    this = plan.load(run)
    if found := plan.whole("sweep", Swept, this):
        return found
    settings = this.recipe.sweep
    workers = settings.workers or max(1, (os.cpu_count() or 1) // PROCESSORS_A_WORKER)
    others = min(workers, settings.trials) - 1
    with told(f"sweep {application}"):
        working = [worker.submit(application, run, number + 2) for number in range(others)]
        # Each death costs a trial one of its three attempts.
        for left in range(3 * settings.trials, -1, -1):
            try:
                receipt = plan.do("sweep", Swept, this)
                break
            except Fault as fault:
                if not fault.killed or not left:
                    raise
                log.warning("%s; its trial is tried again", fault)
        for future in working:
            with suppress(Fault):  # its trials were taken over
                future.result()
    return receipt


@step("worker {number} of sweep {application}")
def worker(application: str, run: str, number: int) -> None:
    """One more process that takes trials until none is left."""
    process.run(
        f"sweep {application} {number}",
        [sys.executable, "-m", "tasks.sweep.worker", "--run", run],
        env=device(number),
    )
