"""Train: one model, with the parameters the sweep found, in a child process with Lightning."""

from tidemill.engines.prefect.progress import told
from tidemill.engines.prefect.step import step
from tidemill.records.receipts import Trained
from tidemill.runtime.errors import Fault


@step("train {application}")
def train(application: str, run: str) -> Trained:
    """Train on all rows.

    Same data, configuration and seed give the same weights on a CPU, killed on the way or not.
    """
    from tidemill.learners.lightning import memory
    from tidemill.run import plan

    this = plan.load(run)
    kills = memory.kernel_kills()
    with told(f"train {application}"):
        try:
            return plan.do("train", Trained, this)
        except Fault as fault:
            if fault.killed and memory.kernel_kills() > kills:
                raise Fault(
                    memory.halve(this.folder, f"train {application}"), heals=True
                ) from fault
            raise
