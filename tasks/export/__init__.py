"""Export: trained weights to the package that is judged, registered and served."""

from tidemill.engines.prefect.step import step
from tidemill.records.receipts import Exported


@step("export {application}")
def export(application: str, run: str) -> Exported:
    """Write the ONNX package and compare it with the torch model."""
    from tidemill.run import plan

    return plan.do("export", Exported, plan.load(run))
