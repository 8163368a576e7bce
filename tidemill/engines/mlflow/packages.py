"""A version's package: logged with its run, and fetched."""

from pathlib import Path
from typing import Any

from tidemill.engines.mlflow.client import connect, quick
from tidemill.engines.mlflow.registry import version
from tidemill.runtime import paths


def save_model(package: Path, to: Path, name: str, example: dict[str, Any]) -> None:
    """One graph of a package as an MLflow model, without pickle: signature and example in it.

    Of a package of several graphs MLflow describes the one named; all lie in the package beside.
    """
    import mlflow.onnx
    import numpy as np
    import onnx
    from mlflow.models import infer_signature

    graph = onnx.load(package / f"{name}.onnx")
    arrays = {name: np.asarray(value) for name, value in example["inputs"].items()}
    signature = infer_signature(
        arrays, {name: np.asarray(value) for name, value in example["outputs"].items()}
    )
    mlflow.onnx.save_model(
        graph,
        str(to),
        signature=signature,
        input_example=arrays,
        pip_requirements=["onnxruntime", "numpy"],
        save_as_external_data=False,
    )


def fetch(application: str, number: str) -> Path:
    """A version's package on this machine, each file found to be what was registered."""
    from tidemill.package import signing
    from tidemill.package.package import digests, verify

    found = version(application, number)
    if found is None:
        from tidemill.runtime.errors import Refused

        raise Refused(f"no version {number} of {application}")
    here = paths.state("packages", application, number)
    wanted = found["tags"]["tidemill.digest"]
    if not here.is_dir() or digests(here)[0] != wanted:
        here = fetched(found["run_id"], here)
    verify(here, wanted, f"{application} version {number}")
    signing.check(here, f"{application} version {number}")
    return here


def fetched(run_id: str, here: Path) -> Path:
    """A run's package: where the artifact store is on this machine, read where it lies; else copied to `here`."""
    import shutil
    import tempfile

    here.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=here.parent, prefix=".part-") as temporary:
        registry = quick()
        got = registry.fetch(run_id, "package", Path(temporary) / "package") if registry else None
        if got is None:
            import mlflow.artifacts

            connect()
            got = Path(mlflow.artifacts.download_artifacts(artifact_uri=f"runs:/{run_id}/package"))
            if not got.is_relative_to(paths.state("artifacts")):
                got = Path(shutil.copytree(got, Path(temporary) / "copy"))
        if not got.is_relative_to(temporary):
            return got
        shutil.rmtree(here, ignore_errors=True)
        got.replace(here)
    return here
